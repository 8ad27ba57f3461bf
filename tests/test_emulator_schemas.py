"""What the emulator fills JSON schemas with, against a validator of the test's own."""

import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_openai.emulator.patterns import matching
from beam_openai.emulator.replies import Refusal
from beam_openai.emulator.schema_rules import check
from beam_openai.emulator.schemas import fitting

PATTERNS = [
    "^[A-Z]{3}-\\d{4}$",
    "^(foo|ba+r)?x*$",
    "a.c",
    "^\\w+@\\w+\\.(com|org)$",
    "[^a-z]{2,5}",
    "^\\+?[0-9 ()-]{7,}$",
    "(?P<year>\\d{4})-(?:0[1-9]|1[0-2])",
    "^$",
    "\\u00e9\\x41[\\]\\-a]",
    "^[a-zA-Z_][a-zA-Z0-9_]*?$",
]
FORMATS = {
    "date-time": r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:\d\dZ",
    "date": r"\d{4}-[01]\d-[0-3]\d",
    "time": r"[0-2]\d:[0-5]\d:\d\dZ",
    "duration": r"P\d+DT\d+H",
    "email": r"\w+\.\w+@example\.com",
    "hostname": r"\w+\.example\.com",
    "ipv4": r"192\.0\.2\.\d+",
    "ipv6": r"2001:db8::\d+",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-4000-8000-[0-9a-f]{12}",
    "uri": r"https://example\.com/\w+/\w+",
}
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
}


