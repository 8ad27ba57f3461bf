"""The elements of a PCollection while their rows are away: tables, or rows of another kind gathered into one.

A request may carry rows of several elements, and an element's rows may go in several requests. A `Source` is one element
(or some gathered rows); a `Segment` is a run of its rows that goes in one request; a `Part` is what came of a run.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from beam_openai import columns, structs, tables
from beam_openai.tokens import as_plain

ERROR = pa.struct(
    [
        ("kind", pa.string()),
        ("status", pa.int64()),
        ("code", pa.string()),
        ("type", pa.string()),
        ("message", pa.string()),
        ("request_id", pa.string()),
        ("attempts", pa.int64()),
        ("raw", pa.string()),
    ]
)
"""Why a row failed: the column `error` of the failed rows."""

_SLICE_ROWS = 8192
_LARGE_PART = 64
_SLICE_BYTES = 8 << 20

Costs = NDArray[np.float64]
"""What each row counts against limits, shape [rows, 4]: `TOKENS` of its input, `BYTES`, `ANSWER_TOKENS`, `AUDIO_BYTES`."""

TOKENS, BYTES, ANSWER_TOKENS, AUDIO_BYTES = range(4)
MEGABYTE = 1_000_000
"""Bytes, as quotas of audio count them."""
Failure = dict[str, Any]


class Place(NamedTuple):
    """Where an element stands in its PCollection."""

    timestamp: Any
    windows: Any
    pane_info: Any


class Output(NamedTuple):
    tag: str
    value: Any
    place: Place


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Columns that an endpoint reads of its rows, reads where they are there, and adds."""

    inputs: Sequence[str]
    optional: Sequence[str]
    added: Sequence[pa.Field]


@dataclasses.dataclass(frozen=True)
class Part:
    """What came of rows `start` to `stop`.

    Attributes:
      columns: a value for each row of each added column, as an array or, where the column's type is declared, as a list;
        not looked at where a row failed, and empty where all did.
      failures: by position from `start`, the rows that failed.
      memory: bytes that are given back when the part is handed out.
    """

    start: int
    stop: int
    columns: Sequence[pa.Array | list[Any]]
    failures: Mapping[int, Failure]
    memory: int = 0


class Source:
    """Some rows, and what has come of them so far.

    Attributes:
      inputs: what the endpoint reads of them; in the end as its requests take it.
      invalid: by position, rows that cannot be read into such a column, and why.
      ratio: tokens a byte, as it was estimated when they were counted.
    """

    def __init__(self, inputs: pa.Table, fields: Sequence[pa.Field], nbytes: int) -> None:
        self.inputs = inputs
        self.invalid: dict[int, str] = {}
        self.ratio = 1.0
        self.nbytes = nbytes
        self._fields = fields
        self._parts: list[Part] = []
        self._remaining = inputs.num_rows

    def put(self, part: Part) -> None:
        self._parts.append(part)
        self._remaining -= part.stop - part.start

    def take(self) -> list[Part]:
        """The parts that were not taken yet, in the order of their rows."""
        parts, self._parts = self._parts, []
        return sorted(parts, key=lambda part: part.start)

    @property
    def is_finished(self) -> bool:
        return not self._remaining

    def outputs(self, parts: Sequence[Part]) -> Iterator[Output]:
        """What is handed out for these parts."""
        raise NotImplementedError


class TableSource(Source):
    def __init__(self, table: pa.Table, place: Place, wanted: Wanted) -> None:
        present = (name for name in wanted.optional if name in table.column_names)
        names = list(dict.fromkeys([*wanted.inputs, *present]))
        super().__init__(_plain(table.select(names)), wanted.added, table.nbytes)
        self._table = table
        self._place = place

    def outputs(self, parts: Sequence[Part]) -> Iterator[Output]:
        answered, failed = [], []
        for part in _merged(parts, self._fields):
            rows = self._table.slice(part.start, part.stop - part.start)
            if not part.failures:
                answered.append(self._append(rows, part.columns))
                continue
            bad = sorted(part.failures)
            failed.append(_with_errors(_pick(rows, bad), [part.failures[row] for row in bad]))
            if len(bad) < rows.num_rows:
                good = np.delete(np.arange(rows.num_rows), bad).tolist()
                columns = [column.take(pa.array(good)) for column in part.columns]
                answered.append(self._append(_pick(rows, good), columns))
        for tag, pieces in (("answered", answered), ("failed", failed)):
            if pieces:
                yield Output(tag, structs.concat_tables(pieces), self._place)

    def _append(self, rows: pa.Table, columns: Sequence[pa.Array]) -> pa.Table:
        for field, column in zip(self._fields, columns):
            rows = rows.append_column(field.name, column)
        return rows


