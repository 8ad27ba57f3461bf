"""/files: what is uploaded once, and named by its id from then on."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from beam_openai import errors
from beam_openai.client import API, File, Form, LocalFile, Request, form_fields, guess, segment
from beam_openai.manage import listing, transfer
from beam_openai.manage.server import Object, Server, connected


def list(api: API | Server, purpose: str | None = None) -> Iterator[Object]:
    """All files, over all pages; those of one purpose, if there is one."""
    with connected(api) as server:
        yield from listing.every(server, "/files", {"purpose": purpose} if purpose else {})


def get(api: API | Server, file_id: str) -> Object:
    with connected(api) as server:
        return server.get(_path(file_id))


def delete(api: API | Server, file_id: str) -> Object:
    with connected(api) as server:
        return server.delete(_path(file_id), file_id)


def upload(
    api: API | Server,
    path: str | os.PathLike[str],
    purpose: str,
    *,
    expires_after: int | None = None,
    on_progress: transfer.OnProgress | None = None,
) -> Object:
    """Uploads a local file; it is read while it is sent, and is never in memory. Made once: see `server`.

    Args:
      api: where to.
      path: of a plain file. Its name is the file's name there.
      purpose: `fine-tune`, `batch`, `assistants`, `vision`, `user_data`, `evals`, or what else the server knows.
      expires_after: seconds from its making after which the server deletes it.
      on_progress: told of the bytes that are sent, and of all.

    Raises:
      OSError, ValueError: there is no such file, before anything is sent.
    """
    path, name = os.fspath(path), os.path.basename(os.fspath(path))
    source = transfer.watched(path, on_progress) if on_progress else LocalFile(path)
    options: dict[str, Any] = {"purpose": purpose}
    if expires_after is not None:
        options["expires_after"] = {"anchor": "created_at", "seconds": expires_after}
    form = Form(form_fields(options), [File("file", name, guess(name), source)])
    with connected(api) as server:
        return server.make(Request("/files", form), lambda began: find(server, name, source.size, purpose, began))


def find(server: Server, name: str, size: int, purpose: str, began: float) -> Object | None:
    """A file of this name, size and purpose that was made since `began`; None where there is none."""
    wanted = {"filename": name, "bytes": size, "purpose": purpose}
    # Not all ten thousand, which a server would give: those made just now are the first.
    made = listing.since(server, "/files", {"purpose": purpose, "limit": "100"}, began)
    return next((file for file in made if wanted.items() <= file.items()), None)


def content(
    api: API | Server,
    file_id: str,
    to: str | os.PathLike[str] | BinaryIO,
    on_progress: transfer.OnProgress | None = None,
) -> int:
    """Downloads a file, byte for byte.

    A download that breaks off is begun again. What `to` names is there when all has arrived and not before: until then it
    is written beside it, under another name. What is no plain file (a pipe, an open file) is written as it comes, and what
    it has is not written again.

    Returns:
      How many bytes it has.

    Raises:
      OSError: it cannot be written.
    """
    with connected(api) as server:
        if not isinstance(to, (str, os.PathLike)):
            return _download(server, file_id, to, on_progress)
        if os.path.exists(to) and not os.path.isfile(to):
            with open(to, "wb") as file:
                return _download(server, file_id, file, on_progress)
        path = os.path.realpath(to)
        temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{uuid.uuid4().hex[:8]}")
        try:
            with open(temporary, "xb") as file:
                size = _download(server, file_id, file, on_progress)
            os.replace(temporary, path)
        except OSError as error:
            if error.filename == temporary:
                error.filename = path
            raise
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        return size


def _download(server: Server, file_id: str, to: BinaryIO, on_progress: transfer.OnProgress | None) -> int:
    written = 0

    def attempt() -> int:
        nonlocal written
        arrived = 0
        with server.stream(Request(f"{_path(file_id)}/content", method="GET")) as stream:
            told = stream.headers.get("content-length", "")
            size = int(told) if told.isascii() and told.isdigit() else 0
            for piece in stream.pieces:
                arrived += len(piece)
                # A file never changes under its id: what an earlier attempt wrote is this one's beginning.
                if arrived > written:
                    to.write(piece[len(piece) - (arrived - written) :])
                    written = arrived
                if on_progress:
                    on_progress(arrived, size)
        if arrived < written:
            raise errors.BadAnswerError(f"{file_id} has {arrived} bytes now, and had {written} at least before")
        return arrived

    return server.repeat(attempt)


def uploaded(server: Server, file: str, purpose: str, on_progress: transfer.OnProgress | None = None) -> str:
    """The id of a file that is named by its id, or by its path: then it is uploaded first."""
    return str(upload(server, file, purpose, on_progress=on_progress)["id"]) if is_local(file) else file


def training(
    server: Server,
    training_file: str,
    validation_file: str | None,
    options: Mapping[str, Any],
    on_progress: transfer.OnProgress | None,
) -> Object:
    """What a fine-tune is asked for: its files, by their ids, and the options that are set."""
    named = {"training_file": training_file, "validation_file": validation_file}
    there = {name: file for name, file in named.items() if file is not None}
    ids = {name: uploaded(server, file, "fine-tune", on_progress) for name, file in there.items()}
    return {**ids, **{name: value for name, value in options.items() if value is not None}}


def is_local(file: str) -> bool:
    """Whether this is the path of a local file, and not the id of one on the server.

    What begins with `file-` is an id, if nothing but letters, digits, - and _ follows (a local file of such a name is
    `./file-...`); what has a slash or a dot in it is a path, whether it is there or not; anything else is a path if it is
    there.
    """
    if re.fullmatch(r"file-[\w-]+", file):
        return False
    return "/" in file or os.sep in file or "." in file or os.path.exists(file)


def _path(file_id: str) -> str:
    return f"/files/{segment(file_id)}"
