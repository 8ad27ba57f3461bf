"""POST /classifications: a label for each row by labelled examples, one row a request."""

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
from beam_openai.options import Column, check, check_sampling
from beam_openai.tokens import Counts

_EXAMPLES = Texts("examples", least=2, pairs=True)
_LABELS = Texts("labels", least=2)


@dataclasses.dataclass(kw_only=True, eq=False)
class Classifications(Endpoint):
    """Adds to each row the label that its text has by labelled examples, `label: string`, and those that were looked at.

    These are `selected_examples: list<struct<document, text, label>>` (`document: int64`, the place in the list or file,
    from 0; with `return_metadata` also `metadata: string`); null where a server does not name them. OpenAI writes labels
    with a capital, whatever the examples have. Where they are asked for by `logprobs`, `return_prompt` or
    `expanded`, there are `completion` and `file` (both JSON) and `prompt: string`.

    Limits, by OpenAI's API reference: 2 to 200 examples, or a file; 2 to 200 labels. One row a request. Rows without a text,
    or with a list that cannot be sent, fail before anything is sent and cost nothing. OpenAI removed this endpoint in
    December 2022: it is for servers that have it.

    Attributes:
      query: the column to classify: text.
      examples: pairs of a text and its label, for all rows; or the name of a column with each row's: lists of lists of two
        texts, or of structs of two. Default the column `examples`, unless there is a file.
      file: in place of examples, the id of an uploaded file.
      labels: a list of all labels, or the name of a column with each row's; unset, those of the examples.
      output: the name of the column `label`; or names for any of the columns added, by their own.
      search_model: the model that chooses among the examples.
      temperature: 0 to 2.
      logprobs: so many of the likeliest tokens at each place, 0 to 5; they are in `completion`.
      max_examples: examples of a file that are looked at, at most.
      logit_bias: -100 to 100 for ids of tokens: how much likelier each is to be.
      return_metadata: whether to add what a file holds beside each text.
      return_prompt: whether to add the prompt that was made of it all.
      expanded: a list of "completion", "file" or both: what to add whole, and not by its id; the API calls it `expand`.
      user: an end user's id, passed on for abuse monitoring.
    """

    path: ClassVar[str] = "/classifications"
    main_input: ClassVar[str] = "query"
    row_fields: ClassVar[frozenset[str]] = frozenset({"query"})

    query: str = "query"
    examples: list[Any] | str | Column | None = option()
    file: str | Column | None = option()
    labels: list[str] | str | Column | None = option()
    output: str | dict[str, str] = "label"
    search_model: str | Column | None = option()
    temperature: float | Column | None = option()
    logprobs: int | None = option()
    max_examples: int | Column | None = option()
    logit_bias: dict[str, float] | None = option()
    return_metadata: bool | None = option()
    return_prompt: bool | None = option()
    # Not by the API's name: transforms of Beam have a method of that.
    expanded: list[Literal["completion", "file"]] | None = option(sent_as="expand")
    user: str | Column | None = option()

    def __post_init__(self) -> None:
        self.examples = _EXAMPLES.option(self.examples)
        self.labels = _LABELS.option(self.labels)
        check("logprobs", self.logprobs, 0, 5, whole=True)
        check("max_examples", self.max_examples, 1, float("inf"), whole=True)
        check_sampling(self)
        super().__post_init__()
        check_expanded(self.expanded, self.params)
        self.examples = one_source("examples", self.examples, self.file, self.params)

    @property
    def inputs(self) -> list[str]:
        return [self.query]

    @property
    def added(self) -> list[pa.Field]:
        fields = [("document", pa.int64()), ("text", pa.string()), ("label", pa.string())]
        if self.return_metadata:
            fields.append(("metadata", pa.string()))
        return [
            pa.field("label", pa.string()),
            pa.field("selected_examples", pa.list_(pa.struct(fields))),
            *(pa.field(name, pa.string()) for name in beside(self.options())),
        ]

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        return {
            **invalid_texts(rows, self.file),
            **_EXAMPLES.invalid(self.examples, rows),
            **_LABELS.invalid(self.labels, rows),
            **texts.unusable(rows[self.query], self.query),
        }

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        return tokens(rows, count, self.query, self.examples, self.labels)

    def request(self, rows: pa.Table) -> Request:
        body = {**self.options(rows), "query": rows[self.query][0].as_py()}
        if self.examples is not None:
            body["examples"] = _EXAMPLES.sent(body["examples"])
        return Request(self.path, body)

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        said = answers.decode(response.body, _decoder, self.path)
        label = said.get("label")
        if not isinstance(label, str) or not label:
            raise BadAnswerError(f"{self.path}: the answer holds no label")
        values = [pa.array([label]), selected(said.get("selected_examples"), self.added[1].type)]
        values += [pa.array([written(said.get(name))], pa.string()) for name in beside(self.options())]
        return Answer(values, {}, **answers.usage_of(said.get("usage")))


_decoder = msgspec.json.Decoder(dict[str, Any])
