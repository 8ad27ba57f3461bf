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

# The row as a whole: what its columns are called is the corpus' own affair.
_NEAREST = """
WITH asked AS (SELECT number, question, embedding AS wanted FROM read_parquet($questions)),
     held AS (SELECT row_of_the_corpus AS found FROM read_parquet($corpus) AS row_of_the_corpus)
SELECT question, list_cosine_similarity(wanted, found.embedding) AS score, found
FROM asked, held
QUALIFY row_number() OVER (PARTITION BY number ORDER BY score DESC) <= $most
ORDER BY number, score DESC
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = starting.parser(__doc__, "text-embedding-3-small")
    parser.add_argument("--column", default="text", help="what is searched (default: %(default)s)")
    parser.add_argument("--question", action="append", required=True, help="may be given several times")
    parser.add_argument("--most", type=int, default=3, help="texts for each question (default: %(default)s)")
    chosen, beams = starting.parse(parser, arguments)
    if not all(question.strip() for question in chosen.question):
        parser.error("--question is empty")
    corpus = f"{chosen.output}/corpus"
    if chosen.overwrite or not glob.glob(f"{glob.escape(corpus)}/part-*.parquet"):
        embed(ReadTables(chosen.input), chosen.column, corpus, chosen, beams)
    with tempfile.TemporaryDirectory() as questions:
        asked = pa.table({"number": [*range(len(chosen.question))], "question": chosen.question})
        embed(beam.Create([asked], reshuffle=False), "question", questions, chosen, [])
        nearest = search(questions, corpus, chosen.most)
    pq.write_table(nearest, f"{chosen.output}/nearest.parquet")
    show(nearest, chosen.column)
    return 0


def embed(rows: beam.PTransform, column: str, folder: str, chosen: argparse.Namespace, beams: Sequence[str]) -> None:
    """Rows with their vectors, to a folder."""
    with starting.pipeline(beams) as p:
        embedded = p | rows | Embeddings(model=chosen.model, api=starting.api(chosen), input=column)
        embedded.answered | "WriteAnswered" >> WriteTables(folder, overwrite=chosen.overwrite)
        embedded.failed | "WriteFailed" >> WriteTables(f"{folder}.failed", overwrite=chosen.overwrite)


def search(questions: str, corpus: str, most: int) -> pa.Table:
    """The rows that are nearest to each question, with their scores: `question`, `score`, and the corpus' own columns.

    Those of its own that have one of these names are `corpus_question` and `corpus_score`.
    """
    folders = {"questions": f"{questions}/*.parquet", "corpus": f"{glob.escape(corpus)}/*.parquet"}
    nearest = pa.table(duckdb.sql(_NEAREST, params={**folders, "most": most}).to_arrow_table())
    found, nearest = nearest["found"].combine_chunks(), nearest.drop_columns(["found"])
    for field in found.type:
        if field.name != "embedding":
            nearest = nearest.append_column(own(field.name), found.field(field.name))
    return nearest


def own(name: str) -> str:
    """What a column of the corpus is called beside the questions and the scores."""
    return f"corpus_{name}" if name in ("question", "score") else name


def show(nearest: pa.Table, column: str) -> None:
    asked = None
    for row in nearest.to_pylist():
        if row["question"] != asked:
            asked = row["question"]
            print(f"{asked}")
        print(f"  {row['score']:.2f}  {textwrap.shorten(str(row[own(column)]), 100, placeholder=' ...')}")


if __name__ == "__main__":
    sys.exit(starting.run(main))
