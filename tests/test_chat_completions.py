"""Chat completions: what is asked, what comes back, and what becomes of rows that cannot be asked or answered."""

from __future__ import annotations

import base64
import dataclasses
import json
import pickle
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import QUICK, fn_api, run

from beam_openai import API, ChatCompletions, ReadTables, WriteTables, column
from beam_openai.client import Response
from beam_openai.endpoints.chat_completions import LOGPROBS, TOOL_CALLS
from beam_openai.errors import BadAnswerError, ConfigurationError

pytestmark = pytest.mark.usefixtures("clean")
MODEL = "gpt-4o-mini"
PNG = b"\x89PNG\r\n\x1a\n and more"
WAV = b"RIFF\x00\x00\x00\x00WAVEfmt "
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def made(server=None, **options):
    given = {"model": MODEL, "retry": QUICK, **options}
    return ChatCompletions(**given, **({"api": API(base_url=server.base_url)} if server else {}))


def asked(endpoint, **row):
    """The body of the request for one row."""
    return endpoint.request(endpoint.prepared(pa.Table.from_pylist([row]))).body


def read(message, endpoint=None, **choice):
    """What the columns are for an answer of one choice."""
    return answered([{"index": 0, "message": message, "finish_reason": "stop", **choice}], endpoint)


def answered(choices, endpoint=None, usage=None):
    endpoint = endpoint or made()
    body = json.dumps({"choices": choices, "usage": usage}).encode()
    answer = endpoint.columns(Response(200, {}, body, 0.1), pa.table({"prompt": ["x"]}))
    if answer.bad:
        return answer.bad[0]
    columns = [
        pa.array(column, field.type) if isinstance(column, list) else column
        for field, column in zip(endpoint.fields, answer.columns, strict=True)
    ]
    assert [column.type for column in columns] == [field.type for field in endpoint.fields]
    return {field.name: column[0].as_py() for field, column in zip(endpoint.fields, columns)}


# What is asked


def test_a_template_is_filled_from_any_columns():
    endpoint = made(prompt="{title} ({year}): {{{text}}}", system="Be {mood}.")
    assert endpoint.inputs == ["title", "year", "text", "mood"]
    assert asked(endpoint, title="A", year=1999, text="x {y}", mood="brief")["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "A (1999): {x {y}}"},
    ]


def test_messages_come_from_structs_without_the_nulls_that_arrow_fills_in():
    said = [
        {"role": "user", "content": "hi", "name": None, "tool_calls": None},
        {"role": "assistant", "content": None, "name": None, "tool_calls": [{"id": "1", "type": "function"}]},
    ]
    endpoint = made(messages="chat")
    assert asked(endpoint, chat=said)["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function"}]},
    ]
    assert asked(endpoint, chat='[{"role": "user", "content": "hé"}]')["messages"] == [
        {"role": "user", "content": "hé"}
    ]


def test_images_and_sound_become_parts_and_null_becomes_none():
    endpoint = made(images="image", audio="sound")
    parts = asked(endpoint, prompt="what?", image=PNG, sound=WAV)["messages"][0]["content"]
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert parts == [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(WAV).decode(), "format": "wav"}},
    ]
    assert asked(endpoint, prompt="what?", image=None, sound=None)["messages"] == [{"role": "user", "content": "what?"}]
    several = asked(made(images="image"), prompt="?", image=["https://a/b.png", "http://c/d"])["messages"][0]["content"]
    assert [part["image_url"]["url"] for part in several[1:]] == ["https://a/b.png", "http://c/d"]


