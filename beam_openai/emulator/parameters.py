"""Checks of a request's parameters: each a small function of a name and a value, in a table of its operation.

A value that is null is not checked, unless its name is among those that may never be null.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from .replies import Refusal
from .wording import Words

Check = Callable[[str, Any], None]
"""Raises a Refusal for a value that cannot be."""


def check(fields: Mapping[str, Any], checks: Mapping[str, Check], never_null: Collection[str] = ()) -> None:
    """Checks every field that has a check.

    Raises:
        Refusal: the first that cannot be.
    """
    for name, value in fields.items():
        if name in checks and (value is not None or name in never_null):
            checks[name](name, value)


@dataclass(frozen=True)
class Parameters:
    """Makes checks that refuse in `words`."""

    words: Words

    def number(self, low: float, high: float) -> Check:
        """A number from `low` to `high`."""
        return self._between((int, float), "number", low, high)

    def integer(self, low: int, high: int | None = None) -> Check:
        """An integer of at least `low`, and at most `high`."""
        return self._between((int,), "integer", low, high)

    def _between(self, types: tuple[type, ...], kind: str, low: float, high: float | None) -> Check:
        words = self.words

        def between(name: str, value: Any) -> None:
            if type(value) not in types:
                raise words.wrong_type(name, value, kind)
            if value < low:
                raise words.below(name, value, low, kind)
            if high is not None and value > high:
                raise words.above(name, value, high, kind)

        return between

    def boolean(self, name: str, value: Any) -> None:
        """True or false."""
        if type(value) is not bool:
            raise self.words.wrong_type(name, value, "boolean")

    def object(self, name: str, value: Any) -> None:
        """Any JSON object."""
        if type(value) is not dict:
            raise self.words.wrong_type(name, value, "object")

    def string(self, shortest: int = 0, longest: int | None = None, pattern: str | None = None) -> Check:
        """A string of so many characters, that matches `pattern`."""
        words = self.words
        matches = re.compile(pattern).search if pattern else None

        def string(name: str, value: Any) -> None:
            if type(value) is not str:
                raise words.wrong_type(name, value, "string")
            if len(value) < shortest:
                raise words.too_short(name, value, shortest)
            if longest is not None and len(value) > longest:
                raise words.too_long(name, value, longest)
            if matches is not None and not matches(value):
                raise words.mismatch(name, value, pattern or "")

        return string

    def one_of(self, *values: str) -> Check:
        """One of these strings."""
        words = self.words

        def one_of(name: str, value: Any) -> None:
            if type(value) is not str:
                raise words.wrong_type(name, value, "string")
            if value not in values:
                raise words.not_one_of(name, value, values)

        return one_of

    def array(self, shortest: int = 0, longest: int | None = None, item: Check | None = None) -> Check:
        """An array of so many items, each of which passes `item`."""
        words = self.words

        def array(name: str, value: Any) -> None:
            if type(value) is not list:
                raise words.wrong_type(name, value, "array")
            if len(value) < shortest:
                raise words.too_short(name, value, shortest)
            if longest is not None and len(value) > longest:
                raise words.too_long(name, value, longest)
            if item is not None:
                for index, each in enumerate(value):
                    item(words.item(name, index), each)

        return array

    def members(self, checks: Mapping[str, Check], required: Collection[str] = ()) -> Check:
        """An object with these members, and no others; those not required may be null."""
        words = self.words

        def members(name: str, value: Any) -> None:
            self.object(name, value)
            for wanted in required:
                if wanted not in value:
                    raise words.missing(words.item(name, wanted))
            for member, each in value.items():
                path = words.item(name, member)
                if member not in checks:
                    raise words.unknown(path)
                if each is not None or member in required:
                    checks[member](path, each)

        return members

    def stop(self, name: str, value: Any) -> None:
        """A string, or one to four of them."""
        if type(value) is not str and type(value) is not list:
            raise self.words.wrong_type(name, value, "string", "array of strings")
        if type(value) is str:
            self.string(1)(name, value)
        else:
            self.array(1, 4, self.string(1))(name, value)

    def logit_bias(self, name: str, value: Any) -> None:
        """Token ids, each with a bias from -100 to 100."""
        self.object(name, value)
        bias = self.number(-100, 100)
        for token, each in value.items():
            if not token.isascii() or not token.isdigit():
                message = f"Invalid key in '{name}': {token[:50]}. You should only be submitting non-negative integers."
                raise Refusal(400, message, param=name)
            bias(self.words.item(name, token), each)

    def metadata(self, name: str, value: Any) -> None:
        """At most 16 pairs, keys of 64 and values of 512 characters."""
        self.object(name, value)
        if len(value) > 16:
            message = (
                f"Invalid '{name}': too many properties. Expected an object with at most 16 properties, but got an "
                f"object with {len(value)} properties instead."
            )
            raise Refusal(400, message, param=name, code="object_above_max_properties")
        key, content = self.string(0, 64), self.string(0, 512)
        for member, each in value.items():
            key(name, member)
            content(self.words.item(name, member), each)


def stops(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The sequences of a checked `stop`."""
    stop = fields.get("stop")
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def given(fields: Mapping[str, Any], name: str, default: Any) -> Any:
    """The value of a parameter, or its default where it was not sent, or is null."""
    value = fields.get(name)
    return default if value is None else value
