"""No Beam, and no care for errors: the loop that one writes when it has to be fast once."""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pybase64
import requests

from benchmarks.contestants import API_ROWS, DIMENSIONS, MODEL, clear

_VECTOR = pa.list_(pa.float32(), DIMENSIONS)
_SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string()), ("embedding", _VECTOR)])
_STORAGE = {"compression": {"id": "zstd", "text": "zstd"}, "use_dictionary": False, "write_statistics": ["id"]}


class _Item(msgspec.Struct, gc=False):
    index: int
    embedding: msgspec.Raw


class _Answer(msgspec.Struct):
    data: list[_Item]


def run(base_url: str, source: str, target: str, threads: int) -> None:
    clear(target)
    Path(target).mkdir()
    session = requests.Session()
    session.trust_env = False
    files = sorted(Path(source).glob("*.parquet"))
    batches = itertools.chain.from_iterable(pq.ParquetFile(file).iter_batches(API_ROWS) for file in files)
    answers: deque[Future[pa.RecordBatch]] = deque()
    with (
        pq.ParquetWriter(f"{target}/part.parquet", _SCHEMA, **_STORAGE) as writer,
        ThreadPoolExecutor(threads) as pool,
    ):
        for batch in batches:
            answers.append(pool.submit(_embed, session, base_url, batch))
            if len(answers) > threads:
                writer.write_batch(answers.popleft().result())
        for answer in answers:
            writer.write_batch(answer.result())


def _embed(session: requests.Session, base_url: str, rows: pa.RecordBatch) -> pa.RecordBatch:
    body = {"model": MODEL, "input": rows["text"].to_pylist(), "encoding_format": "base64"}
    answer = session.post(f"{base_url}/embeddings", data=msgspec.json.encode(body), stream=True)
    answer.raise_for_status()
    items = msgspec.json.decode(answer.raw.read(decode_content=True), type=_Answer).data
    items.sort(key=lambda item: item.index)
    numbers = b"".join([pybase64.b64decode(memoryview(item.embedding)[1:-1], validate=True) for item in items])
    values = pa.Array.from_buffers(pa.float32(), len(numbers) // 4, [None, pa.py_buffer(numbers)])
    return pa.RecordBatch.from_arrays(
        [*rows.columns, pa.FixedSizeListArray.from_arrays(values, DIMENSIONS)], schema=_SCHEMA
    )
