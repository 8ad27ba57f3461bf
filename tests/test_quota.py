"""A limiter as a whole: what it says with several things to obey. No clock runs here."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timetables import START, headers, limiter, send_all, tokens

from beam_openai.quota import Cost, Quota


def test_without_a_quota_nothing_waits():
    running = limiter()
    for _ in range(1000):
        assert running.wait(tokens(1e9), START) == 0
        running.take(tokens(1e9), START)
    assert running.largest is None and running.used(START) is None


def test_a_pause_holds_everything_and_the_longest_counts():
    running = limiter()
    running.pause(20, START)
    running.pause(5, START + 1)
    assert running.wait(tokens(1), START + 2) == pytest.approx(18)
    assert running.wait(tokens(1), START + 20) == 0


@pytest.mark.parametrize(
    "field",
    [
        {"requests_per_minute": 0},
        {"tokens_per_minute": -1},
        {"tokens_per_minute": float("nan")},
        {"images_per_minute": 0},
        {"audio_megabytes_per_minute": 0},
        {"shared": "redis"},
    ],
)
def test_what_can_never_work_is_refused(field):
    with pytest.raises(ValueError, match=str(next(iter(field)))):
        Quota(**field)


@pytest.mark.parametrize(
    ("what", "cost", "other"),
    [
        ("requests", Cost(1, 10), None),
        ("project-requests", Cost(1, 10), None),
        ("tokens", Cost(1, 10), Cost(1)),
        ("project-tokens", Cost(1, 10), Cost(1)),
        ("images", Cost(1, 0, 1), Cost(1, 10)),
    ],
)
def test_a_bucket_that_is_empty_holds_what_takes_of_it_and_nothing_else(what, cost, other):
    running = limiter()
    running.observe(running.take(cost, START), headers(60, 0, "60s", what), START)
    assert running.wait(cost, START) >= 1
    assert other is None or running.wait(other, START) == 0


def test_a_request_larger_than_the_bucket_does_not_wait_for_ever():
    running = limiter()
    running.observe(running.take(tokens(10), START), headers(300, 290, "2s", "tokens"), START)
    assert running.wait(tokens(301), START + 60) == 0


def test_a_request_of_several_rows_takes_a_fortieth_of_the_smallest_limit_or_what_half_of_the_requests_need_up_to_a_third():
    running = limiter(tokens_per_minute=5000)
    assert running.largest == 125
    running.observe(running.take(tokens(10), START), headers(3000, 2990, "200ms", "tokens"), START)
    assert running.largest == 75
    running.observe(running.take(tokens(10), START), headers(2000, 1980, "600ms", "project-tokens"), START)
    assert running.largest == 50
    running.observe(running.take(tokens(10), START), headers(20, 19, "3s"), START)
    assert running.largest == pytest.approx(200)
    running.observe(running.take(tokens(10), START), headers(1, 0, "1m0s", "project-requests"), START)
    assert running.largest == pytest.approx(2000 / 3)


def test_what_is_in_use_is_a_share_of_the_nearer_limit():
    running = limiter(requests_per_minute=60, tokens_per_minute=1000)
    for second in range(30):
        running.take(tokens(10), START + second)
    assert running.used(START + 30) == pytest.approx(1)
    assert running.used(START + 59) == pytest.approx(0.5, abs=0.01)
    assert 0 <= running.used(START + 1000) <= 0.01


numbers = st.sampled_from(
    ["-1", "0", "0s", "1", "5", "60", "1e3", "10000", "6m0s", "17ms", "24h0m0s", "", "x", "nan", "9" * 400]
)
buckets = st.sampled_from(["requests", "tokens", "project-tokens", "images"])


@given(
    st.lists(st.tuples(buckets, numbers, numbers, numbers, st.floats(0, 100), st.booleans()), max_size=30),
    st.floats(0.1, 1000),
)
@settings(max_examples=300, deadline=None)
def test_no_headers_make_it_raise_and_the_next_request_always_has_its_time(said, cost):
    running, now, cost = limiter(requests_per_minute=60), START, Cost(1, cost, 1)
    for what, limit, remaining, reset, later, refused in said:
        grant = running.take(cost, now)
        now += later
        running.observe(grant, headers(limit, remaining, reset, what), now, refused)
    for _ in range(3):
        wait = running.wait(cost, now)
        assert 0 <= wait <= 300.001
        now += wait + 1e-3
        assert running.wait(cost, now) <= 1e-3
        running.take(cost, now)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=60))
@settings(max_examples=100, deadline=None)
def test_without_headers_too_the_next_request_has_its_time_within_five_minutes(answers):
    running, now = limiter(), START
    for refused, later in answers:
        grant = running.take(tokens(5), now)
        now += later
        running.observe(grant, {}, now, refused)
        now += max(0.0, running.wait(tokens(5), now))
    running.take(tokens(5), now)
    assert 0 <= running.wait(tokens(5), now) <= 300.001


def test_requests_that_never_get_an_answer_do_not_stop_everything_for_ever():
    running = limiter()
    running.observe(running.take(tokens(1), START), headers(60, 59, "1s"), START)
    running.observe(running.take(tokens(1), START + 1), headers(60, 30, "30s"), START + 1)
    sent = send_all(running, [1.0] * 50)  # not one of them is answered
    assert len(sent) == 50 and sent[-1][0] - START < 700
