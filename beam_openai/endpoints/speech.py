"""POST /audio/speech: a text of each row, spoken, one row a request."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import pyarrow as pa

from beam_openai import texts
from beam_openai.answers import Answer
from beam_openai.call import Endpoint, option
from beam_openai.client import Request, Response
from beam_openai.errors import BadAnswerError
from beam_openai.options import Column, check, check_choice

_MOST_CHARACTERS = 4096
_FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")


@dataclasses.dataclass(kw_only=True, eq=False)
class Speech(Endpoint):
    """Adds to each row the sound of one of its texts, spoken: `speech: binary`, the bytes of a file in `response_format`.

    Limits, by OpenAI's API reference: a text of 4,096 characters, and as many of `instructions`. One row a request. Rows
    that are null, empty or too long fail before anything is sent, and cost nothing. An answer that is not sound is asked
    for again, and fails its row in the end: kind `bad_answer`.

    Attributes:
      input: the column to speak: text.
      voice: whose voice, "alloy"; or {"id": ...} for one of your own.
      instructions: how to speak, a template over columns: "Cheerfully, in {language}". Not for tts-1 and tts-1-hd.
      output: the name of the column added.
      response_format: the sound's format; servers take mp3 if it is not set. "pcm" has no header: 16 bits, 24 kHz, mono.
      speed: 0.25 to 4; 1 is as people speak.
    """

    path: ClassVar[str] = "/audio/speech"
    row_fields: ClassVar[frozenset[str]] = frozenset({"input", "stream_format"})
    gives_files: ClassVar[bool] = True

    input: str = "text"
    voice: str | dict[str, Any] | Column = option(dataclasses.MISSING)
    instructions: str | None = None
    output: str = "speech"
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] | None = option()
    speed: float | Column | None = option()

    def __post_init__(self) -> None:
        if not self.voice or not isinstance(self.voice, str | dict | Column):
            raise ValueError(f"voice must be a voice's name, not {self.voice!r}")
        check_choice("response_format", self.response_format, _FORMATS)
        check("speed", self.speed, 0.25, 4)
        self._instructions = None
        if self.instructions is not None:
            self._instructions = texts.Template(self.instructions, "instructions")
            if "instructions" in self.params:
                raise ValueError("params must not hold 'instructions', which are set already")
        super().__post_init__()

    @property
    def inputs(self) -> list[str]:
        return list(dict.fromkeys([self.input, *(self._instructions.columns if self._instructions else ())]))

    @property
    def added(self) -> list[pa.Field]:
        return [pa.field("speech", pa.binary())]

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        found = texts.too_long(rows[self.input], self.input, _MOST_CHARACTERS)
        if self._instructions:
            found.update(texts.too_long(self._instructions.fill(rows), "instructions", _MOST_CHARACTERS))
            found.update(self._instructions.unusable(rows))
        return {**found, **texts.unusable(rows[self.input], self.input)}

    def prepared(self, rows: pa.Table) -> pa.Table:
        columns = {"input": rows[self.input]}
        if self._instructions:
            columns["instructions"] = self._instructions.fill(rows)
        return pa.table(columns)

    def request(self, rows: pa.Table) -> Request:
        said = {"input": rows["input"][0].as_py()}
        if self._instructions:
            said["instructions"] = rows["instructions"][0].as_py()
        return Request(self.path, {**self.options(rows), **said})

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.startswith("text/") or kind.endswith(("json", "xml")):
            raise BadAnswerError(f"{self.path}: the answer is {kind}, not sound")
        if not len(response.body):
            raise BadAnswerError(f"{self.path}: the answer is empty")
        return Answer([[bytes(response.body)]])
