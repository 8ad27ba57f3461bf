"""Chat completions of the emulator over real sockets."""

import base64
import json

import pytest
import requests
from test_emulator_texts import events

from beam_openai.emulator import Emulator
from beam_openai.emulator.schemas import fitting
from beam_openai.emulator.texts import count_tokens
from beam_openai.emulator.writing import REFUSAL, compose

MODEL = "gpt-4o"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
NOTE = {"type": "custom", "custom": {"name": "note"}}
IMAGE = "data:image/png;base64," + base64.b64encode(b"no picture, but base64").decode()
STRICT = {"type": "json_schema", "json_schema": {"name": "trip", "strict": True, "schema": SCHEMA}}


@pytest.fixture(scope="module")
def shared():
    with Emulator(models={"local": "chat"}) as emulator:
        yield emulator


@pytest.fixture
def server(shared):
    shared.clear()
    return shared


def user(content):
    return {"role": "user", "content": content}


def post(server, messages="hi", **fields):
    messages = [user(messages)] if isinstance(messages, str) else messages
    body = {"model": MODEL, "messages": messages, **fields}
    return requests.post(f"{server.base_url}/chat/completions", json=body, timeout=10)


def chat(server, messages="hi", **fields):
    response = post(server, messages, **fields)
    assert response.status_code == 200, response.text
    return response.json()


def error(server, messages="hi", status=400, **fields):
    response = post(server, messages, **fields)
    assert response.status_code == status, response.text
    return response.json()["error"]


def contents(answer):
    return [choice["message"]["content"] for choice in answer["choices"]]


# Answers


def test_an_answer_has_the_shape_of_the_real_one(server):
    answer = chat(server, "Hello there", max_tokens=5)
    assert answer["object"] == "chat.completion" and answer["id"].startswith("chatcmpl-")
    (choice,) = answer["choices"]
    assert list(choice) == ["index", "message", "logprobs", "finish_reason"]
    assert choice["message"] == {
        "role": "assistant",
        "content": compose("Hello there")[:20],
        "refusal": None,
        "annotations": [],
    }
    assert choice["finish_reason"] == "length" and choice["logprobs"] is None
    assert answer["usage"] == {
        "prompt_tokens": 3 + 3 + 3,
        "completion_tokens": 5,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("most", [1, 7, 500])
def test_the_budget_is_kept_and_usage_is_what_was_sent(server, name, most):
    answer = chat(server, "été 東京 🦊", n=2, **{name: most})
    sent = [count_tokens(content, 4.0) for content in contents(answer)]
    assert answer["usage"]["completion_tokens"] == sum(sent)
    for k, choice in enumerate(answer["choices"]):
        whole = compose("été 東京 🦊", k)
        assert whole.startswith(choice["message"]["content"])
        assert sent[k] == most if choice["finish_reason"] == "length" else choice["message"]["content"] == whole


def test_the_answer_is_drawn_from_all_that_was_said(server):
    messages = [{"role": "system", "content": "Be brief."}, user("Hello")]
    assert contents(chat(server, messages)) == [compose("Be brief.\nHello")]


def test_choices_differ_unless_the_temperature_is_zero(server):
    assert len(set(contents(chat(server, n=10)))) == 10
    assert len(set(contents(chat(server, n=10, temperature=0)))) == 1


def test_the_same_request_gets_the_same_answer(server):
    tools = {"tools": [WEATHER], "tool_choice": "required"}
    for fields in ({"n": 3}, {"response_format": STRICT}, tools, {"seed": -3}):
        one, other = chat(server, **fields), chat(server, **fields)
        for answer in (one, other):
            for choice in answer["choices"]:
                for call in choice["message"].get("tool_calls", []):
                    del call["id"]
        assert one["choices"] == other["choices"] and one["usage"] == other["usage"]


def test_a_text_ends_before_what_stops_it(server):
    (whole,) = contents(chat(server, "Once upon a time"))
    (choice,) = chat(server, "Once upon a time", stop=". ")["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (whole[: whole.index(". ")], "stop")


@pytest.mark.parametrize("many", [0, 1, 20])
def test_logprobs_are_of_every_token(server, many):
    (choice,) = chat(server, "été 東京 🦊", logprobs=True, top_logprobs=many)["choices"]
    scores = choice["logprobs"]["content"]
    assert choice["logprobs"]["refusal"] is None
    assert "".join(score["token"] for score in scores) == choice["message"]["content"]
    for score in scores:
        assert bytes(score["bytes"]).decode() == score["token"] and score["logprob"] <= 0
        tops = [(top["logprob"], top["token"]) for top in score["top_logprobs"]]
        assert len(dict(tops)) == many and tops == sorted(tops, key=lambda top: -top[0])
        assert not many or tops[0] == (score["logprob"], score["token"])


def test_names_pictures_and_sounds_are_counted(server):
    plain = chat(server)["usage"]["prompt_tokens"]
    named = chat(server, [{**user("hi"), "name": "Ada"}])["usage"]["prompt_tokens"]
    assert named == plain + 1
    picture = {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}}
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(bytes(6400)).decode(), "format": "wav"}}
    file = {"type": "file", "file": {"file_id": "file-abc"}}
    usage = chat(server, [user([{"type": "text", "text": "hi"}, picture, sound, file])])["usage"]
    assert usage["prompt_tokens"] == plain + 85 + 2
    assert usage["prompt_tokens_details"]["audio_tokens"] == 2


