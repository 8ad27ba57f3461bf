"""Draws an image for each row.

python -m pipelines.generate_images --input 'scenes/*.jsonl' --output images --prompt 'A {animal}, as a woodcut' --name id

Writes a file for each row to `images`, named after the column `id`; the rows that failed go to `images.failed`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import apache_beam as beam
import pyarrow as pa

from beam_openai import Images, ReadTables, WriteFiles, WriteTables
from beam_openai.folders import check_name
from pipelines import starting


def main(arguments: Sequence[str] | None = None) -> int:
    parser = starting.parser(__doc__, "gpt-image-1")
    parser.add_argument("--prompt", default="{prompt}", help="a template over columns (default: %(default)s)")
    parser.add_argument("--name", required=True, help="the column that names the files")
    parser.add_argument("--size", help="1024x1024, say (default: the server's)")
    parser.add_argument("--quality", help="low, medium or high (default: the server's)")
    chosen, beams = starting.parse(parser, arguments)
    with starting.pipeline(beams) as p:
        drawn = (
            p
            | ReadTables(chosen.input)
            # Before anything is paid for.
            | "CheckName" >> beam.Map(check_name, chosen.name).with_output_types(pa.Table)
            | Images(
                model=chosen.model,
                api=starting.api(chosen),
                prompt=chosen.prompt,
                size=chosen.size,
                quality=chosen.quality,
            )
        )
        drawn.answered | WriteFiles(chosen.output, "image", name=chosen.name, overwrite=chosen.overwrite)
        drawn.failed | WriteTables(f"{chosen.output}.failed", overwrite=chosen.overwrite)
    return 0


if __name__ == "__main__":
    sys.exit(starting.run(main))
