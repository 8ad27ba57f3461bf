"""Small requests without files: texts made on the spot, 64 in flight, answers counted and dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa
from openai import AsyncOpenAI

from beam_openai import API, Embeddings
from benchmarks.contestants import MODEL, RUNNER

_IN_FLIGHT = 64


def ours(base_url: str, count: int, rows: int | None, batch_size: int) -> None:
    """`count` texts in tables of so many `rows`, or in dicts if that is None.

    Raises:
      RuntimeError: not every row was answered.
    """
    api = API(base_url=base_url)
    embeddings = Embeddings(model=MODEL, api=api, concurrency=_IN_FLIGHT, max_batch_size=batch_size)
    make = beam.FlatMap(_tables, rows).with_output_types(pa.Table) if rows else beam.FlatMap(_dicts)
    pipeline = beam.Pipeline(RUNNER)
    _ = pipeline | beam.Create([count]) | make | embeddings
    result = pipeline.run()
    result.wait_until_finish()
    answered = result.metrics().query(beam.metrics.MetricsFilter().with_name("rows_answered"))["counters"]
    if sum(counter.result for counter in answered) != count:
        raise RuntimeError(f"{answered} of {count} rows were answered")


def _tables(count: int, rows: int) -> Iterator[pa.Table]:
    for start in range(0, count, rows):
        yield pa.table({"text": [f"text {row}" for row in range(start, min(start + rows, count))]})


def _dicts(count: int) -> Iterator[dict[str, str]]:
    for row in range(count):
        yield {"text": f"text {row}"}


def openai(base_url: str, count: int) -> None:
    """The same with the openai package: 64 tasks of one event loop."""
    asyncio.run(_openai(base_url, count))


async def _openai(base_url: str, count: int) -> None:
    left = iter(range(count))
    async with AsyncOpenAI(base_url=base_url, api_key="none-is-needed") as client:

        async def work() -> None:
            for row in left:
                answer = await client.embeddings.create(model=MODEL, input=[f"text {row}"])
                assert len(answer.data) == 1

        await asyncio.gather(*(work() for _ in range(_IN_FLIGHT)))
