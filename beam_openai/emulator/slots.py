"""The places of a server that serves few requests at a time, and the line in front of them."""

from __future__ import annotations

import asyncio
import math
from collections import deque

from .options import Options
from .replies import Refusal


class Slots:
    """At most `slots` requests are served at a time; others wait, first come, first served.

    Attributes:
        busy: how many are being served.
        peak_waiting: the most that ever waited at a time.
    """

    def __init__(self, options: Options) -> None:
        self.busy = 0
        self.peak_waiting = 0
        self._line: deque[asyncio.Future[None]] = deque()
        self._set(options)

    def _set(self, options: Options) -> None:
        self._slots = math.inf if options.slots is None else options.slots
        self._longest = math.inf if options.queue is None else options.queue
        self._status = options.queue_status

    def change(self, options: Options) -> None:
        """Has as many slots as other options say: with fewer, those who are served keep theirs to the end."""
        self._set(options)
        self._call()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._line)

    def check(self) -> None:
        """Whether one more may come.

        Raises:
            Refusal: no, it would have to wait, and enough do.
        """
        if self.busy >= self._slots and self.waiting >= self._longest:
            raise Refusal(self._status, "Model is overloaded", type="overloaded")

    async def take(self) -> bool:
        """Takes a slot once there is one; returns whether that took a while. Must be given back."""
        if self.busy < self._slots:
            self.busy += 1
            return False
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        self.peak_waiting = max(self.peak_waiting, self.waiting)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.give()
            elif turn in self._line:
                self._line.remove(turn)
            raise
        return True

    def give(self) -> None:
        """Gives a slot back."""
        self.busy -= 1
        self._call()

    def _call(self) -> None:
        while self._line and self.busy < self._slots:
            turn = self._line.popleft()
            if not turn.cancelled():
                self.busy += 1
                turn.set_result(None)