def test_a_long_prompt_that_came_before_is_cached_in_steps(server):
    long = {"role": "system", "content": "x" * 4 * 1500}
    details = chat(server, [long, user("hi")])["usage"]["prompt_tokens_details"]
    assert details["cached_tokens"] == 1500 // 128 * 128
    assert chat(server, "x" * 4 * 1500)["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


@pytest.mark.parametrize("asked, used", [(None, "default"), ("auto", "default"), ("flex", "flex")])
def test_the_tier_that_was_used_is_told(server, asked, used):
    assert chat(server, **({"service_tier": asked} if asked else {}))["service_tier"] == used


# What is billed


def test_the_last_words_of_the_user_are_billed(server):
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    chat(server, [user("first"), {"role": "assistant", "content": "yes"}, user(parts)], n=3)
    assert server.billed(["one two", "first"], MODEL) == [1, 0]


def test_limits_are_charged_prompt_and_budget_for_each_choice(start_emulator):
    with start_emulator(tpm=1000) as server:
        response = post(server, "hi", max_tokens=50, n=3)
        assert response.headers["x-ratelimit-remaining-tokens"] == str(1000 - 7 - 150)


# Markers


def test_a_refusal_has_no_content(server):
    (choice,) = chat(server, "Please REFUSE this", logprobs=True)["choices"]
    assert choice["message"]["content"] is None and choice["message"]["refusal"] == REFUSAL
    assert choice["finish_reason"] == "stop" and choice["logprobs"]["content"] is None
    assert "".join(score["token"] for score in choice["logprobs"]["refusal"]) == REFUSAL


def test_what_a_filter_stops_breaks_off(server):
    (choice,) = chat(server, "FILTERED please")["choices"]
    whole = compose("FILTERED please")
    assert (choice["message"]["content"], choice["finish_reason"]) == (whole[: len(whole) // 2], "content_filter")


def test_markers_count_in_the_last_message_of_the_user_alone(server):
    messages = [user("REFUSE FILTERED"), {"role": "assistant", "content": "no"}, user("then this")]
    (choice,) = chat(server, messages)["choices"]
    assert choice["message"]["refusal"] is None and choice["finish_reason"] == "stop"


@pytest.mark.parametrize("status", [400, 500])
def test_poison_anywhere_spoils_a_request(server, status):
    messages = [{"role": "system", "content": f"POISON-{status}"}, user("hi")]
    assert post(server, messages).status_code == status
    assert server.billed(["hi"]) == [0]


# JSON


def test_a_json_object_is_answered_where_json_is_spoken_of(server):
    form = {"response_format": {"type": "json_object"}}
    assert set(json.loads(contents(chat(server, "In JSON please", **form))[0])) == {"answer", "topic", "words"}
    assert error(server, "In XML please", **form)["message"] == (
        "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
    )


@pytest.mark.parametrize("strict", [True, False, None])
def test_an_answer_fits_the_schema(server, strict):
    form = {"type": "json_schema", "json_schema": {"name": "trip", "strict": strict, "schema": SCHEMA}}
    for content in contents(chat(server, "A trip", n=5, response_format=form)):
        value = json.loads(content)
        assert set(value) == {"city", "days"} and value["city"] and value["days"] in range(1, 8)


def test_json_that_the_budget_cuts_is_cut_in_the_middle(server):
    whole = chat(server, "A trip", response_format=STRICT)["choices"][0]["message"]["content"]
    (choice,) = chat(server, "A trip", response_format=STRICT, max_tokens=3)["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (whole[:12], "length")


@pytest.mark.parametrize(
    "form, message, param",
    [
        (
            {"type": "yaml"},
            "Invalid value: 'yaml'. Supported values are: 'text', 'json_object', and 'json_schema'.",
            ".type",
        ),
        ({}, "Missing required parameter: 'response_format.type'.", ".type"),
        ({"type": "json_schema"}, "Missing required parameter: 'response_format.json_schema'.", ".json_schema"),
        (
            {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
            "Missing required parameter: 'response_format.json_schema.name'.",
            ".json_schema.name",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "a trip", "schema": SCHEMA}},
            "Invalid 'response_format.json_schema.name': string does not match pattern. Expected a string that matches "
            "the pattern '^[a-zA-Z0-9_-]+$'.",
            ".json_schema.name",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "trip", "strict": True, "schema": {"type": "object"}}},
            "Invalid schema for response_format 'trip': In context=(), 'additionalProperties' is required to be supplied "
            "and to be false.",
            "",
        ),
        ({"type": "text", "strict": True}, "Unknown parameter: 'response_format.strict'.", ".strict"),
    ],
)
def test_a_wrong_format_is_refused(server, form, message, param):
    found = error(server, response_format=form)
    assert (found["message"], found["param"]) == (message, f"response_format{param}")


# Tools


def test_a_tool_is_called_when_one_must_be(server):
    (choice,) = chat(server, tools=[WEATHER], tool_choice="required")["choices"]
    assert choice["message"]["content"] is None and choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function" and call["id"].startswith("call_") and call["function"]["name"] == "weather"
    assert set(json.loads(call["function"]["arguments"])) == {"city", "days"}


def test_a_tool_that_is_named_is_called_and_the_model_says_that_it_has_stopped(server):
    named = {"type": "custom", "custom": {"name": "note"}}
    (choice,) = chat(server, tools=[WEATHER, NOTE], tool_choice=named)["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "custom" and call["custom"]["name"] == "note" and call["custom"]["input"]
    assert choice["finish_reason"] == "stop"


def test_without_the_marker_tools_are_left_alone(server):
    (choice,) = chat(server, tools=[WEATHER])["choices"]
    assert choice["message"]["content"] and "tool_calls" not in choice["message"]


@pytest.mark.parametrize(
    "fields, calls",
    [({}, 2), ({"parallel_tool_calls": False}, 1), ({"tool_choice": "none"}, 0), ({"tool_choice": "auto"}, 2)],
)
def test_the_marker_calls_as_often_as_it_stands_there(server, fields, calls):
    (choice,) = chat(server, "CALL-TOOL and CALL-TOOL", tools=[WEATHER, NOTE], **fields)["choices"]
    made = choice["message"].get("tool_calls", [])
    assert len({call["id"] for call in made}) == calls
    assert len({call["type"] for call in made}) == calls


def test_only_allowed_tools_are_called(server):
    allowed = {"mode": "required", "tools": [{"type": "custom", "custom": {"name": "note"}}]}
    for k in range(5):
        answer = chat(
            server, f"{k}", tools=[WEATHER, NOTE], tool_choice={"type": "allowed_tools", "allowed_tools": allowed}
        )
        assert answer["choices"][0]["message"]["tool_calls"][0]["type"] == "custom"


def test_what_a_tool_has_answered_is_not_asked_again(server):
    asked = [user("CALL-TOOL")]
    message = chat(server, asked, tools=[WEATHER])["choices"][0]["message"]
    answered = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "sunny"}
    (choice,) = chat(server, [*asked, message, answered], tools=[WEATHER])["choices"]
    assert choice["finish_reason"] == "stop" and choice["message"]["content"]


def test_functions_are_called_as_tools_were_before_there_were_any(server):
    functions = [WEATHER["function"]]
    (choice,) = chat(server, "CALL-TOOL", functions=functions)["choices"]
    assert choice["finish_reason"] == "function_call" and choice["message"]["function_call"]["name"] == "weather"
    (forced,) = chat(server, functions=functions, function_call={"name": "weather"})["choices"]
    assert forced["finish_reason"] == "stop" and forced["message"]["content"] is None
    assert json.loads(forced["message"]["function_call"]["arguments"])["days"] in range(1, 8)
    (left,) = chat(server, "CALL-TOOL", functions=functions, function_call="none")["choices"]
    assert "function_call" not in left["message"]


def test_arguments_that_the_budget_cuts_are_cut_in_the_middle(server):
    answer = chat(server, tools=[WEATHER], tool_choice="required", max_tokens=5)
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["tool_calls"][0]["function"]["arguments"]) == 12
    assert answer["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize(
    "fields, message, param",
    [
        (
            {"tool_choice": "auto"},
            "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.",
            "tool_choice",
        ),
        (
            {"parallel_tool_calls": True},
            "Invalid value for 'parallel_tool_calls': 'parallel_tool_calls' is only allowed when 'tools' are specified.",
            "parallel_tool_calls",
        ),
        (
            {"tools": []},
            "Invalid 'tools': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "tools",
        ),
        ({"tools": [{"type": "function"}]}, "Missing required parameter: 'tools[0].function'.", "tools[0].function"),
        (
            {"tools": [{"type": "function", "function": {}}]},
            "Missing required parameter: 'tools[0].function.name'.",
            "tools[0].function.name",
        ),
        (
            {"tools": [{"type": "web_search"}]},
            "Invalid value: 'web_search'. Supported values are: 'function' and 'custom'.",
            "tools[0].type",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]},
            "Invalid schema for function 'f': schema must be a JSON Schema of 'type: \"object\"', got 'type: \"string\"'.",
            "tools[0].function.parameters",
        ),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}},
            "Tool choice 'other' not found in 'tools' parameter.",
            "tool_choice",
        ),
        (
            {"tools": [WEATHER], "tool_choice": "must"},
            "Invalid value: 'must'. Supported values are: 'none', 'auto', and 'required'.",
            "tool_choice",
        ),
        (
            {"function_call": "auto"},
            "Invalid value for 'function_call': 'function_call' is only allowed when 'functions' are specified.",
            "function_call",
        ),
        (
            {"functions": [WEATHER["function"]], "function_call": {"name": "f"}},
            "Invalid value for 'function_call': no function named f was specified in the 'functions' parameter.",
            "function_call",
        ),
    ],
)
def test_wrong_tools_are_refused(server, fields, message, param):
    found = error(server, **fields)
    assert (found["message"], found["param"]) == (message, param)


