"""What commands print: tables and lines for people, JSON for programs; and how far a transfer is."""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from beam_openai.cli.progress import fitted

Object = dict[str, Any]


def is_json(asked: bool) -> bool:
    """Whether JSON is shown: where it is asked for, and to what is no terminal."""
    return asked or not sys.stdout.isatty()


def show_list(objects: Iterable[Object], columns: Sequence[str], as_json: bool) -> None:
    """A table of these columns, with a heading; or each object whole, as JSON on a line of its own."""
    if as_json:
        show_lines(objects, columns, as_json)
        return
    rows = [[_cell(name, one.get(name)) for name in columns] for one in objects]
    if not rows:
        print("none")
        return
    widths = [max(map(len, column)) for column in zip(columns, *rows)]
    for row in [columns, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def show_lines(objects: Iterable[Object], columns: Sequence[str], as_json: bool) -> None:
    """Each as soon as it is there: these columns without a heading, or JSON."""
    for one in objects:
        line = json.dumps(one) if as_json else "  ".join(_cell(name, one.get(name)) for name in columns)
        print(line, flush=True)


def show_one(one: Object, as_json: bool) -> None:
    """A field a line, or JSON on one line."""
    if as_json:
        print(json.dumps(one))
        return
    width = max(map(len, one), default=0)
    for name, value in one.items():
        print(f"{printable(name).ljust(width)}  {_cell(name, value)}")


def _cell(name: str, value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)) and (name.endswith("_at") or name in ("created", "estimated_finish")):
        return _moment(value)
    if isinstance(value, int) and name == "bytes":
        return f"{value:,}"
    if name == "request_counts" and isinstance(value, dict):
        failed = f", {value['failed']} failed" if value.get("failed") else ""
        return f"{value.get('completed', 0)} of {value.get('total', 0)}{failed}"
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _moment(seconds: float) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        return str(seconds)
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


def printable(text: str) -> str:
    """On one line, and without what a terminal would obey: a file's name is of somebody else's choice."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


class Transfer:
    """Draws how far a transfer is over itself on a terminal, and nothing elsewhere."""

    _SECONDS = 0.1

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        self._name, self._stream = name, stream or sys.stderr
        self._began = self._shown = time.monotonic()

    def __enter__(self) -> Transfer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream.isatty():
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def show(self, sent: int, size: int) -> None:
        """So many bytes, of all; 0 where that is not known."""
        now = time.monotonic()
        if now - self._shown < self._SECONDS or not self._stream.isatty():
            return
        self._shown = now
        of = f" of {size / 1e6:,.1f}" if size else ""
        rate = sent / 1e6 / (now - self._began)
        line = f"{printable(self._name)}: {sent / 1e6:,.1f}{of} MB, {rate:,.1f} MB/s"
        self._stream.write(f"\r\x1b[K{fitted(line, self._stream)}")
        self._stream.flush()
