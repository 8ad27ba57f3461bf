"""JSON Lines and CSV as tables, without a guess at what a string may mean."""

from __future__ import annotations

import decimal
import io
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from beam_openai.parquet import files

_JSON_BLOCK_BYTES = 4 << 20
_CSV_BLOCK_BYTES = 16 << 20
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
    while stop is None or at < stop:
        data = source.read(_JSON_BLOCK_BYTES)
        end = data.rfind(b"\n") + 1
        if data and not end:
            held.append(data)
            continue
        lines = b"".join([*held, data[:end]])
        if stop is not None and at + len(lines) > stop:
            newline = lines.find(b"\n", stop - 1 - at)
            lines = lines[: newline + 1] if newline >= 0 else lines
        if lines:
            yield at, lines
        if not data:
            return
        held = [data[end:]]
        at += len(lines)


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
        return pa.array(values)
    except OverflowError:
        pass
    try:
        return pa.array(values, pa.uint64())
    except OverflowError:
        exact = [value if type(value) is not int else decimal.Decimal(value) for value in values]
        return pa.array(exact, pa.decimal128(38, 0))


def _without_value(error: Exception) -> str:
    return re.sub(
        r"^Could not convert .* with type", "a value of type", str(error), flags=re.DOTALL
    )


def read_csv(path: str) -> Iterator[pa.Table]:
    """The rows of a CSV file with a header: strings, and int64 where the whole first block is.

    Raises:
      ValueError: the file is no such file: rows of different lengths, bytes that are not UTF-8, two
        columns of one name, a row of more than 16 MB.
    """
    try:
        names = _header(path)
        integers: set[str] | None = None
        for block in _csv_blocks(path, names):
            if integers is None:
                integers = {name for name in names if _is_integer(block[name], required=True)}
            for index, name in enumerate(names):
                if name in integers and _is_integer(block[name]):
                    column = pc.if_else(pc.equal(block[name], ""), None, block[name])
                    block = block.set_column(index, name, column.cast(pa.int64()))
            yield block
    except (pa.ArrowException, OSError) as error:
        # What stands behind the last colon of a row's error is the row.
        reason = re.sub(r"(Expected \d+ columns, got \d+):.*", r"\1", str(error), flags=re.DOTALL)
        raise ValueError(f"{path}: cannot be read as CSV: {reason}") from None


def _header(path: str) -> list[str]:
    names: list[str] = []
    with files.open_text(path) as source:
        if source.read(1):
            with files.open_text(path) as again:
                names = _open_csv(path, again, None).schema.names
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"{path}: two columns are called {min(twice)!r}")
    return names


def _csv_blocks(path: str, names: list[str]) -> Iterator[pa.Table]:
    if not names:
        return
    with files.open_text(path) as source:
        types = dict.fromkeys(names, pa.string())
        for batch in _open_csv(path, source, types):
            if batch.num_rows:
                yield pa.Table.from_batches([batch])


def _open_csv(
    path: str, source: pa.NativeFile, types: dict[str, pa.DataType] | None
) -> csv.CSVStreamingReader:
    tabs = re.search(r"\.tsv(\.\w+)?$", path.lower())
    return csv.open_csv(
        source,
        read_options=csv.ReadOptions(block_size=_CSV_BLOCK_BYTES, use_threads=False),
        parse_options=csv.ParseOptions(delimiter="\t" if tabs else ",", newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=False),
    )


def _is_integer(column: pa.ChunkedArray, *, required: bool = False) -> bool:
    """Whether every cell is empty or an int64 as a computer prints it; `required`: one must be."""
    if not pc.all(pc.match_substring_regex(column, _INTEGER)).as_py():
        return False
    digits = column.filter(pc.not_equal(column, ""))
    if not len(digits):
        return not required
    try:
        digits.cast(pa.int64())
    except pa.ArrowInvalid:
        return False
    return True
