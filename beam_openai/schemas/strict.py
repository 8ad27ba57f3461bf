"""The strict form, in which OpenAI's structured outputs take a JSON schema: how one is put into it, and what it cannot say.

    all properties of an object are required          and there are no others
    each value has a `type`, or stands in `anyOf`     an `enum` is given that of its values; `oneOf` becomes `anyOf`
    a reference stands alone, and never at the root   where it does not, what it names is put in its place

Source: https://platform.openai.com/docs/guides/structured-outputs, "Supported schemas", as of 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from beam_openai.schemas import references
from beam_openai.schemas.shapes import NAMED_PARTS, types

_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_OTHERS = """
not if then else dependentRequired dependentSchemas patternProperties propertyNames minProperties maxProperties contains
minContains maxContains unevaluatedItems unevaluatedProperties
"""
_UNKNOWN = {
    **dict.fromkeys(_OTHERS.split(), "leave it out"),
    "allOf": "write its parts as one",
    "prefixItems": "in place of a tuple use a list, or an object with a property for each item",
    "uniqueItems": "in place of a set use a list",
}
"""Keywords that it has not, and what to do without them."""
_SAYING_NOTHING = ("default", "discriminator")
_ABOUT = ("title", "description", "examples", "deprecated", "readOnly", "writeOnly", "$comment")
"""Keywords that are about a value and no condition for one: what refers to a schema may say them anew."""
_PYTHON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema in the strict form.

    Raises:
      ValueError: the form has no words for something in it; the message says where it stands.
    """
    return _strict(schema, schema, "schema", ("#",))


def _strict(schema: Any, root: Mapping[str, Any], place: str, within: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        raise ValueError(_any_value(place))
    found, within = _whole(schema, root, place, within)
    if "$ref" in found:
        return found
    _check_words(found, place)
    if "oneOf" in found:
        found = _joined({"anyOf": found.pop("oneOf")}, found, place)
    for name in NAMED_PARTS:
        if name in found:
            inner = found[name].items()
            found[name] = {key: _strict(part, root, f"{place}.{name}.{key}", within) for key, part in inner}
    if "anyOf" in found:
        options = enumerate(found["anyOf"])
        found["anyOf"] = [_strict(part, root, f"{place}.anyOf[{index}]", within) for index, part in options]
    if "items" in found:
        found["items"] = _strict(found["items"], root, f"{place}.items", within)
    found = {**_type(found), **found}
    _check_types(found, place)
    if "object" in types(found):
        found = {"properties": {}, **found}
        found.update(additionalProperties=False, required=list(found["properties"]))
    return found


def _whole(
    schema: Mapping[str, Any], root: Mapping[str, Any], place: str, within: tuple[str, ...]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The schema with what it refers to in place of a reference that cannot stay.

    Args:
      within: the references that it is put in the place of.

    Returns:
      It, and the references that it is then put in the place of.
    """
    said = {name: part for name, part in schema.items() if name not in _SAYING_NOTHING}
    if len(said.get("allOf", ())) == 1 and isinstance(said["allOf"][0], Mapping):
        (inner,) = said.pop("allOf")
        return _whole(_joined(inner, said, place), root, place, within)
    reference = said.pop("$ref", None)
    if reference is None:
        return said, within
    can_stay = re.fullmatch(r"#|#/(\$defs|definitions)/[^/]+", reference) is not None
    if can_stay and not said and place != "schema":
        return {"$ref": reference}, within
    if reference in within and not can_stay:
        raise ValueError(f"{place} is in what it refers to, {reference!r}: put that into $defs, and refer to it there")
    if reference in within:
        return _joined({"anyOf": [{"$ref": reference}]}, said, place), within
    named = references.target(reference, root)
    if not isinstance(named, Mapping):
        raise ValueError(_any_value(place))
    return _whole(_joined(named, said, place), root, place, (*within, reference))


def _joined(inner: Mapping[str, Any], outer: Mapping[str, Any], place: str) -> dict[str, Any]:
    """One schema of two that hold both."""
    twice = [name for name in inner if name not in _ABOUT and name in outer and outer[name] != inner[name]]
    if twice:
        raise ValueError(f"{place}: {twice[0]} is said twice, here and in what it refers to: say it once")
    return {**inner, **outer}


def _check_words(schema: Mapping[str, Any], place: str) -> None:
    for name, advice in _UNKNOWN.items():
        if name in schema:
            raise ValueError(f"{place}: OpenAI's structured outputs have no {name}: {advice}")
    if (format_ := schema.get("format", "date")) not in _FORMATS:
        raise ValueError(
            f"{place}: OpenAI's structured outputs have no format {format_!r}, but {', '.join(_FORMATS)}: use a text "
            "without a format, or a number"
        )
    for name in ("type", "enum", "anyOf", "oneOf"):
        if name in schema and not schema[name]:
            raise ValueError(f"{place}: {name} must have a value at least")


def _type(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The type that a schema means which names none."""
    if "properties" in schema:
        return {"type": "object"}
    values = [schema["const"]] if "const" in schema else schema.get("enum", ())
    return {"type": _type_of(values)} if values and {type(value) for value in values} <= _PYTHON_TYPES.keys() else {}


def _type_of(values: Sequence[Any]) -> str | list[str]:
    names = list(dict.fromkeys(_PYTHON_TYPES[type(value)] for value in values))
    if "number" in names and "integer" in names:
        names.remove("integer")
    return names[0] if len(names) == 1 else names


def _check_types(schema: Mapping[str, Any], place: str) -> None:
    if not ("type" in schema or "anyOf" in schema):
        raise ValueError(_any_value(place))
    kinds = types(schema)
    if "object" in kinds and "properties" not in schema and schema.get("additionalProperties") is not False:
        raise ValueError(
            f"{place} is an object whose properties have no names, such as a dict, which OpenAI's structured outputs do "
            "not take: name them, or use a list of objects with a key and a value"
        )
    if "array" in kinds and "items" not in schema:
        raise ValueError(f"{place} is an array, and must say of what: items={{...}}")


def _any_value(place: str) -> str:
    if place == "schema":
        return "schema must describe an object with properties, and does not say what it describes"
    return f"{place} may be any value, which OpenAI's structured outputs do not take: give it a type"
