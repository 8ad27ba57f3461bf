"""Responses: what is asked, what their output becomes, and those that failed under HTTP 200."""

from __future__ import annotations

import base64
import dataclasses
import json
import pickle
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import QUICK, run
from pure import answer, answered, asked, invalid, prepared
from test_cli import run as command

from beam_openai import API, Responses, column
from beam_openai.answers import TOOL_CALLS, USAGE
from beam_openai.errors import BadAnswerError, ConfigurationError, QuotaExceededError
from beam_openai.tokens import Estimate

pytestmark = pytest.mark.usefixtures("clean")
MODEL = "gpt-4o-mini"
PNG = b"\x89PNG\r\n\x1a\n and more"
TOOL = {
    "type": "function",
    "name": "weather",
    "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@dataclasses.dataclass
class Review:
    label: Literal["good", "bad"]
    words: list[str]


def made(server=None, **options):
    given = {"model": MODEL, "retry": QUICK, **options}
    return Responses(**given, **({"api": API(base_url=server.base_url)} if server else {}))


def message(*parts):
    return {"type": "message", "role": "assistant", "content": list(parts)}


def text(words, **more):
    return {"type": "output_text", "text": words, "annotations": [], **more}


def body(*output, **more):
    return {"id": "resp_1", "object": "response", "status": "completed", "error": None, "output": list(output), **more}


# What is asked


def test_prompt_and_instructions_are_templates_and_nothing_is_stored():
    endpoint = made(prompt="{title}: {text}", instructions="In {language}.", temperature=0)
    assert endpoint.inputs == ["title", "text", "language"]
    assert asked(endpoint, {"title": "a", "text": "b", "language": "French"}) == {
        "model": MODEL,
        "temperature": 0,
        "store": False,
        "input": "a: b",
        "instructions": "In French.",
    }
    assert asked(made(store=None), {"prompt": "a"}) == {"model": MODEL, "input": "a"}


def test_what_stands_inside_of_others_is_put_there():
    endpoint = made(reasoning_effort="low", verbosity="high", schema=Review)
    said = asked(endpoint, {"prompt": "a"})
    assert said["reasoning"] == {"effort": "low"} and said["text"]["verbosity"] == "high"
    form = said["text"]["format"]
    assert (form["type"], form["name"], form["strict"]) == ("json_schema", "Review", True)
    assert form["schema"]["required"] == ["label", "words"] and form["schema"]["additionalProperties"] is False
    assert asked(made(reasoning={"effort": "low", "summary": "auto"}), {"prompt": "a"})["reasoning"] == {
        "effort": "low",
        "summary": "auto",
    }
    assert asked(made(params={"text": {"format": {"type": "json_object"}}}), {"prompt": "a"})["text"] == {
        "format": {"type": "json_object"}
    }


def test_images_become_parts():
    endpoint = made(images="image")
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert asked(endpoint, {"prompt": "what?", "image": [PNG, PNG]})["input"] == [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "what?"}, *[{"type": "input_image", "image_url": url}] * 2],
        }
    ]
    assert asked(endpoint, {"prompt": "what?", "image": None})["input"] == "what?"


def test_rows_that_cannot_be_asked_say_why():
    endpoint = made(instructions="{how}", images="image")
    rows = [
        {"prompt": "a", "how": "x", "image": None},
        {"prompt": None, "how": "x", "image": None},
        {"prompt": "a", "how": None, "image": None},
        {"prompt": "a", "how": "x", "image": b"?"},
    ]
    assert invalid(endpoint, *rows) == {
        1: "prompt is null",
        2: "how is null",
        3: "image is not PNG, JPEG, GIF or WebP",
    }


def test_a_request_counts_its_texts_its_images_and_the_answer_it_may_get():
    endpoint = made(instructions="x" * 30, images="image", max_output_tokens=50)
    ready = prepared(endpoint, [{"prompt": "y" * 30, "image": [PNG, PNG]}])
    assert endpoint.tokens(ready, Estimate()).tolist() == [20 + 8 + 2 * 765]
    assert endpoint.answer_tokens(ready) == 50 and not endpoint.is_text and made().is_text
    endpoint = made(max_output_tokens=column("most"))
    ready = prepared(endpoint, [{"prompt": "a", "most": 20}, {"prompt": "a", "most": None}])
    assert np.asarray(endpoint.answer_tokens(ready)).tolist() == [20, 0]


