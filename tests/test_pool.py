"""The order in which tasks are sent, and when. Time stands still unless a test moves it."""

import random
import threading
import time

import pytest

from beam_openai.errors import SharedQuotaError
from beam_openai.pool import Pool
from beam_openai.quota import Cost, Limiter, Quota
from beam_openai.shared import Booking, Refused

PATIENCE = 30.0  # seconds until a test that hangs says so


class Clock:
    """Stands still; `forward` moves it, and wakes who waits for it in a pool."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def forward(self, seconds, pool):
        self.now += seconds
        with pool._changed:
            pool._changed.notify_all()


class Task:
    """Notes when it is sent; `hold` keeps it in flight until `go` is set."""

    def __init__(self, name="", owner=None, tokens=1.0, hold=False, then=None, is_long=False):
        self.name, self.owner, self._then, self._is_long = name, owner, then, is_long
        self.cost, self.limiter = Cost(tokens=tokens), None
        self.sent, self.go, self.received = threading.Event(), threading.Event(), threading.Event()
        if not hold:
            self.go.set()

    def send(self, grant):
        self.log.append(self.name)
        self.sent.set()
        assert self.go.wait(PATIENCE)
        return self._is_long

    def receive(self):
        if self._then:
            self._then(self)
        self.received.set()
        return True

    log = None


class Harness:
    def __init__(self, size=4, proved=True, limiter=None, **quota):
        self.clock = Clock()
        self.limiter = limiter or Limiter(Quota(**quota), self.clock())
        self.pool = Pool(size, self.clock)
        self.log = []
        if proved:
            self.pool.prove()

    def submit(self, *tasks, wait=None):
        for task in tasks:
            task.log = self.log
            task.limiter = task.limiter or self.limiter
            self.pool.submit(task, wait)

    def forward(self, seconds):
        self.clock.forward(seconds, self.pool)


@pytest.fixture
def make():
    made = []

    def make(*args, **options):
        made.append(Harness(*args, **options))
        return made[-1]

    yield make
    for harness in made:
        harness.pool.close()


def done(*tasks):
    for task in tasks:
        assert task.received.wait(PATIENCE), task.name


def under_way(*tasks):
    for task in tasks:
        assert task.sent.wait(PATIENCE), task.name


def settled(condition):
    """Waits until it holds; that it never ceases to is for the test to say."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("beam_openai-")}


def test_at_most_so_many_are_in_flight_and_the_next_one_starts_when_one_ends(make):
    harness = make(3)
    tasks = [Task(number, hold=True) for number in range(5)]
    harness.submit(*tasks)
    under_way(*tasks[:3])
    assert harness.pool.in_flight == 3 and not tasks[3].sent.wait(0.05)
    tasks[1].go.set()
    under_way(tasks[3])
    assert harness.pool.in_flight == 3 and not tasks[4].sent.is_set()
    for task in tasks:
        task.go.set()
    done(*tasks)
    settled(lambda: harness.pool.in_flight == 0)


def test_one_is_in_flight_until_the_first_success(make):
    harness = make(3, proved=False)
    tasks = [Task(number, hold=True) for number in range(4)]
    harness.submit(*tasks)
    under_way(tasks[0])
    assert not tasks[1].sent.wait(0.05)
    tasks[0].go.set()
    under_way(tasks[1])
    assert not tasks[2].sent.wait(0.05)
    harness.pool.prove()
    under_way(*tasks)
    for task in tasks:
        task.go.set()
    done(*tasks)


def test_fresh_tasks_are_sent_in_the_order_they_came(make):
    harness = make(1)
    tasks = [Task(number) for number in range(50)]
    harness.submit(*tasks)
    done(*tasks)
    assert harness.log == list(range(50))


def test_what_waited_goes_before_fresh_ones_in_the_order_it_is_due(make):
    harness = make(1)
    first = Task("first", hold=True)
    harness.submit(first)
    under_way(first)
    fresh, late, early = Task("fresh"), Task("late"), Task("early")
    harness.submit(fresh)
    harness.submit(late, wait=2.0)
    harness.submit(early, wait=1.0)
    harness.forward(5)
    first.go.set()
    done(fresh, late, early)
    assert harness.log == ["first", "early", "late", "fresh"]


