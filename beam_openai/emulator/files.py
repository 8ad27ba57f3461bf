"""The files that were uploaded to the server, and those that it made itself."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .blobs import Blob, Chain, Store
from .clock import Clock
from .replies import Refusal

PROCESSING_SECONDS = 1.0
BATCH_FILE_SECONDS = 2_592_000
"""What belongs to batches is deleted after 30 days, if nothing else is said."""


@dataclass(frozen=True, kw_only=True, eq=False)
class File:
    """One file. Times are Unix seconds by the server's clock; `expires_at` None is never."""

    id: str
    created_at: float
    filename: str
    purpose: str
    expires_at: float | None
    blob: Blob | Chain = field(repr=False)
    clock: Clock = field(repr=False)

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.blob.size

    @property
    def data(self) -> builtins.bytes:
        """All of its bytes, read anew each time where they are many."""
        return self.blob.read()

    @property
    def status(self) -> str:
        """`uploaded`, and after a moment `processed`."""
        ready = self.clock.now() >= self.created_at + PROCESSING_SECONDS
        return "processed" if ready else "uploaded"

    @property
    def expired(self) -> bool:
        """Whether its time has come."""
        return self.expires_at is not None and self.clock.now() >= self.expires_at

    def shown(self) -> dict[str, Any]:
        """The API's file object."""
        return {
            "object": "file",
            "id": self.id,
            "purpose": self.purpose,
            "filename": self.filename,
            "bytes": self.bytes,
            "created_at": int(self.created_at),
            "expires_at": None if self.expires_at is None else int(self.expires_at),
            "status": self.status,
            "status_details": None,
        }


class Files:
    """All files by their ids, oldest first; one that has expired is not there any more.

    Args:
        clock: the time of day.
        store: where the bytes are.
        new_id: makes ids.
    """

    def __init__(self, clock: Clock, store: Store, new_id: Callable[[str], str]) -> None:
        self._clock = clock
        self._store = store
        self._new_id = new_id
        self._by_id: dict[str, File] = {}

    def __iter__(self) -> Iterator[File]:
        for file in [file for file in self._by_id.values() if file.expired]:
            del self._by_id[file.id]
        return iter(list(self._by_id.values()))

    def get(self, file_id: str, param: str = "id") -> File:
        """The file of that id.

        Raises:
            Refusal: 404 for `param`, there is none.
        """
        file = self._by_id.get(file_id)
        if file is None or file.expired:
            raise Refusal(404, f"No such File object: {file_id}", param=param)
        return file

    def add(
        self,
        blob: Blob | Chain,
        *,
        filename: str,
        purpose: str,
        lives: float | None = None,
        created_at: float | None = None,
    ) -> File:
        """A new file of these bytes, which expires after `lives` seconds; made now, if no other time is said."""
        now = self._clock.now() if created_at is None else created_at
        if lives is None and purpose in ("batch", "batch_output"):
            lives = BATCH_FILE_SECONDS
        file = File(
            id=self._new_id("file-"),
            created_at=now,
            filename=filename,
            purpose=purpose,
            expires_at=None if lives is None else now + lives,
            blob=blob,
            clock=self._clock,
        )
        self._by_id[file.id] = file
        return file

    def keep(self, data: bytes, *, filename: str, purpose: str, created_at: float) -> File:
        """A new file of bytes that the server made at that time."""
        return self.add(self._store.keep(data), filename=filename, purpose=purpose, created_at=created_at)

    def remove(self, file_id: str) -> None:
        """From now on it is not there."""
        self._by_id.pop(file_id, None)
