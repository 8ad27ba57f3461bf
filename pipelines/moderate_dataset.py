"""Moderates a column of a dataset, and counts what was found.

python -m pipelines.moderate_dataset --input 'posts/*.parquet' --output moderated --column text

Writes the rows with `flagged`, `categories` and `category_scores` to `moderated`, those that failed to `moderated.failed`,
and to `moderated.counts` how many rows there are, how many are flagged, and how many in each category.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from beam_openai import Moderations, ReadTables, WriteTables
from pipelines import starting


def main(arguments: Sequence[str] | None = None) -> int:
    parser = starting.parser(__doc__, "omni-moderation-latest")
    parser.add_argument("--column", default="text", help="what is moderated (default: %(default)s)")
    chosen, beams = starting.parse(parser, arguments)
    with starting.pipeline(beams) as p:
        moderated = (
            p
            | ReadTables(chosen.input)
            | Moderations(model=chosen.model, api=starting.api(chosen), input=chosen.column)
        )
        starting.write(moderated, chosen)
        (
            moderated.answered
            | "Count" >> beam.FlatMap(counts)
            | "Sum" >> beam.CombinePerKey(sum)
            | "Row" >> beam.MapTuple(row)
            | "WriteCounts" >> WriteTables(f"{chosen.output}.counts", overwrite=chosen.overwrite)
        )
    return 0


def counts(rows: pa.Table) -> Iterator[tuple[str, int]]:
    """How many rows there are, are flagged, and are in each category."""
    yield "rows", rows.num_rows
    yield "flagged", true_in(rows["flagged"])
    categories = rows["categories"].combine_chunks()
    for at, field in enumerate(categories.type):
        yield field.name, true_in(categories.field(at))


def true_in(column: pa.Array | pa.ChunkedArray) -> int:
    return pc.sum(column.cast(pa.int64())).as_py() or 0


def row(what: str, number: int) -> dict[str, str | int]:
    return {"what": what, "rows": number}


if __name__ == "__main__":
    sys.exit(starting.run(main))
