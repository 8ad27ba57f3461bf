"""An endpoint over a dataset: from the command line to the exit status."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import difflib
import importlib
import os
from typing import Any, NamedTuple

from beam_openai.cli import ENDPOINTS, beams, flags
from beam_openai.cli.failing import fail
from beam_openai.cli.pipeline import Job
from beam_openai.client import API
from beam_openai.quota import Quota
from beam_openai.retry import Retry

_M_ARENA_MAX = -8


class _Flags(NamedTuple):
    """Which parsed argument is which field, of the endpoint and of its policies."""

    endpoint: dict[str, str]
    api: dict[str, str]
    retry: dict[str, str]
    quota: dict[str, str]

    def by_field(self, main_input: str, is_column: bool) -> dict[str, str]:
        """What each field is called on the command line; what is read first of all may have been told by --column."""
        names = {field: f"--{name.replace('_', '-')}" for part in self for name, field in part.items()}
        others = {name: f"--{name}" for name in ("format", "overwrite")}
        return {**others, **names, **({main_input: "--column"} if is_column else {})}


def endpoint(parser: argparse.ArgumentParser, name: str, arguments: list[str]) -> int:
    """Runs `beam-openai NAME ...`.

    Args:
      parser: of this command, still without flags.
      name: one of `ENDPOINTS`.
      arguments: the whole command line after the program's name.

    Returns:
      0 all rows answered, 3 some rows failed, 1 the job stopped, 2 wrong usage.
    """
    if "--debug" not in arguments:
        beams.silence()
    _spare_memory()
    module, kind, _ = ENDPOINTS[name]
    endpoint_class = getattr(importlib.import_module(module), kind)
    fields = _add_flags(parser, endpoint_class)
    rest = [argument for at, argument in enumerate(arguments) if at != arguments.index(name)]
    chosen, others = parser.parse_known_args(rest)
    others += _of_google(chosen, others)
    main = endpoint_class.main_input
    names = fields.by_field(main, is_column=chosen.column is not None or main not in fields.endpoint.values())
    try:
        job = Job(chosen, _make(endpoint_class, chosen, fields), _beam_options(parser, others), names)
    except (ValueError, OSError) as error:
        return fail(parser.prog, error, chosen.debug, status=2, flags=names)
    return job.run(parser.prog)


def _spare_memory() -> None:
    """Gives back what answers took up: with an arena for each of dozens of threads, glibc keeps tens of MB in each."""
    # Both before Arrow is imported. Elsewhere than on glibc there is no such setting, and no such need.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_M_ARENA_MAX, 2)


def _add_flags(parser: argparse.ArgumentParser, kind: Any) -> _Flags:
    parser.description = (kind.__doc__ or "").split("\n\n")[0].replace("`", "")
    parser.epilog = (
        "JSON may stand in a file: --params @FILE. An option can have a value of its own in each row, where a column holds "
        "it: --max-tokens 'column(NAME)'. Any other option is Beam's own, as --runner FlinkRunner; without --runner the run "
        "is in this process. With --runner DataflowRunner, --project is Google's, and the API's is OPENAI_PROJECT_ID."
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--input",
        required=True,
        nargs="+",
        metavar="GLOB",
        help="Parquet, JSON Lines or CSV files, or a folder of them; compressed ones too; on any Beam filesystem"
        + _files_too(kind),
    )
    data.add_argument(
        "--output", required=True, metavar="DIR", type=_named, help="a folder for the answered rows, as Parquet"
    )
    data.add_argument(
        "--failed", metavar="DIR", type=_named, help="a folder for the failed rows (default: the output's with .failed)"
    )
    data.add_argument(
        "--format", choices=("parquet", "jsonl", "csv"), help="the input's format, if its names do not tell"
    )
    data.add_argument(
        "--csv-text", action="store_true", help="leave CSV as it is written: its columns of whole numbers are text, too"
    )
    of_files = "; in --files-dir, replace files of the same names and leave others" if kind.gives_files else ""
    data.add_argument(
        "--overwrite", action="store_true", help=f"replace what earlier runs left in the folders of rows{of_files}"
    )
    data.add_argument("--column", metavar="NAME", help="the column to read (default: the endpoint's own)")
    if kind.gives_files:
        data.add_argument("--files-dir", metavar="DIR", type=_named, help="a folder for what is answered as files, too")
        data.add_argument(
            "--files-name", metavar="NAME", default="name", help="the column to name those after (default: name)"
        )
    is_template = kind.main_input == "prompt"
    rename: dict[str, str | None] = {
        "output": "output-column",
        "expanded": "expand",
        **({} if is_template else {kind.main_input: None}),
        **dict.fromkeys(("api", "retry", "quota", "journal")),
    }
    options = flags.add_flags(parser.add_argument_group("endpoint"), kind, rename)
    server = flags.add_flags(parser.add_argument_group("server"), API, {"headers": None})
    limits = parser.add_argument_group("limits")
    retry = flags.add_flags(limits, Retry)
    quota = flags.add_flags(limits, Quota, {"shared": "shared-quota"})
    other = parser.add_argument_group("other")
    other.add_argument("--debug", action="store_true", help="show Beam's messages, and tracebacks")
    other.add_argument("-h", "--help", action="help", help="show this and exit")
    return _Flags(options, server, retry, quota)


def _files_too(kind: Any) -> str:
    """What the help of --input says where files may be rows."""
    beside = " or ".join(f"--{name}" for name in ("images", "audio") if name in kind.__dataclass_fields__)
    if not kind.takes_files and not beside:
        return ""
    where = "" if kind.takes_files else f"where {beside} names the column of their bytes, "
    return f"; or, {where}a folder or glob of files, each a row with path, name and its bytes"


def _of_google(chosen: argparse.Namespace, others: list[str]) -> list[str]:
    """What two read and Google means, on its runner: taken from the chosen."""
    if not (hasattr(chosen, "project") and beams.is_on_google(beams.options_of(others))):
        return []
    project = chosen.project
    del chosen.project
    return ["--project", project]


def _named(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("it is empty, and names no folder")
    return text


def _make(kind: Any, chosen: argparse.Namespace, fields: _Flags) -> Any:
    own = flags.chosen(chosen, fields.endpoint)
    if chosen.column is not None:
        if kind.main_input in own:
            raise ValueError(f"--column and --{kind.main_input} say the same: give one of them")
        is_template = kind.main_input == "prompt"
        own[kind.main_input] = f"{{{chosen.column}}}" if is_template else chosen.column
    return kind(
        api=API(**flags.chosen(chosen, fields.api)),
        retry=Retry(**flags.chosen(chosen, fields.retry)),
        quota=Quota(**flags.chosen(chosen, fields.quota)),
        **own,
    )


def _beam_options(parser: argparse.ArgumentParser, arguments: list[str]) -> Any:
    """Beam's own options. What neither Beam nor this command knows is an error: a typo must not be passed over."""
    options = beams.options_of(arguments)
    for argument in beams.unknown_in(arguments):
        name = argument.split("=")[0]
        close = difflib.get_close_matches(name, parser._option_string_actions, 1, 0.75)
        if close:
            parser.error(f"unknown option {name}; did you mean {close[0]}?")
        if not beams.names_a_runner(options):
            parser.error(f"unknown option {argument}")
    return options
