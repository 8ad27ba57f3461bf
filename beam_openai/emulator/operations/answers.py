"""POST /answers: the question is answered with the nearest document, or as the nearest example was.

The ledger bills the question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from .. import logprobs
from ..calls import Answer, Call, Route
from ..files import File
from ..parameters import Check, check, given, stops
from ..records import file_of, records
from ..replies import Reply, reply_json
from ..selecting import COMMON, PAIR, checks, ending, nearest, selected
from ..similarity import ranked
from ..state import State
from ..texts import check_poison
from ..wording import OLD
from ..writing import Written, finish, pieces, variant
from .search import search_tokens

_SELECTED = 3  # documents that go into the prompt
_CHECKS: dict[str, Check] = {
    "question": checks.string(1),
    "examples": checks.array(1, 200, PAIR),
    "examples_context": checks.string(),
    "documents": checks.array(0, 200, checks.string()),
    "max_rerank": checks.integer(1),
    "max_tokens": checks.integer(0),
    "stop": checks.stop,
    "n": checks.integer(1, 10),
    **COMMON,
}
_REQUIRED = ("question", "examples", "examples_context")
_FIELDS = ("model", *_CHECKS)


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    return [Route("POST", "/answers", partial(_answers, state))]


def _answers(state: State, call: Call) -> Answer:
    fields = call.fields(_FIELDS)
    model = state.models.serving(fields.get("model"), "completion")
    check(fields, _CHECKS, (*_REQUIRED, "user"))
    for name in _REQUIRED:
        if name not in fields:
            raise OLD.missing(name)
    state.models.serving(given(fields, "search_model", "ada"), "search")
    file = file_of(state, fields, "answers", "documents")
    question, documents = fields["question"], fields.get("documents") or []
    said = [question, fields["examples_context"], *(text for pair in fields["examples"] for text in pair)]
    check_poison([*said, *documents])
    size = state.options.bytes_per_token
    searched = search_tokens(question, documents, size)
    tokens = searched + given(fields, "max_tokens", 16) * given(fields, "n", 1)
    write = partial(_write, state, fields, model.name, documents, file, searched)
    return Answer(model=model.name, tokens=tokens, inputs=(question,), scope=(call.path, model.name), write=write)


def _write(
    state: State, fields: Mapping[str, Any], model: str, documents: Sequence[str], file: File | None, searched: int
) -> Reply:
    found: Sequence[Mapping[str, Any]] = records(file) if file else [{"text": text} for text in documents]
    places = nearest(fields["question"], found, min(_SELECTED, given(fields, "max_rerank", 200)))
    size, n = state.options.bytes_per_token, given(fields, "n", 1)
    written = [_written(fields, [record["text"] for _, record in places], index, size) for index in range(n)]
    completion = {
        "id": state.new_id("cmpl-"),
        "object": "text_completion",
        "created": int(state.clock.now()),
        "model": model,
        "choices": [_choice(fields, each, index, size) for index, each in enumerate(written)],
    }
    metadata = bool(file and fields.get("return_metadata"))
    return reply_json(
        {
            "object": "answer",
            "model": model,
            "search_model": given(fields, "search_model", "ada"),
            "answers": [each.text for each in written],
            "selected_documents": selected(places, ("text",), metadata),
            **ending(fields, completion, _prompt(fields, places), file),
        },
        tokens=searched + sum(each.tokens for each in written),
    )


def _written(fields: Mapping[str, Any], texts: Sequence[str], index: int, size: float) -> Written:
    """The answer of that index: at temperature 0 they are all from the nearest text."""
    if not texts:
        examples = fields["examples"]
        order = ranked(fields["question"], [question for question, _ in examples])
        texts = [examples[place][1] for place, _ in order]
    choice = variant(index, given(fields, "temperature", 0), None)
    return finish(texts[choice % len(texts)].strip(), stops(fields), given(fields, "max_tokens", 16), size)


def _choice(fields: Mapping[str, Any], written: Written, index: int, size: float) -> dict[str, Any]:
    many = fields.get("logprobs")
    scores = None if many is None else logprobs.of_completion(pieces(written.text, size), many, 0)
    return {"text": written.text, "index": index, "logprobs": scores, "finish_reason": written.finish_reason}


def _prompt(fields: Mapping[str, Any], places: Sequence[tuple[int, Mapping[str, Any]]]) -> str:
    """What the answer completes: the examples behind their context, the question behind the documents."""
    asked = [f"Q: {question}\nA: {answer}" for question, answer in fields["examples"]]
    context = "\n".join(record["text"] for _, record in places)
    return "\n===\n".join(
        [f"Context: {fields['examples_context']}", *asked, f"Context: {context}", f"Q: {fields['question']}\nA:"]
    )
