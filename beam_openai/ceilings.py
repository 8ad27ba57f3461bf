"""A ceiling of the user's own: at most so much in any 60 seconds, spread evenly."""

from __future__ import annotations

import collections

_WINDOW = 60.0
_FORGOTTEN = float("-inf")


class Ceiling:
    """In every window of 60 s at most `limit`; a send of c is followed by c * 60 / limit seconds in which nothing is sent,
    less what the send was late, one second at most.
    """

    def __init__(self, limit: float, now: float) -> None:
        self._limit = limit
        self._began = self._next = now
        self._sum = 0.0
        self._log: collections.deque[list[float]] = collections.deque()

    def used(self, now: float) -> float:
        """The share that is used of what the last window allowed, or the time since sends began, where that is less."""
        self._forget(now)
        seconds = max(1.0, min(_WINDOW, now - self._began))
        return self._sum / self._limit * _WINDOW / seconds

    def wait(self, cost: float, now: float) -> float:
        """Seconds until so much may be sent."""
        self._forget(now)
        wait, over = self._next - now, self._sum + cost - self._limit
        for at, taken in self._log:
            if over <= 1e-9:
                break
            wait, over = max(wait, at + _WINDOW - now), over - taken
        return wait

    def take(self, cost: float, now: float) -> list[float]:
        """Counts what is sent now; returns its entry."""
        self._forget(now)
        entry = [now, cost]
        if not self._log:
            self._began = now
        # The pace is kept from when the last send was due, so that a late wake-up is made up for, but never a burst.
        due = max(self._next, now - 1.0)
        self._next = due + cost * _WINDOW / self._limit
        self._sum += cost
        self._log.append(entry)
        return entry

    def settle(self, entry: list[float], used: float) -> None:
        """Corrects what was taken by what was used."""
        if entry[0] == _FORGOTTEN:
            return
        # However much it was: a minute without another is what makes up for it.
        used = min(used, max(entry[1], self._limit))
        correction = used - entry[1]
        entry[1] = used
        self._sum += correction
        self._next += correction * _WINDOW / self._limit

    def _forget(self, now: float) -> None:
        while self._log and self._log[0][0] <= now - _WINDOW:
            entry = self._log.popleft()
            self._sum -= entry[1]
            entry[0] = _FORGOTTEN
