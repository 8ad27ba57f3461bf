"""Bytes that the server keeps: few of them in memory, many in a temporary folder."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

IN_MEMORY = 1_048_576
PIECE = 262_144

Bytes = bytes | bytearray | memoryview


class Blob:
    """Bytes that were kept, for as long as somebody holds this object; they are never changed.

    Attributes:
        size: how many there are.
        at_hand: whether they are in memory.
    """

    def __init__(self, data: bytes, path: Path | None, size: int) -> None:
        self.size = size
        self.at_hand = path is None
        self._data = data
        self._path = path
        if path is not None:
            weakref.finalize(self, path.unlink, missing_ok=True)

    def pieces(self) -> Iterator[bytes]:
        """All of them, a quarter of a megabyte at a time."""
        if self._path is None:
            for at in range(0, self.size, PIECE):
                yield self._data[at : at + PIECE]
            return
        with open(self._path, "rb", buffering=0) as file:
            while piece := file.read(PIECE):
                yield piece

    def read(self) -> bytes:
        """All of them."""
        return self._data if self._path is None else self._path.read_bytes()


class Chain:
    """Blobs one behind the other, as one."""

    at_hand = False

    def __init__(self, blobs: Sequence[Blob]) -> None:
        self.size = sum(blob.size for blob in blobs)
        self._blobs = blobs

    def pieces(self) -> Iterator[bytes]:
        """All bytes, at most a quarter of a megabyte at a time."""
        return itertools.chain.from_iterable(blob.pieces() for blob in self._blobs)

    def read(self) -> bytes:
        """All of them."""
        return b"".join(self.pieces())


class Store:
    """Keeps bytes. The folder is made when it is needed, and goes with `close`, or with the process."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._count = 0

    def keep(self, data: Bytes) -> Blob:
        """Keeps a copy of the bytes."""
        draft = self.draft()
        draft.write(data)
        return draft.kept()

    def draft(self) -> Draft:
        """For bytes that come little by little."""
        return Draft(self)

    def new_path(self) -> Path:
        """Where a file may be made."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="beam-openai-emulator-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._count += 1
        return self._folder / str(self._count)

    def close(self) -> None:
        """Removes what is on disk."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


class Draft:
    """Bytes on their way into a `Store`: in memory until they are many, then in a file."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._start = bytearray()
        self._path: Path | None = None
        self.size = 0

    def write(self, data: Bytes) -> None:
        """Adds bytes at the end."""
        self.size += len(data)
        if self._path is None and self.size <= IN_MEMORY:
            self._start += data
            return
        if self._path is None:
            self._path = self._store.new_path()
            self._path.write_bytes(self._start)
            self._start.clear()
        with open(self._path, "ab") as file:
            file.write(data)

    def kept(self) -> Blob:
        """What was written, for good: nothing is written afterwards."""
        return Blob(bytes(self._start), self._path, self.size)
