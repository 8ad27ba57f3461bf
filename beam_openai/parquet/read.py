"""ReadTables: files -> pieces of files -> reshuffle of the pieces -> tables.

What is shuffled is where rows are, never rows: reading fuses with what follows.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from beam_openai.parquet import files, text

# A piece is what one worker reads at a stretch, and what is read again after a crash.
_PIECE_ROWS = 8192
_PIECE_BYTES = 128 << 20
_TEXT_PIECE_BYTES = 64 << 20
# Parquet has no way to begin in the middle of a row group: k parts decode it (k + 1) / 2 times.
_MAX_PARTS = 8
# Dictionary pages can make a row group of a few MB gigabytes of strings: decode little at once.
# Larger steps were measured to be no faster.
_STEP_ROWS = 256
_FOOTER_THREADS = 16


@dataclasses.dataclass(eq=False)
class ReadTables(beam.PTransform):  # type: ignore[misc]
    """Reads files into a PCollection of `pa.Table`.

    Each table has at most `max_rows` rows and about `max_bytes` bytes (a row larger than that comes
    alone), all from one file. Every column passes through with the type it has in the file; files
    may differ in their columns. A file or row group without rows gives no table. Reading is
    streamed: files larger than memory are fine.

    - Parquet: `.parquet`, `.pq`. Types and schema metadata stay as they are.
    - JSON Lines: `.jsonl`, `.ndjson`, `.json`; one object a line. Types follow from the values, for
      each block of about 4 MB: strings stay strings, integers and fractions in one column become
      double where that is exact, integers beyond int64 become uint64 or decimal128(38, 0), objects
      become structs, and a key that is missing is null.
    - CSV: `.csv`, and with tabs `.tsv`; the first line names the columns. Columns are strings, and
      an empty cell is the empty string. A column is int64, and an empty cell null, where the whole
      first block of 16 MB is integers as a computer prints them (no `007`, no `+1`); a later block
      with anything else in that column has it as strings. Blank lines are passed over.

    The text formats may be compressed: `.gz`, `.bz2`, `.zst` or `.lz4` behind the name. Such a file,
    and every CSV file, is read by one worker.

    Attributes:
      pattern: a path, a glob, or a list of them, on any filesystem that Beam knows. A folder means
        the data files right inside it.
      format: "parquet", "jsonl" or "csv" for files whose names do not tell.
      max_rows: the most rows in one table.
      max_bytes: the size of a table in memory at which the next one begins.

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

    def __post_init__(self) -> None:
        super().__init__()
        _check_format(self.format)
        if self.max_rows < 1 or self.max_bytes < 1:
            raise ValueError(
                f"max_rows and max_bytes must be at least 1, not {self.max_rows}, {self.max_bytes}"
            )

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
            >> beam.FlatMap(read_piece, self.max_rows, self.max_bytes).with_output_types(pa.Table)
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
        return sum(pool.map(_rows, (file.path for file in found)))


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


def find_files(patterns: Sequence[str], format: str | None) -> Iterator[list[files.File]]:
    """All files in lists of a few dozen: what one worker plans at a stretch."""
    found = files.find(patterns, format)
    size = 4 * _FOOTER_THREADS
    for first in range(0, len(found), size):
        yield found[first : first + size]


def plan(found: Sequence[files.File]) -> Iterator[Piece]:
    """The pieces of all files, their footers read side by side."""
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        for pieces in pool.map(pieces_of, found):
            yield from pieces


def pieces_of(file: files.File) -> list[Piece]:
    if file.format == "parquet":
        return _row_groups(file.path)
    if file.format == "jsonl" and not files.codec_of(file.path):
        starts = range(0, file.size, _TEXT_PIECE_BYTES)
        return [
            Piece(file.path, "jsonl", start=start, stop=start + _TEXT_PIECE_BYTES)
            for start in starts
        ]
    return [Piece(file.path, file.format)]


def read_piece(piece: Piece, max_rows: int, max_bytes: int) -> Iterator[pa.Table]:
    """The rows of a piece, in their order."""
    if piece.format == "parquet":
        return _read_row_groups(piece, max_rows, max_bytes)
    if piece.format == "jsonl":
        blocks = text.read_json_lines(piece.path, piece.start, piece.stop)
    else:
        blocks = text.read_csv(piece.path)
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


def _rows(path: str) -> int:
    return int(_footer(path).num_rows)


def _footer(path: str) -> pq.FileMetaData:
    try:
        with files.open_bytes(path) as source:
            return pq.ParquetFile(source).metadata
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _row_groups(path: str) -> list[Piece]:
    """Small row groups together, large ones in parts."""
    footer = _footer(path)
    pieces: list[Piece] = []
    first = rows = size = 0
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        if rows and (
            rows + group.num_rows > _PIECE_ROWS or size + group.total_byte_size > _PIECE_BYTES
        ):
            pieces += _parts(path, (first, index), rows, size)
            first, rows, size = index, 0, 0
        rows += group.num_rows
        size += group.total_byte_size
    if rows:
        pieces += _parts(path, (first, footer.num_row_groups), rows, size)
    return pieces


def _parts(path: str, groups: tuple[int, int], rows: int, size: int) -> list[Piece]:
    wanted = max(-(-rows // (2 * _PIECE_ROWS)), -(-size // _PIECE_BYTES))
    parts = min(wanted, _MAX_PARTS, rows)
    edges = [rows * part // parts for part in range(parts + 1)]
    return [
        Piece(path, "parquet", groups, start, stop) for start, stop in itertools.pairwise(edges)
    ]


def _read_row_groups(piece: Piece, max_rows: int, max_bytes: int) -> Iterator[pa.Table]:
    assert piece.stop is not None
    rows = piece.stop - piece.start
    # An even share, so that 8,193 rows are not one table of 8,192 and one of 1.
    share = -(-rows // -(-rows // max_rows))
    return bounded(_row_range(piece, piece.start, piece.stop), share, max_bytes)


def _row_range(piece: Piece, start: int, stop: int) -> Iterator[pa.Table]:
    try:
        with files.open_bytes(piece.path) as source:
            # Read as a stream: a column of a row group is never held encoded as a whole.
            buffer_size = (1 if files.is_local(piece.path) else 8) << 20
            parquet = pq.ParquetFile(source, buffer_size=buffer_size)
            at = 0
            for batch in parquet.iter_batches(
                _STEP_ROWS, row_groups=list(range(*piece.groups)), use_threads=False
            ):
                first, last = max(start - at, 0), min(stop - at, batch.num_rows)
                if first < last:
                    yield pa.Table.from_batches([batch.slice(first, last - first)])
                at += batch.num_rows
                if at >= stop:
                    return
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(piece.path, error) from error
    if at < stop:
        raise ValueError(f"{piece.path}: changed while it was read")


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


def _unreadable(path: str, error: Exception) -> ValueError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ValueError(f"{path}: cannot be read as Parquet: {reason}")
