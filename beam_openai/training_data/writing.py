"""Examples to files below a size, which appear when all of them are written and there are enough."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec
from apache_beam.io import iobase
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_openai.parquet import sink
from beam_openai.training_data.limits import LEAST_EXAMPLES
from beam_openai.training_data.report import Example, Report, Tally


class Files(sink.Sink):
    """Writes with one writer, for one job takes one file: so they are as few as the size allows.

    What comes out in the end is one `Report`, as JSON.
    """

    num_shards = 1

    def __init__(self, directory: str, overwrite: bool, file_bytes: int, least: int, temporary: str) -> None:
        super().__init__(directory, "jsonl", overwrite, temporary)
        self.file_bytes = file_bytes
        self.least = least

    def open_writer(self, init_result: str, uid: str) -> _Writer:
        return _Writer(FileSystems.join(init_result, uid), self.file_bytes)

    def finalize_write(self, init_result: str, writer_results: Iterable[bytes], pre_finalize_result: Any) -> list[str]:
        """Checks the examples as a whole, and gives their files their names."""
        reports = [msgspec.json.decode(result, type=Report) for result in writer_results]
        report = reports[0] if reports else Report()
        try:
            report.check(self.least)
        except ValueError:
            sink.clear(init_result)
            raise
        report.files = self.publish(init_result, report.files)
        return [msgspec.json.encode(report).decode()]


class _Writer(iobase.Writer):
    """Writes one file after another; its result is a `Report` of them, as JSON.

    The last examples are held back, so that where a file is full the next one gets as many as a job needs.
    """

    def __init__(self, prefix: str, file_bytes: int) -> None:
        self._prefix = prefix
        self._file_bytes = file_bytes
        self._tally = Tally()
        self._paths: list[str] = []
        self._file: Any = None
        self._written = 0
        self._held: deque[bytes] = deque()
        self._held_bytes = 0

    def write(self, value: Example) -> None:
        example = Example(*value)
        self._tally.add(example)
        if self._file is not None and self._written + self._held_bytes + len(example.line) > self._file_bytes:
            self._close_file()
        self._held.append(example.line)
        self._held_bytes += len(example.line)
        if len(self._held) > LEAST_EXAMPLES:
            self._put()

    def at_capacity(self) -> bool:
        return False

    def close(self) -> bytes:
        while self._held:
            self._put()
        self._close_file()
        tally = self._tally
        report = Report(self._paths, dict(tally.forms), tally.tokens, tally.longest, tally.duplicates, tally.warnings())
        return msgspec.json.encode(report)

    def _put(self) -> None:
        """Writes the first of the examples that are held."""
        line = self._held.popleft()
        self._held_bytes -= len(line)
        if self._file is None:
            self._paths.append(f"{self._prefix}-{len(self._paths):05}.jsonl")
            with sink.explained(self._paths[-1]):
                self._file = FileSystems.create(self._paths[-1], compression_type=CompressionTypes.UNCOMPRESSED)
            self._written = 0
        with sink.explained(self._paths[-1]):
            self._file.write(line)
        self._written += len(line)

    def _close_file(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with sink.explained(self._paths[-1]):
                file.close()