def test_what_is_not_due_yet_lets_fresh_ones_pass(make):
    harness = make(1)
    later, fresh = Task("later"), Task("fresh")
    harness.submit(later, wait=10)
    harness.submit(fresh)
    done(fresh)
    assert not later.sent.is_set()
    harness.forward(9.9)
    assert not later.sent.wait(0.05)
    harness.forward(0.1)
    done(later)


def test_what_is_due_does_not_wait_for_a_large_one_s_quota(make):
    harness = make(4, tokens_per_minute=100)
    first = Task("first", tokens=60)
    harness.submit(first)
    done(first)
    large, small = Task("large", tokens=60), Task("small", tokens=1)
    harness.submit(large)
    harness.submit(small, wait=37)
    harness.forward(37)
    done(small)
    assert not large.sent.is_set()
    harness.forward(60)
    done(large)


def test_a_real_clock_wakes_the_pool_when_something_is_due():
    pool = Pool(2, time.monotonic)
    task = Task()
    task.log, task.limiter = [], Limiter(Quota(), time.monotonic())
    pool.submit(task, wait=0.05)
    done(task)
    pool.close()


def test_cancel_drops_what_an_owner_has_queued_and_nothing_else(make):
    harness = make(1)
    first = Task("first", owner="a", hold=True)
    harness.submit(first)
    under_way(first)
    harness.submit(Task("fresh", owner="a"))
    harness.submit(Task("later", owner="a"), wait=0)
    kept, waits = Task("kept", owner="b"), Task("waits", owner="b")
    harness.submit(kept)
    harness.submit(waits, wait=0)
    harness.pool.cancel("a")
    first.go.set()
    done(first, kept, waits)
    assert harness.log == ["first", "waits", "kept"]


def test_close_drops_what_is_queued_and_ends_every_thread(make):
    harness = make(2)
    before = threads()
    tasks = [Task(number, hold=True) for number in range(5)]
    harness.submit(*tasks)
    under_way(*tasks[:2])
    closer = threading.Thread(target=harness.pool.close)
    closer.start()
    settled(lambda: harness.pool._closed)
    for task in tasks:
        task.go.set()
    closer.join(PATIENCE)
    assert not closer.is_alive() and not threads() - before
    assert sorted(harness.log) == [0, 1]
    harness.submit(Task("too late"))
    harness.submit(Task("too late"), wait=0)
    assert not threads() - before and sorted(harness.log) == [0, 1]


def test_a_task_may_close_the_pool_and_may_come_back_to_a_closed_one(make):
    harness = make(2)
    closes = Task("closes", then=lambda task: harness.pool.close())
    harness.submit(closes)
    done(closes)
    again = Task("again", hold=True, then=lambda task: harness.pool.submit(task, 0.0))
    harness = make(2)
    harness.submit(again)
    under_way(again)
    closer = threading.Thread(target=harness.pool.close)
    closer.start()
    settled(lambda: harness.pool._closed)
    again.go.set()
    closer.join(PATIENCE)
    assert not closer.is_alive() and harness.log == ["again"]


def test_no_thread_is_started_needlessly(make):
    harness = make(8)
    before = threads()
    for number in range(20):
        task = Task(number)
        harness.submit(task)
        done(task)
        settled(lambda: harness.pool._idle == len(harness.pool._threads))
    assert len(threads() - before) == 1
    tasks = [Task(number, hold=True) for number in range(30)]
    harness.submit(*tasks)
    under_way(*tasks[:8])
    assert len(threads() - before) <= 9
    for task in tasks:
        task.go.set()
    done(*tasks)
    assert len(threads() - before) <= 8 + Pool._DECODERS


def test_before_the_first_success_two_threads_are_enough(make):
    harness = make(32, proved=False)
    before = threads()
    tasks = [Task(number, hold=True) for number in range(50)]
    harness.submit(*tasks)
    under_way(tasks[0])
    started = len(threads() - before)
    for task in tasks:
        task.go.set()
    done(*tasks)
    assert started <= 2


def test_decoding_that_takes_long_holds_no_place_in_flight(make):
    harness = make(1)
    decoded = threading.Event()
    slow = Task("slow", then=lambda task: decoded.wait(PATIENCE), is_long=True)
    harness.submit(slow)
    under_way(slow)
    others = [Task(number) for number in range(5)]
    harness.submit(*others)
    done(*others)
    decoded.set()
    done(slow)


