"""JSON schema out of what describes one: a `pa.Schema`, a pydantic model, a dataclass, or JSON schema itself.

In the strict form of OpenAI's guide to structured outputs, which also says how large one may be: 10 levels of objects and
5,000 properties in all (in 2026; at first 5 and 100).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec
import pyarrow as pa

from beam_openai.schemas import shapes, strict

_MOST_PROPERTIES = 5000


def json_schema(described: Any) -> tuple[str, dict[str, Any]]:
    """A name for it, and the JSON schema in the strict form that the API demands.

    Raises:
      ValueError: it describes nothing that an answer can be.
    """
    name, schema = _as_given(described)
    shapes.check(schema)
    asked = strict.strict(schema)
    if (properties := sum(len(part.get("properties", ())) for part in shapes.every(asked))) > _MOST_PROPERTIES:
        raise ValueError(f"schema has {properties:,} properties in all, where OpenAI takes {_MOST_PROPERTIES:,}")
    try:
        msgspec.json.encode(asked)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"schema cannot be written as JSON: {error}") from error
    return name, asked


def _as_given(described: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(described, pa.Schema):
        return "answer", _of_fields(list(described), "schema")
    if isinstance(described, Mapping):
        return _name(described.get("title")), dict(described)
    try:
        if isinstance(described, type) and hasattr(described, "model_json_schema"):
            return _name(described.__name__), described.model_json_schema()
        if isinstance(described, type) and dataclasses.is_dataclass(described):
            (schema,), definitions = msgspec.json.schema_components([described], ref_template="#/$defs/{name}")
            return _name(described.__name__), {**schema, "$defs": definitions}
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
