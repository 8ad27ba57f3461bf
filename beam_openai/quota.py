"""Requests, tokens, images and audio per minute: wait until it fits.

Four things decide when a request may be sent, and the longest wait counts:

    the user's ceiling    in every window of 60 s at most so much, and evenly: ceilings.py; for all processes: shared/
    the server's buckets  as its x-ratelimit headers tell them: all that is refilled is used, in equal shares by all who
                          send, a tenth of it being left in the bucket: the law is in buckets.py
    refusals              that no header explains: the pace goes back to what was accepted, and grows again: refusals.py
    a pause               what a 429 asked for

Time is a parameter: nothing here sleeps or reads a clock.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import random
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

from beam_openai.buckets import Bucket, Sent
from beam_openai.ceilings import Ceiling
from beam_openai.errors import SharedQuotaError
from beam_openai.refusals import Refusals
from beam_openai.shared import Booking, Shared, check_url

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quota:
    """A ceiling of the user's own, for each model: of each worker process, or of all of them together.

    What the server's headers say is obeyed beside it: `Quota()` learns from them alone, and needs nothing else.

    Attributes:
      requests_per_minute: requests in any 60 seconds; no ceiling where it is not set. Retries count.
      tokens_per_minute: tokens in any 60 seconds; reserved by estimate, corrected by the answer's usage.
      images_per_minute: images made in any 60 seconds.
      audio_megabytes_per_minute: of recordings sent in any 60 seconds, a megabyte being 1,000,000 bytes.
      shared: a Redis that keeps the ceiling for all workers of all jobs that name it, so that together they never pass it,
        one for each model of an API's base_url, organization and project: its URL (`redis://host:6379/0`, without a
        password), or the name of an environment variable of the workers that holds the URL. Not set: a ceiling of each
        process by itself. Nothing is sent while Redis cannot be reached, and after two minutes of that the job stops.

    Raises:
      ValueError: a value that can never work.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    images_per_minute: float | None = None
    audio_megabytes_per_minute: float | None = None
    shared: str | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            is_limit = field.name.endswith("_per_minute") and value is not None
            if is_limit and not (isinstance(value, (int, float)) and value > 0):
                raise ValueError(f"Quota.{field.name} must be a number of more than 0, not {value!r}")
        if self.shared is not None:
            check_url(self.shared)
            limits = [limit for limit in self.limits.values() if limit]
            if not limits:
                raise ValueError("Quota(shared=...) shares a ceiling: set requests_per_minute, or another one")
            if min(limits) < 1:
                raise ValueError(f"a ceiling that is shared must be at least 1 a minute, not {min(limits)!r}")

    @property
    def limits(self) -> dict[str, float | None]:
        """The ceilings by what they count, in the order of `Cost`."""
        return {
            "requests": self.requests_per_minute,
            "tokens": self.tokens_per_minute,
            "images": self.images_per_minute,
            "audio": self.audio_megabytes_per_minute,
        }


class Cost(NamedTuple):
    """What a request takes of a quota; `audio` in megabytes."""

    requests: float = 1.0
    tokens: float = 0.0
    images: float = 0.0
    audio: float = 0.0


_REQUESTS, _TOKENS, _IMAGES = range(3)
_PART = 1 / 40
_PATIENCE = 120.0
"""Seconds without the shared ceiling after which the job stops."""
_AGAIN = 1.0
"""Seconds after which it is asked again."""
_FORGOTTEN = 30.0
"""Seconds in which nobody asked for it, after which it is no longer the same trouble."""
_LATE = 0.1
"""Seconds after its time in which a booked request may still be sent: so exactly is time counted in Redis."""
# By their names in the headers.
_BUCKETS = {
    "requests": _REQUESTS,
    "tokens": _TOKENS,
    "images": _IMAGES,
    "project-requests": _REQUESTS,
    "project-tokens": _TOKENS,
}


