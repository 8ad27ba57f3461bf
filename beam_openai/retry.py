"""Whether to try again, and how long to wait."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retry:
    """When attempt number `attempt` failed, the next one is made after

        min(60, max_wait, 0.5 * 2 ** (attempt - 1)) * U     seconds, U uniform in [0, 1), or after
        w * (1 + 0.1 * U)                                   seconds, where the server asked to wait w.

    Attributes:
      attempts: sends of one request at most, the first one counted.
      max_wait: seconds; a server that asks for more stops the job with an error that says so (a daily limit, say).
      max_elapsed: seconds from a request's first attempt after which no further one begins.

    Raises:
      ValueError: a value that can never work.
    """

    attempts: int = 6
    max_wait: float = 120.0
    max_elapsed: float = 600.0

    def __post_init__(self) -> None:
        if not (isinstance(self.attempts, int) and self.attempts >= 1):
            raise ValueError(f"Retry.attempts must be at least 1, and a whole number, not {self.attempts!r}")
        for name in ("max_wait", "max_elapsed"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and value >= 0):
                raise ValueError(f"Retry.{name} must be at least 0, and a number, not {value!r}")

    def wait(
        self,
        attempt: int,
        elapsed: float,
        retry_after: float | None = None,
        uniform: Callable[[], float] = random.random,
    ) -> float | None:
        """Seconds until the next attempt; None where there is none left.

        Args:
          attempt: the number of the attempt that failed, from 1.
          elapsed: seconds since the request's first attempt began.
          retry_after: seconds that the server asked for; at most `max_wait`.
          uniform: draws from [0, 1).
        """
        if attempt >= self.attempts:
            return None
        if retry_after is not None:
            seconds = retry_after * (1 + 0.1 * uniform())
        else:
            # The exponent is bounded for the sake of attempt 1026, where a float is not enough.
            seconds = min(60.0, self.max_wait, 0.5 * 2.0 ** min(attempt - 1, 10)) * uniform()
        return seconds if elapsed + seconds <= self.max_elapsed else None
