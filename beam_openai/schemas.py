"""What the answers of a model are to look like: one description as JSON schema, as Arrow fields, and as a parser.

    JSON schema                  Arrow
    object with properties       struct; the outermost one's properties are columns
    array                        list
    string, enum of strings      string
    integer, number, boolean     int64, double, bool
    X or null                    X
    anything else                string: the value's JSON

Of a `pa.Schema` no value may be null, whatever its fields say: all are nullable unless told otherwise, and a model that may
answer null does. What may be missing is said by a JSON schema, a pydantic model or a dataclass.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

import msgspec
import pyarrow as pa

_Json = msgspec.Raw


class Schema:
    """The columns that an answer is to become.

    Args:
      described: a `pa.Schema`, a JSON schema of an object, a pydantic model or a dataclass.
      strict: whether the server is asked to keep to it exactly: all properties required and no others, which is what its
        strict form demands.

    Attributes:
      json_schema: as it is sent.
      fields: the columns.

    Raises:
      ValueError: it describes no object, or nothing at all.
    """

    fields: list[pa.Field]

    def __init__(self, described: Any) -> None:
        try:
            self._read(described)
        except RecursionError as error:
            raise ValueError("schema must not refer to itself without end, nor be so deep") from error

    def _read(self, described: Any) -> None:
        self.name, self.json_schema = _json_schema(described)
        given = described.fields if isinstance(described, Schema) else described
        wanted = {field.name: field.type for field in given} if isinstance(described, (pa.Schema, Schema)) else {}
        definitions = {**self.json_schema.get("$defs", {}), **self.json_schema.get("definitions", {})}
        root = _resolved(self.json_schema, definitions)
        properties = root.get("properties")
        if root.get("type") != "object" or not properties:
            raise ValueError(f"schema must describe an object with properties, not {str(described)[:100]!r}")
        self._kinds = {name: _kind(inner, definitions, ()) for name, inner in properties.items()}
        self.fields = [pa.field(name, wanted.get(name, kind.arrow)) for name, kind in self._kinds.items()]
        self._type = _struct("Answer", self._kinds)

    def __repr__(self) -> str:
        return f"Schema({', '.join(f'{field.name}: {field.type}' for field in self.fields)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.name, self.json_schema, self.fields)

    @property
    def response_format(self) -> dict[str, Any]:
        """What a chat completion's `response_format` is to be."""
        described = {"name": self.name, "schema": self.json_schema, "strict": True}
        return {"type": "json_schema", "json_schema": described}

    @property
    def text_format(self) -> dict[str, Any]:
        """What a response's `text.format` is to be."""
        return {"type": "json_schema", "name": self.name, "schema": self.json_schema, "strict": True}

    def parse(self, text: str) -> list[pa.Array]:
        """One answer's columns, one value each.

        Raises:
          ValueError: the text is not JSON, or not of this schema; the message says where.
        """
        try:
            read = msgspec.json.decode(text, type=self._type)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise ValueError(str(error)) from error
        values = _by_name(read, self._kinds)
        try:
            return [pa.array([values[field.name]], field.type) for field in self.fields]
        except (pa.ArrowException, OverflowError) as error:
            raise ValueError(str(error)) from error


def _again(name: str, json_schema: dict[str, Any], fields: list[pa.Field]) -> Schema:
    schema = Schema(json_schema)
    schema.name, schema.fields = name, fields
    return schema


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A JSON schema's type: as Arrow has it, as msgspec reads it, and what is inside."""

    arrow: pa.DataType
    parsed: Any
    properties: Mapping[str, _Kind] | None = None
    items: _Kind | None = None


_TEXT = _Kind(pa.string(), _Json)
"""What Arrow has no type for: kept as JSON."""
_PLAIN = {
    "string": _Kind(pa.string(), str),
    "integer": _Kind(pa.int64(), int | float),  # 1.0 is one too
    "number": _Kind(pa.float64(), float),
    "boolean": _Kind(pa.bool_(), bool),
}


def _kind(schema: Any, definitions: Mapping[str, Any], within: tuple[str, ...]) -> _Kind:
    reference = schema.get("$ref") if isinstance(schema, Mapping) else None
    if reference in within:
        return _TEXT  # a type that holds itself: Arrow has none such
    schema = _resolved(schema, definitions)
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
        kinds = {name: _kind(inner, definitions, within) for name, inner in schema["properties"].items()}
        arrow = pa.struct([(name, kind.arrow) for name, kind in kinds.items()])
        return _Kind(arrow, _struct("Inner", kinds), properties=kinds)
    if type_ == "array" and "items" in schema:
        inner = _kind(schema["items"], definitions, within)
        return _Kind(pa.list_(inner.arrow), list[inner.parsed], items=inner)  # type: ignore[name-defined]
    return _PLAIN.get(str(type_), _TEXT)


