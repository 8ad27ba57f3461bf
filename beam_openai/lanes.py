"""The order in which the tasks of one limiter are sent.

First those that have leave and only waited for their time; then tries after a wait, by the time they are due, so that an old
row never starves; then fresh ones, first come, first served.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from typing import Protocol

from beam_openai.quota import Cost, Grant, Limiter


class Task(Protocol):
    """One attempt at one request."""

    @property
    def cost(self) -> Cost:
        """What it takes of the quota."""

    @property
    def limiter(self) -> Limiter:
        """Whose leave it needs."""

    @property
    def owner(self) -> object:
        """Whose task it is, to be cancelled with."""

    def send(self, grant: Grant) -> bool:
        """Blocks until there is an answer or an error; whether `receive` will take long. Raises nothing."""

    def receive(self) -> bool:
        """What follows from the answer; where that takes long, no longer counted as in flight. Raises nothing.

        Whether it was a success.
        """

    def give_up(self, error: BaseException) -> None:
        """It will never be sent, and neither will the others."""


class Lane:
    """The tasks of one limiter."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        # By the time they are due: those that have leave to be sent then, and those that must ask for it again.
        self._booked: list[tuple[float, int, Task, Grant]] = []
        self._later: list[tuple[float, int, Task]] = []
        self._fresh: deque[Task] = deque()
        self._order = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._fresh or self._later or self._booked)

    @property
    def fresh(self) -> int:
        return len(self._fresh)

    def put(self, task: Task, due: float | None = None, grant: Grant | None = None) -> None:
        if due is None:
            self._fresh.append(task)
        elif grant is None:
            heapq.heappush(self._later, (due, next(self._order), task))
        else:
            heapq.heappush(self._booked, (due, next(self._order), task, grant))

    def until_next(self, now: float, is_proved: bool) -> tuple[float, bool]:
        """Seconds until a task may be sent, 0 or less for now; whether one is ready, and the limiter is why it waits."""
        booked = self._booked[0][0] - now if self._booked else float("inf")
        due = self._later[0][0] - now if self._later else float("inf")
        if booked <= 0:
            return booked, False
        if due <= 0:
            wait = self.limiter.wait(self._later[0][2].cost, now)
            return min(wait, booked), wait > 0
        if self._fresh and (is_proved or not self._later):
            wait = self.limiter.wait(self._fresh[0].cost, now)
            return min(wait, due, booked), wait > 0
        # Before the first success, what failed goes first: it tells whether the others should be sent at all.
        is_held = bool(self._later) and self.limiter.wait(self._later[0][2].cost, now) > 0
        return min(due, booked), is_held or bool(self._booked)

    def take(self, now: float) -> tuple[Task, Grant]:
        """The next task, and leave to send it."""
        if self._booked and self._booked[0][0] <= now:
            _, _, task, grant = heapq.heappop(self._booked)
            self.limiter.renew(grant, now)
            return task, grant
        is_due = bool(self._later) and self._later[0][0] <= now
        task = heapq.heappop(self._later)[2] if is_due else self._fresh.popleft()
        return task, self.limiter.take(task.cost, now)

    def tasks(self) -> list[Task]:
        return [*(entry[2] for entry in self._booked), *(entry[2] for entry in self._later), *self._fresh]

    def clear(self) -> None:
        """Drops all."""
        for owner in {task.owner for *_, task, _ in self._booked}:
            self.cancel(owner)
        self._fresh.clear()
        self._later.clear()

    def cancel(self, owner: object) -> None:
        """Drops what one owner has."""
        self._fresh = deque(task for task in self._fresh if task.owner is not owner)
        self._later = [entry for entry in self._later if entry[2].owner is not owner]
        for _, _, task, grant in self._booked:
            if task.owner is owner:
                self.limiter.cancel(grant)
        self._booked = [entry for entry in self._booked if entry[2].owner is not owner]
        heapq.heapify(self._later)
        heapq.heapify(self._booked)
