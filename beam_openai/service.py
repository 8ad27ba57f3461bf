"""What one process shares, however many DoFn instances and bundle threads its runner makes.

A `Service` is one address, model and quota: its connections, its threads, a limiter for each model, the memory for its
answers, and what was learned of its server. It is made when the first DoFn instance is set up and ends with the last one's
teardown.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Hashable
from typing import Protocol

import pyarrow as pa

from beam_openai import errors, held, limiters, tokens
from beam_openai.client import Client
from beam_openai.contract import Contract
from beam_openai.learned import Learned
from beam_openai.memory import Memory
from beam_openai.outage import IN_A_ROW, Outage, Part
from beam_openai.places import MOST
from beam_openai.pool import Pool
from beam_openai.quota import Limiter
from beam_openai.shared import Shared, find_url

_MEMORY = 32 << 20
"""Bytes of answers, read or decoded and not handed out yet, that a service holds."""


_PAUSE = 0.1
"""Seconds between two requests that find out whether an outage is over."""


class Running(Protocol):
    """A bundle.

    Attributes:
      thread: the one that hands out what is done.
      is_listening: whether that thread waits for answers.
    """

    learned: Learned
    thread: int | None
    is_listening: bool

    def stop(self, error: BaseException) -> None: ...

    def hurry(self) -> None: ...


class Service:
    """All methods may be called by any thread."""

    def __init__(self, endpoint: Contract) -> None:
        self.client = Client(endpoint.api, max(MOST, endpoint.concurrency or 0))
        self.pool = Pool(endpoint.concurrency, time.monotonic)
        self._quota = endpoint.quota
        self._identity = endpoint.api.identity()
        self._quota_owner = (endpoint.api.base_url, endpoint.api.organization, endpoint.api.project)
        self._limiters: dict[str, Limiter] = {}
        self.memory = Memory(_MEMORY, self._hurry, self._is_stuck)
        self.totals: Counter[str] = Counter()
        self.reached = False
        self.outage = Outage()
        self._lock = threading.Lock()
        self._learned: dict[str, Learned] = {}
        self._learned_lock = threading.Lock()
        self._bundles: set[Running] = set()

    def learned_of(self, endpoint: Contract) -> Learned:
        """What was learned for transforms with these options."""
        # A lock of its own: the first time takes seconds, where a vocabulary is fetched.
        with self._learned_lock:
            key = repr(endpoint.learns_for())
            if key not in self._learned:
                model = endpoint.model if isinstance(endpoint.model, str) else ""
                declared = [None if pa.types.is_null(field.type) else field.type for field in endpoint.fields]
                self._learned[key] = Learned(tokens.counter(model), declared)
            return self._learned[key]

    def limiter_of(self, model: str) -> Limiter:
        """The limiter of a model: what a server allows, it allows for each."""
        limiter = self._limiters.get(model)
        if limiter is None:
            with self._lock:
                limiter = self._limiters.get(model)
                if limiter is None:
                    key = (self._identity, self._quota, model)
                    limiter = self._limiters[model] = limiters.acquire(key, lambda: self._make_limiter(model))
        return limiter

    def _make_limiter(self, model: str) -> Limiter:
        quota, ceiling = self._quota, None
        if quota.shared is not None:
            name = hashlib.sha256(repr((self._quota_owner, model)).encode()).hexdigest()[:16]
            ceiling = Shared(find_url(quota.shared), name, quota.limits)
        return Limiter(quota, time.monotonic(), ceiling)

    @property
    def largest(self) -> float | None:
        """The most tokens for a request of several rows, whichever its model is; None where nothing limits it."""
        limits = [limiter.largest for limiter in list(self._limiters.values())]
        return min((limit for limit in (self._quota.tokens_per_minute, *limits) if limit), default=None)

    def used(self) -> float | None:
        """The share of the quota that is in use here, of the model that uses most of its own; None where none is known."""
        now = time.monotonic()
        shares = [limiter.used(now) for limiter in list(self._limiters.values())]
        return max((share for share in shares if share is not None), default=None)

    def is_cut_off(self) -> bool:
        """Whether nothing is sent because the Redis of the quota cannot be asked."""
        now = time.monotonic()
        return any(limiter.is_cut_off(now) for limiter in list(self._limiters.values()))

    def begin(self, bundle: Running) -> None:
        with self._lock:
            self._bundles.add(bundle)

    def end(self, bundle: Running) -> None:
        with self._lock:
            self._bundles.discard(bundle)
            if not self._bundles:
                self.outage.forget()

    def succeeded(self, request: Part) -> None:
        self.reached = True
        self.outage.answered(request, time.monotonic())
        self.pool.prove()

    def unusable(self) -> None:
        """An answer was paid for and cannot be used. After several in a row one request at a time goes on."""
        if self.outage.unusable():
            self.pool.unprove()

    def exhausted(self, request: Part, error: errors.APIError) -> errors.APIError | None:
        """Counts a request that spent its attempts; the error that stops the job, if it should."""
        if isinstance(error, errors.APIConnectionError) and not (error.reached or self.reached):
            return errors.ServerDownError(f"{error}. Check base_url, and that the server runs")
        if self.outage.exhausted(request, error, time.monotonic()):
            return errors.ServerDownError(
                f"{IN_A_ROW} requests in a row spent their attempts and none succeeded between them; the last: {error}"
            )
        return None

    def unanswered(self, request: Part, error: errors.APIError, max_wait: float) -> None:
        """An attempt came to nothing. In an outage few requests, a tenth of a second apart, are to tell when it is over."""
        if self.outage.unanswered(request, error, time.monotonic()):
            self.pool.unprove(min(_PAUSE, max_wait))

    def awaits(self, request: Part, error: errors.APIError) -> bool:
        """Whether an outage is waited for."""
        return self.outage.explains(request, error, time.monotonic())

    def stop(self, error: BaseException, learned: Learned | None = None) -> None:
        """Stops every bundle: what stops a job holds for all its rows.

        An option that the server does not know is no other transform's trouble: only bundles with this `learned` stop.
        """
        with self._lock:
            bundles = list(self._bundles)
        self.pool.unprove()
        for bundle in bundles:
            if learned is bundle.learned or not isinstance(error, errors.ConfigurationError):
                bundle.stop(error)

    def _hurry(self) -> None:
        with self._lock:
            bundles = list(self._bundles)
        for bundle in bundles:
            bundle.hurry()

    def _is_stuck(self) -> bool:
        """Whether a thread that should hand out what one bundle holds waits for answers to another.

        So it is where one transform feeds another within a stage: the second's requests stand behind those of the first.
        """
        with self._lock:
            bundles_of = Counter(bundle.thread for bundle in self._bundles)
            return any(bundle.is_listening and bundles_of[bundle.thread] > 1 for bundle in self._bundles)

    def note(self, **numbers: float) -> None:
        with self._lock:
            self.totals.update(numbers)

    def close(self) -> None:
        self.stop(RuntimeError("the worker ends"))
        self.client.close()
        self.pool.close()
        for limiter in self._limiters.values():
            limiters.release(limiter)


_services: dict[Hashable, held.Held[Service]] = {}
_services_lock = threading.Lock()


def acquire(endpoint: Contract) -> Service:
    """The process's service for an endpoint, made if there is none; give it back with `release`.

    Raises:
      AuthenticationError: the key is not where it should be.
    """
    key = (endpoint.api.identity(), endpoint.model, endpoint.quota)
    with _services_lock:
        service = held.acquire(_services, key, lambda: Service(endpoint))
        service.pool.widen(endpoint.concurrency)
        return service


def release(service: Service) -> None:
    """Ends the service's threads and connections, if this was its last user."""
    with _services_lock:
        if not held.release(_services, service):
            return
        _ending.append(service)
    service.close()
    with _services_lock:
        _ending.remove(service)
        _ended.update(service.totals)
        _ended["throttled"] += service.pool.throttled  # type: ignore[assignment]


# What these did is in one of the three at any time.
_ending: list[Service] = []
_ended: Counter[str] = Counter()


def progress() -> Counter[str]:
    """What this process has done so far: `rows_answered`, `rows_failed`, `requests`, `retries`, `throttled` (seconds) ...;
    and what is now: `in_flight`, `places` (how many may be), `quota_used` (the share of it, 0 where none is known),
    `cut_off` (transforms that wait for the Redis of their quota)."""
    with _services_lock:
        running = [*(one.thing for one in _services.values()), *_ending]
        total = Counter(_ended)
    for service in running:
        total.update(service.totals)
        total["throttled"] += service.pool.throttled  # type: ignore[assignment]
        total["in_flight"] += service.pool.in_flight
        total["places"] += service.pool.places
        total["cut_off"] += service.is_cut_off()
        total["quota_used"] = max(total["quota_used"], service.used() or 0.0)  # type: ignore[assignment]
    return total


def stop_all(error: BaseException) -> None:
    """Stops everything that this process is doing."""
    with _services_lock:
        running = [one.thing for one in _services.values()]
    for service in running:
        service.stop(error)
