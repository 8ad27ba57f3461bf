"""What endpoints that listen say of themselves alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pyarrow as pa

from beam_openai.answers import Answer
from beam_openai.client import Request, Response
from beam_openai.contract import Contract
from beam_openai.recordings.heard import Format
from beam_openai.recordings.sent import EXTENSIONS, Recordings
from beam_openai.tokens import Counts


class Recorded(Contract):
    """One recording a row goes in, and what was heard comes out."""

    main_input: ClassVar[str] = "audio"
    row_fields: ClassVar[frozenset[str]] = frozenset({"file", "stream"})
    takes_files: ClassVar[frozenset[str]] = EXTENSIONS

    _recordings: Recordings
    _format: Format

    @property
    def inputs(self) -> list[str]:
        return self._recordings.inputs

    @property
    def optional_inputs(self) -> list[str]:
        return self._recordings.optional_inputs

    @property
    def added(self) -> list[pa.Field]:
        return self._format.added

    @property
    def is_text(self) -> bool:
        return False

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        return self._recordings.unusable(rows)

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        return self._recordings.tokens(rows, count)

    def audio_bytes(self, rows: pa.Table) -> Counts | float:
        return self._recordings.sizes(rows)

    def request(self, rows: pa.Table) -> Request:
        return Request(self.path, self._recordings.form(self.options(rows), rows))

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        return self._format.read(response, self.path)
