"""What becomes of a JSON schema, in its strict form, in Arrow, and how msgspec reads its values."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from beam_openai.schemas import references
from beam_openai.schemas.shapes import types

_Json = msgspec.Raw


@dataclasses.dataclass(frozen=True)
class Kind:
    """A JSON schema's type: as Arrow has it, as msgspec reads it, a value of it, what is inside, and the choice there is."""

    arrow: pa.DataType
    parsed: Any
    sample: Any
    properties: Mapping[str, Kind] | None = None
    items: Kind | None = None
    choice: tuple[Any, ...] | None = None

    @property
    def levels(self) -> int:
        """Objects in objects, this one included."""
        inner = [*(self.properties or {}).values(), *([self.items] if self.items else [])]
        return (self.properties is not None) + max((kind.levels for kind in inner), default=0)


_TEXT = Kind(pa.string(), _Json, None)
"""What Arrow has no type for: kept as JSON."""
_PLAIN = {
    "string": Kind(pa.string(), str, ""),
    "integer": Kind(pa.int64(), int | float, 0),  # 1.0 is one too
    "number": Kind(pa.float64(), float, 0.0),
    "boolean": Kind(pa.bool_(), bool, False),
}


def object_of(schema: Mapping[str, Any], root: Mapping[str, Any], within: tuple[str, ...] = ("#",)) -> Kind:
    """The kind of an object.

    Args:
      schema: its own; it has properties.
      root: what the references in it are about.
      within: references that it is in.
    """
    kinds = {name: _kind(inner, root, within) for name, inner in schema["properties"].items()}
    # Numbered, because a property's name may be anything.
    names = {f"f{number}": name for number, name in enumerate(kinds)}
    parsed = msgspec.defstruct("Inner", [(own, kinds[name].parsed) for own, name in names.items()], rename=names)
    arrow = pa.struct([(name, kind.arrow) for name, kind in kinds.items()])
    return Kind(arrow, parsed, {name: kind.sample for name, kind in kinds.items()}, properties=kinds)


def _kind(schema: Mapping[str, Any], root: Mapping[str, Any], within: tuple[str, ...]) -> Kind:
    if (reference := schema.get("$ref")) is not None:
        if reference in within:
            return _TEXT  # a type that holds itself: Arrow has none such
        return _kind(references.target(reference, root), root, (*within, reference))
    if "anyOf" in schema:
        return _either(schema["anyOf"], root, within)
    if len(kinds := types(schema)) > 1:
        return _either([{**schema, "type": kind} for kind in kinds], root, within)
    if "enum" in schema or "const" in schema:
        return _one_of([schema["const"]] if "const" in schema else schema["enum"])
    if kinds == ["object"] and schema.get("properties"):
        return object_of(schema, root, within)
    if kinds == ["array"]:
        inner = _kind(schema["items"], root, within)
        return Kind(pa.list_(inner.arrow), list[inner.parsed], [inner.sample], items=inner)  # type: ignore[name-defined]
    return _PLAIN.get(kinds[0], _TEXT)


def _either(options: Sequence[Any], root: Mapping[str, Any], within: tuple[str, ...]) -> Kind:
    others = [option for option in options if option.get("type") != "null"]
    if len(others) != 1:
        return _TEXT
    kind = _kind(others[0], root, within)
    if len(others) == len(options) or kind is _TEXT:
        return kind
    return dataclasses.replace(kind, parsed=kind.parsed | None)


def _one_of(values: Sequence[Any]) -> Kind:
    there = [value for value in values if value is not None]
    is_null_too = len(there) < len(values)
    for pythons, name in (({str}, "string"), ({bool}, "boolean"), ({int}, "integer"), ({int, float}, "number")):
        if there and {type(value) for value in there} <= pythons and not any(map(_is_huge, there)):
            kind = _PLAIN[name]
            parsed = typing.Literal[tuple(there)] if name == "string" else kind.parsed
            choice = None if name == "string" else tuple(there)
            parsed = parsed | None if is_null_too else parsed
            return dataclasses.replace(kind, parsed=parsed, sample=there[0], choice=choice)
    return _TEXT


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def by_name(read: Any, kinds: Mapping[str, Kind], place: str = "$") -> dict[str, Any]:
    """The properties of an object that msgspec has read, as Arrow takes them.

    Args:
      place: where the object stands, for the message.

    Raises:
      ValueError: a number that should be whole is not, or a value is none of those there are to choose from.
    """
    return {
        name: _as_arrow(getattr(read, f"f{number}"), kind, f"{place}.{name}")
        for number, (name, kind) in enumerate(kinds.items())
    }


def _as_arrow(value: Any, kind: Kind, place: str) -> Any:
    if value is None:
        return None
    if kind.parsed is _Json:
        return bytes(value).decode()
    if kind.items is not None:
        return [_as_arrow(item, kind.items, f"{place}[...]") for item in value]
    if kind.properties is not None:
        return by_name(value, kind.properties, place)
    if isinstance(value, float) and pa.types.is_integer(kind.arrow):
        if not value.is_integer():
            raise ValueError(f"Expected a whole number, got one with a fraction - at `{place}`")
        value = int(value)
    if kind.choice is not None and value not in kind.choice:
        raise ValueError(f"Invalid enum value {value!r} - at `{place}`")
    return value
