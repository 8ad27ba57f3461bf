"""Requests and tokens per minute: wait until it fits.

Three things decide when a request of c tokens may be sent, and the longest wait counts:

    the user's ceiling   in every window of 60 s at most `limit`, and evenly: a send of c is followed by c * 60 / limit
                         seconds in which nothing is sent, less what the send was late, one second at most
    the server's bucket  as its last x-ratelimit headers told it, less what was sent since; it refills at
                         (limit - remaining) / reset, up to the limit, and has to hold c
    a pause              what a 429 asked for

Time is a parameter: nothing here sleeps or reads a clock.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Iterator, Mapping

from beam_openai import durations

_WINDOW = 60.0
_FORGOTTEN = float("-inf")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quota:
    """A ceiling of the user's own, for a model in each worker process.

    What the server's headers say is obeyed beside it.

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
    """Leave to send one request of `tokens`.

    Attributes:
      sent: what had been sent by then, with it, for each of the server's buckets.
      reserved: its entries in the ceilings of requests and of tokens.
    """

    tokens: float
    sent: list[float]
    reserved: list[list[float]]


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
        self._buckets = tuple(_Bucket(what) for what in ("requests", "tokens", "project-tokens"))
        self._paused_until = now
        self._largest = quota.tokens_per_minute

    @property
    def largest(self) -> float | None:
        """The most tokens that one request may have and ever pass; None where nothing limits it."""
        limits = [limit for limit in (self._largest, *(bucket.limit for bucket in self._buckets[1:])) if limit]
        return min(limits, default=None)

    def wait(self, tokens: float, now: float) -> float:
        """Seconds until a request of so many tokens may be sent; 0.0 if it may be sent now."""
        with self._lock:
            ceilings = [ceiling.wait(cost, now) for cost, ceiling in zip((1.0, tokens), self._ceilings)]
            buckets = [bucket.wait(cost, now) for cost, bucket in self._costs(tokens)]
            return max(0.0, self._paused_until - now, *ceilings, *buckets)

    def take(self, tokens: float, now: float) -> Grant:
        """Counts a request that is about to be sent."""
        with self._lock:
            reserved = [ceiling.take(cost, now) for cost, ceiling in zip((1.0, tokens), self._ceilings)]
            sent = [bucket.take(cost, now) for cost, bucket in self._costs(tokens)]
            return Grant(tokens, sent, reserved)

    def settle(self, grant: Grant, used: float) -> None:
        """Corrects what was reserved by what was used: 0 for a request that was refused or never arrived."""
        with self._lock:
            self._ceilings[1].settle(grant.reserved[1], used)

    def cancel(self, grant: Grant) -> None:
        """Takes back a request that was not sent after all."""
        with self._lock:
            for ceiling, entry in zip(self._ceilings, grant.reserved):
                ceiling.settle(entry, 0)
            for cost, bucket in self._costs(grant.tokens):
                bucket.give_back(cost)

    def observe(self, grant: Grant, headers: Mapping[str, str], now: float) -> None:
        """Learns from an answer's x-ratelimit headers (names in lower case)."""
        with self._lock:
            for bucket, sent in zip(self._buckets, grant.sent):
                bucket.observe(headers, sent, now)

    def pause(self, seconds: float, now: float) -> None:
        """Nothing is sent for so long."""
        with self._lock:
            self._paused_until = max(self._paused_until, now + seconds)

    def _costs(self, tokens: float) -> Iterator[tuple[float, _Bucket]]:
        return zip((1.0, tokens, tokens), self._buckets)


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

    def __init__(self, what: str) -> None:
        self.limit: float | None = None
        self._what = what
        self._sent = 0.0
        self._level: float | None = None
        self._refill = 0.0
        self._at = 0.0
        self._counted = 0.0
        self._empty_until = float("-inf")

    def observe(self, headers: Mapping[str, str], sent: float, now: float) -> None:
        limit, remaining, reset = (
            durations.parse_duration(headers.get(f"x-ratelimit-{name}-{self._what}"))
            for name in ("limit", "remaining", "reset")
        )
        if remaining is None or (limit is not None and remaining > limit):
            return
        # An answer that overtook a later one's tells of the past.
        if sent < self._counted:
            return
        self._counted = sent
        self.limit = limit or self.limit
        if limit:
            self._refill = (limit - remaining) / reset if reset and remaining < limit else limit / _WINDOW
        # What was sent since is on its way, and not in what remains.
        self._level, self._at = remaining - (self._sent - sent), now
        # Not for a day on the word of a header: after a minute a request goes out, and its 429 says how it is.
        self._empty_until = now + min(reset or 0.0, _WINDOW) if remaining == 0 else now

    def wait(self, cost: float, now: float) -> float:
        wait = self._empty_until - now
        if self._level is None or not self._refill or (self.limit is not None and cost > self.limit):
            return wait
        missing = cost - self._level_at(now)
        return max(wait, missing / self._refill) if missing > 0 else wait

    def take(self, cost: float, now: float) -> float:
        """What was sent so far, with this."""
        self._sent += cost
        if self._level is not None:
            self._level, self._at = self._level_at(now) - cost, now
        return self._sent

    def give_back(self, cost: float) -> None:
        # Still counted as sent: what later grants say of that is in relation to it.
        if self._level is not None:
            self._level += cost

    def _level_at(self, now: float) -> float:
        level = (self._level or 0.0) + self._refill * (now - self._at)
        return level if self.limit is None else min(self.limit, level)
