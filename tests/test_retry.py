"""Whether to try again, and how long to wait."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_openai.retry import Retry


def one() -> float:
    return 1.0


def test_waits_double_from_half_a_second_up_to_a_minute():
    retry = Retry(attempts=100, max_elapsed=1e9)
    waits = [retry.wait(attempt, 0.0, uniform=one) for attempt in range(1, 11)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_jitter_is_full():
    assert Retry().wait(3, 0.0, uniform=lambda: 0.0) == 0
    assert Retry().wait(3, 0.0, uniform=lambda: 0.25) == 0.5


def test_what_the_server_asks_for_is_the_least_and_a_tenth_more_the_most():
    assert Retry().wait(1, 0.0, retry_after=20, uniform=lambda: 0.0) == 20
    assert Retry().wait(1, 0.0, retry_after=20, uniform=one) == pytest.approx(22)


def test_attempts_count_the_first_one():
    assert Retry(attempts=1).wait(1, 0.0) is None
    assert Retry(attempts=2).wait(1, 0.0) is not None
    assert Retry(attempts=2).wait(2, 0.0) is None


def test_no_attempt_begins_after_max_elapsed():
    retry = Retry(max_elapsed=10)
    assert retry.wait(1, 9.5, uniform=one) == 0.5
    assert retry.wait(1, 9.6, uniform=one) is None
    assert retry.wait(1, 0.0, retry_after=11, uniform=lambda: 0.0) is None


def test_max_wait_bounds_what_is_waited_unasked():
    assert Retry(max_wait=3).wait(5, 0.0, uniform=one) == 3


@given(st.integers(1, 10**7), st.floats(0, 1e6), st.floats(0, 0.999))
def test_a_wait_is_never_negative_and_never_past_the_end(attempt, elapsed, drawn):
    retry = Retry(attempts=10**8, max_elapsed=1e5)
    wait = retry.wait(attempt, elapsed, uniform=lambda: drawn)
    assert wait is None or (0 <= wait <= 60 and elapsed + wait <= 1e5)


@pytest.mark.parametrize("field", [{"attempts": 0}, {"max_wait": -1}, {"max_elapsed": float("nan")}])
def test_what_can_never_work_is_refused(field):
    with pytest.raises(ValueError, match=str(next(iter(field.values())))):
        Retry(**field)


def test_it_is_a_value():
    assert pickle.loads(pickle.dumps(Retry(attempts=3))) == Retry(attempts=3)
