"""JSON schema out of what describes one: a `pa.Schema`, a pydantic model, a dataclass, or JSON schema itself.

In the strict form of OpenAI's guide to structured outputs, which also says how large one may be: 10 levels of objects and
5,000 properties in all (in 2026; at first 5 and 100).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pyarrow as pa

_MOST_PROPERTIES = 5000
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_NAMED_PARTS = ("properties", "$defs", "definitions")
_LISTED_PARTS = ("anyOf", "oneOf", "allOf")
_SHAPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(_NAMED_PARTS, (Mapping,)),
    **dict.fromkeys((*_LISTED_PARTS, "enum", "required"), (list, tuple)),
    "items": (Mapping, bool),
    "type": (str, list, tuple),
    "$ref": (str,),
}
"""Keywords that are read, and the types of their values."""


def json_schema(described: Any) -> tuple[str, dict[str, Any]]:
    """A name for it, and the JSON schema in the strict form that the API demands.

    Raises:
      ValueError: it describes nothing that an answer can be.
    """
    name, schema = _as_given(described)
    definitions = [schema.get(keyword, {}) for keyword in ("$defs", "definitions")]
    _check(schema, {name for part in definitions if isinstance(part, Mapping) for name in part})
    strict = _strict(schema)
    if (properties := sum(len(part.get("properties", ())) for part in _all(strict))) > _MOST_PROPERTIES:
        raise ValueError(f"schema has {properties:,} properties in all, where OpenAI takes {_MOST_PROPERTIES:,}")
    try:
        msgspec.json.encode(strict)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"schema cannot be written as JSON: {error}") from error
    return name, strict


def _as_given(described: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(described, pa.Schema):
        return "answer", _of_fields(list(described), "schema")
    if isinstance(described, Mapping):
        return _name(described.get("title")), dict(described)
    try:
        if hasattr(described, "model_json_schema"):
            return _name(described.__name__), described.model_json_schema()
        if isinstance(described, type) and dataclasses.is_dataclass(described):
            (schema,), definitions = msgspec.json.schema_components([described], ref_template="#/$defs/{name}")
            own = definitions.get(schema.get("$ref", "").rpartition("/")[2], schema)
            return _name(described.__name__), {**own, "$defs": definitions}
    except (TypeError, RuntimeError) as error:  # pydantic's are of the second kind
        reason = " ".join(str(error).split())
        raise ValueError(f"schema: {described!r} has a type that JSON schema has no words for: {reason}") from error
    raise ValueError(f"schema must be a pa.Schema, a JSON schema, a pydantic model or a dataclass, not {described!r}")


def _name(title: Any) -> str:
    """As the API takes it: up to 64 letters, digits, - and _."""
    kept = "".join(
        letter if (letter.isascii() and letter.isalnum()) or letter in "-_" else "_" for letter in str(title or "")
    )
    return kept[:64] or "answer"


def _of_fields(fields: list[pa.Field], what: str) -> dict[str, Any]:
    names = [field.name for field in fields]
    if not names:
        raise ValueError(f"{what} must have a column or field at least, and has none")
    if len(set(names)) < len(names):
        raise ValueError(f"{what} must have a name for each column and field, not {', '.join(names)}")
    return {"type": "object", "properties": {field.name: _of_type(field.type, field.name) for field in fields}}


def _of_type(kind: pa.DataType, name: str) -> dict[str, Any]:
    types = pa.types
    if types.is_struct(kind):
        return _of_fields(list(kind), f"schema: the struct {name!r}")
    if types.is_list(kind) or types.is_large_list(kind):
        return {"type": "array", "items": _of_type(kind.value_type, name)}
    for said, matches in (
        ("boolean", types.is_boolean),
        ("integer", types.is_integer),
        ("number", types.is_floating),
        ("string", lambda kind: types.is_string(kind) or types.is_large_string(kind)),
    ):
        if matches(kind):
            return {"type": said}
    raise ValueError(
        f"schema: {name!r} is {kind}, which an answer in JSON has not; use string, int64, double, bool, lists and "
        "structs of them"
    )


def _check(schema: Any, definitions: set[str], place: str = "schema") -> None:
    """Refuses what is no JSON schema, as far as it is read here.

    Raises:
      ValueError: it is none; the message says where.
    """
    if isinstance(schema, bool) and place != "schema":
        return
    if not isinstance(schema, Mapping):
        raise ValueError(f"{place} must be a JSON schema, not {_shown(schema)}")
    for keyword, kinds in _SHAPES.items():
        if keyword in schema and not isinstance(schema[keyword], kinds):
            raise ValueError(f"{place}: {keyword} cannot be {_shown(schema[keyword])}")
    given = schema.get("type", [])
    for name in [given] if isinstance(given, str) else given:
        if name not in _TYPES:
            raise ValueError(f"{place}: type must be one of {', '.join(_TYPES)}, not {_shown(name)}")
    _, kind, name = (*str(schema.get("$ref", "")).split("/"), "", "", "")[:3]
    if kind in ("$defs", "definitions") and name.replace("~1", "/").replace("~0", "~") not in definitions:
        raise ValueError(f"{place}: {_shown(schema['$ref'])} is defined nowhere")
    for path, part in _parts(schema):
        _check(part, definitions, f"{place}.{path}")


def _shown(value: Any) -> str:
    return repr(value)[:100]


def _parts(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas right inside one, and where they are."""
    for keyword in _NAMED_PARTS:
        yield from ((f"{keyword}.{name}", part) for name, part in schema.get(keyword, {}).items())
    for keyword in _LISTED_PARTS:
        yield from ((f"{keyword}[{index}]", part) for index, part in enumerate(schema.get(keyword, ())))
    if "items" in schema:
        yield "items", schema["items"]


def _all(schema: Any) -> Iterator[Mapping[str, Any]]:
    """A schema and all that are in it."""
    if isinstance(schema, Mapping):
        yield schema
        for _, part in _parts(schema):
            yield from _all(part)


def _strict(schema: Any) -> Any:
    """All properties of all objects required, and no others."""
    if isinstance(schema, list | tuple):
        return [_strict(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {
        name: {inner: _strict(value) for inner, value in part.items()}
        if name in _NAMED_PARTS
        else part
        if name in ("enum", "const", "default", "required")
        else _strict(part)
        for name, part in schema.items()
    }
    if isinstance(found.get("properties"), dict):
        found.update(type="object", additionalProperties=False, required=list(found["properties"]))
    found.pop("default", None)  # which the strict form does not know
    return found
