"""The command `beam-openai`: an endpoint over a dataset, what there is on a server, or the emulator.

Neither `--help` nor anything that needs no pipeline imports Beam, which takes seconds.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

ENDPOINTS = {
    "answers": ("beam_openai.endpoints.question_answers", "Answers", "answers from documents and by example"),
    "chat": ("beam_openai.endpoints.chat_completions", "ChatCompletions", "an answer to each prompt"),
    "classifications": ("beam_openai.endpoints.classifications", "Classifications", "a label by labelled examples"),
    "completions": ("beam_openai.endpoints.completions", "Completions", "what comes behind each prompt"),
    "edits": ("beam_openai.endpoints.edits", "Edits", "each text, changed as an instruction says"),
    "embeddings": ("beam_openai.endpoints.embeddings", "Embeddings", "a vector for each text"),
    "image-edits": ("beam_openai.endpoints.image_edits", "ImageEdits", "an image changed to a prompt"),
    "image-variations": ("beam_openai.endpoints.image_variations", "ImageVariations", "another image like each"),
    "images": ("beam_openai.endpoints.images", "Images", "an image drawn to each prompt"),
    "moderations": ("beam_openai.endpoints.moderations", "Moderations", "whether each text is harmful, and how"),
    "responses": ("beam_openai.endpoints.responses", "Responses", "a response to each prompt"),
    "search": ("beam_openai.endpoints.search", "Search", "the documents that fit a query best"),
    "speech": ("beam_openai.endpoints.speech", "Speech", "each text, spoken"),
    "transcriptions": ("beam_openai.endpoints.transcriptions", "Transcriptions", "what is said in each recording"),
    "translations": (
        "beam_openai.endpoints.translations",
        "Translations",
        "what is said in each recording, in English",
    ),
}

FAMILIES = {
    "files": "list, upload, show, delete and download files",
    "uploads": "upload large files in parts",
    "models": "list, show and delete models",
    "engines": "list and show engines, as models were called",
    "fine-tunes": "fine-tune as it was until 2024",
    "fine-tuning": "fine-tuning jobs",
    "batches": "requests in a file, answered within a day",
}

_DESCRIPTION = """\
Call an OpenAI-compatible API for every row of a dataset: Parquet, JSON Lines or CSV in, Parquet out.

  beam-openai embeddings --input 'corpus/*.parquet' --output out/embedded --model text-embedding-3-small

The key is read from the environment variable OPENAI_API_KEY, or from where --key says."""

_EPILOG = """\
exit status: 0 all rows answered, 3 some rows failed, 1 the job stopped, 2 wrong usage, nothing was begun.
`beam-openai COMMAND --help` tells the options of a command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    _open_streams()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser, commands = _parser()
    arguments = _command_first(parser, arguments)
    command = arguments[0] if arguments else None
    try:
        if command in ENDPOINTS:
            from beam_openai.cli import run

            return run.endpoint(commands[command], command, arguments)
        if command in FAMILIES:
            from beam_openai.cli import manage

            return manage.run(commands[command], command, arguments)
        parsed = parser.parse_args(arguments)
        if command == "emulator":
            from beam_openai import emulator

            return emulator.run(parsed)
        parser.print_help()
        return 2
    except KeyboardInterrupt:
        print("\nstopped before anything was sent", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _open_streams() -> None:
    """Where a shell closed one (`>&-`) there is none, and what is meant for errors would go to the output."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - open until the end
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _command_first(parser: argparse.ArgumentParser, arguments: list[str]) -> list[str]:
    """The same, options that stand before the command put behind it, and behind its verb where it has one.

    Those that all commands have, that is: of another nobody could tell whether the next word is its value or the command.
    """
    if not arguments or not arguments[0].startswith("-") or arguments[0] in ("-h", "--help", "--version"):
        return arguments
    taking_a_value = _flags_of_all()
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        name, equals, _ = arguments[at].partition("=")
        if name != "--debug" and name not in taking_a_value:
            parser.error(f"{name} must stand behind the command: beam-openai COMMAND {name} ...")
        at += 1 if equals or name == "--debug" else 2
    before, rest = arguments[:at], arguments[at:]
    if not rest:
        parser.error("name a command; beam-openai --help tells them")
    words = 2 if rest[0] in FAMILIES else 1
    return [*rest[:words], *before, *rest[words:]]


def _flags_of_all() -> set[str]:
    """The flags with a value that every command has but `emulator`: those of the server, and of how often to try."""
    import dataclasses

    from beam_openai.client import API
    from beam_openai.retry import Retry

    fields = {field.name for kind in (API, Retry) for field in dataclasses.fields(kind)} - {"headers"}
    return {f"--{field.replace('_', '-')}" for field in fields}


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    from beam_openai import emulator

    parser = argparse.ArgumentParser(
        prog="beam-openai",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    commands = {
        name: subparsers.add_parser(
            name, help=f"{summary}, for every row", allow_abbrev=False, add_help=False, prog=f"beam-openai {name}"
        )
        for name, (_, _, summary) in ENDPOINTS.items()
    }
    commands |= {
        name: subparsers.add_parser(name, help=summary, allow_abbrev=False, prog=f"beam-openai {name}")
        for name, summary in FAMILIES.items()
    }
    emulator.add_arguments(
        subparsers.add_parser("emulator", help="run a strict local OpenAI server", allow_abbrev=False)
    )
    return parser, commands


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib import metadata

        try:
            version = metadata.version("beam-openai")
        except metadata.PackageNotFoundError:
            version = "from a folder that is not installed"
        print(f"beam-openai {version}")
        parser.exit()
