"""Columns that hold what nobody expects: their rows fail with a reason, and no job stops for them."""

from __future__ import annotations

import datetime
import decimal
import json

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from conftest import run

from beam_openai import (
    API,
    Answers,
    ChatCompletions,
    Classifications,
    Completions,
    Edits,
    Embeddings,
    Moderations,
    Responses,
    Search,
    Speech,
    column,
    columns,
    service,
    values,
)
from beam_openai.bundle import Bundle
from beam_openai.sources import Place, inputs_of

pytestmark = pytest.mark.usefixtures("clean")

OFFSETS = pa.py_buffer(np.array([0, 1, 3, 4], dtype=np.int32))
BROKEN = pa.StringArray.from_buffers(3, OFFSETS, pa.py_buffer(b"a\xff\xfeb"))
FAR = 2**55
COLUMNS = {
    "text": pa.array(["a", None, ""]),
    "view": pa.array(["a", None, "c"], pa.string_view()),
    "dictionary": pa.array(["a", None, "c"]).dictionary_encode(),
    "broken": BROKEN,
    "broken in dictionary": pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), BROKEN),
    "broken in list": pa.ListArray.from_arrays(pa.array([0, 1, 2, 3]), BROKEN),
    "broken in struct": pa.StructArray.from_arrays([BROKEN], ["x"]),
    "null": pa.nulls(3),
    "int": pa.array([1, None, -3]),
    "float": pa.array([1.5, None, float("nan")]),
    "infinite": pa.array([float("inf"), -float("inf"), 1.0]),
    "bool": pa.array([True, None, False]),
    "bytes": pa.array([b"\x00\xff", None, b"abc"]),
    "view of bytes": pa.array([b"\x00\xff", None, b"abc"], pa.binary_view()),
    "bytes in struct": pa.array([{"a": b"\xff"}, None, {"a": b"x"}]),
    "time": pa.array([datetime.datetime(2020, 1, 2), None, datetime.datetime(1, 1, 1)]),
    "nanoseconds": pa.array([1577836800000000001, None, 5], pa.timestamp("ns")),
    "far": pa.array([FAR, None, 5], pa.timestamp("s")),
    "nowhere": pa.array([1, None, 5], pa.timestamp("us", "No/Where")),
    "far day": pa.array([2**30, None, 1], pa.date32()),
    "duration": pa.array([1, None, 5], pa.duration("ns")),
    "decimal": pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("2.00")]),
    "list": pa.array([["a", None], None, []]),
    "ids": pa.array([[1, 2], None, []]),
    "struct": pa.array([{"a": 1, "b": None}, None, {"a": 2, "b": "x"}]),
    "NaN in struct": pa.array([{"a": float("nan")}, None, {"a": 1.0}]),
    "map": pa.array([[("k", "v")], None, []], pa.map_(pa.string(), pa.string())),
    "messages": pa.array([[{"role": "user", "content": "x"}], None, []]),
    "messages of bytes": pa.array([[{"role": "user", "content": b"x"}], None, []]),
    "pairs": pa.array([[["a", "b"], ["c", "d"]], None, [["a"]]]),
}
X = column("x")
COMMON = {"model": "m", "api": API(base_url="http://127.0.0.1:9/v1")}
ASKED = {"prompt": "{good}"}
QUESTION = {"question": "good", "examples": [["a", "b"]], "examples_context": "c", "documents": ["d"]}
EXAMPLES = {"query": "good", "examples": [["a", "b"], ["c", "d"]]}
DAY = datetime.date(2020, 1, 1)
ENDPOINTS = [
    (ChatCompletions, {"prompt": "a {x} b", "system": "{x}"}),
    (ChatCompletions, {"messages": "x"}),
    (ChatCompletions, {**ASKED, "images": "x"}),
    (ChatCompletions, {**ASKED, "audio": "x"}),
    *((ChatCompletions, {**ASKED, name: X}) for name in ("model", "max_tokens", "temperature", "stop")),
    (Completions, {"prompt": "{x}"}),
    *((Completions, {**ASKED, name: X}) for name in ("model", "max_tokens", "suffix")),
    (Edits, {"input": "x", "instruction": "do {x}"}),
    (Moderations, {"input": "x"}),
    (Moderations, {"input": "x", "images": "nothing"}),
    (Moderations, {"input": "good", "model": X}),
    (Responses, {"prompt": "{x}", "instructions": "{x}."}),
    *((Responses, {**ASKED, name: X}) for name in ("max_output_tokens", "metadata", "reasoning")),
    (Search, {"query": "x", "documents": ["d"]}),
    *((Search, {"query": "good", "documents": ["d"], **option}) for option in ({"model": X}, {"documents": "x"})),
    (Answers, {**QUESTION, "question": "x"}),
    *((Answers, {**QUESTION, name: X}) for name in ("examples", "examples_context", "documents", "n", "temperature")),
    (Classifications, {**EXAMPLES, "query": "x"}),
    *((Classifications, {**EXAMPLES, name: X}) for name in ("examples", "labels", "user")),
    (Embeddings, {"input": "x"}),
    (Embeddings, {"input": "good", "model": X}),
    (Speech, {"input": "x", "voice": "v", "instructions": "as {x}"}),
    *((Speech, {"input": "good", "voice": "v", name: X}) for name in ("voice", "speed")),
]


