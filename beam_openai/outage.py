"""Whether it is a server that answers nobody, or a request that it cannot answer.

Several requests without an answer, and none answered since the first of them, are an outage. For a minute from the last
answer it is waited for: nobody's rows fail for it, and no request is divided. After that minute, where ten requests in a
row have spent their attempts, the job stops.

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


class Outage:
    """What of that is known; for all threads of a process. `now` are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answered_at = float("-inf")
        self._unanswered: set[object] = set()
        self._exhausted = 0

    def answered(self, now: float) -> None:
        """A request was."""
        self._answered_at = now
        if self._unanswered or self._exhausted:
            with self._lock:
                self._unanswered.clear()
                self._exhausted = 0

    def unanswered(self, request: object, error: errors.APIError) -> None:
        """An attempt of this request came to nothing."""
        if _is_of_the_server(error):
            with self._lock:
                self._unanswered.add(request)

    def is_on(self, error: errors.APIError, now: float) -> bool:
        """Whether this error is to be waited for, however often it comes."""
        # A 500 may be for what was asked, and so may be a few of them.
        enough = IN_A_ROW if error.status == 500 else _SEVERAL
        return _is_of_the_server(error) and len(self._unanswered) >= enough and now - self._answered_at < SECONDS

    def exhausted(self, error: errors.APIError, now: float) -> bool:
        """Counts a request that spent its attempts; whether there is no point in going on."""
        with self._lock:
            self._exhausted += 1
            if self._exhausted < IN_A_ROW:
                return False
        # What is no answer, but was paid for, tells of no outage.
        return isinstance(error, errors.BadAnswerError) or now - self._answered_at >= SECONDS


def _is_of_the_server(error: errors.APIError) -> bool:
    """One that may be the server's own trouble. What took too long may be the request's, and paid for each time."""
    if isinstance(error, errors.APITimeoutError):
        return False
    return isinstance(error, (errors.APIConnectionError, errors.InternalServerError))
