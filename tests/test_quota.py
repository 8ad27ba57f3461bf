"""Requests and tokens per minute, as timetables: no clock runs here."""

import bisect
import heapq
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_openai.quota import Limiter, Quota

START = 1000.0


def limiter(**quota):
    return Limiter(Quota(**quota), START)


def headers(limit=None, remaining=None, reset=None, what="requests"):
    said = {"limit": limit, "remaining": remaining, "reset": reset}
    return {f"x-ratelimit-{name}-{what}": str(value) for name, value in said.items() if value is not None}


def send_all(running, costs, now=START, latency=lambda number: 0.0, used=None, until=math.inf):
    """Sends as soon as the limiter lets it; returns when each was sent, and what it turned out to cost."""
    sent, due = [], []
    for number, cost in enumerate(costs):
        for _ in range(10_000):
            wait = running.wait(cost, now)
            if wait <= 0:
                break
            now += max(wait, 1e-6)
            while due and due[0][0] <= now:
                _, _, grant, actual = heapq.heappop(due)
                running.settle(grant, actual)
        else:
            raise AssertionError(f"request {number} waits for ever")
        if now > until:
            break
        grant = running.take(cost, now)
        actual = cost if used is None else used[number]
        heapq.heappush(due, (now + latency(number), number, grant, actual))
        sent.append((now, actual))
    return sent


def most_in_a_window(sent, window=60.0):
    """The most that any half-open window of so many seconds holds."""
    times = [at for at, _ in sent]
    sums = [0.0, *itertools.accumulate(cost for _, cost in sent)]
    starts = range(len(sent))
    return max((sums[bisect.bisect_left(times, times[i] + window - 1e-6)] - sums[i] for i in starts), default=0.0)


# The user's ceiling


@given(
    st.lists(st.floats(0.5, 100), min_size=1, max_size=300),
    st.floats(100, 3000),
    st.lists(st.floats(0, 90), min_size=1, max_size=9),
)
@settings(max_examples=60, deadline=None)
def test_no_window_of_a_minute_ever_holds_more_tokens_than_the_ceiling(costs, limit, latencies):
    sent = send_all(limiter(tokens_per_minute=limit), costs, latency=lambda number: latencies[number % len(latencies)])
    assert most_in_a_window(sent) <= limit * (1 + 1e-9)


@given(st.integers(1, 300), st.integers(1, 400))
@settings(max_examples=40, deadline=None)
def test_no_window_of_a_minute_ever_holds_more_requests_than_the_ceiling(limit, count):
    sent = [(at, 1) for at, _ in send_all(limiter(requests_per_minute=limit), [5.0] * count)]
    assert most_in_a_window(sent) <= limit


@given(st.lists(st.floats(1, 50), min_size=1, max_size=200), st.lists(st.floats(0, 1), min_size=1, max_size=7))
@settings(max_examples=40, deadline=None)
def test_what_turned_out_to_cost_less_is_not_lost_and_the_ceiling_still_holds(costs, shares):
    used = [cost * shares[number % len(shares)] for number, cost in enumerate(costs)]
    sent = send_all(limiter(tokens_per_minute=500), costs, latency=lambda number: 0.3, used=used)
    assert most_in_a_window(sent) <= 500 * (1 + 1e-9)


@pytest.mark.parametrize("quota", [{"requests_per_minute": 600}, {"tokens_per_minute": 6000}])
def test_a_saturated_ceiling_is_used_to_the_full_and_evenly(quota):
    sent = send_all(limiter(**quota), [10.0] * 10_000, until=START + 600)
    per_minute = [sum(START + 60 * i <= at < START + 60 * (i + 1) for at, _ in sent) for i in range(10)]
    assert all(594 <= count <= 600 for count in per_minute)
    gaps = [after - before for (before, _), (after, _) in itertools.pairwise(sent)]
    assert min(gaps) == pytest.approx(0.1) == max(gaps)


def test_tokens_and_requests_both_count_and_the_longer_wait_wins():
    running = limiter(requests_per_minute=60, tokens_per_minute=600)
    running.take(100, START)
    assert running.wait(1, START) == pytest.approx(10)
    running = limiter(requests_per_minute=6, tokens_per_minute=600)
    running.take(1, START)
    assert running.wait(1, START) == pytest.approx(10)


def test_a_late_sender_makes_up_for_a_second_and_no_more():
    running = limiter(requests_per_minute=600)
    running.take(1, START)
    at_once = 0
    while running.wait(1, START + 30) <= 0:
        running.take(1, START + 30)
        at_once += 1
    assert at_once == 11