@pytest.mark.parametrize(
    ("options", "row", "reason"),
    [
        ({}, {"prompt": None}, "prompt is null"),
        ({}, {"prompt": ""}, "would be empty"),
        ({}, {"prompt": b"x"}, "not text"),
        ({"prompt": "{a}{b}"}, {"a": "", "b": None}, "b is null"),
        ({"images": "i"}, {"prompt": "x", "i": b"no image"}, "not PNG, JPEG, GIF or WebP"),
        ({"images": "i"}, {"prompt": "x", "i": "file:///etc/passwd"}, "neither an image's bytes nor its URL"),
        ({"images": "i"}, {"prompt": "x", "i": [PNG, None]}, "null in its list"),
        ({"images": "i"}, {"prompt": "x", "i": 7}, "not an image's bytes or URL"),
        ({"audio": "a"}, {"prompt": "x", "a": b"noise"}, "neither WAV nor MP3"),
        ({"messages": "m"}, {"m": None}, "m is null"),
        ({"messages": "m"}, {"m": "[]"}, "not a list of messages"),
        ({"messages": "m"}, {"m": "{"}, "not JSON"),
        ({"messages": "m"}, {"m": '[{"content": "x"}]'}, "without a role"),
        ({"messages": "m"}, {"m": 3}, "not a list of messages, or JSON"),
    ],
)
def test_a_row_that_cannot_be_asked_says_why(options, row, reason):
    endpoint = made(**options)
    assert reason in endpoint.invalid(pa.Table.from_pylist([row]))[0]


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 2.1},
        {"top_p": 1.1},
        {"n": 0},
        {"n": 129},
        {"n": True},
        {"stop": ["a"] * 5},
        {"presence_penalty": 2.1},
        {"frequency_penalty": -3},
        {"logit_bias": {"5": 101}},
        {"top_logprobs": 3},
        {"top_logprobs": 21, "logprobs": True},
        {"max_tokens": 0},
        {"max_completion_tokens": 1.5},
        {"prompt": "{"},
        {"prompt": "{}"},
        {"prompt": "a } b"},
        {"system": "{x"},
        {"schema": {"type": "string"}},
        {"schema": 7},
        {"schema": pa.schema([("when", pa.timestamp("s"))])},
        {"schema": pa.schema([("x", pa.string())]), "n": 2},
        {"messages": "m", "prompt": "{x}"},
        {"params": {"messages": []}},
        {"params": {"stream": True}},
        {"output": {"complition": "x"}},
        {"output": {"completion": "usage"}},
        {"output": "error"},
    ],
    ids=str,
)
def test_options_that_can_never_work_are_refused(options):
    with pytest.raises(ValueError, match=r"\w"):
        made(**options)


def test_a_request_counts_its_prompt_its_images_and_the_answer_it_may_get():
    def count(texts):
        return pa.compute.binary_length(texts).to_numpy()

    endpoint = made(system="abc", images="i", max_tokens=50, n=2)
    rows = endpoint.prepared(pa.table({"prompt": ["12345", "1"], "i": pa.array([PNG, None])}))
    tokens = endpoint.tokens(rows, count)
    assert tokens[0] - tokens[1] == 4 + 765 and tokens[1] >= 4
    assert endpoint.answer_tokens(rows) == 100
    by_row = made(max_completion_tokens=column("most"))
    assert list(by_row.answer_tokens(pa.table({"most": [5, None]}))) == [5, 0]


# What comes back


def test_a_refusal_and_tool_calls_are_no_trouble():
    assert read({"content": None, "refusal": "no"})["refusal"] == "no"
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]
    found = read({"content": None, "tool_calls": calls}, finish_reason="tool_calls")
    assert found["tool_calls"] == [{"id": "c1", "type": "function", "name": "f", "arguments": '{"a":1}'}]
    assert found["completion"] is None and found["finish_reason"] == "tool_calls"
    old = read({"content": None, "function_call": {"name": "f", "arguments": "{}"}})
    assert old["tool_calls"] == [{"id": None, "type": "function", "name": "f", "arguments": "{}"}]


@pytest.mark.parametrize(
    ("message", "completion"),
    [
        ({"content": ""}, ""),
        ({"content": "é \u2028 \x00"}, "é \u2028 \x00"),
        ({"content": "x", "reasoning_content": "y", "tool_calls": []}, "x"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
    ],
)
def test_the_content_is_what_came(message, completion):
    assert read(message)["completion"] == completion


def test_an_answer_with_nothing_in_it_is_a_bad_row_unless_a_filter_took_it():
    assert "neither content" in read({"content": None}).message
    assert read({}, finish_reason="content_filter") == {
        "completion": None,
        "finish_reason": "content_filter",
        "refusal": None,
        "tool_calls": None,
        "usage": dict.fromkeys(
            ["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens"]
        ),
    }


def test_several_answers_are_in_the_order_of_their_indexes():
    choices = [{"index": at, "message": {"content": f"answer {at}"}, "finish_reason": "stop"} for at in (2, 0, 1)]
    found = answered(choices, made(n=3))
    assert found["completion"] == ["answer 0", "answer 1", "answer 2"] and found["refusal"] == [None] * 3


@pytest.mark.parametrize("indexes", [[], [0], [0, 0], [0, 2], [0, 1, 2]])
def test_other_choices_than_were_asked_for_are_no_answer(indexes):
    choices = [{"index": at, "message": {"content": "x"}} for at in indexes]
    with pytest.raises(BadAnswerError):
        answered(choices, made(n=2))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"choices": null}', b'{"choices": [{}]}', b"\xff", b"<html>"])
