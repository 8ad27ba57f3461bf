"""Continuous token buckets. Pure: the time is given with every question, in seconds."""

from __future__ import annotations

import math


class Bucket:
    """Holds up to `capacity` units and gains `per_second` evenly; full at `now`.

    This is how OpenAI's limits behave as its headers show them: the time until a limit is whole
    again is `(limit - remaining) * 60 / limit` seconds.
    """

    def __init__(self, capacity: float, per_second: float, now: float) -> None:
        self.capacity = capacity
        self.per_second = per_second
        self._level = capacity
        self._at = now

    def level(self, now: float) -> float:
        """Units that can be taken at `now`."""
        gained = max(0.0, now - self._at) * self.per_second
        self._level = min(self.capacity, self._level + gained)
        self._at = max(self._at, now)
        return self._level

    def wait(self, units: float, now: float) -> float:
        """Seconds from `now` until `units` can be taken; inf when they never can."""
        if units > self.capacity:
            return math.inf
        # A level that is a rounding error short of the units is enough: waiting as long as
        # one was told to must always do.
        missing = units - self.level(now)
        return missing / self.per_second if missing > 1e-6 * self.capacity else 0.0

    def take(self, units: float, now: float) -> None:
        """Takes `units`, of which the caller knows that they fit: `wait(units, now) == 0`."""
        self._level = max(0.0, self.level(now) - units)

    def reset(self, now: float) -> float:
        """Seconds from `now` until the bucket is full."""
        return (self.capacity - self.level(now)) / self.per_second


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
