"""WriteFiles: rows -> a temporary file for each -> named when all is written."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io import iobase
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_openai import media, tables
from beam_openai.client import guess
from beam_openai.folders.names import Row, names_of, safe
from beam_openai.parquet import files, sink
from beam_openai.tokens import as_plain

_HIDDEN = ("_", ".")
_PLACING = "placing"
_THREADS = 16
"""Files that one bundle writes at a time, and holds."""
_HEAD = 32
"""Bytes that tell what a file is."""


@dataclasses.dataclass(eq=False)
class WriteFiles(beam.PTransform):
    """Writes the bytes in a column of a bounded PCollection as files, named after another column; gives their paths.

    The column is `binary`, or a list of it; rows may be tables, dicts, `beam.Row`s or NamedTuples. A row called `cat.jpg`
    whose bytes are a PNG becomes `cat.png`, one with a list `cat-0.png`, `cat-1.png`; null and an empty list become no
    file. What ends a name is told by the bytes: `bin` where they tell nothing.

    Names are made safe: slashes, control characters and those that other systems forbid become `_`, points and spaces at
    the ends go, what is longer than 180 bytes is cut, and of a name that is null or empty `unnamed` is made. So no file
    comes to lie elsewhere. Of several rows with one name (also if they differ in upper and lower case only), the second
    becomes `cat~2.png`, the next `cat~3.png`; which is which, is as the rows come.

    Files appear when all have been written; a job that fails leaves none (only a `_beam-temp-*` folder, which
    `parquet.clear_temporary` removes).

    Attributes:
      directory: where the files go, on any filesystem that Beam knows; created if it is not there.
      column: the column with their bytes.
      name: the column with their names: text, numbers, or anything else that can be written as text.
      overwrite: write into a directory that holds files already; those of the same names are replaced, others stay.
      temporary: is in the name of the temporary folder, for `clear_temporary` to know it by.

    Raises:
      FileExistsError: the directory holds files and `overwrite` is off: when the pipeline is built, again before the first
        row is computed, and when others have appeared meanwhile; then this run's stay in the temporary folder, which the
        message names.
      NotADirectoryError, PermissionError, OSError: the directory cannot be made or written.
      ValueError: the PCollection is unbounded; or, when it runs, a column is not there, or holds no bytes.
    """

    directory: str
    column: str
    _: dataclasses.KW_ONLY
    name: str = "name"
    overwrite: bool = False
    temporary: str = "files"

    def __post_init__(self) -> None:
        super().__init__()
        for name in ("directory", "column", "name"):
            if not getattr(self, name):
                raise ValueError(f"{name} must not be empty")

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[str]:
        if not rows.is_bounded:
            raise ValueError("WriteFiles writes bounded data, as its files appear when all are written")
        directory = self.directory.rstrip("/") or "/"
        check_empty(directory, self.overwrite)
        sink.check_writable(directory)
        written = _Files(directory, self.column, self.name, self.overwrite, self.temporary)
        return rows | "Write" >> beam.io.Write(written)


def check_empty(directory: str, overwrite: bool) -> None:
    """Raises FileExistsError where the directory holds files, and they may not be replaced."""
    there = [] if overwrite else [path for path in sink.matching(directory, "*") if not _name(path).startswith(_HIDDEN)]
    if there:
        held = f"{len(there)} file{'s' if len(there) > 1 else ''}"
        raise FileExistsError(
            f"{directory} already holds {held}; pass overwrite=True (--overwrite) to replace those of the same names"
        )


def check_name(rows: pa.Table, name: str) -> pa.Table:
    """The rows, which have a column to name files after.

    Raises:
      ValueError: they have none of that name.
    """
    if name not in rows.column_names:
        there = ", ".join(rows.column_names) or "none"
        raise ValueError(f"the rows have no column {name!r} to name files after; they have: {there}")
    return rows


class _Files(iobase.Sink):
    """The methods in the order in which Beam calls them."""

    skip_if_empty = True

    def __init__(self, directory: str, column: str, name: str, overwrite: bool, temporary: str) -> None:
        self.directory = directory
        self.column = column
        self.name = name
        self.overwrite = overwrite
        self.temporary = temporary

    def initialize_write(self) -> str:
        check_empty(self.directory, self.overwrite)
        return sink.begin(self.directory, self.temporary)

    def open_writer(self, init_result: str, uid: str) -> _Writer:
        return _Writer(FileSystems.join(init_result, uid), self.column, self.name)

    def pre_finalize(self, init_result: str, writer_results: Iterable[Any]) -> None:
        pass

    def finalize_write(
        self, init_result: str, writer_results: Iterable[list[Row]], pre_finalize_result: Any
    ) -> list[str]:
        """Names the files. Safe to repeat, whole or from the middle: each gets the same name again."""
        rows = sorted(row for rows in writer_results for row in rows)
        # From here on the files are all there: they are not to be cleared away, whatever happens.
        sink.forget(init_result)
        placing = FileSystems.join(init_result, _PLACING)
        if not FileSystems.exists(placing):
            try:
                check_empty(self.directory, self.overwrite)
            except FileExistsError as error:
                raise FileExistsError(f"{error}. This run's are kept in {init_result}") from None
            FileSystems.create(placing).close()
        places = [FileSystems.join(self.directory, name) for name in names_of(rows, _folders(self.directory))]
        sink.rename(init_result, [path for row in rows for path in row.paths], places, "*")
        sink.clear(init_result)
        return places


class _Writer(iobase.Writer):
    """Writes the files of one bundle's rows, several at a time; its result says what they are to be called."""

    def __init__(self, prefix: str, column: str, name: str) -> None:
        self._prefix = prefix
        self._column = column
        self._name = name
        self._rows: list[Row] = []
        self._files = 0
        self._pool = ThreadPoolExecutor(_THREADS)
        self._running: collections.deque[Future[None]] = collections.deque()

    def write(self, value: Any) -> None:
        for name, blobs, is_list in _blobs_of(value, self._column, self._name):
            endings, paths = [], []
            for number, data in enumerate(blobs):
                if data is not None:
                    extension = media.extension(bytes(data[:_HEAD]))
                    endings.append(f"-{number}.{extension}" if is_list else f".{extension}")
                    paths.append(self._store(data, extension))
            self._rows.append(Row(safe(name), tuple(endings), tuple(paths)))

    def _store(self, data: memoryview, extension: str) -> str:
        path = f"{self._prefix}-{self._files:07}.{extension}"
        self._files += 1
        if len(self._running) == _THREADS:
            self._running.popleft().result()
        self._running.append(self._pool.submit(_store, path, data))
        return path

    def at_capacity(self) -> bool:
        return False

    def close(self) -> list[Row]:
        with self._pool:
            for stored in self._running:
                stored.result()
        return self._rows


