"""The words in which a parameter is refused: those of today's operations, and those of 2022's.

Both have the same methods, each of which makes a `Refusal`; `name` is the path of what is at fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .replies import Refusal

_KINDS = {
    "integer": "an integer",
    "number": "a decimal",
    "boolean": "a boolean",
    "string": "a string",
    "array": "an array",
    "object": "an object",
}
_SHOWN = 100  # characters of a value that stand in a message


class Words(Protocol):
    """What can be wrong with a parameter. `kind` is a JSON type: integer, number, string, ..."""

    def item(self, name: str, index: int | str) -> str:
        """The path of an array's item, or of an object's member."""
        ...

    def missing(self, name: str) -> Refusal:
        """It is required."""
        ...

    def unknown(self, name: str) -> Refusal:
        """There is no such parameter."""
        ...

    def wrong_type(self, name: str, value: Any, *kinds: str) -> Refusal:
        """It is none of `kinds`."""
        ...

    def below(self, name: str, value: float, low: float, kind: str) -> Refusal:
        """It is less than `low`."""
        ...

    def above(self, name: str, value: float, high: float, kind: str) -> Refusal:
        """It is more than `high`."""
        ...

    def not_one_of(self, name: str, value: Any, values: Sequence[str]) -> Refusal:
        """It is none of `values`."""
        ...

    def too_short(self, name: str, value: Sequence[Any], shortest: int) -> Refusal:
        """It is an array or a string, and too short."""
        ...

    def too_long(self, name: str, value: Sequence[Any], longest: int) -> Refusal:
        """It is an array or a string, and too long."""
        ...

    def mismatch(self, name: str, value: str, pattern: str) -> Refusal:
        """It is a string that does not match `pattern`."""
        ...


class _Modern:
    def item(self, name: str, index: int | str) -> str:
        return f"{name}[{index}]" if isinstance(index, int) else f"{name}.{index}"

    def missing(self, name: str) -> Refusal:
        return _invalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")

    def unknown(self, name: str) -> Refusal:
        return _invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")

    def wrong_type(self, name: str, value: Any, *kinds: str) -> Refusal:
        wanted = [_KINDS.get(kind, kind) for kind in kinds]
        expected = wanted[0] if len(wanted) == 1 else "one of " + " or ".join(wanted)
        message = f"Invalid type for '{name}': expected {expected}, but got {_kind_of(value)} instead."
        return _invalid(message, name, "invalid_type")

    def below(self, name: str, value: float, low: float, kind: str) -> Refusal:
        noun = "integer" if kind == "integer" else "decimal"
        expected = f"Expected a value >= {low}, but got {value!r} instead."
        return _invalid(f"Invalid '{name}': {noun} below minimum value. {expected}", name, f"{noun}_below_min_value")

    def above(self, name: str, value: float, high: float, kind: str) -> Refusal:
        noun = "integer" if kind == "integer" else "decimal"
        expected = f"Expected a value <= {high}, but got {value!r} instead."
        return _invalid(f"Invalid '{name}': {noun} above maximum value. {expected}", name, f"{noun}_above_max_value")

    def not_one_of(self, name: str, value: Any, values: Sequence[str]) -> Refusal:
        message = f"Invalid value: {_quoted(value)}. Supported values are: {listed(values)}."
        return _invalid(message, name, "invalid_value")

    def too_short(self, name: str, value: Sequence[Any], shortest: int) -> Refusal:
        noun, article = ("string", "a") if isinstance(value, str) else ("array", "an")
        got = f"{article} {noun} with length {len(value)}" if value else f"an empty {noun}"
        problem = f"{noun} too short" if value or noun == "string" else "empty array"
        code = f"{noun}_below_min_length" if value else f"empty_{noun}"
        expected = f"Expected {article} {noun} with minimum length {shortest}, but got {got} instead."
        return _invalid(f"Invalid '{name}': {problem}. {expected}", name, code)

    def too_long(self, name: str, value: Sequence[Any], longest: int) -> Refusal:
        noun, article = ("string", "a") if isinstance(value, str) else ("array", "an")
        message = (
            f"Invalid '{name}': {noun} too long. Expected {article} {noun} with maximum length {longest}, but got "
            f"{article} {noun} with length {len(value)} instead."
        )
        return _invalid(message, name, f"{noun}_above_max_length")

    def mismatch(self, name: str, value: str, pattern: str) -> Refusal:
        message = (
            f"Invalid '{name}': string does not match pattern. Expected a string that matches the pattern '{pattern}'."
        )
        return _invalid(message, name, "invalid_value")


class _Old:
    def item(self, name: str, index: int | str) -> str:
        return f"{name}.{index}"

    def missing(self, name: str) -> Refusal:
        return Refusal(400, f"'{name}' is a required property")

    def unknown(self, name: str) -> Refusal:
        return Refusal(400, f"Additional properties are not allowed ('{name}' was unexpected)")

    def wrong_type(self, name: str, value: Any, *kinds: str) -> Refusal:
        if len(kinds) > 1:
            return Refusal(400, f"{_repr(value)} is not valid under any of the given schemas - '{name}'")
        return Refusal(400, f"{_repr(value)} is not of type '{kinds[0]}' - '{name}'")

    def below(self, name: str, value: float, low: float, kind: str) -> Refusal:
        return Refusal(400, f"{value} is less than the minimum of {low} - '{name}'")

    def above(self, name: str, value: float, high: float, kind: str) -> Refusal:
        return Refusal(400, f"{value} is greater than the maximum of {high} - '{name}'")

    def not_one_of(self, name: str, value: Any, values: Sequence[str]) -> Refusal:
        return Refusal(400, f"{_repr(value)} is not one of {list(values)} - '{name}'")

    def too_short(self, name: str, value: Sequence[Any], shortest: int) -> Refusal:
        return Refusal(400, f"{_repr(value)} is too short - '{name}'")

    def too_long(self, name: str, value: Sequence[Any], longest: int) -> Refusal:
        return Refusal(400, f"{_repr(value)} is too long - '{name}'")

    def mismatch(self, name: str, value: str, pattern: str) -> Refusal:
        return Refusal(400, f"{_repr(value)} does not match '{pattern}' - '{name}'")


MODERN: Words = _Modern()
"""`Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead.`, with param and code."""
OLD: Words = _Old()
"""`0 is less than the minimum of 1 - 'n'`, with neither."""


def listed(values: Sequence[str]) -> str:
    """`'a', 'b', and 'c'`."""
    quoted = [f"'{value}'" for value in values]
    if len(quoted) < 3:
        return " and ".join(quoted)
    return f"{', '.join(quoted[:-1])}, and {quoted[-1]}"


def _invalid(message: str, name: str, code: str) -> Refusal:
    return Refusal(400, message, param=name, code=code)


def _kind_of(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return _KINDS[kinds[type(value)]] if value is not None else "null"


def _quoted(value: Any) -> str:
    return f"'{value[:_SHOWN]}'" if isinstance(value, str) else _repr(value)


def _repr(value: Any) -> str:
    """As the service's validator of old showed a value: in Python's own words."""
    return repr(value)[:_SHOWN]
