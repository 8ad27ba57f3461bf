r"""Completes a prompt made of each row's columns.

python -m pipelines.complete_prompts --input 'words/*.csv' --output completed --prompt 'English: {text}\nFrench:' --stop '\n'

Writes the rows with `completion` and `finish_reason` to `completed`, and those that failed to `completed.failed`. In the
prompt and in what stops it `\n` is the end of a line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from beam_openai import Completions, ReadTables
from pipelines import starting


def main(arguments: Sequence[str] | None = None) -> int:
    parser = starting.parser(__doc__, "gpt-3.5-turbo-instruct")
    parser.add_argument(
        "--prompt", default="{prompt}", type=text, help="a template over columns (default: %(default)s)"
    )
    parser.add_argument("--max-tokens", type=int, default=64, help="of a completion (default: %(default)s)")
    parser.add_argument("--temperature", type=float, help="0 to 2")
    parser.add_argument("--stop", action="append", type=text, help="what ends a completion; up to four times")
    chosen, beams = starting.parse(parser, arguments)
    with starting.pipeline(beams) as p:
        completed = (
            p
            | ReadTables(chosen.input)
            | Completions(
                model=chosen.model,
                api=starting.api(chosen),
                prompt=chosen.prompt,
                max_tokens=chosen.max_tokens,
                temperature=chosen.temperature,
                stop=chosen.stop,
            )
        )
        starting.write(completed, chosen)
    return 0


def text(written: str) -> str:
    return written.replace("\\n", "\n")


if __name__ == "__main__":
    sys.exit(starting.run(main))