def _resolved(schema: Any, definitions: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        return {}
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _resolved(definitions.get(reference.rpartition("/")[2]), definitions)
    if list(schema.get("allOf", [])[1:]) == [] and schema.get("allOf"):
        return _resolved(schema["allOf"][0], definitions)
    return dict(schema)


def _either(options: list[Any], definitions: Mapping[str, Any], within: tuple[str, ...]) -> _Kind:
    others = [option for option in options if not isinstance(option, Mapping) or option.get("type") != "null"]
    if len(others) != 1:
        return _TEXT
    kind = _kind(others[0], definitions, within)
    if len(others) == len(options) or kind is _TEXT:
        return kind
    return dataclasses.replace(kind, parsed=kind.parsed | None)


def _one_of(values: list[Any]) -> _Kind:
    for python, kind in ((str, _PLAIN["string"]), (int, _PLAIN["integer"])):
        there = [value for value in values if value is not None]
        if there and all(type(value) is python for value in there):
            return dataclasses.replace(kind, parsed=typing.Literal[tuple(values)])
    return _TEXT


def _struct(name: str, kinds: Mapping[str, _Kind]) -> Any:
    # Numbered, because a property's name may be anything.
    names = {f"f{number}": name for number, name in enumerate(kinds)}
    return msgspec.defstruct(name, [(own, kinds[name].parsed) for own, name in names.items()], rename=names)


def _as_arrow(value: Any, kind: _Kind) -> Any:
    if value is None:
        return None
    if kind.parsed is _Json:
        return bytes(value).decode()
    if kind.items is not None:
        return [_as_arrow(item, kind.items) for item in value]
    if kind.properties is not None:
        return _by_name(value, kind.properties)
    if isinstance(value, float) and pa.types.is_integer(kind.arrow):
        if not value.is_integer():
            raise ValueError("Expected a whole number, got one with a fraction")
        return int(value)
    return value


def _by_name(read: Any, kinds: Mapping[str, _Kind]) -> dict[str, Any]:
    return {name: _as_arrow(getattr(read, f"f{number}"), kind) for number, (name, kind) in enumerate(kinds.items())}


# What describes a schema.


def _json_schema(described: Any) -> tuple[str, dict[str, Any]]:
    """A name for it, and the JSON schema in the strict form that the API demands."""
    if isinstance(described, Schema):
        return described.name, described.json_schema
    if isinstance(described, pa.Schema):
        if len(set(described.names)) < len(described.names):
            raise ValueError(f"schema must have a name for each column, not {', '.join(described.names)}")
        return "answer", _strict(
            {"type": "object", "properties": {field.name: _of_type(field.type) for field in described}}
        )
    if isinstance(described, Mapping):
        return _name(described.get("title")), _strict(dict(described))
    if hasattr(described, "model_json_schema"):
        return _name(described.__name__), _strict(described.model_json_schema())
    if isinstance(described, type) and dataclasses.is_dataclass(described):
        (schema,), definitions = msgspec.json.schema_components([described], ref_template="#/$defs/{name}")
        return _name(described.__name__), _strict({**_resolved(schema, definitions), "$defs": definitions})
    raise ValueError(f"schema must be a pa.Schema, a JSON schema, a pydantic model or a dataclass, not {described!r}")


def _name(title: Any) -> str:
    """As the API takes it: up to 64 letters, digits, - and _."""
    kept = "".join(
        letter if (letter.isascii() and letter.isalnum()) or letter in "-_" else "_" for letter in str(title or "")
    )
    return kept[:64] or "answer"


def _strict(schema: Any) -> Any:
    """All properties of all objects required, and no others."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {
        name: {inner: _strict(value) for inner, value in part.items()}
        if name in ("properties", "$defs", "definitions")
        else part
        if name in ("enum", "const", "default", "required")
        else _strict(part)
        for name, part in schema.items()
    }
    if isinstance(found.get("properties"), dict):
        found.update(type="object", additionalProperties=False, required=list(found["properties"]))
    found.pop("default", None)  # which the strict form does not know
    return found


def _of_type(kind: pa.DataType) -> dict[str, Any]:
    types = pa.types
    if types.is_struct(kind):
        return {"type": "object", "properties": {field.name: _of_type(field.type) for field in kind}}
    if types.is_list(kind) or types.is_large_list(kind):
        return {"type": "array", "items": _of_type(kind.value_type)}
    for name, matches in (
        ("boolean", types.is_boolean),
        ("integer", types.is_integer),
        ("number", types.is_floating),
        ("string", lambda kind: types.is_string(kind) or types.is_large_string(kind)),
    ):
        if matches(kind):
            return {"type": name}
    raise ValueError(
        f"schema: an answer in JSON has no {kind}; use string, int64, double, bool, lists and structs of them"
    )
