"""What is wrong with a JSON Schema, in the words of the real service: nothing, or the first thing that is found.

Strict schemas have rules of their own: every property is required, and no others are allowed. Of others
only what cannot be written is refused.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from .patterns import matching
from .replies import Refusal
from .schemas import FORMATS, height, resolved

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_STRICT_FORMATS = tuple(name for name in FORMATS if name != "uri")
_NOT_STRICT = """
allOf oneOf not if then else default patternProperties propertyNames minProperties maxProperties contains
minContains maxContains uniqueItems dependentRequired dependentSchemas unevaluatedItems unevaluatedProperties
"""
_UNWRITTEN = ("not", "if", "contains", "dependentRequired", "dependentSchemas", "propertyNames", "patternProperties")
_PARTS = {"properties": dict, "$defs": dict, "definitions": dict, "anyOf": list, "oneOf": list, "allOf": list}
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_MOST = 100_000
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_LARGEST = 1e100
_SHAPES: dict[str, tuple[type, ...]] = {
    **{keyword: (kind,) for keyword, kind in _PARTS.items()},
    **{keyword: (list,) for keyword in ("required", "enum", "prefixItems")},
    **{keyword: (bool, dict) for keyword in ("items", "additionalProperties")},
    **{keyword: (int,) for keyword in _COUNTS},
    **{keyword: (int, float) for keyword in _NUMBERS},
    **{keyword: (str,) for keyword in ("$ref", "pattern", "format")},
    "type": (str, list),
    "uniqueItems": (bool,),
}
"""Keywords that are read, and the types of their values."""

_Context = tuple[str, ...]


def check(schema: Any, strict: bool, refuse: Callable[[str], Refusal], an_object: bool = False) -> None:
    """Checks a schema.

    Args:
        strict: with the rules of strict schemas.
        refuse: makes the refusal, of what is wrong.
        an_object: it must be one of an object, as a strict one always must.

    Raises:
        Refusal: as `refuse` made it.
    """
    kind = schema.get("type") if isinstance(schema, dict) else None
    if (strict or an_object) and kind != "object":
        raise refuse(f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'.")
    for context, what in _problems(schema, schema, (), strict):
        raise refuse(f"In context={context!r}, {what}.")
    if math.isinf(height(schema, schema)):
        raise refuse("In context=(), no value of finite depth can fit.")


def _problems(schema: Any, root: Any, context: _Context, strict: bool) -> Iterator[tuple[_Context, str]]:
    if isinstance(schema, bool) and not strict:
        return
    if not isinstance(schema, dict):
        yield context, f"{schema!r} is not of type 'object', 'boolean'"
        return
    for what in _malformed(schema, root):
        yield context, what
    if strict:
        for what in _not_strict(schema):
            yield context, what
    for path, part in _parts(schema):
        yield from _problems(part, root, context + path, strict)


def _parts(schema: dict[str, Any]) -> Iterator[tuple[_Context, Any]]:
    for keyword, kind in _PARTS.items():
        inner = schema.get(keyword)
        if kind is dict and isinstance(inner, dict):
            for name, part in inner.items():
                yield (keyword, name), part
        elif kind is list and isinstance(inner, list):
            for index, part in enumerate(inner):
                yield (keyword, str(index)), part
    for index, part in enumerate(schema.get("prefixItems", ())):
        yield ("prefixItems", str(index)), part
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield (keyword,), schema[keyword]


def _malformed(schema: dict[str, Any], root: Any) -> Iterator[str]:
    """What no schema can have, or what cannot be written."""
    for keyword, kinds in _SHAPES.items():
        if keyword in schema and type(schema[keyword]) not in kinds:
            yield f"{schema[keyword]!r} is not a value of '{keyword}'"
            return
    for keyword in ("anyOf", "oneOf", "allOf", "enum", "type"):
        if schema.get(keyword) == []:
            yield f"[] is too short for '{keyword}'"
    given = schema.get("type", [])
    for name in given if isinstance(given, list) else [given]:
        if name not in TYPES:
            yield f"{name!r} is not valid under any of the given schemas"
    for name in schema.get("required", ()):
        if type(name) is not str:
            yield f"{name!r} is not of type 'string'"
    for keyword in _COUNTS:
        if not 0 <= schema.get(keyword, 0) <= _MOST:
            yield f"{schema[keyword]!r} is not from 0 to {_MOST}, as '{keyword}' must be here"
    for keyword in _NUMBERS:
        if not -_LARGEST < schema.get(keyword, 0) < _LARGEST or (
            keyword == "multipleOf" and schema.get(keyword, 1) <= 0
        ):
            yield f"{schema[keyword]!r} is out of the range of '{keyword}'"
    for keyword in _UNWRITTEN:
        if keyword in schema:
            yield f"'{keyword}' is not permitted"
    yield from _unreachable(schema, root)
    yield from _unmatchable(schema)


def _unreachable(schema: dict[str, Any], root: Any) -> Iterator[str]:
    try:
        resolved(schema, root)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        named = schema.get("$ref", "in allOf")
        yield f"reference to component '{named}' which was not found in the schema"


def _unmatchable(schema: dict[str, Any]) -> Iterator[str]:
    if "pattern" in schema:
        try:
            matching(schema["pattern"], random.Random(0))
        except (ValueError, TypeError, IndexError) as error:
            yield f"'pattern' is not valid: {error}"


def _not_strict(schema: dict[str, Any]) -> Iterator[str]:
    """What a strict schema must have, and must not."""
    if "$ref" in schema:
        others = {keyword for keyword in schema if keyword not in ("$ref", "$defs", "definitions")}
        if others:
            yield f"$ref cannot have keywords {others!r}"
        return
    for keyword in _NOT_STRICT.split():
        if keyword in schema:
            yield f"'{keyword}' is not permitted"
    if not {"type", "anyOf"} & set(schema):
        yield "schema must have a 'type' key"
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "object" in kinds:
        yield from _not_strict_object(schema)
    if "array" in kinds and "items" not in schema:
        yield "array schema missing items"
    if "format" in schema and schema["format"] not in _STRICT_FORMATS:
        yield f"'{schema['format']}' is not a valid format"


def _not_strict_object(schema: dict[str, Any]) -> Iterator[str]:
    if schema.get("additionalProperties") is not False:
        yield "'additionalProperties' is required to be supplied and to be false"
    properties: Collection[str] = schema.get("properties", {})
    required: Sequence[str] = schema.get("required", ())
    told = "'required' is required to be supplied and to be an array including every key in properties"
    for name in properties:
        if name not in required:
            yield f"{told}. Missing '{name}'"
    for name in required:
        if name not in properties:
            yield f"{told}. Extra required key '{name}' supplied"
