"""One ceiling for all processes: as timetables, the script running in a real Redis by a clock that the test sets; and in
real time, with processes, connections and servers that die.
"""

import bisect
import contextlib
import heapq
import itertools
import json
import math
import ssl
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_server import RedisServer, Wire

import beam_openai
from beam_openai import errors
from beam_openai.shared import Booking, Refused, Shared, check_url, find_url
from beam_openai.shared.script import SCRIPT
from beam_openai.shared.server import Server

SLOT = 0.1
"""Seconds of a slot, for a window of 60."""


@pytest.fixture(scope="module")
def redis_server():
    with RedisServer() as server:
        yield server


@pytest.fixture
def join(redis_server):
    """Makes those who share the quota of one name; they end with the test."""
    name = uuid.uuid4().hex
    with contextlib.ExitStack() as stack:

        def joined(url=redis_server.socket_url, window=60.0, **limits):
            return stack.enter_context(contextlib.closing(Shared(url, name, limits, window=window)))

        yield joined


def most_in_a_window(sent, window=60.0):
    """The most that any half-open window holds of [(seconds, amount), ...]."""
    sent = sorted((round(at * 1e6), amount) for at, amount in sent)
    times = [at for at, _ in sent]
    sums = [0.0, *itertools.accumulate(amount for _, amount in sent)]
    ends = [bisect.bisect_left(times, at + round(window * 1e6)) for at in times]
    return max((sums[end] - sums[start] for start, end in enumerate(ends)), default=0.0)


def held(redis_server, shared, dimension="tokens"):
    """What the latest window holds, by what stands in Redis."""
    return float(redis_server.admin.hget(shared._key, f"{dimension}/sum"))


# Timetables


class Timetable:
    """Those who share one quota, in a time that passes when the test says so.

    Attributes:
      now: seconds since it began.
      booked: all bookings, in the order in which they were made.
    """

    _CLOCK = """
    local server = redis
    local redis = {call = function(name, ...)
      if name ~= 'TIME' then return server.call(name, ...) end
      local now = server.call('GET', 'clock')
      return {math.floor(now / 1000000), now % 1000000}
    end}
    """
    START = 1_800_000_000.0

    def __init__(self, redis_server, members=1, **limits):
        self._redis, self._url, self._name = redis_server.admin, redis_server.socket_url, uuid.uuid4().hex
        self.members = [self.another(**limits) for _ in range(members)]
        self.now, self.booked = 0.0, []

    def another(self, **limits):
        member = Shared(self._url, self._name, limits)
        member._server = Server(self._url, self._CLOCK + SCRIPT)
        return member

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            member.close()

    def ask(self, member=0, **costs):
        self._redis.set("clock", round((self.START + self.now) * 1e6))
        asked = self.members[member] if isinstance(member, int) else member
        said = asked.reserve(costs)
        if isinstance(said, Booking):
            self.booked.append(said)
        return said

    def wait(self, member=0, **costs):
        """Seconds until this could be sent; it is not."""
        said = self.ask(member, **costs)
        if isinstance(said, Booking):
            (self.members[member] if isinstance(member, int) else member).cancel(self.booked.pop())
        return said.wait

    def sent(self, dimension):
        """When, in seconds since it began, and how much."""
        return [(booking.at - self.START, booking.amounts[dimension]) for booking in self.booked]

    def run(self, cost, until, used=None, latency=0.5):
        """All members send as they are let, each one request after the other; `cost(n)` is what the nth ask is for."""
        order, asks = itertools.count(), itertools.count()
        waiting = [(self.now, next(order), member, None) for member in range(len(self.members))]
        while waiting and waiting[0][0] < until:
            at, _, member, booking = heapq.heappop(waiting)
            self.now = max(self.now, at)
            if booking:
                amounts = {dimension: used(amount) for dimension, amount in booking.amounts.items()}
                self.members[member].settle(booking, {**amounts, "requests": 1.0} if "requests" in amounts else amounts)
                continue
            said = self.ask(member, **cost(next(asks)))
            heapq.heappush(waiting, (self.now + said.wait, next(order), member, None))
            if used and isinstance(said, Booking):
                heapq.heappush(waiting, (self.now + said.wait + latency, next(order), member, said))


@pytest.fixture
def timetable(redis_server):
    with contextlib.ExitStack() as stack:
        yield lambda *args, **limits: stack.enter_context(Timetable(redis_server, *args, **limits))


asks = st.tuples(
    st.integers(0, 2),  # who asks
    st.floats(0, 1),  # for how much of the ceiling of tokens
    st.sampled_from([0.0, 0.01, 0.1, 1.0, 5.0, 5.0, 10.0, 60.0]),  # seconds later, about
    st.sampled_from(["leave", "settle", "cancel"]),
    st.floats(0, 1),  # what is used of what was reserved
)


