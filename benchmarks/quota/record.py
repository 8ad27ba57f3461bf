"""What was seen of a simulation, second by second, and the figures that follow from it."""

from __future__ import annotations

import math

from beam_openai.quota import Cost

_HELD = 10  # seconds
_ALL = 0.95


class Record:
    """Sums for each second.

    Attributes:
      allowed: requests and tokens that the quota had for us.
      taken: those that were admitted.
      asked: requests that came to the server; `refused` of them.
      levels: how full the emptier bucket was.
    """

    def __init__(self, workers: int, seconds: int) -> None:
        self.seconds = seconds
        self.allowed = [(0.0, 0.0)] * seconds
        self.taken = [[0.0, 0.0] for _ in range(seconds)]
        self.asked_in = [0] * seconds
        self.refused_in = [0] * seconds
        self.levels = [0.0] * seconds
        self._half = seconds // 2
        self._admitted_later = [0] * workers
        self._lives_from = [math.inf] * workers
        self._lives_to = [math.inf] * workers

    def note(self, second: int, allowed: tuple[float, float], level: float) -> None:
        """How it is when a second begins."""
        self.allowed[second], self.levels[second] = allowed, level

    def asked(self, second: int, worker: int, cost: Cost, admitted: bool) -> None:
        """A request has come."""
        self.asked_in[second] += 1
        if not admitted:
            self.refused_in[second] += 1
            return
        taken = self.taken[second]
        taken[0] += cost.requests
        taken[1] += cost.tokens
        if second >= self._half:
            self._admitted_later[worker] += 1

    def lives(self, worker: int, now: float) -> None:
        self._lives_from[worker] = now

    def ends(self, worker: int, now: float) -> None:
        self._lives_to[worker] = now

    @property
    def used(self) -> float:
        """The share of the quota that was used in the second half, of the one that was used more."""
        return self.used_in(self._half, self.seconds)

    @property
    def refused(self) -> float:
        """The share of all sends that was refused."""
        return sum(self.refused_in) / max(1, sum(self.asked_in))

    @property
    def refused_later(self) -> float:
        """The same of the second half."""
        return sum(self.refused_in[self._half :]) / max(1, sum(self.asked_in[self._half :]))

    @property
    def fairness(self) -> float:
        """Jain's index of what each worker had that lived throughout the second half: 1 where all had the same."""
        had = [
            count
            for count, begin, end in zip(self._admitted_later, self._lives_from, self._lives_to)
            if begin <= self._half and end >= self.seconds
        ]
        squares = sum(count * count for count in had)
        return sum(had) ** 2 / (len(had) * squares) if squares else 0.0

    @property
    def seconds_to_all(self) -> int | None:
        """When the first ten seconds began that used 95 % of the quota; None for never."""
        begins = (second for second in range(self.seconds - _HELD) if self.used_in(second, second + _HELD) >= _ALL)
        return next(begins, None)

    def used_in(self, begin: int, end: int) -> float:
        """The share of the quota that was used in these seconds."""
        return max(
            sum(taken[which] for taken in self.taken[begin:end])
            / sum(allowed[which] for allowed in self.allowed[begin:end])
            for which in (0, 1)
        )
