"""Structs that gain fields: nothing is lost, and nothing else may change."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_openai import structs

NAMES = st.lists(st.sampled_from("abcdef"), unique=True, min_size=1)
ROWS = st.lists(st.one_of(st.none(), st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 9))), max_size=4)


def kind(names):
    return pa.struct([(name, pa.int64()) for name in names])


@given(st.lists(st.tuples(NAMES, ROWS), min_size=1, max_size=4))
def test_arrays_are_joined_with_the_fields_of_all(pieces):
    arrays = [pa.array([None, *rows], kind(names))[1:] for names, rows in pieces]
    joined = structs.concat(arrays)
    joined.validate(full=True)
    fields = list(dict.fromkeys(name for names, _ in pieces for name in names))
    assert joined.type == kind(fields)
    rows = [(names, row) for names, rows in pieces for row in rows]
    assert joined.to_pylist() == [
        None if row is None else {name: row.get(name) if name in names else None for name in fields}
        for names, row in rows
    ]


@given(NAMES, NAMES)
def test_what_is_merged_holds_both_and_keeps_the_order_of_the_first(one, other):
    both = structs.merged(kind(one), kind(other))
    assert [field.name for field in both][: len(one)] == one and {field.name for field in both} == {*one, *other}
    assert structs.merged(both, kind(other)) == both == structs.merged(both, kind(one))


@pytest.mark.parametrize(
    "other",
    [pa.int64(), pa.string(), pa.struct([("a", pa.string())]), pa.struct([("a", pa.string()), ("b", pa.int8())])],
)
def test_what_differs_in_more_is_left_as_it_is(other):
    assert structs.merged(kind("a"), other) == kind("a")
    values = pa.array([{"a": 1}], kind("a"))
    assert structs.widened(values, other) is values
    with pytest.raises(pa.ArrowInvalid):
        structs.concat([values, pa.nulls(1, other)])


def test_fields_are_never_taken_away():
    values = pa.array([{"a": 1, "b": 2}], kind("ab"))
    assert structs.widened(values, kind("a")) is values
    assert structs.widened(values, kind("bca")).to_pylist() == [{"b": 2, "c": None, "a": 1}]


def test_tables_are_joined_too():
    one = pa.table({"id": [1, 2], "s": pa.array([{"a": 1}, None], kind("a"))})
    other = pa.table({"id": [3], "s": pa.array([{"b": 3, "a": 2}], kind("ba"))})
    joined = structs.concat_tables([one, other, one])
    joined.validate(full=True)
    assert joined.schema == pa.schema([("id", pa.int64()), ("s", kind("ab"))])
    assert joined["s"].to_pylist() == [{"a": 1, "b": None}, None, {"a": 2, "b": 3}, {"a": 1, "b": None}, None]
    for misfit in (other.rename_columns(["id", "t"]), other.drop_columns(["id"])):
        with pytest.raises(pa.ArrowException):
            structs.concat_tables([one, misfit])