def test_what_is_no_completion_is_no_answer(body):
    with pytest.raises(BadAnswerError):
        made().columns(Response(200, {}, body, 0.1), pa.table({"prompt": ["x"]}))


def test_usage_is_a_struct_and_is_counted():
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    found = answered([{"index": 0, "message": {"content": "x"}}], usage=usage)["usage"]
    assert found == {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "total_tokens": 14,
        "cached_tokens": 4,
        "reasoning_tokens": 3,
    }


def test_the_output_may_be_named_and_so_may_all_that_is_added():
    assert made(output="summary").outputs == ["summary", "finish_reason", "refusal", "tool_calls", "usage"]
    named = made(output={"completion": "said", "usage": "cost"})
    assert named.outputs == ["said", "finish_reason", "refusal", "tool_calls", "cost"]


# Schemas


@dataclasses.dataclass
class Review:
    label: Literal["good", "bad"]
    score: float
    words: list[str]
    other: str | None


SCHEMA = pa.schema(
    [
        ("label", pa.string()),
        ("score", pa.float32()),
        ("counts", pa.list_(pa.int16())),
        ("inner", pa.struct([("yes", pa.bool_())])),
    ]
)


def test_an_answer_becomes_columns_of_the_schema_s_types():
    endpoint = made(schema=SCHEMA)
    text = '{"label": "x", "score": 1, "counts": [1, 2], "inner": {"yes": true}}'
    found = read({"content": text}, endpoint)
    assert endpoint.fields[:4] == list(SCHEMA)
    assert {name: found[name] for name in SCHEMA.names} == {
        "label": "x",
        "score": 1.0,
        "counts": [1, 2],
        "inner": {"yes": True},
    }
    assert "completion" not in found and found["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "text",
    [
        '{"label": "x", "score": 1, "counts": [1, 2], "inner": {"yes": true}',
        '{"label": "x", "score": 1, "counts": [1, 2]}',
        '{"label": 5, "score": 1, "counts": [1, 2], "inner": {"yes": true}}',
        '{"label": "x", "score": "1", "counts": [1, 2], "inner": {"yes": true}}',
        '{"label": "x", "score": 1, "counts": [1, 70000], "inner": {"yes": true}}',
        '{"label": "x", "score": 1, "counts": [1], "inner": {"yes": null}}',
        "no JSON",
    ],
)
def test_an_answer_that_does_not_fit_is_kept_with_its_text(text):
    bad = read({"content": text}, made(schema=SCHEMA))
    assert "does not fit the schema" in bad.message and bad.raw.decode() == text


def test_an_answer_that_was_cut_or_refused_has_no_columns():
    cut = read({"content": '{"label": "x"'}, made(schema=SCHEMA), finish_reason="length")
    assert "was cut" in cut.message and cut.raw == b'{"label": "x"'
    refused = read({"content": None, "refusal": "no way"}, made(schema=SCHEMA))
    assert refused.message == "the answer is a refusal" and refused.raw == b"no way"
    empty = read({"content": ""}, made(schema=SCHEMA))
    assert empty.message == "the answer does not fit the schema: the text is empty" and empty.raw == b""


@pytest.mark.parametrize(
    ("options", "advised"),
    [
        ({}, "raise max_completion_tokens"),
        ({"max_tokens": 5}, "raise max_tokens"),
        ({"max_completion_tokens": 5}, "raise max_completion_tokens"),
    ],
    ids=str,
)
def test_an_answer_that_was_cut_says_which_option_to_raise(options, advised):
    cut = read({"content": "{"}, made(schema=SCHEMA, **options), finish_reason="length")
    assert cut.message == f"the answer was cut: {advised}"


def test_an_answer_that_a_filter_stopped_is_not_read():
    stopped = read({"content": None}, made(schema=SCHEMA), finish_reason="content_filter")
    assert stopped.message == "the answer was cut: a content filter stopped it"