def _merged(parts: Sequence[Part], fields: Sequence[pa.Field]) -> Iterator[Any]:
    """The same with arrays for columns, small neighbours without failures as one.

    A slice and a chunk for each row would cost the next step dear.
    """
    for _, run in itertools.groupby(_neighbours(parts), key=lambda numbered: numbered[0]):
        alike = [part for _, part in run]
        if len(alike) == 1 or alike[-1].stop - alike[0].start >= _LARGE_PART * len(alike):
            for part in alike:  # many vectors are not copied for this
                yield dataclasses.replace(part, columns=_arrays([part], fields))
            continue
        yield Part(alike[0].start, alike[-1].stop, _arrays(alike, fields), alike[0].failures)


def _arrays(parts: Sequence[Part], fields: Sequence[pa.Field]) -> list[pa.Array]:
    """The columns of neighbours, one array each."""
    arrays = []
    for field, chunks in zip(fields, zip(*(part.columns for part in parts))):
        if isinstance(chunks[0], list):
            arrays.append(pa.array([value for chunk in chunks for value in chunk], field.type))
        else:
            arrays.append(chunks[0] if len(chunks) == 1 else structs.concat(chunks))
    return arrays


def _neighbours(parts: Sequence[Part]) -> Iterator[tuple[int, Part]]:
    """Each part with the number of its run; one with failures is a run of its own."""
    number, before = 0, None
    for part in parts:
        if before is None or before.failures or part.failures or before.stop != part.start:
            number += 1
        yield number, part
        before = part


def _pick(rows: pa.Table, positions: list[int]) -> pa.Table:
    try:
        return rows.take(positions)
    except pa.ArrowNotImplementedError:  # Arrow cannot take from every type (views), but slice all
        return pa.concat_tables([rows.slice(position, 1) for position in positions])


def _plain(inputs: pa.Table) -> pa.Table:
    """The same values, those that are written by dictionary or as views written out."""
    columns = {name: as_plain(inputs[name]) for name in inputs.column_names}
    # A table without columns would not know how many rows it has.
    return pa.table(columns or {"": pa.nulls(inputs.num_rows)})


def with_failures(rows: pa.Table, failures: Mapping[int, Failure]) -> pa.Table:
    """The rows at these positions, each with its error."""
    return _with_errors(_pick(rows, list(failures)), list(failures.values()))


def _with_errors(rows: pa.Table, failures: list[Failure]) -> pa.Table:
    return rows.append_column("error", pa.array(failures, type=ERROR))


class RowsSource(Source):
    """Rows of another kind than tables, with a place for each."""

    def __init__(self, rows: list[Any], places: list[Place], inputs: pa.Table, fields: Sequence[pa.Field]) -> None:
        super().__init__(inputs, fields, inputs.nbytes)
        self._rows = [_without_error(row) for row in rows]
        self._places = places

    def outputs(self, parts: Sequence[Part]) -> Iterator[Output]:
        for part in parts:
            columns = [column if isinstance(column, list) else column.to_pylist() for column in part.columns]
            for position in range(part.stop - part.start):
                row, place = self._rows[part.start + position], self._places[part.start + position]
                if failure := part.failures.get(position):
                    yield Output("failed", tables.extend(row, {"error": failure}), place)
                else:
                    values = [column[position] for column in columns]
                    names = (field.name for field in self._fields)
                    yield Output("answered", tables.extend(row, dict(zip(names, values))), place)


def failure(kind: str, message: str, **error: Any) -> Failure:
    """Why a row failed, as `ERROR` has it."""
    return {**dict.fromkeys(ERROR.names), "kind": kind, "message": message, **error}


def check_error_is_free(row: Mapping[str, Any]) -> None:
    """Refuses a row that has something else than an earlier run's failure under the name that failures need.

    Raises:
      ValueError: it has.
    """
    if not _is_failure(row.get("error")):
        raise ValueError(_column_exists("error"))


def without_error(table: pa.Table) -> pa.Table:
    """Rows that failed in an earlier run, tried again, give up its error.

    Raises:
      ValueError: the column holds something else.
    """
    if "error" not in table.column_names:
        return table
    if not table.schema.field("error").type.equals(ERROR):
        raise ValueError(_column_exists("error"))
    return table.drop_columns(["error"])


def _is_failure(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and value.keys() == set(ERROR.names))


def _without_error(row: Any) -> Any:
    """A row that failed in an earlier run, without its error; one of a fixed type has to keep the field."""
    if isinstance(row, Mapping) and "error" in row:
        return {name: value for name, value in row.items() if name != "error"}
    return tables.extend(row, {"error": None}) if "error" in tables.as_dict(row) else row