def test_what_was_queued_before_goes_on_while_an_answer_is_decoded(make):
    harness = make(1)
    decoded = threading.Event()
    slow = Task("slow", then=lambda task: decoded.wait(PATIENCE), is_long=True)
    others = [Task(number) for number in range(5)]
    harness.submit(slow, *others)
    done(*others)
    decoded.set()
    done(slow)


def test_fewer_threads_than_asked_for_are_enough(make, monkeypatch):
    harness = make(8)
    start, started = threading.Thread.start, []

    def refuse(thread):
        if thread.name.startswith("beam_openai-") and started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    tasks = [Task(number) for number in range(50)]
    harness.submit(*tasks)
    done(*tasks)
    assert len(started) == 1


# Throttled


def refused(harness):
    """A thread has looked by now, and the limiter refused."""
    settled(lambda: harness.pool._refused_since == harness.clock.now)


def idle(harness):
    settled(lambda: harness.pool._idle == len(harness.pool._threads))


def test_throttled_counts_while_a_task_is_ready_and_the_limiter_refuses(make):
    harness = make(4, requests_per_minute=1)
    first, second = Task("first"), Task("second")
    harness.submit(first)
    done(first)
    idle(harness)
    harness.forward(10)
    assert harness.pool.throttled == 0  # nothing was ready
    harness.submit(second)
    refused(harness)
    harness.clock.now += 20
    assert harness.pool.throttled == 20  # also while it lasts
    harness.forward(30)
    done(second)
    assert harness.pool.throttled == 50
    harness.forward(100)
    assert harness.pool.throttled == 50


def test_throttled_counts_once_however_many_wait(make):
    harness = make(8, requests_per_minute=60)
    tasks = [Task(number) for number in range(6)]
    harness.submit(*tasks)
    for _ in range(50):
        refused(harness)
        harness.forward(0.1)
    harness.forward(0.001)
    done(*tasks)
    assert harness.pool.throttled == pytest.approx(5.0, abs=0.01)


def test_what_is_not_due_or_has_no_place_in_flight_is_not_throttled(make):
    harness = make(1, requests_per_minute=1)
    later = Task("later")
    harness.submit(later, wait=50)
    harness.forward(49)
    held, next_one = Task("held", hold=True), Task("next")
    harness.submit(held)
    under_way(held)
    harness.submit(next_one)
    harness.forward(500)
    assert harness.pool.throttled == 0
    held.go.set()
    done(later)
    harness.forward(60)
    done(held, next_one)


def test_what_was_cancelled_is_throttled_no_more(make):
    harness = make(2, requests_per_minute=1)
    first = Task("first")
    harness.submit(first)
    done(first)
    harness.submit(Task("second", owner="a"))
    refused(harness)
    harness.clock.now += 5
    harness.pool.cancel("a")
    settled(lambda: harness.pool._refused_since is None)
    harness.forward(30)
    assert harness.pool.throttled == 5


def test_an_answer_that_says_there_is_quota_wakes_who_waited_for_it():
    limiter = Limiter(Quota(), time.monotonic())
    limiter.observe(
        limiter.take(Cost(), time.monotonic()),
        {
            "x-ratelimit-limit-requests": "1000",
            "x-ratelimit-remaining-requests": "1",
            "x-ratelimit-reset-requests": "1h",
        },
        time.monotonic(),
    )
    pool = Pool(4, time.monotonic)
    pool.prove()

    class Tells(Task):
        def send(self, grant):
            super().send(grant)
            full = {"x-ratelimit-limit-requests": "1000", "x-ratelimit-remaining-requests": "999"}
            limiter.observe(grant, full, time.monotonic())

    tells, waits = Tells("tells", hold=True), Task("waits")
    for task in (tells, waits):
        task.log, task.limiter = [], limiter
        pool.submit(task)
    under_way(tells)
    assert not waits.sent.wait(0.1)
    tells.go.set()
    done(waits)
    pool.close()


# All at once