def test_what_was_reserved_too_much_is_free_again_when_the_answer_tells():
    running = limiter(tokens_per_minute=100)
    grant = running.take(100, START)
    assert running.wait(50, START + 5) == pytest.approx(55)
    running.settle(grant, 5)
    assert running.wait(50, START + 5) <= 0


def test_what_was_reserved_too_little_is_paid_for_later():
    running = limiter(tokens_per_minute=100)
    running.settle(running.take(1, START), 100)
    assert running.wait(1, START + 1) == pytest.approx(59)


def test_a_refused_request_costs_no_tokens_but_counts_as_a_request():
    running = limiter(tokens_per_minute=100, requests_per_minute=1)
    running.settle(running.take(100, START), 0)
    assert running.wait(100, START) == pytest.approx(60)


def test_a_request_that_was_not_sent_gives_everything_back():
    running = limiter(tokens_per_minute=100, requests_per_minute=1)
    running.cancel(running.take(100, START))
    assert running.wait(100, START) <= 0
    running.take(100, START)
    assert running.wait(1, START) == pytest.approx(60)


def test_settling_what_is_long_past_changes_nothing():
    running = limiter(tokens_per_minute=100)
    grant = running.take(100, START)
    assert running.wait(100, START + 61) <= 0
    running.settle(grant, 10_000)
    assert running.wait(100, START + 61) <= 0


def test_a_request_larger_than_the_ceiling_passes_when_nothing_else_is_in_the_window():
    sent = send_all(limiter(tokens_per_minute=100), [50, 500, 50])
    assert len(sent) == 3 and sent[1][0] - sent[0][0] == pytest.approx(60, abs=1e-3)


def test_without_a_quota_nothing_waits():
    running = limiter()
    for _ in range(1000):
        assert running.wait(1e9, START) == 0
        running.take(1e9, START)
    assert running.largest is None


def test_a_pause_holds_everything_and_the_longest_counts():
    running = limiter()
    running.pause(20, START)
    running.pause(5, START + 1)
    assert running.wait(1, START + 2) == pytest.approx(18)
    assert running.wait(1, START + 20) == 0


@pytest.mark.parametrize(
    "field",
    [{"requests_per_minute": 0}, {"tokens_per_minute": -1}, {"tokens_per_minute": float("nan")}, {"shared": "redis"}],
)
def test_what_can_never_work_is_refused(field):
    with pytest.raises(ValueError, match=str(next(iter(field)))):
        Quota(**field)


# The server's bucket


def test_the_headers_of_an_answer_say_how_much_may_be_sent():
    running = limiter()
    grant = running.take(1, START)
    running.observe(grant, headers(60, 2, "58s"), START)
    for _ in range(2):
        assert running.wait(1, START) == 0
        running.take(1, START)
    assert running.wait(1, START) == pytest.approx(1)
    assert running.wait(1, START + 1) == 0


def test_nothing_left_and_a_reset_in_three_seconds_means_to_wait_three_seconds():
    for what in ("requests", "tokens", "project-tokens"):
        running = limiter()
        running.observe(running.take(10, START), headers(1000, 0, "3s", what), START)
        assert running.wait(1, START) == pytest.approx(3)
        assert running.wait(1, START + 3) <= 0


def test_a_reset_alone_is_enough_where_the_limit_is_not_said():
    running = limiter()
    running.observe(running.take(1, START), headers(None, 0, "3"), START)
    assert running.wait(1, START) == pytest.approx(3)
    assert running.wait(1, START + 3) <= 0


def test_what_is_in_flight_is_not_counted_twice():
    running = limiter()
    first = running.take(1, START)
    for _ in range(5):
        running.take(1, START)
    running.observe(first, headers(60, 7, "53s"), START)
    assert running.wait(1, START) == 0
    running.take(1, START)
    running.take(1, START)
    assert running.wait(1, START) == pytest.approx(1)


def test_an_answer_that_was_overtaken_by_a_later_one_tells_nothing():
    running = limiter()
    first, second = running.take(1, START), running.take(1, START)
    running.observe(second, headers(60, 0, "60s"), START + 1)
    running.observe(first, headers(60, 50, "10s"), START + 5)
    assert running.wait(1, START + 5) == pytest.approx(56)


def test_requests_that_never_get_an_answer_do_not_stop_everything_for_ever():
    running = limiter()
    running.observe(running.take(1, START), headers(60, 59, "1s"), START)
    sent = send_all(running, [1.0] * 300)  # not one of them is answered
    assert len(sent) == 300 and sent[-1][0] - START == pytest.approx(240, abs=5)


