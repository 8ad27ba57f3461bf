"""Which files a pattern means, what each of them holds, and how it is opened."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}

_BLOCK_BYTES = 4 << 20
# What other writers leave beside their data: _SUCCESS, .crc, temporary folders.
_HIDDEN = ("_", ".", "beam-temp-")


class File(NamedTuple):
    path: str
    size: int
    format: str


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of a file.

    Attributes:
      path: the file.
      format: "parquet", "jsonl" or "csv".
      groups: the row groups, first and behind the last; Parquet only.
      start: the first row in those row groups, or the first byte of the file.
      stop: behind the last row or byte; None for the end of the file.
    """

    path: str
    format: str
    groups: tuple[int, int] = (0, 0)
    start: int = 0
    stop: int | None = None


def find(patterns: Sequence[str], format: str | None) -> list[File]:
    """Every file that a pattern matches, once, in the order of the patterns and of their names.

    A folder stands for the data files right inside it. Names that begin with `_`, `.` or
    `beam-temp-` are passed over unless a pattern asks for them.

    Raises:
      ValueError: a pattern matches no file, or the format of a file is not known.
    """
    found: dict[str, File] = {}
    for pattern in patterns:
        matched = [File(path, size, format_of(path, format)) for path, size in matches(pattern, format)]
        if not matched:
            raise ValueError(f"no files match {pattern!r}")
        found.update((file.path, file) for file in matched)
    return list(found.values())


def format_of(path: str, format: str | None) -> str:
    """`format`, or what the name says: the extension, or the one below that of a compression."""
    stem, extension = os.path.splitext(path.lower())
    codec = CODECS.get(extension)
    if codec:
        extension = os.path.splitext(stem)[1]
    told = format or FORMATS.get(extension)
    if told is None:
        raise ValueError(
            f"{path}: the format of the file is not known by its name; known are "
            f"{', '.join(FORMATS)}, the text formats also with {', '.join(CODECS)} behind them; "
            f"or pass format= ({', '.join(dict.fromkeys(FORMATS.values()))})"
        )
    if told == "parquet" and codec:
        raise ValueError(f"{path}: a compressed Parquet file cannot be read; unpack it first")
    return told


def codec_of(path: str) -> str | None:
    """The compression that the name of a text file tells, None for none."""
    return CODECS.get(os.path.splitext(path.lower())[1])


def is_local(path: str) -> bool:
    return FileSystems.get_scheme(path) is None


def open_bytes(path: str) -> pa.NativeFile:
    """The file as it is stored, to be read at any place.

    A local file is opened by Arrow itself, which takes a fifth off the cost of reading vectors.
    """
    if is_local(path):
        return pa.OSFile(path)
    stored = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return pa.PythonFile(stored, mode="r")


def open_text(path: str) -> pa.NativeFile:
    """The file unpacked. A truncated archive is an OSError at its end, not a shorter file."""
    codec = codec_of(path)
    stored = open_bytes(path)
    return pa.CompressedInputStream(stored, codec) if codec else stored


def line_number(path: str, offset: int) -> int:
    """The line of a text file that a byte is in, counted from 1."""
    number = 1
    with open_text(path) as source:
        while offset:
            data = source.read(min(offset, _BLOCK_BYTES))
            if not data:
                break
            number += data.count(b"\n")
            offset -= len(data)
    return number


def matches(pattern: str, format: str | None) -> Iterator[tuple[str, int]]:
    """Path and size of each file that a pattern matches: of those in a folder all, where `format` says what they are."""
    if not is_local(pattern):
        yield from _remote(pattern, format)
    elif os.path.isfile(pattern):
        yield pattern, os.path.getsize(pattern)
    elif os.path.isdir(pattern):
        yield from _inside(pattern, format)
    else:
        for path in sorted(glob.glob(pattern, recursive=True)):
            if _hidden(path, pattern):
                continue
            if os.path.isfile(path):
                yield path, os.path.getsize(path)
            elif os.path.splitext(path)[1].lower() in FORMATS:
                # Spark calls a folder of parts name.parquet.
                yield from _inside(path, format)


def _inside(folder: str, format: str | None) -> Iterator[tuple[str, int]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_file() and _is_data(entry.name, format):
            yield os.path.join(folder, entry.name), entry.stat().st_size


def _remote(pattern: str, format: str | None) -> Iterator[tuple[str, int]]:
    matched = FileSystems.match([pattern])[0].metadata_list
    if matched:
        files = [file for file in matched if not _hidden(file.path, pattern)]
    else:
        inside = FileSystems.match([pattern.rstrip("/") + "/*"])[0].metadata_list
        files = [file for file in inside if _is_data(os.path.basename(file.path), format)]
    for file in sorted(files, key=lambda file: file.path):
        yield file.path, file.size_in_bytes


def _is_data(name: str, format: str | None) -> bool:
    if name.startswith(_HIDDEN):
        return False
    stem, extension = os.path.splitext(name.lower())
    if extension in CODECS:
        extension = os.path.splitext(stem)[1]
    return format is not None or extension in FORMATS


def _hidden(path: str, pattern: str) -> bool:
    """Whether a wildcard, rather than the user, named something hidden."""
    parts = pattern.split("/")
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    if any(part.startswith(_HIDDEN) for part in parts[fixed:]):
        return False
    return any(part.startswith(_HIDDEN) for part in path.split("/")[fixed:])
