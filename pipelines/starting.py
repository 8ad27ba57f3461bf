"""What recipes begin with: where the server is and where the rows are, and a pipeline on the runner that was asked for.

And what they end with, if something goes wrong: one line.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam

from beam_openai import API, WriteTables
from beam_openai.cli import beams
from beam_openai.cli.failing import fail, one_line
from beam_openai.parquet import clear_own_temporary

_FLAGS = {"base_url": "--base-url", **{name: f"--{name}" for name in ("key", "model", "overwrite")}}


class Stopped(Exception):
    """Something that was begun went wrong; the cause is what it was."""


@contextlib.contextmanager
def begun() -> Iterator[None]:
    """What goes wrong within is no wrong usage any more."""
    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        raise Stopped(str(error)) from error


def run(recipe: Callable[[Sequence[str]], int]) -> int:
    """Runs a recipe as a program; returns the exit status.

    What goes wrong is one line, as on the command line, after a traceback only with --debug. The exit status is 2 where
    nothing was begun, 1 where the recipe was stopped.
    """
    program, arguments = f"python -m pipelines.{os.path.basename(sys.argv[0]).removesuffix('.py')}", sys.argv[1:]
    debug = "--debug" in arguments
    if not debug:
        beams.silence()
    try:
        return recipe(arguments)
    except (Exception, KeyboardInterrupt) as error:
        clear_own_temporary()
        cause = (isinstance(error, Stopped) and error.__cause__) or error
        # Beam makes a RuntimeError of one that comes while a transform is at work.
        if isinstance(cause, KeyboardInterrupt) or one_line(cause) == KeyboardInterrupt.__name__:
            print(f"\n{program}: stopped by you", file=sys.stderr, flush=True)
            os._exit(1)  # requests that hang are not waited for
        return fail(program, cause, debug, 2 if isinstance(error, (ValueError, OSError)) else 1, _FLAGS)


def parser(description: str | None, model: str) -> argparse.ArgumentParser:
    """The options that all recipes have; each adds its own."""
    found = argparse.ArgumentParser(
        description=(description or "").split("\n")[0],
        epilog="Any other option is Beam's own, as --runner FlinkRunner; without --runner the run is in this process.",
        allow_abbrev=False,
    )
    found.add_argument("--model", default=model, help="default: %(default)s")
    found.add_argument("--base-url", help="the server (default: OPENAI_BASE_URL, then OpenAI's)")
    found.add_argument("--key", help="where the key is: a variable's name, or a file (default: OPENAI_API_KEY)")
    found.add_argument("--input", required=True, help="files, a folder, or a glob")
    found.add_argument("--output", required=True, type=folder, help="a folder; what fails goes to OUTPUT.failed")
    found.add_argument("--overwrite", action="store_true", help="replace what is there")
    found.add_argument("--debug", action="store_true", help="show Beam's messages, and a traceback of an error")
    return found


def folder(path: str) -> str:
    """A folder without the slash behind it, so that others can be named after it."""
    return path.rstrip("/") or "/"


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """A recipe's own options, and Beam's. What neither of them knows ends the program: a typo must not be passed over."""
    chosen, rest = parser.parse_known_args(arguments)
    unknown = beams.unknown_in(rest)
    if unknown and not beams.names_a_runner(beams.options_of(rest)):
        parser.error(f"unknown option {unknown[0]}")
    return chosen, rest


def api(chosen: argparse.Namespace) -> API:
    return API(base_url=chosen.base_url, key=chosen.key)


def pipeline(arguments: Sequence[str]) -> beam.Pipeline:
    """A pipeline with Beam's options; without a runner among them it runs in this process, and downloads nothing."""
    options = beams.options_of(arguments)
    return _Pipeline(runner=beams.runner_of(options), options=options)


class _Pipeline(beam.Pipeline):
    """It is run where its block ends: what goes wrong before is wrong usage."""

    def __exit__(self, *error: Any) -> None:
        with begun() if error[0] is None else contextlib.nullcontext():
            super().__exit__(*error)


def write(outputs: beam.pvalue.DoOutputsTuple, chosen: argparse.Namespace) -> None:
    """Both outputs of a transform, to the output's folder and the one beside it."""
    outputs.answered | "WriteAnswered" >> WriteTables(chosen.output, overwrite=chosen.overwrite)
    outputs.failed | "WriteFailed" >> WriteTables(f"{chosen.output}.failed", overwrite=chosen.overwrite)