# Messages

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    "messages, message, param",
    [
        (
            [],
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "messages",
        ),
        (
            {"role": "user"},
            "Invalid type for 'messages': expected an array of objects, but got an object instead.",
            "messages",
        ),
        (["hi"], "Invalid type for 'messages[0]': expected an object, but got a string instead.", "messages[0]"),
        ([{"content": "hi"}], "Missing required parameter: 'messages[0].role'.", "messages[0].role"),
        (
            [{"role": "robot", "content": "hi"}],
            "Invalid value: 'robot'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool', and "
            "'developer'.",
            "messages[0].role",
        ),
        ([user("a"), {"role": "user"}], "Missing required parameter: 'messages[1].content'.", "messages[1].content"),
        ([user(None)], "Invalid value for 'content': expected a string, got null.", "messages.[0].content"),
        (
            [user(3)],
            "Invalid type for 'messages[0].content': expected one of a string or array of objects, but got an integer "
            "instead.",
            "messages[0].content",
        ),
        (
            [user([])],
            "Invalid 'messages[0].content': empty array. Expected an array with minimum length 1, but got an empty array "
            "instead.",
            "messages[0].content",
        ),
        (
            [user([{"type": "video"}])],
            "Invalid value: 'video'. Supported values are: 'text', 'image_url', 'input_audio', and 'file'.",
            "messages[0].content[0].type",
        ),
        (
            [user([{"type": "text"}])],
            "Missing required parameter: 'messages[0].content[0].text'.",
            "messages[0].content[0].text",
        ),
        (
            [user([{"text": "a"}])],
            "Missing required parameter: 'messages[0].content[0].type'.",
            "messages[0].content[0].type",
        ),
        (
            [user([{"type": "text", "text": 1}])],
            "Invalid type for 'messages[0].content[0].text': expected a string, but got an integer instead.",
            "messages[0].content[0].text",
        ),
        (
            [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": IMAGE}}]}],
            "Invalid 'messages[0]'. Image URLs are only allowed for messages with role 'user', but this message with role "
            "'system' contains an image URL.",
            "messages[0]",
        ),
        (
            [user([{"type": "image_url", "image_url": {"url": "photo.png"}}])],
            "Invalid 'messages[0].content[0].image_url.url'. Expected a base64-encoded data URL with an image MIME type "
            "(e.g. 'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU='), but got a value without the 'data:' prefix.",
            "messages[0].content[0].image_url.url",
        ),
        (
            [user([{"type": "image_url", "image_url": {"url": "data:image/png;base64,???"}}])],
            "Invalid 'messages[0].content[0].image_url.url'. Expected a base64-encoded value, but got one that is not.",
            "messages[0].content[0].image_url.url",
        ),
        (
            [user([{"type": "image_url", "image_url": {"url": IMAGE, "detail": "max"}}])],
            "Invalid value: 'max'. Supported values are: 'auto', 'low', and 'high'.",
            "messages[0].content[0].image_url.detail",
        ),
        (
            [user([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "ogg"}}])],
            "Invalid value: 'ogg'. Supported values are: 'wav' and 'mp3'.",
            "messages[0].content[0].input_audio.format",
        ),
        (
            [user([{"type": "file", "file": {"filename": "a.pdf"}}])],
            "Missing required parameter: 'messages[0].content[0].file.file_id'.",
            "messages[0].content[0].file.file_id",
        ),
        ([{**user("a"), "mood": "good"}], "Unknown parameter: 'messages[0].mood'.", "messages[0].mood"),
        (
            [{**user("a"), "name": "Ada Lovelace"}],
            "Invalid 'messages[0].name': string does not match pattern. Expected a string that matches the pattern "
            "'^[a-zA-Z0-9_-]+$'.",
            "messages[0].name",
        ),
        (
            [{**user("a"), "name": "a" * 65}],
            "Invalid 'messages[0].name': string too long. Expected a string with maximum length 64, but got a string with "
            "length 65 instead.",
            "messages[0].name",
        ),
        ([{"role": "function", "content": "4"}], "Missing required parameter: 'messages[0].name'.", "messages[0].name"),
        (
            [{"role": "tool", "content": "4"}],
            "Missing required parameter: 'messages[0].tool_call_id'.",
            "messages[0].tool_call_id",
        ),
        (
            [{"role": "tool", "content": "4", "tool_call_id": "call_1"}],
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
            "messages.[0].role",
        ),
        (
            [user("a"), {"role": "assistant", "content": None, "tool_calls": [CALL]}, user("b")],
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
            "The following tool_call_ids did not have response messages: call_1",
            "messages.[2].role",
        ),
        (
            [{"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function"}]}],
            "Missing required parameter: 'messages[0].tool_calls[0].function'.",
            "messages[0].tool_calls[0].function",
        ),
    ],
)
def test_a_wrong_message_is_refused(server, messages, message, param):
    found = error(server, messages)
    assert (found["message"], found["param"], found["type"]) == (message, param, "invalid_request_error")
    assert server.ledger()["billed_inputs"] == 0