@pytest.mark.parametrize(
    ("kind", "options"), ENDPOINTS, ids=lambda value: value.__name__ if isinstance(value, type) else ",".join(value)
)
def test_whatever_a_column_holds_each_row_is_sent_as_json_or_has_a_reason(kind, options):
    endpoint = kind(**{**COMMON, **options})
    shared = service.acquire(endpoint)
    try:
        for name, odd in COLUMNS.items():
            table = pa.table({"x": odd, "good": pa.array(["a", "b", "c"]), "nothing": pa.nulls(3)})
            for rows in (table, pa.concat_tables([table[:1], table[1:1], table[1:]])):
                bundle = Bundle(endpoint, shared)
                batches = [*bundle.add(rows, Place(0, (), None)), *bundle.flush()]
                sent = [inputs_of(segments) for segments in batches]
                for segments, inputs in zip(batches, sent):
                    costs = np.concatenate([segment.costs for segment in segments])
                    assert np.isfinite(costs).all() and (costs >= 0).all(), name
                    json.loads(msgspec.json.encode(endpoint.request(inputs).body))
                unsent = bundle.take_tally().numbers.get("rows_failed", 0)
                assert sum(inputs.num_rows for inputs in sent) + unsent == 3, name
    finally:
        service.release(shared)


@pytest.mark.parametrize(
    ("odd", "read", "reasons"),
    [
        ("text", ["a", None, ""], {}),
        ("float", [1.5, None, None], {2: "is NaN or infinite, which JSON has not"}),
        ("bytes", [None, None, None], dict.fromkeys((0, 2), "holds bytes, which JSON has not")),
        ("bytes in struct", [None, None, None], dict.fromkeys((0, 2), "holds bytes, which JSON has not")),
        ("broken in list", [["a"], None, ["b"]], {1: "is not valid UTF-8"}),
        ("far", [None, None, "1970-01-01T00:00:05"], {0: "is a timestamp[s] that cannot be read"}),
        ("struct", [{"a": 1}, None, {"a": 2, "b": "x"}], {}),
        ("list", [["a", None], None, []], {}),
        ("decimal", [1.1, None, 2], {}),
        ("time", ["2020-01-02T00:00:00", None, "0001-01-01T00:00:00"], {}),
    ],
)
def test_values_are_as_json_has_them_or_say_why_not(odd, read, reasons):
    assert values.of_column(pa.chunked_array([COLUMNS[odd]])) == (read, reasons)


def test_a_row_whose_option_cannot_be_sent_fails_alone_and_costs_nothing(emulator):
    rows = [{"prompt": name, "t": t} for name, t in (("a", 0.0), ("b", float("nan")), ("c", None))]
    endpoint = ChatCompletions(model="gpt-4o-mini", api=API(base_url=emulator.base_url), temperature=column("t"))
    outcome = run([pa.Table.from_pylist(rows)], endpoint)
    (failed,) = outcome.rows("failed")
    assert (failed["prompt"], failed["error"]["kind"]) == ("b", "invalid_input") and "t is NaN" in failed["error"][
        "message"
    ]
    assert {request["body"].get("temperature") for request in emulator.requests()} == {0.0, None}
    assert sorted(row["prompt"] for row in outcome.rows()) == ["a", "c"]


