"""The threads of a process that send requests, and the order in which they do.

A task waits in one of two queues: fresh ones first come, first served; tries after a wait by the time they are due, and
before all fresh ones, so that an old row never starves. A thread takes a task when a place in flight is free and the
limiter lets it pass. Waiting of either kind holds no thread's connection, no place in flight and no lock.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from typing import Protocol

from beam_openai.quota import Grant, Limiter


class Clock(Protocol):
    def __call__(self) -> float: ...


class Task(Protocol):
    """One attempt at one request."""

    tokens: float

    @property
    def owner(self) -> object:
        """Whose task it is, to be cancelled with."""

    def send(self, grant: Grant) -> bool:
        """Blocks until there is an answer or an error; whether `receive` will take long. Raises nothing."""

    def receive(self) -> None:
        """What follows from the answer; where that takes long, no longer counted as in flight. Raises nothing."""


class Pool:
    """Up to `size` requests in flight, one until the first has succeeded.

    Beginning with one means that a wrong key or an empty account costs one request, and that a restarted worker does not
    begin with a burst.
    """

    # Threads beyond those in flight: they decode answers while the others wait for theirs.
    _DECODERS = 4

    def __init__(self, size: int, limiter: Limiter, clock: Clock) -> None:
        self._size = size
        self._limiter = limiter
        self._clock = clock
        self._changed = threading.Condition()
        self._fresh: deque[Task] = deque()
        self._later: list[tuple[float, int, Task]] = []
        self._order = itertools.count()
        self._in_flight = 0
        self._idle = 0
        self._starting = 0
        self._wake_at = float("inf")
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._throttled = 0.0
        self._refused_since: float | None = None
        self._allowed = float(size)
        self._slowed_at = float("-inf")
        self.proved = False

    @property
    def in_flight(self) -> int:
        return self._in_flight

    @property
    def is_hungry(self) -> bool:
        """Whether there is little left to be sent."""
        return 2 * len(self._fresh) <= self._size

    @property
    def throttled(self) -> float:
        """Seconds in which a task was ready, a place in flight was free, and the limiter let nothing pass."""
        with self._changed:
            since = self._refused_since
            return self._throttled + (self._clock() - since if since is not None else 0.0)

    def submit(self, task: Task, wait: float | None = None) -> None:
        """Queues a task; with `wait`, to be tried after so many seconds and before fresh ones. A closed pool drops it."""
        with self._changed:
            if self._closed:
                return
            if wait is None:
                self._fresh.append(task)
            else:
                heapq.heappush(self._later, (self._clock() + wait, next(self._order), task))
            self._ensure_follower()

    def prove(self) -> None:
        """A success: after the first, `size` requests may be in flight; after `slow_down`, a little more than before."""
        if self.proved and self._allowed >= self._size:
            return
        with self._changed:
            self._allowed = min(float(self._size), self._allowed + 1 / self._allowed)
            if not self.proved:
                self.proved = True
                self._changed.notify_all()
            self._ensure_follower()

    def slow_down(self) -> None:
        """The server has had too much: half as many in flight, and one more for each round of successes.

        Once a second at most: what was sent together is refused together, for one reason.
        """
        with self._changed:
            now = self._clock()
            if now - self._slowed_at >= 1.0:
                self._slowed_at = now
                self._allowed = max(1.0, min(self._allowed, self._in_flight + 1.0) / 2)

    def unprove(self) -> None:
        """Back to one request until the next success."""
        with self._changed:
            self.proved = False

    def widen(self, size: int) -> None:
        """At least so many requests may be in flight."""
        with self._changed:
            self._size, self._allowed = max(self._size, size), max(self._allowed, float(size))
            self._changed.notify_all()
            self._ensure_follower()

    def cancel(self, owner: object) -> None:
        """Drops what the owner has queued; what is in flight goes on."""
        with self._changed:
            self._fresh = deque(task for task in self._fresh if task.owner is not owner)
            self._later = [entry for entry in self._later if entry[2].owner is not owner]
            heapq.heapify(self._later)
            # Who watches the clock does so for a task that may be gone.
            self._changed.notify()

    def close(self) -> None:
        """Ends all threads; returns when they have ended."""
        with self._changed:
            self._closed = True
            self._fresh.clear()
            self._later.clear()
            self._note_refused(False, self._clock())
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _start_thread(self) -> None:
        # Daemons: a runner that never calls teardown must still be able to end its process.
        thread = threading.Thread(target=self._work, name=f"beam_openai-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The machine gives no more threads: those there are will do, if there are any.
            if not self._threads:
                raise
            return
        self._starting += 1
        self._threads.append(thread)

    def _work(self) -> None:
        starting, landing = 1, 0
        while (taken := self._take(starting, landing)) is not None:
            starting = 0
            task, grant = taken
            is_long = task.send(grant)
            # The first success, or what stops the job, is to be known before another request goes out. Where it is
            # short, the same thread goes on: to wake another would take longer.
            landing = 0 if is_long and self.proved else 1
            if not landing:
                self._land()
            task.receive()

    def _land(self) -> None:
        with self._changed:
            self._in_flight -= 1
            self._ensure_follower()

    def _take(self, starting: int, landing: int) -> tuple[Task, Grant] | None:
        with self._changed:
            self._starting -= starting
            self._in_flight -= landing
            while not self._closed:
                now = self._clock()
                wait, refused = self._until_next(now)
                self._note_refused(refused, now)
                if wait <= 0:
                    self._in_flight += 1
                    task = heapq.heappop(self._later)[2] if self._is_due(now) else self._fresh.popleft()
                    grant = self._limiter.take(task.tokens, now)
                    self._ensure_follower()
                    return task, grant
                self._sleep(now, wait)
            return None

    @property
    def _places(self) -> int:
        """How many may be in flight now."""
        return int(self._allowed) if self.proved else 1

    def _until_next(self, now: float) -> tuple[float, bool]:
        """Seconds until the next task may be sent, infinite if only a change can bring one; whether the limiter is why."""
        if self._in_flight >= self._places:
            return float("inf"), False
        due = self._later[0][0] - now if self._later else float("inf")
        if due <= 0:
            task = self._later[0][2]
        elif self._fresh and (self.proved or not self._later):
            task = self._fresh[0]
        else:
            # Before the first success, what failed goes first: it tells whether the others should be sent at all.
            return due, bool(self._later) and self._limiter.wait(self._later[0][2].tokens, now) > 0
        wait = self._limiter.wait(task.tokens, now)
        return min(wait, due) if due > 0 else wait, wait > 0

    def _is_due(self, now: float) -> bool:
        return bool(self._later) and self._later[0][0] <= now

    def _ensure_follower(self) -> None:
        """Another thread must look at the queues, since this one will be busy."""
        if not (self._fresh or self._later) or self._in_flight >= self._places:
            return  # who gives up a place looks at them
        if self._idle:
            self._changed.notify()
        elif not self._starting and len(self._threads) < self._size + self._DECODERS:
            self._start_thread()

    def _sleep(self, now: float, wait: float) -> None:
        # One thread watches the clock, the others sleep until they are told.
        until = now + wait
        watch = until < self._wake_at
        if watch:
            self._wake_at = until
        self._idle += 1
        self._changed.wait(wait if watch else None)
        self._idle -= 1
        if watch and self._wake_at == until:
            self._wake_at = float("inf")

    def _note_refused(self, refused: bool, now: float) -> None:
        """Keeps the account of `throttled`: called whenever the queues were looked at."""
        if self._refused_since is not None:
            self._throttled += now - self._refused_since
        self._refused_since = now if refused else None