@given(st.lists(asks, min_size=20, max_size=150), st.integers(1, 12), st.floats(10, 1e6), st.floats(0.01, 1.0))
@settings(max_examples=60, deadline=None)
def test_no_window_of_a_minute_ever_holds_more_than_the_ceiling(redis_server, script, requests, tokens, largest):
    open_bookings = []
    with Timetable(redis_server, 3, requests=requests, tokens=tokens) as table:
        for member, share, later, then, used in script:
            table.now += later * (0.5 + share)
            said = table.ask(member, requests=1, tokens=share * tokens * largest)
            if isinstance(said, Booking):
                assert said.at >= table.START + table.now - 1e-6
                open_bookings.append((member, said))
            if open_bookings and then != "leave":
                whose, booking = open_bookings.pop(len(open_bookings) // 2)
                if then == "cancel":
                    table.members[whose].cancel(booking)
                else:
                    table.members[whose].settle(booking, {"tokens": used * booking.amounts["tokens"]})
            assert most_in_a_window(table.sent("requests")) <= requests
            assert most_in_a_window(table.sent("tokens")) <= tokens * (1 + 1e-9)


@pytest.mark.parametrize(
    "limits, cost",
    [
        ({"requests": 500}, {"requests": 1}),
        ({"tokens": 1e6}, {"tokens": 5000}),
        ({"requests": 500, "tokens": 1e6}, {"requests": 1, "tokens": 1000}),
        ({"requests": 500, "tokens": 1e5}, {"requests": 1, "tokens": 1000}),
        ({"requests": 7}, {"requests": 1}),
    ],
)
@pytest.mark.parametrize("members", [1, 40])
def test_a_saturated_ceiling_is_used_to_the_full(timetable, members, limits, cost):
    table = timetable(members, **limits)
    table.run(lambda number: cost, until=600)
    used = {
        dimension: sum(amount for at, amount in table.sent(dimension) if 60 <= at < 540) / (8 * limit)
        for dimension, limit in limits.items()
    }
    assert 0.995 <= max(used.values()) <= 1.0 + 1 / min(limits.values())
    for dimension, limit in limits.items():
        assert most_in_a_window(table.sent(dimension)) <= limit


def test_it_is_used_evenly(timetable):
    table = timetable(5, requests=600)
    table.run(lambda number: {"requests": 1}, until=200)
    gaps = [after - before for (before, _), (after, _) in itertools.pairwise(table.sent("requests"))]
    assert min(gaps) > 0.099 and max(gaps) < 0.21


def test_what_was_reserved_too_much_is_used_by_others(timetable):
    table = timetable(20, requests=5000, tokens=1e6)
    table.run(lambda number: {"requests": 1, "tokens": 1000}, until=300, used=lambda amount: 0.8 * amount)
    used = sum(amount for at, amount in table.sent("tokens") if 60 <= at < 240) / 3e6
    assert 0.97 <= used <= 1 and most_in_a_window(table.sent("tokens")) <= 1e6


def test_all_stand_in_one_line(timetable):
    table = timetable(50, requests=600)
    for member in range(50):
        table.ask(member, requests=1)
    assert [at for at, _ in table.sent("requests")] == pytest.approx([number * 0.1 for number in range(50)], abs=1e-5)
    assert [booking.wait for booking in table.booked] == pytest.approx([number * 0.1 for number in range(50)], abs=1e-5)


def test_where_the_line_is_too_long_one_comes_back_and_has_taken_nothing(timetable):
    table = timetable(requests=60)
    said = [table.ask(requests=1) for _ in range(200)]
    booked = [one for one in said if isinstance(one, Booking)]
    refused = [one for one in said if isinstance(one, Refused)]
    assert len(booked) == 11 and len(booked) + len(refused) == 200
    assert max(one.wait for one in booked) == pytest.approx(10)
    assert len({one.wait for one in refused}) == len(refused) and all(1 < one.wait <= 6 for one in refused)
    table.now = max(one.wait for one in refused)
    assert table.wait(requests=1) == pytest.approx(booked[-1].wait + 1 - table.now, abs=1e-5)


def test_who_was_refused_gets_in_as_often_as_who_was_not(timetable):
    table = timetable(200, requests=500)
    counts = dict.fromkeys(range(200), 0)
    ask = table.ask
    table.ask = lambda member, **costs: counted(member, ask(member, **costs))

    def counted(member, said):
        counts[member] += isinstance(said, Booking)
        return said

    table.run(lambda number: {"requests": 1}, until=480)
    mean = sum(counts.values()) / 200
    assert mean > 15 and min(counts.values()) > 0.3 * mean and max(counts.values()) < 2 * mean


def test_a_late_sender_makes_up_for_a_second_and_no_more(timetable):
    table = timetable(requests=600)
    table.ask(requests=1)
    table.now = 30
    waits = [table.ask(requests=1).wait for _ in range(12)]
    assert waits == pytest.approx([0.0] * 11 + [0.1], abs=1e-5)


def test_a_large_request_gets_in_though_small_ones_never_stop(timetable):
    table = timetable(5, tokens=1000)
    table.run(lambda number: {"tokens": 10}, until=120)
    large = table.ask(tokens=800)
    while isinstance(large, Refused):
        table.run(lambda number: {"tokens": 10}, until=table.now + large.wait)
        large = table.ask(tokens=800)
    assert large.wait <= 70
    table.run(lambda number: {"tokens": 10}, until=table.now + 180)
    assert most_in_a_window(table.sent("tokens")) <= 1000
    # It was silent until the window had room for it, and is not silent again afterwards.
    assert any(0 < at - (large.at - table.START) < 3 for at, _ in table.sent("tokens"))


def test_as_much_as_the_ceiling_fits_when_all_has_left_the_window(timetable):
    table = timetable(tokens=100)
    table.ask(tokens=1)
    assert table.ask(tokens=100).wait == pytest.approx(60 + SLOT, abs=SLOT)
    table.now = 100
    assert table.ask(tokens=100).wait == pytest.approx(20 + 2 * SLOT, abs=2 * SLOT)
    refused = table.ask(tokens=100)
    assert isinstance(refused, Refused) and 50 < refused.wait < 60


def test_what_all_use_together_is_known_to_each(timetable):
    table = timetable(requests=10, tokens=1000)
    other = table.another(requests=10, tokens=1000)
    for second in range(5):
        table.now = 6 * second
        table.ask(requests=1, tokens=20)
    assert table.members[0].used == 0.5 and other.used == 0
    table.now = 30
    table.ask(other, requests=1, tokens=400)
    assert other.used == pytest.approx(0.6)
    other.close()


@pytest.mark.parametrize(("turned_out", "least", "most"), [(20, 50, 61), (5, 0, 5)])
def test_dimensions_that_nobody_limits_here_are_counted_for_those_who_do(timetable, turned_out, least, most):
    table = timetable(requests=100, audio=None)
    limited = table.another(requests=100, audio=50)
    for _ in range(2):
        table.ask(requests=1)
        table.members[0].settle(table.ask(requests=1, audio=20), {"audio": turned_out})
    table.ask(requests=1)
    assert least <= table.wait(limited, requests=1, audio=20) <= most
    limited.close()


@pytest.mark.parametrize(
    "costs, message",
    [
        ({"tokens": 100.5}, "100.5 tokens never fits into the 100 of 60 s"),
        ({"tokens": -1}, "-1.0 tokens"),
        ({"tokens": math.nan}, "nan tokens"),
        ({"requests": math.inf}, "inf requests"),
        ({"images": 1}, "no dimension images"),
    ],
)
def test_what_can_never_be_sent_is_refused_and_takes_nothing(timetable, costs, message):
    table = timetable(requests=60, tokens=100)
    with pytest.raises(ValueError, match=message):
        table.ask(**costs)
    assert table.wait(requests=1, tokens=100) == 0


@pytest.mark.parametrize("limit", [0, -1, math.nan])
def test_a_limit_that_lets_nothing_through_is_refused(redis_server, limit):
    with pytest.raises(ValueError, match="the limit of tokens must be more than 0"):
        Shared(redis_server.url, "name", {"tokens": limit})


def test_a_quota_of_nothing_is_refused(redis_server):
    with pytest.raises(ValueError, match="at least one dimension"):
        Shared(redis_server.url, "name", {})


def test_all_dimensions_are_reserved_or_none(redis_server, timetable):
    table = timetable(requests=60, tokens=600)
    table.ask(requests=1, tokens=600)
    for _ in range(100):
        assert isinstance(table.ask(requests=1, tokens=1), Refused)
    # Of what the tokens did not let through, no request is counted.
    table.members[0].settle(table.booked[0], {"tokens": 0})
    table.now = 1
    assert table.ask(requests=1, tokens=1).wait == 0
    assert sum(amount for _, amount in table.sent("requests")) == 2 == held(redis_server, table.members[0], "requests")


def test_what_was_used_less_is_free_again(timetable):
    table = timetable(2, tokens=100)
    first = table.ask(tokens=100)
    table.now = 5
    assert isinstance(table.ask(1, tokens=50), Refused)
    table.members[0].settle(first, {"tokens": 5})
    table.ask(0, tokens=0)  # which brings the correction
    assert table.ask(1, tokens=50).wait == 0


def test_what_was_used_more_is_paid_for_later(timetable):
    table = timetable(tokens=100)
    table.members[0].settle(table.ask(tokens=1), {"tokens": 100})
    table.now = 1
    assert isinstance(table.ask(tokens=1), Refused)
    table.now = 55
    assert table.ask(tokens=1).wait == pytest.approx(5 + SLOT, abs=SLOT)


def test_however_much_was_used_nothing_waits_for_longer_than_the_window(timetable):
    table = timetable(tokens=100)
    table.members[0].settle(table.ask(tokens=1), {"tokens": 1e9})
    table.now = 1
    assert table.ask(tokens=1).wait < 70
    table.now = 62
    assert table.wait(tokens=1) < 15


def test_a_request_that_was_not_sent_gives_everything_back(timetable):
    table = timetable(requests=6, tokens=100)
    table.members[0].cancel(table.ask(requests=1, tokens=100))
    assert table.wait(requests=1, tokens=100) == 0


def test_what_is_settled_twice_counts_as_the_last_says(timetable):
    table = timetable(tokens=100)
    booking = table.ask(tokens=100)
    for used in (50, 20, 20, 40):
        table.members[0].settle(booking, {"tokens": used})
    table.now = 30
    assert table.ask(tokens=60).wait == 0
    assert table.ask(tokens=1).wait > 0


@pytest.mark.parametrize("used", [-1, math.nan, math.inf])
def test_what_cannot_have_been_used_is_refused(timetable, used):
    table = timetable(tokens=100)
    booking = table.ask(tokens=100)
    with pytest.raises(ValueError, match="tokens"):
        table.members[0].settle(booking, {"tokens": used})
    assert booking.amounts == {"tokens": 100}


def test_settling_what_is_long_past_changes_nothing(timetable):
    table = timetable(tokens=100)
    first = table.ask(tokens=100)
    table.now = 61
    table.members[0].settle(first, {"tokens": 10_000})
    assert table.wait(tokens=100) == 0


def test_who_has_no_limit_counts_for_those_who_have_one(timetable):
    table = timetable(tokens=None)
    limited = table.another(tokens=100)
    assert [table.ask(tokens=1000).wait for _ in range(3)] == [0, 0, 0]
    table.now = 55
    assert table.ask(limited, tokens=1).wait == pytest.approx(5 + SLOT, abs=SLOT)
    limited.close()


def test_the_lower_of_two_limits_counts_for_who_says_it(timetable):
    table = timetable(requests=600)
    lower = table.another(requests=10)
    for _ in range(50):
        assert table.ask(requests=1).wait == 0
        table.now += 0.1
    assert table.ask(lower, requests=1).wait > 50
    # The other is not slowed down by it.
    assert table.ask(requests=1).wait == 0
    lower.close()


def test_nothing_is_booked_further_ahead_than_a_lost_state_is_remembered(timetable):
    table = timetable(tokens=100)
    lower = table.another(tokens=10)
    table.ask(tokens=1)
    assert table.ask(tokens=100).wait > 60
    refused = table.ask(lower, tokens=1)
    assert isinstance(refused, Refused) and 110 < refused.wait < 120
    lower.close()


def test_what_has_left_the_window_is_deleted(timetable, redis_server):
    table = timetable(requests=6000)
    table.run(lambda number: {"requests": 1}, until=90)
    assert redis_server.admin.hlen(table.members[0]._key) <= 601 + 10


def test_a_state_that_was_lost_counts_as_full_until_all_has_left_the_window(timetable, redis_server):
    table = timetable(2, requests=60)
    table.ask(0, requests=1), table.ask(1, requests=1)
    table._redis.flushall()
    assert 110 < table.ask(0, requests=1).wait < 126
    table.now = 100
    assert isinstance(table.ask(1, requests=1), Refused) and 10 < table.ask(0, requests=1).wait < 26
    table.now = 125
    assert table.ask(1, requests=1).wait == pytest.approx(5)
    # It is not lost again because another remembers what was before.
    table.now = 140
    assert table.ask(0, requests=1).wait == 0


def test_a_state_that_one_begins_anew_is_full_when_another_says_that_there_was_one(timetable):
    table = timetable(requests=60)
    new = table.another(requests=60)
    table.ask(requests=1)
    table._redis.flushall()
    table.now = 1
    assert table.ask(new, requests=1).wait == 0
    table.now = 5
    assert table.ask(requests=1).wait > 100 and table.ask(new, requests=1).wait > 100
    new.close()


def test_corrections_of_a_lost_state_are_not_applied_to_the_next(timetable, redis_server):
    table = timetable(tokens=100)
    before = table.ask(tokens=100)
    table.members[0].settle(before, {"tokens": 0})
    table._redis.flushall()
    table.now = 1
    table.ask(tokens=1)
    assert held(redis_server, table.members[0]) == 0
    table.now = 131
    assert table.ask(tokens=100).wait == 0
    table.members[0].settle(before, {"tokens": 50})
    table.now = 132
    assert isinstance(table.ask(tokens=1), Refused)


def test_a_clock_that_is_set_back_costs_two_minutes_and_not_an_hour(timetable):
    table = timetable(requests=60)
    table.now = 3600
    table.ask(requests=1)
    table.now = 0
    assert 110 < table.ask(requests=1).wait < 126
    table.now = 131
    booking = table.ask(requests=1)
    assert booking.wait == 0
    # And its corrections arrive as before.
    table.members[0].cancel(booking)
    assert table.ask(requests=1).wait == 0


# In real time


WORKER = """
import json, sys, time
from beam_openai.shared import Booking, Shared

url, name, limits, costs, share = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:])
shared = Shared(url, name, limits, window=2.0)
print(json.dumps("ready"), flush=True)
sys.stdin.readline()
while True:
    said = shared.reserve(costs)
    if isinstance(said, Booking):
        print(json.dumps([said.at, said.wait]), flush=True)
    time.sleep(said.wait)
    if isinstance(said, Booking):
        shared.settle(said, {"tokens": share * costs["tokens"]})
"""


@contextlib.contextmanager
def workers(count, url, name, limits, costs, share=1.0):
    """Processes that send all the time, with windows of 2 s; they are killed in the end."""
    arguments = [sys.executable, "-c", WORKER, url, name, *map(json.dumps, (limits, costs, share))]
    root = Path(beam_openai.__file__).parent.parent
    started = [
        subprocess.Popen(arguments, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        for worker in started:
            assert worker.stdout.readline() == '"ready"\n'
        for worker in started:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.wait()
            worker.stdin.close()
            worker.stdout.close()


class Log:
    """What processes were granted, as they print it."""

    def __init__(self, started):
        self.of = {worker.pid: [] for worker in started}
        for worker in started:
            threading.Thread(target=self._read, args=[worker], daemon=True).start()

    def _read(self, worker):
        with contextlib.suppress(ValueError, OSError):
            for line in worker.stdout:
                self.of[worker.pid].append(tuple(json.loads(line)))

    def all(self):
        return sorted(grant for grants in self.of.values() for grant in list(grants))

    def busy(self):
        """The longest stretch in which there was always one in the line: how fast they send decides nothing there."""
        stretches = [[]]
        for grant in self.all():
            if grant[1] == 0:
                stretches.append([])
            stretches[-1].append(grant)
        return max(stretches, key=lambda grants: grants[-1][0] - grants[0][0] if grants else 0.0)


def test_four_processes_keep_one_ceiling_exactly_and_use_it_to_the_full_and_fairly(redis_server):
    limits, costs, share, window = {"requests": 30, "tokens": 900}, {"requests": 1, "tokens": 30}, 0.9, 2.0
    with workers(4, redis_server.url, uuid.uuid4().hex, limits, costs, share) as started:
        log, end = Log(started), time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.5)
            busy = log.busy()
            if busy and busy[-1][0] - busy[0][0] > 4 * window:
                break
    granted = log.all()
    assert len(granted) > 60 and all(log.of.values())
    assert most_in_a_window([(at, 1) for at, _ in granted], window) <= 30
    seconds = busy[-1][0] - busy[0][0] if busy else 0.0
    if seconds <= 4 * window:
        pytest.skip(
            "the ceiling was kept; how well it is used cannot be told, this machine was too slow to stand in line"
        )
    assert (len(busy) - 1) / seconds >= 0.99 * 30 / window
    counts = [sum(grant in busy for grant in grants) for grants in log.of.values()]
    assert min(counts) >= 0.5 * max(counts)


def test_a_killed_process_leaves_nothing_behind_when_the_window_has_passed(redis_server, join):
    shared = join(window=2.0, tokens=100)
    with workers(1, redis_server.url, shared._key.split(":")[-1], {"tokens": 100}, {"tokens": 100}) as [worker]:
        first, _ = json.loads(worker.stdout.readline())
    seconds, micros = redis_server.admin.time()
    asked, booking = granted(shared, {"tokens": 100})
    assert booking.at >= first + 2.0
    # What it had booked next has to leave as well.
    assert booking.at <= max(asked, seconds + micros / 1e6 + 2 * 2.0) + 0.5


def granted(shared, costs):
    """Asks until there is a booking; returns it, and about when it was asked for, by Redis' clock."""
    for _ in range(1000):
        said = shared.reserve(costs)
        if isinstance(said, Booking):
            return said.at - said.wait, said
        time.sleep(said.wait)
    raise AssertionError("refused for ever")


@given(st.lists(st.tuples(st.integers(1, 30), st.floats(0, 0.03), st.floats(0, 1)), min_size=1, max_size=25))
@settings(max_examples=15, deadline=None)
def test_no_window_ever_holds_more_than_the_ceiling_in_real_time(redis_server, script):
    with contextlib.closing(Shared(redis_server.socket_url, uuid.uuid4().hex, {"tokens": 100}, window=0.3)) as shared:
        booked = []
        for cost, pause, share in script:
            _, booking = granted(shared, {"tokens": cost})
            booked.append(booking)
            time.sleep(pause)
            shared.settle(booking, {"tokens": share * cost})
    assert most_in_a_window([(booking.at, booking.amounts["tokens"]) for booking in booked], 0.3) <= 100 * (1 + 1e-9)


def test_three_hundred_threads_share_a_few_connections(redis_server, join):
    shared, before = join(tokens=1e9), redis_server.admin.info("clients")["connected_clients"]
    together, waits, failed = threading.Barrier(300), [], []

    def work():
        try:
            together.wait()
            for _ in range(5):
                booking = shared.reserve({"tokens": 1000})
                waits.append(booking.wait)
                shared.settle(booking, {"tokens": 500})
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(waits) == 1500
    assert redis_server.admin.info("clients")["connected_clients"] <= before + 8
    shared.close()
    assert held(redis_server, shared) == 1500 * 500
    assert not any(
        thread.name == "beam_openai-shared" and thread is shared._flusher for thread in threading.enumerate()
    )


def eventually(holds):
    for _ in range(1200):
        if holds():
            return True
        time.sleep(0.05)
    return False


def test_corrections_travel_with_the_next_reservation(redis_server, join):
    shared = join(tokens=1e6)
    redis_server.admin.config_resetstat()
    for _ in range(20):
        shared.settle(shared.reserve({"tokens": 100}), {"tokens": 40})
    shared.reserve({"tokens": 0})
    assert held(redis_server, shared) == 800
    # One for each reservation, and none for a settlement, unless this machine slept for half a second.
    assert 20 < redis_server.admin.info("commandstats")["cmdstat_evalsha"]["calls"] < 30


def test_corrections_are_sent_soon_where_nothing_is_reserved(redis_server, join):
    shared = join(tokens=1e6)
    booking = shared.reserve({"tokens": 100})
    shared.settle(booking, {"tokens": 40})
    assert eventually(lambda: held(redis_server, shared) == 40)
    shared.cancel(booking)
    assert eventually(lambda: held(redis_server, shared) == 0)


def test_a_quota_that_nobody_uses_leaves_nothing_in_redis_and_begins_empty(redis_server, join):
    shared = join(window=0.2, tokens=100)
    shared.reserve({"tokens": 100})
    assert -1 != redis_server.admin.pttl(shared._key) <= 600
    assert eventually(lambda: not redis_server.admin.exists(shared._key))
    assert shared.reserve({"tokens": 100}).wait == 0


# Servers that die, and wires that break


@pytest.fixture
def own_server():
    with RedisServer() as server:
        yield server


def test_a_redis_that_comes_back_with_its_data_goes_on(own_server, join):
    shared = join(own_server.url, tokens=100)
    first = shared.reserve({"tokens": 100})
    own_server.restart(keep=True)
    said = shared.reserve({"tokens": 100})
    assert isinstance(said, Refused) and said.wait < 56
    shared.settle(first, {"tokens": 0})
    assert shared.reserve({"tokens": 100}).wait == 0


def test_a_redis_that_comes_back_empty_lets_nothing_through_until_all_has_left_the_window(own_server, join):
    shared = join(own_server.url, window=2.0, requests=20)
    before = [granted(shared, {"requests": 1})[1].at for _ in range(10)]
    own_server.restart(keep=False)
    new = join(own_server.url, window=2.0, requests=20)
    shared.reserve({"requests": 0})
    after = [granted(one, {"requests": 1})[1].at for one in (new, shared) for _ in range(5)]
    assert min(after) >= max(before) + 2.0
    assert most_in_a_window([(at, 1) for at in before + after], 2.0) <= 20


def test_a_script_that_redis_does_not_know_any_more_is_sent_again(redis_server, join):
    shared = join(tokens=1e6)
    shared.reserve({"tokens": 10})
    redis_server.admin.script_flush()
    shared.reserve({"tokens": 10})
    assert held(redis_server, shared) == 20


def test_without_redis_nothing_is_let_through_and_the_message_says_where_it_was(own_server, join):
    own_server.kill()
    shared = join(own_server.url, tokens=100)
    for _ in range(2):
        with pytest.raises(errors.SharedQuotaError, match=f"127.0.0.1:{own_server.port}.*Check") as caught:
            shared.reserve({"tokens": 1})
        assert caught.value.action == "wait"
    own_server.start()
    assert shared.reserve({"tokens": 1}).wait == 0
    own_server.kill()
    with pytest.raises(errors.SharedQuotaError):
        shared.reserve({"tokens": 1})
    own_server.start()
    said = shared.reserve({"tokens": 1})
    assert isinstance(said, Refused) and 100 < said.wait < 126


def test_connections_that_redis_has_closed_meanwhile_are_made_anew(redis_server, join):
    shared = join(redis_server.url, tokens=100)
    shared.reserve({"tokens": 1})
    redis_server.admin.client_kill_filter(_type="normal", skipme=True)
    shared.reserve({"tokens": 1})
    assert held(redis_server, shared) == 2


def test_a_redis_that_never_answers_is_not_waited_for_without_end(redis_server, join):
    with Wire(redis_server.port) as wire:
        shared = join(f"redis://{wire.address}", tokens=100)
        shared.reserve({"tokens": 1})
        wire.is_dead = True
        began = time.monotonic()
        with pytest.raises(errors.SharedQuotaError, match=wire.address) as caught:
            shared.reserve({"tokens": 1})
        assert caught.value.action == "wait" and time.monotonic() - began > 3
        wire.is_dead = False
        shared.reserve({"tokens": 1})


def test_what_is_given_back_is_given_back_once_though_the_answer_is_lost(redis_server, join):
    with Wire(redis_server.port) as wire:
        shared = join(f"redis://{wire.address}", tokens=1e6)
        shared.settle(shared.reserve({"tokens": 500}), {"tokens": 100})
        wire.lose_answers = 1
        shared.reserve({"tokens": 10})
        # The reservation whose answer was lost stays: whoever asked may not know, but it can never be too much.
        assert held(redis_server, shared) == 100 + 10 + 10


def test_what_was_used_more_is_counted_though_the_answer_is_lost(redis_server, join):
    with Wire(redis_server.port) as wire:
        shared = join(f"redis://{wire.address}", tokens=1e6)
        shared.settle(shared.reserve({"tokens": 100}), {"tokens": 500})
        wire.lose_answers = 2
        with pytest.raises(errors.SharedQuotaError):
            shared.reserve({"tokens": 10})
        shared.reserve({"tokens": 10})
        assert held(redis_server, shared) >= 500 + 10


def test_a_wire_with_tls_is_used_as_the_url_says(redis_server, join, tmp_path):
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command.split(), *names], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with Wire(redis_server.port, context) as wire:
        url = f"rediss://{wire.address}?ssl_ca_certs={tmp_path}/cert.pem"
        check_url(url)
        assert join(url, tokens=100).reserve({"tokens": 1}).wait == 0
        with pytest.raises(errors.SharedQuotaError, match="certificate"):
            join(f"rediss://{wire.address}", tokens=100).reserve({"tokens": 1})


@pytest.fixture(scope="module")
def locked_server():
    with RedisServer() as server:
        server.admin.execute_command("ACL", "SETUSER", "job", "on", ">s3cret", "~other:*", "+@all")
        yield server


@pytest.mark.parametrize(
    "user, message", [("job:s3cret", "permission"), ("job:wr0ng", "WRONGPASS|password"), ("nobody:s3cret", "password")]
)
def test_a_redis_that_does_not_let_one_in_stops_the_job_and_no_password_is_shown(
    locked_server, join, monkeypatch, user, message
):
    monkeypatch.setenv("JOB_REDIS", f"redis://{user}@127.0.0.1:{locked_server.port}")
    with pytest.raises(errors.SharedQuotaError, match=message) as caught:
        join(find_url("JOB_REDIS"), tokens=100).reserve({"tokens": 1})
    assert caught.value.action == "stop" and f"127.0.0.1:{locked_server.port}" in str(caught.value)
    shown = "".join(map(str, [caught.value, caught.value.__cause__, *caught.value.args, repr(caught.value)]))
    assert "s3cret" not in shown and "wr0ng" not in shown


def test_a_password_from_the_environment_lets_one_in(join, monkeypatch):
    with RedisServer() as server:
        server.admin.config_set("requirepass", "p@ss/1")
        monkeypatch.setenv("JOB_REDIS", f" redis://:p%40ss%2F1@127.0.0.1:{server.port}/0\n")
        assert join(find_url("JOB_REDIS"), tokens=100).reserve({"tokens": 1}).wait == 0


def test_a_key_that_holds_something_else_stops_the_job(redis_server, join):
    shared = join(tokens=100)
    redis_server.admin.set(shared._key, "something else")
    with pytest.raises(errors.SharedQuotaError, match="WRONGTYPE") as caught:
        shared.reserve({"tokens": 1})
    assert caught.value.action == "stop"


def test_without_the_package_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(errors.SharedQuotaError, match=r"pip install 'beam-openai\[redis\]'") as caught:
        Shared("redis://localhost", "name", {"tokens": 100})
    assert caught.value.action == "stop"


def test_what_says_where_redis_is_needs_no_package():
    code = "import sys; sys.modules['redis'] = None; import beam_openai.shared as s; s.check_url('redis://h'); s.find_url('redis://h')"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(beam_openai.__file__).parent.parent)


