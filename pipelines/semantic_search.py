"""Embeds a corpus, and finds the texts that are nearest to questions; DuckDB compares the vectors.

python -m pipelines.semantic_search --input 'corpus/*.parquet' --output searched --question 'how do I open a file?'

Writes the corpus with its vectors to `searched/corpus`, which is done once: from then on questions are asked of what is
there. The texts that are nearest are printed, and written to `searched/nearest.parquet`. Needs `pip install duckdb`.
"""

from __future__ import annotations

import argparse
import glob
import sys
import tempfile
import textwrap
from collections.abc import Sequence

import apache_beam as beam
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from beam_openai import Embeddings, ReadTables, WriteTables
from pipelines import starting

_NEAREST = """
SELECT question, score, corpus.* EXCLUDE (embedding)
FROM (
    SELECT questions.{column} AS question, corpus, list_cosine_similarity(questions.embedding, corpus.embedding) AS score
    FROM read_parquet('{questions}/*.parquet') AS questions, read_parquet('{corpus}/*.parquet') AS corpus
    QUALIFY row_number() OVER (PARTITION BY question ORDER BY score DESC) <= {most}
)
ORDER BY question, score DESC
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = starting.parser(__doc__, "text-embedding-3-small")
    parser.add_argument("--column", default="text", help="what is searched (default: %(default)s)")
    parser.add_argument("--question", action="append", required=True, help="may be given several times")
    parser.add_argument("--most", type=int, default=3, help="texts for each question (default: %(default)s)")
    chosen, beams = starting.parse(parser, arguments)
    corpus = f"{chosen.output}/corpus"
    if chosen.overwrite or not glob.glob(f"{glob.escape(corpus)}/part-*.parquet"):
        embed(ReadTables(chosen.input), corpus, chosen, beams)
    with tempfile.TemporaryDirectory() as questions:
        asked = pa.table({chosen.column: chosen.question})
        embed(beam.Create([asked], reshuffle=False), questions, chosen, [])
        nearest = search(questions, corpus, chosen)
    show(nearest, chosen.column)
    return 0


def embed(rows: beam.PTransform, folder: str, chosen: argparse.Namespace, beams: Sequence[str]) -> None:
    """Rows with their vectors, to a folder."""
    with starting.pipeline(beams) as p:
        embedded = p | rows | Embeddings(model=chosen.model, api=starting.api(chosen), input=chosen.column)
        embedded.answered | "WriteAnswered" >> WriteTables(folder, overwrite=chosen.overwrite)
        embedded.failed | "WriteFailed" >> WriteTables(f"{folder}.failed", overwrite=chosen.overwrite)


def search(questions: str, corpus: str, chosen: argparse.Namespace) -> pa.Table:
    """The rows that are nearest to each question, with their scores."""
    query = _NEAREST.format(questions=questions, corpus=corpus, column=chosen.column, most=chosen.most)
    nearest = pa.table(duckdb.query(query).to_arrow_table())
    pq.write_table(nearest, f"{chosen.output}/nearest.parquet")
    return nearest


def show(nearest: pa.Table, column: str) -> None:
    asked = None
    for row in nearest.to_pylist():
        if row["question"] != asked:
            asked = row["question"]
            print(f"{asked}")
        print(f"  {row['score']:.2f}  {textwrap.shorten(str(row[column]), 100, placeholder=' ...')}")


if __name__ == "__main__":
    sys.exit(starting.run(main))
