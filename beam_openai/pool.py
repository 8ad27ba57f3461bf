"""The threads of a process that send requests.

Tasks stand in lanes, those of one limiter in one lane. A thread takes the first of a lane when a place in flight is free and
the limiter lets it pass; where several could go, the lanes take turns. Waiting holds no connection, no place in flight and
no lock; but asking a ceiling that is shared with other processes holds a place, for as long as that takes.
"""

from __future__ import annotations

import threading
from typing import Protocol

from beam_openai.lanes import Lane, Task
from beam_openai.places import Places
from beam_openai.quota import Grant, Limiter

_PROBE_SECONDS = 10.0
"""From one request that is to find out whether the server answers again, to one more in flight."""


class Clock(Protocol):
    def __call__(self) -> float: ...


class Pool:
    """Up to `size` requests in flight, one until the first has succeeded.

    Beginning with one means that a wrong key or an empty account costs one request, and that a restarted worker does not
    begin with a burst.

    Args:
      size: requests in flight; None for as many as turn out to be best, see places.py.
      clock: seconds.
    """

    # Threads beyond those in flight: they decode answers while the others wait for theirs.
    _DECODERS = 4

    def __init__(self, size: int | None, clock: Clock) -> None:
        self._places = Places(size)
        self._clock = clock
        self._changed = threading.Condition()
        self._lanes: dict[Limiter, Lane] = {}
        self._in_flight = 0
        self._idle = 0
        self._starting = 0
        self._wake_at = float("inf")
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._throttled = 0.0
        self._refused_since: float | None = None
        self.proved = False
        # How often it was unproved, and how many are in flight since before the last time.
        self._phase = self._stale = 0
        # When that was, and until when nothing is sent for it.
        self._unproved_at, self._not_before = float("inf"), float("-inf")

    @property
    def in_flight(self) -> int:
        return self._in_flight

    @property
    def places(self) -> int:
        """How many may be in flight, once one has succeeded."""
        return self._places.number

    @property
    def is_hungry(self) -> bool:
        """Whether there is little left to be sent."""
        return 2 * sum(lane.fresh for lane in list(self._lanes.values())) <= self._places.number

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
            self._lane(task).put(task, None if wait is None else self._clock() + wait)
            self._ensure_follower()

    def _lane(self, task: Task) -> Lane:
        lane = self._lanes.get(task.limiter)
        if lane is None:
            lane = self._lanes[task.limiter] = Lane(task.limiter)
        return lane

    def prove(self) -> None:
        """A success: after the first, more than one request may be in flight."""
        if not self.proved:
            with self._changed:
                self.proved = True
                self._changed.notify_all()
                self._ensure_follower()

    def overloaded(self) -> None:
        """The server had no room for a request."""
        with self._changed:
            self._places.overloaded(self._clock())

    def unprove(self, pause: float = 0.0) -> None:
        """Back to one request until the next success; the next one goes out in so many seconds.

        What is in flight already does not count, and every ten seconds one more may go: one that hangs must not keep from
        finding out that the server is back.
        """
        with self._changed:
            now = self._clock()
            if self.proved:
                self._phase, self._stale, self._unproved_at = self._phase + 1, self._in_flight, now
            self.proved = False
            self._not_before = now + pause
            if any(self._lanes.values()):
                self._ensure_watch()

    def widen(self, size: int | None) -> None:
        """At least so many requests may be in flight."""
        with self._changed:
            self._places.widen(size)
            self._changed.notify_all()
            self._ensure_follower()

    def cancel(self, owner: object) -> None:
        """Drops what the owner has queued; what is in flight goes on."""
        with self._changed:
            for lane in self._lanes.values():
                lane.cancel(owner)
            # Who watches the clock does so for a task that may be gone.
            self._changed.notify()

    def close(self) -> None:
        """Ends all threads; returns when they have ended."""
        with self._changed:
            self._closed = True
            for lane in self._lanes.values():
                lane.clear()
            self._lanes.clear()
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
        try:
            self._send_all()
        except BaseException as error:
            # Whatever it is, it must not leave tasks that nobody sends.
            with self._changed:
                tasks = [task for lane in self._lanes.values() for task in lane.tasks()]
            for task in tasks:
                task.give_up(error)

    def _send_all(self) -> None:
        starting, landing, answer = 1, None, None
        while (taken := self._take(starting, landing, answer)) is not None:
            task, grant, phase = taken
            starting, landing, answer = 0, phase, None
            if not self._is_booked(task, grant):
                continue
            is_long = task.send(grant)
            latency = self._clock() - grant.at
            # The first success, or what stops the job, is to be known before another request goes out. Where it is
            # short, the same thread goes on: to wake another would take longer.
            if is_long and self.proved:
                landing = None
                self._land(phase)
            if task.receive():
                answer = latency, grant.pace

    def _is_booked(self, task: Task, grant: Grant) -> bool:
        """Whether the ceiling that is shared with other processes lets it pass now; else it is queued for when it does."""
        asked = self._clock()
        try:
            wait = task.limiter.book(grant, asked)
        except BaseException as error:
            task.give_up(error)
            return False
        if wait <= 0:
            return True
        now = self._clock()
        # It waits from when Redis answered, however long that took.
        grant.due += now - asked
        if not grant.booking:
            task.limiter.cancel(grant)
        # The others would only stand in line behind it.
        task.limiter.pause(wait, now)
        with self._changed:
            if not self._closed:
                self._lane(task).put(task, now + wait, grant if grant.booking else None)
            elif grant.booking:
                task.limiter.cancel(grant)
        return False

    def _land(self, phase: int) -> None:
        with self._changed:
            self._give_up_place(phase)
            self._ensure_follower()

    def _give_up_place(self, phase: int) -> None:
        self._in_flight -= 1
        if phase < self._phase and self._stale:
            self._stale -= 1

    def _take(
        self, starting: int, landing: int | None, answer: tuple[float, float | None] | None
    ) -> tuple[Task, Grant, int] | None:
        """The next task to be sent, as soon as one may be, and the phase that it belongs to; None when the pool is closed.

        Args:
          starting: 1 if the thread has just begun.
          landing: the phase of its last task, if it still has that one's place.
          answer: of its last task, if that was a success: the latency, and the pace that the quota allowed.
        """
        with self._changed:
            if answer is not None:
                self._note_answer(*answer)
            self._starting -= starting
            if landing is not None:
                self._give_up_place(landing)
            while not self._closed:
                now = self._clock()
                wait, refused, lane = self._until_next(now)
                self._note_refused(refused, now)
                if lane is not None and wait <= 0:
                    task, grant = lane.take(now)
                    self._in_flight += 1
                    self._take_turns(lane)
                    self._ensure_follower()
                    return task, grant, self._phase
                self._sleep(now, wait)
            return None

    def _note_answer(self, latency: float, pace: float | None) -> None:
        before = self._places.number
        is_full = self.proved and self._in_flight >= before and any(lane.fresh for lane in self._lanes.values())
        self._places.answered(self._clock(), latency, is_full, pace)
        if self._places.number > before:
            self._changed.notify_all()

    def _take_turns(self, lane: Lane) -> None:
        """The lane comes last the next time; an empty one goes."""
        if len(self._lanes) > 1:
            del self._lanes[lane.limiter]
            if lane:
                self._lanes[lane.limiter] = lane

    def _most(self, now: float) -> int:
        """How many may be in flight."""
        if self.proved:
            return self._places.number
        if self._unproved_at > now:
            return 1
        return min(self._stale + 1 + int((now - self._unproved_at) / _PROBE_SECONDS), self._places.most)

    def _next_probe(self, now: float) -> float:
        """Seconds until one more may be in flight, all there may be being so; infinite if only a success can bring one."""
        if self.proved or self._unproved_at > now:
            return float("inf")
        return _PROBE_SECONDS - (now - self._unproved_at) % _PROBE_SECONDS

    def _until_next(self, now: float) -> tuple[float, bool, Lane | None]:
        """Seconds until a task may be sent, infinite if only a change can bring one; whether a limiter is why; its lane."""
        if self._in_flight >= self._most(now):
            return self._next_probe(now), False, None
        if not self.proved and now < self._not_before:
            return self._not_before - now, False, None
        soonest, refused, first = float("inf"), False, None
        for lane in self._lanes.values():
            wait, is_refused = lane.until_next(now, self.proved)
            if wait <= 0:
                return wait, False, lane
            refused = refused or is_refused
            if wait < soonest:
                soonest, first = wait, lane
        return soonest, refused, first

    def _ensure_follower(self) -> None:
        """Another thread must look at the queues, since this one will be busy."""
        if not any(self._lanes.values()):
            return
        now = self._clock()
        if self._in_flight < self._most(now) or self._next_probe(now) < float("inf"):
            self._ensure_watch()  # else who gives up a place looks at them

    def _ensure_watch(self) -> None:
        """A thread that has nothing to do is awake, and looks how long to sleep."""
        if self._idle:
            self._changed.notify()
        elif not self._starting and len(self._threads) < self._places.most + self._DECODERS:
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