# Where it is


@pytest.mark.parametrize(
    "shared",
    [
        "redis://localhost",
        "redis://localhost/",
        "redis://10.0.0.1:6380/2",
        "redis://[::1]:6379?db=3",
        "rediss://cache.example.com:6379?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required",
        "unix:///run/redis.sock",
        "unix:///run/redis.sock?db=1",
        "REDIS_URL",
        "_REDIS2",
    ],
)
def test_a_url_without_a_password_or_a_variable_s_name_says_where_redis_is(shared):
    check_url(shared)


@pytest.mark.parametrize(
    "shared",
    [
        "redis://:s3cret@localhost",
        "redis://user:s3cret@localhost:6379/0",
        "redis://s3cret@localhost",
        "redis://:s3cret/x@localhost",
        "redis://:s3cret#x@localhost",
        "redis://:s3cret[x@localhost",
        "rediss://localhost?password=s3cret",
        "rediss://localhost?username=s3cret&db=0",
        "rediss://localhost?ssl_password=s3cret",
        "unix://user:s3cret@/run/redis.sock",
        "unix:///run/redis.sock?password=s3cret",
    ],
)
def test_a_url_with_a_password_is_refused_with_advice_and_not_repeated(shared):
    with pytest.raises(ValueError, match="environment variable") as caught:
        check_url(shared)
    assert "s3cret" not in str(caught.value) and "password" in str(caught.value)
    assert caught.value.__context__ is None or "s3cret" not in str(caught.value.__context__)


