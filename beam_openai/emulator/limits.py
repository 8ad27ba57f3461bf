"""Requests, tokens, images and audio per minute, for each model: admitted with headers, or refused with a 429."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .buckets import go_duration
from .meters import Meter
from .options import Options
from .replies import Refusal

ORGANIZATION = "org-emulator"
_VISIT = "Visit https://platform.openai.com/account/rate-limits to learn more."
_UNITS = {
    "requests": "requests per min (RPM)",
    "tokens": "tokens per min (TPM)",
    "images": "images per min (IPM)",
    "audio_bytes": "audio bytes per min",
}
_TOO_LARGE = {"images": "The number of images", "audio_bytes": "The audio"}
# The type of an error for the others too: theirs are limits of requests in the real service's words.
_TYPES = {"tokens": "tokens"}
_TOLD = {"all": ("requests", "tokens"), "full": ("requests", "tokens"), "none": ()}


class Limits:
    """The limits of every model that was asked for. Without `rpm`, `tpm`, `ipm` and `audio_mbpm` nothing is limited."""

    def __init__(self, options: Options) -> None:
        self._models: dict[str, dict[str, Meter]] = {}
        self._set(options)

    def change(self, options: Options, now: float) -> None:
        """Keeps the limits of other options from `now` on; what is there stays as full as it is, in proportion."""
        self._set(options)
        for meters in self._models.values():
            for name in list(meters):
                if name in self._limits:
                    meters[name].change(self._limits[name], options, now)
                else:
                    del meters[name]

    def _set(self, options: Options) -> None:
        self._options = options
        audio = None if options.audio_mbpm is None else options.audio_mbpm * 1_000_000
        limits = {"requests": options.rpm, "tokens": options.tpm, "images": options.ipm, "audio_bytes": audio}
        self._limits = {name: limit for name, limit in limits.items() if limit is not None}
        self._told = _TOLD.get(options.ratelimit_headers, (options.ratelimit_headers,))

    def admit(self, model: str, costs: Mapping[str, int], now: float) -> dict[str, str]:
        """Takes what a request costs from the limits of `model`, or nothing of any.

        Args:
            costs: of each limit that counts for the request, `requests`, `tokens`, `images` or `audio_bytes`.

        Returns:
            The x-ratelimit-* headers of requests and tokens as they stand afterwards.

        Raises:
            Refusal: 429, with Retry-After when waiting helps.
        """
        if not self._limits:
            return {}
        meters = {name: self._meter(model, name, now) for name in costs if name in self._limits}
        waits = {name: meter.wait(costs[name], now) for name, meter in meters.items()}
        # The longest wait is told: who waits for a request must not then hear "too large".
        name = max(waits, key=waits.__getitem__, default="")
        if name and waits[name] > 0:
            raise self._refusal(model, name, costs[name], waits[name], self._headers(meters, now), now)
        for name, meter in meters.items():
            meter.take(costs[name], now)
        return self._headers(meters, now)

    def _meter(self, model: str, name: str, now: float) -> Meter:
        meters = self._models.setdefault(model, {})
        if name not in meters:
            meters[name] = Meter(name, self._limits[name], self._options, now)
        return meters[name]

    def _refusal(self, model: str, name: str, cost: int, wait: float, headers: dict[str, str], now: float) -> Refusal:
        bucket = self._meter(model, name, now).bucket
        where = f"for {model} in organization {ORGANIZATION} on {_UNITS[name]}: Limit {bucket.capacity:.0f}"
        if math.isinf(wait):
            what = _TOO_LARGE.get(name, "The input or output tokens")
            message = (
                f"Request too large {where}, Requested {cost}. {what} must be reduced in order to run "
                f"successfully. {_VISIT}"
            )
        else:
            used = math.ceil(bucket.capacity - bucket.level(now))
            again = f"Please try again in {go_duration(wait)}. " if self._says("message") else ""
            message = f"Rate limit reached {where}, Used {used}, Requested {cost}. {again}{_VISIT}"
            if self._says("header"):
                headers["retry-after"] = str(max(1, math.ceil(wait)))
            if self._options.retry_after_ms:
                headers["retry-after-ms"] = str(max(1, math.ceil(wait * 1000)))
        return Refusal(429, message, type=_TYPES.get(name, "requests"), code="rate_limit_exceeded", headers=headers)

    def _says(self, where: str) -> bool:
        return self._options.retry_after in (where, "both")

    def _headers(self, meters: Mapping[str, Meter], now: float) -> dict[str, str]:
        headers: dict[str, str] = {}
        for name in self._told:
            if name in meters:
                meters[name].tell(headers, now)
        return headers
