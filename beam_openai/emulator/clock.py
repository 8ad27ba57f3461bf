"""The time of day that life cycles go by: a test may turn it forward."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Unix seconds, ahead of the real ones by what it was turned.

    Rate limits and latencies do not go by it: they are about the real time that passes.
    """

    def __init__(self, real: Callable[[], float] = time.time) -> None:
        self._real = real
        self._ahead = 0.0

    def now(self) -> float:
        """Unix seconds."""
        return self._real() + self._ahead

    def turn(self, seconds: float) -> None:
        """Goes forward by so many seconds.

        Raises:
            ValueError: it would go back.
        """
        if not seconds >= 0:
            raise ValueError(f"the clock only goes forward, not by {seconds}")
        self._ahead += seconds