@pytest.mark.parametrize(
    "shared",
    [
        "",
        "s3cret",
        "redis",
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis:///0",
        "redis://localhost:0",
        "redis://localhost:x",
        "redis://localhost/x",
        "redis://local host",
        "redis://localhost?db=x",
        "redis://localhost?db=1&socket_timeout=5",
        "redis://localhost#0",
        "unix://run/redis.sock",
        "unix://",
        "Redis_Url",
        "REDIS-URL",
    ],
)
def test_what_says_no_place_is_refused_and_not_repeated(shared):
    with pytest.raises(ValueError, match="URL of a Redis") as caught:
        check_url(shared)
    assert "s3cret" not in str(caught.value) and f"'{shared}'" not in str(caught.value)


def test_what_is_no_string_is_refused():
    with pytest.raises(ValueError, match=r"Quota\.shared must be a string, not bool"):
        check_url(True)


def test_a_url_means_itself_and_a_variable_what_it_holds(monkeypatch):
    monkeypatch.setenv("JOB_REDIS", "rediss://user:s3cret@cache:6380/1\n")
    assert find_url("redis://localhost") == "redis://localhost"
    assert find_url("JOB_REDIS") == "rediss://user:s3cret@cache:6380/1"


@pytest.mark.parametrize("value", [None, "", " ", "s3cret", "redis://:s3cret/x@h", "redis://h?nonsense=s3cret"])
def test_a_variable_that_holds_no_url_stops_the_job_and_its_value_is_not_shown(monkeypatch, value):
    monkeypatch.delenv("JOB_REDIS", raising=False)
    if value is not None:
        monkeypatch.setenv("JOB_REDIS", value)
    with pytest.raises(errors.SharedQuotaError, match="JOB_REDIS") as caught:
        find_url("JOB_REDIS")
    assert caught.value.action == "stop" and "s3cret" not in str(caught.value)
