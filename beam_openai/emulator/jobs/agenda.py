"""What is to happen by the clock: life cycles of jobs, which a test may make pass in no time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from ..clock import Clock

Step = Callable[[float], Awaitable[None] | None]
"""Something that happens, at a time in Unix seconds: when it was due, even if it happens later."""


class Agenda:
    """Steps to come. They happen when somebody catches up, in the order of their times."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[tuple[float, int, Step]] = []
        self._numbers = itertools.count()
        self._one_at_a_time = asyncio.Lock()

    def at(self, when: float, step: Step) -> None:
        """`step` is due at `when`."""
        heapq.heappush(self._waiting, (when, next(self._numbers), step))

    async def catch_up(self) -> None:
        """All that is due by now has happened when this returns."""
        async with self._one_at_a_time:
            while self._waiting and self._waiting[0][0] <= self._clock.now():
                when, _, step = heapq.heappop(self._waiting)
                more = step(when)
                if more is not None:
                    await more


class Timeline:
    """The steps of one job, which may be paused and stopped.

    Args:
        agenda: where the next step waits.
        start: when the job began.
        steps: seconds from the start, in their order, and what happens then.
    """

    def __init__(self, agenda: Agenda, start: float, steps: Iterable[tuple[float, Step]]) -> None:
        self._agenda = agenda
        self._start = start
        self._steps = deque(steps)
        self._paused_at: float | None = None
        self._turn = 0
        self._await_next()

    def then(self, steps: Iterable[tuple[float, Step]]) -> None:
        """More steps behind those that there are; said by one of them."""
        self._steps.extend(steps)

    def stop(self) -> None:
        """No further step happens."""
        self._steps.clear()
        self._turn += 1

    def pause(self, now: float) -> None:
        """No further step happens until `resume`."""
        self._paused_at = now
        self._turn += 1

    def resume(self, now: float) -> None:
        """The rest happens as much later as the pause was long."""
        if self._paused_at is not None:
            self._start += now - self._paused_at
            self._paused_at = None
            self._await_next()

    def end(self) -> float:
        """When the last step is due, as far as one knows."""
        return self._start + (self._steps[-1][0] if self._steps else 0.0)

    def _await_next(self) -> None:
        if self._steps and self._paused_at is None:
            self._agenda.at(self._start + self._steps[0][0], partial(self._happen, self._turn))

    async def _happen(self, turn: int, when: float) -> None:
        if turn != self._turn:
            return
        _, step = self._steps.popleft()
        more = step(when)
        if more is not None:
            await more
        if turn == self._turn:
            self._await_next()