def test_every_role_may_speak(server):
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "system", "content": "Be kind."},
        {**user("hi"), "name": "Ada"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "4"}]},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": None},
        user("and now?"),
    ]
    said = ["Be brief.", "Be kind.", "hi", "No.", "f", "{}", "4", "f", "{}", "and now?"]
    assert contents(chat(server, messages)) == [compose("\n".join(said))]


def test_messages_are_required(server):
    response = requests.post(f"{server.base_url}/chat/completions", json={"model": MODEL})
    assert response.json()["error"]["message"] == "Missing required parameter: 'messages'."


# Parameters


@pytest.mark.parametrize(
    "fields, param, code",
    [
        ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
        ({"top_p": -1}, "top_p", "decimal_below_min_value"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 129}, "n", "integer_above_max_value"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "integer_below_min_value"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, None, "invalid_parameter_combination"),
        ({"stop": list("abcde")}, "stop", "array_above_max_length"),
        ({"top_logprobs": 1}, "top_logprobs", None),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
        ({"logprobs": 1}, "logprobs", "invalid_type"),
        ({"presence_penalty": 3}, "presence_penalty", "decimal_above_max_value"),
        ({"stream_options": {}}, "stream_options", None),
        ({"service_tier": "slow"}, "service_tier", "invalid_value"),
        ({"metadata": {"k": 1}}, "metadata.k", "invalid_type"),
        ({"metadata": {str(k): "" for k in range(17)}}, "metadata", "object_above_max_properties"),
        ({"metadata": {"k" * 65: ""}}, "metadata", "string_above_max_length"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "string_above_max_length"),
        ({"safety_identifier": "x" * 65}, "safety_identifier", "string_above_max_length"),
        ({"modalities": ["text", "audio"]}, "modalities", "unsupported_value"),
        ({"reasoning_effort": "low"}, "reasoning_effort", None),
        ({"verbosity": "low"}, "verbosity", "unsupported_value"),
        ({"foo": 1}, None, None),
    ],
    ids=json.dumps,
)
def test_a_wrong_parameter_is_refused(server, fields, param, code):
    found = error(server, **fields)
    assert (found["param"], found["code"]) == (param, code)


