"""Recordings as they are sent: which cannot be, and as the file of a form."""

from __future__ import annotations

import dataclasses

import pyarrow as pa

from beam_openai import media, texts
from beam_openai.client import File, StoredFile, guess
from beam_openai.tokens import as_plain

EXTENSIONS = frozenset({"flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm"})
"""What the names of recordings may end with: servers tell their format by it."""
MOST_BYTES = 26_214_400
"""Of one recording, by OpenAI's guide to speech to text (25 MB)."""

_HEAD = 16


@dataclasses.dataclass(frozen=True)
class Recordings:
    """Where each row's recording is.

    Attributes:
      audio: a column of bytes.
      name: a column with the names of their files; None where there is none, and the format is told by the bytes.
      paths: a column of paths in place of both, read from where they are while they are sent; None for none.
    """

    audio: str
    name: str | None
    paths: str | None

    def unusable(self, rows: pa.Table) -> dict[int, str]:
        """Rows whose recording cannot be sent, and why; what is at a path is not looked at."""
        if self.paths is not None:
            return {**_nameless(rows[self.paths], self.paths), **texts.unusable(rows[self.paths], self.paths)}
        values = rows[self.audio]
        if not (texts.is_binary(values.type) or pa.types.is_null(values.type)):
            hint = "; paths= takes a column of paths" if texts.is_text(values.type) else ""
            return dict.fromkeys(range(len(values)), f"{self.audio} is {values.type}, not a recording's bytes{hint}")
        names = self._names(rows)
        found = {} if names is None else _nameless(names, str(self.name))
        for row, value in enumerate(values):
            named = names is not None and names[row].is_valid
            if reason := _wrong(media.bytes_in(value), self.audio, named):
                found[row] = reason
        return found

    def _names(self, rows: pa.Table) -> pa.ChunkedArray | None:
        return as_plain(rows[self.name]) if self.name in rows.column_names else None

    def file(self, rows: pa.Table) -> File:
        """The recording of the first row, which can be sent."""
        if self.paths is not None:
            path = as_plain(rows[self.paths])[0].as_py()
            return _file(path, StoredFile(path, MOST_BYTES))
        (recording,) = media.bytes_in(rows[self.audio][0])
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
    if pa.types.is_null(names.type):
        return {}
    if not texts.is_text(names.type):
        return dict.fromkeys(range(len(names)), f"{column} is {names.type}, not the name of a file")
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
