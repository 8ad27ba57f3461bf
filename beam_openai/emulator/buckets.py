"""Continuous token buckets, and periods. Pure: the time is given with every question, in seconds."""

from __future__ import annotations

import copy
import math
from collections import deque


class Bucket:
    """Holds up to `capacity` units and gains `per_second` evenly; full at `now`.

    This is how OpenAI's limits behave as its headers show them: the time until a limit is whole
    again is `(limit - remaining) * 60 / limit` seconds. Somebody else takes `share` of the gain as it
    comes, which the bucket does not know beforehand: what it promises, it promises of the whole gain.
    """

    def __init__(self, capacity: float, per_second: float, now: float, share: float = 0.0) -> None:
        self.capacity = capacity
        self.per_second = per_second
        self.share = share
        self.at = now
        self._level = capacity

    def change(self, capacity: float, per_second: float, share: float, now: float) -> None:
        """Is of another size from `now` on, and as full as it was, in proportion."""
        self._level = self.level(now) * capacity / self.capacity
        self.capacity, self.per_second, self.share = capacity, per_second, share

    def level(self, now: float) -> float:
        """Units that can be taken at `now`."""
        if now > self.at:
            gained = (now - self.at) * self.per_second * (1 - self.share)
            self._level = min(self.capacity, self._level + gained)
            self.at = now
        return self._level

    def wait(self, units: float, now: float) -> float:
        """Seconds from `now` until `units` can be taken; inf when they never can."""
        if units > self.capacity:
            return math.inf
        # A level that is a rounding error short of the units is enough: waiting as long as
        # one was told to must do, where nobody else was quicker.
        missing = units - self.level(now)
        return missing / self.per_second if missing > 1e-6 * self.capacity else 0.0

    def take(self, units: float, now: float) -> None:
        """Takes `units`, of which the caller knows that they fit: `wait(units, now) == 0`."""
        self._level = max(0.0, self.level(now) - units)

    def reset(self, now: float) -> float:
        """Seconds from `now` until the bucket is full."""
        return (self.capacity - self.level(now)) / self.per_second


class Past:
    """A bucket as it was `seconds` ago, where it is kept after each change."""

    def __init__(self, bucket: Bucket, seconds: float) -> None:
        self.seconds = seconds
        self._states = deque([copy.copy(bucket)])

    def keep(self, bucket: Bucket) -> None:
        """Remembers the bucket as it is now."""
        self._states.append(copy.copy(bucket))
        self.bucket(bucket.at)

    def bucket(self, now: float) -> Bucket:
        """The bucket as it was; as it was at first, if it was not there yet."""
        while len(self._states) > 1 and self._states[1].at <= now - self.seconds:
            self._states.popleft()
        return self._states[0]


class Periods:
    """Units in each period of `seconds`, as the clock has them: those of one second end when it does.

    What is larger than a period's share has a period for itself: else it would never be admitted.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._period = 0
        self._taken = 0.0

    def wait(self, units: float, share: float, now: float) -> float:
        """Seconds from `now` until `units` can be taken, of `share` units in each period."""
        self._turn(now)
        if not self._taken or self._taken + units <= share * (1 + 1e-9):
            return 0.0
        return max(0.0, (self._period + 1) * self._seconds - now)

    def take(self, units: float, now: float) -> None:
        """Takes `units` of the period that `now` is in."""
        self._turn(now)
        self._taken += units

    def _turn(self, now: float) -> None:
        # Whoever waited until a period's beginning is in it, a rounding error notwithstanding.
        period = math.floor(now / self._seconds + 1e-9)
        if period > self._period:
            self._period, self._taken = period, 0.0


def go_duration(seconds: float) -> str:
    """Seconds as Go's `time.Duration.String()`, in whole milliseconds, rounded up.

    This is the format of x-ratelimit-reset-* and of "try again in": `8ms`, `1.2s`, `6m0s`,
    `1h0m0s`, `0s`.
    """
    milliseconds = math.ceil(round(seconds * 1000, 3))
    if milliseconds <= 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
