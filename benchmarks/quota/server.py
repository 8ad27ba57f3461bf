"""A server's quota as the documented service keeps it: of requests and of tokens, refilled continuously; or otherwise."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable

from beam_openai.emulator.buckets import Bucket, Past, Periods, go_duration

MINUTE = 60.0
_TOLD = {"all": ("requests", "tokens"), "full": ("requests", "tokens"), "none": ()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """How a server limits those who use it.

    Attributes:
      rpm, tpm: requests and tokens a minute.
      bucket: seconds of quota that a bucket holds, and that its headers tell the limit of.
      quantum: admits no more than its share in each period of so many seconds of the clock, and does not say so.
      tenant: the share of all that somebody else takes.
      headers: which x-ratelimit headers are sent: "all", those of "requests" or "tokens" alone, "none", or "full": always as
        if nothing had been used.
      lag: they tell how it was so many seconds ago.
      until: the second from which on they are not sent any more.
      resets: writes what is told as the reset, in seconds.
      limits: what is told as the limit is this times as much, at random one of them.
      is_periodic: nothing is refilled before a period of the clock ends, of as many seconds as a bucket holds.
      charge: what is taken for a token that is reserved.
      retry_after: how a 429 tells when to come again: "message" (in milliseconds), "header" (in whole seconds), "none".
    """

    rpm: float = 30_000
    tpm: float = 10_000_000
    bucket: float = MINUTE
    quantum: float | None = None
    tenant: float = 0.0
    headers: str = "all"
    lag: float = 0.0
    until: float = math.inf
    resets: Callable[[float], str] = go_duration
    limits: tuple[float, ...] = (1.0,)
    is_periodic: bool = False
    charge: float = 1.0
    retry_after: str = "message"

    @property
    def rates(self) -> tuple[float, float]:
        """Requests and tokens a second."""
        return self.rpm / MINUTE, self.tpm / MINUTE

    @property
    def left(self) -> tuple[float, float]:
        """What of them the other tenant leaves."""
        return self.rates[0] * (1 - self.tenant), self.rates[1] * (1 - self.tenant)


@dataclasses.dataclass(slots=True)
class Reply:
    """Whether a request was admitted, and what the server said."""

    admitted: bool
    headers: dict[str, str]
    message: str = ""


class _Periodic(Bucket):
    """A bucket that is full again when a period of the clock ends, and gains nothing before."""

    _period = 0

    def level(self, now: float) -> float:
        period = math.floor(now * self.per_second / self.capacity)
        if period > self._period:
            self._period, self._level = period, self.capacity
        return self._level

    def wait(self, units: float, now: float) -> float:
        return self.reset(now) if units > self.level(now) else 0.0

    def reset(self, now: float) -> float:
        seconds = self.capacity / self.per_second
        return (math.floor(now / seconds) + 1) * seconds - now


class Server:
    """Admits or refuses, by rules that may change."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        kind = _Periodic if rules.is_periodic else Bucket
        self._buckets = [kind(max(1.0, rate * rules.bucket), rate, 0.0, rules.tenant) for rate in rules.rates]
        self._random = random.Random(0)
        self._pasts = [Past(bucket, rules.lag) for bucket in self._buckets] if rules.lag else []
        self._periods = Periods(rules.quantum) if rules.quantum else None

    def change(self, rules: Rules, now: float) -> None:
        """Keeps other rules from now on."""
        self.rules = rules
        for bucket, rate in zip(self._buckets, rules.rates):
            bucket.change(max(1.0, rate * rules.bucket), rate, rules.tenant, now)

    def ask(self, costs: tuple[float, float], now: float) -> Reply:
        """Takes a request's costs, or nothing."""
        costs = costs[0], costs[1] * self.rules.charge
        wait = max(bucket.wait(cost, now) for bucket, cost in zip(self._buckets, costs))
        if self._periods:
            wait = max(wait, self._periods.wait(costs[0], self.rules.left[0] * (self.rules.quantum or 0.0), now))
        if wait > 0:
            return self._refusal(wait, now)
        for bucket, cost in zip(self._buckets, costs):
            bucket.take(cost, now)
        for past, bucket in zip(self._pasts, self._buckets):
            past.keep(bucket)
        if self._periods:
            self._periods.take(costs[0], now)
        return Reply(True, self._headers(now))

    def level(self, now: float) -> float:
        """How full the emptier bucket is."""
        return min(bucket.level(now) / bucket.capacity for bucket in self._buckets)

    def _refusal(self, wait: float, now: float) -> Reply:
        headers = self._headers(now)
        if self.rules.retry_after == "header":
            headers["retry-after"] = str(max(1, math.ceil(wait)))
        message = f"Please try again in {go_duration(wait)}." if self.rules.retry_after == "message" else ""
        return Reply(False, headers, message)

    def _headers(self, now: float) -> dict[str, str]:
        headers: dict[str, str] = {}
        if now >= self.rules.until:
            return headers
        times = self._random.choice(self.rules.limits)
        for which, name in enumerate(("requests", "tokens")):
            if name not in _TOLD.get(self.rules.headers, (self.rules.headers,)):
                continue
            bucket = self._pasts[which].bucket(now) if self._pasts else self._buckets[which]
            level = bucket.capacity if self.rules.headers == "full" else bucket.level(now - self.rules.lag)
            headers[f"x-ratelimit-limit-{name}"] = f"{times * bucket.capacity:.0f}"
            headers[f"x-ratelimit-remaining-{name}"] = str(math.floor(level + 1e-6))
            reset = bucket.reset(now) if self.rules.is_periodic else (bucket.capacity - level) / bucket.per_second
            headers[f"x-ratelimit-reset-{name}"] = self.rules.resets(reset)
        return headers
