"""The verbs of a command, and the flags that each of them has."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from beam_openai.cli import flags, showing
from beam_openai.client import API, LocalFile
from beam_openai.manage import Server, files
from beam_openai.retry import Retry

_EPILOG = """\
On a terminal what is found is shown as a table; with --json, and where the output is no terminal, as JSON: an object on
one line, and of a list one line for each. Exit status: 0 done, 1 refused or failed, 2 wrong usage."""

Action = Callable[[Server, argparse.Namespace], Any]


class Verbs:
    """The verbs of one family, each with the flags that all have."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._program = parser.prog
        self._parsers = parser.add_subparsers(metavar="VERB", title="verbs", required=True)

    def add(
        self,
        name: str,
        help: str,
        action: Action,
        columns: Sequence[str] = (),
        lines: bool = False,
        options: type | None = None,
    ) -> argparse.ArgumentParser:
        """A verb.

        Args:
          name: what is typed.
          help: one line.
          action: does it. A dict and an iterator of dicts are shown; an int is the exit status.
          columns: what is shown of a list.
          lines: show each when it is there, not a table of all.
          options: a dataclass; its fields are flags too.
        """
        parser = self._parsers.add_parser(
            name, help=help, description=f"{help[0].upper()}{help[1:]}.", epilog=_EPILOG, allow_abbrev=False
        )
        parser.add_argument("--json", action="store_true", help="show JSON on a terminal too")
        parser.add_argument("--debug", action="store_true", help="show a traceback of an error")
        request = parser.add_argument_group("request")
        server = parser.add_argument_group("server")
        parser.set_defaults(
            action=action,
            columns=columns,
            lines=lines,
            program=f"{self._program} {name}",
            option_fields=flags.add_flags(request, options) if options else {},
            api_fields=flags.add_flags(server, API, {"headers": None}),
            retry_fields=flags.add_flags(server, Retry),
        )
        return parser

    def of(self, what: str, *verbs: tuple[str, str, Action]) -> None:
        """Verbs that take one id: (name, help, action)."""
        for name, help, action in verbs:
            self.add(name, help, action).add_argument("id", metavar="ID", help=f"of the {what}")


def show(given: argparse.Namespace, result: Any) -> int:
    """Prints what an action found; returns the exit status."""
    if isinstance(result, Iterator):
        shows = showing.show_lines if given.lines else showing.show_list
        shows(result, given.columns, showing.is_json(given.json))
    elif isinstance(result, dict):
        showing.show_one(result, showing.is_json(given.json))
    return result if isinstance(result, int) else 0


def local_file(text: str) -> str:
    """The path of a file that is there, as argparse reads it."""
    try:
        LocalFile(text)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def file(text: str) -> str:
    """A file's id, or the path of one that is there."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty, neither a file's id nor a path")
    return local_file(text) if files.is_local(text) else text