def _store(path: str, data: memoryview) -> None:
    with FileSystems.create(path, mime_type=guess(path), compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write(data)


def _blobs_of(element: Any, column: str, name: str) -> Iterator[tuple[Any, list[memoryview | None], bool]]:
    """The name of each row, its files' bytes, and whether those stand in a list."""
    rows = element if isinstance(element, pa.Table) else tables.to_table([_picked(element, column, name)])
    check_name(rows, name)
    if column not in rows.column_names:
        raise ValueError(f"the rows have no column {column!r}; they have: {', '.join(rows.column_names)}")
    values = as_plain(rows[column])
    if not (media.is_bytes(values.type) or media.is_all_null(values)):
        raise ValueError(f"{column} is {values.type}, and files are bytes")
    is_list = media.is_list(values.type)
    for row_name, value in zip(_names(rows[name]), values, strict=True):
        yield row_name, media.bytes_in(value), is_list


def _picked(row: Any, *names: str) -> dict[str, Any]:
    values = tables.as_dict(row)
    return {name: values[name] for name in names if name in values}


def _names(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        # As bytes: what is not UTF-8 must not cost files that may have been paid for.
        column = column.cast(pa.large_binary())
    return column.to_pylist()


def _folders(directory: str) -> list[str]:
    if not files.is_local(directory):
        return []
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if entry.is_dir()]


def _name(path: str) -> str:
    return path.rpartition("/")[2]
