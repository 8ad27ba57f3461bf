"""Schemas: what describes an answer, what is refused when it is built, and what an answer may be."""

import dataclasses
import enum
import pickle
from typing import Any

import pyarrow as pa
import pytest
from conftest import run
from hypothesis import given
from hypothesis import strategies as st
from test_chat_completions import made

from beam_openai import ChatCompletions, Responses
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
        (properties(a={"const": object()}), "cannot be written as JSON"),
        (properties(a={"enum": ["\ud800"]}), "cannot be written as JSON"),
        ({"type": "object", "properties": ["a"]}, r"schema: properties cannot be \['a'\]"),
        (nested(11), "11 levels of objects, where OpenAI takes 10"),
        (
            properties(**{f"p{n}": {"type": "null"} for n in range(5001)}),
            "5,001 properties in all, where OpenAI takes 5,000",
        ),
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