def test_a_request_that_was_not_sent_is_given_back_to_the_bucket():
    running = limiter()
    running.observe(running.take(1, START), headers(60, 1, "59s"), START)
    running.cancel(running.take(1, START))
    assert running.wait(1, START) == 0
    grant = running.take(1, START)
    running.observe(grant, headers(60, 30, "30s"), START)
    assert running.wait(30, START) == 0


def test_a_request_larger_than_the_bucket_does_not_wait_for_ever_and_largest_says_so():
    running = limiter(tokens_per_minute=500)
    assert running.largest == 500
    running.observe(running.take(10, START), headers(300, 290, "2s", "tokens"), START)
    assert running.largest == 300
    running.observe(running.take(10, START), headers(200, 180, "2s", "project-tokens"), START)
    assert running.largest == 200
    assert running.wait(301, START + 60) == 0


@pytest.mark.parametrize(
    "said",
    [
        {},
        headers(-1, -1, -1),
        headers(60, -1, "1s"),
        headers("x", "y", "z"),
        headers("", "", ""),
        headers(60, "nan", "inf"),
        headers(60, 61, "1s"),
        headers(60, None, "1s"),
        headers(None, 5, None),
        headers(0, 5, None),
    ],
)
def test_headers_that_lie_or_lack_say_nothing(said):
    running = limiter()
    running.observe(running.take(1, START), said, START)
    for _ in range(100):
        assert running.wait(1, START) == 0
        running.take(1, START)


@pytest.mark.parametrize(
    "said", [headers(0, 0, None), headers(60, 60, "1s"), headers(60, 0, "0s"), headers(60, 30, "0s")]
)
def test_odd_headers_hold_nothing_for_more_than_a_minute(said):
    running = limiter()
    running.observe(running.take(1, START), said, START)
    sent = send_all(running, [1.0] * 120)
    assert len(sent) == 120 and sent[-1][0] - START < 121


numbers = st.sampled_from(["-1", "0", "0s", "1", "5", "60", "1e3", "6m0s", "17ms", "", "x", "nan", "9" * 400])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["requests", "tokens", "project-tokens"]), numbers, numbers, numbers, st.floats(0, 100)
        ),
        max_size=20,
    )
)
def test_no_headers_make_it_raise_and_the_next_request_always_has_its_time(said):
    running, now = limiter(requests_per_minute=60), START
    for what, limit, remaining, reset, later in said:
        grant = running.take(5, now)
        now += later
        running.observe(grant, headers(limit, remaining, reset, what), now)
        wait = running.wait(5, now)
        assert 0 <= wait <= 10_000 and running.wait(5, now + wait + 1e-3) <= 1e-3


def simulate(limit, latency, minutes, in_flight=64):
    """A sender of `in_flight` places against the emulator's own bucket; how many were admitted, and how many refused."""
    running = limiter()
    bucket = Bucket(limit, 60.0, START)
    now, flying, admitted, refused = START, [], 0, 0
    while now < START + 60 * minutes:
        while flying and flying[0][0] <= now:
            _, _, grant, said = heapq.heappop(flying)
            running.observe(grant, said, now)
        wait = running.wait(1, now) if len(flying) < in_flight else math.inf
        if wait <= 0:
            grant = running.take(1, now)
            if bucket.try_take(now):
                admitted += 1
            else:
                refused += 1
            said = headers(*bucket.says(now))
            heapq.heappush(flying, (now + latency(admitted), admitted + refused, grant, said))
        else:
            now = min(now + wait, flying[0][0] if flying else math.inf) + 1e-6
    return admitted, refused


class Bucket:
    """The documented law: replenished continuously, full after `limit` / rate seconds."""

    def __init__(self, limit, window, now):
        self._limit, self._window, self._level, self._at = limit, window, limit, now

    def _refill(self, now):
        self._level = min(self._limit, self._level + (now - self._at) * self._limit / self._window)
        self._at = now

    def try_take(self, now):
        self._refill(now)
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def says(self, now):
        self._refill(now)
        level = math.floor(self._level)
        return self._limit, level, f"{round((self._limit - level) * self._window / self._limit * 1000)}ms"


@pytest.mark.parametrize("limit", [60, 600, 6000])
@pytest.mark.parametrize("latency", [lambda n: 0.2, lambda n: 0.1 + 5.0 * (n % 17 == 0), lambda n: 2.0])
def test_a_server_s_bucket_is_used_to_the_full_and_hardly_ever_hit(limit, latency):
    minutes = 10
    admitted, refused = simulate(limit, latency, minutes)
    most = min(limit * minutes, 64 / (sum(map(latency, range(170))) / 170) * 60 * minutes)
    assert admitted >= 0.93 * most
    assert refused <= 0.01 * admitted + 3
