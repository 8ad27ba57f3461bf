"""WriteTables: tables -> temporary parts, a few for each bundle -> renamed when all is written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io import iobase
from apache_beam.io.filesystems import FileSystems

from beam_openai import tables
from beam_openai.parquet import sink
from beam_openai.parquet.part import Part, storable

_EXTENSION = "parquet"
_GATHERED_ROWS = 1000
_GATHERED_BYTES = 8 << 20
# A writer keeps a part open for each schema it meets, so that schemas may alternate.
_OPEN_PARTS = 4


@dataclasses.dataclass(eq=False)
class WriteTables(beam.PTransform):
    """Writes a bounded PCollection of `pa.Table` to Parquet files; gives their paths.

    Rows that are dicts, `beam.Row` or NamedTuples are written as well, gathered into tables within
    their bundle; of a row whose list or object has no Arrow type (messages with contents of text and
    of parts) that is written as JSON text. The parts are called `part-00000-of-00003-RUN.parquet`,
    where RUN is new for every run, and appear when all rows have been written; a job that fails
    leaves no part (only a `_beam-temp-*` folder, see `clear_temporary`). Without any rows there is
    the folder and no part.

    A part has the schema of the data. Where tables differ only in what widens without loss (null to
    any type, int32 to int64, float to double, a struct that gains fields, nullability), they share
    a part; a table with another schema goes to a part of its own, and of a struct a later part may
    have more fields than the first: docs/recipes.md shows how all are read. A column of a type that
    Parquet cannot hold (an empty struct, a union) is written as JSON text, and a fixed_size_list
    with a null in it as a list. Lists of floats, at any depth, are stored plain, without
    dictionary, statistics and compression, none of which pays for vectors; all else is compressed
    with zstd.

    Attributes:
      directory: where the parts go, on any filesystem that Beam knows; created if it is not there.
      overwrite: replace the parts in the directory. They stay until the new ones are in place. What
        runs on this machine have left there that were killed goes with them.
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
        sink.check_free(directory, _EXTENSION, self.overwrite)
        sink.check_writable(directory)
        parts = _Parts(directory, self.overwrite, self.row_group_bytes, self.part_bytes, self.temporary)
        return rows | "Write" >> beam.io.Write(parts)


class _Parts(sink.Sink):
    def __init__(
        self, directory: str, overwrite: bool, row_group_bytes: int, part_bytes: int, temporary: str = "parts"
    ) -> None:
        super().__init__(directory, _EXTENSION, overwrite, temporary)
        self.row_group_bytes = row_group_bytes
        self.part_bytes = part_bytes

    def open_writer(self, init_result: str, uid: str) -> _Writer:
        return _Writer(FileSystems.join(init_result, uid), self.row_group_bytes, self.part_bytes)


class _Writer(iobase.Writer):
    """Writes the tables of one bundle; its result is the paths of the parts."""

    def __init__(self, prefix: str, row_group_bytes: int, part_bytes: int) -> None:
        self._prefix = prefix
        self._row_group_bytes = row_group_bytes
        self._part_bytes = part_bytes
        self._rows: list[Any] = []
        self._gathered = 0
        self._open: list[Part] = []
        self._paths: list[str] = []

    def write(self, value: Any) -> None:
        if isinstance(value, pa.Table):
            self._gather()
            self._add(value)
        else:
            self._rows.append(value)
            self._gathered += sum(map(tables.length, tables.as_dict(value).values()))
            if len(self._rows) == _GATHERED_ROWS or self._gathered >= _GATHERED_BYTES:
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
            self._gathered = 0
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


def _as_tables(rows: Sequence[Any]) -> Iterator[pa.Table]:
    """One table if the rows have a schema in common, else as few as halving finds.

    Raises:
      TypeError: a row is none, or has a value that Arrow cannot hold.
    """
    try:
        yield tables.to_table(rows)
    except (pa.ArrowException, OverflowError):
        if len(rows) == 1:
            yield _alone(tables.as_dict(rows[0]))
            return
        yield from _as_tables(rows[: len(rows) // 2])
        yield from _as_tables(rows[len(rows) // 2 :])


def _alone(row: Mapping[str, Any]) -> pa.Table:
    """One row as a table: lists and objects that have no type, as messages with contents of text and of parts, as JSON.

    Raises:
      TypeError: the row has a value that Arrow cannot hold.
    """
    arrays = {}
    for name, value in row.items():
        try:
            try:
                arrays[name] = pa.array([value])
            except (pa.ArrowException, OverflowError):
                if not isinstance(value, list | tuple | Mapping):
                    raise
                arrays[name] = pa.array([json.dumps(value, ensure_ascii=False)])
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            names = ", ".join(map(repr, row))
            raise TypeError(f"a row of {names} has a value that Arrow cannot hold") from error
    return pa.table(arrays)
