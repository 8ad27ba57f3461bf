"""How a bucket is filled again: evenly, or all at once when a period of the clock ends.

The resets say in how many seconds it will be full. Where it is refilled evenly, that is in proportion to what is missing,
and their quotient is the window: the seconds from empty to full. Each answer gives it within bounds, for resets are rounded
(to the digits that they show), and what is left to whole units:

    (reset - rounding) * limit / missing <= window <= (reset + rounding) * limit / (missing - 1)

The window is the mean of what is told while ten times as much is missing, and left to wait, as both are rounded to; before
that, of what is told in milliseconds, as long as it is a minute at most.

Where the bounds of two answers contradict each other by a fifth, the resets do not depend on what is missing: they tell
when a period ends, and the longest of them how long it is. If that end is another before it has come, they tell nothing:
the window is a minute for 5 minutes, and is found anew. Bounds widen with time, by e in 5 minutes, so that no odd answer
counts for ever.
"""

from __future__ import annotations

import math

from beam_openai.durations import parse_duration

_WINDOW = 60.0
_LEAST, _MOST = 0.1, 86_400.0
_EXACT = 10  # times what it is rounded to
_CONTRADICTION = 1.2
_WIDENING = 300.0  # seconds
_LONG_AGO = 100.0  # times that
_ALL, _SOME = 32, 16  # answers: so many are looked at, and then one of so many


class Window:
    """Learns the seconds from empty to full.

    Attributes:
      seconds: the window, or the period; a minute where nothing tells.
      is_period: whether nothing is refilled before the period ends.
      ends: when that is, as it was told last.
    """

    def __init__(self) -> None:
        self.seconds = _WINDOW
        self.is_period = False
        self.ends = math.inf
        self._wrong_until = -math.inf
        self._resets = self._missing = 0.0
        self._looks = 0
        self._least, self._most, self._longest, self._at = 0.0, math.inf, 0.0, 0.0

    def begin_anew(self) -> None:
        """What was told is of another bucket: its window holds until this one's is told."""
        self._least, self._most, self._longest, self.is_period, self._looks = 0.0, math.inf, 0.0, False, 0
        self.ends, self._wrong_until = math.inf, -math.inf

    def learn(self, reset: str | None, missing: float, limit: float, at: float) -> bool:
        """Takes in when the bucket will be full again, of which so much of the limit was `missing` at a time.

        Whether that may change what is known: not each answer is looked at.
        """
        self._looks += 1
        # Parsing is half the cost of an answer.
        if missing <= 0 or not reset or at < self._wrong_until:
            return False
        if self._looks > _ALL and self._looks % _SOME and at < self.ends:
            return False
        seconds = parse_duration(reset)
        # Some say at what time it will be full, in seconds since 1970.
        if not seconds or seconds > 2 * _MOST:
            return False
        unit = _unit(reset)
        self._bound(seconds, unit, missing / limit, 1 / limit, at)
        if self.is_period:
            self._count_periods(seconds, unit, at)
        elif _is_exact(seconds, unit, missing, limit) or (unit < 1 and seconds <= _WINDOW * missing / limit):
            # Sums, so that what is said while much is missing, and so exactly, counts for more.
            self._resets, self._missing = 0.95 * self._resets + seconds, 0.95 * self._missing + missing / limit
            self.seconds = min(_MOST, max(_LEAST, self._resets / self._missing))
        return True

    def _count_periods(self, seconds: float, unit: float, at: float) -> None:
        roughly = 2 * (1 + unit)
        if self.ends == math.inf or at >= self.ends - roughly:
            self.seconds, self.ends = min(_MOST, max(_LEAST, self._longest)), at + seconds
        elif abs(at + seconds - self.ends) > roughly:
            self.begin_anew()
            self.seconds, self._wrong_until = _WINDOW, at + _WIDENING

    def _bound(self, seconds: float, unit: float, share: float, grain: float, at: float) -> None:
        wider = math.exp(min(_LONG_AGO, max(0.0, at - self._at) / _WIDENING))
        self._at = at
        self._least = max(self._least / wider, (seconds - unit) / share)
        self._most = min(self._most * wider, (seconds + unit) / (share - grain) if share > 1.5 * grain else math.inf)
        self._longest = max(self._longest / wider, seconds)
        self.is_period = self._least > _CONTRADICTION * self._most
        if not self.is_period:
            self.ends = math.inf


def _unit(reset: str) -> float:
    """What a reset is rounded to, in seconds: "6m0s", "7.66s", "12ms"."""
    if "ms" in reset:
        return 0.001
    _, _, fraction = reset.partition(".")
    return max(0.001, 10.0 ** -len(fraction.rstrip("smhd ")))


def _is_exact(seconds: float, unit: float, missing: float, limit: float) -> bool:
    """Whether both are far more than what they are rounded to."""
    return seconds >= _EXACT * unit and missing >= min(_EXACT, 0.3 * limit)