@pytest.mark.parametrize("content", [None, "", "Let me see."])
def test_calls_of_tools_are_kept_where_an_answer_was_to_fit_a_schema(content):
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]
    bad = read({"content": content, "tool_calls": calls}, made(schema=SCHEMA), finish_reason="tool_calls")
    assert bad.message == "the answer calls tools, and has no text that fits the schema"
    assert json.loads(bad.raw) == [{"id": "1", "type": "function", "name": "f", "arguments": '{"x": 1}'}]


def test_calls_of_tools_beside_a_text_that_fits_are_a_column():
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    found = read({"content": '{"a": 1}', "tool_calls": calls}, made(schema=pa.schema([("a", pa.int64())])))
    assert found["a"] == 1 and found["tool_calls"][0]["name"] == "f"


def test_the_schema_is_asked_for_in_its_strict_form():
    endpoint = made(schema=Review)
    format_ = asked(endpoint, prompt="x")["response_format"]
    schema = format_["json_schema"]["schema"]
    assert format_["type"] == "json_schema" and format_["json_schema"]["strict"] is True
    assert format_["json_schema"]["name"] == "Review"
    assert schema["required"] == ["label", "score", "words", "other"] and schema["additionalProperties"] is False
    assert [field.type for field in endpoint.fields[:4]] == [
        pa.string(),
        pa.float64(),
        pa.list_(pa.string()),
        pa.string(),
    ]


def test_a_choice_of_values_is_kept_to():
    good = read({"content": '{"label": "bad", "score": 0.5, "words": [], "other": null}'}, made(schema=Review))
    assert good["label"] == "bad" and good["other"] is None
    assert (
        "does not fit"
        in read({"content": '{"label": "?", "score": 1, "words": [], "other": null}'}, made(schema=Review)).message
    )


def test_a_json_schema_with_references_alternatives_and_itself_within_is_understood():
    schema: dict[str, Any] = {
        "$defs": {
            "node": {"type": "object", "properties": {"value": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}}},
        },
        "type": "object",
        "properties": {
            "a b": {"$ref": "#/$defs/node"},
            "any": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        },
    }
    endpoint = made(schema=schema)
    text = '{"a b": {"value": 1, "next": {"value": 2, "next": {}}}, "any": 5}'
    found = read({"content": text}, endpoint)
    assert found["a b"]["value"] == 1 and json.loads(found["a b"]["next"]) == {"value": 2, "next": {}}
    assert found["any"] == "5"


def test_a_column_of_the_endpoint_s_own_may_be_named_otherwise_where_the_schema_has_its_name():
    schema = {"type": "object", "properties": {"refusal": {"type": "boolean"}}}
    with pytest.raises(ValueError, match="output="):
        made(schema=schema)
    endpoint = made(schema=schema, output={"refusal": "refused"})
    assert endpoint.outputs == ["refusal", "finish_reason", "refused", "tool_calls", "usage"]
    found = read({"content": '{"refusal": true}'}, endpoint)
    assert found["refusal"] is True and found["refused"] is None


@pytest.mark.parametrize(
    ("number", "read_as"), [("1", 1), ("1.0", 1), ("1e3", 1000), ("1.5", None), ("true", None), ("1e30", None)]
)
def test_a_whole_number_may_be_written_with_a_point(number, read_as):
    endpoint = made(schema={"type": "object", "properties": {"size": {"type": ["integer", "null"]}}})
    found = read({"content": f'{{"size": {number}}}'}, endpoint)
    assert (found["size"] == read_as) if read_as else "fit the schema" in found.message


def test_a_copy_of_a_transform_keeps_the_types_of_its_schema():
    endpoint = made(schema=SCHEMA)
    assert dataclasses.replace(endpoint, temperature=0).fields == endpoint.fields


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
        pa.schema([("a", pa.int64()), ("a", pa.string())]),
    ],
    ids=["endless", "twice"],
)
def test_a_schema_that_describes_nothing_is_refused(schema):
    with pytest.raises(ValueError, match="schema must"):
        made(schema=schema)


def test_a_reason_that_quotes_the_answer_holds_no_key(emulator, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-4711")
    said = {"choices": [{"index": 0, "message": {"content": '{"a": "sk-secret-4711"}'}}]}
    emulator.inject({"status": 200, "body": said}, times=9)
    endpoint = made(emulator, schema={"type": "object", "properties": {"a": {"enum": ["x", "y"]}}})
    (failed,) = run([{"prompt": "a"}], endpoint).rows("failed")
    assert "Invalid enum value" in failed["error"]["message"] and "4711" not in str(failed)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"params": {"n": 2}}, "set the option n"),
        ({"params": {"response_format": {}}, "schema": SCHEMA}, "leave response_format"),
        ({"params": {"stamp": object()}}, "cannot be written as JSON"),
        ({"metadata": {"a": {1: object()}}}, "cannot be written as JSON"),
    ],
    ids=str,
)
def test_what_can_never_be_sent_or_read_is_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        made(**options)


