"""Checks an emulator's text operations with the openai package: `python check_modern_texts.py BASE_URL`.

It needs `openai` of today and pydantic, which comes with it, and nothing of this project. Exits with 1, after
a traceback, when an answer is not what that client and its user expect.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

import openai
from openai import OpenAI, pydantic_function_tool
from pydantic import BaseModel

CHAT, REASONING, COMPLETION = "gpt-4o-mini", "gpt-5-mini", "gpt-3.5-turbo-instruct"
QUESTION = "What is the capital of 日本 🦊?"

CHECKS: list[Callable[[OpenAI], None]] = []


class Step(BaseModel):
    explanation: str
    output: str | None


class Solution(BaseModel):
    steps: list[Step]
    answer: int


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    days: int


def check(function: Callable[[OpenAI], None]) -> Callable[[OpenAI], None]:
    """Adds a check to those that are run."""
    CHECKS.append(function)
    return function


def refused(error: type[openai.OpenAIError], function: Callable[..., object], **fields: object) -> Any:
    """The error with which a call is refused."""
    try:
        function(**fields)
    except error as found:
        return found
    raise AssertionError(f"{error.__name__} was expected")


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


# Chat


@check
def chat_answers(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=CHAT, messages=user(QUESTION), n=2, max_tokens=20)
    assert [choice.index for choice in answer.choices] == [0, 1]
    one, other = answer.choices
    assert one.message.role == "assistant" and one.message.content != other.message.content
    assert answer.usage and answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details and answer.usage.completion_tokens_details


@check
def chat_takes_parts_and_all_roles(client: OpenAI) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/fox.png", "detail": "low"}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "name": "Ada", "content": [{"type": "text", "text": QUESTION}, picture]},
    ]
    answer = client.chat.completions.create(model=CHAT, messages=messages, temperature=0, stop=["§"])
    assert answer.choices[0].finish_reason == "stop" and answer.choices[0].message.content


@check
def chat_logprobs(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=CHAT, messages=user(QUESTION), logprobs=True, top_logprobs=3)
    (choice,) = answer.choices
    assert choice.logprobs and choice.logprobs.content
    assert "".join(score.token for score in choice.logprobs.content) == choice.message.content
    assert all(len(score.top_logprobs) == 3 for score in choice.logprobs.content)


@check
def chat_parses_into_a_model(client: OpenAI) -> None:
    answer = client.chat.completions.parse(model=CHAT, messages=user("2 + 2"), response_format=Solution)
    assert isinstance(answer.choices[0].message.parsed, Solution)


@check
def chat_parse_tells_what_was_cut_or_filtered(client: OpenAI) -> None:
    for error, text, budget in (
        (openai.LengthFinishReasonError, "2 + 2", 2),
        (openai.ContentFilterFinishReasonError, "FILTERED", 500),
    ):
        asked = {"messages": user(text), "max_completion_tokens": budget}
        refused(error, client.chat.completions.parse, model=CHAT, response_format=Solution, **asked)


@check
def chat_refuses(client: OpenAI) -> None:
    answer = client.chat.completions.parse(model=CHAT, messages=user("REFUSE"), response_format=Solution)
    message = answer.choices[0].message
    assert message.refusal and message.content is None and message.parsed is None


@check
def chat_calls_tools_and_goes_on(client: OpenAI) -> None:
    tools = [pydantic_function_tool(Weather)]
    messages = user("CALL-TOOL: will it rain?")
    answer = client.chat.completions.parse(model=CHAT, messages=messages, tools=tools)
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls" and choice.message.tool_calls
    (call,) = choice.message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)
    said = {"role": "assistant", "content": None, "tool_calls": [call.model_dump(include={"id", "type"})]}
    said["tool_calls"][0]["function"] = {"name": call.function.name, "arguments": call.function.arguments}
    result = {"role": "tool", "tool_call_id": call.id, "content": "It will."}
    after = client.chat.completions.create(model=CHAT, messages=[*messages, said, result], tools=tools)
    assert after.choices[0].finish_reason == "stop" and after.choices[0].message.content


@check
def chat_streams(client: OpenAI) -> None:
    whole = client.chat.completions.create(model=CHAT, messages=user(QUESTION))
    chunks = list(
        client.chat.completions.create(
            model=CHAT, messages=user(QUESTION), stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == "stop"


@check
def chat_streams_into_a_model_and_a_tool(client: OpenAI) -> None:
    with client.chat.completions.stream(model=CHAT, messages=user("2 + 2"), response_format=Solution) as stream:
        kinds = {event.type for event in stream}
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Solution)
    assert {"chunk", "content.delta", "content.done"} <= kinds
    with client.chat.completions.stream(
        model=CHAT, messages=user("CALL-TOOL"), tools=[pydantic_function_tool(Weather)]
    ) as stream:
        kinds = {event.type for event in stream}
        (call,) = stream.get_final_completion().choices[0].message.tool_calls or []
    assert "tool_calls.function.arguments.done" in kinds
    assert isinstance(call.function.parsed_arguments, Weather)


@check
def chat_of_a_model_that_reasons(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=REASONING, messages=user(QUESTION), reasoning_effort="high")
    details = answer.usage and answer.usage.completion_tokens_details
    assert details and details.reasoning_tokens
    create = client.chat.completions.create
    error = refused(openai.BadRequestError, create, model=REASONING, messages=user(QUESTION), max_tokens=5)
    assert error.code == "unsupported_parameter" and error.param == "max_tokens"


# Completions


@check
def completions_of_many_prompts(client: OpenAI) -> None:
    answer = client.completions.create(model=COMPLETION, prompt=["one", "two", QUESTION], n=2, max_tokens=8)
    assert [choice.index for choice in answer.choices] == list(range(6))
    assert {choice.finish_reason for choice in answer.choices} == {"length"}
    assert answer.usage and answer.usage.completion_tokens == 48


@check
def completions_echo_with_logprobs(client: OpenAI) -> None:
    answer = client.completions.create(model=COMPLETION, prompt=QUESTION, echo=True, logprobs=2, max_tokens=3)
    (choice,) = answer.choices
    lists = choice.logprobs
    assert choice.text.startswith(QUESTION) and lists and lists.tokens and lists.token_logprobs
    assert "".join(lists.tokens) == choice.text and lists.token_logprobs[0] is None
    assert len(lists.tokens) == len(lists.top_logprobs or ()) == len(lists.text_offset or ())


@check
def completions_stream(client: OpenAI) -> None:
    whole = client.completions.create(model=COMPLETION, prompt=QUESTION, max_tokens=50)
    chunks = list(client.completions.create(model=COMPLETION, prompt=QUESTION, max_tokens=50, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


# Responses


@check
def responses_answer_and_are_kept(client: OpenAI) -> None:
    answer = client.responses.create(model=CHAT, input=QUESTION, instructions="Be brief.")
    assert answer.status == "completed" and answer.output_text and answer.usage
    assert client.responses.retrieve(answer.id).output_text == answer.output_text
    counted = client.responses.input_tokens.count(model=CHAT, input=QUESTION, instructions="Be brief.")
    assert counted.input_tokens == answer.usage.input_tokens
    after = client.responses.create(model=CHAT, input="And then?", previous_response_id=answer.id)
    assert after.usage and after.usage.input_tokens > answer.usage.input_tokens
    client.responses.delete(answer.id)
    refused(openai.NotFoundError, client.responses.retrieve, response_id=answer.id)


@check
def responses_tell_how_they_ended(client: OpenAI) -> None:
    cut = client.responses.create(model=REASONING, input=user(QUESTION), max_output_tokens=16)
    assert cut.status == "incomplete" and cut.incomplete_details
    assert cut.incomplete_details.reason == "max_output_tokens"
    failed = client.responses.create(model=CHAT, input="FAIL-200")
    assert failed.status == "failed" and failed.error and failed.error.code == "server_error"
    refused = client.responses.create(model=CHAT, input="REFUSE")
    assert refused.output_text == "" and refused.output[0].content[0].type == "refusal"


@check
def responses_parse_into_a_model(client: OpenAI) -> None:
    answer = client.responses.parse(model=CHAT, input="2 + 2", text_format=Solution)
    assert isinstance(answer.output_parsed, Solution)


@check
def responses_call_tools_and_go_on(client: OpenAI) -> None:
    tools = [openai.pydantic_function_tool(Weather)["function"]]
    tool = {"type": "function", **tools[0]}
    answer = client.responses.create(model=CHAT, input="CALL-TOOL: will it rain?", tools=[tool])
    (call,) = answer.output
    assert call.type == "function_call" and Weather.model_validate_json(call.arguments)
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "It will."}
    after = client.responses.create(model=CHAT, input=[output], previous_response_id=answer.id, tools=[tool])
    assert after.output_text


@check
def responses_stream_named_events(client: OpenAI) -> None:
    with client.responses.stream(model=REASONING, input=QUESTION, reasoning={"summary": "auto"}) as stream:
        events = list(stream)
        final = stream.get_final_response()
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == final.output_text and events[-1].type == "response.completed"
    assert any(event.type == "response.reasoning_summary_text.delta" for event in events)
    assert [event.sequence_number for event in events] == sorted(event.sequence_number for event in events)


# What goes wrong


@check
def errors_are_of_the_right_class(client: OpenAI) -> None:
    for expected, fields in (
        (openai.BadRequestError, {"temperature": 3}),
        (openai.BadRequestError, {"messages": []}),
        (openai.NotFoundError, {"model": "no-such-model"}),
        (openai.InternalServerError, {"messages": user("POISON-500")}),
    ):
        asked = {"model": CHAT, "messages": user(QUESTION), **fields}
        error = refused(expected, client.chat.completions.create, **asked)
        assert error.request_id.startswith("req_") and error.body["message"]


def main(base_url: str) -> int:
    """Runs all checks; returns the exit status."""
    client = OpenAI(base_url=base_url, api_key="sk-of-no-use", max_retries=0, timeout=20)
    failed = 0
    for function in CHECKS:
        try:
            function(client)
        except Exception:
            failed += 1
            print(f"FAILED {function.__name__}", file=sys.stderr)
            traceback.print_exc()
        else:
            print(f"ok {function.__name__}")
    print(f"openai {openai.__version__}: {len(CHECKS) - failed} of {len(CHECKS)} checks: as it should be")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} BASE_URL")
    sys.exit(main(sys.argv[1]))
