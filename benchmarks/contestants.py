"""The same work done by each contestant: Parquet to Parquet, a vector for each row.

In: `id: int64, text: string`. Out: these, and `embedding`. All ask for base64.
"""

from __future__ import annotations

import itertools
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MODEL = "benchmark"
DIMENSIONS = 1536
RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
_API_ROWS = 2048


def ours(base_url: str, source: str, target: str, dimensions: int | None = None) -> None:
    import apache_beam as beam

    from beam_openai import API, Embeddings, ReadTables, WriteTables

    shutil.rmtree(target, ignore_errors=True)
    embeddings = Embeddings(model=MODEL, api=API(base_url=base_url), dimensions=dimensions)
    with beam.Pipeline(RUNNER) as pipeline:
        rows = pipeline | ReadTables(f"{source}/*.parquet")
        embedded = rows | embeddings
        embedded.answered | "Answered" >> WriteTables(target)
        embedded.failed | "Failed" >> WriteTables(f"{target}.failed")


def ml_transform(base_url: str, source: str, target: str, batch_size: int | None) -> None:
    """Beam's own. It puts vectors in the place of texts, so it gets a copy of them to keep the texts."""
    import os

    import apache_beam as beam
    import pyarrow as pa
    from apache_beam.ml.transforms.base import MLTransform
    from apache_beam.ml.transforms.embeddings.open_ai import OpenAITextEmbeddings

    shutil.rmtree(target, ignore_errors=True)
    os.environ["OPENAI_BASE_URL"] = base_url
    embeddings = OpenAITextEmbeddings(MODEL, ["embedding"], max_batch_size=batch_size)
    vector = pa.list_(pa.float32())
    schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("embedding", vector)])
    with beam.Pipeline(RUNNER) as pipeline:
        rows = pipeline | beam.io.ReadFromParquet(f"{source}/*.parquet")
        copied = rows | beam.Map(lambda row: {**row, "embedding": row["text"]})
        embedded = copied | MLTransform(write_artifact_location=f"{target}/artifacts").with_transform(embeddings)
        embedded | beam.io.WriteToParquet(f"{target}/part", schema)


def by_hand(base_url: str, source: str, target: str, threads: int) -> None:
    """No Beam and no care for errors: the loop that one writes when it has to be fast once."""
    import msgspec
    import pyarrow as pa
    import pyarrow.parquet as pq
    import requests

    session = requests.Session()
    session.trust_env = False
    schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("embedding", pa.list_(pa.float32(), DIMENSIONS))])

    def call(rows: pa.RecordBatch) -> pa.RecordBatch:
        body = {"model": MODEL, "input": rows["text"].to_pylist(), "encoding_format": "base64"}
        answer = session.post(f"{base_url}/embeddings", data=msgspec.json.encode(body), stream=True)
        answer.raise_for_status()
        vectors = _vectors(answer.raw.read(decode_content=True))
        return pa.RecordBatch.from_arrays([*rows.columns, vectors], schema=schema)

    shutil.rmtree(target, ignore_errors=True)
    Path(target).mkdir()
    files = sorted(Path(source).glob("*.parquet"))
    batches = itertools.chain.from_iterable(pq.ParquetFile(file).iter_batches(_API_ROWS) for file in files)
    plain = {"compression": {"id": "zstd", "text": "zstd"}, "use_dictionary": False, "write_statistics": ["id"]}
    with pq.ParquetWriter(f"{target}/part.parquet", schema, **plain) as writer, ThreadPoolExecutor(threads) as pool:
        answers: list = []
        for batch in batches:
            answers.append(pool.submit(call, batch))
            if len(answers) > threads:
                writer.write_batch(answers.pop(0).result())
        for answer in answers:
            writer.write_batch(answer.result())


def _vectors(body: bytes) -> object:
    import msgspec
    import pyarrow as pa
    import pybase64

    class Item(msgspec.Struct, gc=False):
        index: int
        embedding: msgspec.Raw

    class Answer(msgspec.Struct):
        data: list[Item]

    items = sorted(msgspec.json.decode(body, type=Answer).data, key=lambda item: item.index)
    numbers = b"".join([pybase64.b64decode(memoryview(item.embedding)[1:-1], validate=True) for item in items])
    values = pa.Array.from_buffers(pa.float32(), len(numbers) // 4, [None, pa.py_buffer(numbers)])
    return pa.FixedSizeListArray.from_arrays(values, DIMENSIONS)
