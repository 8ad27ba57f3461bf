"""What can go wrong on purpose: the kinds, and a seeded plan of which request meets which. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping

REFUSED = {
    "rate_limit": "429 that says to wait a second, in Retry-After and in its message",
    "rate_limit_ms": "429 with retry-after-ms: 250, and a longer Retry-After",
    "rate_limit_message": "429 that says so in its message only (644 ms)",
    "insufficient_quota": "429 that no waiting mends: the money is spent",
    "server_error": "500 with an error object",
    "bad_gateway": "502 with an HTML page",
    "unavailable": "503 with an error object",
    "overloaded": "503 of a busy engine",
    "gateway_timeout": "504 with plain text",
    "empty_520": "520 with no body",
    "error_200": "200 with an error object",
}
"""Answered with an error in place of the answer. Nothing is billed."""

DROPPED = {
    "reset": "connection reset, nothing answered, nothing billed",
    "stall": "no answer for --stall-seconds, then the right one (billed if still awaited)",
}
"""Not answered, or late."""

DAMAGED = {
    "shuffled": "200, rows out of order, each with its right index",
    "missing": "200, one row is missing",
    "doubled": "200, one row comes twice",
    "extra": "200, one row too many, with an index of its own",
    "no_index": "200, no row has an index; they are in order",
    "wrong_length": "200, one vector is a number short",
    "nan": "200, a NaN in one vector (bare in a JSON list; packed in base64)",
    "null_in_vector": "200, a null in one vector, as a JSON list",
    "no_usage": "200 without usage",
    "floats": "200, lists of floats although base64 was asked for",
    "truncated": "200, the JSON is cut off; content-length fits what is sent",
    "invalid_json": "200, not JSON",
}
"""Billed, then the body is spoilt."""

BROKEN = {
    "reset_after": "200, billed, then the connection is reset in the middle of the body",
    "short_body": "200, billed, the body ends before its content-length",
    "slow_body": "200, the body drips in over --drip-seconds",
    "gzip": "200, compressed, whether asked for or not",
}
"""Billed, then sent in an odd way."""

KINDS = {**REFUSED, **DROPPED, **DAMAGED, **BROKEN}
"""Every kind of fault, and what it does."""


def parse(faults: str) -> dict[str, float]:
    """`"reset=0.01,server_error=0.02"` -> probability of each kind, for each request.

    Raises:
        ValueError: unknown kind, no number, or more than 1 in sum.
    """
    chances: dict[str, float] = {}
    for item in filter(None, (item.strip() for item in faults.split(","))):
        kind, _, chance = item.partition("=")
        if kind not in KINDS:
            raise ValueError(f"unknown fault {kind!r}; known are {', '.join(KINDS)}")
        try:
            chances[kind] = float(chance)
        except ValueError:
            raise ValueError(f"faults takes KIND=PROBABILITY,..., not {item!r}") from None
        if not 0 <= chances[kind] <= 1:
            raise ValueError(f"a probability is from 0 to 1: {item!r}")
    if sum(chances.values()) > 1 + 1e-9:
        raise ValueError(f"the probabilities of faults add up to more than 1: {faults!r}")
    return chances


class Plan:
    """A seeded sequence of faults: the k-th request to be answered meets the k-th draw."""

    def __init__(self, chances: Mapping[str, float], seed: int) -> None:
        self._chances = dict(chances)
        self._random = random.Random(seed)

    def draw(self) -> str | None:
        """The kind of fault that the next request meets; None for most."""
        if not self._chances:
            return None
        point = self._random.random()
        for kind, chance in self._chances.items():
            point -= chance
            if point < 0:
                return kind
        return None
