"""What becomes of a JSON schema in Arrow, and how msgspec reads its values."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

import msgspec
import pyarrow as pa

_Json = msgspec.Raw


@dataclasses.dataclass(frozen=True)
class Kind:
    """A JSON schema's type: as Arrow has it, as msgspec reads it, a value of it, and what is inside."""

    arrow: pa.DataType
    parsed: Any
    sample: Any
    properties: Mapping[str, Kind] | None = None
    items: Kind | None = None

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


def object_of(properties: Mapping[str, Any], definitions: Mapping[str, Any], within: tuple[str, ...] = ()) -> Kind:
    """The kind of an object with these properties.

    Args:
      properties: JSON schemas by name.
      definitions: those that a `$ref` may name.
      within: references that it is in.
    """
    kinds = {name: _kind(inner, definitions, within) for name, inner in properties.items()}
    # Numbered, because a property's name may be anything.
    names = {f"f{number}": name for number, name in enumerate(kinds)}
    parsed = msgspec.defstruct("Inner", [(own, kinds[name].parsed) for own, name in names.items()], rename=names)
    arrow = pa.struct([(name, kind.arrow) for name, kind in kinds.items()])
    return Kind(arrow, parsed, {name: kind.sample for name, kind in kinds.items()}, properties=kinds)


def resolved(schema: Any, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The schema that a reference stands for."""
    if not isinstance(schema, Mapping):
        return {}
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return resolved(definitions.get(reference.rpartition("/")[2]), definitions)
    if list(schema.get("allOf", [])[1:]) == [] and schema.get("allOf"):
        return resolved(schema["allOf"][0], definitions)
    return dict(schema)


def _kind(schema: Any, definitions: Mapping[str, Any], within: tuple[str, ...]) -> Kind:
    reference = schema.get("$ref") if isinstance(schema, Mapping) else None
    if reference in within:
        return _TEXT  # a type that holds itself: Arrow has none such
    schema = resolved(schema, definitions)
    within = (*within, reference) if reference else within
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return _either(list(options), definitions, within)
    type_ = schema.get("type")
    if isinstance(type_, list):
        return _either([{**schema, "type": one} for one in type_], definitions, within)
    if "enum" in schema or "const" in schema:
        return _one_of(schema.get("enum", [schema.get("const")]))
    if type_ == "object" and schema.get("properties"):
        return object_of(schema["properties"], definitions, within)
    if type_ == "array" and "items" in schema:
        inner = _kind(schema["items"], definitions, within)
        return Kind(pa.list_(inner.arrow), list[inner.parsed], [inner.sample], items=inner)  # type: ignore[name-defined]
    return _PLAIN.get(str(type_), _TEXT)


def _either(options: list[Any], definitions: Mapping[str, Any], within: tuple[str, ...]) -> Kind:
    others = [option for option in options if not isinstance(option, Mapping) or option.get("type") != "null"]
    if len(others) != 1:
        return _TEXT
    kind = _kind(others[0], definitions, within)
    if len(others) == len(options) or kind is _TEXT:
        return kind
    return dataclasses.replace(kind, parsed=kind.parsed | None)


def _one_of(values: list[Any]) -> Kind:
    for python, kind in ((str, _PLAIN["string"]), (int, _PLAIN["integer"])):
        there = [value for value in values if value is not None]
        if there and all(type(value) is python and not _is_huge(value) for value in there):
            return dataclasses.replace(kind, parsed=typing.Literal[tuple(values)], sample=there[0])
    return _TEXT


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def by_name(read: Any, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """The properties of an object that msgspec has read, as Arrow takes them.

    Raises:
      ValueError: a number that should be whole is not.
    """
    return {name: _as_arrow(getattr(read, f"f{number}"), kind) for number, (name, kind) in enumerate(kinds.items())}


def _as_arrow(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind.parsed is _Json:
        return bytes(value).decode()
    if kind.items is not None:
        return [_as_arrow(item, kind.items) for item in value]
    if kind.properties is not None:
        return by_name(value, kind.properties)
    if isinstance(value, float) and pa.types.is_integer(kind.arrow):
        if not value.is_integer():
            raise ValueError("Expected a whole number, got one with a fraction")
        return int(value)
    return value
