"""An endpoint over a dataset: from the command line to the exit status."""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import difflib
import importlib
import logging
import os
import re
import signal
import sys
import threading
import traceback
import uuid
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TextIO

from beam_openai.cli import ENDPOINTS, flags, progress
from beam_openai.cli.showing import printable
from beam_openai.client import API
from beam_openai.quota import Quota
from beam_openai.retry import Retry

_M_ARENA_MAX = -8
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 3.0


class _Flags(NamedTuple):
    """Which parsed argument is which field, of the endpoint and of its policies."""

    endpoint: dict[str, str]
    api: dict[str, str]
    retry: dict[str, str]
    quota: dict[str, str]


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
        # Beam and what it imports say things that a user can do nothing about.
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
    _spare_memory()
    module, kind, _ = ENDPOINTS[name]
    endpoint_class = getattr(importlib.import_module(module), kind)
    fields = _add_flags(parser, endpoint_class)
    rest = [argument for at, argument in enumerate(arguments) if at != arguments.index(name)]
    chosen, beams = parser.parse_known_args(rest)
    try:
        job = _Job(chosen, _make(endpoint_class, chosen, fields), _beam_options(parser, beams))
    except (ValueError, OSError) as error:
        return _fail(parser.prog, error, chosen.debug, status=2)
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
        "is in this process."
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--input",
        required=True,
        nargs="+",
        metavar="GLOB",
        help="Parquet, JSON Lines or CSV files, or a folder of them; compressed ones too; on any Beam filesystem"
        + ("; or a folder or glob of files, each a row with path, name and its bytes" if kind.takes_files else ""),
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
    data.add_argument("--overwrite", action="store_true", help="replace what earlier runs left in these folders")
    data.add_argument("--column", metavar="NAME", help="the column to read (default: the endpoint's own)")
    if kind.gives_files:
        data.add_argument("--files-dir", metavar="DIR", type=_named, help="a folder for what is answered as files, too")
        data.add_argument(
            "--files-name", metavar="NAME", default="name", help="the column to name those after (default: name)"
        )
    is_template = kind.main_input == "prompt"
    rename: dict[str, str | None] = {
        "output": "output-column",
        **({} if is_template else {kind.main_input: None}),
        **dict.fromkeys(("api", "retry", "quota", "journal")),
    }
    options = flags.add_flags(parser.add_argument_group("endpoint"), kind, rename)
    server = flags.add_flags(parser.add_argument_group("server"), API, {"headers": None})
    limits = parser.add_argument_group("limits")
    retry = flags.add_flags(limits, Retry)
    quota = flags.add_flags(limits, Quota, {"shared": None})
    other = parser.add_argument_group("other")
    other.add_argument("--debug", action="store_true", help="show Beam's messages, and tracebacks")
    other.add_argument("-h", "--help", action="help", help="show this and exit")
    return _Flags(options, server, retry, quota)


