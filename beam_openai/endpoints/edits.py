"""POST /edits: a text of each row, changed as an instruction says, one row a request."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import msgspec
import pyarrow as pa

from beam_openai import answers, texts
from beam_openai.answers import Answer, Bad
from beam_openai.call import Endpoint, option
from beam_openai.client import Request, Response
from beam_openai.options import Column, check, check_sampling


@dataclasses.dataclass(kw_only=True, eq=False)
class Edits(Endpoint):
    """Adds to each row one of its texts, changed as an instruction says: `edited: string`; where `n` is set, a list of n.

    One row a request. A null text fails before anything is sent and costs nothing; an empty one is sent, for a model may
    write what it is told to. OpenAI removed this endpoint in January 2024: it is for servers that have it.

    Attributes:
      input: the column to change: text.
      instruction: what to do with it, a template over columns: "Translate to {language}".
      output: the name of the column added.
      n: edits for each row, up to 20.
      temperature: from 0, always the likeliest token, to 2.
      top_p: only the likeliest tokens, which have this share of the probability: 0 to 1.
    """

    path: ClassVar[str] = "/edits"
    row_fields: ClassVar[frozenset[str]] = frozenset({"input", "instruction"})

    input: str = "text"
    instruction: str
    output: str = "edited"
    n: int | None = option()
    temperature: float | Column | None = option()
    top_p: float | Column | None = option()

    def __post_init__(self) -> None:
        self._instruction = texts.Template(self.instruction, "instruction")
        check("n", self.n, 1, 20, whole=True)
        check_sampling(self)
        super().__post_init__()

    @property
    def inputs(self) -> list[str]:
        return list(dict.fromkeys([self.input, *self._instruction.columns]))

    @property
    def added(self) -> list[pa.Field]:
        return [pa.field("edited", pa.list_(pa.string()) if self.n is not None else pa.string())]

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        return {**self._instruction.unusable(rows), **texts.unusable(rows[self.input], self.input, empty=True)}

    def prepared(self, rows: pa.Table) -> pa.Table:
        return pa.table({"input": rows[self.input], "instruction": self._instruction.fill(rows)})

    def request(self, rows: pa.Table) -> Request:
        said = {name: rows[name][0].as_py() for name in ("input", "instruction")}
        return Request(self.path, {**self.options(rows), **said})

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        answer = answers.decode(response.body, _decoder, self.path)
        usage: Any = answers.usage_of(answer.usage)
        indexes = [choice.index for choice in answer.choices]
        edits = [choice.text for choice in answers.in_order(answer.choices, indexes, self.n or 1, self.path)]
        if not all(isinstance(text, str) for text in edits):
            return Answer([], {0: Bad("the answer has no text", bytes(response.body))}, **usage)
        return Answer([[edits if self.n is not None else edits[0]]], **usage)


class _Choice(msgspec.Struct):
    text: Any = None
    index: Any = None


class _Edit(msgspec.Struct):
    choices: list[_Choice]
    usage: Any = None


_decoder = msgspec.json.Decoder(_Edit)
