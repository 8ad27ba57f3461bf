"""POST /engines/{model}/search: how well each of some documents fits a row's query, one row a request."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import pyarrow as pa

from beam_openai import answers, texts
from beam_openai.answers import Answer
from beam_openai.call import Endpoint, option
from beam_openai.client import Request, Response, segment
from beam_openai.documents import Texts, invalid_texts, one_source, place, tokens, written
from beam_openai.errors import BadAnswerError
from beam_openai.options import Column, check
from beam_openai.tokens import Counts

_DOCUMENTS = Texts("documents", least=1)


@dataclasses.dataclass(kw_only=True, eq=False)
class Search(Endpoint):
    """Adds to each row the documents by how well they fit its query: `results: list<struct<document, score, text>>`.

    The best come first; those of the same score in the server's order. `document: int64` is the place in the list that was
    sent (or in the file), from 0; `score: double` is from 0 to about 300, above 200 for what means the same; `text: string`
    is the document, null where a server does not repeat what its file holds. With `return_metadata` there is `metadata:
    string` too.

    Limits, by OpenAI's API reference: 1 to 200 documents, or a file; a document of 2,034 tokens less those of the query. One
    row a request. Rows without a query, or with a list that cannot be sent, fail before anything is sent and cost nothing.
    OpenAI removed this endpoint in December 2022: it is for servers that have it.

    Attributes:
      query: the column to search for: text.
      documents: a list of texts for all rows, or the name of a column with each row's. Default the column `documents`,
        unless there is a file.
      file: in place of documents, the id of an uploaded file.
      output: the name of the column added.
      max_rerank: documents of a file that are looked at, and returned, at most.
      return_metadata: whether to add what a file holds beside each text.
      user: an end user's id, passed on for abuse monitoring.
    """

    path: ClassVar[str] = "/engines/{model}/search"
    main_input: ClassVar[str] = "query"
    row_fields: ClassVar[frozenset[str]] = frozenset({"query"})

    query: str = "query"
    documents: list[str] | str | Column | None = option()
    file: str | Column | None = option()
    output: str = "results"
    max_rerank: int | Column | None = option()
    return_metadata: bool | None = option()
    user: str | Column | None = option()

    def __post_init__(self) -> None:
        self.documents = _DOCUMENTS.option(self.documents)
        check("max_rerank", self.max_rerank, 1, float("inf"), whole=True)
        super().__post_init__()
        if isinstance(self.model, str):
            segment(self.model)
        self.documents = one_source("documents", self.documents, self.file, self.params)

    @property
    def inputs(self) -> list[str]:
        return [self.query]

    @property
    def added(self) -> list[pa.Field]:
        fields = [("document", pa.int64()), ("score", pa.float64()), ("text", pa.string())]
        if self.return_metadata:
            fields.append(("metadata", pa.string()))
        return [pa.field("results", pa.list_(pa.struct(fields)))]

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        found = invalid_texts(rows, self.model, self.file)
        if isinstance(self.model, Column):
            for row, name in enumerate(rows[self.model.name]):
                if row not in found and name.as_py() in (".", ".."):
                    found[row] = f"{self.model.name} is not a model's name"
        found.update(_DOCUMENTS.invalid(self.documents, rows))
        return {**found, **texts.unusable(rows[self.query], self.query)}

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        return tokens(rows, count, self.query, self.documents)

    def request(self, rows: pa.Table) -> Request:
        body = {**self.options(rows), "query": rows[self.query][0].as_py()}
        model = rows[self.model.name][0].as_py() if isinstance(self.model, Column) else self.model
        if "model" not in self.params:
            del body["model"]
        return Request(self.path.format(model=segment(model)), body)

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        said = answers.decode(response.body, _decoder, self.path)
        asked = self.options(rows)
        given = asked.get("documents")
        results = [_read(item, given) for item in said.data]
        if len({result["document"] for result in results}) < len(results):
            raise BadAnswerError(f"{self.path}: the answer scores a document twice")
        if given is not None and "max_rerank" not in asked and len(results) < len(given):
            raise BadAnswerError(f"{self.path}: {len(results)} scores where {len(given)} documents were sent")
        results.sort(key=lambda result: -result["score"])
        return Answer([pa.array([results], self.added[0].type)], {}, **answers.usage_of(said.usage))


class _Item(msgspec.Struct):
    document: Any = None
    score: Any = None
    text: Any = None
    metadata: Any = None


class _Results(msgspec.Struct):
    data: list[_Item]
    usage: Any = None


_decoder = msgspec.json.Decoder(_Results)


def _read(item: _Item, given: list[str] | None) -> dict[str, Any]:
    """One result as the column has it.

    Raises:
      BadAnswerError: it is of no document that was sent, or has no score.
    """
    document = place(item.document)
    if document is None or (given is not None and document >= len(given)):
        raise BadAnswerError(f"{Search.path}: the answer scores a document that was not sent")
    is_number = isinstance(item.score, int | float) and not isinstance(item.score, bool)
    if not is_number or abs(item.score) > sys.float_info.max:
        raise BadAnswerError(f"{Search.path}: the answer has no score for document {document}")
    text = item.text if given is None else given[document]
    return {
        "document": document,
        "score": float(item.score),
        "text": written(text),
        "metadata": written(item.metadata),
    }
