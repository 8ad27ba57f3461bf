"""A body of multipart/form-data. It is sent in pieces: a large file is neither held nor copied whole."""

from __future__ import annotations

import dataclasses
import decimal
import math
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

from beam_openai import errors

_PIECE_BYTES = 1 << 18
_SMALL_BYTES = 1 << 16


class Source(Protocol):
    """Bytes that are read while they are sent, for a file too large to hold.

    Attributes:
      size: in bytes. It is announced before they are read: another number of bytes is an error.
    """

    @property
    def size(self) -> int: ...

    def open(self) -> BinaryIO:
        """A file at its first byte; for every attempt anew, and closed after it."""


@dataclasses.dataclass(frozen=True)
class LocalFile:
    """A file of this machine as a `Source`; `size` is what it is now.

    Raises:
      OSError: there is no such file.
      ValueError: it is a folder, or a pipe, whose size nobody knows.
    """

    path: str
    size: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        found = os.stat(self.path)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{self.path} is not a plain file")
        object.__setattr__(self, "size", found.st_size)

    def open(self) -> BinaryIO:
        return cast(BinaryIO, open(self.path, "rb", buffering=0))


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """A file of which only the path is known yet: whoever has the form sent puts a `Source` in its place.

    Attributes:
      path: on any filesystem that the sender knows.
      most: bytes that it may have.
    """

    path: str
    most: int


@dataclasses.dataclass(frozen=True)
class File:
    """One file of a form.

    Attributes:
      field: the name of the field.
      name: the file's own name; servers tell the format of audio by what it ends with.
      content_type: as `guess` tells it, say.
      data: its bytes, or where they are read from.

    Raises:
      ValueError: a content type that cannot be one.
    """

    field: str
    name: str
    content_type: str
    data: bytes | memoryview | Source | StoredFile

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\x20-\x7e]+", self.content_type):
            raise ValueError(f"not a content type: {self.content_type!r}")

    @property
    def size(self) -> int:
        """In bytes; of a `StoredFile` nobody knows it."""
        if isinstance(self.data, StoredFile):
            raise ValueError(f"{self.data.path} was not looked for")
        if isinstance(self.data, memoryview):
            return self.data.nbytes
        return len(self.data) if isinstance(self.data, bytes) else self.data.size


@dataclasses.dataclass(frozen=True)
class Form:
    """Fields and files, in this order; several may have one name.

    Raises:
      ValueError: when it is sent: text that UTF-8 has no bytes for (a lone surrogate).
    """

    fields: Sequence[tuple[str, str]] = ()
    files: Sequence[File] = ()

    @property
    def is_streamed(self) -> bool:
        """Whether some of it is read only while it is sent."""
        return any(not isinstance(file.data, (bytes, memoryview)) for file in self.files)

    def encode(self) -> Encoded:
        """What is sent, for one attempt."""
        boundary = self._boundary()
        runs = _joined(self._parts(boundary.encode()))
        return Encoded(f"multipart/form-data; boundary={boundary}", sum(map(_size, runs)), _pieces(runs))

    def _parts(self, boundary: bytes) -> Iterator[bytes | memoryview | File]:
        for name, value in self.fields:
            yield _head(boundary, _disposition(name))
            yield value.encode()
            yield b"\r\n"
        for file in self.files:
            yield _head(boundary, _disposition(file.field, file.name), f"Content-Type: {file.content_type}".encode())
            yield _flat(file.data) if isinstance(file.data, (bytes, memoryview)) else file
            yield b"\r\n"
        yield b"--%b--\r\n" % boundary

    def _boundary(self) -> str:
        """A line that is nowhere in what is held in memory; in what is read later, 128 random bits are not met."""
        held: list[bytes | memoryview] = [value.encode() for _, value in self.fields]
        held += [_flat(file.data) for file in self.files if isinstance(file.data, (bytes, memoryview))]
        while True:
            boundary = f"beam-openai-{secrets.token_hex(16)}"
            if not any(re.search(boundary.encode(), data) for data in held):
                return boundary


class Encoded(NamedTuple):
    """A form as it goes over the wire; `length` in bytes."""

    content_type: str
    length: int
    pieces: Iterator[bytes | memoryview]


def _head(boundary: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join([b"--%b" % boundary, *lines, b"", b""])


def _disposition(name: str, filename: str | None = None) -> bytes:
    line = b'Content-Disposition: form-data; name="%b"' % _quoted(name)
    return line if filename is None else line + b'; filename="%b"' % _quoted(filename)


def _quoted(name: str) -> bytes:
    """As browsers do: UTF-8, and the three characters that could end the name percent-encoded.

    Source: https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data
    """
    name = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    return name.encode("utf-8", "surrogateescape")  # the bytes of a file's name that is no UTF-8 itself


def _flat(data: bytes | memoryview) -> bytes | memoryview:
    return data.cast("B") if isinstance(data, memoryview) and data.nbytes else bytes(data)


def _joined(parts: Iterator[bytes | memoryview | File]) -> list[bytes | memoryview | File]:
    """The same in fewer pieces: each costs a call of the system, and a small one a packet."""
    runs: list[bytes | memoryview | File] = []
    small: list[bytes | memoryview] = []
    for part in parts:
        if not isinstance(part, File) and len(part) < _SMALL_BYTES:
            small.append(part)
            continue
        runs += [b"".join(small), part]
        small = []
    return [*runs, b"".join(small)]


def _size(run: bytes | memoryview | File) -> int:
    return run.size if isinstance(run, File) else len(run)


def _pieces(runs: list[bytes | memoryview | File]) -> Iterator[bytes | memoryview]:
    for run in runs:
        if isinstance(run, File):
            yield from _read(run.name, cast(Source, run.data))
        else:
            yield run


def _read(name: str, source: Source) -> Iterator[bytes]:
    """The bytes of a source, as many as were announced.

    Raises:
      InvalidInputError: it has fewer or more of them by now, or cannot be read. The request is broken off with it.
    """
    size, left = source.size, source.size
    try:
        with source.open() as file:
            while left and (piece := file.read(min(left, _PIECE_BYTES))):
                left -= len(piece)
                yield piece
            more = file.read(1)
    except Exception as error:
        # A store's client has exceptions of its own.
        raise errors.InvalidInputError(f"{name} cannot be read: {error or type(error).__name__}") from error
    if left or more:
        now = f"after {size - left} bytes it ends" if left else "it has more"
        message = f"{name} changed while it was sent: it had {size} bytes, and {now}. Send it again"
        raise errors.InvalidInputError(message)


def form_fields(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Options as the fields of a form: lists as `name[]`, mappings as `name[inner]`, numbers as decimal text.

    Raises:
      ValueError: a value that a form cannot hold: None, NaN, bytes.
    """
    return [field for name, value in options.items() for field in _flattened(name, value)]


def _flattened(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for inner, one in value.items():
            yield from _flattened(f"{name}[{inner}]", one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _flattened(f"{name}[]", one)
    else:
        yield name, _text(name, value)


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return format(decimal.Decimal(repr(value)), "f")
    raise ValueError(f"{name} cannot be sent in a form: {value!r}")


_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "mp3": "audio/mpeg",
    "mpga": "audio/mpeg",
    "mpeg": "audio/mpeg",
    "mp4": "audio/mp4",
    "m4a": "audio/mp4",
    "wav": "audio/wav",
    "webm": "audio/webm",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "oga": "audio/ogg",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "pdf": "application/pdf",
    "csv": "text/csv",
    "txt": "text/plain",
}


def guess(name: str) -> str:
    """The content type of a file by what its name ends with; application/octet-stream where that tells nothing."""
    return _TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")