def test_nothing_is_lost_in_a_crowd():
    chance = random.Random(1)
    pool, limiter = Pool(60, time.monotonic), Limiter(Quota(), time.monotonic())
    lock, left, flying, most = threading.Lock(), [20_000], [0], [0]
    finished = threading.Event()

    class Small:
        __slots__ = ("attempts", "cost", "limiter", "owner")

        def __init__(self, owner):
            self.owner, self.limiter, self.cost, self.attempts = owner, limiter, Cost(), chance.choice([1, 1, 1, 2, 3])

        def send(self, grant):
            with lock:
                flying[0] += 1
                most[0] = max(most[0], flying[0])
            if chance.random() < 0.01:
                time.sleep(0.001)
            with lock:
                flying[0] -= 1

        def receive(self):
            pool.prove()
            self.attempts -= 1
            if self.attempts:
                pool.submit(self, chance.choice([0.0, 0.0, 0.001, 0.01]))
                return
            with lock:
                left[0] -= 1
                if not left[0]:
                    finished.set()

    def feed():
        for number in range(5000):
            pool.submit(Small("kept"), chance.choice([None, None, 0.0, 0.002]))
            if number % 500 == 0:
                pool.submit(Small("dropped"), 1000.0)
                pool.cancel("dropped")

    feeders = [threading.Thread(target=feed) for _ in range(4)]
    for feeder in feeders:
        feeder.start()
    assert finished.wait(PATIENCE), f"{left[0]} were lost"
    for feeder in feeders:
        feeder.join()
    assert most[0] <= 60
    pool.close()
    assert pool.in_flight == 0


def test_nothing_is_lost_in_a_crowd_with_a_quota():
    limiter = Limiter(Quota(requests_per_minute=120_000), time.monotonic())
    pool = Pool(16, time.monotonic)
    pool.prove()
    tasks = [Task(number) for number in range(1500)]
    for task in tasks:
        task.log, task.limiter = [], limiter
        pool.submit(task, random.choice([None, 0.0, 0.01]))
    done(*tasks)
    pool.close()


def test_until_the_first_success_nothing_follows_before_it_is_known_what_the_last_one_came_to():
    pool = Pool(4, time.monotonic)
    sent, decided = [], threading.Event()

    class Probe:
        cost, limiter = Cost(), Limiter(Quota(), time.monotonic())

        def __init__(self, number):
            self.owner = self.number = number

        def send(self, grant):
            sent.append(self.number)

        def receive(self):
            assert decided.wait(PATIENCE)
            for owner in range(10):
                pool.cancel(owner)

    for number in range(10):
        pool.submit(Probe(number))
    while not sent:
        time.sleep(0.001)
    time.sleep(0.05)
    decided.set()
    pool.close()
    assert sent == [0]


def test_until_the_first_success_what_failed_goes_before_what_was_never_tried():
    pool = Pool(4, time.monotonic)
    sent, finished = [], threading.Event()

    class Unlucky:
        owner, cost, limiter = "it", Cost(), Limiter(Quota(), time.monotonic())

        def __init__(self, number):
            self.number = number

        def send(self, grant):
            sent.append(self.number)

        def receive(self):
            if len(sent) < 4:
                pool.submit(self, 0.02)
                return
            pool.prove()
            if len(sent) == 8:
                finished.set()

    for number in range(5):
        pool.submit(Unlucky(number))
    assert finished.wait(PATIENCE)
    pool.close()
    assert sent[:4] == [0, 0, 0, 0]
    assert sorted(sent[4:]) == [1, 2, 3, 4]
    assert pool.throttled == 0


# Several limiters


def test_where_one_limiter_refuses_the_tasks_of_another_are_sent(make):
    harness = make(4)
    full = Limiter(Quota(requests_per_minute=1), harness.clock())
    first, second, other = Task("first"), Task("second"), Task("other")
    first.limiter = second.limiter = full
    harness.submit(first)
    done(first)
    harness.submit(second)
    harness.submit(other)
    done(other)
    assert not second.sent.is_set()
    harness.forward(60)
    done(second)


def test_limiters_take_turns(make):
    harness = make(1)
    first = Task("first", hold=True)
    harness.submit(first)
    under_way(first)
    one, two = Limiter(Quota(), harness.clock()), Limiter(Quota(), harness.clock())
    tasks = [Task(f"{name}{number}") for name in "ab" for number in range(3)]
    for task in tasks:
        task.limiter = one if task.name.startswith("a") else two
    harness.submit(*tasks)
    first.go.set()
    done(*tasks)
    assert harness.log[1:] == ["a0", "b0", "a1", "b1", "a2", "b2"]


