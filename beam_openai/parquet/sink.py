"""Parts that appear in a directory when all of them have been written, whatever is in them.

A run writes into a temporary folder of its own, and renames what it has written in the end. On any filesystem that Beam
knows.
"""

from __future__ import annotations

import contextlib
import glob
import os
import platform
import posixpath
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from apache_beam.io import iobase
from apache_beam.io.filesystems import FileSystems

from beam_openai.parquet import files

_TEMPORARY = "_beam-temp-"
# A file in a temporary folder that says which process began it; by its name, whether all rows are written.
_BEGUN, _WRITTEN = "begun", "written"
_RENAME_THREADS = 16
_under_way: set[str] = set()


class Sink(iobase.Sink):
    """The methods in the order in which Beam calls them. `open_writer` is the subclass's: it gives a list of paths."""

    skip_if_empty = True

    def __init__(self, directory: str, extension: str, overwrite: bool, temporary: str) -> None:
        self.directory = directory
        self.extension = extension
        self.overwrite = overwrite
        self.temporary = temporary

    def initialize_write(self) -> str:
        """Once, before the first row: a temporary folder, whose name ends in the run's."""
        check_free(self.directory, self.extension, self.overwrite)
        return begin(self.directory, self.temporary)

    def pre_finalize(self, init_result: str, writer_results: Iterable[Any]) -> None:
        pass

    def finalize_write(self, init_result: str, writer_results: Iterable[Any], pre_finalize_result: Any) -> list[str]:
        """Renames the parts, then removes those of earlier runs.

        Safe to repeat, whole or from the middle: a part's name says which run it is of, so what an
        earlier try has done is told from what an earlier run has left.
        """
        return self.publish(init_result, [path for paths in writer_results for path in paths])

    def publish(self, temporary: str, written: Sequence[str]) -> list[str]:
        """Gives the files in the temporary folder their names in the directory, which are returned."""
        run, pattern = temporary.rsplit("-", 1)[1], f"part-*.{self.extension}"
        written = sorted(written)
        names = [f"part-{i:05}-of-{len(written):05}-{run}.{self.extension}" for i in range(len(written))]
        parts = [FileSystems.join(self.directory, name) for name in names]
        # From here on the rows are all there: they are not to be cleared away, whatever happens.
        forget(temporary)
        others = set(matching(self.directory, pattern)) - set(parts)
        if others and not self.overwrite:
            raise FileExistsError(
                f"another run has put {len(others)} parts into {self.directory} meanwhile; "
                f"this run's are kept in {temporary}"
            )
        rename(temporary, written, parts)
        if self.overwrite:
            delete(sorted(set(matching(self.directory, pattern)) - set(parts)))
            _clear_abandoned(self.directory)
        clear(temporary)
        return parts


def check_free(directory: str, extension: str, overwrite: bool) -> None:
    """Raises FileExistsError where the directory has parts that may not be replaced."""
    parts = [] if overwrite else matching(directory, f"part-*.{extension}")
    if parts:
        held = f"{len(parts)} part{'s' if len(parts) > 1 else ''}"
        raise FileExistsError(f"{directory} already holds {held}; pass overwrite=True (--overwrite) to replace them")


