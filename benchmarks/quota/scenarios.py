"""What is simulated: 30,000 requests and 10 million tokens a minute, unless it says otherwise.

Requests of 200 tokens are bound by the quota of requests, those of 2,000 by that of tokens. A bucket holds a minute's quota,
or a second's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from benchmarks.quota.server import Rules
from benchmarks.quota.simulation import Scenario

_SIZES = (1, 8, 64, 256, 1000)
_FEW = (1, 64, 1000)
_LARGE = 2000  # tokens: of a request that tokens bind
SECOND = Rules(bucket=1.0)


def full() -> Iterator[tuple[str, list[Scenario]]]:
    """All scenarios, under headings."""
    yield "Requests bind, a minute's bucket", [_of(workers) for workers in _SIZES]
    yield "Requests bind, a second's bucket", [_of(workers, rules=SECOND, seconds=300) for workers in _SIZES]
    yield "Tokens bind, a minute's bucket", [_of(workers, tokens=_LARGE) for workers in _SIZES]
    yield "Tokens bind, a second's bucket", [_of(workers, tokens=_LARGE, rules=SECOND) for workers in _SIZES]
    yield "Latency", [_of(workers, f"{latency} s", latency=latency) for latency in (0.2, 5.0, 30.0) for workers in _FEW]
    tenant = {200: {"tenant": 0.3}, 400: {"tenant": 0.0}}
    yield (
        "Somebody else takes 30 % from 200 s to 400 s",
        [_of(workers, changes=tenant, seconds=600) for workers in _FEW],
    )
    yield "Workers come and go", list(_coming_and_going())
    yield "The limits change at 200 s", list(_changing())
    yield "Headers lack or lie", list(_said())
    yield "Refilled all at once when a period of the clock ends", list(_periodic())
    yield "Tokens are reserved by far too high an estimate", [_of(n, tokens=_LARGE * 4, rules=_DEAR) for n in (1, 8)]
    yield "Small quotas", list(_small())
    yield (
        "A second has its own limit, of which no header tells",
        [_of(workers, rules=Rules(quantum=1.0)) for workers in _FEW],
    )


_DEAR = Rules(charge=0.25)
_DAY = Rules(rpm=10_000 / 1440, bucket=86_400.0)


def _small() -> Iterator[Scenario]:
    """Quotas of a few requests."""
    yield _of(1, "3 a minute", rules=Rules(rpm=3), seconds=3600)
    for workers in (1, 8):
        yield _of(workers, "60 a minute", rules=Rules(rpm=60), seconds=1800)
        yield _of(workers, "200,000 tokens, 30,000 each", tokens=30_000, rules=Rules(tpm=200_000), seconds=3600)
        yield _of(workers, "10,000 a day", rules=_DAY, seconds=7200)
        for rpm in (3, 10):
            yield _of(workers, f"{rpm} a minute, no headers", rules=Rules(rpm=rpm, headers="none"), seconds=3600)


def _periodic() -> Iterator[Scenario]:
    for seconds in (60.0, 10.0, 1.0):
        for workers in (1, 8, 64):
            yield _of(workers, f"{seconds:.0f} s", rules=Rules(rpm=3000, bucket=seconds, is_periodic=True), seconds=600)


def quick() -> list[Scenario]:
    """A few, each of a kind: of smaller quotas, so that they take seconds."""
    rules = Rules(rpm=3000, tpm=1_000_000)
    return [
        _of(1, "requests bind", rules=rules),
        _of(16, "requests bind", rules=rules),
        _of(16, "tokens bind", rules=rules, tokens=_LARGE),
        _of(16, "requests bind, a second's bucket", rules=dataclasses.replace(rules, bucket=1.0)),
        _of(16, "another tenant takes 30 % from 200 s", rules=rules, changes={200: {"tenant": 0.3}}),
        _of(16, "halved at 200 s", rules=rules, changes={200: {"rpm": 1500, "tpm": 500_000}}),
        _of(16, "no headers", rules=dataclasses.replace(rules, headers="none")),
    ]


def _of(workers: int, what: str = "", **options: Any) -> Scenario:
    name = f"{what}, {workers:,} workers" if what else f"{workers:,} workers"
    return Scenario(name=name.replace("1 workers", "1 worker"), workers=workers, **options)


def _coming_and_going() -> Iterator[Scenario]:
    yield _of(64, "half of them after 200 s", joins=lambda number: 200.0 * (number % 2), seconds=600)
    yield _of(256, "one each half second", joins=lambda number: number / 2)
    yield _of(64, "a quarter killed after 200 s", dies=lambda number: math.inf if number % 4 else 200.0)
    yield _of(64, "half have 1 request a second to send", pace=lambda number: 1.0 if number % 2 else None)


def _changing() -> Iterator[Scenario]:
    half, double = {200: {"rpm": 15_000, "tpm": 5e6}}, {200: {"rpm": 60_000, "tpm": 20e6}}
    for workers in (16, 256):
        yield _of(workers, "halved", changes=half)
        yield _of(workers, "doubled", changes=double)


def _said() -> Iterator[Scenario]:
    for workers in (1, 64, 256):
        yield _of(workers, "none of tokens, which bind", tokens=_LARGE, rules=Rules(headers="requests"))
    for workers in (1, 64, 256):
        yield _of(workers, "none", rules=Rules(headers="none"))
    for workers in (1, 64):
        yield _of(workers, "none, a second's bucket", rules=Rules(headers="none", bucket=1.0))
        yield _of(workers, "none, Retry-After in whole seconds", rules=Rules(headers="none", retry_after="header"))
        yield _of(workers, "none, nor Retry-After", rules=Rules(headers="none", retry_after="none"))
        yield _of(workers, "always full", rules=Rules(headers="full"))
        yield _of(workers, "2 s late", rules=Rules(lag=2.0))
        yield _of(workers, "none after 5 s", rules=Rules(until=5.0))
        yield _of(workers, "now and then twice the limit", rules=Rules(limits=(1.0, 2.0)))
