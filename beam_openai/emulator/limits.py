"""Requests and tokens per minute, for each model: admitted with headers, or refused with a 429."""

from __future__ import annotations

import math

from .buckets import Bucket, go_duration
from .options import Options
from .replies import Refusal

ORGANIZATION = "org-emulator"
_VISIT = "Visit https://platform.openai.com/account/rate-limits to learn more."


class Limits:
    """The buckets of every model that was asked for. Without `rpm` and `tpm` nothing is limited."""

    def __init__(self, options: Options) -> None:
        self._seconds = options.bucket_seconds
        self._with_ms = options.retry_after_ms
        self._limits = {
            name: limit for name, limit in (("requests", options.rpm), ("tokens", options.tpm)) if limit is not None
        }
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def admit(self, model: str, tokens: int, now: float) -> dict[str, str]:
        """Takes one request and `tokens` from the buckets of `model`, or neither.

        Returns:
            The x-ratelimit-* headers as they stand afterwards. `remaining` counts from the
            minute's limit, also when a bucket holds less than a minute's worth.

        Raises:
            Refusal: 429, with Retry-After when waiting helps. A refused request takes nothing.
        """
        costs = {"requests": 1, "tokens": tokens}
        waits = {name: self._bucket(model, name, now).wait(costs[name], now) for name in self._limits}
        # The longest wait is told: who waits for a request must not then hear "too large".
        name = max(waits, key=waits.__getitem__, default="")
        if name and waits[name] > 0:
            raise self._refusal(model, name, costs[name], waits[name], now)
        for name in self._limits:
            self._bucket(model, name, now).take(costs[name], now)
        return self._headers(model, now)

    def _bucket(self, model: str, name: str, now: float) -> Bucket:
        bucket = self._buckets.get((model, name))
        if bucket is None:
            per_second = self._limits[name] / 60
            # At least one unit: else a low limit in a short window would admit nothing, ever.
            bucket = Bucket(max(1.0, per_second * self._seconds), per_second, now)
            self._buckets[model, name] = bucket
        return bucket

    def _refusal(self, model: str, name: str, cost: int, wait: float, now: float) -> Refusal:
        bucket = self._bucket(model, name, now)
        unit = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}[name]
        where = f"for {model} in organization {ORGANIZATION} on {unit}: Limit {bucket.capacity:.0f}"
        headers = self._headers(model, now)
        if math.isinf(wait):
            message = (
                f"Request too large {where}, Requested {cost}. The input or output tokens must "
                f"be reduced in order to run successfully. {_VISIT}"
            )
        else:
            used = math.ceil(bucket.capacity - bucket.level(now))
            message = (
                f"Rate limit reached {where}, Used {used}, Requested {cost}. "
                f"Please try again in {go_duration(wait)}. {_VISIT}"
            )
            headers["retry-after"] = str(max(1, math.ceil(wait)))
            if self._with_ms:
                headers["retry-after-ms"] = str(max(1, math.ceil(wait * 1000)))
        return Refusal(429, message, type=name, code="rate_limit_exceeded", headers=headers)

    def _headers(self, model: str, now: float) -> dict[str, str]:
        headers = {}
        for name, limit in self._limits.items():
            bucket = self._bucket(model, name, now)
            remaining = limit - (bucket.capacity - bucket.level(now))
            headers[f"x-ratelimit-limit-{name}"] = f"{limit:.0f}"
            headers[f"x-ratelimit-remaining-{name}"] = str(max(0, math.floor(remaining + 1e-6)))
            headers[f"x-ratelimit-reset-{name}"] = go_duration(bucket.reset(now))
        return headers
