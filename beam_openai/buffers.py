"""Large buffers, used again and again.

An answer of 2,048 vectors is 16 MB of text and 12 MB of numbers. Fresh pages for each cost as much as filling them, and an
allocator that serves 32 threads keeps hundreds of megabytes of what they freed. So the pages are mapped for themselves,
and a buffer that nothing refers to any more serves the next answer.
"""

from __future__ import annotations

import mmap
import threading

import pyarrow as pa

_KEPT_BYTES = 32 << 20
_SMALL_BYTES = 64 << 10


class _Kept:
    """Buffers that are free, 32 MiB of them at most."""

    def __init__(self) -> None:
        # Reentrant: a lease may end, by garbage collection, while this thread takes another.
        self._lock = threading.RLock()
        self._free: list[mmap.mmap] = []

    def take(self, size: int) -> mmap.mmap:
        """A buffer of at least `size` bytes."""
        with self._lock:
            fitting = [free for free in self._free if size <= len(free) <= 2 * size]
            if fitting:
                best = min(fitting, key=len)
                self._free = [free for free in self._free if free is not best]
                return best
        # An eighth more than needed: the next answer is seldom of just the same size. No pages at all cannot be mapped.
        return _map(max(1, size + size // 8))

    def give(self, buffer: mmap.mmap) -> None:
        with self._lock:
            self._free.append(buffer)
            while sum(map(len, self._free)) > _KEPT_BYTES:
                self._free.pop(0)


def _map(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


_kept = _Kept()


class _Lease:
    """What an Arrow buffer keeps alive; when it goes, its bytes are free."""

    def __init__(self, size: int) -> None:
        self.bytes = _kept.take(size)

    def __del__(self) -> None:
        _kept.give(self.bytes)


def lease(size: int) -> tuple[memoryview, pa.Buffer]:
    """A buffer of `size` bytes, as a view to write it through and as what is handed on once it is written.

    Its memory serves again when nothing refers to the Arrow buffer any more. Its first content is arbitrary.
    """
    if size < _SMALL_BYTES:
        small = bytearray(size)
        return memoryview(small), pa.py_buffer(small)
    lease = _Lease(size)
    address = pa.py_buffer(lease.bytes).address
    return memoryview(lease.bytes)[:size], pa.foreign_buffer(address, size, base=lease)
