"""Requests for texts, each right but for what is broken in it at random: answered or refused, and nothing else."""

import asyncio
import copy
import json
import random

import pytest

from beam_openai.emulator.calls import Call
from beam_openai.emulator.operations import answers, chat, classifications, completions, edits, responses, search
from beam_openai.emulator.options import Options
from beam_openai.emulator.replies import Refusal
from beam_openai.emulator.state import State

SCHEMA = {
    "type": "object",
    "properties": {
        "a": {"type": "string", "pattern": "^a+$"},
        "b": {"anyOf": [{"$ref": "#/$defs/q"}, {"type": "null"}]},
        "c": {"type": "array", "items": {"type": "integer", "enum": [1, 2]}, "minItems": 1},
    },
    "required": ["a", "b", "c"],
    "additionalProperties": False,
    "$defs": {"q": {"type": "integer", "minimum": 1, "multipleOf": 2}},
}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PARTS = [
    {"type": "text", "text": "CALL-TOOL"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    {"type": "file", "file": {"file_id": "f"}},
]
ITEMS = [
    {
        "role": "user",
        "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "https://a"}],
    },
    {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "x"}]},
    {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "a"}]},
    {"type": "web_search_call", "id": "w"},
    {"role": "user", "content": "CALL-TOOL json"},
]
RIGHT = {
    chat: {
        "model": "gpt-4o",
        "messages": [
            {"role": "user", "name": "x", "content": PARTS},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "1", "content": "x"},
            {"role": "user", "content": "json CALL-TOOL"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}},
            {"type": "custom", "custom": {"name": "g"}},
        ],
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "custom", "custom": {"name": "g"}}]},
        },
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}},
        "n": 2,
        "logprobs": True,
        "top_logprobs": 2,
        "stop": ["a"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "metadata": {"a": "b"},
        "logit_bias": {"1": 2},
        "max_tokens": 20,
    },
    completions: {
        "model": "davinci-002",
        "prompt": ["a", ""],
        "suffix": "b",
        "n": 2,
        "best_of": 3,
        "logprobs": 2,
        "echo": True,
        "stop": "a",
    },
    responses: {
        "model": "gpt-5",
        "input": ITEMS,
        "instructions": "b",
        "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}, "verbosity": "low"},
        "tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}, {"type": "web_search"}],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "stream": True,
        "max_output_tokens": 300,
    },
    edits: {"model": "text-davinci-edit-001", "input": "a", "instruction": "b", "n": 2},
    search: {"query": "a", "documents": ["b", "c"], "max_rerank": 3, "return_metadata": True, "user": "u"},
    answers: {
        "model": "ada",
        "question": "a",
        "examples": [["a", "b"]],
        "examples_context": "c",
        "documents": ["a"],
        "stop": ["x"],
        "n": 2,
        "logprobs": 2,
        "expand": ["completion"],
        "return_prompt": True,
    },
    classifications: {
        "model": "ada",
        "query": "a",
        "examples": [["a", "b"], ["c", "d"]],
        "labels": ["x", "y"],
        "logprobs": 1,
        "max_examples": 3,
    },
}
NUMBERS = [0, -1, 1, 2.5, 1e300, 10**30]
TEXTS = ["", "a", "\x00", "auto", "text", "function", "user", "x" * 70]
VALUES = [None, True, False, *NUMBERS, *TEXTS, [], [[]], [None], ["a"], [1], {}, {"a": 1}, {"type": "function"}]
VALUES += [{"type": "object"}, {"$ref": "#"}, {"type": "text", "text": "b"}, [{}]]


def places(value, path=()):
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def broken(body, chance):
    """The body with one to three of its values taken out, changed, or added."""
    body = copy.deepcopy(body)
    for _ in range(chance.choice((1, 1, 2, 3))):
        *path, last = chance.choice(list(places(body)) or [("a",)])
        inner = body
        for key in path:
            inner = inner[key]
        value = copy.deepcopy(chance.choice(VALUES))
        if isinstance(inner, dict) and chance.random() < 0.1:
            inner["extra"] = value
        elif chance.random() < 0.25:
            inner.pop(last, None) if isinstance(inner, dict) else inner.pop(last)
        else:
            inner[last] = value
    return body


async def sent(pieces):
    return b"".join([piece async for piece in pieces])


def status(route, body):
    """What becomes of a request: 200 with a body that can be read, or a refusal's status."""
    data = json.dumps(body).encode()
    call = Call(method="POST", path=route.path, query={}, headers={}, body=data, ids={"engine_id": "ada"})
    try:
        answer = route.answer(call)
    except Refusal as refusal:
        return refusal.reply("openai").status
    assert len({*answer.inputs}) <= len(answer.inputs) and answer.tokens >= 0
    reply = answer.write()
    if reply.stream is None:
        json.loads(reply.body)
    else:
        assert b"data: " in asyncio.run(sent(reply.stream))
    return reply.status


@pytest.mark.parametrize("operation", RIGHT, ids=lambda operation: operation.__name__.rpartition(".")[2])
def test_what_is_broken_is_answered_or_refused(operation):
    route = operation.routes(State(Options()))[0]
    chance = random.Random(operation.__name__)
    assert status(route, RIGHT[operation]) == 200
    found = {status(route, broken(RIGHT[operation], chance)) for _ in range(500)}
    assert {200, 400} <= found <= {200, 400, 404}
