"""This library, as its users are told to use it."""

from __future__ import annotations

import apache_beam as beam

from beam_openai import API, Embeddings, ReadTables, WriteTables
from benchmarks.contestants import MODEL, RUNNER, clear


def run(base_url: str, source: str, target: str, dimensions: int | None = None) -> None:
    clear(target)
    embeddings = Embeddings(model=MODEL, api=API(base_url=base_url), dimensions=dimensions)
    with beam.Pipeline(RUNNER) as pipeline:
        embedded = pipeline | ReadTables(f"{source}/*.parquet") | embeddings
        _ = embedded.answered | "Answered" >> WriteTables(target)
        _ = embedded.failed | "Failed" >> WriteTables(f"{target}.failed")
