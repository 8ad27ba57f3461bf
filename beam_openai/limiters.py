"""The limiters of a process: one for each quota and model, whoever calls it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

from beam_openai import held
from beam_openai.quota import Limiter

_limiters: dict[Hashable, held.Held[Limiter]] = {}
_lock = threading.Lock()


def acquire(key: Hashable, make: Callable[[], Limiter]) -> Limiter:
    """The limiter of a quota and model, made if there is none; give it back with `release`."""
    with _lock:
        return held.acquire(_limiters, key, make)


def release(limiter: Limiter) -> None:
    """Closes a limiter, if this was its last user."""
    with _lock:
        is_last = held.release(_limiters, limiter)
    if is_last:
        limiter.close()