def test_what_is_null_in_a_struct_is_not_sent(emulator):
    rows = [{"prompt": "a", "m": {"one": "1"}}, {"prompt": "b", "m": {"two": "2"}}]
    endpoint = Responses(model="gpt-4o-mini", api=API(base_url=emulator.base_url), metadata=column("m"))
    assert len(run([pa.Table.from_pylist(rows)], endpoint).rows()) == 2
    assert sorted(map(str, (request["body"]["metadata"] for request in emulator.requests()))) == [
        "{'one': '1'}",
        "{'two': '2'}",
    ]


def test_a_template_writes_no_bytes_and_times_as_iso_8601():
    endpoint = ChatCompletions(**COMMON, prompt="{x}")
    inside = pa.array([[datetime.datetime(2020, 1, 2)], [None], []])
    assert endpoint.prepared(pa.table({"x": inside}))["prompt"].to_pylist() == [
        '["2020-01-02T00:00:00"]',
        "[null]",
        "[]",
    ]
    found = endpoint.invalid(pa.table({"x": COLUMNS["bytes in struct"]}))
    assert "cannot be written as text" in found[0] and found[1] == "x is null"
    assert endpoint.invalid(pa.table({"x": COLUMNS["broken in list"]})).keys() == {1}


@pytest.mark.parametrize("option", [{"prompt": ""}, {"system": ""}], ids=str)
def test_a_template_that_is_empty_is_refused(option):
    with pytest.raises(ValueError, match="must not be empty"):
        ChatCompletions(**COMMON, **option)


SURROGATE = "\ud800"
DEEP: list = []
DEEP.append(DEEP)
MIXED = {
    "numbers": [1, 2.5, 2**62 + 1, 2**70, -(2**70), True, decimal.Decimal("1.1"), decimal.Decimal("1.25"), np.int32(7)],
    "text": ["x", 1, None, b"bytes", {"a": 1}, ["a"], ""],
    "objects": [{"a": "1"}, {"b": None}, {"a": 5, "c": [1, "x"]}, {}, {"a": {"b": 2**70}}],
    "lists": [["a"], [], None, [1], [2.5], [1, 2.5], [True, 0.5], [None], [[1], "x"], ("a", "b")],
    "messages": [[{"role": "user"}], [{"role": "user", "name": "b"}], [{"role": []}, {"role": "x"}]],
    "times": [DAY, 5, datetime.datetime(2020, 1, 1, 5), datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)],
}


def contents(rows, **options):
    """What of each row is in its request; or why it has none."""
    endpoint = ChatCompletions(**COMMON, **options)
    shared = service.acquire(endpoint)
    try:
        bundle = Bundle(endpoint, shared)
        numbered = [{**row, "id": str(number)} for number, row in enumerate(rows)]
        batches = [batch for row in numbered for batch in bundle.add(row, Place(0, (), None))] + [*bundle.flush()]
        found = {}
        for segments in batches:
            body = json.loads(msgspec.json.encode(endpoint.request(inputs_of(segments)).body))
            found[body["messages"][0]["content"]] = {**body, "messages": body["messages"][1:]}
        bundle.stop(RuntimeError())
        return [found.get(row["id"]) for row in numbered]
    finally:
        service.release(shared)