@pytest.mark.parametrize(
    "options",
    [
        {"max_output_tokens": 15},
        {"max_output_tokens": 20.5},
        {"temperature": 2.1},
        {"top_p": 1.1},
        {"top_logprobs": 21},
        {"max_tool_calls": 0},
        {"verbosity": "loud"},
        {"truncation": "yes"},
        {"reasoning_effort": "low", "reasoning": {"summary": "auto"}},
        {"include": ["reasoning.encrypted_content"]},
        {"schema": 3},
        {"prompt": "{"},
        {"instructions": "}"},
        {"params": {"input": "x"}},
        {"params": {"background": True}},
        {"params": {"text": {}}, "verbosity": "low"},
        {"params": {"text": {}}, "schema": Review},
        {"params": {"reasoning": {}}, "reasoning_effort": "low"},
        {"params": {"instructions": "x"}, "instructions": "y"},
    ],
    ids=str,
)
def test_options_that_can_never_work_are_refused(options):
    with pytest.raises(ValueError):
        made(**options)


def test_it_can_be_pickled_with_all_that_it_was_given():
    endpoint = made(schema=Review, instructions="In {language}.", verbosity="low")
    again = pickle.loads(pickle.dumps(endpoint))
    assert again.fields == endpoint.fields and again.options() == endpoint.options()
    assert repr(again.learns_for()) == repr(endpoint.learns_for()) != repr(made(instructions="x").learns_for())


# What comes back


def test_the_text_is_that_of_all_parts_of_all_messages():
    said = body(
        {"type": "reasoning", "summary": []},
        message(text("Hel"), text("lo")),
        {"type": "web_search_call", "status": "completed"},
        message(text(" you")),
    )
    assert answered(made(), 1, said) == [
        {
            "output_text": "Hello you",
            "status": "completed",
            "incomplete_reason": None,
            "refusal": None,
            "tool_calls": None,
            "usage": dict.fromkeys(field.name for field in USAGE),
        }
    ]
    assert answered(made(), 1, body({"type": "message", "content": "plain"}))[0]["output_text"] == "plain"


def test_a_refusal_and_calls_of_tools_are_no_trouble():
    (row,) = answered(made(), 1, body(message({"type": "refusal", "refusal": "no"})))
    assert (row["output_text"], row["refusal"]) == (None, "no")
    calls = [
        {"type": "function_call", "call_id": "1", "id": "fc_1", "name": "look", "arguments": '{"a": 1}'},
        {"type": "function_call", "call_id": "2", "name": "look", "arguments": {"a": 1}},
        {"type": "custom_tool_call", "call_id": "3", "name": "say", "input": "hi"},
        {"type": "function_call", "call_id": 4},
    ]
    (row,) = answered(made(), 1, body(*calls))
    assert row["output_text"] is None and row["tool_calls"] == [
        {"id": "1", "type": "function", "name": "look", "arguments": '{"a": 1}'},
        {"id": "2", "type": "function", "name": "look", "arguments": '{"a":1}'},
        {"id": "3", "type": "custom", "name": "say", "arguments": "hi"},
        {"id": None, "type": "function", "name": None, "arguments": None},
    ]


def test_what_was_cut_says_so():
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    (row,) = answered(made(), 1, body(message(text("Hel")), **cut))
    assert (row["output_text"], row["status"], row["incomplete_reason"]) == ("Hel", "incomplete", "max_output_tokens")
    (row,) = answered(made(), 1, body({"type": "reasoning"}, **cut))
    assert row["output_text"] is None


@pytest.mark.parametrize(
    "said",
    [
        body(),
        body({"type": "reasoning"}),
        body(message()),
        body(message(text("so far")), status="in_progress"),
        body(status="queued"),
        body(message(text("so far")), status="cancelled"),
    ],
    ids=str,
)
def test_a_response_without_anything_or_an_end_is_a_bad_row(said):
    read = answer(made(), 1, {**said, "usage": {"input_tokens": 3, "output_tokens": 0}})
    assert list(read.bad) == [0] and read.prompt_tokens == 3


