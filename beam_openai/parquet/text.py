"""JSON Lines and CSV as tables, without a guess at what a string may mean."""

from __future__ import annotations

import csv
import decimal
import io
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from beam_openai.parquet import files

_JSON_BLOCK_BYTES = 4 << 20
# Arrow reads some 32 blocks ahead. A row must fit in a block: the second size is for rows that are
# too large for the first.
_CSV_BLOCK_BYTES = (4 << 20, 64 << 20)
_BOM = b"\xef\xbb\xbf"
_INTEGER = r"^(0|-?[1-9][0-9]*)?$"
_HALF_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_json_lines(path: str, start: int = 0, stop: int | None = None) -> Iterator[pa.Table]:
    """The rows whose lines begin at byte `start` or later and before `stop`.

    Raises:
      ValueError: a line is not a JSON object, or the values of a column have no type in common.
    """
    try:
        with files.open_text(path) as source:
            for offset, lines in whole_lines(source, start, stop):
                rows = _decode(path, offset, lines)
                if rows:
                    yield _json_table(path, offset, rows)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as JSON Lines: {error}") from error


def whole_lines(source: pa.NativeFile, start: int, stop: int | None) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines, and where in the file each block begins."""
    at = start
    if start:
        # The line that `start` is in the middle of belongs to the range before this one.
        at = start - 1
        source.seek(at)
        for data in iter(lambda: source.read(_JSON_BLOCK_BYTES), b""):
            newline = data.find(b"\n")
            at += newline + 1 if newline >= 0 else len(data)
            if newline >= 0:
                break
        source.seek(at)
    held: list[bytes] = []
    data = source.read(_JSON_BLOCK_BYTES)
    while data and (stop is None or at < stop):
        # Read ahead: the last line, when nothing ends it, belongs to the block before.
        ahead = source.read(_JSON_BLOCK_BYTES)
        end = data.rfind(b"\n") + 1 if ahead else len(data)
        if end:
            lines = b"".join([*held, data[:end]])
            yield at, _before(lines, None if stop is None else stop - at)
            at += len(lines)
            held = []
        held.append(data[end:])
        data = ahead


def _before(lines: bytes, stop: int | None) -> bytes:
    """The lines that begin before `stop`, the last of them whole."""
    if stop is None or stop >= len(lines):
        return lines
    newline = lines.find(b"\n", stop - 1)
    return lines[: newline + 1] if newline >= 0 else lines


def _decode(path: str, offset: int, lines: bytes) -> list[dict[str, Any]]:
    if offset == 0:
        lines = lines.removeprefix(_BOM)
    try:
        rows = msgspec.json.Decoder().decode_lines(lines)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _first_bad(path, offset, lines) from None
    if not all(type(row) is dict for row in rows):
        raise _first_bad(path, offset, lines)
    return rows


def _first_bad(path: str, offset: int, lines: bytes) -> ValueError:
    reason = "the lines are not one JSON object each"
    at = offset
    for line in io.BytesIO(lines):
        if line.strip():
            try:
                if type(msgspec.json.decode(line)) is not dict:
                    reason = "not a JSON object"
                    break
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                reason = f"not valid JSON ({error})"
                if _HALF_SURROGATE.search(line):
                    reason += "; half a surrogate pair, as \\ud800 alone, is not text"
                break
        at += len(line)
    number = _line_number(path, at)
    return ValueError(f"{path}: line {number} (byte {at}): {reason}")


def _line_number(path: str, offset: int) -> int:
    number = 1
    with files.open_text(path) as source:
        while offset:
            data = source.read(min(offset, _JSON_BLOCK_BYTES))
            if not data:
                break
            number += data.count(b"\n")
            offset -= len(data)
    return number


def _json_table(path: str, offset: int, rows: list[dict[str, Any]]) -> pa.Table:
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            columns[name] = _column([row.get(name) for row in rows])
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: column {name!r}: the values of the {len(rows)} rows from byte {offset} "
                f"have no type in common: {_without_value(error)}"
            ) from None
    return pa.table(columns)


def _column(values: list[Any]) -> pa.Array:
    try:
        array = pa.array(values)
    except OverflowError:
        return _large_integers(values)
    if _hides_a_bool(values, array.type):
        raise TypeError("true or false among numbers")
    return array


def _large_integers(values: list[Any]) -> pa.Array:
    if not all(value is None or type(value) is int for value in values):
        raise TypeError("an integer beyond int64 in a list, an object or beside other values")
    try:
        return pa.array(values, pa.uint64())
    except OverflowError:
        exact = [value if value is None else decimal.Decimal(value) for value in values]
        return pa.array(exact, pa.decimal128(38, 0))


def _hides_a_bool(values: Iterable[Any], type_: pa.DataType) -> bool:
    """Whether Arrow took true for 1.0, as it does behind a fraction."""
    if pa.types.is_floating(type_):
        return bool in set(map(type, values))
    if pa.types.is_list(type_) and _has_floats(type_):
        lists = (value for value in values if value is not None)
        return _hides_a_bool(itertools.chain.from_iterable(lists), type_.value_type)
    if pa.types.is_struct(type_) and _has_floats(type_):
        objects = [value for value in values if value is not None]
        return any(_hides_a_bool([value.get(field.name) for value in objects], field.type) for field in type_)
    return False


def _has_floats(type_: pa.DataType) -> bool:
    if pa.types.is_struct(type_):
        return any(_has_floats(field.type) for field in type_)
    if pa.types.is_list(type_):
        return _has_floats(type_.value_type)
    return bool(pa.types.is_floating(type_))


def _without_value(error: Exception) -> str:
    return re.sub(r"^Could not convert .* with type", "a value of type", str(error), flags=re.DOTALL)


def read_csv(path: str) -> Iterator[pa.Table]:
    """The rows of a CSV file with a header: strings, and int64 where the whole first block is.

    Raises:
      ValueError: the file is no such file: rows of different lengths, bytes that are not UTF-8, two
        columns of one name, a row of more than 64 MB.
    """
    try:
        names = _header(path)
        integers: set[str] | None = None
        for block in _csv_blocks(path, names):
            columns = {name: _integers(block[name]) for name in (names if integers is None else integers)}
            if integers is None:
                integers = {name for name, cells in columns.items() if cells and cells.valid}
            for name in integers:
                cells = columns[name]
                if cells:
                    block = block.set_column(names.index(name), name, cells.column)
            yield block
    except (pa.ArrowException, OSError, csv.Error, UnicodeDecodeError) as error:
        # What stands behind the last colon of a row's error is the row.
        reason = re.sub(r"(Expected \d+ columns, got \d+):.*", r"\1", str(error), flags=re.DOTALL)
        raise ValueError(f"{path}: cannot be read as CSV: {reason}") from None


def _header(path: str) -> list[str]:
    # Arrow would read far ahead to tell the names.
    with files.open_text(path) as source:
        lines = io.TextIOWrapper(source, encoding="utf-8-sig", newline="")
        records = csv.reader(lines, delimiter=_delimiter(path))
        names: list[str] = next(filter(None, records), [])
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"{path}: two columns are called {min(twice)!r}")
    return names


def _csv_blocks(path: str, names: list[str]) -> Iterator[pa.Table]:
    given = 0
    for block_bytes in _CSV_BLOCK_BYTES if names else ():
        try:
            for block in _stream_csv(path, names, block_bytes, given):
                given += block.num_rows
                yield block
            return
        except pa.ArrowInvalid as error:
            if "straddling" not in str(error) or block_bytes == _CSV_BLOCK_BYTES[-1]:
                raise


def _stream_csv(path: str, names: list[str], block_bytes: int, skip: int) -> Iterator[pa.Table]:
    with files.open_text(path) as source:
        reader = pacsv.open_csv(
            source,
            read_options=pacsv.ReadOptions(block_size=block_bytes, use_threads=False),
            parse_options=pacsv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
        if reader.schema.names != names:
            raise ValueError(f"{path}: the line of column names is not well-formed CSV")
        for batch in reader:
            if skip < batch.num_rows:
                yield pa.Table.from_batches([batch.slice(skip)])
            skip = max(skip - batch.num_rows, 0)


def _delimiter(path: str) -> str:
    return "\t" if re.search(r"\.tsv(\.\w+)?$", path.lower()) else ","


class _Integers(NamedTuple):
    column: pa.ChunkedArray
    valid: int


def _integers(column: pa.ChunkedArray) -> _Integers | None:
    """The cells as int64, empty ones null; None unless all others are as a computer prints them."""
    if not pc.all(pc.match_substring_regex(column, _INTEGER)).as_py():
        return None
    filled = pc.not_equal(column, "")
    try:
        integers = column.filter(filled).cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    # pc.if_else would do, but pyarrow 18 gives random bytes for a slice of strings.
    is_filled = filled.to_numpy()
    places = pa.array(np.cumsum(is_filled) - 1, pa.int64(), mask=~is_filled)
    return _Integers(integers.take(places), len(integers))
