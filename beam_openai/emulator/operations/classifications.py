"""POST /classifications: a query has the label of the nearest example, with a capital.

The ledger bills the query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from .. import logprobs
from ..calls import Answer, Call, Route
from ..files import File
from ..parameters import Check, check, given
from ..records import file_of, records
from ..replies import Reply, reply_json
from ..selecting import COMMON, PAIR, checks, ending, nearest, selected
from ..similarity import ranked
from ..state import State
from ..texts import check_poison
from ..wording import OLD
from ..writing import pieces
from .search import search_tokens

_SHOWN = 10  # examples that go into the prompt
_CHECKS: dict[str, Check] = {
    "query": checks.string(1),
    "examples": checks.array(2, 200, PAIR),
    "labels": checks.array(2, 200, checks.string(1)),
    "max_examples": checks.integer(1),
    **COMMON,
}
_FIELDS = ("model", *_CHECKS)


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    return [Route("POST", "/classifications", partial(_classifications, state))]


def _classifications(state: State, call: Call) -> Answer:
    fields = call.fields(_FIELDS)
    model = state.models.serving(fields.get("model"), "completion")
    check(fields, _CHECKS, ("query", "user"))
    if "query" not in fields:
        raise OLD.missing("query")
    state.models.serving(given(fields, "search_model", "ada"), "search")
    file = file_of(state, fields, "classifications", "examples")
    query, examples = fields["query"], fields.get("examples") or []
    texts = [text for text, _ in examples]
    check_poison([query, *texts])
    tokens = search_tokens(query, texts, state.options.bytes_per_token)
    write = partial(_write, state, fields, model.name, file)
    return Answer(model=model.name, tokens=tokens, inputs=(query,), scope=(call.path, model.name), write=write)


def _write(state: State, fields: Mapping[str, Any], model: str, file: File | None) -> Reply:
    given_examples = [{"text": text, "label": label} for text, label in fields.get("examples") or []]
    found = [
        {**record, "label": capitalised(record["label"])} for record in (records(file) if file else given_examples)
    ]
    query = fields["query"]
    places = nearest(query, found, min(_SHOWN, given(fields, "max_examples", 200)))
    label = _label(query, places, fields.get("labels"))
    many = fields.get("logprobs")
    scores = None
    if many is not None:
        scores = logprobs.of_completion(pieces(f" {label}", state.options.bytes_per_token), many, 0)
    completion = {
        "id": state.new_id("cmpl-"),
        "object": "text_completion",
        "created": int(state.clock.now()),
        "model": model,
        "choices": [{"text": f" {label}", "index": 0, "logprobs": scores, "finish_reason": "length"}],
    }
    metadata = bool(file and fields.get("return_metadata"))
    return reply_json(
        {
            "object": "classification",
            "model": model,
            "search_model": given(fields, "search_model", "ada"),
            "label": label,
            "selected_examples": selected(places, ("text", "label"), metadata),
            **ending(fields, completion, _prompt(query, places), file),
        }
    )


def capitalised(label: str) -> str:
    """The label as it is shown: its first letter a capital, the others small."""
    return label.strip().capitalize()


def _label(query: str, places: Sequence[tuple[int, Mapping[str, Any]]], labels: Sequence[str] | None) -> str:
    """The label of the nearest example that has one of `labels`; where none has, the label nearest to the query."""
    allowed = [capitalised(label) for label in labels or ()]
    for _, record in places:
        if not allowed or record["label"] in allowed:
            return str(record["label"])
    return allowed[ranked(query, allowed)[0][0]]


def _prompt(query: str, places: Sequence[tuple[int, Mapping[str, Any]]]) -> str:
    """What the label completes: the examples, the nearest last."""
    shown = [f"{record['text']}\nCategory: {record['label']}" for _, record in reversed(places)]
    return "\n---\n".join([*shown, f"{query}\nCategory:"])