def fits(value, schema, root):
    """Whether a value is one of a schema: what of JSON Schema these tests use."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        target = root
        for step in schema["$ref"].split("/")[1:]:
            target = target[step]
        if not fits(value, target, root):
            return False
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    typed = [isinstance(value, TYPES[kind]) and (kind == "boolean") == isinstance(value, bool) for kind in kinds]
    return (
        (not kinds or any(typed))
        and ("const" not in schema or value == schema["const"])
        and ("enum" not in schema or value in schema["enum"])
        and ("anyOf" not in schema or any(fits(value, part, root) for part in schema["anyOf"]))
        and all(fits(value, part, root) for part in schema.get("allOf", ()))
        and (not isinstance(value, dict) or object_fits(value, schema, root))
        and (not isinstance(value, list) or array_fits(value, schema, root))
        and (not isinstance(value, str) or string_fits(value, schema))
        and (isinstance(value, bool) or not isinstance(value, (int, float)) or number_fits(value, schema))
    )


def object_fits(value, schema, root):
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    return (
        all(name in value for name in schema.get("required", ()))
        and all(fits(each, properties.get(name, others), root) for name, each in value.items())
        and len(value) >= schema.get("minProperties", 0)
    )


def array_fits(value, schema, root):
    first = schema.get("prefixItems", ())
    return (
        schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        and all(fits(each, part, root) for each, part in zip(value, first))
        and all(fits(each, schema.get("items", True), root) for each in value[len(first) :])
        and (not schema.get("uniqueItems") or len({json.dumps(each) for each in value}) == len(value))
    )


def string_fits(value, schema):
    return (
        schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        and ("pattern" not in schema or re.search(schema["pattern"], value) is not None)
        and ("format" not in schema or re.fullmatch(FORMATS[schema["format"]], value) is not None)
    )


def number_fits(value, schema):
    step = schema.get("multipleOf")
    return (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and schema.get("exclusiveMinimum", value - 1) < value < schema.get("exclusiveMaximum", value + 1)
        and (step is None or abs(value / step - round(value / step)) < 1e-6)
    )


# Schemas at large

numbers = st.integers(-1000, 1000)


@st.composite
def limits(draw, kind):
    """The schema of an integer or a number, of which there is one."""
    low = draw(numbers)
    high = low + draw(st.integers(3, 500))
    found = {"type": kind}
    for value, keywords in (
        (low, ("minimum", "exclusiveMinimum", None)),
        (high, ("maximum", "exclusiveMaximum", None)),
    ):
        keyword = draw(st.sampled_from(keywords))
        if keyword:
            found[keyword] = value
    if draw(st.booleans()):
        found["multipleOf"] = 1 if kind == "integer" else draw(st.sampled_from([0.5, 0.25, 1]))
    return found


@st.composite
def strings(draw):
    shape = draw(st.sampled_from(["plain", "sized", "pattern", "format"]))
    if shape == "sized":
        least = draw(st.integers(0, 60))
        return {"type": "string", "minLength": least, "maxLength": least + draw(st.integers(0, 20))}
    more = {"pattern": st.sampled_from(PATTERNS), "format": st.sampled_from(sorted(FORMATS))}
    return {"type": "string", **({shape: draw(more[shape])} if shape in more else {})}


leaves = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({}),
    st.just(True),
    limits("integer"),
    limits("number"),
    strings(),
    st.lists(st.one_of(st.text(max_size=5), numbers, st.none()), min_size=1).map(lambda values: {"enum": values}),
    st.text(max_size=5).map(lambda value: {"const": value}),
    st.just({"type": ["string", "null"]}),
)


@st.composite
def objects(draw, children):
    properties = draw(st.dictionaries(st.text(min_size=1, max_size=5), children, max_size=4))
    required = [name for name in properties if draw(st.booleans())]
    others = draw(st.sampled_from([True, False, {"type": "integer"}, None]))
    found = {"type": "object", "properties": properties, "required": required}
    return found if others is None else {**found, "additionalProperties": others}


@st.composite
def arrays(draw, children):
    least = draw(st.integers(0, 4))
    found = {"type": "array", "items": draw(children), "minItems": least}
    return {**found, "maxItems": least + draw(st.integers(0, 3))} if draw(st.booleans()) else found


schemas = st.recursive(
    leaves,
    lambda children: st.one_of(
        objects(children),
        arrays(children),
        st.lists(children, min_size=1, max_size=3).map(lambda parts: {"anyOf": parts}),
    ),
    max_leaves=8,
)


def refuse(what):
    return Refusal(400, what)


@settings(deadline=None, max_examples=300)
@given(schemas, st.text(max_size=3))
def test_a_value_fits_its_schema(schema, seed):
    check(schema, False, refuse)
    value = fitting(schema, seed)
    assert fits(value, schema, schema), value
    assert fitting(schema, seed) == value
    json.dumps(value, allow_nan=False)


TREE = {
    "type": "object",
    "properties": {
        "value": {"type": "integer"},
        "left": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        "more": {"type": "array", "items": {"$ref": "#/$defs/leaf"}},
    },
    "required": ["value", "left", "more"],
    "additionalProperties": False,
    "$defs": {
        "leaf": {
            "type": "object",
            "properties": {"tree": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
            "required": ["tree"],
            "additionalProperties": False,
        }
    },
}


@pytest.mark.parametrize(
    "schema",
    [
        TREE,
        {"allOf": [{"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}, {"required": ["b"]}]},
        {"type": "array", "prefixItems": [{"const": 1}, {"type": "null"}], "items": {"type": "boolean"}, "minItems": 3},
        {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 3},
        {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 4},
        {"type": "object", "required": ["a"], "additionalProperties": {"type": "null"}},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
        {"type": "integer", "multipleOf": 7, "minimum": 15, "maximum": 22},
        {"properties": {"a": {"items": {"minimum": 3}}}, "required": ["a"]},
        {"$ref": "#/$defs/a~1b", "$defs": {"a~1b": {"const": 3}, "a/b": {"const": 3}}},
    ],
    ids=json.dumps,
)
def test_values_fit_schemas_of_every_kind(schema):
    check(schema, False, refuse)
    for seed in range(30):
        value = fitting(schema, str(seed))
        assert fits(value, schema, schema), value


def test_a_schema_that_goes_round_is_written_to_an_end():
    check(TREE, True, refuse)
    assert len({json.dumps(fitting(TREE, str(seed))) for seed in range(20)}) > 5


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_text_matches_its_pattern(pattern):
    schema = {"type": "string", "pattern": pattern}
    for seed in range(50):
        assert re.search(pattern, fitting(schema, str(seed)))


@pytest.mark.parametrize("pattern", ["(?=a)b", "(a)\\1", "[a", "a{3,1}"])
def test_a_pattern_that_cannot_be_written_for_is_refused(pattern):
    with pytest.raises(ValueError, match=re.escape(repr(pattern))):
        matching(pattern, random.Random(0))
    with pytest.raises(Refusal, match="'pattern' is not valid"):
        check({"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}, False, refuse)


# Rules

STRICT = {"additionalProperties": False, "required": ["x"]}


def strict(inner):
    return {"type": "object", "properties": {"x": inner}, **STRICT}


@pytest.mark.parametrize(
    "schema, message",
    [
        ({"type": "array"}, "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"array\"'."),
        ({}, "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"None\"'."),
        (
            {"type": "object", "properties": {}},
            "In context=(), 'additionalProperties' is required to be supplied and to be false.",
        ),
        (
            {"type": "object", "properties": {"x": {"type": "null"}}, "additionalProperties": False},
            "In context=(), 'required' is required to be supplied and to be an array including every key in properties. "
            "Missing 'x'.",
        ),
        (
            {**strict({"type": "null"}), "required": ["x", "y"]},
            "In context=(), 'required' is required to be supplied and to be an array including every key in properties. "
            "Extra required key 'y' supplied.",
        ),
        (strict({}), "In context=('properties', 'x'), schema must have a 'type' key."),
        (strict({"enum": ["a"]}), "In context=('properties', 'x'), schema must have a 'type' key."),
        (strict({"const": "a"}), "In context=('properties', 'x'), schema must have a 'type' key."),
        (strict({"type": "array"}), "In context=('properties', 'x'), array schema missing items."),
        (
            strict({"type": "array", "items": {"type": "object"}}),
            "In context=('properties', 'x', 'items'), 'additionalProperties' is required to be supplied and to be false.",
        ),
        (
            strict({"anyOf": [{"type": "null"}, {}]}),
            "In context=('properties', 'x', 'anyOf', '1'), schema must have a 'type' key.",
        ),
        (strict({"allOf": [{"type": "null"}]}), "In context=('properties', 'x'), 'allOf' is not permitted."),
        (strict({"type": "string", "default": ""}), "In context=('properties', 'x'), 'default' is not permitted."),
        (strict({"type": "string", "format": "uri"}), "In context=('properties', 'x'), 'uri' is not a valid format."),
        (
            strict({"$ref": "#/$defs/a", "description": "b"}) | {"$defs": {"a": {"type": "null"}}},
            "In context=('properties', 'x'), $ref cannot have keywords {'description'}.",
        ),
        (
            strict({"$ref": "#/$defs/a"}),
            "In context=('properties', 'x'), reference to component '#/$defs/a' which was not found in the schema.",
        ),
        (strict({"$ref": "#"}), "In context=(), no value of finite depth can fit."),
        (
            strict({"type": "strin"}),
            "In context=('properties', 'x'), 'strin' is not valid under any of the given schemas.",
        ),
    ],
    ids=str,
)
def test_a_strict_schema_has_rules_of_its_own(schema, message):
    with pytest.raises(Refusal) as caught:
        check(schema, True, refuse)
    assert caught.value.message == message


@pytest.mark.parametrize(
    "schema",
    [
        3,
        {"type": 7},
        {"type": ["object", "x"]},
        {"properties": []},
        {"required": "a"},
        {"enum": []},
        {"anyOf": [3]},
        {"minItems": -1},
        {"minimum": "1"},
        {"not": {}},
        {"if": {}},
        {"$ref": 3},
        {"$ref": "https://example.com"},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    ],
    ids=str,
)
def test_what_is_no_schema_or_cannot_be_written_is_refused(schema):
    with pytest.raises(Refusal):
        check(schema, False, refuse)


def test_a_schema_that_is_not_strict_may_be_anything_else():
    for schema in (True, {}, {"type": "array"}, strict({}), {"type": "string", "format": "uri"}):
        check(schema, False, refuse)


def test_parameters_of_a_function_are_an_object():
    with pytest.raises(Refusal, match="got 'type: \"string\"'"):
        check({"type": "string"}, False, refuse, an_object=True)
