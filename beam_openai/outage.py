"""Whether it is a server that answers nobody, or a request that it cannot answer.

Several requests that first came to nothing after the last answer are an outage. For a minute from the first of them it is
waited for: who has spent the attempts has them again, and no request is divided. Requests that had come to nothing while
others were answered tell of no outage: they may be what the server cannot answer. After that minute, where ten requests in a
row have spent their attempts, the job stops.

Time is a parameter: nothing here sleeps or reads a clock.
"""

from __future__ import annotations

import threading

from beam_openai import errors

IN_A_ROW = 10
"""Requests that spent their attempts, none having been answered between them, after which the job stops."""
SECONDS = 60.0
"""From the first request after the last answer that came to nothing: so long an outage is waited for."""
_SEVERAL = 3


class Part:
    """A request, or what one was divided into: `whole` is what was packed first."""

    def __init__(self, parent: Part | None = None) -> None:
        self.whole: Part = parent.whole if parent else self


class _InVain:
    """When a request's attempts came to nothing: the first, the first that no outage explained, the last and the one before.

    `is_servers` is whether any of them may have been an outage.
    """

    def __init__(self, first: float, is_servers: bool) -> None:
        self.first = self._unexplained = self._last = first
        self.is_servers = is_servers
        self._before = float("-inf")

    def note(self, now: float, is_servers: bool) -> None:
        self._before, self._last = self._last, now
        self.is_servers |= is_servers

    def explain(self, now: float) -> None:
        """They were for an outage: the next ones need another explanation."""
        self._unexplained, self._before, self._last = now, float("-inf"), now

    def fell_into(self, begin: float, end: float) -> bool:
        """Whether the first unexplained did, or the last but one: the last may have begun in this time, and ended later."""
        return any(begin < at <= end for at in (self._unexplained, self._before))


class Outage:
    """What of that is known; for all threads of a process. `now` are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answered_at = float("-inf")
        self._began = float("inf")
        self._failed_at = float("-inf")
        self._exhausted_at = float("inf")
        self._unanswered: dict[Part, _InVain] = {}
        self._exhausted: set[Part] = set()
        self._lost = 0
        self._unusable = 0
        self._latest = float("inf"), float("-inf")

    def answered(self, request: Part, now: float) -> None:
        """A request was."""
        self._answered_at, self._began, self._unusable = now, float("inf"), 0
        if self._unanswered or self._exhausted or self._lost:
            with self._lock:
                self._unanswered.pop(request, None)
                self._exhausted.clear()
                self._lost = 0

    def ended(self, request: Part) -> None:
        """Nothing more will become of it: others are in its place."""
        with self._lock:
            self._unanswered.pop(request, None)
            self._end_if_over()

    def lost(self, request: Part) -> None:
        """It failed for good."""
        with self._lock:
            attempts = self._unanswered.pop(request, None)
            self._lost += attempts is not None and self._is_fresh(attempts)
            self._end_if_over()

    def _end_if_over(self) -> None:
        if not (self._unanswered or self._lost):
            self._began = float("inf")

    def forget(self) -> None:
        """There are no requests any more."""
        with self._lock:
            self._unanswered.clear()
            self._end_if_over()

    def unanswered(self, request: Part, error: errors.APIError, now: float) -> bool:
        """An attempt of this request came to nothing; whether this is an outage."""
        with self._lock:
            if now - self._failed_at > SECONDS:
                # Whatever there was, this is another trouble.
                self._began, self._lost = now, 0
            self._began, self._failed_at, is_servers = min(self._began, now), now, _is_of_the_server(error)
            if request in self._unanswered:
                self._unanswered[request].note(now, is_servers)
            else:
                self._unanswered[request] = _InVain(now, is_servers)
            return is_servers and self._is_on(error)

    def _is_on(self, error: errors.APIError) -> bool:
        # A 500 may be for what was asked, and so may be a few of them.
        enough = IN_A_ROW if error.status == 500 else _SEVERAL
        # The parts of one request fail for the same reason.
        fresh = {request.whole for request, attempts in self._unanswered.items() if self._is_fresh(attempts)}
        return self._lost + len(fresh) >= enough

    def _is_fresh(self, attempts: _InVain) -> bool:
        return attempts.is_servers and attempts.first > self._answered_at

    def unusable(self) -> bool:
        """An answer was paid for and cannot be used; whether that is so of several in a row."""
        self._unusable += 1
        return self.are_unusable

    @property
    def are_unusable(self) -> bool:
        """Whether the last answers could not be used."""
        return self._unusable >= _SEVERAL

    def explains(self, request: Part, error: errors.APIError, now: float) -> bool:
        """Whether this request, which has spent its attempts, is to have them all again: nobody was answered meanwhile."""
        if not _is_of_the_server(error) or self._answered_at < 0 or now - self._began >= SECONDS:
            return False
        with self._lock:
            is_on = self._is_on(error)
            if is_on:
                self._latest = self._answered_at, now
            # It may be over since this request's last attempt.
            attempts = self._unanswered.setdefault(request, _InVain(now, is_servers=True))
            is_explained = is_on or attempts.fell_into(*self._latest)
            if is_explained:
                attempts.explain(now)
            return is_explained

    def exhausted(self, request: Part, error: errors.APIError, now: float) -> bool:
        """Counts a request that spent its attempts, if it failed first after the last answer; whether to give up.

        Before the first answer it is not waited: the address, the model or the server may be a wrong one.
        """
        with self._lock:
            attempts = self._unanswered.get(request)
            if attempts is not None and attempts.first <= self._answered_at:
                return False
            if not self._exhausted:
                self._exhausted_at = now
            self._exhausted.add(request)
            if len(self._exhausted) < IN_A_ROW:
                return False
            began = min(self._began, self._exhausted_at)
        # What is no answer, but was paid for, tells of no outage.
        return isinstance(error, errors.BadAnswerError) or self._answered_at < 0 or now - began >= SECONDS


def _is_of_the_server(error: errors.APIError) -> bool:
    """One that may be the server's own trouble. What took too long may be the request's, and paid for each time."""
    if isinstance(error, errors.APITimeoutError):
        return False
    return isinstance(error, (errors.APIConnectionError, errors.InternalServerError))
