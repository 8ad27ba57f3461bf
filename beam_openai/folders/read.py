"""ReadFiles: files -> groups of paths -> reshuffle of the groups -> tables.

What is shuffled is where files are, never their bytes: reading fuses with what follows.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam
import pyarrow as pa

from beam_openai.parquet import files

_ANY = "any"
"""A format, as `files` calls it: all files of a folder are meant."""
_MOST_BYTES = 2**31 - 1
_THREADS = 8


@dataclasses.dataclass(eq=False)
class ReadFiles(beam.PTransform):
    """Reads files as they are, one row each, into a PCollection of `pa.Table`: `path`, `name`, and a column of their bytes.

    `path: string` is as the filesystem has it, `name: string` what stands behind its last slash, the bytes are `binary`.
    A table has at most `max_rows` rows and about `max_bytes` bytes; a file larger than that comes alone. So much is held of
    the files, and no more.

    Attributes:
      pattern: a path, a glob, or a list of them, on any filesystem that Beam knows. A folder means the files right inside
        it. Names that begin with `_`, `.` or `beam-temp-` are passed over unless a pattern asks for them.
      column: the name of the column of bytes; None: there is none, and files are not read, for endpoints that take paths.
      extensions: what names must end with, without the point, in upper or lower case; other files are passed over.
      max_rows: the most rows in one table.
      max_bytes: the size of the files in one table at which the next one begins.

    Raises:
      ValueError: when the pipeline is built: no file matches a pattern. When it runs: a file cannot be read, or has 2 GiB
        and is too large for a row; the message names it.
    """

    pattern: str | Sequence[str]
    _: dataclasses.KW_ONLY
    column: str | None = "image"
    extensions: Collection[str] | None = None
    max_rows: int = 256
    max_bytes: int = 8 << 20

    def __post_init__(self) -> None:
        super().__init__()
        if self.column in ("", "path", "name"):
            raise ValueError(f"column must be another name than those of path and name, not {self.column!r}")
        if self.max_rows < 1 or self.max_bytes < 1:
            raise ValueError(f"max_rows and max_bytes must be at least 1, not {self.max_rows}, {self.max_bytes}")
        if isinstance(self.extensions, str):
            raise ValueError(f"extensions must be a list of them, not {self.extensions!r}")

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[pa.Table]:
        patterns = [self.pattern] if isinstance(self.pattern, str) else list(self.pattern)
        extensions = None if self.extensions is None else sorted(self.extensions)
        for _ in find(patterns, extensions):
            pass
        max_bytes = self.max_bytes if self.column is not None else None
        return (
            root
            | "Patterns" >> beam.Create([patterns])
            | "Find" >> beam.FlatMap(groups, extensions, self.max_rows, max_bytes)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.Map(read, self.column).with_output_types(pa.Table)
        )


def count_files(patterns: Sequence[str], extensions: Collection[str] | None = None) -> int:
    """How many files `ReadFiles` would read.

    Raises:
      ValueError: a pattern matches none.
    """
    return sum(1 for _ in find(patterns, extensions))


def find(patterns: Sequence[str], extensions: Collection[str] | None) -> Iterator[tuple[str, int]]:
    """Path and size of every file that a pattern matches, once, in the order of the patterns and of their names.

    Raises:
      ValueError: a pattern matches none.
    """
    wanted = None if extensions is None else {extension.lower().lstrip(".") for extension in extensions}
    found: set[str] = set()
    for pattern in patterns:
        nothing = True
        for path, size in files.matches(pattern, _ANY):
            if wanted is not None and extension_of(path) not in wanted:
                continue
            nothing = False
            if path not in found:
                found.add(path)
                yield path, size
        if nothing:
            fitting = f" whose names end in {', '.join(sorted(wanted))}" if wanted is not None else ""
            raise ValueError(f"no files match {pattern!r}{fitting}")


def extension_of(path: str) -> str:
    """What stands behind the last point of a name, in lower case."""
    return os.path.splitext(path)[1][1:].lower()


def groups(
    patterns: Sequence[str], extensions: Collection[str] | None, max_rows: int, max_bytes: int | None
) -> Iterator[list[str]]:
    """The paths of all files, in groups that become one table each.

    Raises:
      ValueError: a pattern matches no file, or a file is too large.
    """
    held: list[str] = []
    held_bytes = 0
    for path, size in find(patterns, extensions):
        if max_bytes is not None and size > _MOST_BYTES:
            raise ValueError(f"{path} has {size:,} bytes, too many for one row: column=None leaves them where they are")
        is_full = max_bytes is not None and held_bytes + size > max_bytes
        if held and (is_full or len(held) == max_rows):
            yield held
            held, held_bytes = [], 0
        held.append(path)
        held_bytes += size
    yield held


def read(paths: Sequence[str], column: str | None) -> pa.Table:
    """One row for each file.

    Raises:
      ValueError: a file cannot be read.
    """
    names = [path.rpartition("/")[2] for path in paths]
    columns = {"path": pa.array(paths, pa.string()), "name": pa.array(names, pa.string())}
    if column is not None:
        columns[column] = pa.array(_contents(paths), pa.binary())
    return pa.table(columns)


def _contents(paths: Sequence[str]) -> list[bytes]:
    if len(paths) == 1:
        return [_content(paths[0])]
    with ThreadPoolExecutor(min(_THREADS, len(paths))) as pool:
        return list(pool.map(_content, paths))


def _content(path: str) -> bytes:
    try:
        with files.open_bytes(path) as file:
            content: bytes = file.read()
            return content
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
