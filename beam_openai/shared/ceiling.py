"""The ceiling as one process sees it: reserve, wait, send, settle."""

from __future__ import annotations

import dataclasses
import logging
import random
import threading
import time
from collections.abc import Mapping

from beam_openai import errors
from beam_openai.shared.script import SCRIPT
from beam_openai.shared.server import Server

_logger = logging.getLogger(__name__)

_QUIET = 0.5
"""Seconds after the last reservation from when on corrections no longer wait for the next one."""

_Corrections = dict[tuple[str, int], float]


@dataclasses.dataclass
class Booking:
    """Leave to send one request when `wait` is over.

    Attributes:
      wait: seconds to wait before it is sent, from when `reserve` returned.
      at: when that is by Redis' clock, in seconds since 1970.
      amounts: what is counted for it, by dimension: what was reserved, then what was used.
      slot, generation: where it is counted.
    """

    wait: float
    at: float
    amounts: dict[str, float]
    slot: int
    generation: int


@dataclasses.dataclass(frozen=True)
class Refused:
    """Nothing was reserved: the line is too long.

    Attributes:
      wait: seconds after which to ask again; not the same for all who are refused.
    """

    wait: float


class Shared:
    """A quota of all processes that say the same name, for all threads of this one; made on the worker.

    Args:
      url: of the Redis, as `find_url` gives it.
      name: which quota it is. It can be read in Redis, so it holds no secret.
      limits: by dimension, what any window may hold; None to be counted only, for others that have a limit. Each process
        keeps its own limits, over the sums of all.
      window: seconds. Where it differs, the quota is another one.

    Raises:
      ValueError: no dimension, or a limit that is not more than 0.
      SharedQuotaError: the package `redis` is not installed. Nothing is connected before the first reservation.
    """

    def __init__(self, url: str, name: str, limits: Mapping[str, float | None], *, window: float = 60.0) -> None:
        if not limits:
            raise ValueError("a shared quota has at least one dimension")
        for dimension, limit in limits.items():
            if limit is not None and not limit > 0:
                raise ValueError(f"the limit of {dimension} must be more than 0, not {limit!r}")
        self._server = Server(url, SCRIPT)
        self._key = f"beam_openai:quota:{window:g}:{name}"
        self._limits = {what: None if limit is None else float(limit) for what, limit in limits.items()}
        self._window, self._horizon = window, window / 6
        self._lock = threading.Lock()
        self._corrections: _Corrections = {}
        self._generation = 0
        self._reached = self._asked = float("-inf")
        self._used = 0.0
        self._closed = threading.Event()
        self._flusher = threading.Thread(target=self._flush_when_quiet, name="beam_openai-shared", daemon=True)
        self._flusher.start()

    @property
    def used(self) -> float:
        """The share of the quota that all processes together use, as it was told last; 0.0 where that is a window ago."""
        return self._used if time.monotonic() - self._reached < self._window else 0.0

    def reserve(self, costs: Mapping[str, float]) -> Booking | Refused:
        """Books a request at the first time at which all that it costs fits in; brings waiting corrections along.

        Args:
          costs: by dimension; 0 for those of `limits` that are left out.

        Raises:
          ValueError: more than a limit, which would never fit; not a number from 0 on; a dimension that `limits` lacks.
          SharedQuotaError: Redis cannot be reached now (its `action` is "wait") or refuses ("stop"): send nothing.
        """
        if unknown := costs.keys() - self._limits.keys():
            raise ValueError(f"the shared quota has no dimension {', '.join(sorted(unknown))}")
        amounts = {dimension: float(costs.get(dimension, 0.0)) for dimension in self._limits}
        for dimension, limit in self._limits.items():
            _check_amount(dimension, amounts[dimension])
            if limit is not None and amounts[dimension] > limit:
                raise ValueError(
                    f"a request of {amounts[dimension]:g} {dimension} never fits into the {limit:g} of {self._window:g} s"
                )
        self._asked = time.monotonic()
        slot, at, now, generation, _ = self._run(amounts)
        wait = (at - now) / 1e6
        if slot:
            return Booking(wait, at / 1e6, amounts, slot, generation)
        # The last to come back still finds half of the line there: it never runs dry.
        return Refused(max(0.0, wait - self._horizon) + self._horizon * random.uniform(0.1, 0.5))

    def settle(self, booking: Booking, used: Mapping[str, float]) -> None:
        """Corrects what was reserved by what was used; the dimensions that `used` leaves out stay as they are.

        Makes a note that goes with the next reservation, or soon if there is none; the network is not waited for. What has
        left the window is not corrected.

        Raises:
          ValueError: not a number from 0 on.
          KeyError: a dimension that `limits` lacks.
        """
        for dimension, amount in used.items():
            _check_amount(dimension, amount)
        with self._lock:
            for dimension, amount in used.items():
                correction = amount - booking.amounts[dimension]
                booking.amounts[dimension] = amount
                if correction and booking.generation == self._generation:
                    place = dimension, booking.slot
                    self._corrections[place] = self._corrections.get(place, 0.0) + correction

    def cancel(self, booking: Booking) -> None:
        """Gives back all of a request that was not sent after all."""
        self.settle(booking, dict.fromkeys(booking.amounts, 0.0))

    def close(self) -> None:
        """Brings the last corrections to Redis, if it is there, and ends the connections."""
        self._closed.set()
        self._flusher.join()
        self._flush()
        self._server.close()

    def _flush_when_quiet(self) -> None:
        while not self._closed.wait(_QUIET / 2):
            if time.monotonic() - self._asked >= _QUIET:
                self._flush()

    def _flush(self) -> None:
        if not self._corrections:
            return
        try:
            self._run(None)
        except errors.SharedQuotaError as error:
            _logger.info("corrections of the shared quota did not arrive: %s", error)

    def _run(self, costs: Mapping[str, float] | None) -> list[int]:
        """The script's answer; it is asked twice where the connection breaks."""
        try:
            return self._run_once(costs)
        except errors.SharedQuotaError as error:
            if error.action == "stop":
                raise
            return self._run_once(costs)

    def _run_once(self, costs: Mapping[str, float] | None) -> list[int]:
        asked = time.monotonic()
        with self._lock:
            corrections, self._corrections = self._corrections, {}
            # What is this old has left the window; of what came later others know.
            known = self._generation if asked - self._reached < self._horizon + 2 * self._window else 0
        # Of the others nothing changes.
        corrected = {dimension for dimension, _ in corrections}
        named = {
            dimension: limit
            for dimension, limit in self._limits.items()
            if limit is not None or dimension in corrected or (costs and costs[dimension])
        }
        arguments: list[object] = [known, round(self._window * 1e6), len(named)]
        for dimension, limit in named.items():
            arguments += dimension, "" if limit is None else limit, "" if costs is None else costs[dimension]
        for (dimension, slot), correction in corrections.items():
            arguments += dimension, slot, correction
        try:
            answer: list[int] = self._server.run(self._key, arguments)
        except errors.SharedQuotaError:
            self._keep_surcharges(corrections)
            raise
        with self._lock:
            self._reached = max(self._reached, asked)
            self._used = answer[4] / 1000
            if answer[3] != self._generation:
                self._generation, self._corrections = answer[3], {}
        return answer

    def _keep_surcharges(self, corrections: _Corrections) -> None:
        # They may have arrived, and only the answer is lost: to count twice is safe, to give back twice is not.
        with self._lock:
            for place, correction in corrections.items():
                if correction > 0:
                    self._corrections[place] = self._corrections.get(place, 0.0) + correction


def _check_amount(dimension: str, amount: float) -> None:
    if not 0 <= amount < float("inf"):
        raise ValueError(f"{amount!r} {dimension}: not a number from 0 on")
