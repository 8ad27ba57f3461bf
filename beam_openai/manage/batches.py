"""/batches: many requests in a file, answered within a day at half the price."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from beam_openai.client import API, Request, segment
from beam_openai.manage import files, listing, transfer
from beam_openai.manage.server import Object, Server, connected

ENDED = {"completed", "failed", "expired", "cancelled"}
"""What the status of a batch is in the end."""

_PAGE = {"limit": "100"}


def create(
    api: API | Server,
    input_file: str,
    endpoint: str,
    *,
    completion_window: str = "24h",
    metadata: Mapping[str, str] | None = None,
    on_progress: transfer.OnProgress | None = None,
    **options: Any,
) -> Object:
    """Begins a batch; never two, where the first one's answer was lost: see `server`.

    Args:
      api: where to.
      input_file: a file's id; or a local path, which is uploaded first.
      endpoint: what each line is a request to, as `/v1/embeddings`.
      completion_window: the time it may take.
      metadata: of one's own. Best something that no other batch has: it is found again by it.
      on_progress: told how far an upload is.
      options: `output_expires_after` ... as the server names them; None is not sent.
    """
    with connected(api) as server:
        asked: Object = {
            "input_file_id": files.uploaded(server, input_file, "batch", on_progress),
            "endpoint": endpoint,
            "completion_window": completion_window,
        }
        if metadata:
            asked["metadata"] = dict(metadata)

        def find(began: float) -> Object | None:
            made = listing.since(server, "/batches", _PAGE, began)
            return next((batch for batch in made if asked.items() <= batch.items()), None)

        sent = asked | {name: value for name, value in options.items() if value is not None}
        return server.make(Request("/batches", sent), find)


def list(api: API | Server) -> Iterator[Object]:
    """All batches, over all pages, newest first."""
    with connected(api) as server:
        yield from listing.every(server, "/batches", _PAGE)


def get(api: API | Server, batch_id: str) -> Object:
    with connected(api) as server:
        return server.get(_path(batch_id))


def cancel(api: API | Server, batch_id: str) -> Object:
    """Cancels a batch, which takes up to ten minutes: what it has answered by then is in its output file."""
    with connected(api) as server:
        return server.change(_path(batch_id), "cancel", {"cancelling", "cancelled"})


def wait(
    api: API | Server,
    batch_id: str,
    poll: float = 30.0,
    on_change: Callable[[Object], object] = lambda batch: None,
) -> Object:
    """The batch when it has ended; `on_change` is told of it whenever its status or its counts are others."""
    shown = None
    with connected(api) as server:
        while True:
            batch = server.get(_path(batch_id))
            if shown != (shown := (batch.get("status"), batch.get("request_counts"))):
                on_change(batch)
            if batch.get("status") in ENDED:
                return batch
            server.sleep(poll)


def _path(batch_id: str) -> str:
    return f"/batches/{segment(batch_id)}"
