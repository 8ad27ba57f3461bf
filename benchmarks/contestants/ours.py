"""This library, as its users are told to use it."""

from __future__ import annotations

import apache_beam as beam

from beam_openai import API, Embeddings, ReadTables, WriteTables
from benchmarks.contestants import MODEL, RUNNER, clear


def run(base_url: str, source: str, target: str, dimensions: int | None = None) -> None:
    through(Embeddings(model=MODEL, api=API(base_url=base_url), dimensions=dimensions), source, target)


def through(endpoint: beam.PTransform, source: str, target: str) -> None:
    """All rows of a folder through any endpoint."""
    clear(target)
    with beam.Pipeline(RUNNER) as pipeline:
        rows = pipeline | ReadTables(f"{source}/*.parquet") | endpoint
        _ = rows.answered | "Answered" >> WriteTables(target)
        _ = rows.failed | "Failed" >> WriteTables(f"{target}.failed")
