"""The data: texts of so many words, as Parquet."""

from __future__ import annotations

from pathlib import Path

from benchmarks.process import apart

_FILE_ROWS = 100_000
_WORDS = 24
SEED = 7


def corpus(folder: Path, rows: int, words: int = _WORDS) -> Path:
    """A folder of Parquet files with so many rows, `id: int64, text: string`; made once, by another process.

    24 words, and the id before them, are about 150 bytes; 4 are 30.
    """
    path = folder / f"corpus-{rows}-{words}"
    if not path.exists():
        apart(write, folder=path, rows=rows, words=words)
    return path


def write(folder: str, rows: int, words: int) -> None:
    """Files of 100,000 rows, each one row group."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(SEED)
    known = np.array(["".join(random.choice(list("abcdefghijklmnop"), random.integers(2, 9))) for _ in range(5000)])
    Path(folder).mkdir()
    for start in range(0, rows, _FILE_ROWS):
        ids = range(start, min(start + _FILE_ROWS, rows))
        picked = known[random.integers(0, len(known), (len(ids), words))]
        texts = [f"{id} {' '.join(row)}" for id, row in zip(ids, picked.tolist())]
        table = pa.table({"id": pa.array(ids, pa.int64()), "text": texts})
        pq.write_table(table, f"{folder}/{start:09}.parquet")