@pytest.mark.parametrize("options", [{"prompt": "{x}"}, {"messages": "x"}, {"prompt": "p", "max_tokens": X}], ids=str)
@pytest.mark.parametrize("name", MIXED)
def test_a_row_is_sent_as_it_would_be_alone_whatever_stands_beside_it(options, name):
    rows = [{"x": value} for value in MIXED[name]]
    alone = [contents([row], system="{id}", **options)[0] for row in rows]
    assert contents(rows, system="{id}", **options) == alone
    assert contents(rows[::-1], system="{id}", **options) == alone[::-1]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1, "1"),
        (2**70, str(2**70)),
        ({"a": 1, "b": None}, '{"a": 1, "b": null}'),
        ([{"a": 1}, {"b": "é"}], '[{"a": 1}, {"b": "é"}]'),
        ([1, 2.5, True], "[1, 2.5, true]"),
        (
            {"t": DAY, "d": decimal.Decimal("1.10"), "n": np.int64(3), "v": np.array([1])},
            '{"t": "2020-01-01", "d": 1.1, "n": 3, "v": [1]}',
        ),
        ([b"x", "y"], None),
        ({"a": b"x"}, None),
        ({"a": SURROGATE}, None),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_template_writes_a_python_value_as_it_is(value, written):
    (body,) = contents([{"x": value}], system="{id}", prompt="{x}")
    assert (body and body["messages"][0]["content"]) == written


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": b"secret"}, "x holds bytes, which JSON has not"),
        ([{"a": SURROGATE}], "x holds a lone surrogate, which UTF-8 cannot write"),
        ({"a": {1, 2}}, "x holds set, which JSON has not"),
        (DEEP, "x is list that no column can hold"),
        (..., "x is ellipsis that no column can hold"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_no_column_can_hold_has_a_reason(value, reason):
    array, reasons = columns.of_values("x", [None, value], columns.kind_of(value))
    assert reasons == {1: reason} and array.to_pylist() == [None, None]


@pytest.mark.parametrize("value", [[1, "a"], [{"a": 1}, {"a": "x"}], {"a": 1}], ids=str)
def test_what_is_no_text_is_not_sent_as_its_json(value):
    endpoint = Embeddings(**COMMON, input="x")
    array, _ = columns.of_values("x", [value], columns.kind_of(value))
    (reason,) = endpoint.invalid(pa.table({"x": array})).values()
    assert reason in ("x is list<item: json>, not text", "x is json, not text")


def test_messages_of_any_shape_go_in_and_come_back_as_they_were(emulator):
    said = [
        [{"role": "user", "content": "first"}],
        [{"role": "user", "content": "second", "name": "bob"}],
        [{"role": "system", "content": "third"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    ]
    rows = [{"said": messages} for messages in said]
    outcome = run(rows, ChatCompletions(model="gpt-4o-mini", api=API(base_url=emulator.base_url), messages="said"))
    key = json.dumps
    assert sorted((request["body"]["messages"] for request in emulator.requests()), key=key) == sorted(said, key=key)
    assert sorted((row["said"] for row in outcome.rows()), key=key) == sorted(said, key=key)


@pytest.mark.parametrize("kind", ["table", "dicts"])
def test_a_whole_number_is_sent_as_one_though_its_column_holds_floats(emulator, kind):
    rows = [{"prompt": "a", "most": 20.0}, {"prompt": "b", "most": None}, {"prompt": "c", "most": 20.5}]
    endpoint = ChatCompletions(model="gpt-4o-mini", api=API(base_url=emulator.base_url), max_tokens=column("most"))
    outcome = run([pa.Table.from_pylist(rows)] if kind == "table" else rows, endpoint)
    sent = {request["body"]["messages"][0]["content"]: request["body"] for request in emulator.requests()}
    assert sent.keys() == {"a", "b"} and repr(sent["a"]["max_tokens"]) == "20" and "max_tokens" not in sent["b"]
    (failed,) = outcome.rows("failed")
    assert failed["error"]["kind"] == "invalid_input" and failed["error"]["message"] == "most is not a whole number"


def test_a_row_without_a_model_of_its_own_fails_alone(emulator):
    rows = pa.table({"prompt": ["a", "b"], "name": ["gpt-4o-mini", None]})
    outcome = run([rows], ChatCompletions(model=column("name"), api=API(base_url=emulator.base_url)))
    assert [row["prompt"] for row in outcome.rows()] == ["a"]
    (failed,) = outcome.rows("failed")
    assert (
        failed["error"]["kind"] == "invalid_input" and "no request goes without a model" in failed["error"]["message"]
    )