@dataclasses.dataclass(slots=True)
class Grant:
    """Leave to send one request.

    Attributes:
      cost: what it takes by estimate.
      at: when it was given.
      sent: what each of the server's buckets knew then.
      reserved: its entries in the user's ceilings.
      pace: such requests a second that the server's quota allows this process, where it is known.
      booking: its place in the ceiling that is shared with other processes.
      due: when that place is.
    """

    cost: Cost
    at: float
    sent: list[Sent]
    reserved: list[list[float]]
    pace: float | None = None
    booking: Booking | None = None
    due: float = 0.0


class Limiter:
    """Keeps a `Quota` and what the server says of its own, for all threads of a process.

    Args:
      quota: the user's ceiling.
      now: seconds of a monotonic clock; so are all `now` below.
      shared: keeps the ceiling in its place, if it is shared with other processes.
      uniform: draws from [0, 1).
    """

    def __init__(
        self,
        quota: Quota,
        now: float,
        shared: Shared | None = None,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._lock = threading.Lock()
        self._limits = quota.limits
        self._shared = shared
        self._ceilings = [
            (what, Ceiling(limit, now)) for what, limit in enumerate(self._limits.values()) if limit and not shared
        ]
        self._unreached_since: float | None = None
        self._unreached_at = now
        self._buckets = [(what, Bucket(name, uniform)) for name, what in _BUCKETS.items()]
        self._refusals = Refusals()
        self._paused_until = now

    @property
    def largest(self) -> float | None:
        """The most tokens for a request of several rows; None where nothing limits it.

        A fortieth of the smallest bucket or ceiling: others send, too, and large requests must wait for each other. More
        where so many requests are not allowed: what uses all tokens with half of the requests, or a third of them at most.
        """
        tokens, most = self._least(_TOKENS)
        requests, _ = self._least(_REQUESTS)
        return max(_PART * most, min(2 * tokens / requests, most / 3)) if most < math.inf else None

    def _least(self, what: int) -> tuple[float, float]:
        """What a minute allows, and how much at once; infinite where nothing is known."""
        ceiling = list(self._limits.values())[what] or math.inf
        known = [bucket for which, bucket in self._buckets if which == what and bucket.limit]
        rates, limits = [60 * bucket.rate for bucket in known], [bucket.limit or math.inf for bucket in known]
        return min([ceiling, *rates]), min([ceiling, *limits])

    def wait(self, cost: Cost, now: float) -> float:
        """Seconds until such a request may be sent; 0.0 if it may be sent now."""
        with self._lock:
            wait = max(0.0, self._paused_until - now, self._refusals.wait(now))
            for what, ceiling in self._ceilings:
                if cost[what]:
                    wait = max(wait, ceiling.wait(cost[what], now))
            for what, bucket in self._buckets:
                if cost[what]:
                    wait = max(wait, bucket.wait(cost[what], now))
            return wait

    def take(self, cost: Cost, now: float) -> Grant:
        """Counts a request that is about to be sent."""
        with self._lock:
            self._refusals.take(now)
            reserved = [ceiling.take(cost[what], now) for what, ceiling in self._ceilings]
            sent = [bucket.take(cost[what], now) for what, bucket in self._buckets]
            paces = [known.pace / known.cost for known in sent if known.pace and known.cost]
            return Grant(cost, now, sent, reserved, min(paces, default=None))

    def book(self, grant: Grant, now: float) -> float:
        """Asks for a place in the ceiling that is shared with other processes; blocks for as long as Redis takes to answer.

        Seconds until the request may be sent, 0.0 for now. With `grant.booking` it has its place then, and need not ask
        again; without, it must.

        Raises:
          SharedQuotaError: there has been no Redis for two minutes, or there never will be.
        """
        if self._shared is None:
            return 0.0
        if grant.booking is not None:
            if now <= grant.due + _LATE:
                return 0.0
            self._shared.cancel(grant.booking)
            grant.booking = None
        # What is larger than the ceiling by estimate takes all of it: whether it is, only the answer can tell.
        costs = {
            name: min(cost, limit or cost) for (name, limit), cost in zip(self._limits.items(), grant.cost, strict=True)
        }
        try:
            answer = self._shared.reserve(costs)
        except SharedQuotaError as error:
            return self._unreached(error, now)
        self._unreached_since = None
        if isinstance(answer, Booking):
            grant.booking, grant.due = answer, now + answer.wait
        return answer.wait

    def renew(self, grant: Grant, now: float) -> None:
        """What was booked is sent now: how long its answer takes, and of when that tells, counts from here."""
        with self._lock:
            grant.at = now
            grant.sent = [dataclasses.replace(sent, at=now) for sent in grant.sent]

    def _unreached(self, error: SharedQuotaError, now: float) -> float:
        if self._unreached_since is None or now - self._unreached_at > _FORGOTTEN:
            self._unreached_since = now
            _logger.warning("%s", error)
        self._unreached_at = now
        if error.action == "stop" or now - self._unreached_since > _PATIENCE:
            error.action = "stop"
            raise error
        return _AGAIN

    def settle(self, grant: Grant, **used: float) -> None:
        """Corrects what was reserved by what was used, of what is named: `tokens`, `images`, `audio`."""
        with self._lock:
            for (what, ceiling), entry in zip(self._ceilings, grant.reserved):
                amount = used.get(Cost._fields[what])
                if amount is not None:
                    ceiling.settle(entry, amount)
        if self._shared is not None and grant.booking is not None:
            self._shared.settle(grant.booking, used)

    def forgive(self, grant: Grant) -> None:
        """Of a request that was refused, or never arrived, nothing is used but that it was one."""
        self.settle(grant, tokens=0.0, images=0.0, audio=0.0)
        with self._lock:
            for what, bucket in self._buckets:
                bucket.forgive(grant.cost[what])

    def cancel(self, grant: Grant) -> None:
        """Takes back a request that was not sent after all."""
        with self._lock:
            self._refusals.give_back()
            for (_, ceiling), entry in zip(self._ceilings, grant.reserved):
                ceiling.settle(entry, 0)
            for what, bucket in self._buckets:
                bucket.give_back(grant.cost[what])
        if self._shared is not None and grant.booking is not None:
            self._shared.cancel(grant.booking)

    def observe(self, grant: Grant, headers: Mapping[str, str], now: float, refused: bool = False) -> None:
        """Learns from an answer.

        Args:
          grant: that of its request.
          headers: names in lower case.
          refused: whether the server had too much to do, or we too little quota, to let the request pass.
        """
        with self._lock:
            explained = False
            for (what, bucket), sent in zip(self._buckets, grant.sent):
                bucket.observe(headers, sent, refused, now)
                explained = explained or bucket.is_explained(grant.cost[what])
            if not refused:
                self._refusals.accepted(now)
            elif not explained:
                self._refusals.refused(grant.at, now)

    def close(self) -> None:
        """Tells the shared ceiling what is still to be corrected, and leaves it."""
        if self._shared:
            self._shared.close()

    def pause(self, seconds: float, now: float) -> None:
        """Nothing is sent for so long."""
        with self._lock:
            self._paused_until = max(self._paused_until, now + seconds)

    def is_cut_off(self, now: float) -> bool:
        """Whether nothing is sent because the shared ceiling cannot be asked."""
        return self._unreached_since is not None and now - self._unreached_at <= 3 * _AGAIN

    def used(self, now: float) -> float | None:
        """The share of the quota, the user's or the server's, that is in use: of what is shared, by all; None where none is
        known."""
        with self._lock:
            shares = [min(1.0, ceiling.used(now)) for _, ceiling in self._ceilings]
            shares += [min(1.0, self._shared.used)] if self._shared else []
            shares += [bucket.used for _, bucket in self._buckets if bucket.pace is not None]
            return max(shares, default=None)
