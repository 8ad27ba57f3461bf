"""POST /responses of the emulator over real sockets, and the responses that it stores."""

import json
import re

import pytest
import requests

from beam_openai.emulator import Emulator
from beam_openai.emulator.texts import count_tokens
from beam_openai.emulator.writing import REFUSAL, compose

MODEL = "gpt-4o"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}
NOTE = {"type": "custom", "name": "note"}
FORMAT = {"format": {"type": "json_schema", "name": "trip", "schema": SCHEMA, "strict": True}}


@pytest.fixture(scope="module")
def shared():
    with Emulator(models={"local": "chat"}) as emulator:
        yield emulator


@pytest.fixture
def server(shared):
    shared.clear()
    return shared


def post(server, input="hi", path="/responses", **fields):
    return requests.post(f"{server.base_url}{path}", json={"model": MODEL, "input": input, **fields}, timeout=10)


def respond(server, input="hi", **fields):
    response = post(server, input, **fields)
    assert response.status_code == 200, response.text
    return response.json()


def error(server, input="hi", status=400, **fields):
    response = post(server, input, **fields)
    assert response.status_code == status, response.text
    return response.json()["error"]


def get(server, response_id, **query):
    return requests.get(f"{server.base_url}/responses/{response_id}", params=query, timeout=10)


def text_of(answer):
    return "".join(part["text"] for item in answer["output"] if item["type"] == "message" for part in item["content"])


def user(content):
    return {"role": "user", "content": content}


def told(response):
    """Events with their names."""
    found, name = [], None
    for line in re.split("\r\n|\n|\r", response.content.decode()):
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            found.append(json.loads(line[6:]))
            assert found[-1]["type"] == name
    return found


# Answers


def test_a_response_has_the_shape_of_the_real_one(server):
    answer = respond(server, "Hello there", instructions="Be brief", metadata={"k": "v"}, temperature=0.5)
    assert re.fullmatch("resp_[a-zA-Z0-9]{24}", answer["id"]) and answer["object"] == "response"
    assert answer["status"] == "completed" and answer["error"] is None and answer["incomplete_details"] is None
    assert answer["instructions"] == "Be brief" and answer["metadata"] == {"k": "v"}
    assert answer["temperature"] == 0.5 and answer["top_p"] == 1.0
    assert answer["tools"] == [] and answer["tool_choice"] == "auto" and answer["parallel_tool_calls"] is True
    assert answer["text"] == {"format": {"type": "text"}, "verbosity": "medium"} and answer["store"] is True
    (item,) = answer["output"]
    whole = compose("Be brief\nHello there")
    assert {**item, "id": None} == {
        "id": None,
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": whole}],
    }
    written = count_tokens(whole, 4.0)
    assert answer["usage"] == {
        "input_tokens": 14,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 14 + written,
    }


def test_what_the_budget_cuts_is_incomplete(server):
    answer = respond(server, "Hello there, tell me all", max_output_tokens=16)
    whole = compose("Hello there, tell me all")
    assert text_of(answer) == whole[:64] and answer["usage"]["output_tokens"] == 16
    assert answer["status"] == answer["output"][0]["status"] == "incomplete"
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"} and answer["completed_at"] is None


def test_items_are_read_as_one_conversation(server):
    items = [
        {"role": "developer", "content": "Be kind"},
        user([{"type": "input_text", "text": "one"}, {"type": "input_text", "text": "two"}]),
        {"role": "assistant", "content": [{"type": "output_text", "text": "yes", "annotations": []}]},
        {"type": "message", **user([{"type": "input_text", "text": "three"}, {"type": "input_text", "text": "four"}])},
    ]
    assert text_of(respond(server, items)) == compose("Be kind\none\ntwo\nyes\nthree\nfour")
    assert server.billed(["three four", "one two"], MODEL) == [1, 0]