def test_a_transform_with_a_schema_can_be_pickled():
    endpoint = pickle.loads(pickle.dumps(made(schema=SCHEMA)))
    assert endpoint.fields[:4] == list(SCHEMA)
    assert (
        read({"content": '{"label": "x", "score": 1, "counts": [], "inner": {"yes": true}}'}, endpoint)["counts"] == []
    )


def test_transforms_whose_schemas_differ_in_types_alone_learn_nothing_from_each_other():
    one, other = (made(schema=pa.schema([("a", kind)])) for kind in (pa.int64(), pa.string()))
    assert one.outputs == other.outputs and repr(one.learns_for()) != repr(other.learns_for())


# On the emulator


def test_each_row_has_its_own_answer(emulator):
    rows = [{"id": n, "text": f"subject {n}"} for n in range(40)]
    outcome = run([pa.Table.from_pylist(rows)], made(emulator, prompt="About {text}", max_tokens=20))
    found = {row["id"]: row for row in outcome.rows()}
    assert sorted(found) == list(range(40)) and emulator.billed([f"About subject {n}" for n in range(40)]) == [1] * 40
    assert len({row["completion"] for row in found.values()}) > 30
    assert outcome.counter("completion_tokens") == sum(row["usage"]["completion_tokens"] for row in found.values())
    assert outcome.counter("requests") == 40


def test_a_prompt_without_any_column_is_asked_for_every_row(emulator):
    rows = pa.table({"id": list(range(7))})
    outcome = run([rows, {"id": 7}], made(emulator, prompt="Tell a joke."))
    assert sorted(row["id"] for row in outcome.rows()) == list(range(8))
    assert emulator.billed(["Tell a joke."]) == [8]


def test_the_other_name_for_max_tokens_is_learned_with_one_request(emulator):
    rows = [{"prompt": f"question {n}"} for n in range(10)]
    outcome = run(rows, made(emulator, model="gpt-5-mini", max_tokens=20))
    bodies = [request["body"] for request in emulator.requests()]
    assert len(outcome.answered) == 10 and len(bodies) == 11
    assert [("max_tokens" in body, "max_completion_tokens" in body) for body in bodies] == [(True, False)] + [
        (False, True)
    ] * 10


def test_a_server_that_knows_only_max_tokens_is_sent_that(start_emulator):
    server = start_emulator(only_max_tokens=True)
    outcome = run([{"prompt": "a"}, {"prompt": "b"}], made(server, max_completion_tokens=20))
    assert len(outcome.answered) == 2 and server.ledger()["requests"] == 3


def test_a_server_that_knows_neither_name_stops_the_job(emulator):
    refusal = {
        "error": {
            "message": "Unsupported parameter: 'max_tokens'",
            "code": "unsupported_parameter",
            "param": "max_tokens",
        }
    }
    other = {"error": {"message": "Unsupported parameter: 'max_completion_tokens'", "code": "unsupported_parameter"}}
    emulator.inject({"status": 400, "body": refusal})
    emulator.inject({"status": 400, "body": other})
    with pytest.raises(ConfigurationError):
        run([{"prompt": "a"}], made(emulator, max_tokens=5))
    assert emulator.ledger()["requests"] == 2


def test_options_may_be_columns(emulator):
    rows = [
        {"prompt": "a", "which": "gpt-4o", "heat": 0.5, "most": 3},
        {"prompt": "b", "which": "gpt-4o-mini", "heat": None, "most": 5},
        {"prompt": "c", "which": "no-such-model", "heat": 1.0, "most": 5},
    ]
    endpoint = made(emulator, model=column("which"), temperature=column("heat"), max_tokens=column("most"))
    outcome = run([pa.Table.from_pylist(rows)], endpoint)
    sent = {request["body"]["messages"][0]["content"]: request["body"] for request in emulator.requests()}
    assert (sent["a"]["model"], sent["a"]["temperature"], sent["a"]["max_tokens"]) == ("gpt-4o", 0.5, 3)
    assert "temperature" not in sent["b"]
    assert sorted(row["prompt"] for row in outcome.rows()) == ["a", "b"]
    (failed,) = outcome.rows("failed")
    assert failed["prompt"] == "c" and failed["error"]["kind"] == "rejected" and failed["error"]["status"] == 404


