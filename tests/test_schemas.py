"""Schemas: what describes an answer, what is refused when it is built, and what an answer may be."""

import dataclasses
import decimal
import enum
import json
import pickle
from typing import Any, Literal

import pyarrow as pa
import pytest
from conftest import run
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from test_chat_completions import made
from test_emulator_schemas import schemas

from beam_openai import ChatCompletions, Responses
from beam_openai.emulator.schema_rules import check
from beam_openai.emulator.schemas import fitting
from beam_openai.schemas import Schema

pytestmark = pytest.mark.usefixtures("clean")


def of(type_: pa.DataType) -> Schema:
    return Schema(pa.schema([("a", type_)]))


def properties(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = properties(a={"type": "array", "items": schema})
    return schema


@dataclasses.dataclass
class Impossible:
    a: complex


@dataclasses.dataclass
class Dictionary:
    a: dict[str, int]


@dataclasses.dataclass
class Anything:
    a: Any


@dataclasses.dataclass
class Pair:
    a: tuple[int, str]


@dataclasses.dataclass
class Money:
    a: decimal.Decimal


@dataclasses.dataclass
class Distinct:
    a: set[int]


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (pa.schema([]), "must have a column or field at least"),
        (pa.schema([("a", pa.struct([]))]), "the struct 'a' must have a column or field at least"),
        (pa.schema([("a", pa.list_(pa.struct([])))]), "the struct 'a' must have a column or field"),
        (
            pa.schema([("a", pa.struct([("b", pa.int8()), ("b", pa.int8())]))]),
            "a name for each column and field, not b, b",
        ),
        (
            pa.schema([("a", pa.dictionary(pa.int8(), pa.string()))]),
            "'a' is dictionary<.*which an answer in JSON has not",
        ),
        (pa.schema([("a", pa.list_(pa.int8(), 3))]), "'a' is fixed_size_list"),
        (pa.schema([("a", pa.null())]), "'a' is null"),
        (pa.schema([("a", pa.decimal128(9, 2))]), "'a' is decimal128"),
        (properties(), "an object with properties"),
        (properties(a=5), "schema.properties.a must be a JSON schema, not 5"),
        (properties(a={"type": "strnig"}), "schema.properties.a: type must be one of object, .*, not 'strnig'"),
        (properties(a={"type": "array", "items": [{}]}), r"schema.properties.a: items cannot be \[{}\]"),
        (properties(a={"anyOf": [{"enum": 7}]}), r"schema.properties.a.anyOf\[0\]: enum cannot be 7"),
        (properties(a={"$ref": "#/$defs/b"}), "'#/.defs/b' is defined nowhere"),
        (properties(a={"type": "string", "const": object()}), "cannot be written as JSON"),
        (properties(a={"enum": ["\ud800"]}), "cannot be written as JSON"),
        ({"type": "object", "properties": ["a"]}, r"schema: properties cannot be \['a'\]"),
        (nested(11), "11 levels of objects, where OpenAI takes 10"),
        (
            properties(**{f"p{n}": {"type": "null"} for n in range(5001)}),
            "5,001 properties in all, where OpenAI takes 5,000",
        ),
        (properties(a={"enum": []}), "schema.properties.a: enum must have a value at least"),
        (properties(a={"type": []}), "schema.properties.a: type must have a value at least"),
        (properties(a={"oneOf": []}), "schema.properties.a: oneOf must have a value at least"),
        (properties(a={"type": "object"}), "schema.properties.a is an object whose properties have no names"),
        (properties(a={"type": ["object", "null"]}), "schema.properties.a is an object whose properties have no names"),
        (properties(a=True), "schema.properties.a may be any value"),
        (properties(a={"anyOf": [True, {"type": "null"}]}), r"schema.properties.a.anyOf\[0\] may be any value"),
        (properties(a={"$ref": "#/$defs/b"}) | {"$defs": {"b": True}}, r"schema.\$defs.b may be any value"),
        (properties(a={"type": "array"}), "schema.properties.a is an array, and must say of what"),
        (properties(a={"type": "array", "items": {}}), "schema.properties.a.items may be any value"),
        (properties(a={"type": "integer", "not": {}}), "schema.properties.a: .* have no not: leave it out"),
        (
            properties(a={"allOf": [{"type": "integer"}, {}]}),
            "schema.properties.a: .* have no allOf: write its parts as one",
        ),
        (properties(a={"$ref": "https://example.com"}), "'https://example.com' is defined nowhere in the schema"),
        (
            properties(a={"$ref": "#/title"}) | {"title": "t"},
            "schema.properties.a: '#/title' is no JSON schema, but 't'",
        ),
        (
            properties(a={"$ref": "#/$defs/x"}) | {"$defs": {"x": {"$ref": "#/$defs/x"}}},
            "schema.properties.a must not refer to itself without end",
        ),
        (
            properties(a=properties(b={"type": "array", "items": {"$ref": "#/properties/a"}})),
            r"schema.properties.a.*b.items is in what it refers to, '#/properties/a': put that into .defs",
        ),
        (
            properties(a={"$ref": "#/$defs/x", "minimum": 3}) | {"$defs": {"x": {"type": "integer", "minimum": 2}}},
            "schema.properties.a: minimum is said twice",
        ),
        (properties(a={"oneOf": [{"type": "null"}], "anyOf": [{"type": "string"}]}), "a: anyOf is said twice"),
        ({"title": "x"}, "schema must describe an object with properties"),
        (Dictionary, "schema.properties.a is an object whose properties have no names, such as a dict"),
        (Anything, "schema.properties.a may be any value"),
        (Pair, "schema.properties.a: .* have no prefixItems: in place of a tuple use a list"),
        (Money, "schema.properties.a: .* have no format 'decimal'"),
        (Distinct, "schema.properties.a: .* have no uniqueItems: in place of a set use a list"),
        (Impossible, "Impossible'> has a type that JSON schema has no words for: .*complex'>"),
        (7, "must be a pa.Schema, a JSON schema"),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("endpoint", [ChatCompletions, Responses])
def test_what_no_answer_can_be_is_refused_when_the_transform_is_built(endpoint, schema, says):
    with pytest.raises(ValueError, match=says):
        endpoint(model="m", schema=schema)


def test_a_type_that_is_not_arrow_s_own_is_refused():
    class Celsius(pa.ExtensionType):
        def __init__(self):
            super().__init__(pa.float64(), "tests.celsius")

        def __arrow_ext_serialize__(self):
            return b""

    with pytest.raises(ValueError, match=r"'a' is extension<.*which an answer in JSON has not"):
        of(Celsius())


def test_a_pydantic_model_that_cannot_be_described_is_refused():
    pydantic = pytest.importorskip("pydantic")

    class Odd:
        pass

    class Model(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        odd: Odd

    with pytest.raises(ValueError, match="has a type that JSON schema has no words for"):
        Schema(Model)


def test_what_is_as_large_as_may_be_is_taken():
    assert Schema(nested(10)).fields[0].type != pa.string()
    assert len(Schema(properties(**{f"p{n}": {"type": "null"} for n in range(5000)})).fields) == 5000


def test_a_schema_may_hold_itself_and_numbers_that_arrow_has_no_type_for():
    schema = Schema(properties(a={"$ref": "#"}, b={"enum": [2**70]}))
    assert [column[0].as_py() for column in schema.parse('{"a": {"a": null}, "b": 5}')] == ['{"a": null}', "5"]


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Inner:
    size: int | None


@dataclasses.dataclass
class Outer:
    colour: Colour
    inner: list[Inner]


def test_a_dataclass_has_columns_of_its_types():
    schema = Schema(Outer)
    assert [field.type for field in schema.fields] == [pa.string(), pa.list_(pa.struct([("size", pa.int64())]))]
    read = schema.parse('{"colour": "red", "inner": [{"size": null}]}')
    assert [column[0].as_py() for column in read] == ["red", [{"size": None}]]


@dataclasses.dataclass
class Thread:
    kind: Literal["post", "reply"]
    colour: Colour
    replies: "list[Thread]"


# The strict form


def sent(described: Any) -> dict[str, Any]:
    """The JSON schema that is sent, which the rules of strict schemas must let pass."""
    schema = Schema(described)
    check(schema.json_schema, True, ValueError)
    assert Schema(schema.json_schema).json_schema == schema.json_schema
    return schema.json_schema


def parsed(described: Any, text: str) -> list[Any]:
    schema = pickle.loads(pickle.dumps(Schema(described)))
    return [column.to_pylist()[0] for column in schema.parse(text)]


@settings(deadline=None)
@given(schemas, schemas)
def test_what_is_taken_the_server_takes_and_what_fits_it_becomes_columns(one, other):
    described = properties(
        a=one,
        b={"type": "array", "items": {"$ref": "#/$defs/other", "description": "one of them"}},
        c={"$ref": "#/properties/b"},
        d={"oneOf": [{"$ref": "#/$defs/other"}, {"type": "null"}]},
    )
    described["$defs"] = {"other": other}
    try:
        Schema(described)
    except ValueError:
        reject()  # it has no strict form
    text = json.dumps(fitting(sent(described), "seed"))
    assert len(parsed(described, text)) == 4


def test_an_object_that_may_be_null_is_sent_as_such_and_null_is_read():
    inner = properties(name={"type": "string"})
    schema = properties(a=inner | {"type": ["object", "null"]}, b=inner)
    wire = sent(schema)["properties"]
    assert (wire["a"]["type"], wire["b"]["type"]) == (["object", "null"], "object")
    assert wire["a"]["required"] == ["name"] and wire["a"]["additionalProperties"] is False
    assert parsed(schema, '{"a": null, "b": {"name": "x"}}') == [None, {"name": "x"}]
    assert parsed(schema, '{"a": {"name": "y"}, "b": {"name": "x"}}')[0] == {"name": "y"}
    with pytest.raises(ValueError, match=r"Expected `object`, got `null` - at `\$.b`"):
        parsed(schema, '{"a": null, "b": null}')


def test_properties_make_an_object_where_no_type_is_named():
    assert sent({"properties": {"a": {"type": "string"}}})["type"] == "object"


def test_what_a_reference_names_stands_in_its_place_where_more_is_said_of_it():
    colours, inner = {"type": "string", "enum": ["red"]}, properties(b={"type": "string"}) | {"description": "inner"}
    schema = properties(
        a={"$ref": "#/$defs/colour", "description": "which"},
        b={"$ref": "#/$defs/inner", "description": "outer", "default": None},
        c={"$ref": "#/$defs/colour", "default": "red"},
        d={"allOf": [{"$ref": "#/$defs/colour"}], "description": "which"},
    )
    wire = sent(schema | {"$defs": {"colour": colours, "inner": inner}})["properties"]
    assert wire["a"] == wire["d"] == colours | {"description": "which"}
    assert wire["b"]["description"] == "outer" and wire["b"]["required"] == ["b"]
    assert wire["c"] == {"$ref": "#/$defs/colour"}


TREE = properties(v={"type": "integer"}, kids={"type": "array", "items": {"$ref": "#/$defs/node"}})


def test_a_root_that_is_a_reference_is_put_in_its_place():
    schema = {"$ref": "#/$defs/node", "$defs": {"node": TREE}}
    wire = sent(schema)
    assert "$ref" not in wire and wire["properties"]["kids"]["items"] == {"$ref": "#/$defs/node"}
    (_, kids) = parsed(schema, '{"v": 1, "kids": [{"v": 2, "kids": [{"v": 3, "kids": []}]}]}')
    assert kids == [{"v": 2, "kids": ['{"v": 3, "kids": []}']}]


def test_what_holds_itself_under_a_description_is_not_written_out_without_end():
    node = properties(next={"anyOf": [{"$ref": "#/$defs/node", "description": "the one behind"}, {"type": "null"}]})
    wire = sent(properties(a={"$ref": "#/$defs/node"}) | {"$defs": {"node": node}})
    behind = wire["$defs"]["node"]["properties"]["next"]["anyOf"][0]["properties"]["next"]["anyOf"][0]
    assert behind == {"anyOf": [{"$ref": "#/$defs/node"}], "description": "the one behind"}


def test_one_of_several_is_asked_for_as_any_of_them():
    pets = {name: properties(kind={"const": name}) for name in ("cat", "dog")}
    chosen = {"oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}], "discriminator": {"propertyName": "kind"}}
    wire = sent(properties(pet=chosen, discriminator={"type": "string"}) | {"$defs": pets})
    assert wire["properties"]["pet"] == {"anyOf": chosen["oneOf"]}
    assert wire["required"] == ["pet", "discriminator"]
    assert wire["$defs"]["cat"]["properties"]["kind"] == {"type": "string", "const": "cat"}


@pytest.mark.parametrize("name", ["x/y", "x~y", "~1", "1"])
def test_a_reference_names_what_a_json_pointer_does(name):
    pointer = "#/$defs/" + name.replace("~", "~0").replace("/", "~1")
    schema = properties(a={"$ref": pointer}) | {"$defs": {name: {"type": "integer"}}}
    sent(schema)
    assert Schema(schema).fields[0].type == pa.int64() and parsed(schema, '{"a": 1}') == [1]


def test_what_stands_elsewhere_than_under_defs_is_written_out():
    schema = properties(a={"type": "integer"}, b={"$ref": "#/properties/a"}, c={"$ref": "#/properties/d/anyOf/1"})
    schema["properties"]["d"] = {"anyOf": [{"type": "null"}, {"type": "string"}]}
    wire = sent(schema)["properties"]
    assert wire["b"] == {"type": "integer"} and wire["c"] == {"type": "string"}
    assert parsed(schema, '{"a": 1, "b": 2, "c": "x", "d": null}') == [1, 2, "x", None]


@pytest.mark.parametrize(
    ("values", "type_", "arrow", "texts", "wrong"),
    [
        (["x", "y"], "string", pa.string(), {'"x"': "x"}, '"z"'),
        ([1, 2], "integer", pa.int64(), {"1": 1, "1.0": 1}, "3"),
        ([1, 2], "integer", pa.int64(), {"2e0": 2}, "1.5"),
        ([1, 2], "integer", pa.int64(), {}, "true"),
        ([True], "boolean", pa.bool_(), {"true": True}, "false"),
        ([0.5, 1], "number", pa.float64(), {"0.5": 0.5, "1": 1.0}, "2"),
        (["x", None], ["string", "null"], pa.string(), {'"x"': "x", "null": None}, '"z"'),
        ([1, None], ["integer", "null"], pa.int64(), {"1": 1, "null": None}, "2"),
        ([0.5, None], ["number", "null"], pa.float64(), {"0.5": 0.5, "null": None}, "2"),
        (["x", 1], ["string", "integer"], pa.string(), {'"x"': '"x"', "1": "1"}, None),
    ],
    ids=str,
)
def test_a_choice_has_the_type_of_its_values(values, type_, arrow, texts, wrong):
    schema = properties(a={"enum": values})
    assert sent(schema)["properties"]["a"] == {"type": type_, "enum": values}
    assert Schema(schema).fields[0].type == arrow
    assert {text: parsed(schema, f'{{"a": {text}}}')[0] for text in texts} == texts
    if wrong:
        with pytest.raises(ValueError, match=r" - at `\$.a`"):
            parsed(schema, f'{{"a": {wrong}}}')


def test_a_wrong_choice_says_where_it_stands():
    schema = properties(a={"type": "array", "items": properties(b={"enum": [1, 2]})})
    with pytest.raises(ValueError, match=r"Invalid enum value 5 - at `\$.a\[...\].b`"):
        parsed(schema, '{"a": [{"b": 5}]}')


def test_a_dataclass_with_choices_and_itself_within_can_be_asked_for():
    wire = sent(Thread)
    assert wire["properties"]["kind"] == {"type": "string", "enum": ["post", "reply"]}
    assert wire["$defs"]["Colour"]["type"] == "string" and "$ref" not in wire
    assert parsed(Thread, '{"kind": "post", "colour": "red", "replies": []}') == ["post", "red", []]


def test_models_of_pydantic_can_be_asked_for():
    pydantic = pytest.importorskip("pydantic")

    class Cat(pydantic.BaseModel):
        kind: Literal["cat"]
        lives: int

    class Dog(pydantic.BaseModel):
        kind: Literal["dog"]

    class Owner(pydantic.BaseModel):
        colour: Colour = pydantic.Field(description="which colour")
        cat: Cat = pydantic.Field(description="the first")
        pet: Cat | Dog = pydantic.Field(discriminator="kind")
        last: Cat | None = pydantic.Field(None, description="the last")
        friends: list["Owner"]

    wire = sent(Owner)
    assert wire["properties"]["colour"]["description"] == "which colour"
    text = '{"colour": "red", "cat": {"kind": "cat", "lives": 7}, "pet": {"kind": "dog"}, "last": null, "friends": []}'
    assert parsed(Owner, text) == ["red", {"kind": "cat", "lives": 7}, '{"kind": "dog"}', None, []]


def test_an_instance_of_a_model_describes_nothing():
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):
        a: int

    with pytest.raises(ValueError, match=r"schema must be a pa.Schema, .* not Model\(a=1\)"):
        Schema(Model(a=1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the text is empty"),
        (" \n", "the text is empty"),
        ('{"a": "\\ud800"}', "half of a character"),
        ('{"a": "\\ud800 and more"}', "half of a character"),
        ('{"a": "x', "Input data was truncated"),
        ('{"a": NaN}', "invalid character"),
        ('{"a": 5}', r"Expected `str`, got `int` - at `\$.a`"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(text, says):
    with pytest.raises(ValueError, match=says):
        of(pa.string()).parse(text)


# Numbers

FLOATS = {pa.float32(): 3.4028235e38, pa.float64(): 1.7976931348623157e308}
WHOLE = {
    **{kind: (-(2**bits), 2**bits - 1) for kind, bits in ((pa.int8(), 7), (pa.int16(), 15), (pa.int32(), 31))},
    pa.int64(): (-(2**63), 2**63 - 1),
    **{kind: (0, 2**bits - 1) for kind, bits in ((pa.uint8(), 8), (pa.uint16(), 16), (pa.uint32(), 32))},
    pa.uint64(): (0, 2**64 - 1),
}


@pytest.mark.parametrize("wrap", ["{}", "[{}]"], ids=["plain", "list"])
@pytest.mark.parametrize(("kind", "bounds"), WHOLE.items(), ids=str)
def test_whole_numbers_are_taken_up_to_the_bounds_of_their_type(kind, bounds, wrap):
    schema = of(kind if wrap == "{}" else pa.list_(kind))
    for number in bounds:
        (column,) = schema.parse(f'{{"a": {wrap.format(number)}}}')
        assert column.to_pylist() == [number if wrap == "{}" else [number]]
    for number in (bounds[0] - 1, bounds[1] + 1, "1e300"):
        with pytest.raises(ValueError, match=r"Expected what .*int\d+.* can hold - at `\$\.a`"):
            schema.parse(f'{{"a": {wrap.format(number)}}}')


@pytest.mark.parametrize("wrap", ["{}", "[1, {}]", '{{"b": [{{"c": {}}}]}}'], ids=["plain", "list", "struct"])
@pytest.mark.parametrize(("kind", "most"), FLOATS.items(), ids=str)
def test_no_number_becomes_infinity(kind, most, wrap):
    inner = pa.struct([("b", pa.large_list(pa.struct([("c", kind)])))])
    schema = of({"{}": kind, "[1, {}]": pa.list_(kind)}.get(wrap, inner))
    for number in (most, -most, 0, 1e-300):
        assert "inf" not in str(schema.parse(f'{{"a": {wrap.format(number)}}}'))
    for number in (f"{most:.0f}0", "-1e400", *(["1e300", "-3.5e38"] if kind == pa.float32() else [])):
        with pytest.raises(ValueError, match=r"out of (its )?range.*|.*out of range"):
            schema.parse(f'{{"a": {wrap.format(number)}}}')


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_as_itself_or_not_at_all(number):
    (column,) = of(pa.float64()).parse(f'{{"a": {number!r}}}')
    assert column.to_pylist() == [number]
    try:
        (column,) = of(pa.float32()).parse(f'{{"a": {number!r}}}')
    except ValueError:
        assert abs(number) > 3.4028235e38
    else:
        assert abs(column[0].as_py()) < float("inf")


def test_a_copy_knows_the_range_of_its_types():
    copy = pickle.loads(pickle.dumps(of(pa.float32())))
    with pytest.raises(ValueError, match="a number out of its range"):
        copy.parse('{"a": 1e39}')


def test_an_answer_out_of_range_fails_its_row_with_its_text(emulator):
    said = {"choices": [{"index": 0, "message": {"role": "assistant", "content": '{"a": 1e300}'}}]}
    emulator.inject({"status": 200, "body": said}, times=9)
    (failed,) = run([{"prompt": "q"}], made(emulator, schema=pa.schema([("a", pa.float32())]))).rows("failed")
    assert failed["error"]["kind"] == "bad_answer" and failed["error"]["raw"] == '{"a": 1e300}'
    assert "Expected what float can hold - at `$.a`: a number out of its range" in failed["error"]["message"]
