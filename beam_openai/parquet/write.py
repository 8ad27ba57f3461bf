"""WriteTables: tables -> temporary parts, a few for each bundle -> renamed when all is written."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import posixpath
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io import iobase
from apache_beam.io.filesystems import FileSystems

from beam_openai import tables
from beam_openai.parquet import files
from beam_openai.parquet.part import Part, storable

_PARTS = "part-*.parquet"
_TEMPORARY = "_beam-temp-"
_BEGUN = "begun"
_GATHERED_ROWS = 1000
# A writer keeps a part open for each schema it meets, so that schemas may alternate.
_OPEN_PARTS = 4
_RENAME_THREADS = 16


@dataclasses.dataclass(eq=False)
class WriteTables(beam.PTransform):
    """Writes a bounded PCollection of `pa.Table` to Parquet files; gives their paths.

    Rows that are dicts, `beam.Row` or NamedTuples are written as well, gathered into tables within
    their bundle. The parts are called `part-00000-of-00003-RUN.parquet`, where RUN is new for every
    run, and appear when all rows have been written; a job that fails leaves no part (only a
    `_beam-temp-*` folder, see `clear_temporary`). Without any rows there is the folder and no
    part.

    A part has the schema of the data. Where tables differ only in what widens without loss (null to
    any type, int32 to int64, float to double, nullability), they share a part; a table with another
    schema goes to a part of its own. A column of a type that Parquet cannot hold (an empty struct,
    a union) is written as JSON text, and a fixed_size_list with a null in it as a list. Lists of
    floats, at any depth, are stored plain, without dictionary, statistics and compression, none of
    which pays for vectors; all else is compressed with zstd.

    Attributes:
      directory: where the parts go, on any filesystem that Beam knows; created if it is not there.
      overwrite: replace the parts in the directory. They stay until the new ones are in place.
      row_group_bytes: what is gathered in memory and written as one row group.
      part_bytes: the size in memory of the rows after which the next part begins.
      temporary: is in the name of the temporary folder, for `clear_temporary` to know it by.

    Raises:
      FileExistsError: the directory has parts and `overwrite` is off: when the pipeline is built,
        again before the first row is computed, and when another run has put its parts there
        meanwhile; then this run's stay in the temporary folder, which the message names.
      NotADirectoryError, PermissionError, OSError: the directory cannot be made or written.
      ValueError: the PCollection is unbounded.
    """

    directory: str
    _: dataclasses.KW_ONLY
    overwrite: bool = False
    row_group_bytes: int = 16 << 20
    part_bytes: int = 1 << 30
    temporary: str = "parts"

    def __post_init__(self) -> None:
        super().__init__()
        if not self.directory:
            raise ValueError("directory must name a folder, not be empty")
        if self.row_group_bytes < 1 or self.part_bytes < 1:
            raise ValueError(
                f"row_group_bytes and part_bytes must be at least 1, not {self.row_group_bytes}, {self.part_bytes}"
            )

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[str]:
        if not rows.is_bounded:
            raise ValueError(
                "WriteTables writes bounded data, as its parts appear when all is written; for a "
                "stream use beam.io.WriteToParquet with triggering_frequency, or beam.io.fileio"
            )
        directory = self.directory.rstrip("/") or "/"
        check_free(directory, self.overwrite)
        check_writable(directory)
        sink = _Parts(directory, self.overwrite, self.row_group_bytes, self.part_bytes, self.temporary)
        return rows | "Write" >> beam.io.Write(sink)


def check_free(directory: str, overwrite: bool) -> None:
    """Raises FileExistsError where the directory has parts that may not be replaced."""
    parts = [] if overwrite else _matching(directory, _PARTS)
    if parts:
        held = f"{len(parts)} part{'s' if len(parts) > 1 else ''}"
        raise FileExistsError(f"{directory} already holds {held}; pass overwrite=True (--overwrite) to replace them")


def check_writable(directory: str) -> None:
    """Raises an OSError where a local directory could not be made or written, without making it."""
    if not files.is_local(directory):
        return
    existing = os.path.abspath(directory)
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        raise NotADirectoryError(f"{directory} cannot be written: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"{directory} cannot be written: no permission for {existing}")


class _Parts(iobase.Sink):
    """The methods in the order in which Beam calls them."""

    skip_if_empty = True

    def __init__(
        self, directory: str, overwrite: bool, row_group_bytes: int, part_bytes: int, temporary: str = "parts"
    ) -> None:
        self.temporary = temporary
        self.directory = directory
        self.overwrite = overwrite
        self.row_group_bytes = row_group_bytes
        self.part_bytes = part_bytes

    def initialize_write(self) -> str:
        """Once, before the first row: a temporary folder, whose name ends in the run's."""
        check_free(self.directory, self.overwrite)
        temporary: str = FileSystems.join(self.directory, f"{_TEMPORARY}{self.temporary}-{uuid.uuid4().hex[:12]}")
        try:
            # A real file: on an object store a folder alone proves nothing.
            FileSystems.create(FileSystems.join(temporary, _BEGUN)).close()
        except OSError as error:
            raise OSError(f"{self.directory} cannot be written: {error}") from error
        return temporary

    def open_writer(self, init_result: str, uid: str) -> _Writer:
        return _Writer(FileSystems.join(init_result, uid), self.row_group_bytes, self.part_bytes)

    def pre_finalize(self, init_result: str, writer_results: Iterable[list[str]]) -> None:
        pass

    def finalize_write(
        self, init_result: str, writer_results: Iterable[list[str]], pre_finalize_result: Any
    ) -> list[str]:
        """Renames the parts, then removes those of earlier runs.

        Safe to repeat, whole or from the middle: a part's name says which run it is of, so what an
        earlier try has done is told from what an earlier run has left.
        """
        run = init_result.rsplit("-", 1)[1]
        written = sorted(path for paths in writer_results for path in paths)
        names = [f"part-{i:05}-of-{len(written):05}-{run}.parquet" for i in range(len(written))]
        parts = [FileSystems.join(self.directory, name) for name in names]
        # From here on the rows are all there: they are not to be cleared away, whatever happens.
        _forget(init_result)
        others = set(_matching(self.directory, _PARTS)) - set(parts)
        if others and not self.overwrite:
            raise FileExistsError(
                f"another run has put {len(others)} parts into {self.directory} meanwhile; "
                f"this run's are kept in {init_result}"
            )
        _rename(init_result, written, parts)
        if self.overwrite:
            _delete(sorted(set(_matching(self.directory, _PARTS)) - set(parts)))
        _clear(init_result)
        return parts


