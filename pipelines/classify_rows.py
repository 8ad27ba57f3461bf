"""Gives each row one of some labels, and says how sure that is.

python -m pipelines.classify_rows --input 'reviews/*.parquet' --output labelled --text '{review}' --labels good,bad,mixed

Writes the rows with `label: string`, `confidence: double` and `reason: string` to `labelled`, and those that failed to
`labelled.failed`. The model has to answer in this form: what it says never has to be taken apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from beam_openai import ChatCompletions, ReadTables
from pipelines import starting


def main(arguments: Sequence[str] | None = None) -> int:
    parser = starting.parser(__doc__, "gpt-4.1-mini")
    parser.add_argument("--text", default="{text}", help="what is labelled, a template (default: %(default)s)")
    parser.add_argument("--labels", required=True, type=names, help="with commas between them")
    parser.add_argument("--task", default="Say which label fits the text best.", help="what the model is told")
    chosen, beams = starting.parse(parser, arguments)
    with starting.pipeline(beams) as p:
        labelled = (
            p
            | ReadTables(chosen.input)
            | ChatCompletions(
                model=chosen.model,
                api=starting.api(chosen),
                system=chosen.task.replace("{", "{{").replace("}", "}}"),
                prompt=chosen.text,
                schema=schema(chosen.labels),
            )
        )
        starting.write(labelled, chosen)
    return 0


def names(text: str) -> list[str]:
    """Those that commas stand between: two or more, no two the same."""
    found = [name.strip() for name in text.split(",")]
    if len(found) < 2 or "" in found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"two or more different labels are needed, with commas between, not {text!r}")
    return found


def schema(labels: list[str]) -> dict[str, Any]:
    """The form of an answer; its properties become columns."""
    properties = {
        "reason": {"type": "string", "description": "in a few words"},
        "label": {"type": "string", "enum": labels},
        "confidence": {"type": "number", "description": "0 to 1"},
    }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


if __name__ == "__main__":
    sys.exit(starting.run(main))
