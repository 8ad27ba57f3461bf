"""The pace for a server that says nothing of its quota but "too much".

    after a refusal     pace = 0.95 * what was accepted a second, lately; once for all m that were under way together
    after a success     pace = pace * (1 + 0.00006 / m * (1 + (k / 300 m)^2)), the k-th since the last refusal; 0.02 at least
                        until the third refusal, for while a pace still grows fast, what was accepted lately tells too
                        little; and, while it is less than what was once known to be accepted, doubled within a second

In requests a second, and no less than one in five minutes; m is 20 at most. Lately are the last three seconds, or the last
eight that were accepted, where those took longer. There is no pace before the first refusal. What is refused while nothing,
or next to nothing, is accepted tells of an outage and not of a pace: the one before is known still, and gone back to. And
while fewer than a tenth are refused, the pace does not go below 0.4 of the most that was accepted a second since more were:
a server that refuses now and then, at any pace, must not bring everything to a standstill. The growth is counted in
requests, so that a server refuses about one in three hundred whether one sender has all of its quota or a hundred share it;
and it is slow at first and then fast, so that a quota that has grown is found.
"""

from __future__ import annotations

import collections
import math

_LATELY = 3.0  # seconds
_FEW = 8
_LEAST = 1 / 300  # requests a second
_BACK = 0.95
_GROWTH = 0.00006
_GROWTH_AT_FIRST = 0.02
_AT_FIRST = 3  # refusals
_MOST_TOGETHER = 20
_LATEST = 0.02  # one of the last fifty
_MANY = 0.1
_FLOOR = 0.4


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
        self._known = 0.0
        self._grown_at = 0.0
        self._share = 0.0
        self._heard = 0.0
        self._most = 0.0
        self._latest: collections.deque[float] = collections.deque(maxlen=_FEW)

    def wait(self, now: float) -> float:
        """Seconds until a request may be sent."""
        return self._next - now if self.pace is not None else -math.inf

    def take(self, now: float) -> None:
        """Counts a request that is sent now."""
        if self._began is None:
            self._began = self._at = now
        if self.pace is not None:
            self._next = min(max(self._next, now - 0.1) + 1 / self.pace, now + 1 / _LEAST)

    def give_back(self) -> None:
        """What was taken is not sent after all."""
        if self.pace is not None:
            self._next -= 1 / self.pace

    def accepted(self, now: float) -> None:
        """A request was let pass."""
        self._accepted = self._accepted * math.exp((self._at - now) / _LATELY) + 1
        self._at = self._heard = now
        self._latest.append(now)
        self._share -= _LATEST * self._share
        if self._began is not None and now - self._began > _LATELY:
            self._most = max(self._most, self.rate(now))
        if self.pace is not None:
            self._successes += 1
            # No further than twice what is used: a pace that does not bind would forget what it learned.
            self.pace = max(self.pace, min(self.pace * (1 + self._growth()), 2 * self.rate(now)))
            if self.pace < self._known:
                self.pace = min(self._known, self.pace * 2 ** min(1.0, now - self._grown_at))
            self._grown_at = now

    def refused(self, sent_at: float, now: float) -> None:
        """A request was refused that was sent at a time."""
        self._share += _LATEST * (1 - self._share)
        # Of a server that has never accepted any, no pace is known.
        if self._accepted and sent_at >= self._refused_at:
            # After a rest, what was accepted before it: that nothing was since is not the server's doing.
            lately = self.rate(now if now - self._heard < _LATELY else self._heard)
            pace = max(_LEAST, _BACK * min(lately, self.pace or math.inf))
            pace = self._not_below_the_floor(pace)
            if self.pace is None or self._successes >= self._together:
                self._known = pace
            self._refused_at, self._successes, self._together = now, 0, 0
            self._times += 1
            self.pace, self._grown_at = pace, now
        self._together += 1
        self._heard = now

    def _not_below_the_floor(self, pace: float) -> float:
        if self._share > _MANY:
            self._most = pace
        return max(pace, _FLOOR * self._most)

    def _growth(self) -> float:
        together = min(self._together, _MOST_TOGETHER)
        growth = _GROWTH / together * (1 + (self._successes / (300 * together)) ** 2)
        return min(0.1, max(growth, _GROWTH_AT_FIRST if self._times <= _AT_FIRST else 0.0))

    def rate(self, now: float) -> float:
        """Requests accepted a second, lately."""
        seconds = now - (self._began if self._began is not None else now)
        seen = _LATELY * (1 - math.exp(-seconds / _LATELY)) if seconds > 0 else 0.0
        lately = self._accepted * math.exp((self._at - now) / _LATELY) / max(seen, 0.05)
        since = now - self._latest[0] if self._latest else 0.0
        return max(lately, (len(self._latest) - 1) / since) if since > _LATELY else lately
