"""What programs of ours need of Beam: its options, its runner in this process, and its silence. Imports Beam when asked."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Any, TextIO


def silence() -> None:
    """Beam and what it imports say things that a user can do nothing about."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    # Threads of Beam's that lose their runner, as all do when a job ends; ours let nothing pass.
    threading.excepthook = lambda _: None
    sys.stderr = _OfMainThread(sys.stderr)


class _OfMainThread:
    """Standard error without what Beam's workers print: whole tracebacks of what their runner is told, too."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(text) if threading.current_thread() is threading.main_thread() else len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def options_of(arguments: Sequence[str]) -> Any:
    """Beam's own options."""
    from apache_beam.options.pipeline_options import PipelineOptions

    return PipelineOptions(list(arguments))


def unknown_in(arguments: Sequence[str]) -> list[str]:
    """The arguments that Beam does not know."""
    from apache_beam.options.pipeline_options import PipelineOptions

    beams = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(beams)
    return beams.parse_known_args(arguments)[1]


def is_on_google(options: Any) -> bool:
    """Whether it is Dataflow that was asked for, whose `project` is Google's."""
    return str(_runner(options)).lower().endswith("dataflowrunner")


def names_a_runner(options: Any) -> bool:
    """Whether a runner was asked for; a portable one may know options that only its job server can name."""
    return bool(_runner(options))


def _runner(options: Any) -> str | None:
    from apache_beam.options.pipeline_options import StandardOptions

    runner: str | None = options.view_as(StandardOptions).runner
    return runner


def runner_of(options: Any) -> Any:
    """None where a runner was asked for, and Beam finds it; else the one in this process, which downloads nothing."""
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    return None if names_a_runner(options) else FnApiRunner()