# A ceiling shared with other processes


class Line:
    """Stands for the ceiling in Redis: answers in turn what it is told to."""

    def __init__(self, *answers):
        self.answers, self.asked, self.settled = list(answers), [], []

    def reserve(self, costs):
        self.asked.append(costs)
        answer = self.answers.pop(0) if self.answers else booking(0.0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def settle(self, booking, used):
        self.settled.append(used)

    def cancel(self, booking):
        self.settled.append("cancelled")


def booking(wait):
    return Booking(wait, 0.0, {"requests": 1.0}, 1, 1)


def shared(harness, *answers):
    line = Line(*answers)
    harness.limiter = Limiter(Quota(requests_per_minute=60, shared="redis://nowhere"), harness.clock(), line)
    return line


def test_what_is_booked_is_sent_when_its_time_has_come_and_asks_no_second_time(make):
    harness = make(4)
    line = shared(harness, booking(5.0))
    first, second = Task("first"), Task("second")
    harness.submit(first)
    settled(lambda: line.asked)
    idle(harness)
    harness.submit(second)
    assert not first.sent.wait(0.05) and not second.sent.is_set() and len(line.asked) == 1
    harness.forward(5)
    done(first, second)
    assert harness.log == ["first", "second"] and len(line.asked) == 2


def test_a_redis_that_takes_long_to_answer_takes_no_booking_back(make):
    harness = make(4)
    line = shared(harness, booking(5.0))
    reserve = line.reserve

    def reserve_slowly(costs):
        harness.clock.now += 0.5
        return reserve(costs)

    line.reserve = reserve_slowly
    task = Task("task")
    harness.submit(task)
    settled(lambda: line.asked)
    idle(harness)
    harness.forward(5)
    done(task)
    assert len(line.asked) == 1 and not line.settled


def test_what_was_booked_counts_from_when_it_is_sent_and_its_wait_as_throttled(make):
    harness = make(4)
    shared(harness, booking(5.0))
    task, sent_at = Task("task"), []
    send = task.send
    task.send = lambda grant: sent_at.append(grant.at) or send(grant)
    harness.submit(task)
    idle(harness)
    harness.forward(5)
    done(task)
    assert sent_at == [harness.clock()] and harness.pool.throttled == pytest.approx(5)


def test_what_is_refused_asks_again(make):
    harness = make(4)
    line = shared(harness, Refused(3.0), Refused(3.0))
    task = Task("task")
    harness.submit(task)
    for asked in (1, 2):
        settled(lambda asked=asked: len(line.asked) == asked)
        idle(harness)
        assert not task.sent.is_set()
        harness.forward(3)
    done(task)
    assert len(line.asked) == 3 and not line.settled


def test_what_is_cancelled_gives_its_booking_back(make):
    harness = make(4)
    line = shared(harness, booking(5.0))
    harness.submit(Task("gone", owner="a"))
    settled(lambda: line.asked)
    idle(harness)
    harness.pool.cancel("a")
    assert line.settled == ["cancelled"]


def test_nothing_is_sent_without_the_shared_ceiling_and_after_two_minutes_it_is_given_up(make):
    harness = make(4)
    away = SharedQuotaError("no Redis at there:6379")
    away.action = "wait"
    line = shared(harness, *[away] * 1000)
    task, given_up = Task("task"), []
    task.give_up = given_up.append
    harness.submit(task)
    for asked in range(1, 122):
        settled(lambda asked=asked: len(line.asked) >= asked)
        idle(harness)
        assert not task.sent.is_set() and not given_up
        harness.forward(1.0)
    settled(lambda: given_up)
    assert given_up[0].action == "stop"


def test_a_limiter_that_breaks_stops_the_job_and_leaves_nothing_behind(make):
    harness = make(2)

    class Broken(Limiter):
        def wait(self, cost, now):
            raise ZeroDivisionError("a limiter is broken")

    broken = Broken(Quota(), harness.clock())
    given_up, tasks = [], [Task(number) for number in range(6)]
    for task in tasks:
        task.give_up = given_up.append
    tasks[0].limiter = broken
    harness.submit(*tasks)
    settled(lambda: given_up)
    assert isinstance(given_up[0], ZeroDivisionError)
