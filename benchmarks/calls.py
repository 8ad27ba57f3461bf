"""Small requests without files: texts made on the spot, 64 in flight, answers counted and dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import apache_beam as beam
import pyarrow as pa
from openai import AsyncOpenAI, DefaultAioHttpClient

from beam_openai import API, ChatCompletions, Embeddings
from benchmarks.contestants import CHAT_MODEL, MODEL, RUNNER

_IN_FLIGHT = 64
_MAX_TOKENS = 5


def ours(base_url: str, count: int, rows: int | None, batch_size: int) -> None:
    """Vectors for `count` texts in tables of so many `rows`, or in dicts if that is None.

    Raises:
      RuntimeError: not every row was answered.
    """
    api = API(base_url=base_url)
    embeddings = Embeddings(model=MODEL, api=api, concurrency=_IN_FLIGHT, max_batch_size=batch_size)
    _run(embeddings, count, rows)


def ours_chat(base_url: str, count: int, rows: int | None) -> None:
    """A few words of chat for each text, one text a request.

    Raises:
      RuntimeError: not every row was answered.
    """
    api = API(base_url=base_url)
    chat = ChatCompletions(model=CHAT_MODEL, api=api, concurrency=_IN_FLIGHT, prompt="{text}", max_tokens=_MAX_TOKENS)
    _run(chat, count, rows)


def _run(transform: beam.PTransform, count: int, rows: int | None) -> None:
    make = beam.FlatMap(_tables, rows).with_output_types(pa.Table) if rows else beam.FlatMap(_dicts)
    pipeline = beam.Pipeline(RUNNER)
    _ = pipeline | beam.Create([count]) | make | transform
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
    """Vectors with the openai package: 64 tasks of one event loop."""

    async def embed(client: AsyncOpenAI, text: str) -> None:
        answer = await client.embeddings.create(model=MODEL, input=[text])
        assert len(answer.data) == 1

    asyncio.run(_openai(base_url, count, embed))


def openai_chat(base_url: str, count: int, aiohttp: bool) -> None:
    """Chat with the openai package: by its own transport, httpx, or with `openai[aiohttp]`."""

    async def answer(client: AsyncOpenAI, text: str) -> None:
        said = [{"role": "user", "content": text}]
        answered = await client.chat.completions.create(model=CHAT_MODEL, messages=said, max_tokens=_MAX_TOKENS)
        assert answered.choices[0].message.content

    asyncio.run(_openai(base_url, count, answer, aiohttp))


async def _openai(
    base_url: str, count: int, call: Callable[[AsyncOpenAI, str], Awaitable[None]], aiohttp: bool = False
) -> None:
    left = iter(range(count))
    transport = DefaultAioHttpClient() if aiohttp else None
    async with AsyncOpenAI(base_url=base_url, api_key="none-is-needed", http_client=transport) as client:

        async def work() -> None:
            for row in left:
                await call(client, f"text {row}")

        await asyncio.gather(*(work() for _ in range(_IN_FLIGHT)))
