"""ReadTables: files -> pieces of files -> reshuffle of the pieces -> tables.

What is shuffled is where rows are, never rows: reading fuses with what follows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam
import pyarrow as pa

from beam_openai.parquet import csv_files, files, json_lines, row_groups
from beam_openai.parquet.files import Piece

_TEXT_PIECE_BYTES = 64 << 20
_FOOTER_THREADS = 16


@dataclasses.dataclass(eq=False)
class ReadTables(beam.PTransform):
    """Reads files into a PCollection of `pa.Table`.

    Each table has at most `max_rows` rows and about `max_bytes` bytes (a row larger than that comes
    alone), all from one file. Every column passes through with the type it has in the file; files
    may differ in their columns. A file or row group without rows gives no table. Reading is
    streamed: files larger than memory are fine.

    - Parquet: `.parquet`, `.pq`. Types and schema metadata stay as they are.
    - JSON Lines: `.jsonl`, `.ndjson`, `.json`; one object a line. Types follow from the values, for
      each block of about 4 MB: strings stay strings, integers and fractions in one column become
      double where that is exact, integers beyond int64 become uint64 or decimal128(38, 0), objects
      become structs, and a key that is missing is null. A column of lists or objects that have no
      type in common (messages whose contents are here text, there lists of parts) becomes text: each
      as JSON, which `ChatCompletions(messages=...)` and `FineTuningData` take as well.
    - CSV: `.csv`, and with tabs `.tsv`; the first line names the columns. Columns are strings, and
      an empty cell is the empty string. A column is int64, and an empty cell null, where the whole
      first block of 4 MB is integers as a computer prints them (no `007`, no `+1`); a later block
      with anything else in that column has it as strings. With `csv_text` all columns are strings.
      Blank lines are passed over. A quote that nothing closes is an error, and no long cell.

    The text formats may be compressed: `.gz`, `.bz2`, `.zst` or `.lz4` behind the name. Such files
    and all CSV files are read by one worker each.

    Attributes:
      pattern: a path, a glob, or a list of them, on any filesystem that Beam knows. A folder means
        the data files right inside it.
      format: "parquet", "jsonl" or "csv" for files whose names do not tell.
      max_rows: the most rows in one table.
      max_bytes: the size of a table in memory at which the next one begins.
      csv_text: leave the columns of CSV as they are written, where a column of whole numbers is text.

    Raises:
      ValueError: when the pipeline is built: no file matches a pattern, or a format is not known.
        When it runs: a file cannot be read or is damaged, or the values of a column have no type in
        common; the message names the file.
    """

    pattern: str | Sequence[str]
    _: dataclasses.KW_ONLY
    format: str | None = None
    max_rows: int = 8192
    max_bytes: int = 8 << 20
    csv_text: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        _check_format(self.format)
        if self.max_rows < 1 or self.max_bytes < 1:
            raise ValueError(f"max_rows and max_bytes must be at least 1, not {self.max_rows}, {self.max_bytes}")

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[pa.Table]:
        files.find(_patterns(self.pattern), self.format)
        return (
            root
            | "Patterns" >> beam.Create([_patterns(self.pattern)])
            | "Find" >> beam.FlatMap(find_files, self.format)
            | "SpreadFiles" >> beam.Reshuffle()
            | "Plan" >> beam.FlatMap(plan).with_output_types(Piece)
            | "SpreadPieces" >> beam.Reshuffle()
            | "Read"
            >> beam.FlatMap(read_piece, self.max_rows, self.max_bytes, self.csv_text).with_output_types(pa.Table)
        )


def count_rows(pattern: str | Sequence[str], format: str | None = None) -> int | None:
    """The rows of all files, from the footers of Parquet alone; None if any is of another format.

    Raises:
      ValueError: no file matches, a format is not known, or a file is not readable Parquet.
    """
    _check_format(format)
    found = files.find(_patterns(pattern), format)
    if any(file.format != "parquet" for file in found):
        return None
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        return sum(pool.map(row_groups.count_rows, (file.path for file in found)))


def find_files(patterns: Sequence[str], format: str | None) -> Iterator[list[files.File]]:
    """All files in lists of a few dozen: what one worker plans at a stretch."""
    found = files.find(patterns, format)
    size = 4 * _FOOTER_THREADS
    for first in range(0, len(found), size):
        yield found[first : first + size]


def plan(found: Sequence[files.File]) -> Iterator[Piece]:
    """The pieces of all files, the footers of Parquet read side by side."""
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        for pieces in pool.map(pieces_of, found):
            yield from pieces


def pieces_of(file: files.File) -> list[Piece]:
    if file.format == "parquet":
        return row_groups.pieces_of(file.path)
    if file.format == "jsonl" and not files.codec_of(file.path):
        starts = range(0, file.size, _TEXT_PIECE_BYTES)
        return [Piece(file.path, "jsonl", start=start, stop=start + _TEXT_PIECE_BYTES) for start in starts]
    return [Piece(file.path, file.format)]


def read_piece(piece: Piece, max_rows: int, max_bytes: int, csv_text: bool = False) -> Iterator[pa.Table]:
    """The rows of a piece, in their order."""
    if piece.format == "parquet":
        # An even share, so that 8,193 rows are not one table of 8,192 and one of 1.
        rows = row_groups.rows_of(piece)
        share = -(-rows // -(-rows // max_rows))
        return bounded(row_groups.read(piece), share, max_bytes)
    if piece.format == "jsonl":
        blocks = json_lines.read_json_lines(piece.path, piece.start, piece.stop)
    else:
        blocks = csv_files.read_csv(piece.path, csv_text)
    return bounded(blocks, max_rows, max_bytes)


def bounded(blocks: Iterator[pa.Table], max_rows: int, max_bytes: int) -> Iterator[pa.Table]:
    """The same rows in tables of at most `max_rows` rows and about `max_bytes` bytes.

    Small neighbours of one schema are joined without a copy, large tables are cut.
    """
    held: list[pa.Table] = []
    rows = size = 0
    for block in blocks:
        for part in _cut(block, max_bytes):
            while part.num_rows:
                changed = held and not held[0].schema.equals(part.schema)
                if held and (rows == max_rows or size + part.nbytes > max_bytes or changed):
                    yield pa.concat_tables(held)
                    held, rows, size = [], 0, 0
                taken = part.slice(0, max_rows - rows)
                held.append(taken)
                rows += taken.num_rows
                size += taken.nbytes
                part = part.slice(taken.num_rows)
    if held:
        yield pa.concat_tables(held)


def _check_format(format: str | None) -> None:
    known = sorted(set(files.FORMATS.values()))
    if format is not None and format not in known:
        raise ValueError(f"format must be one of {', '.join(known)}, not {format!r}")


def _patterns(pattern: str | Sequence[str]) -> list[str]:
    return [pattern] if isinstance(pattern, str) else list(pattern)


def _cut(table: pa.Table, max_bytes: int) -> Iterator[pa.Table]:
    """Halves of halves, down to `max_bytes`, as long as halving helps.

    A dictionary is shared by both halves and counts in both, so it may not.
    """
    if table.num_rows < 2 or table.nbytes <= max_bytes:
        yield table
        return
    middle = table.num_rows // 2
    halves = table.slice(0, middle), table.slice(middle)
    if min(half.nbytes for half in halves) > 0.75 * table.nbytes:
        yield table
        return
    for half in halves:
        yield from _cut(half, max_bytes)
