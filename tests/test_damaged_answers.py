"""Right answers with anything anywhere in them: columns come of them, or an error that fails rows, and nothing else."""

from __future__ import annotations

import copy
import json

import pyarrow as pa
import pytest
import requests
from cases import CASES

from beam_openai.client import Response
from beam_openai.errors import BadAnswerError

pytestmark = pytest.mark.usefixtures("clean")

ANYTHING = [
    None,
    [],
    {},
    "",
    "x",
    0,
    -1,
    1.5,
    2**63,
    1e308,
    True,
    [None],
    [[]],
    [{}],
    [1, "a"],
    {"a": {}},
    [{"text": 5}],
]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "sizes": {"type": "array", "items": {"type": "integer"}}},
}
OPTIONS = {
    "ChatCompletions": [{}, {"n": 2, "logprobs": True, "top_logprobs": 1, "max_tokens": 2}, {"schema": SCHEMA}],
    "Completions": [{}, {"n": 2, "logprobs": 1, "max_tokens": 2}],
    "Responses": [{"items": True, "store": True}, {"schema": SCHEMA}],
    "Edits": [{"n": 2}],
    "Answers": [{"n": 2, "return_prompt": True, "logprobs": 1, "return_metadata": True}],
    "Classifications": [{"return_prompt": True, "logprobs": 1, "return_metadata": True}],
    "Search": [{"return_metadata": True}],
}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ITEMS = [
    {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
    {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]},
]


def places(value, path=()):
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for name, part in inner:
        yield from places(part, (*path, name))


def with_at(value, path, other):
    value = copy.deepcopy(value)
    at = value
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = other
    return value


def check(endpoint, body, rows):
    """What the bundle makes of an answer: arrays of the types that are declared, one value for each row."""
    try:
        answer = endpoint.columns(Response(200, {}, json.dumps(body).encode(), 0.1), rows)
    except BadAnswerError:
        return
    if len(answer.bad) == rows.num_rows:
        return
    for column, field in zip(answer.columns, endpoint.fields, strict=True):
        array = pa.array(column, field.type) if isinstance(column, list) else column
        array.validate(full=True)
        assert len(array) == rows.num_rows and (array.type == field.type or pa.types.is_struct(field.type))
    assert {type(n) for n in (answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens)} <= {
        int,
        type(None),
    }


@pytest.mark.parametrize(
    ("case", "options"),
    [
        pytest.param(case, options, id=f"{case.kind.__name__}-{number}")
        for case in CASES
        if not case.is_form and not case.kind.gives_files and case.kind.__name__ not in ("Images", "Embeddings")
        for number, options in enumerate(OPTIONS.get(case.kind.__name__, [{}]))
    ],
)
def test_an_answer_with_anything_anywhere_in_it_never_stops_a_job(case, options, emulator):
    endpoint = case.make(emulator, **options)
    rows = endpoint.prepared(pa.Table.from_pylist([case.row(n) for n in range(min(2, endpoint.batch_size))]))
    asked = endpoint.request(rows)
    good = requests.post(emulator.base_url + asked.path, json=asked.body, timeout=60).json()
    if "message" in good.get("choices", [{}])[0] and "schema" not in options:
        good["choices"][0]["message"].update(tool_calls=[CALL], function_call=CALL["function"], content=[{"text": "a"}])
    if isinstance(good.get("output"), list):
        good["output"] += ITEMS
    check(endpoint, good, rows)
    for path in list(places(good))[1:]:
        for anything in ANYTHING:
            check(endpoint, with_at(good, path, anything), rows)
