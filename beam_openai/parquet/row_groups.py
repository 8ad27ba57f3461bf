"""Parquet files in pieces of row groups, and the rows of a piece as a stream."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from beam_openai.parquet import files
from beam_openai.parquet.files import Piece

# A piece is what one worker reads at a stretch, and what is read again after a crash.
_PIECE_ROWS = 16_384
_PIECE_BYTES = 128 << 20
# Parquet has no way to begin in the middle of a row group: k parts decode it (k + 1) / 2 times.
_MAX_PARTS = 4
# Dictionary pages can make a row group of a few MB gigabytes of strings: decode little at once.
# Larger steps were measured to be no faster. Of rows that are large in the file as well (images) fewer are enough.
_STEP_ROWS = 256
_STEP_BYTES = 8 << 20


def count_rows(path: str) -> int:
    """The rows of a file, from its footer.

    Raises:
      ValueError: the file is not readable Parquet.
    """
    return int(_footer(path).num_rows)


def pieces_of(path: str) -> list[Piece]:
    """Small row groups together, large ones in parts.

    Raises:
      ValueError: the file is not readable Parquet.
    """
    footer = _footer(path)
    pieces: list[Piece] = []
    first = rows = size = 0
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        if rows and (rows + group.num_rows > _PIECE_ROWS or size + group.total_byte_size > _PIECE_BYTES):
            pieces += _parts(path, (first, index), rows, size)
            first, rows, size = index, 0, 0
        rows += group.num_rows
        size += group.total_byte_size
    if rows:
        pieces += _parts(path, (first, footer.num_row_groups), rows, size)
    return pieces


def rows_of(piece: Piece) -> int:
    assert piece.stop is not None
    return piece.stop - piece.start


def read(piece: Piece) -> Iterator[pa.Table]:
    """The rows of a piece in small tables, streamed.

    Raises:
      ValueError: the file is damaged, or has changed.
    """
    start, stop = piece.start, piece.start + rows_of(piece)
    at = 0
    try:
        with files.open_bytes(piece.path) as source:
            # As a stream: with pre_buffer, which newer versions of pyarrow have on, or without a
            # buffer_size a row group is held encoded as a whole.
            buffer_size = (1 if files.is_local(piece.path) else 8) << 20
            parquet = pq.ParquetFile(source, buffer_size=buffer_size, pre_buffer=False)
            step = _step(parquet.metadata, piece.groups)
            for batch in parquet.iter_batches(step, row_groups=list(range(*piece.groups)), use_threads=False):
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


def _step(footer: pq.FileMetaData, groups: tuple[int, int]) -> int:
    """Rows that are decoded at once."""
    found = [footer.row_group(index) for index in range(*groups)]
    rows, size = sum(group.num_rows for group in found), sum(group.total_byte_size for group in found)
    return int(max(1, min(_STEP_ROWS, _STEP_BYTES * rows // max(1, size))))


def _parts(path: str, groups: tuple[int, int], rows: int, size: int) -> list[Piece]:
    wanted = max(-(-rows // (2 * _PIECE_ROWS)), -(-size // _PIECE_BYTES))
    parts = min(wanted, _MAX_PARTS, rows)
    edges = [rows * part // parts for part in range(parts + 1)]
    return [Piece(path, "parquet", groups, start, stop) for start, stop in itertools.pairwise(edges)]


def _footer(path: str) -> pq.FileMetaData:
    try:
        with files.open_bytes(path) as source:
            return pq.ParquetFile(source).metadata
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> ValueError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if reason.startswith("Expected all lists to be of size"):
        reason += "; this version of pyarrow cannot read a null in a fixed_size_list column"
    return ValueError(f"{path}: cannot be read as Parquet: {reason}")
