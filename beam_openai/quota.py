"""Requests and tokens per minute: wait until it fits.

Three things decide when a request of c tokens may be sent, and the longest wait counts:

    the user's ceiling   in every window of 60 s at most `limit`, and evenly: a send of c is followed by c * 60 / limit
                         seconds in which nothing is sent
    the server's bucket  as its last x-ratelimit headers told it: level + refill * (now - then) - what was sent since >= c,
                         with refill = (limit - remaining) / reset
    a pause              what a 429 asked for

Time is a parameter: nothing here sleeps or reads a clock.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Mapping

from beam_openai import durations

_WINDOW = 60.0
_FORGOTTEN = float("-inf")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quota:
    """A ceiling of the user's own for each worker process, beside what the server's headers say, which is always obeyed.

    Attributes:
      requests_per_minute: requests in any 60 seconds; None for no ceiling. Retries count.
      tokens_per_minute: tokens in any 60 seconds; reserved by estimate, corrected by the answer's usage.
      shared: reserved for one ceiling shared by all workers; not supported by this version, so it must be None.

    Raises:
      ValueError: a value that can never work.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    shared: str | None = None

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"Quota.{name} must be more than 0, not {value!r}")
        if self.shared is not None:
            raise ValueError("Quota(shared=...) is not supported by this version: a quota holds for one worker process")


@dataclasses.dataclass
class Grant:
    """Leave to send one request of `tokens`; `sent` is what had been sent by then, requests and tokens, with it."""

    tokens: float
    sent: list[float]
    reserved: list[float]


class Limiter:
    """Keeps a `Quota` and what the server says of its own, for all threads of a process.

    Args:
      quota: the user's ceiling.
      now: seconds of a monotonic clock; so are all `now` below.
    """

    def __init__(self, quota: Quota, now: float) -> None:
        self._lock = threading.Lock()
        self._ceilings = (
            _Ceiling(quota.requests_per_minute, now),
            _Ceiling(quota.tokens_per_minute, now),
        )
        self._buckets = (_Bucket(), _Bucket())
        self._paused_until = now
        self._largest = quota.tokens_per_minute

    @property
    def largest(self) -> float | None:
        """The most tokens that one request may have and ever pass; None where nothing limits it."""
        limits = [limit for limit in (self._largest, self._buckets[1].limit) if limit]
        return min(limits, default=None)

    def wait(self, tokens: float, now: float) -> float:
        """Seconds until a request of so many tokens may be sent; 0.0 if it may be sent now."""
        with self._lock:
            waits = [self._paused_until - now]
            for cost, ceiling, bucket in zip((1.0, tokens), self._ceilings, self._buckets):
                waits += [ceiling.wait(cost, now), bucket.wait(cost, now)]
            return max(0.0, *waits)

    def take(self, tokens: float, now: float) -> Grant:
        """Counts a request that is about to be sent."""
        with self._lock:
            reserved: list[float] = []
            for cost, ceiling, bucket in zip((1.0, tokens), self._ceilings, self._buckets):
                reserved = ceiling.take(cost, now)
                bucket.sent += cost
            return Grant(tokens, [bucket.sent for bucket in self._buckets], reserved)

    def settle(self, grant: Grant, used: float) -> None:
        """Corrects what was reserved by what was used: 0 for a request that was refused or never arrived."""
        with self._lock:
            self._ceilings[1].settle(grant.reserved, used)

    def cancel(self, grant: Grant) -> None:
        """Takes back a request that was not sent after all."""
        with self._lock:
            for cost, bucket in zip((1.0, grant.tokens), self._buckets):
                bucket.sent -= cost
            self._ceilings[1].settle(grant.reserved, 0)

    def observe(self, grant: Grant, headers: Mapping[str, str], now: float) -> None:
        """Learns from an answer's x-ratelimit headers (names in lower case)."""
        with self._lock:
            for what, bucket, sent in zip(("requests", "tokens"), self._buckets, grant.sent):
                bucket.observe(headers, what, sent, now)

    def pause(self, seconds: float, now: float) -> None:
        """Nothing is sent for so long."""
        with self._lock:
            self._paused_until = max(self._paused_until, now + seconds)


class _Ceiling:
    """At most `limit` in any 60 s, spread evenly."""

    def __init__(self, limit: float | None, now: float) -> None:
        self._limit = limit
        self._next = now
        self._sum = 0.0
        self._log: collections.deque[list[float]] = collections.deque()

    def wait(self, cost: float, now: float) -> float:
        if self._limit is None:
            return 0.0
        self._forget(now)
        wait, over = self._next - now, self._sum + cost - self._limit
        for at, taken in self._log:
            if over <= 1e-9:
                break
            wait, over = max(wait, at + _WINDOW - now), over - taken
        return wait

    def take(self, cost: float, now: float) -> list[float]:
        entry = [now, cost]
        if self._limit is None:
            return entry
        # The pace is kept from when the last send was due, so that a late wake-up is made up for, but never a burst.
        due = max(self._next, now - 1.0)
        self._next = due + cost * _WINDOW / self._limit
        self._sum += cost
        self._log.append(entry)
        return entry

    def settle(self, entry: list[float], used: float) -> None:
        if self._limit is None or entry[0] == _FORGOTTEN:
            return
        correction = used - entry[1]
        entry[1] = used
        self._sum += correction
        self._next += correction * _WINDOW / self._limit

    def _forget(self, now: float) -> None:
        while self._log and self._log[0][0] <= now - _WINDOW:
            entry = self._log.popleft()
            self._sum -= entry[1]
            entry[0] = _FORGOTTEN


class _Bucket:
    """The server's bucket, as far as its headers tell."""

    def __init__(self) -> None:
        self.limit: float | None = None
        self.sent = 0.0
        self._level = 0.0
        self._refill = 0.0
        self._at = 0.0
        self._counted = 0.0
        self._empty_until = 0.0

    def observe(self, headers: Mapping[str, str], what: str, sent: float, now: float) -> None:
        limit = durations.parse_duration(headers.get(f"x-ratelimit-limit-{what}"))
        level = durations.parse_duration(headers.get(f"x-ratelimit-remaining-{what}"))
        reset = durations.parse_duration(headers.get(f"x-ratelimit-reset-{what}"))
        if level is None or (limit is not None and level > limit):
            return
        # An answer that overtook a later one's tells of the past: its level would count the later request twice.
        if sent < self._counted and now - self._at < 1.0:
            return
        self.limit = limit or self.limit
        self._level, self._at, self._counted = level, now, sent
        if limit and reset:
            self._refill = (limit - level) / reset
        elif limit:
            self._refill = limit / _WINDOW
        self._empty_until = now + (reset or 0.0) if level == 0 else 0.0

    def wait(self, cost: float, now: float) -> float:
        if not self._at or not (self._refill or self._empty_until):
            return 0.0
        wait = self._empty_until - now
        if self.limit is not None and cost > self.limit:
            return wait
        ceiling = self.limit if self.limit is not None else float("inf")
        level = min(ceiling, self._level + self._refill * (now - self._at))
        missing = cost - (level - (self.sent - self._counted))
        return max(wait, missing / self._refill) if missing > 0 and self._refill else wait
