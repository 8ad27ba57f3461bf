"""The pace for a server that says nothing of its quota but "too much".

    after a refusal     pace = 0.95 * what was accepted a second, lately; once for all m that were under way together
    after a success     pace = pace * (1 + 0.00006 / m * (1 + (k / 300 m)^2)), the k-th since the last refusal; 0.02 at least
                        until the third refusal, for while a pace still grows fast, what was accepted lately tells too little

In requests a second, and no less than one in ten seconds; m is 20 at most. There is no pace before the first refusal. The
growth is counted in requests, so that a server refuses about one in three hundred whether one sender has all of its quota
or a hundred share it; and it is slow at first and then fast, so that a quota that has grown is found.
"""

from __future__ import annotations

import math

_LATELY = 3.0  # seconds
_LEAST = 0.1  # requests a second
_BACK = 0.95
_GROWTH = 0.00006
_GROWTH_AT_FIRST = 0.02
_AT_FIRST = 3  # refusals
_MOST_TOGETHER = 20


class Refusals:
    """Keeps the pace that refusals taught."""

    def __init__(self) -> None:
        self.pace: float | None = None
        self._next = -math.inf
        self._refused_at = -math.inf
        self._times, self._together = 0, 0
        self._successes = 0
        self._began: float | None = None
        self._accepted, self._at = 0.0, 0.0

    def wait(self, now: float) -> float:
        """Seconds until a request may be sent."""
        return self._next - now if self.pace is not None else -math.inf

    def take(self, now: float) -> None:
        """Counts a request that is sent now."""
        if self._began is None:
            self._began = self._at = now
        if self.pace is not None:
            self._next = max(self._next, now - 0.1) + 1 / self.pace

    def give_back(self) -> None:
        """What was taken is not sent after all."""
        if self.pace is not None:
            self._next -= 1 / self.pace

    def accepted(self, now: float) -> None:
        """A request was let pass."""
        self._accepted = self._accepted * math.exp((self._at - now) / _LATELY) + 1
        self._at = now
        if self.pace is not None:
            self._successes += 1
            # No further than twice what is used: a pace that does not bind would forget what it learned.
            self.pace = max(self.pace, min(self.pace * (1 + self._growth()), 2 * self.rate(now)))

    def refused(self, sent_at: float, now: float) -> None:
        """A request was refused that was sent at a time."""
        if sent_at >= self._refused_at:
            self._refused_at, self._successes, self._together = now, 0, 0
            self._times += 1
            self.pace = max(_LEAST, _BACK * min(self.rate(now), self.pace or math.inf))
        self._together += 1

    def _growth(self) -> float:
        together = min(self._together, _MOST_TOGETHER)
        growth = _GROWTH / together * (1 + (self._successes / (300 * together)) ** 2)
        return min(0.1, max(growth, _GROWTH_AT_FIRST if self._times <= _AT_FIRST else 0.0))

    def rate(self, now: float) -> float:
        """Requests accepted a second, lately."""
        seconds = now - (self._began if self._began is not None else now)
        seen = _LATELY * (1 - math.exp(-seconds / _LATELY)) if seconds > 0 else 0.0
        return self._accepted * math.exp((self._at - now) / _LATELY) / max(seen, 0.05)
