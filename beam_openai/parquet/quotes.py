"""Quotes in CSV that swallow rows: which nothing closes, or the next one in another row.

Arrow takes what follows such a quote for one cell, up to the end of the file if need be, and says nothing.
"""

from __future__ import annotations

import re

import pyarrow as pa

_BOM = b"\xef\xbb\xbf"
_INSIDE = re.compile(rb'[^"]*(?:""[^"]*)*')
_STEP = 256
"""Cells that are looked at in one go: each of them is kept until then."""


class Quotes:
    """A CSV file that is read, and a look at its quotes on the way.

    A quote opens a cell only where it is the first of it. One that closes before other text of the same line is passed
    over, as Arrow does it: no row is lost by it.

    Attributes:
      problem: what is wrong, once it was come upon; then the file ends there.
      opened: the byte at which the cell begins that is open.
      closed: for Arrow, which takes any such object for a file.
    """

    closed = False

    def __init__(self, source: pa.NativeFile, delimiter: str) -> None:
        self.problem: str | None = None
        self.opened: int | None = None
        self._source = source
        separators = re.escape(f"{delimiter}\r\n".encode())
        self._separators = f"{delimiter}\r\n".encode()
        quoted, plain = rb'"[^"]*(?:""[^"]*)*"(?=[%b])' % separators, rb'[^"%b][^%b]*(?=[%b])' % ((separators,) * 3)
        self._cells = re.compile(rb"(?:%b|%b|[%b]){1,%d}" % (quoted, plain, separators, _STEP))
        self._at = 0
        self._rest = b""
        self._is_fresh = True
        self._spans_lines = False

    @property
    def open_bytes(self) -> int:
        """How long the cell is, so far, that is open."""
        return 0 if self.opened is None else self._at - self.opened

    def read(self, size: int = -1) -> bytes:
        """As of a file; empty at its end, and where something is wrong."""
        if self.problem:
            return b""
        data: bytes = self._source.read(size)
        if data:
            self._look_at(data)
        elif self.opened is not None and not self._rest:
            self.problem = "is never closed"
        return data

    def close(self) -> None:
        self.closed = True

    def _look_at(self, data: bytes) -> None:
        if self._at == 0 and data.startswith(_BOM):
            self._at, data = len(_BOM), data[len(_BOM) :]
        # A quote at the end of what was read before closes the cell, unless another one follows.
        data = self._rest + data
        self._at -= len(self._rest)
        self._rest = b""
        place = 0
        while place < len(data) and not self.problem:
            place = self._outside(data, place) if self.opened is None else self._inside(data, place)
        if data:
            self._is_fresh = data[-1] in self._separators
        self._at += len(data)

    def _outside(self, data: bytes, place: int) -> int:
        """Where the next cell begins that may be open."""
        quote = data.find(b'"', place)
        if quote < 0:
            return len(data)
        if not (data[quote - 1] in self._separators if quote else self._is_fresh):
            return quote + 1
        if cells := self._cells.match(data, quote):
            return cells.end()
        self.opened, self._spans_lines = self._at + quote, False
        return quote + 1

    def _inside(self, data: bytes, place: int) -> int:
        """Where the open cell ends."""
        inside = _INSIDE.match(data, place)
        assert inside is not None  # it matches anything
        end = inside.end()
        self._spans_lines = self._spans_lines or data.find(b"\n", place, end) >= 0
        if end == len(data):
            return end
        if end + 1 == len(data):
            self._rest = data[end:]
            return end + 1
        if self._spans_lines and data[end + 1] not in self._separators:
            self.problem = "is closed in another line, in the middle of a cell"
        else:
            self.opened = None
        return end + 1
