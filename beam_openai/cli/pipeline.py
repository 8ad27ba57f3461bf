"""One run of a pipeline, watched: how far it is, Ctrl-C, what it did and what it leaves behind."""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import gc
import os
import re
import signal
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TextIO

from beam_openai.cli import beams, progress
from beam_openai.cli.failing import fail, in_flags
from beam_openai.cli.showing import printable

_POLL_SECONDS = 0.2
_ASK_SECONDS = 2.0
"""How long what a runner told of its workers is left as it is: asking it may be a call to a service."""
_READ_ROWS = 4096
_PATIENCE_SECONDS = 3.0


class Job:
    """One run of a pipeline that asks an endpoint for every row.

    Args:
      chosen: what the command line says.
      endpoint: the transform.
      options: Beam's.
      names: what the endpoint's options are called on the command line.

    Raises:
      ValueError, OSError: it can never work, and nothing was begun.
    """

    def __init__(self, chosen: argparse.Namespace, endpoint: Any, options: Any, names: Mapping[str, str]) -> None:
        import apache_beam as beam
        import pyarrow as pa

        from beam_openai import folders
        from beam_openai.cli.data import Input
        from beam_openai.parquet import WriteTables

        self._chosen = chosen
        self._names = names
        self._failed = chosen.failed or _beside(chosen.output)
        self._remote = beams.names_a_runner(options)
        self._namespace = type(endpoint).__name__
        self._result: Any = None
        self._error: BaseException | None = None
        self._end_server: Any = None
        self._told: collections.Counter[str] = collections.Counter()
        self._asked_at = float("-inf")
        self._finished = threading.Event()
        self._began = progress.now()
        self._files = getattr(chosen, "files_dir", None)
        self._folders = [chosen.output, self._failed, *([self._files] if self._files else [])]
        _check_apart(self._folders, chosen.input)
        self._input = Input(chosen.input, chosen.format, chosen.csv_text, endpoint)
        self._pipeline = beam.Pipeline(runner=beams.runner_of(options), options=options)
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
        """Runs the pipeline in a thread, so that Ctrl-C is heard at once; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
                signal.signal(number, _interrupt)
        # What was imported stays: looking through it again and again takes a 20th of the time of small requests.
        gc.collect()
        gc.freeze()
        line = progress.Progress(sys.stderr, self._began)
        threading.Thread(target=self._count_input, args=(line,), daemon=True).start()
        try:
            self._submit()
            threading.Thread(target=self._execute, name="pipeline", daemon=True).start()
            while not self._finished.wait(_POLL_SECONDS):
                line.show(self._counts(), progress.now())
        except KeyboardInterrupt:
            counts = self._interrupt(line)
            if self._error or not self._finished.is_set():
                return self._stopped_by_user(counts)
        line.clear()
        if self._error:
            self._clean_up()
            status = fail(program, self._error, self._chosen.debug, status=1, flags=self._names)
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
            reasons = _reasons(self._failed)
            for reason in reasons:
                print(f"  {in_flags(reason, self._names)}")
            if any("is int64, not text" in reason for reason in reasons) and self._input.has_numbers_of_csv():
                print("  (--csv-text reads whole numbers in CSV as text)")

    def _submit(self) -> None:
        """Where the runner needs a job server, which Beam starts in the main thread only."""
        from apache_beam.runners.portability.portable_runner import PortableRunner

        if not isinstance(self._pipeline.runner, PortableRunner):
            return
        at_interrupt = signal.getsignal(signal.SIGINT)
        try:
            self._result = self._pipeline.run()
        except Exception as error:
            self._error = error
        finally:
            # On Ctrl-C Beam would end the server first of all, and nobody could cancel the job.
            self._end_server = signal.signal(signal.SIGINT, at_interrupt)

    def _execute(self) -> None:
        try:
            if self._error:
                return
            self._result = self._result or self._pipeline.run()
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
        """What is done so far: from this process, and from the runner if the work may be elsewhere."""
        from beam_openai import service

        counts, now = service.progress(), progress.now()
        if self._remote and self._result is not None and now - self._asked_at >= _ASK_SECONDS:
            self._asked_at, self._told = now, collections.Counter(_metrics(self._result, self._namespace))
        # Workers may be in this process all the same, and the runner hears of a bundle when it is done.
        return counts | self._told

    def _interrupt(self, line: progress.Progress) -> Mapping[str, float]:
        """Stops what is under way, within seconds; returns the counts until then. The run may end well all the same."""
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
        self._await_parts()
        return counts

    def _await_parts(self) -> None:
        """Waits for parts that are being named, whose rows are all paid for; until there is another Ctrl-C."""
        if self._remote or self._finished.is_set() or not self._unnamed():
            return
        with contextlib.suppress(KeyboardInterrupt):
            # Before it is said: the next Ctrl-C may follow at once.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with contextlib.suppress(OSError):
                print(
                    "all rows are written: waiting until the parts have their names (Ctrl-C again: not)",
                    file=sys.stderr,
                )
            self._finished.wait()
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _stopped_by_user(self, counts: Mapping[str, float]) -> int:
        self._clean_up()
        with contextlib.suppress(OSError):
            print(progress.summary(counts, progress.now() - self._began), file=sys.stderr)
            print(f"stopped by you; {self._what_is_there()}", file=sys.stderr)
            sys.stderr.flush()
        if callable(self._end_server):
            with contextlib.suppress(KeyboardInterrupt):
                self._end_server(signal.SIGINT, None)
        if self._finished.is_set():
            return 1
        os._exit(1)

    def _unnamed(self) -> list[str]:
        """Folders with parts of this run that have no names yet."""
        from beam_openai.parquet import unfinished

        found: list[str] = []
        for folder in self._folders:
            with contextlib.suppress(OSError):
                found += unfinished(folder, self._temporary)
        return found

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
        there += self._unnamed()
        return f"there are parts in {' and '.join(there)}" if there else "nothing was written"

    def _clean_up(self) -> None:
        """Takes away the temporary files of a run that did not end well."""
        from beam_openai.parquet import clear_temporary

        if not self._is_over():
            return
        for folder in self._folders:
            try:
                clear_temporary(folder, self._temporary)
            except OSError:
                continue

    def _is_over(self) -> bool:
        """Whether nothing is written any more: by workers elsewhere, where their runner says so."""
        from apache_beam.runners.runner import PipelineState

        if not self._remote:
            return True
        with contextlib.suppress(Exception):  # whatever it is that the runner cannot be asked for
            return bool(PipelineState.is_terminal(self._result.state))
        return False


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


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _metrics(result: Any, namespace: str) -> dict[str, float]:
    counts: dict[str, float] = collections.defaultdict(float)
    try:
        # Of a copy: portable runners keep what they answered first.
        counters = copy.copy(result).metrics().query()["counters"]
    except Exception:  # a runner that has none, or none yet
        return counts
    for counter in counters:
        name = counter.key.metric
        if name.namespace == namespace:
            counts[name.name] += counter.committed or counter.attempted or 0
    return counts


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
                    for batch in part.iter_batches(_READ_ROWS, columns=["error.kind", "error.message"]):
                        errors = batch["error"].to_pylist()
                        counts.update((error["kind"], _shortened(error["message"])) for error in errors)
                        if len(counts) > _READ_ROWS:
                            counts = collections.Counter(dict(counts.most_common(_READ_ROWS // 2)))
    except OSError:
        return []
    return [printable(f"{count:,} {kind}: {message}") for (kind, message), count in counts.most_common(most)]


def _shortened(message: str, most: int = 150) -> str:
    message = re.sub(r" \(request [^)]*\)", "", message)
    return message if len(message) <= most else message[: most - 3] + "..."