def test_everything_that_is_right_is_taken(server):
    chat(
        server,
        temperature=0.5,
        top_p=0.9,
        n=2,
        stop=["§"],
        seed=3,
        presence_penalty=-2,
        frequency_penalty=2,
        logit_bias={"50256": -100},
        user="u",
        store=True,
        metadata={"k": "v"},
        safety_identifier="s",
        prompt_cache_key="p",
        service_tier="default",
        modalities=["text"],
        verbosity="medium",
        response_format={"type": "text"},
        max_tokens=None,
        prediction={"type": "content", "content": "x"},
    )


@pytest.mark.parametrize("model", ["o3", "o4-mini", "gpt-5", "gpt-5-mini"])
@pytest.mark.parametrize(
    "fields, message, code",
    [
        (
            {"max_tokens": 5},
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            "unsupported_parameter",
        ),
        (
            {"temperature": 0.16},
            "Unsupported value: 'temperature' does not support 0.16 with this model. Only the default (1) value is "
            "supported.",
            "unsupported_value",
        ),
        (
            {"logprobs": True},
            "Unsupported parameter: 'logprobs' is not supported with this model.",
            "unsupported_parameter",
        ),
        ({"stop": "a"}, "Unsupported parameter: 'stop' is not supported with this model.", "unsupported_parameter"),
    ],
)
def test_models_that_reason_take_less(server, model, fields, message, code):
    found = error(server, model=model, **fields)
    assert (found["message"], found["param"], found["code"]) == (message, next(iter(fields)), code)