def _named(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("it is empty, and names no folder")
    return text


def _make(kind: Any, chosen: argparse.Namespace, fields: _Flags) -> Any:
    own = flags.chosen(chosen, fields.endpoint)
    if chosen.column is not None:
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
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

    beams = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(beams)
    _, unknown = beams.parse_known_args(arguments)
    options = PipelineOptions(arguments)
    for argument in unknown:
        name = argument.split("=")[0]
        close = difflib.get_close_matches(name, parser._option_string_actions, 1, 0.75)
        if close:
            parser.error(f"unknown option {name}; did you mean {close[0]}?")
        # A portable runner may know options that only its job server can name.
        if not options.view_as(StandardOptions).runner:
            parser.error(f"unknown option {argument}")
    return options


class _Job:
    """One run of a pipeline, watched."""

    def __init__(self, chosen: argparse.Namespace, endpoint: Any, options: Any) -> None:
        import apache_beam as beam
        import pyarrow as pa
        from apache_beam.options.pipeline_options import StandardOptions

        from beam_openai import folders
        from beam_openai.cli.data import Input
        from beam_openai.parquet import WriteTables

        self._chosen = chosen
        self._failed = chosen.failed or _beside(chosen.output)
        self._remote = options.view_as(StandardOptions).runner is not None
        self._namespace = type(endpoint).__name__
        self._result: Any = None
        self._error: BaseException | None = None
        self._finished = threading.Event()
        self._began = progress.now()
        self._files = getattr(chosen, "files_dir", None)
        self._folders = [chosen.output, self._failed, *([self._files] if self._files else [])]
        _check_apart(self._folders, chosen.input)
        self._input = Input(chosen.input, chosen.format, endpoint)
        self._pipeline = beam.Pipeline(runner=None if self._remote else _in_process(), options=options)
        rows = self._pipeline | self._input.rows
        if self._files:
            # Before anything is paid for.
            rows = rows | "CheckName" >> beam.Map(folders.check_name, chosen.files_name).with_output_types(pa.Table)
        outputs = rows | self._namespace >> endpoint
        # A name of its own: what another run has under way in these folders is not to be cleared away.
        self._temporary = uuid.uuid4().hex[:8]
        options = {"overwrite": chosen.overwrite, "temporary": self._temporary}
        outputs.answered | "WriteAnswered" >> WriteTables(chosen.output, **options)
        outputs.failed | "WriteFailed" >> WriteTables(self._failed, **options)
        if self._files:
            column, name = endpoint.outputs[0], chosen.files_name
            outputs.answered | "WriteFiles" >> folders.WriteFiles(self._files, column, name=name, **options)

    def run(self, program: str) -> int:
        """Runs the pipeline in a thread, so that Ctrl-C is heard at once."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
                signal.signal(number, _interrupt)
        line = progress.Progress(sys.stderr, self._began)
        threading.Thread(target=self._execute, name="pipeline", daemon=True).start()
        threading.Thread(target=self._count_input, args=(line,), daemon=True).start()
        try:
            while not self._finished.wait(_POLL_SECONDS):
                line.show(self._counts(), progress.now())
        except KeyboardInterrupt:
            return self._interrupted(line)
        line.clear()
        if self._error:
            self._clean_up()
            status = _fail(program, self._error, self._chosen.debug, status=1)
            self._print_summary(self._final_counts(), f"stopped; {self._what_is_there()}", sys.stderr)
            return status
        counts = self._final_counts()
        failed = bool(counts.get("rows_failed", 0) if counts else _has_parts(self._failed))
        try:
            self._report(counts, failed)
            sys.stdout.flush()
        except OSError:
            # Nobody reads it, as behind `| head`; the rows are written all the same.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 3 if failed else 0

    def _report(self, counts: Mapping[str, float], failed: bool) -> None:
        self._print_summary(counts, f"answered rows: {self._chosen.output}", sys.stdout)
        if self._files:
            print(f"files:         {self._files}")
        if failed:
            print(f"failed rows:   {self._failed}")
            for reason in _reasons(self._failed):
                print(f"  {reason}")

    def _execute(self) -> None:
        try:
            self._result = self._pipeline.run()
            state = self._result.wait_until_finish()
            if state is not None and state != "DONE":
                raise RuntimeError(f"the runner ended the job as {state}")
        except BaseException as error:
            self._error = error
        finally:
            self._finished.set()

    def _count_input(self, line: progress.Progress) -> None:
        try:
            line.rows_known = self._input.count()
        except (ValueError, OSError):
            return  # the pipeline will say it

    def _counts(self) -> Mapping[str, float]:
        """What is done so far: from this process, or from the runner if the work is elsewhere."""
        if not self._remote:
            from beam_openai import service

            return service.progress()
        if self._result is None:
            return {}
        return _metrics(self._result, self._namespace)

    def _interrupted(self, line: progress.Progress) -> int:
        """Ends within seconds, whatever the pipeline is doing."""
        from beam_openai import errors, service

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(OSError):  # the terminal may be gone
            line.clear()
        counts = collections.Counter(self._counts())
        service.stop_all(errors.APIError("interrupted"))
        if self._remote and self._result is not None:
            threading.Thread(target=self._result.cancel, daemon=True).start()
        self._finished.wait(_PATIENCE_SECONDS)
        self._clean_up()
        with contextlib.suppress(OSError):
            print(progress.summary(counts, progress.now() - self._began), file=sys.stderr)
            print(f"stopped by you; {self._what_is_there()}", file=sys.stderr)
            sys.stderr.flush()
        if self._finished.is_set():
            return 1
        os._exit(1)

    def _final_counts(self) -> Mapping[str, float]:
        if self._result is not None and not self._error:
            return _metrics(self._result, self._namespace)
        return self._counts()

    def _print_summary(self, counts: Mapping[str, float], last_line: str, stream: TextIO) -> None:
        seconds = progress.now() - self._began
        if counts or not self._remote:
            print(progress.summary(counts, seconds), file=stream)
        else:
            print(f"done in {seconds:,.1f} s; this runner gives no counts", file=stream)
        print(last_line, file=stream)

    def _what_is_there(self) -> str:
        """A run may end while its parts are being renamed, and the folders may hold earlier parts."""
        there = [folder for folder in (self._chosen.output, self._failed) if _has_parts(folder)]
        return f"there are parts in {' and '.join(there)}" if there else "nothing was written"

    def _clean_up(self) -> None:
        """Takes away the temporary files of a run that did not end well."""
        from beam_openai.parquet import clear_temporary

        if self._remote:
            return
        for folder in self._folders:
            try:
                clear_temporary(folder, self._temporary)
            except OSError:
                continue


def _beside(output: str) -> str:
    """Where failed rows go, if nothing is said."""
    folder = output.rstrip("/")
    if os.path.basename(folder) in ("", ".", ".."):
        raise ValueError(
            f"--output {output!r} has no name that failed rows could be put beside: say where with --failed"
        )
    return f"{folder}.failed"


def _check_apart(folders: Sequence[str], inputs: Sequence[str]) -> None:
    """Refuses to write two things into one folder, or files beside those they are made of."""
    names = [_normal(folder) for folder in folders]
    if names[0] == names[1]:
        raise ValueError("--failed and --output must be two folders")
    if names[2:] and names[2] in (*names[:2], *map(_normal, inputs)):
        raise ValueError("--files-dir must be a folder of its own, neither --input, --output nor --failed")


def _normal(folder: str) -> str:
    return folder.rstrip("/") if "://" in folder else os.path.realpath(folder)


def _in_process() -> Any:
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    return FnApiRunner()


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _metrics(result: Any, namespace: str) -> dict[str, float]:
    counts: dict[str, float] = collections.defaultdict(float)
    try:
        counters = result.metrics().query()["counters"]
    except Exception:  # a runner that has none, or none yet
        return counts
    for counter in counters:
        name = counter.key.metric
        if name.namespace == namespace:
            counts[name.name] += counter.committed or counter.attempted or 0
    return counts


def _fail(program: str, error: BaseException, debug: bool, status: int) -> int:
    if debug:
        traceback.print_exception(type(error), error, error.__traceback__)
    print(f"{program}: {_one_line(error)}", file=sys.stderr)
    return status


def _one_line(error: BaseException) -> str:
    """What went wrong, without the traceback that a runner puts into its message."""
    # Of a KeyError `str` is Python's spelling of its message.
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error) or type(error).__name__
    last = list(re.finditer(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Exit)): ", text, re.MULTILINE))
    if "Traceback (most recent call last)" in text and last:
        text = text[last[-1].end() :]
    text = re.sub(r"\s*\[while running '[^']*'\]", "", text)
    return printable(" ".join(text.split()))


def _has_parts(directory: str) -> bool:
    from apache_beam.io.filesystems import FileSystems

    return any(match.metadata_list for match in FileSystems.match([FileSystems.join(directory, "part-*.parquet")]))


def _reasons(directory: str, most: int = 5) -> list[str]:
    """The commonest reasons of failed rows, as far as they can be read from here."""
    import pyarrow.parquet as pq

    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    try:
        for name in sorted(os.listdir(directory)):
            if name.startswith("part-"):
                # Not the whole struct: its `raw` may be large.
                with pq.ParquetFile(os.path.join(directory, name)) as part:
                    errors = part.read(columns=["error.kind", "error.message"])["error"].to_pylist()
                counts.update((error["kind"], _shortened(error["message"])) for error in errors)
    except OSError:
        return []
    return [printable(f"{count:,} {kind}: {message}") for (kind, message), count in counts.most_common(most)]


def _shortened(message: str, most: int = 150) -> str:
    message = re.sub(r" \(request [^)]*\)", "", message)
    return message if len(message) <= most else message[: most - 3] + "..."
