"""Whether it is a server that answers nobody, or a request that it cannot answer.

Several requests that first came to nothing after the last answer are an outage. For a minute from that answer it is waited
for: who has spent the attempts has them again, and no request is divided. Requests that had come to nothing while others
were answered tell of no outage: they may be what the server cannot answer. After that minute, where ten requests in a row
have spent their attempts, the job stops.

Time is a parameter: nothing here sleeps or reads a clock.
"""

from __future__ import annotations

import threading

from beam_openai import errors

IN_A_ROW = 10
"""Requests that spent their attempts, none having been answered between them, after which the job stops."""
SECONDS = 60.0
"""From the last answer: so long an outage is waited for."""
_SEVERAL = 3


class _InVain:
    """When a request's attempts came to nothing: the first, the last and the one before it."""

    def __init__(self, first: float) -> None:
        self.first = self._last = first
        self._before = float("-inf")

    def note(self, now: float) -> None:
        self._before, self._last = self._last, now

    def fell_into(self, begin: float, end: float) -> bool:
        """Whether the first did, or the last but one: the last itself may have been sent in this time, and end after it."""
        return any(begin < at <= end for at in (self.first, self._before))


class Outage:
    """What of that is known; for all threads of a process. `now` are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answered_at = float("-inf")
        self._unanswered: dict[object, _InVain] = {}
        self._exhausted: set[object] = set()
        self._unusable = 0
        self._latest = float("inf"), float("-inf")

    def answered(self, request: object, now: float) -> None:
        """A request was."""
        self._answered_at, self._unusable = now, 0
        if self._unanswered or self._exhausted:
            with self._lock:
                self._unanswered.pop(request, None)
                self._exhausted.clear()

    def ended(self, request: object) -> None:
        """Nothing more will become of it: it failed, or others are in its place."""
        with self._lock:
            self._unanswered.pop(request, None)

    def unanswered(self, request: object, error: errors.APIError, now: float) -> None:
        """An attempt of this request came to nothing."""
        if _is_of_the_server(error):
            with self._lock:
                if request in self._unanswered:
                    self._unanswered[request].note(now)
                else:
                    self._unanswered[request] = _InVain(now)

    def unusable(self) -> bool:
        """An answer was paid for and cannot be used; whether that is so of several in a row."""
        self._unusable += 1
        return self._unusable >= _SEVERAL

    def explains(self, request: object, error: errors.APIError, now: float) -> bool:
        """Whether this request, which has spent its attempts, is to have them all again: nobody was answered meanwhile."""
        if not _is_of_the_server(error) or now - self._answered_at >= SECONDS:
            return False
        # A 500 may be for what was asked, and so may be a few of them.
        enough = IN_A_ROW if error.status == 500 else _SEVERAL
        with self._lock:
            is_on = sum(other.first > self._answered_at for other in self._unanswered.values()) >= enough
            if is_on:
                self._latest = self._answered_at, now
            # It may be over since this request's last attempt.
            attempts = self._unanswered.get(request)
            is_explained = is_on or (attempts is not None and attempts.fell_into(*self._latest))
            if is_explained:
                self._unanswered[request] = _InVain(now)
            return is_explained

    def exhausted(self, request: object, error: errors.APIError, now: float) -> bool:
        """Counts a request that spent its attempts; whether there is no point in going on."""
        with self._lock:
            self._exhausted.add(request)
            if len(self._exhausted) < IN_A_ROW:
                return False
        # What is no answer, but was paid for, tells of no outage.
        return isinstance(error, errors.BadAnswerError) or now - self._answered_at >= SECONDS


def _is_of_the_server(error: errors.APIError) -> bool:
    """One that may be the server's own trouble. What took too long may be the request's, and paid for each time."""
    if isinstance(error, errors.APITimeoutError):
        return False
    return isinstance(error, (errors.APIConnectionError, errors.InternalServerError))
