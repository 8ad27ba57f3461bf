"""Transcribes a folder of recordings.

python -m pipelines.transcribe_audio --input recordings/ --output transcribed --segments

Writes a row for each file, `path`, `name` and `transcription`, with --segments also when what was said, to `transcribed`;
files that could not be transcribed go to `transcribed.failed`. A recording is read while it is sent: it is never held.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from beam_openai import ReadFiles, Transcriptions
from pipelines import starting


def main(arguments: Sequence[str] | None = None) -> int:
    parser = starting.parser(__doc__, "whisper-1")
    parser.add_argument("--language", help="of what is said, as en or de (default: the model listens)")
    parser.add_argument("--segments", action="store_true", help="add when what was said")
    chosen, beams = starting.parse(parser, arguments)
    with starting.pipeline(beams) as p:
        transcribed = (
            p
            | ReadFiles(chosen.input, column=None, extensions=Transcriptions.takes_files)
            | Transcriptions(
                model=chosen.model,
                api=starting.api(chosen),
                paths="path",
                language=chosen.language,
                response_format="verbose_json" if chosen.segments else None,
            )
        )
        starting.write(transcribed, chosen)
    return 0


if __name__ == "__main__":
    sys.exit(starting.run(main))
