"""A value that fits a JSON Schema, drawn from a seed: what structured outputs and tool calls answer with.

It knows what JSON Schema has for shapes (`type`, `properties`, `items`, `enum`, `anyOf`, `$ref`, ...) and limits (`minimum`,
`minItems`, `pattern`, `format`, ...). What `schema_rules.problem` has not objected to can be written.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from .patterns import matching
from .writing import VOCABULARY

_DEEP = 5  # levels, below which it takes the shortest way to an end
_MANY = 3  # items at most of an array that may have any number
_WORDS = 5
_SPAN = 100  # how far a number goes from the one limit that it has

FORMATS = {
    "date-time": "2024-{m:02}-{d:02}T{h:02}:{s:02}:00Z",
    "date": "2024-{m:02}-{d:02}",
    "time": "{h:02}:{s:02}:00Z",
    "duration": "P{d}DT{h}H",
    "email": "{word}.{other}@example.com",
    "hostname": "{word}.example.com",
    "ipv4": "192.0.2.{d}",
    "ipv6": "2001:db8::{d}",
    "uuid": "{eight:08x}-{d:04x}-4000-8000-{eight:012x}",
    "uri": "https://example.com/{word}/{other}",
}
"""String formats, and how a text of each is made."""


def fitting(schema: Any, seed: str) -> Any:
    """A value that fits `schema`; the same one for the same seed."""
    return _Filler(schema, random.Random(seed)).value(schema, 0)


def resolved(schema: Any, root: Any) -> Any:
    """What a schema's `$ref` points at, its own keywords added, and its `allOf` put together.

    Raises:
        LookupError: it points at nothing.
    """
    seen = set()
    while isinstance(schema, dict) and "$ref" in schema:
        if schema["$ref"] in seen:
            raise LookupError(schema["$ref"])
        seen.add(schema["$ref"])
        target = _pointed(schema["$ref"], root)
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**target, **rest} if isinstance(target, dict) else target
    if isinstance(schema, dict) and "allOf" in schema:
        whole = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            whole = _joined(whole, resolved(part, root))
        return whole
    return schema


def _pointed(ref: str, root: Any) -> Any:
    if not ref.startswith("#"):
        raise LookupError(ref)
    found = root
    for step in filter(None, ref[1:].split("/")):
        name = step.replace("~1", "/").replace("~0", "~")
        found = found[int(name)] if isinstance(found, list) else found[name]
    return found


def _joined(one: Mapping[str, Any], other: Any) -> dict[str, Any]:
    if not isinstance(other, dict):
        return dict(one)
    both = {**one, **other}
    if "properties" in one and "properties" in other:
        both["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        both["required"] = [*one["required"], *other["required"]]
    return both


def height(schema: Any, root: Any, seen: frozenset[str] = frozenset()) -> float:
    """Levels of the least deep value that fits: infinite where a schema goes round in circles."""
    if isinstance(schema, dict) and "$ref" in schema:
        if schema["$ref"] in seen:
            return math.inf
        seen |= {schema["$ref"]}
    schema = resolved(schema, root)
    if not isinstance(schema, dict) or "const" in schema or "enum" in schema:
        return 0
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return min((height(part, root, seen) for part in schema[keyword]), default=0)
    kinds = types(schema)
    if kinds - {"object", "array"}:
        return 0
    heights = []
    if "object" in kinds:
        properties = schema.get("properties", {})
        inner = [properties[name] for name in schema.get("required", ()) if name in properties]
        heights.append(1 + max((height(part, root, seen) for part in inner), default=0))
    if "array" in kinds:
        empty = not schema.get("minItems") and not schema.get("prefixItems")
        inner = [] if empty else [*schema.get("prefixItems", ()), schema.get("items", True)]
        heights.append(1 + max((height(part, root, seen) for part in inner), default=0))
    return min(heights)


def types(schema: Mapping[str, Any]) -> set[str]:
    """The types that a schema allows; those that its other keywords are about, where it has no `type`."""
    given = schema.get("type")
    if given is not None:
        return {given} if isinstance(given, str) else set(given)
    for kind, keywords in _ABOUT.items():
        if any(keyword in schema for keyword in keywords):
            return {kind}
    return {"string"}


_ABOUT = {
    "object": ("properties", "required", "additionalProperties", "minProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


class _Filler:
    def __init__(self, root: Any, chance: random.Random) -> None:
        self._root = root
        self._chance = chance

    def value(self, schema: Any, depth: int) -> Any:
        schema = resolved(schema, self._root)
        if not isinstance(schema, dict):
            return self._words(_WORDS)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._pick(schema["enum"])
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                rest = {key: value for key, value in schema.items() if key != keyword}
                part = self._branch(schema[keyword], depth)
                return self.value(_joined(rest, resolved(part, self._root)) if isinstance(part, dict) else rest, depth)
        kind = self._kind(schema, depth)
        if kind == "null":
            return None
        if kind == "boolean":
            return self._chance.random() < 0.5
        if kind == "object":
            return self._object(schema, depth + 1)
        if kind == "array":
            return self._array(schema, depth + 1)
        if kind in ("integer", "number"):
            return self._number(schema, kind == "integer")
        return self._string(schema)

    def _pick(self, values: Sequence[Any]) -> Any:
        return values[int(self._chance.random() * len(values))]

    def _branch(self, parts: Sequence[Any], depth: int) -> Any:
        heights = [height(part, self._root) for part in parts]
        most = min(heights) if depth > _DEEP else max(found for found in heights if found < math.inf)
        return self._pick([part for part, found in zip(parts, heights, strict=True) if found <= most])

    def _kind(self, schema: Mapping[str, Any], depth: int) -> str:
        kinds = sorted(types(schema))
        simple = [kind for kind in kinds if kind not in ("object", "array")]
        return str(self._pick(simple if simple and depth > _DEEP else kinds))

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties, required = schema.get("properties", {}), schema.get("required", ())
        others = schema.get("additionalProperties", True)
        made = {}
        for name, part in properties.items():
            if name in required or (depth <= _DEEP and self._chance.random() < 0.75):
                made[name] = self.value(part, depth)
        for name in required:
            if name not in made:
                made[name] = self.value(others, depth)
        # An object of names of one's own has some, as a map does.
        least = schema.get("minProperties", 0 if properties or not isinstance(others, dict) or depth > _DEEP else 2)
        for word in VOCABULARY:
            if len(made) >= least or others is False:
                break
            if word not in properties:
                made[word] = self.value(others, depth)
        return made

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems", ())
        least = max(schema.get("minItems", 0), len(first))
        most = schema.get("maxItems", max(least, _MANY))
        size = least if depth > _DEEP else max(least, min(most, 1 + int(self._chance.random() * _MANY)))
        made = [self.value(part, depth) for part in first]
        for _ in range(20 * size):
            if len(made) >= size:
                break
            item = self.value(schema.get("items", True), depth)
            if not (schema.get("uniqueItems") and item in made):
                made.append(item)
        return made

    def _number(self, schema: Mapping[str, Any], whole: bool) -> float:
        step = schema.get("multipleOf", 1 if whole else 0.01)
        low, high = _limits(schema)
        if low == -math.inf:
            low = 0.0 if high >= 0 else high - _SPAN * step
        if high == math.inf:
            high = low + _SPAN * step
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        at = first + int(self._chance.random() * (last - first + 1))
        # Where a limit itself is excluded, and where no multiple of a hundredth lies between two limits.
        at += (at * step <= schema.get("exclusiveMinimum", -math.inf)) - (
            at * step >= schema.get("exclusiveMaximum", math.inf)
        )
        if "multipleOf" not in schema and not whole and not low <= at * step <= high:
            return (low + high) / 2
        return int(at * step) if whole else round(at * step, 10)

    def _string(self, schema: Mapping[str, Any]) -> str:
        if "pattern" in schema:
            return matching(schema["pattern"], self._chance)
        if schema.get("format") in FORMATS:
            return FORMATS[schema["format"]].format(
                m=1 + int(self._chance.random() * 12),
                d=1 + int(self._chance.random() * 28),
                h=int(self._chance.random() * 24),
                s=int(self._chance.random() * 60),
                eight=int(self._chance.random() * 2**32),
                word=self._pick(VOCABULARY),
                other=self._pick(VOCABULARY),
            )
        text = self._words(_WORDS)
        while len(text) < schema.get("minLength", 0):
            text += " " + self._words(_WORDS)
        return text[: schema.get("maxLength")]

    def _words(self, most: int) -> str:
        return " ".join(self._pick(VOCABULARY) for _ in range(1 + int(self._chance.random() * most)))


def _limits(schema: Mapping[str, Any]) -> tuple[float, float]:
    low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    return low, high