def test_a_server_may_leave_out_the_status_and_answer_with_its_own_tools_alone():
    said = body(message(text("a")))
    del said["status"]
    assert answered(made(), 1, said)[0]["status"] is None
    (row,) = answered(made(items=True), 1, body({"type": "image_generation_call", "result": "QUJD"}))
    assert row["output_text"] is None and json.loads(row["output_items"])[0]["result"] == "QUJD"


@pytest.mark.parametrize("said", [{}, b"[]", b"{", {"output": None}, {"output": [1]}, {"output": {}}], ids=str)
def test_what_is_no_response_is_no_answer(said):
    with pytest.raises(BadAnswerError):
        answer(made(), 1, said)


def test_the_whole_output_is_kept_as_it_came_where_it_is_asked_for():
    output = '[ {"type":"message", "x":1.0,"content":[{"type":"output_text","text":"é"}]}]'
    raw = f'{{"status":"completed","output":{output}}}'.encode()
    (row,) = answered(made(items=True), 1, raw)
    assert row["output_items"] == output
    with pytest.raises(BadAnswerError, match="not UTF-8"):
        answer(made(items=True), 1, raw.replace(b'"x":1.0', b'"x":"\xff"'))


def test_the_id_is_there_where_the_response_is_kept():
    assert answered(made(store=True), 1, body(message(text("a"))))[0]["response_id"] == "resp_1"
    assert "response_id" in made(store=None).outputs and "response_id" not in made().outputs


def test_usage_is_a_struct_and_is_counted():
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 6,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 16,
    }
    said = body(message(text("a")), usage=usage)
    read = answer(made(), 1, said)
    assert (read.prompt_tokens, read.completion_tokens, read.cached_tokens) == (10, 6, 4)
    assert answered(made(), 1, said)[0]["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 6,
        "total_tokens": 16,
        "cached_tokens": 4,
        "reasoning_tokens": 5,
    }


def test_an_answer_becomes_columns_of_the_schema_s_types():
    endpoint = made(schema=Review)
    assert endpoint.fields[:2] == [pa.field("label", pa.string()), pa.field("words", pa.list_(pa.string()))]
    (row,) = answered(endpoint, 1, body(message(text('{"label": "good", "words": ["a"]}'))))
    assert (row["label"], row["words"], row["status"]) == ("good", ["a"], "completed")
    assert "output_text" not in row


CUT = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}


