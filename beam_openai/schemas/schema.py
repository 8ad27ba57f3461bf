"""Schema: the columns that an answer is to become, and how it becomes them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from beam_openai.schemas import described as descriptions
from beam_openai.schemas.kinds import Kind, by_name, object_of

_MOST_LEVELS = 10


class Schema:
    """The columns that an answer is to become.

    Args:
      described: a `pa.Schema`, a JSON schema of an object, a pydantic model, a dataclass, or another `Schema`.

    Attributes:
      name: what the server is told that it is called.
      json_schema: as it is sent: all properties of all objects required, and no others, which its strict form demands.
      fields: the columns.

    Raises:
      ValueError: it describes no object, or what no answer can be, or no column; or it is larger than OpenAI takes.
    """

    name: str
    json_schema: dict[str, Any]
    fields: list[pa.Field]
    _kind: Kind

    def __init__(self, described: Any) -> None:
        try:
            self._read(described)
        except RecursionError as error:
            raise ValueError("schema must not refer to itself without end, nor be so deep") from error

    def _read(self, described: Any) -> None:
        if isinstance(described, Schema):
            self.name, self.json_schema = described.name, described.json_schema
        else:
            self.name, self.json_schema = descriptions.json_schema(described)
        given = described.fields if isinstance(described, Schema) else described
        wanted = {field.name: field.type for field in given} if isinstance(described, (pa.Schema, Schema)) else {}
        if self.json_schema.get("type") != "object" or not self.json_schema.get("properties"):
            raise ValueError(f"schema must describe an object with properties, not {str(described)[:100]!r}")
        self._kind = object_of(self.json_schema, self.json_schema)
        self._set_fields([pa.field(field.name, wanted.get(field.name, field.type)) for field in self._kind.arrow])
        if self._kind.levels > _MOST_LEVELS:
            raise ValueError(f"schema has {self._kind.levels} levels of objects, where OpenAI takes {_MOST_LEVELS}")
        self._check_sample()

    def _set_fields(self, fields: list[pa.Field]) -> None:
        self.fields = fields
        self._may_overflow = any(_holds_small_floats(field.type) for field in fields)

    def _check_sample(self) -> None:
        """Refuses what columns cannot be made of: what fits the schema must fit them."""
        try:
            self.parse(msgspec.json.encode(self._kind.sample).decode())
        except ValueError as error:
            columns = ", ".join(f"{field.name}: {field.type}" for field in self.fields)
            raise ValueError(f"schema: no answer can become the columns {columns[:200]}: {error}") from error

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
          ValueError: the text is not JSON, or not of this schema, or a number is out of its type's range; the message
            says where.
        """
        try:
            read = msgspec.json.decode(text, type=self._kind.parsed)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise ValueError(_reason(text, error)) from error
        values = by_name(read, self._kind.properties or {})
        return [self._column(values[field.name], field) for field in self.fields]

    def _column(self, value: Any, field: pa.Field) -> pa.Array:
        try:
            column = pa.array([value], field.type)
        except (pa.ArrowException, OverflowError, NotImplementedError) as error:
            raise ValueError(f"Expected what {field.type} can hold - at `$.{field.name}`: {error}") from error
        if self._may_overflow and _is_infinite(column):
            raise ValueError(f"Expected what {field.type} can hold - at `$.{field.name}`: a number out of its range")
        return column


def _reason(text: str, error: Exception) -> str:
    """What is wrong with a text; msgspec's own words mislead where there is none, or half a character in it."""
    if not text.strip():
        return "the text is empty"
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "it escapes half of a character (a lone one of \\ud800 to \\udfff), which no text can hold"
    except (ValueError, RecursionError):
        pass
    return str(error)


def _again(name: str, json_schema: dict[str, Any], fields: list[pa.Field]) -> Schema:
    schema = Schema(json_schema)
    schema.name = name
    schema._set_fields(fields)
    return schema


def _holds_small_floats(kind: pa.DataType) -> bool:
    """Whether a number that JSON, read as double, can hold may become infinity."""
    if pa.types.is_struct(kind):
        return any(_holds_small_floats(field.type) for field in kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _holds_small_floats(kind.value_type)
    return bool(pa.types.is_floating(kind) and kind.bit_width < 64)


def _is_infinite(values: pa.Array) -> bool:
    """Whether any number in there is, which none in JSON is."""
    if pa.types.is_struct(values.type):
        return any(map(_is_infinite, values.flatten()))
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        return _is_infinite(values.flatten())
    return bool(pa.types.is_floating(values.type) and pc.any(pc.is_inf(values.cast(pa.float64()))).as_py())