def check_writable(directory: str) -> None:
    """Raises an OSError where a local directory could not be made or written, without making it."""
    if not files.is_local(directory):
        return
    existing = os.path.abspath(directory)
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        raise NotADirectoryError(f"{directory} cannot be written: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"{directory} cannot be written: no permission for {existing}")


def begin(directory: str, kind: str) -> str:
    """Makes a temporary folder in a directory; `clear_temporary` knows it by its kind, and its name ends in the run's.

    Raises:
      OSError: it cannot be made.
    """
    temporary: str = FileSystems.join(directory, f"{_TEMPORARY}{kind}-{uuid.uuid4().hex[:12]}")
    # A real file: on an object store a folder alone proves nothing.
    with explained(directory), FileSystems.create(FileSystems.join(temporary, _BEGUN)) as begun:
        begun.write(f"{platform.node()} {os.getpid()}".encode())
    _under_way.add(temporary)
    return temporary


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Makes an OSError one that says what cannot be written."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def clear_temporary(directory: str, temporary: str = "parts") -> None:
    """Removes what failed runs of `WriteTables(temporary=...)` have left in a directory, unless all rows were written.

    It would take the ground from under a run of the same `temporary` that is still writing there.
    """
    directory = directory.rstrip("/") or "/"
    for begun in matching(directory, f"{_TEMPORARY}{temporary}-*/{_BEGUN}"):
        clear(os.path.dirname(begun))


def clear_own_temporary() -> None:
    """Removes what writing transforms in this process have begun and not ended: for programs whose pipelines run in them.

    What is written as a whole stays, as with `clear_temporary`. None of their pipelines may be running any more.
    """
    for temporary in list(_under_way):
        if matching(temporary, _BEGUN):
            clear(temporary)


def _clear_abandoned(directory: str) -> None:
    """Removes the temporary folders of runs that are no more: their process was one of this machine, and is gone."""
    for name in _BEGUN, _WRITTEN:
        for marker in matching(directory, f"{_TEMPORARY}*/{name}"):
            with contextlib.suppress(OSError):
                with FileSystems.open(marker) as file:
                    process = file.read().decode("utf-8", "replace")
                if _is_gone(process):
                    clear(os.path.dirname(marker))


def _is_gone(process: str) -> bool:
    node, _, number = process.rpartition(" ")
    if node != platform.node() or not number.isdecimal() or os.name != "posix":
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # somebody else's, or no number of a process
        pass
    return False


def unfinished(directory: str, temporary: str) -> list[str]:
    """The temporary folders of runs of `temporary` that have written all rows, and not yet named all parts."""
    return [os.path.dirname(written) for written in matching(directory, f"{_TEMPORARY}{temporary}-*/{_WRITTEN}")]


def clear(temporary: str) -> None:
    """Removes a temporary folder; it may be gone, if an earlier try came this far."""
    _under_way.discard(temporary)
    if not files.is_local(temporary):
        # An object store has no folder to remove, only what is in it.
        delete(matching(temporary, "*"))
    with contextlib.suppress(OSError):
        delete([temporary])


def rename(temporary: str, written: Sequence[str], parts: Sequence[str], pattern: str = "part-*") -> None:
    """Gives the files in a temporary folder their places; what is there already is replaced.

    Safe to repeat: those that an earlier try has renamed are passed over.

    Args:
      temporary: the folder.
      written: the files.
      parts: the place of each, all in one folder.
      pattern: of their names.

    Raises:
      FileNotFoundError: a file is neither where it was written nor at its place.
    """
    there = set(matching(temporary, "*"))
    done = set(matching(parts[0].rsplit("/", 1)[0], pattern)) if parts else set()
    lost = [path for path, part in zip(written, parts) if path not in there and part not in done]
    if lost:
        raise FileNotFoundError(f"{lost[0]} was written but is not there any more")
    todo = [(path, part) for path, part in zip(written, parts) if path in there]
    # A try that was cut off between copy and delete leaves both.
    delete([part for _, part in todo if part in done])
    size = FileSystems.get_chunk_size(temporary)
    chunks = [todo[first : first + size] for first in range(0, len(todo), size)]
    with ThreadPoolExecutor(_RENAME_THREADS) as pool:
        list(pool.map(lambda chunk: FileSystems.rename(*map(list, zip(*chunk))), chunks))


def matching(directory: str, pattern: str) -> list[str]:
    """The paths in a directory whose names match."""
    if files.is_local(directory):
        return glob.glob(posixpath.join(glob.escape(directory), pattern))
    matched = FileSystems.match([FileSystems.join(directory, pattern)])[0].metadata_list
    return [file.path for file in matched]


def forget(temporary: str) -> None:
    """From now on `clear_temporary` passes the folder over."""
    begun, written = (FileSystems.join(temporary, name) for name in (_BEGUN, _WRITTEN))
    with contextlib.suppress(OSError):  # an earlier try came this far
        if files.is_local(begun):
            os.rename(begun, written)
        else:
            FileSystems.rename([begun], [written])


def delete(paths: Sequence[str]) -> None:
    """Removes files and folders, which must be there."""
    if paths:
        FileSystems.delete(list(paths))