def test_thoughts_come_first_and_out_of_the_same_budget(server):
    def used(**fields):
        answer = chat(server, model="gpt-5", **fields)
        usage = answer["usage"]
        return answer["choices"][0], usage["completion_tokens"], usage["completion_tokens_details"]["reasoning_tokens"]

    choice, tokens, thoughts = used(temperature=1)
    assert thoughts == 128 and tokens == 128 + count_tokens(choice["message"]["content"], 4.0)
    choice, tokens, thoughts = used(max_completion_tokens=100)
    assert (choice["message"]["content"], choice["finish_reason"], tokens, thoughts) == ("", "length", 100, 100)
    choice, tokens, thoughts = used(max_completion_tokens=130)
    assert len(choice["message"]["content"]) == 8 and (tokens, thoughts) == (130, 128)
    assert used(reasoning_effort="minimal")[2] == 0 and used(reasoning_effort="high")[2] == 320


def test_a_model_of_another_maker_takes_all(server):
    answer = chat(server, model="local", max_tokens=5, temperature=0.1, reasoning_effort="low", verbosity="low")
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


def test_a_server_may_know_max_tokens_only(start_emulator):
    with start_emulator(only_max_tokens=True) as server:
        assert chat(server, max_tokens=2)["usage"]["completion_tokens"] == 2
        found = error(server, max_completion_tokens=2)
        assert found["message"] == "Unrecognized request argument supplied: max_completion_tokens"


