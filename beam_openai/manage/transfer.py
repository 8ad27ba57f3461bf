"""Local files on their way to the server, and how far they are."""

from __future__ import annotations

import dataclasses
import io
import os
import threading
from collections.abc import Callable
from typing import BinaryIO, cast

from beam_openai import errors
from beam_openai.client import LocalFile

OnProgress = Callable[[int, int], object]
"""Told how many bytes are sent, and of how many; fewer again, where some are sent again. One thread at a time."""


@dataclasses.dataclass(frozen=True)
class Watched:
    """A local file, or a part of one, as a source of a form, that tells what is read of it.

    Attributes:
      path: of the file.
      size: of what is sent.
      sent: told how many bytes were read, whenever some were; 0 when it is opened.
      start: the first byte; None for the whole file.
    """

    path: str
    size: int
    sent: Callable[[int], object]
    start: int | None = None

    def open(self) -> BinaryIO:
        self.sent(0)
        return cast(BinaryIO, _Reader(self))


class _Reader(io.RawIOBase):
    def __init__(self, source: Watched) -> None:
        self._file = open(source.path, "rb", buffering=0)  # noqa: SIM115 - closed with this
        self._file.seek(source.start or 0)
        self._source, self._read = source, 0

    def read(self, size: int = -1) -> bytes:
        if self._source.start is not None:
            size = min(size, self._source.size - self._read)  # what follows is another part's
        piece = self._file.read(size)
        self._read += len(piece)
        self._source.sent(self._read)
        return piece

    def close(self) -> None:
        self._file.close()
        super().close()


class Total:
    """Adds up what the parts of a file have sent."""

    def __init__(self, size: int, on_progress: OnProgress) -> None:
        self._size, self._on_progress = size, on_progress
        self._sent: dict[int, int] = {}
        self._lock = threading.Lock()

    def add(self, part: int, sent: int) -> None:
        """So many bytes of a part are sent by now."""
        with self._lock:
            self._sent[part] = sent
            self._on_progress(sum(self._sent.values()), self._size)


class Unchanged:
    """That a file is still what it was when this was made."""

    def __init__(self, path: str) -> None:
        self._path, self._was = path, _state(path)

    def check(self) -> None:
        """Raises APIError where it was written to since."""
        if _state(self._path) != self._was:
            raise errors.APIError(f"{self._path} changed while it was sent. Send it again")


def _state(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def watched(path: str, on_progress: OnProgress) -> Watched:
    """A whole local file as a source.

    Raises:
      OSError, ValueError: there is none, or it is no plain file.
    """
    size = LocalFile(path).size
    return Watched(path, size, lambda sent: on_progress(sent, size))
