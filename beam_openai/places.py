"""How many requests are in flight: what the user says, or as many as make the server answer the most.

Where nobody says how many, they are found by trying. After the first success there are 16. While all of them are taken and
neither the quota nor the rows are what is short,

    growing     they are doubled as long as that lets a quarter more be answered a second
    holding     then they stay; after every eighth round one tries a quarter more, or a fifth fewer, in turn
    trying      more is kept where it answers 8 % more; fewer, where it answers no more than 3 % less
    overloaded  where more than a tenth are refused for want of room there, three tenths go, once in the time of an answer;
                ten seconds after the last of that they grow again

so that a server that queues is kept busy, and its queue short. A round is as many answers as there are places, 16 at least;
while holding, twice as many, 64 at least. Where the pace that the quota allows is known, as many as that needs
(pace * latency, and a fifth) are there at once. Never more than 512: each has a thread.
"""

from __future__ import annotations

import math

MOST = 512
_FIRST = 16
_ROUNDS = 8
_MORE, _FEWER = 1.25, 0.8


class Places:
    """Keeps the number; not locked.

    Args:
      size: the number, if it is given.
    """

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._number = float(_FIRST)
        self._latency = 0.0
        self._rate = 0.0
        self._step = _MORE
        self._tried: float | None = None
        self._is_growing = True
        self._rounds = 0
        self._began: float | None = None
        self._overloads, self._overloaded_at = 0.0, float("inf")
        self._answers = self._full = self._skipped = 0

    @property
    def most(self) -> int:
        """How many there may ever be."""
        return self._size or MOST

    @property
    def number(self) -> int:
        """How many there are."""
        return self._size or int(self._number)

    def widen(self, size: int | None) -> None:
        """At least so many; None for as many as are found to be best."""
        self._size = None if size is None or self._size is None else max(self._size, size)

    def answered(self, now: float, latency: float, is_full: bool, pace: float | None = None) -> None:
        """An answer has come.

        Args:
          now: seconds.
          latency: how long it took, in seconds.
          is_full: whether all places were taken and more requests might have been sent.
          pace: requests a second that the quota allows, where it is known.
        """
        if self._size is not None:
            return
        self._overloads -= 0.02 * self._overloads
        if now - self._overloaded_at > 10.0:
            self._overloaded_at, self._is_growing, self._rate, self._began = float("inf"), True, 0.0, None
            # With one or two, a round takes long, and doubling them tells little.
            self._number = max(4.0, self._number)
        self._latency += (latency - self._latency) * (0.1 if self._latency else 1.0)
        if self._is_growing and pace:
            self._number = max(self._number, min(float(MOST), math.ceil(1.2 * pace * self._latency)))
        if self._began is None or self._skipped:
            # The first answer is to a request that was alone; the next are to those that begin after it, one by one.
            self._skipped = self.number if self._began is None else self._skipped - 1
            self._began = now
            return
        self._answers += 1
        self._full += is_full
        if self._answers >= self._round:
            if self._full >= 0.8 * self._answers and now > self._began:
                before = self.number
                self._decide(self._answers / (now - self._began))
                if not self._is_growing and self.number != before:
                    # Those under way tell of what was before.
                    self._skipped = max(before, self.number)
            self._began, self._answers, self._full = now, 0, 0

    def overloaded(self, now: float) -> None:
        """The server had no room for a request."""
        self._overloads += 0.02 * (1 - self._overloads)
        is_first = now < self._overloaded_at
        if self._overloads > 0.1 and (is_first or now - self._overloaded_at > max(0.5, self._latency)):
            self._number, self._overloaded_at = max(1.0, 0.7 * self._number), now
            self._is_growing, self._tried, self._began = False, None, None

    @property
    def _round(self) -> int:
        """Answers of a round: some each place, for where all take the same time they come in bursts."""
        return self.number * max(1 if self._is_growing else 2, -(-(16 if self._is_growing else 64) // self.number))

    def _decide(self, rate: float) -> None:
        """What follows from a round in which so many were answered a second."""
        if self._is_growing:
            self._grow(rate)
        elif self._tried is not None:
            self._judge(rate)
        else:
            self._hold(rate)

    def _grow(self, rate: float) -> None:
        if rate >= 1.25 * self._rate and self._number < MOST:
            self._rate, self._number = rate, min(float(MOST), 2 * self._number)
            return
        self._is_growing = False
        if rate < 1.25 * self._rate:
            self._number = max(1.0, self._number / 2)
        self._rate = max(rate, self._rate)

    def _hold(self, rate: float) -> None:
        self._rounds += 1
        is_slower = rate < 0.6 * self._rate
        self._rate += 0.3 * (rate - self._rate) if not is_slower else rate - self._rate
        if is_slower or self._rounds % _ROUNDS == 0:
            self._step = _FEWER if is_slower or self._step == _MORE else _MORE
            self._try(self._step)

    def _judge(self, rate: float) -> None:
        was, self._tried = self._tried, None
        if rate >= self._rate * (1.08 if self._step == _MORE else 0.97):
            # What was good once may be good again.
            self._rate = rate
            self._try(self._step)
        else:
            self._number = was or self._number

    def _try(self, step: float) -> None:
        wanted = min(float(MOST), max(1.0, self._number * step))
        # A fraction counts when there are few.
        wanted = max(wanted, self._number + 1) if step > 1 else min(wanted, max(1.0, self._number - 1))
        if wanted != self._number and wanted <= MOST:
            self._tried, self._number = self._number, wanted
