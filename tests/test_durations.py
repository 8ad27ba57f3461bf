"""Seconds out of what servers write."""

import datetime
import email.utils
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_openai.durations import parse_duration, retry_after

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("6m0s", 360),
        ("17ms", 0.017),
        ("1s", 1),
        ("1h2m3.5s", 3723.5),
        ("20ms", 0.02),
        ("8ms", 0.008),
        ("1.2s", 1.2),
        ("8.64s", 8.64),
        ("1m30s", 90),
        ("7m12s", 432),
        ("1h0m0s", 3600),
        ("0s", 0),
        ("500µs", 0.0005),
        ("500μs", 0.0005),
        ("500us", 0.0005),
        ("1.5ns", 1.5e-9),
        ("55", 55),
        (" 0.25 ", 0.25),
        ("0", 0),
    ],
)
def test_go_durations_and_bare_numbers_are_seconds(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


def test_a_micro_sent_in_utf8_is_read_although_headers_are_latin_1():
    assert parse_duration("20µs".encode().decode("latin-1")) == pytest.approx(20e-6)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "x",
        "-1",
        "-1s",
        "nan",
        "inf",
        "1_000",
        "\u0661s",
        "1e999",
        "9" * 400 + "s",
        "5 s",
        "s",
        "6m0",
        "m",
        "1.s",
    ],
)
def test_what_is_no_duration_is_none(text):
    assert parse_duration(text) is None


@given(st.text())
def test_no_text_raises_and_every_result_is_finite(text):
    for seconds in (parse_duration(text), retry_after({"retry-after": text, "retry-after-ms": text}, text, NOW)):
        assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


@given(
    st.from_regex(
        r"(Mon|Tue)?,? ?\d{1,30} (Jan|Feb|Foo) \d{1,30} \d{1,9}:\d{1,9}(:\d{1,9})? ([+-]\d{1,30}|GMT)", fullmatch=True
    )
)
def test_no_date_raises(date):
    seconds = retry_after({"retry-after": date}, "", NOW)
    assert seconds is None or seconds > 0


def go(nanoseconds: int) -> str:
    """Go's time.Duration.String()."""
    if nanoseconds < 1_000_000_000:
        for size, unit in ((1_000_000, "ms"), (1000, "µs"), (1, "ns")):
            if nanoseconds >= size:
                return f"{nanoseconds / size:.9f}".rstrip("0").rstrip(".") + unit
        return "0s"
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{seconds}.{rest:09d}".rstrip("0").rstrip(".") + "s"
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + text


@given(st.integers(0, 10**16))
def test_every_go_duration_comes_back(nanoseconds):
    assert parse_duration(go(nanoseconds)) == pytest.approx(nanoseconds / 1e9, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    "headers, message, seconds",
    [
        ({"retry-after-ms": "1500", "retry-after": "60"}, "try again in 7s", 1.5),
        ({"retry-after-ms": "x", "retry-after": "60"}, "", 60),
        ({"retry-after-ms": "-5", "retry-after": "60"}, "", 60),
        ({"retry-after-ms": "0", "retry-after": "60"}, "", 60),
        ({"retry-after": "2"}, "try again in 7s", 2),
        ({"retry-after": "0.5"}, "", 0.5),
        ({"retry-after": "86400"}, "", 86400),
        ({"retry-after": "0"}, "Please try again in 644ms.", 0.644),
        ({"retry-after": "-10"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "inf"}, "", None),
        ({"retry-after": ""}, "", None),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "99999999999999"}, "", 99999999999999),
        ({}, "Please try again in 20s. Visit https://platform.openai.com", 20),
        ({}, "Please try again in 6m0s. Visit", 360),
        ({}, "Please try again in 11.75s. Visit", 11.75),
        ({}, "Please retry after 55 seconds. To increase", 55),
        ({}, "Please retry after 86400 seconds.", 86400),
        ({}, "Try again in 2 minutes", 120),
        ({}, "try again in 250 milliseconds", 0.25),
        ({}, "try again in 250 ms", 0.25),
        ({}, "try again in 2 hours", 7200),
        ({}, "try again in 1 day", 86400),
        ({}, "Please retry in 32.603s.", 32.603),
        ({}, "The server had an error", None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "3s"}, "", 3),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, "", 360),
        ({"x-ratelimit-remaining-project-tokens": "0", "x-ratelimit-reset-project-tokens": "4s"}, "", 4),
        ({"x-ratelimit-remaining-images": "0", "x-ratelimit-reset-images": "12s"}, "", 12),
        ({"x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "6m0s"}, "", None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "-1"}, "", None),
        ({"x-ratelimit-remaining-tokens": "0"}, "", None),
        ({"retry-after": "2", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "9s"}, "", 2),
    ],
)
def test_the_wait_is_taken_from_the_most_precise_that_says_one(headers, message, seconds):
    assert retry_after(headers, message, NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%a, %d %b %Y %H:%M:%S -0000"])
def test_a_date_is_the_seconds_until_then(form):
    then = datetime.datetime.fromtimestamp(NOW + 20, datetime.timezone.utc)
    assert retry_after({"retry-after": then.strftime(form)}, "", NOW) == pytest.approx(20)


def test_a_date_that_has_passed_says_nothing():
    assert retry_after({"retry-after": email.utils.formatdate(NOW - 5, usegmt=True)}, "", NOW) is None
