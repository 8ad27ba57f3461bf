"""A bound for the bytes of answers that a process holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Memory:
    """A bound for bytes: `take` waits while none are free.

    The last to come may go over it, so that an answer larger than the bound passes too. While one waits, `is_short` is
    true and all that is done is handed out, so bytes come free; should a runner be slow to take it, the wait ends after
    30 s and the bound gives way, not the job.

    Args:
      size: the bound.
      on_short: called when one begins to wait.
      is_stuck: whether none can come free while one waits: then the bound gives way at once.
    """

    _PATIENCE = 30.0
    _LOOK = 0.1

    def __init__(self, size: int, on_short: Callable[[], None], is_stuck: Callable[[], bool] = lambda: False) -> None:
        self._free = size
        self._on_short = on_short
        self._is_stuck = is_stuck
        self._waiting = 0
        self._changed = threading.Condition()

    @property
    def is_short(self) -> bool:
        return self._waiting > 0

    def take(self, size: int) -> None:
        if not size:
            return
        with self._changed:
            if self._free <= 0:
                self._waiting += 1
                self._on_short()
                until = time.monotonic() + self._PATIENCE
                while self._free <= 0 and not self._is_stuck() and (left := until - time.monotonic()) > 0:
                    self._changed.wait(min(left, self._LOOK))
                self._waiting -= 1
            self._free -= size
            if self._free > 0:
                self._changed.notify()

    def release(self, size: int) -> None:
        if size:
            with self._changed:
                self._free += size
                self._changed.notify()