def test_pictures_and_files_are_counted(server):
    plain = respond(server)["usage"]["input_tokens"]
    parts = [
        {"type": "input_text", "text": "hi"},
        {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
    ]
    assert respond(server, [user(parts)])["usage"]["input_tokens"] == plain + 85


def test_an_answer_fits_the_schema(server):
    value = json.loads(text_of(respond(server, "A trip", text=FORMAT)))
    assert set(value) == {"city", "days"} and value["days"] in range(1, 8)


def test_json_is_answered_where_json_is_spoken_of(server):
    form = {"format": {"type": "json_object"}}
    assert json.loads(text_of(respond(server, "as JSON", text=form)))["words"]
    assert json.loads(text_of(respond(server, "hi", instructions="Say it in json", text=form)))["words"]
    assert error(server, "hi", text=form)["message"] == (
        "Response input messages must contain the word 'json' in some form to use 'text.format' of type 'json_object'."
    )


def test_logprobs_come_where_they_are_included(server):
    answer = respond(server, include=["message.output_text.logprobs"], top_logprobs=2)
    (part,) = answer["output"][0]["content"]
    assert "".join(score["token"] for score in part["logprobs"]) == part["text"]
    assert {len(score["top_logprobs"]) for score in part["logprobs"]} == {2}


def test_thoughts_are_an_item_before_the_answer(server):
    answer = respond(
        server, model="gpt-5", reasoning={"effort": "low", "summary": "auto"}, include=["reasoning.encrypted_content"]
    )
    thoughts, message = answer["output"]
    assert thoughts["type"] == "reasoning" and thoughts["summary"][0]["text"] and thoughts["encrypted_content"]
    assert answer["usage"]["output_tokens_details"] == {"reasoning_tokens": 64}
    assert answer["usage"]["output_tokens"] == 64 + count_tokens(message["content"][0]["text"], 4.0)
    spent = respond(server, model="gpt-5", max_output_tokens=50)
    assert [item["type"] for item in spent["output"]] == ["reasoning"] and spent["status"] == "incomplete"
    assert spent["usage"]["output_tokens"] == 50


# Markers


def test_a_response_can_fail_under_http_200_and_is_not_billed(server):
    answer = respond(server, "FAIL-200 please")
    assert answer["status"] == "failed" and answer["error"]["code"] == "server_error" and answer["error"]["message"]
    assert answer["output"] == [] and answer["usage"] is None
    assert server.billed(["FAIL-200 please"]) == [0]


def test_a_refusal_is_a_part_of_its_own(server):
    answer = respond(server, "REFUSE please")
    assert answer["output"][0]["content"] == [{"type": "refusal", "refusal": REFUSAL}]
    assert answer["status"] == "completed"


def test_what_a_filter_stops_is_incomplete(server):
    answer = respond(server, "FILTERED please")
    whole = compose("FILTERED please")
    assert text_of(answer) == whole[: len(whole) // 2]
    assert answer["status"] == "incomplete" and answer["incomplete_details"] == {"reason": "content_filter"}


@pytest.mark.parametrize("status", [400, 500])
def test_poison_anywhere_spoils_a_request(server, status):
    assert post(server, [user(f"POISON-{status}"), user("hi")]).status_code == status


# Tools


def test_tools_are_called_and_answered(server):
    first = respond(server, "CALL-TOOL", tools=[WEATHER])
    (call,) = first["output"]
    assert call["type"] == "function_call" and call["name"] == "weather" and call["status"] == "completed"
    assert json.loads(call["arguments"])["days"] in range(1, 8)
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
    stateless = respond(server, [user("CALL-TOOL"), call, output], tools=[WEATHER])
    stored = respond(server, [output], tools=[WEATHER], previous_response_id=first["id"])
    assert text_of(stateless) == text_of(stored) != ""
    assert stateless["usage"] == stored["usage"] and stored["previous_response_id"] == first["id"]


def test_one_of_several_tools_can_be_chosen(server):
    named = respond(server, tools=[WEATHER, NOTE], tool_choice={"type": "custom", "name": "note"})
    (call,) = named["output"]
    assert call["type"] == "custom_tool_call" and call["input"] and call["name"] == "note"
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}
    assert respond(server, tools=[WEATHER, NOTE], tool_choice=allowed)["output"][0]["name"] == "weather"
    both = respond(server, "CALL-TOOL CALL-TOOL", tools=[WEATHER, NOTE])
    assert {item["type"] for item in both["output"]} == {"function_call", "custom_tool_call"}


def test_tools_of_the_service_are_taken_and_not_called(server):
    answer = respond(server, "CALL-TOOL", tools=[{"type": "web_search"}], tool_choice={"type": "web_search"})
    assert answer["output"][0]["type"] == "message"


# What is stored


def test_a_response_is_stored_until_it_is_deleted(server):
    answer = respond(server)
    assert get(server, answer["id"]).json() == answer
    gone = requests.delete(f"{server.base_url}/responses/{answer['id']}")
    assert gone.json() == {"id": answer["id"], "object": "response", "deleted": True}
    for method in (requests.get, requests.delete):
        response = method(f"{server.base_url}/responses/{answer['id']}")
        assert response.status_code == 404
        assert response.json()["error"]["message"] == f"Response with id '{answer['id']}' not found."


def test_what_is_not_to_be_stored_is_not(server):
    answer = respond(server, store=False)
    assert answer["store"] is False and get(server, answer["id"]).status_code == 404
    found = error(server, previous_response_id=answer["id"])
    assert found["code"] == "previous_response_not_found" and found["param"] == "previous_response_id"


def test_a_conversation_goes_on_without_the_instructions_of_before(server):
    first = respond(server, "one", instructions="Be brief")
    second = respond(server, "two", previous_response_id=first["id"])
    assert text_of(second) == compose(f"one\n{text_of(first)}\ntwo")
    third = respond(server, "three", previous_response_id=first["id"], instructions="Now")
    assert text_of(third) == compose(f"Now\none\n{text_of(first)}\nthree")


def test_an_item_is_referred_to_by_its_id(server):
    first = respond(server, "one")
    answer = respond(server, [{"type": "item_reference", "id": first["output"][0]["id"]}, user("two")])
    assert text_of(answer) == compose(f"{text_of(first)}\ntwo")
    assert error(server, [{"type": "item_reference", "id": "msg_x"}], status=404)["message"].startswith(
        "Item with id 'msg_x' not found."
    )


def test_a_response_in_the_background_takes_its_time(server):
    begun = respond(server, "in the background", background=True)
    assert begun["status"] == "queued" and begun["output"] == []
    assert get(server, begun["id"]).json()["status"] == "in_progress"
    server.turn_clock(1)
    done = get(server, begun["id"]).json()
    assert done["status"] == "completed" and text_of(done) == compose("in the background")


def test_a_response_in_the_background_can_be_cancelled(server):
    begun = respond(server, background=True)
    cancelled = requests.post(f"{server.base_url}/responses/{begun['id']}/cancel").json()
    server.turn_clock(1)
    assert cancelled["status"] == get(server, begun["id"]).json()["status"] == "cancelled"
    other = respond(server)
    response = requests.post(f"{server.base_url}/responses/{other['id']}/cancel")
    assert response.json()["error"]["message"] == "Cannot cancel a synchronous response."


# Counting


def test_input_tokens_are_counted_and_nothing_is_billed(server):
    for fields in ({}, {"instructions": "Be brief"}, {"tools": [WEATHER]}, {"input": [user("été 東京"), user("a")]}):
        used = respond(server, **fields)["usage"]["input_tokens"]
        server.clear()
        counted = post(server, path="/responses/input_tokens", **fields).json()
        assert counted == {"object": "response.input_tokens", "input_tokens": used}
        assert server.ledger()["billed_inputs"] == 0


def test_limits_are_charged_input_and_budget(start_emulator):
    with start_emulator(tpm=1000) as server:
        response = post(server, "hi", max_output_tokens=50)
        assert response.headers["x-ratelimit-remaining-tokens"] == str(1000 - 7 - 50)


# Refusals


@pytest.mark.parametrize(
    "fields, message, param, code",
    [
        (
            {"max_output_tokens": 10},
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 10 instead.",
            "max_output_tokens",
            "integer_below_min_value",
        ),
        ({"input": None}, "Missing required parameter: 'input'.", "input", "missing_required_parameter"),
        (
            {"input": 3},
            "Invalid type for 'input': expected one of a string or array of input items, but got an integer instead.",
            "input",
            "invalid_type",
        ),
        (
            {"input": [{"type": "poem"}]},
            None,
            "input[0].type",
            "invalid_value",
        ),
        (
            {"input": [user([{"type": "text", "text": "a"}])]},
            "Invalid value: 'text'. Supported values are: 'input_text', 'input_image', and 'input_file'.",
            "input[0].content[0].type",
            "invalid_value",
        ),
        (
            {"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "a"}]}]},
            "Invalid value: 'input_text'. Supported values are: 'output_text' and 'refusal'.",
            "input[0].content[0].type",
            "invalid_value",
        ),
        (
            {"input": [{**user("a"), "name": "Ada"}]},
            "Unknown parameter: 'input[0].name'.",
            "input[0].name",
            "unknown_parameter",
        ),
        (
            {"input": [user([{"type": "input_image"}])]},
            "Missing required parameter: 'input[0].content[0].image_url'.",
            "input[0].content[0].image_url",
            "missing_required_parameter",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "call_1", "output": "4"}]},
            "No tool call found for function call output with call_id call_1.",
            "input",
            None,
        ),
        (
            {"input": [{"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}]},
            "No tool output found for function call call_1.",
            "input",
            None,
        ),
        (
            {"text": {"format": {"type": "json_schema", "name": "trip", "strict": True, "schema": {"type": "object"}}}},
            "Invalid schema for response_format 'trip': In context=(), 'additionalProperties' is required to be supplied "
            "and to be false.",
            "text.format.schema",
            "invalid_json_schema",
        ),
        (
            {"text": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            "Missing required parameter: 'text.format.name'.",
            "text.format.name",
            "missing_required_parameter",
        ),
        (
            {"tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}]},
            "Invalid schema for function 'f': In context=(), 'additionalProperties' is required to be supplied and to be "
            "false.",
            "tools[0].parameters",
            "invalid_function_parameters",
        ),
        (
            {"tool_choice": "required"},
            "Tool choice 'required' not found in 'tools' parameter.",
            "tool_choice",
            None,
        ),
        (
            {"reasoning": {"effort": "low"}},
            "Unsupported parameter: 'reasoning.effort' is not supported with this model.",
            "reasoning.effort",
            "unsupported_parameter",
        ),
        (
            {"model": "gpt-5", "temperature": 0.3},
            "Unsupported value: 'temperature' does not support 0.3 with this model. Only the default (1) value is "
            "supported.",
            "temperature",
            "unsupported_value",
        ),
        ({"max_tokens": 20}, "Unrecognized request argument supplied: max_tokens", None, None),
        (
            {"background": True, "store": False},
            "Background responses require 'store' to be true.",
            "background",
            None,
        ),
        (
            {"input": "x" * 4 * 128_000},
            "Your input exceeds the context window of this model. Please adjust your input and try again.",
            "input",
            "context_length_exceeded",
        ),
    ],
)
def test_a_wrong_request_is_refused(server, fields, message, param, code):
    found = error(server, **fields)
    assert (found["param"], found["code"]) == (param, code)
    assert message is None or found["message"] == message
    assert server.ledger()["billed_inputs"] == 0


def test_what_is_too_long_is_taken_where_it_may_be_truncated(server):
    assert post(server, "x" * 4 * 128_000, truncation="auto").status_code == 200


@pytest.mark.parametrize(
    "fields", [{"conversation": "conv_x"}, {"conversation": {"id": "conv_x"}}, {"prompt": {"id": "p"}}]
)
def test_what_a_request_refers_to_must_be_there(server, fields):
    assert error(server, status=404, **fields)["message"].endswith("not found.")


# Streams


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"include": ["message.output_text.logprobs"], "top_logprobs": 1},
        {"max_output_tokens": 16},
        {"model": "gpt-5", "reasoning": {"summary": "auto"}},
        {"input": "REFUSE"},
        {"input": "FAIL-200"},
        {"input": "CALL-TOOL CALL-TOOL", "tools": [WEATHER, NOTE]},
        {"text": FORMAT},
    ],
)
def test_a_stream_tells_the_same_in_named_events(server, fields):
    fields = {"input": "été 東京 🦊", "store": False, **fields}
    whole = respond(server, **fields)
    response = post(server, stream=True, **fields)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert b"[DONE]" not in response.content
    events = told(response)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[0]["response"]["status"] == "in_progress" and events[0]["response"]["output"] == []
    last = events[-1]
    assert last["type"] == f"response.{whole['status']}"
    assert same(last["response"]) == same(whole)
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == last["response"]["output"]
    assert joined(events) == {
        index: "".join(texts_of(item)) for index, item in enumerate(done) if "".join(texts_of(item))
    }


def same(response):
    """What two responses to the same request have in common: everything but ids and times."""
    written = json.dumps({key: value for key, value in response.items() if not key.endswith("_at")})
    return re.sub(r'"(resp|msg|fc|ctc|rs|call)_\w+"', '"id"', written)


def joined(events):
    """The deltas of each item, put together."""
    found = {}
    for event in events:
        if event["type"].endswith(".delta"):
            assert event["obfuscation"] is not None
            found[event["output_index"]] = found.get(event["output_index"], "") + event["delta"]
    return found


def texts_of(item):
    for part in [*item.get("content", []), *item.get("summary", [])]:
        yield part.get("text", part.get("refusal"))
    yield item.get("arguments", item.get("input", ""))


def test_what_is_added_is_empty_at_first(server):
    events = told(post(server, stream=True, stream_options={"include_obfuscation": False}))
    added = next(event for event in events if event["type"] == "response.output_item.added")
    assert added["item"]["content"] == [] and added["item"]["status"] == "in_progress"
    part = next(event["part"] for event in events if event["type"] == "response.content_part.added")
    assert part == {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
    assert not any("obfuscation" in event for event in events)


def test_a_stored_response_can_be_streamed_again(server):
    first = told(post(server, stream=True, stream_options={"include_obfuscation": False}))
    again = told(get(server, first[-1]["response"]["id"], stream="true"))
    assert again == first
