"""What there is on a server, managed from the command line: files, models, fine-tunes, batches."""

from __future__ import annotations

import argparse
import sys

from beam_openai import errors
from beam_openai.cli import flags, jobs, showing, storage, verbs
from beam_openai.cli.failing import fail
from beam_openai.client import API
from beam_openai.manage import Server
from beam_openai.retry import Retry

_FAMILIES = {
    "files": storage.add_files,
    "uploads": storage.add_uploads,
    "models": storage.add_models,
    "engines": storage.add_engines,
    "fine-tunes": jobs.add_fine_tunes,
    "fine-tuning": jobs.add_fine_tuning,
    "batches": jobs.add_batches,
}


def run(parser: argparse.ArgumentParser, family: str, arguments: list[str]) -> int:
    """Runs `beam-openai FAMILY VERB ...`.

    Args:
      parser: of this family, still without verbs.
      family: its name.
      arguments: the whole command line after the program's name.

    Returns:
      0 done, 1 refused or failed, 2 wrong usage.
    """
    _FAMILIES[family](verbs.Verbs(parser))
    given = parser.parse_args([argument for at, argument in enumerate(arguments) if at != arguments.index(family)])
    try:
        with _server(given) as server:
            status = verbs.show(given, given.action(server, given))
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        print(f"\n{given.program}: stopped by you", file=sys.stderr)
        return 1
    except BrokenPipeError:
        raise
    except (errors.APIError, ValueError, OSError) as error:
        fields = {**given.option_fields, **given.api_fields, **given.retry_fields}
        names = {field: f"--{name.replace('_', '-')}" for name, field in fields.items()}
        return fail(given.program, error, given.debug, 2 if isinstance(error, ValueError) else 1, names)


def _server(given: argparse.Namespace) -> Server:
    def waiting(error: errors.APIError, seconds: float) -> None:
        if seconds >= 1 and sys.stderr.isatty():
            said = showing.printable(f"{given.program}: {error}; again in {seconds:.0f} s")
            print(f"\r\x1b[K{said}", file=sys.stderr)

    api = API(**flags.chosen(given, given.api_fields))
    return Server(api, Retry(**flags.chosen(given, given.retry_fields)), on_wait=waiting)
