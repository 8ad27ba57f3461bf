"""Beam's own MLTransform with its OpenAITextEmbeddings."""

from __future__ import annotations

import os

import apache_beam as beam
import pyarrow as pa
from apache_beam.ml.transforms.base import MLTransform
from apache_beam.ml.transforms.embeddings.open_ai import OpenAITextEmbeddings

from benchmarks.contestants import MODEL, RUNNER, clear

_SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string()), ("embedding", pa.list_(pa.float32()))])


def run(base_url: str, source: str, target: str, batch_size: int | None) -> None:
    """With a `batch_size`, requests of so many rows; else of what it makes of them by itself, up to 20."""
    clear(target)
    os.environ["OPENAI_BASE_URL"] = base_url
    # It puts vectors in the place of texts, so it gets a copy of them to keep the texts.
    embeddings = _Sized(MODEL, ["embedding"])
    # Not as an argument: in Beam 2.77 the base class's constructor sets it back to None, and requests have 20 rows.
    embeddings.max_batch_size = batch_size
    with beam.Pipeline(RUNNER) as pipeline:
        rows = pipeline | beam.io.ReadFromParquet(f"{source}/*.parquet")
        copied = rows | beam.Map(lambda row: {**row, "embedding": row["text"]})
        embedded = copied | MLTransform(write_artifact_location=f"{target}/artifacts").with_transform(embeddings)
        _ = embedded | beam.io.WriteToParquet(f"{target}/part", _SCHEMA)


class _Sized(OpenAITextEmbeddings):
    """Full requests from the first on: by itself it begins with one row, and times what more would cost."""

    def get_model_handler(self) -> object:
        handler = super().get_model_handler()
        if self.max_batch_size:
            exactly = {"min_batch_size": self.max_batch_size, "max_batch_size": self.max_batch_size}
            handler.batch_elements_kwargs = lambda: exactly
        return handler
