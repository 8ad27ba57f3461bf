"""CSV as tables, without a guess at what a string may mean."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from beam_openai.parquet import files
from beam_openai.parquet.quotes import Quotes

# Arrow reads some 32 blocks ahead. A row must fit in a block: the second size is for rows that are
# too large for the first.
_BLOCK_BYTES = (4 << 20, 64 << 20)
_INTEGER = r"^(0|-?[1-9][0-9]*)?$"


def read_csv(path: str, as_text: bool = False) -> Iterator[pa.Table]:
    """The rows of a CSV file with a header: strings; unless `as_text`, int64 where the whole first block is.

    Raises:
      ValueError: the file is no such file: rows of different lengths, bytes that are not UTF-8, two
        columns of one name, a row of more than 64 MB, a quote that nothing closes.
    """
    try:
        names = _header(path)
        integers: set[str] | None = set() if as_text else None
        for block in _blocks(path, names):
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
        try:
            names: list[str] = next(filter(None, records), [])
        except csv.Error as error:
            raise ValueError(f"{path}: the line of column names is not well-formed CSV: {error}") from None
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"{path}: two columns are called {min(twice)!r}")
    return names


def _blocks(path: str, names: list[str]) -> Iterator[pa.Table]:
    given = 0
    for block_bytes in _BLOCK_BYTES if names else ():
        try:
            for block in _stream(path, names, block_bytes, given):
                given += block.num_rows
                yield block
            return
        except pa.ArrowInvalid as error:
            if "straddling" not in str(error) or block_bytes == _BLOCK_BYTES[-1]:
                raise


def _stream(path: str, names: list[str], block_bytes: int, skip: int) -> Iterator[pa.Table]:
    with files.open_text(path) as source:
        quotes = Quotes(source, _delimiter(path))
        try:
            for batch in _batches(path, quotes, names, block_bytes):
                if quotes.problem:
                    break
                if skip < batch.num_rows:
                    yield pa.Table.from_batches([batch.slice(skip)])
                skip = max(skip - batch.num_rows, 0)
        except pa.ArrowInvalid as error:
            if not quotes.problem and quotes.open_bytes >= block_bytes == _BLOCK_BYTES[-1]:
                quotes.problem = f"is not closed in the next {block_bytes:,} bytes"
            if not quotes.problem and "straddling" not in str(error):
                # Arrow reads in a thread of its own, and may have given up before that came to the end.
                quotes = _read_through(path)
            if not quotes.problem:
                raise
    if quotes.problem:
        number = files.line_number(path, quotes.opened or 0)
        raise ValueError(
            f"{path}: the quote that opens a cell in line {number} {quotes.problem}; a quote "
            "that is part of a text is written twice"
        )


def _read_through(path: str) -> Quotes:
    with files.open_text(path) as source:
        quotes = Quotes(source, _delimiter(path))
        while not quotes.problem and quotes.read(_BLOCK_BYTES[0]):
            pass
        return quotes


def _batches(path: str, source: Quotes, names: list[str], block_bytes: int) -> Iterator[pa.RecordBatch]:
    reader = pacsv.open_csv(
        source,
        read_options=pacsv.ReadOptions(block_size=block_bytes, use_threads=False),
        parse_options=pacsv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )
    if reader.schema.names != names and not source.problem:
        raise ValueError(f"{path}: the line of column names is not well-formed CSV")
    yield from reader


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