def test_a_model_of_a_row_s_own_that_the_key_may_not_use_fails_that_row(emulator):
    emulator.inject({"status": 403, "body": {"error": {"message": "no access", "code": "model_not_found"}}})
    outcome = run([{"prompt": "a", "m": MODEL}, {"prompt": "b", "m": MODEL}], made(emulator, model=column("m")))
    assert [row["error"]["status"] for row in outcome.rows("failed")] == [403] and len(outcome.rows()) == 1


def test_an_option_s_column_is_never_mistaken_for_what_is_asked(emulator):
    rows = [{"prompt": "a", "text": "b"}]
    with pytest.raises(Exception, match="rename one of them"):
        run(rows, made(emulator, prompt="Say {text}", user=column("prompt")))
    outcome = run(rows, made(emulator, prompt="{prompt}", user=column("prompt")))
    assert outcome.answered and emulator.requests()[-1]["body"]["user"] == "a"


def test_a_column_that_is_not_there_is_named(emulator):
    with pytest.raises(Exception, match="no column 'missing'; they have: prompt"):
        run([{"prompt": "a"}], made(emulator, prompt="{missing}"))


def test_structured_answers_tools_and_logprobs_of_a_real_server(emulator, tmp_path):
    rows = [{"prompt": f"question {n}"} for n in range(3)]
    typed = run(rows, made(emulator, schema=Review))
    assert all(row["label"] in ("good", "bad") and isinstance(row["words"], list) for row in typed.rows())
    called = run(rows, made(emulator, tools=[TOOL], tool_choice="required"))
    assert all(row["tool_calls"][0]["name"] == "weather" for row in called.rows())
    assert all(isinstance(json.loads(row["tool_calls"][0]["arguments"]), dict) for row in called.rows())
    likely = run([pa.Table.from_pylist(rows)], made(emulator, logprobs=True, top_logprobs=2, max_tokens=4))
    table = likely.answered[0].value
    assert table.schema.field("logprobs").type == LOGPROBS and table.schema.field("tool_calls").type == TOOL_CALLS
    assert len(table["logprobs"][0]) == 4 and len(table["logprobs"][0][0]["top_logprobs"]) == 2


def test_a_refusal_is_answered_and_one_under_a_schema_is_not(emulator):
    (row,) = run([{"prompt": "REFUSE"}], made(emulator)).rows()
    assert row["completion"] is None and row["refusal"]
    (failed,) = run([{"prompt": "REFUSE"}], made(emulator, schema=Review)).rows("failed")
    assert failed["error"]["kind"] == "bad_answer" and failed["error"]["raw"] == row["refusal"]


def test_a_typed_answer_that_was_cut_fails_with_its_text_and_was_billed_once(emulator):
    (failed,) = run([{"prompt": "q"}], made(emulator, schema=Review, max_tokens=2)).rows("failed")
    assert failed["error"]["kind"] == "bad_answer" and "was cut" in failed["error"]["message"]
    assert failed["error"]["raw"].startswith("{") and emulator.billed(["q"]) == [1]


def test_what_comes_out_is_in_parquet_with_its_types(emulator, tmp_path):
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "in.parquet")
    with fn_api() as p:
        chat = p | ReadTables(str(tmp_path / "in.parquet")) | made(emulator, prompt="{text}", schema=SCHEMA)
        chat.answered | WriteTables(str(tmp_path / "out"))
    table = pq.read_table(tmp_path / "out")
    assert table.schema.field("score").type == pa.float32() and table.num_rows == 2
    assert pa.types.is_struct(table.schema.field("usage").type)


def test_a_schema_that_the_server_refuses_stops_the_job_after_one_request(emulator):
    refusal = {"error": {"message": "Invalid schema for response_format 'answer'", "param": "response_format"}}
    emulator.inject({"status": 400, "body": refusal}, times=5)
    with pytest.raises(ConfigurationError, match="check the option 'schema'"):
        run([{"prompt": f"question {n}"} for n in range(5)], made(emulator, schema=SCHEMA))
    assert emulator.ledger()["requests"] == 1
