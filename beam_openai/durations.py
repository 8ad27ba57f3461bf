"""Seconds out of what servers write: Go durations, Retry-After in all its forms, "try again in 6m0s"."""

from __future__ import annotations

import datetime
import email.utils
import math
import re
from collections.abc import Mapping

# The third of the micros is Go's, sent in UTF-8 and read as Latin-1, which is how headers are read.
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "Âµs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
_PART = re.compile(rf"([0-9]+(?:\.[0-9]+)?)({'|'.join(sorted(_UNITS, key=len, reverse=True))})")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_TRY_AGAIN = re.compile(
    r"(?:try again|retry) (?:in|after) ([0-9][0-9hmsuµn.]*)(?:\s*(ms|milli|min|hour|day))?",
    re.IGNORECASE,
)


def parse_duration(text: str | None) -> float | None:
    """Seconds of a Go duration ("6m0s", "17ms", "1h2m3.5s") or of a bare number; None where it is neither.

    Source: `x-ratelimit-reset-*` headers are Go's `time.Duration.String()`; Azure and LiteLLM send bare seconds.
    """
    text = (text or "").strip()
    number = _number(text)
    if number is not None:
        return number if number >= 0 else None
    if not _DURATION.fullmatch(text):
        return None
    seconds = sum(float(value) * _UNITS[unit] for value, unit in _PART.findall(text))
    return seconds if math.isfinite(seconds) else None


def retry_after(headers: Mapping[str, str], message: str, now: float) -> float | None:
    """Seconds that the server asks to wait before the next attempt; None where it does not say, or not sanely.

    In this order: `retry-after-ms`, `retry-after` (seconds, fraction or HTTP date), "try again in 644ms" in the
    message, and the reset of a bucket that `x-ratelimit-remaining-*` says is empty.

    Args:
      headers: names in lower case.
      message: the error's message.
      now: Unix time in seconds, for dates.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None and milliseconds > 0:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is None and value:
        seconds = _seconds_until(value, now)
    if seconds is not None and seconds > 0:
        return seconds
    return _from_message(message) or _from_empty_bucket(headers)


def _number(text: str | None) -> float | None:
    # Stricter than float(), which also takes "1_000", "nan" and other alphabets' digits.
    text = (text or "").strip()
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    return number if math.isfinite(number) else None


def _seconds_until(date: str, now: float) -> float | None:
    try:
        when = email.utils.parsedate_to_datetime(date)
        if when.tzinfo is None:
            when = when.replace(tzinfo=datetime.timezone.utc)
        return when.timestamp() - now
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def _from_message(message: str) -> float | None:
    found = _TRY_AGAIN.search(message)
    if not found:
        return None
    amount, word = found.group(1).rstrip("."), (found.group(2) or "").lower()
    scale = {"ms": 1e-3, "milli": 1e-3, "min": 60.0, "hour": 3600.0, "day": 86_400.0}.get(word, 1.0)
    seconds = parse_duration(amount)
    return seconds * scale if seconds else None


def _from_empty_bucket(headers: Mapping[str, str]) -> float | None:
    resets = [
        parse_duration(headers.get(name.replace("remaining", "reset")))
        for name, value in headers.items()
        if name.startswith("x-ratelimit-remaining-") and value.strip() == "0"
    ]
    return max((reset for reset in resets if reset), default=None)
