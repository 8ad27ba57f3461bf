"""POST /answers: each row's question answered from documents and by example, one row a request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import msgspec
import pyarrow as pa

from beam_openai import answers, texts
from beam_openai.answers import Answer
from beam_openai.call import Endpoint, option
from beam_openai.client import Request, Response
from beam_openai.documents import Texts, beside, check_expanded, invalid_texts, one_source, selected, tokens, written
from beam_openai.errors import BadAnswerError
from beam_openai.options import Column, check, check_sampling, column, number
from beam_openai.tokens import Counts

_DOCUMENTS = Texts("documents", least=0)
_EXAMPLES = Texts("examples", least=1, pairs=True)
_MAX_TOKENS = 16


@dataclasses.dataclass(kw_only=True, eq=False)
class Answers(Endpoint):
    """Adds to each row the answers to its question, `answers: list<string>`, and the documents that they were made from.

    Those are `selected_documents: list<struct<document, text>>` (`document: int64`, the place in the list or file, from 0;
    with `return_metadata` also `metadata: string`); null where a server does not name them. Where they are asked for by
    `logprobs`, `return_prompt` or `expanded`, there are `completion` and `file` (both JSON)
    and `prompt: string`.

    Limits, by OpenAI's API reference: 1 to 200 examples, at most 200 documents (none: by the examples alone), or a file. One
    row a request. Rows without a question, or with a list that cannot be sent, fail before anything is sent and cost
    nothing. OpenAI removed this endpoint in December 2022: it is for servers that have it.

    Attributes:
      question: the column to answer: text.
      examples: pairs of a question and its answer, for all rows; or the name of a column with each row's: lists of lists of
        two texts, or of structs of two. Default the column `examples`.
      examples_context: a text that the examples are answered from, or `column(NAME)` for each row's. Default the column
        `examples_context`.
      documents: a list of texts for all rows, or the name of a column with each row's. Default the column `documents`,
        unless there is a file.
      file: in place of documents, the id of an uploaded file.
      output: the name of the column `answers`; or names for any of the columns added, by their own.
      search_model: the model that chooses among the documents.
      max_rerank: documents of a file that are looked at, at most.
      temperature: 0 to 2.
      logprobs: so many of the likeliest tokens at each place, 0 to 5; they are in `completion`.
      max_tokens: tokens of an answer at most; servers take 16 if it is not set.
      stop: up to four texts that end an answer.
      n: answers to each question, up to 10.
      logit_bias: -100 to 100 for ids of tokens: how much likelier each is to be.
      return_metadata: whether to add what a file holds beside each text.
      return_prompt: whether to add the prompt that was made of it all.
      expanded: a list of "completion", "file" or both: what to add whole, and not by its id; the API calls it `expand`.
      user: an end user's id, passed on for abuse monitoring.
    """

    path: ClassVar[str] = "/answers"
    main_input: ClassVar[str] = "question"
    row_fields: ClassVar[frozenset[str]] = frozenset({"question"})

    question: str = "question"
    examples: list[Any] | str | Column | None = option()
    examples_context: str | Column | None = option()
    documents: list[str] | str | Column | None = option()
    file: str | Column | None = option()
    output: str | dict[str, str] = "answers"
    search_model: str | Column | None = option()
    max_rerank: int | Column | None = option()
    temperature: float | Column | None = option()
    logprobs: int | None = option()
    max_tokens: int | Column | None = option()
    stop: str | list[str] | Column | None = option()
    n: int | Column | None = option()
    logit_bias: dict[str, float] | None = option()
    return_metadata: bool | None = option()
    return_prompt: bool | None = option()
    # Not by the API's name: transforms of Beam have a method of that.
    expanded: list[Literal["completion", "file"]] | None = option(sent_as="expand")
    user: str | Column | None = option()

    def __post_init__(self) -> None:
        self.examples = _EXAMPLES.option(self.examples)
        self.documents = _DOCUMENTS.option(self.documents)
        check("logprobs", self.logprobs, 0, 5, whole=True)
        check("n", self.n, 1, 10, whole=True)
        for name in ("max_rerank", "max_tokens"):
            check(name, getattr(self, name), 1, float("inf"), whole=True)
        check_sampling(self)
        super().__post_init__()
        check_expanded(self.expanded, self.params)
        self.documents = one_source("documents", self.documents, self.file, self.params)
        for name in ("examples", "examples_context"):
            if getattr(self, name) is None and name not in self.params:
                setattr(self, name, column(name))

    @property
    def inputs(self) -> list[str]:
        return [self.question]

    @property
    def added(self) -> list[pa.Field]:
        fields = [("document", pa.int64()), ("text", pa.string())]
        if self.return_metadata:
            fields.append(("metadata", pa.string()))
        return [
            pa.field("answers", pa.list_(pa.string())),
            pa.field("selected_documents", pa.list_(pa.struct(fields))),
            *(pa.field(name, pa.string()) for name in beside(self.options())),
        ]

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        return {
            **invalid_texts(rows, self.file, self.examples_context),
            **_EXAMPLES.invalid(self.examples, rows),
            **_DOCUMENTS.invalid(self.documents, rows),
            **texts.unusable(rows[self.question], self.question),
        }

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        return tokens(rows, count, self.question, self.documents, self.examples, self.examples_context)

    def answer_tokens(self, rows: pa.Table) -> Counts | float:
        most: Counts | float = number(self.max_tokens, _MAX_TOKENS, rows) * number(self.n, 1, rows)
        return most

    def request(self, rows: pa.Table) -> Request:
        body = {**self.options(rows), "question": rows[self.question][0].as_py()}
        if self.examples is not None:
            body["examples"] = _EXAMPLES.sent(body["examples"])
        return Request(self.path, body)

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        said = answers.decode(response.body, _decoder, self.path)
        found, wanted = said.get("answers"), self.options(rows).get("n", 1)
        if not isinstance(found, list) or not all(isinstance(answer, str) for answer in found):
            raise BadAnswerError(f"{self.path}: the answer holds no list of answers")
        if len(found) != wanted:
            raise BadAnswerError(f"{self.path}: {len(found)} answers where {wanted} were asked for")
        values = [pa.array([found], self.added[0].type), selected(said.get("selected_documents"), self.added[1].type)]
        values += [pa.array([written(said.get(name))], pa.string()) for name in beside(self.options())]
        return Answer(values, {}, **answers.usage_of(said.get("usage")))


_decoder = msgspec.json.Decoder(dict[str, Any])