@pytest.mark.parametrize(
    "model, limit", [("gpt-4", 8192), ("gpt-3.5-turbo", 16_385), ("gpt-4o", 128_000), ("local", 128_000)]
)
def test_a_prompt_and_its_answer_must_fit(server, model, limit):
    beginning = f"This model's maximum context length is {limit} tokens. However,"
    whole = "x" * 4 * (limit - 6)
    assert post(server, whole, model=model).status_code == 200
    too_long = error(server, whole + "x", model=model)
    assert too_long == {
        "message": f"{beginning} your messages resulted in {limit + 1} tokens. Please reduce the length of the messages.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }
    together = error(server, whole[40:], model=model, max_tokens=11)
    assert together["message"] == (
        f"{beginning} you requested {limit + 1} tokens ({limit - 10} in the messages, 11 in the completion). Please reduce "
        "the length of the messages or completion."
    )


def test_only_chat_models_chat(server):
    found = error(server, status=404, model="davinci-002")
    assert found["message"].startswith("This is not a chat model") and found["param"] == "model"


# Streams


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 3, "logprobs": True, "top_logprobs": 2},
        {"max_tokens": 3},
        {"response_format": STRICT},
        {"model": "gpt-5", "max_completion_tokens": 10},
        {"messages": [user("REFUSE")], "logprobs": True},
        {"messages": [user("CALL-TOOL CALL-TOOL")], "tools": [WEATHER, NOTE]},
        {"messages": [user("CALL-TOOL")], "functions": [WEATHER["function"]]},
        {"messages": [user("FILTERED été 東京 🦊")]},
    ],
)
def test_a_stream_says_the_same_as_the_whole(server, fields):
    fields = {"messages": [user("été 東京 🦊")], **fields}
    whole = chat(server, **fields)
    response = post(server, stream=True, stream_options={"include_usage": True}, **fields)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *told, done = events(response)
    *chunks, last = map(json.loads, told)
    assert done == "[DONE]" and last["choices"] == [] and last["usage"] == whole["usage"]
    assert all(chunk["usage"] is None and chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    for choice in whole["choices"]:
        pieces = [each for chunk in chunks for each in chunk["choices"] if each["index"] == choice["index"]]
        assert pieces[0]["delta"]["role"] == "assistant" and pieces[-1]["delta"] == {}
        assert pieces[-1]["finish_reason"] == choice["finish_reason"]
        assert joined([piece["delta"] for piece in pieces]) == shown(choice["message"])
        if "logprobs" in fields:
            for name, scores in choice["logprobs"].items():
                streamed = [score for piece in pieces if piece["logprobs"] for score in piece["logprobs"][name] or []]
                assert streamed == (scores or [])


def joined(deltas):
    """What the deltas say together: the texts by their names, and each call's name and argument."""
    found = {}
    for delta in deltas:
        for name in ("content", "refusal"):
            if delta.get(name):
                found[name] = found.get(name, "") + delta[name]
        calls = [(call["index"], call.get("function") or call.get("custom")) for call in delta.get("tool_calls", [])]
        if "function_call" in delta:
            calls.append((0, delta["function_call"]))
        for index, said in calls:
            for member, text in said.items():
                key = f"{index} {member}"
                found[key] = found.get(key, "") + text
    return found


def shown(message):
    found = {name: message[name] for name in ("content", "refusal") if message[name]}
    calls = [call.get("function") or call.get("custom") for call in message.get("tool_calls", [])]
    if "function_call" in message:
        calls.append(message["function_call"])
    for index, said in enumerate(calls):
        found |= {f"{index} {member}": text for member, text in said.items()}
    return found


def test_pieces_are_padded_unless_that_is_not_wanted(server):
    def padded(**options):
        told = events(post(server, stream=True, stream_options=options))[:-1]
        return {"obfuscation" in json.loads(each) for each in told}

    assert padded() == {True} and padded(include_obfuscation=False) == {False}


def test_what_a_schema_is_filled_with_depends_on_the_prompt():
    assert fitting(SCHEMA, "0 one") == fitting(SCHEMA, "0 one") != fitting(SCHEMA, "0 two")
