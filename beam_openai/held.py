"""What lives in a process as long as somebody there uses it: made for the first user, and ended by the last."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclasses.dataclass
class Held(Generic[T]):
    """A thing, and how many use it."""

    thing: T
    users: int = 0


def acquire(held: dict[Hashable, Held[T]], key: Hashable, make: Callable[[], T]) -> T:
    """The thing of a key, made if there is none, with one more user. Not locked."""
    if key not in held:
        held[key] = Held(make())
    held[key].users += 1
    return held[key].thing


def release(held: dict[Hashable, Held[T]], thing: T) -> bool:
    """One user fewer; whether that was the last, so that the thing is to be ended. Not locked."""
    key = next((key for key, other in held.items() if other.thing is thing), None)
    if key is None:
        return False
    held[key].users -= 1
    if held[key].users:
        return False
    del held[key]
    return True
