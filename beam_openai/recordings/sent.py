"""Recordings as they are sent: which cannot be, and as the file of a form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_openai import media, texts
from beam_openai.client import File, Form, StoredFile, form_fields, guess
from beam_openai.options import Column
from beam_openai.tokens import Counts, as_plain

EXTENSIONS = frozenset({"flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm"})
"""What the names of recordings may end with: servers tell their format by it."""
MOST_BYTES = 26_214_400
"""Of one recording, by OpenAI's guide to speech to text (25 MB)."""

_HEAD = 16
"""Bytes that tell a format."""
_NAME = "name"


class Recordings:
    """Where each row's recording is, and what is said to the model beside it.

    Args:
      audio: a column of bytes.
      name: a column with the names of their files, which need not be there if it is the default one; where there is none,
        the bytes tell the format. None: not read.
      paths: a column of paths in place of both, read from where they are while they are sent.
      prompt: a template; a column, which is an option like any other; or None.

    Raises:
      ValueError: the template is none.
    """

    def __init__(self, audio: str, name: str | None, paths: str | None, prompt: str | Column | None) -> None:
        self._audio, self._name, self._paths = audio, name, paths
        self._text, self._prompt = prompt, texts.Template(prompt) if isinstance(prompt, str) else None

    @property
    def inputs(self) -> list[str]:
        """Columns that are read."""
        prompt = self._prompt.columns if self._prompt else []
        if self._paths is not None:
            return [self._paths, *prompt]
        return [self._audio, *([self._name] if self._name not in (None, _NAME) else []), *prompt]

    @property
    def optional_inputs(self) -> list[str]:
        """Columns that are read where the rows have them."""
        is_read = self._paths is None and self._name == _NAME and _NAME not in self.inputs
        return [_NAME] if is_read else []

    def unusable(self, rows: pa.Table) -> dict[int, str]:
        """Rows that cannot be sent, and why; what is at a path is not looked at."""
        return {**(self._prompt.unusable(rows) if self._prompt else {}), **self._unusable(rows)}

    def _unusable(self, rows: pa.Table) -> dict[int, str]:
        if self._paths is not None:
            return {**_nameless(rows[self._paths], self._paths), **texts.unusable(rows[self._paths], self._paths)}
        values = rows[self._audio]
        if not (texts.is_binary(values.type) or media.is_all_null(values)):
            hint = "; paths= takes a column of paths" if texts.is_text(values.type) else ""
            said = f"{self._audio} is {texts.written(values.type)}, not a recording's bytes{hint}"
            return dict.fromkeys(range(len(values)), said)
        names = self._names(rows)
        found = {} if names is None else _nameless(names, str(self._name))
        for row, value in enumerate(values):
            is_named = names is not None and names[row].is_valid
            if reason := _wrong(media.bytes_in(value), self._audio, is_named):
                found[row] = reason
        return found

    def _names(self, rows: pa.Table) -> pa.ChunkedArray | None:
        return as_plain(rows[self._name]) if self._name in rows.column_names else None

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        """Those of the prompt: what a recording costs, nobody knows before."""
        return count(self._prompt.fill(rows)) if self._prompt else np.zeros(rows.num_rows, dtype=np.int64)

    def sizes(self, rows: pa.Table) -> Counts | float:
        """Bytes of each row's recording; nan for those at paths."""
        if self._paths is not None:
            return float("nan")
        recordings = rows[self._audio]
        if not texts.is_binary(recordings.type):
            return 0.0
        sizes: Counts = pc.binary_length(recordings).fill_null(0).to_numpy()
        return sizes

    def form(self, options: Mapping[str, Any], rows: pa.Table) -> Form:
        """The form for one row, which can be sent."""
        asked = dict(options)
        if self._prompt and asked.get("prompt") == self._text:
            asked["prompt"] = self._prompt.fill(rows)[0].as_py()
        return Form(form_fields(asked), [self._file(rows)])

    def _file(self, rows: pa.Table) -> File:
        if self._paths is not None:
            path = as_plain(rows[self._paths])[0].as_py()
            return _file(path, StoredFile(path, MOST_BYTES))
        (recording,) = media.bytes_in(rows[self._audio][0])
        assert recording is not None
        names = self._names(rows)
        name = names[0].as_py() if names is not None else None
        return _file(name or f"audio.{media.sound_type(bytes(recording[:_HEAD]))}", recording)


def _file(path: str, data: memoryview | StoredFile) -> File:
    name = path.replace("\\", "/").rpartition("/")[2]
    return File("file", name, guess(name), data)


def _nameless(names: pa.ChunkedArray, column: str) -> dict[int, str]:
    """Rows whose file has no name by which a server knows its format; null is no name at all, and told otherwise."""
    names = as_plain(names)
    if not texts.is_text(names.type):
        return dict.fromkeys(range(len(names)), f"{column} is {texts.written(names.type)}, not the name of a file")
    found = dict.fromkeys(texts.broken(names), f"{column} is not valid UTF-8")
    for row, name in enumerate(names):
        if row not in found and name.is_valid and _extension(name.as_py()) not in EXTENSIONS:
            found[row] = f"{column} does not end as a recording's does: {', '.join(sorted(EXTENSIONS))}"
    return found


def _extension(name: str) -> str:
    _, point, extension = name.rpartition(".")
    return extension.lower() if point else ""


def _wrong(recordings: list[memoryview | None], column: str, is_named: bool) -> str | None:
    if not recordings:
        return f"{column} is null"
    recording = recordings[0]
    if not recording:
        return f"{column} is empty"
    if len(recording) > MOST_BYTES:
        return f"{column} has {len(recording):,} bytes, more than the {MOST_BYTES:,} that may be sent"
    if not is_named and media.sound_type(bytes(recording[:_HEAD])) not in EXTENSIONS:
        return f"{column} is no format that is known by its bytes: give its file's name in a column of names"
    return None
