"""What JSON schema is made of, as far as it is read here: keywords, what stands behind each, and schemas in schemas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from beam_openai.schemas import references

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
NAMED_PARTS = ("properties", "$defs", "definitions")
_LISTED_PARTS = ("anyOf", "oneOf", "allOf")
_SHAPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(NAMED_PARTS, (Mapping,)),
    **dict.fromkeys((*_LISTED_PARTS, "enum", "required"), (list, tuple)),
    "items": (Mapping, bool),
    "type": (str, list, tuple),
    "$ref": (str,),
}
"""Keywords that are read, and the types of their values."""


def check(schema: Any, root: Any = None, place: str = "schema") -> None:
    """Refuses what is no JSON schema.

    Args:
      schema: what should be one.
      root: what it stands in, and what its references are about; not set: itself.
      place: where it stands, for the message.

    Raises:
      ValueError: it is none; the message says where.
    """
    if isinstance(schema, bool) and root is not None:
        return
    if not isinstance(schema, Mapping):
        raise ValueError(f"{place} must be a JSON schema, not {_shown(schema)}")
    root = schema if root is None else root
    for keyword, kinds in _SHAPES.items():
        if keyword in schema and not isinstance(schema[keyword], kinds):
            raise ValueError(f"{place}: {keyword} cannot be {_shown(schema[keyword])}")
    for name in types(schema):
        if name not in TYPES:
            raise ValueError(f"{place}: type must be one of {', '.join(TYPES)}, not {_shown(name)}")
    if "$ref" in schema:
        _check_reference(schema["$ref"], root, place)
    for path, part in parts(schema):
        check(part, root, f"{place}.{path}")


def _check_reference(reference: str, root: Mapping[str, Any], place: str) -> None:
    try:
        if references.is_endless(reference, root):
            raise ValueError(f"{place} must not refer to itself without end, as {_shown(reference)} does")
        named = references.target(reference, root)
    except LookupError as error:
        raise ValueError(f"{place}: {_shown(reference)} is defined nowhere in the schema") from error
    if not isinstance(named, Mapping | bool):
        raise ValueError(f"{place}: {_shown(reference)} is no JSON schema, but {_shown(named)}")


def _shown(value: Any) -> str:
    return repr(value)[:100]


def types(schema: Mapping[str, Any]) -> list[Any]:
    """The types that it names."""
    given = schema.get("type", [])
    return [given] if isinstance(given, str) else list(given)


def parts(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas right inside one, and where they are."""
    for keyword in NAMED_PARTS:
        yield from ((f"{keyword}.{name}", part) for name, part in schema.get(keyword, {}).items())
    for keyword in _LISTED_PARTS:
        yield from ((f"{keyword}[{index}]", part) for index, part in enumerate(schema.get(keyword, ())))
    if "items" in schema:
        yield "items", schema["items"]


def every(schema: Any) -> Iterator[Mapping[str, Any]]:
    """A schema and all that are in it."""
    if isinstance(schema, Mapping):
        yield schema
        for _, part in parts(schema):
            yield from every(part)