@pytest.mark.parametrize(
    ("said", "reason", "raw"),
    [
        (body(message(text('{"label": "fine"}'))), "does not fit the schema", b'{"label": "fine"}'),
        (body(message(text("{"))), "does not fit the schema", b"{"),
        (body(message(text('{"lab')), **CUT), "was cut: raise max_output_tokens", b'{"lab'),
        (body({"type": "reasoning"}, **CUT), "was cut: raise max_output_tokens", b""),
        (
            body(message(text("{")), status="incomplete", incomplete_details={"reason": "content_filter"}),
            "was cut: a content filter stopped it",
            b"{",
        ),
        (body(message({"type": "refusal", "refusal": "no"})), "is a refusal", b"no"),
        (
            body({"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}),
            "the answer calls tools",
            b'[{"id":"1","type":"function","name":"f","arguments":"{}"}]',
        ),
        (
            body({"type": "web_search_call", "id": "w"}),
            "the answer calls tools",
            b'[{"type": "web_search_call", "id": "w"}]',
        ),
    ],
)
def test_an_answer_that_does_not_fit_is_kept_with_its_text(said, reason, raw):
    bad = answer(made(schema=Review), 1, said).bad[0]
    assert reason in bad.message and bad.raw == raw


# On the emulator


def test_each_row_has_its_own_response(emulator):
    rows = [{"id": n, "text": f"subject {n}"} for n in range(30)]
    endpoint = made(emulator, prompt="About {text}", instructions="Be brief.", max_output_tokens=20)
    outcome = run([pa.Table.from_pylist(rows)], endpoint)
    found = {row["id"]: row for row in outcome.rows()}
    assert sorted(found) == list(range(30)) and emulator.billed([f"About subject {n}" for n in range(30)]) == [1] * 30
    assert len({row["output_text"] for row in found.values()}) > 25
    assert outcome.counter("completion_tokens") == sum(row["usage"]["completion_tokens"] for row in found.values())
    assert {request["body"]["store"] for request in emulator.requests()} == {False}
    table = outcome.answered[0].value
    assert table.schema.field("tool_calls").type == TOOL_CALLS and table.schema.field("usage").type == USAGE
    cut = [row for row in found.values() if row["status"] == "incomplete"]
    assert cut and {row["incomplete_reason"] for row in cut} == {"max_output_tokens"}


def test_structured_answers_tools_and_reasoning_of_a_real_server(emulator):
    rows = [{"prompt": f"question {n}"} for n in range(3)]
    typed = run(rows, made(emulator, schema=Review))
    assert all(row["label"] in ("good", "bad") and isinstance(row["words"], list) for row in typed.rows())
    called = run(rows, made(emulator, tools=[TOOL], tool_choice="required"))
    assert all(row["tool_calls"][0]["name"] == "weather" for row in called.rows())
    reasoned = run(
        rows, made(emulator, model="gpt-5-mini", reasoning={"effort": "high", "summary": "auto"}, items=True)
    )
    for row in reasoned.rows():
        assert row["usage"]["reasoning_tokens"] > 0
        assert json.loads(row["output_items"])[0]["summary"][0]["text"]


def test_a_refusal_is_answered_and_one_under_a_schema_is_not(emulator):
    (row,) = run([{"prompt": "REFUSE"}], made(emulator)).rows()
    assert row["output_text"] is None and row["refusal"]
    (failed,) = run([{"prompt": "REFUSE"}], made(emulator, schema=Review)).rows("failed")
    assert failed["error"]["kind"] == "bad_answer" and failed["error"]["raw"] == row["refusal"]


@pytest.mark.parametrize(
    ("options", "param", "advised"),
    [
        ({"schema": Review}, "text.format.schema", "schema"),
        ({"schema": Review, "verbosity": "low"}, "text.verbosity", "verbosity"),
        ({"verbosity": "low"}, "text", "verbosity"),
        ({"reasoning_effort": "low"}, "reasoning.effort", "reasoning_effort"),
        ({"reasoning": {"effort": "low"}}, "reasoning.effort", "reasoning"),
    ],
    ids=str,
)
def test_what_the_server_refuses_is_told_by_the_option_that_made_it(emulator, options, param, advised):
    refusal = {"error": {"message": "Invalid", "param": param, "type": "invalid_request_error"}}
    emulator.inject({"status": 400, "body": refusal}, times=5)
    with pytest.raises(ConfigurationError, match=f"check the option '{advised}'"):
        run([{"prompt": "q"}], made(emulator, **options))
    assert emulator.ledger()["requests"] == 1


def failure(code, message="An error occurred."):
    return {"status": 200, "body": body(status="failed", error={"code": code, "message": message})}


@pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded", "vector_store_timeout"])
def test_a_response_that_the_server_failed_is_asked_for_again(emulator, code):
    emulator.inject(failure(code), times=2)
    outcome = run([{"prompt": "a"}], made(emulator))
    assert outcome.rows()[0]["output_text"] and outcome.counter("retries") == 2
    emulator.clear()
    emulator.inject(failure(code), times=9)
    (failed,) = run([{"prompt": "a"}], made(emulator)).rows("failed")
    assert (failed["error"]["kind"], failed["error"]["code"]) == ("exhausted", code)
    assert emulator.ledger()["requests"] == QUICK.attempts


@pytest.mark.parametrize(
    "code", ["invalid_prompt", "bio_policy", "image_content_policy_violation", "failed_to_download_image", "brand_new"]
)
def test_one_that_failed_for_what_it_was_asked_fails_its_row_at_once(emulator, code):
    emulator.inject(failure(code, "Not this."))
    outcome = run([{"prompt": "a"}], made(emulator))
    (failed,) = outcome.rows("failed")
    assert (failed["error"]["kind"], failed["error"]["code"]) == ("rejected", code)
    assert "Not this." in failed["error"]["message"] and emulator.ledger()["requests"] == 1


def test_one_that_failed_for_want_of_money_stops_the_job(emulator):
    emulator.inject(failure("insufficient_quota"))
    with pytest.raises(QuotaExceededError):
        run([{"prompt": "a"}], made(emulator))


def test_the_emulator_s_own_failure_is_retried_until_the_row_fails(emulator):
    outcome = run([{"prompt": "FAIL-200"}, {"prompt": "b"}], made(emulator))
    (failed,) = outcome.rows("failed")
    assert failed["prompt"] == "FAIL-200" and failed["error"]["code"] == "server_error" and len(outcome.rows()) == 1


@pytest.mark.parametrize("error", [None, {"code": "bio_policy", "message": "x" * 1_100_000}], ids=["without", "large"])
def test_one_that_failed_and_cannot_be_told_why_is_a_bad_answer(emulator, error):
    emulator.inject({"status": 200, "body": body(status="failed", error=error)}, times=9)
    (failed,) = run([{"prompt": "a"}], made(emulator)).rows("failed")
    assert failed["error"]["kind"] == "bad_answer" and "the response failed" in failed["error"]["message"]


def test_an_option_that_the_model_does_not_know_stops_the_job_with_one_request(emulator):
    rows = [{"prompt": f"question {n}"} for n in range(5)]
    with pytest.raises(ConfigurationError, match="reasoning"):
        run(rows, made(emulator, reasoning_effort="low"))
    loose = {**TOOL, "strict": True}
    with pytest.raises(ConfigurationError, match="check the option 'tools'"):
        run(rows, made(emulator, tools=[loose]))
    assert emulator.ledger()["requests"] == 2


def test_a_second_question_goes_on_from_the_first_response(emulator):
    first = run([{"id": n, "prompt": f"question {n}"} for n in range(3)], made(emulator, store=True)).rows()
    rows = [{"id": row["id"], "prompt": "and then?", "before": row["response_id"]} for row in first]
    rows.append({"id": 3, "prompt": "and then?", "before": None})
    rows.append({"id": 4, "prompt": "and then?", "before": "resp_unknown"})
    emulator.clear()
    outcome = run([pa.Table.from_pylist(rows)], made(emulator, previous_response_id=column("before")))
    assert sorted(row["id"] for row in outcome.rows()) == [0, 1, 2, 3]
    sent = [request["body"].get("previous_response_id") for request in emulator.requests()]
    assert sorted(sent, key=str) == sorted((row["before"] for row in rows), key=str)
    (failed,) = outcome.rows("failed")
    assert failed["id"] == 4 and failed["error"]["code"] == "previous_response_not_found"


def test_images_are_seen(emulator):
    rows = [{"prompt": "what?", "image": "https://example.com/cat.png"}, {"prompt": "what?", "image": "cat.png"}]
    outcome = run([pa.Table.from_pylist(rows)], made(emulator, images="image"))
    assert len(outcome.rows()) == 1 and emulator.requests()[0]["body"]["input"][0]["content"][1] == {
        "type": "input_image",
        "image_url": "https://example.com/cat.png",
    }
    assert "neither an image's bytes nor its URL" in outcome.rows("failed")[0]["error"]["message"]


def test_from_the_command_line_to_parquet(emulator, tmp_path):
    pq.write_table(pa.table({"id": [1, 2], "text": ["a", "b"]}), tmp_path / "in.parquet")
    where = ["--input", tmp_path / "in.parquet", "--output", tmp_path / "out", "--base-url", emulator.base_url]
    options: list[Any] = ["--prompt", "Tell of {text}", "--instructions", "Be number {id}.", "--max-output-tokens", 40]
    ended = command("responses", *where, "--model", MODEL, *options, "--items", "--output-column", "said")
    assert ended.returncode == 0, ended.stderr
    table = pq.read_table(tmp_path / "out")
    names = ["id", "text", "said", "status", "incomplete_reason", "refusal", "tool_calls", "output_items", "usage"]
    assert table.column_names == names and sorted(table["id"].to_pylist()) == [1, 2]
    for row in table.to_pylist():
        assert json.loads(row["output_items"])[-1]["content"][0]["text"] == row["said"]
        assert row["usage"]["total_tokens"] == row["usage"]["prompt_tokens"] + row["usage"]["completion_tokens"]
    bodies = [request["body"] for request in emulator.requests()]
    assert sorted((body["input"], body["instructions"], body["store"]) for body in bodies) == [
        ("Tell of a", "Be number 1.", False),
        ("Tell of b", "Be number 2.", False),
    ]
