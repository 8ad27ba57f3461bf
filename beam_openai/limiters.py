"""The limiters of a process: one for each quota and model, whoever calls it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Hashable

from beam_openai.quota import Limiter


@dataclasses.dataclass
class _Kept:
    limiter: Limiter
    users: int = 0


_kept: dict[Hashable, _Kept] = {}
_lock = threading.Lock()


def acquire(key: Hashable, make: Callable[[], Limiter]) -> Limiter:
    """The limiter of a quota and model, made if there is none; give it back with `release`."""
    with _lock:
        if key not in _kept:
            _kept[key] = _Kept(make())
        _kept[key].users += 1
        return _kept[key].limiter


def release(limiter: Limiter) -> None:
    """Closes a limiter, if this was its last user."""
    with _lock:
        key = next((key for key, kept in _kept.items() if kept.limiter is limiter), None)
        if key is None:
            return
        _kept[key].users -= 1
        if _kept[key].users:
            return
        del _kept[key]
    limiter.close()
