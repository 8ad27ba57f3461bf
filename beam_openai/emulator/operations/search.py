"""POST /engines/{engine_id}/search: documents are scored by the words that they share with the query.

The ledger bills the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..calls import Answer, Call, Route
from ..files import File
from ..parameters import Check, Parameters, check, given
from ..records import file_of, records
from ..replies import Refusal, Reply, reply_json
from ..similarity import ranked, scores
from ..state import State
from ..texts import check_poison, count_tokens
from ..wording import OLD

_MOST_TOKENS = 2034  # of a document and the query together
_PER_DOCUMENT = 14
_checks = Parameters(OLD)
_CHECKS: dict[str, Check] = {
    "query": _checks.string(1),
    "documents": _checks.array(1, 200, _checks.string()),
    "file": _checks.string(),
    "max_rerank": _checks.integer(1),
    "return_metadata": _checks.boolean,
    "user": _checks.string(),
}


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    return [Route("POST", "/engines/{engine_id}/search", partial(_search, state))]


def _search(state: State, call: Call) -> Answer:
    fields = call.fields(tuple(_CHECKS))
    model = state.models.serving(call.ids["engine_id"], "search")
    check(fields, _CHECKS, ("query", "user"))
    if "query" not in fields:
        raise OLD.missing("query")
    file = file_of(state, fields, "search", "documents")
    query, documents = fields["query"], fields.get("documents") or []
    tokens = search_tokens(query, documents, state.options.bytes_per_token)
    check_poison([query, *documents])
    write = partial(_write, model.name, query, documents)
    if file is not None:
        most, metadata = given(fields, "max_rerank", 200), given(fields, "return_metadata", False)
        write = partial(_write_file, model.name, query, file, most, metadata)
    scope = ("/engines/{engine_id}/search", model.name)
    return Answer(model=model.name, tokens=tokens, inputs=(query,), scope=scope, write=write)


def search_tokens(query: str, documents: Sequence[str], bytes_per_token: float) -> int:
    """What a search is charged: the query and a little more for each document, and the documents.

    Raises:
        Refusal: a document is too long, together with the query.
    """
    asked = count_tokens(query, bytes_per_token)
    counts = [count_tokens(document, bytes_per_token) for document in documents]
    for index, count in enumerate(counts):
        if count > _MOST_TOKENS - asked:
            raise Refusal(
                400,
                f"This model's maximum context length is {_MOST_TOKENS} tokens, however you requested {count + asked} "
                f"tokens ({count} in document {index}; {asked} in the query). Please reduce your document or your query.",
            )
    return sum(counts) + (len(counts) + 1) * (_PER_DOCUMENT + asked)


def _write(model: str, query: str, documents: Sequence[str]) -> Reply:
    data = [_result(index, score) for index, score in enumerate(scores(query, documents))]
    return reply_json({"object": "list", "data": data, "model": model})


def _write_file(model: str, query: str, file: File, most: int, with_metadata: bool) -> Reply:
    """The nearest documents of a file, with their texts."""
    found = records(file)
    data = []
    for index, score in ranked(query, [record["text"] for record in found])[:most]:
        metadata = {"metadata": found[index].get("metadata", "")} if with_metadata else {}
        data.append({**_result(index, score), "text": found[index]["text"], **metadata})
    return reply_json({"object": "list", "data": data, "model": model})


def _result(index: int, score: float) -> dict[str, Any]:
    return {"object": "search_result", "document": index, "score": score}
