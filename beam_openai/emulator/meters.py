"""One limit of one model: what it admits, and what its headers tell."""

from __future__ import annotations

import math

from .buckets import Bucket, Past, Periods, go_duration
from .options import Options


class Meter:
    """Requests, tokens, images or bytes of audio a minute, of one model, full at `now`.

    Args:
        name: of what; it is the last word of the headers' names.
        per_minute: the limit.
        options: how it is kept, and what is told of it.
    """

    def __init__(self, name: str, per_minute: float, options: Options, now: float) -> None:
        self._options = options
        self._names = [f"x-ratelimit-{what}-{name}" for what in ("limit", "remaining", "reset")]
        self.bucket = Bucket(*_size(per_minute, options), now, options.tenant_share)
        self._periods = Periods(options.quantum_seconds) if options.quantum_seconds else None
        self._past = Past(self.bucket, options.header_lag) if options.header_lag else None

    def change(self, per_minute: float, options: Options, now: float) -> None:
        """Another limit from `now` on, or another share of the other tenant's; as full as before, in proportion."""
        self._options = options
        self.bucket.change(*_size(per_minute, options), options.tenant_share, now)
        if self._past:
            self._past.keep(self.bucket)

    def wait(self, cost: float, now: float) -> float:
        """Seconds until so much is admitted, as far as is known; inf when it never is."""
        wait = self.bucket.wait(cost, now)
        if self._periods is None:
            return wait
        return max(wait, self._periods.wait(cost, self._share_of_a_period(), now))

    def take(self, cost: float, now: float) -> None:
        """Takes `cost`, which is admitted: `wait(cost, now) == 0`."""
        self.bucket.take(cost, now)
        if self._periods:
            self._periods.take(cost, now)
        if self._past:
            self._past.keep(self.bucket)

    def tell(self, headers: dict[str, str], now: float) -> None:
        """Puts the x-ratelimit headers among `headers`.

        `remaining` counts from the minute's limit, also when the bucket holds less than a minute's worth.
        """
        bucket = self.bucket
        if self._past:
            bucket = self._past.bucket(now)
            now -= self._past.seconds
        told = self._options.ratelimit_headers
        used = 0.0 if told == "full" else bucket.capacity - bucket.level(now)
        limit = bucket.per_second * 60
        name_of_limit, name_of_remaining, name_of_reset = self._names
        headers[name_of_limit] = f"{limit:.0f}"
        headers[name_of_remaining] = str(max(0, math.floor(limit - used + 1e-6)))
        headers[name_of_reset] = go_duration(used / bucket.per_second)

    def _share_of_a_period(self) -> float:
        of_everybody = self.bucket.per_second * (self._options.quantum_seconds or 0.0)
        return of_everybody * (1 - self._options.tenant_share)


def _size(per_minute: float, options: Options) -> tuple[float, float]:
    """A bucket's capacity, and what it gains in a second."""
    per_second = per_minute / 60
    # At least one unit: else a low limit in a short window would admit nothing, ever.
    return max(1.0, per_second * options.bucket_seconds), per_second
