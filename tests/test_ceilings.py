"""The user's own ceiling, as timetables: no clock runs here."""

import bisect
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timetables import START, limiter, send_all, tokens

from beam_openai.quota import Cost


def most_in_a_window(sent, window=60.0):
    """The most that any half-open window of so many seconds holds."""
    times = [at for at, _ in sent]
    sums = [0.0, *itertools.accumulate(cost for _, cost in sent)]
    starts = range(len(sent))
    return max((sums[bisect.bisect_left(times, times[i] + window - 1e-6)] - sums[i] for i in starts), default=0.0)


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
    running.take(tokens(100), START)
    assert running.wait(tokens(1), START) == pytest.approx(10)
    running = limiter(requests_per_minute=6, tokens_per_minute=600)
    running.take(tokens(1), START)
    assert running.wait(tokens(1), START) == pytest.approx(10)


def test_images_have_a_ceiling_of_their_own_and_requests_without_images_pass_it():
    running = limiter(images_per_minute=5)
    running.take(Cost(1, 0, 4), START)
    assert running.wait(Cost(1, 0, 1), START) == pytest.approx(48)
    assert running.wait(Cost(1, 100), START) == 0


def test_audio_has_a_ceiling_of_its_own_and_is_corrected_by_how_long_it_turned_out_to_be():
    running = limiter(audio_megabytes_per_minute=100)
    grant = running.take(Cost(audio=50), START)
    assert running.wait(Cost(audio=60), START) == pytest.approx(60)
    assert running.wait(Cost(1, 100, 1), START) == 0
    running.settle(grant, audio=10)
    assert running.wait(Cost(audio=60), START) == pytest.approx(6)
    running.forgive(grant)
    assert running.wait(Cost(audio=100), START) == 0


def test_what_has_left_the_window_is_forgotten_also_where_nothing_is_waited_for():
    running = limiter(images_per_minute=60)
    for second in range(1000):
        running.take(tokens(1), START + second)
    ((_, ceiling),) = running._ceilings
    assert len(ceiling._log) <= 61


def test_a_late_sender_makes_up_for_a_second_and_no_more():
    running = limiter(requests_per_minute=600)
    running.take(tokens(1), START)
    at_once = 0
    while running.wait(tokens(1), START + 30) <= 0:
        running.take(tokens(1), START + 30)
        at_once += 1
    assert at_once == 11


def test_what_was_reserved_too_much_is_free_again_when_the_answer_tells():
    running = limiter(tokens_per_minute=100)
    grant = running.take(tokens(100), START)
    assert running.wait(tokens(50), START + 5) == pytest.approx(55)
    running.settle(grant, tokens=5)
    assert running.wait(tokens(50), START + 5) <= 0


def test_what_was_reserved_too_little_is_paid_for_later():
    running = limiter(tokens_per_minute=100)
    running.settle(running.take(tokens(1), START), tokens=100)
    assert running.wait(tokens(1), START + 1) == pytest.approx(59)


def test_a_refused_request_costs_no_tokens_but_counts_as_a_request():
    running = limiter(tokens_per_minute=100, requests_per_minute=1)
    running.forgive(running.take(tokens(100), START))
    assert running.wait(tokens(100), START) == pytest.approx(60)


def test_a_request_that_was_not_sent_gives_everything_back():
    running = limiter(tokens_per_minute=100, requests_per_minute=1)
    running.cancel(running.take(tokens(100), START))
    assert running.wait(tokens(100), START) <= 0
    running.take(tokens(100), START)
    assert running.wait(tokens(1), START) == pytest.approx(60)


def test_settling_what_is_long_past_changes_nothing():
    running = limiter(tokens_per_minute=100)
    grant = running.take(tokens(100), START)
    assert running.wait(tokens(100), START + 61) <= 0
    running.settle(grant, tokens=10_000)
    assert running.wait(tokens(100), START + 61) <= 0


def test_a_request_larger_than_the_ceiling_passes_when_nothing_else_is_in_the_window():
    sent = send_all(limiter(tokens_per_minute=100), [50, 500, 50])
    assert len(sent) == 3 and sent[1][0] - sent[0][0] == pytest.approx(60, abs=1e-3)
