"""The words in which operations for audio refuse a parameter: their validator's errors, as Python prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .replies import Refusal
from .wording import Words

_TYPES = {"string": "string_type", "boolean": "bool_type", "integer": "int_parsing", "number": "float_parsing"}


class _Validation:
    def item(self, name: str, index: int | str) -> str:
        return f"{name}.{index}"

    def missing(self, name: str) -> Refusal:
        return _refusal("missing", name, "Field required", None)

    def unknown(self, name: str) -> Refusal:
        return _refusal("extra_forbidden", name, "Extra inputs are not permitted", None)

    def wrong_type(self, name: str, value: Any, *kinds: str) -> Refusal:
        return _refusal(_TYPES.get(kinds[0], "value_error"), name, f"Input should be a valid {kinds[0]}", value)

    def below(self, name: str, value: float, low: float, kind: str) -> Refusal:
        message = f"Input should be greater than or equal to {low:g}"
        return _refusal("greater_than_equal", name, message, value, {"ge": float(low)})

    def above(self, name: str, value: float, high: float, kind: str) -> Refusal:
        message = f"Input should be less than or equal to {high:g}"
        return _refusal("less_than_equal", name, message, value, {"le": float(high)})

    def not_one_of(self, name: str, value: Any, values: Sequence[str]) -> Refusal:
        expected = either(values)
        return _refusal("enum", name, f"Input should be {expected}", value, {"expected": expected})

    def too_short(self, name: str, value: Sequence[Any], shortest: int) -> Refusal:
        message = f"String should have at least {_characters(shortest)}"
        return _refusal("string_too_short", name, message, value, {"min_length": shortest})

    def too_long(self, name: str, value: Sequence[Any], longest: int) -> Refusal:
        message = f"String should have at most {_characters(longest)}"
        return _refusal("string_too_long", name, message, value, {"max_length": longest})

    def mismatch(self, name: str, value: str, pattern: str) -> Refusal:
        message = f"String should match pattern '{pattern}'"
        return _refusal("string_pattern_mismatch", name, message, value, {"pattern": pattern})


VALIDATION: Words = _Validation()
"""`[{'type': 'less_than_equal', 'loc': ('body', 'speed'), 'msg': ..., 'input': 5.0, 'ctx': {'le': 4.0}}]`."""


def either(values: Sequence[str]) -> str:
    """`'a', 'b' or 'c'`."""
    quoted = [f"'{value}'" for value in values]
    return " or ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))


def _characters(count: int) -> str:
    return "1 character" if count == 1 else f"{count} characters"


def _refusal(kind: str, name: str, message: str, value: Any, context: Mapping[str, Any] | None = None) -> Refusal:
    error = {"type": kind, "loc": ("body", name), "msg": message, "input": value}
    return Refusal(400, str([{**error, "ctx": context} if context else error]))