class _Writer(iobase.Writer):
    """Writes the tables of one bundle; its result is the paths of the parts."""

    def __init__(self, prefix: str, row_group_bytes: int, part_bytes: int) -> None:
        self._prefix = prefix
        self._row_group_bytes = row_group_bytes
        self._part_bytes = part_bytes
        self._rows: list[Any] = []
        self._open: list[Part] = []
        self._paths: list[str] = []

    def write(self, value: Any) -> None:
        if isinstance(value, pa.Table):
            self._gather()
            self._add(value)
        else:
            self._rows.append(value)
            if len(self._rows) == _GATHERED_ROWS:
                self._gather()

    def at_capacity(self) -> bool:
        return False

    def close(self) -> list[str]:
        self._gather()
        for part in self._open:
            part.close()
        return self._paths

    def _gather(self) -> None:
        if self._rows:
            rows, self._rows = self._rows, []
            for table in _as_tables(rows):
                self._add(table)

    def _add(self, table: pa.Table) -> None:
        if not table.num_rows:
            return
        table = storable(table)
        part = next((part for part in self._open if part.add(table)), None)
        if part is None:
            part = self._new_part()
            part.add(table)
        if part.bytes >= self._part_bytes:
            self._open.remove(part)
            part.close()

    def _new_part(self) -> Part:
        if len(self._open) == _OPEN_PARTS:
            self._open.pop(0).close()
        path = f"{self._prefix}-{len(self._paths):05}.parquet"
        self._paths.append(path)
        self._open.append(Part(path, self._row_group_bytes))
        return self._open[-1]


def clear_temporary(directory: str, temporary: str = "parts") -> None:
    """Removes what failed runs of `WriteTables(temporary=...)` have left in a directory, unless all rows were written.

    It would take the ground from under a run of the same `temporary` that is still writing there.
    """
    directory = directory.rstrip("/") or "/"
    for begun in _matching(directory, f"{_TEMPORARY}{temporary}-*/{_BEGUN}"):
        _clear(os.path.dirname(begun))


def _as_tables(rows: Sequence[Any]) -> Iterator[pa.Table]:
    """One table if the rows have a schema in common, else as few as halving finds.

    Raises:
      TypeError: a row is none, or has a value that Arrow cannot hold.
    """
    try:
        yield tables.to_table(rows)
    except (pa.ArrowException, OverflowError) as error:
        if len(rows) == 1:
            names = ", ".join(map(repr, tables.as_dict(rows[0])))
            raise TypeError(f"a row of {names} has a value that Arrow cannot hold") from error
        yield from _as_tables(rows[: len(rows) // 2])
        yield from _as_tables(rows[len(rows) // 2 :])


def _rename(temporary: str, written: Sequence[str], parts: Sequence[str]) -> None:
    there = set(_matching(temporary, "*.parquet"))
    done = set(_matching(parts[0].rsplit("/", 1)[0], _PARTS)) if parts else set()
    lost = [path for path, part in zip(written, parts) if path not in there and part not in done]
    if lost:
        raise FileNotFoundError(f"{lost[0]} was written but is not there any more")
    todo = [(path, part) for path, part in zip(written, parts) if path in there]
    # A try that was cut off between copy and delete leaves both.
    _delete([part for _, part in todo if part in done])
    size = FileSystems.get_chunk_size(temporary)
    chunks = [todo[first : first + size] for first in range(0, len(todo), size)]
    with ThreadPoolExecutor(_RENAME_THREADS) as pool:
        list(pool.map(lambda chunk: FileSystems.rename(*map(list, zip(*chunk))), chunks))


def _matching(directory: str, pattern: str) -> list[str]:
    if files.is_local(directory):
        return glob.glob(posixpath.join(glob.escape(directory), pattern))
    matched = FileSystems.match([FileSystems.join(directory, pattern)])[0].metadata_list
    return [file.path for file in matched]


def _clear(temporary: str) -> None:
    """Removes a temporary folder; it may be gone, if an earlier try came this far."""
    if not files.is_local(temporary):
        # An object store has no folder to remove, only what is in it.
        _delete(_matching(temporary, "*"))
    with contextlib.suppress(OSError):
        _delete([temporary])


def _forget(temporary: str) -> None:
    """From now on `clear_temporary` passes the folder over."""
    begun = FileSystems.join(temporary, _BEGUN)
    with contextlib.suppress(OSError):  # an earlier try came this far
        if files.is_local(begun):
            os.remove(begun)
        else:
            FileSystems.delete([begun])


def _delete(paths: Sequence[str]) -> None:
    if paths:
        FileSystems.delete(list(paths))
