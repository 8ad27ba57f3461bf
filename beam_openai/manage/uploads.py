"""/uploads: files too large for one request, in parts."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import threading
from collections.abc import Sequence

from beam_openai import errors
from beam_openai.client import API, File, Form, LocalFile, Request, guess, segment
from beam_openai.manage import files, transfer
from beam_openai.manage.server import Object, Server, connected
from beam_openai.retry import Retry

PART_BYTES = 64_000_000
"""What a part has at most: OpenAI takes 64 MB."""

_READ_BYTES = 1 << 20
_GIVE_UP_SECONDS = 5.0


def create(
    api: API | Server,
    path: str | os.PathLike[str],
    purpose: str,
    *,
    part_bytes: int = PART_BYTES,
    concurrency: int = 4,
    expires_after: int | None = None,
    on_progress: transfer.OnProgress | None = None,
) -> Object:
    """Uploads a local file of up to 8 GB in parts, several at a time, and completes it.

    No part is in memory. The server is told the MD5 of the whole, and checks it. A part is tried again by itself; if one
    cannot be sent at all, or this is interrupted, the upload is cancelled.

    Args:
      api: where to.
      path: of a plain file. Its name is the file's name there.
      purpose: as for `files.upload`.
      part_bytes: of each part but the last.
      concurrency: how many parts are sent at a time.
      expires_after: seconds from its making after which the server deletes the file.
      on_progress: told of the bytes that are sent, and of all.

    Returns:
      The upload, completed: `["file"]` is the file.

    Raises:
      OSError, ValueError: there is no such file, or options that cannot be, before anything is sent.
      APIError: refused; or the file changed while it was sent.
    """
    path, size = os.fspath(path), LocalFile(os.fspath(path)).size
    for option, number in (("part_bytes", part_bytes), ("concurrency", concurrency)):
        if number < 1:
            raise ValueError(f"{option} must be at least 1, not {number}")
    unchanged = transfer.Unchanged(path)
    name = os.path.basename(path)
    asked: Object = {"filename": name, "purpose": purpose, "bytes": size, "mime_type": guess(name)}
    if expires_after is not None:
        asked["expires_after"] = {"anchor": "created_at", "seconds": expires_after}
    with connected(api) as server:
        # Twice does no harm: an upload without parts costs nothing, is no file, and ends after an hour.
        upload = server.begin(Request("/uploads", asked))
        where = _path(str(upload["id"]))
        try:
            total = transfer.Total(size, on_progress or (lambda sent, size: None))
            sources = [
                transfer.Watched(path, min(part_bytes, size - start), functools.partial(total.add, start), start)
                for start in range(0, size, part_bytes)
            ]
            part_ids, md5 = _send(server, where, sources, concurrency)
            unchanged.check()
            return _complete(server, where, {"part_ids": part_ids, "md5": md5}, asked)
        except BaseException:
            _give_up(server, where)
            raise


def get(api: API | Server, upload_id: str) -> Object:
    with connected(api) as server:
        return server.get(_path(upload_id))


def cancel(api: API | Server, upload_id: str) -> Object:
    with connected(api) as server:
        return server.change(_path(upload_id), "cancel", {"cancelled"})


def _give_up(server: Server, where: str) -> None:
    # Quickly: somebody may be waiting for the end, and the server ends it by itself in an hour.
    brief = Retry(attempts=2, max_elapsed=_GIVE_UP_SECONDS)
    with contextlib.suppress(errors.APIError), server.another(retry=brief, timeout=_GIVE_UP_SECONDS) as last:
        last.ask(Request(f"{where}/cancel"))


def _send(server: Server, where: str, sources: Sequence[transfer.Watched], concurrency: int) -> tuple[list[str], str]:
    """The ids of the parts, in order, and the MD5 of the whole. What fails ends the rest at once."""
    stopped = threading.Event()

    def sleep(seconds: float) -> None:
        if stopped.wait(seconds):
            raise errors.APIError("another part failed")

    # Connections of their own: closing them ends what is under way.
    with (
        server.another(sleep=sleep) as parts,
        concurrent.futures.ThreadPoolExecutor(1, "beam_openai-md5") as reader,
        concurrent.futures.ThreadPoolExecutor(concurrency, "beam_openai-upload") as senders,
    ):
        try:
            md5 = reader.submit(_md5, sources, stopped)
            sent = [senders.submit(_send_part, parts, where, source) for source in sources]
            for ended in concurrent.futures.as_completed([md5, *sent]):
                ended.result()
        except BaseException:
            stopped.set()
            senders.shutdown(wait=False, cancel_futures=True)
            parts.close()
            raise
        return [part.result() for part in sent], md5.result()


def _send_part(server: Server, where: str, source: transfer.Watched) -> str:
    # Twice does no harm: a part counts only if its id is among those that complete the upload.
    form = Form(files=[File("data", os.path.basename(source.path), "application/octet-stream", source)])
    return str(server.begin(Request(f"{where}/parts", form))["id"])


def _md5(sources: Sequence[transfer.Watched], stopped: threading.Event) -> str:
    whole = hashlib.md5(usedforsecurity=False)
    for source in sources[:1]:
        with open(source.path, "rb", buffering=0) as file:
            while (piece := file.read(_READ_BYTES)) and not stopped.is_set():
                whole.update(piece)
    return whole.hexdigest()


def _complete(server: Server, where: str, body: Object, asked: Object) -> Object:
    def find(began: float) -> Object | None:
        try:
            upload = server.get(where)
        except errors.NotFoundError:
            # A server that has uploads but does not show them: its files tell.
            file = files.find(server, asked["filename"], asked["bytes"], asked["purpose"], began)
            return file and {"id": where.rpartition("/")[2], "status": "completed", "file": file}
        return upload if upload.get("status") == "completed" else None

    return server.make(Request(f"{where}/complete", body), find)


def _path(upload_id: str) -> str:
    return f"/uploads/{segment(upload_id)}"