@dataclasses.dataclass
class Segment:
    """Rows `start` to `stop` of a source, and their costs."""

    source: Source
    start: int
    stop: int
    costs: Costs

    def cut(self, rows: int) -> tuple[Segment, Segment]:
        middle = self.start + rows
        return (
            Segment(self.source, self.start, middle, self.costs[:rows]),
            Segment(self.source, middle, self.stop, self.costs[rows:]),
        )

    def __len__(self) -> int:
        return self.stop - self.start


def cut(segments: deque[Segment], rows: int) -> list[Segment]:
    """Takes so many rows off the front."""
    taken = []
    while rows:
        segment = segments.popleft()
        if len(segment) > rows:
            segment, rest = segment.cut(rows)
            segments.appendleft(rest)
        taken.append(segment)
        rows -= len(segment)
    return taken


def inputs_of(segments: Sequence[Segment]) -> pa.Table:
    """The input columns of the rows of all segments, one after another."""
    slices = [segment.source.inputs.slice(segment.start, len(segment)) for segment in segments]
    return slices[0] if len(slices) == 1 else pa.concat_tables(slices)


def from_table(table: pa.Table, place: Place, wanted: Wanted) -> Iterator[TableSource]:
    """A table in slices of bounded size.

    Raises:
      ValueError: a column that is read is not there, or one that is added is.
    """
    for name in wanted.inputs:
        if name not in table.column_names:
            raise ValueError(_no_column(name, table.column_names))
    for field in wanted.added:
        if field.name in table.column_names:
            raise ValueError(_column_exists(field.name))
    table = without_error(table)
    row_bytes = max(1, table.nbytes // max(1, table.num_rows))
    step = max(1, min(_SLICE_ROWS, _SLICE_BYTES // row_bytes))
    for start in range(0, table.num_rows, step):
        yield TableSource(table.slice(start, step), place, wanted)


def from_rows(rows: Sequence[Any], places: Sequence[Place], wanted: Wanted) -> Iterator[RowsSource]:
    """Rows of another kind, those together whose values are of the same types: what one holds is nothing to another.

    Raises:
      ValueError: a column that is read is in none of them, or one that is added is in one.
    """
    dicts = [tables.as_dict(row) for row in rows]
    values = {name: [row.get(name) for row in dicts] for name in _present(dicts, wanted)}
    tables.check_can_extend(rows, [field.name for field in wanted.added])
    for positions, kinds in columns.alike(list(values.values()), len(rows)):
        arrays, invalid = {}, {}
        for (name, column), kind in zip(values.items(), kinds, strict=True):
            arrays[name], reasons = columns.of_values(name, [column[row] for row in positions], kind)
            invalid.update(reasons)
        inputs = pa.table(arrays or {"": pa.nulls(len(positions))})
        picked = [rows[row] for row in positions], [places[row] for row in positions]
        source = RowsSource(*picked, inputs, wanted.added)
        source.invalid = invalid
        yield source


def _present(rows: Sequence[Mapping[str, Any]], wanted: Wanted) -> list[str]:
    """The names of the columns that are to be read, and are there."""
    there = dict.fromkeys(name for row in rows for name in row)
    for name in wanted.inputs:
        if name not in there:
            raise ValueError(_no_column(name, there))
    for field in wanted.added:
        if field.name in there:
            raise ValueError(_column_exists(field.name))
    for row in rows:
        check_error_is_free(row)
    return list(dict.fromkeys([*wanted.inputs, *(name for name in wanted.optional if name in there)]))


def _no_column(name: str, there: Sequence[str] | Mapping[str, None]) -> str:
    return f"the rows have no column {name!r}; they have: {', '.join(map(str, there)) or 'none'}"


def _column_exists(name: str) -> str:
    hint = "the failed rows need it: rename yours" if name == "error" else "name the added one with output="
    return f"the rows have a column {name!r} already: {hint}"


def input_length(row: Any, wanted: Wanted) -> int:
    """About how many bytes a row that is no table has in what is read of it."""
    values = tables.as_dict(row)
    return sum(tables.length(values.get(name)) for name in (*wanted.inputs, *wanted.optional))


def row_bytes(rows: pa.Table) -> Costs:
    """About how many bytes each row has."""
    total = np.zeros(rows.num_rows)
    for column in rows.columns:
        try:
            lengths = pc.binary_length(column)
            total += (lengths.fill_null(0) if lengths.null_count else lengths).to_numpy()
        except pa.ArrowNotImplementedError:
            total += column.nbytes / max(1, rows.num_rows)
    return total
