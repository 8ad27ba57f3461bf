"""Embeds a column of a dataset.

python -m pipelines.embed_corpus --input 'corpus/*.parquet' --output embedded --column text --dimensions 256

Writes the rows with `embedding: fixed_size_list<float32>` to `embedded`, and those that failed to `embedded.failed`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from beam_openai import Embeddings, ReadTables
from pipelines import starting


def main(arguments: Sequence[str] | None = None) -> int:
    parser = starting.parser(__doc__, "text-embedding-3-small")
    parser.add_argument("--column", default="text", help="what is embedded (default: %(default)s)")
    parser.add_argument("--dimensions", type=int, help="length of the vectors (default: the model's own)")
    chosen, beams = starting.parse(parser, arguments)
    with starting.pipeline(beams) as p:
        embedded = (
            p
            | ReadTables(chosen.input)
            | Embeddings(
                model=chosen.model,
                api=starting.api(chosen),
                input=chosen.column,
                dimensions=chosen.dimensions,
            )
        )
        starting.write(embedded, chosen)
    return 0


if __name__ == "__main__":
    sys.exit(starting.run(main))
