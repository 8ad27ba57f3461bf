"""/fine-tunes: fine-tuning as it was until 2024; for servers that still have it."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import msgspec

from beam_openai import errors
from beam_openai.client import API, Request, segment
from beam_openai.manage import files, listing, sse, transfer
from beam_openai.manage.server import Object, Server, connected

ENDED = {"succeeded", "failed", "cancelled"}
"""What the status of a fine-tune is in the end."""


def create(
    api: API | Server,
    training_file: str,
    *,
    validation_file: str | None = None,
    on_progress: transfer.OnProgress | None = None,
    **options: Any,
) -> Object:
    """Begins a fine-tune; never two, where the first one's answer was lost: see `server`.

    Args:
      api: where to.
      training_file, validation_file: a file's id; or a local path, which is uploaded first.
      on_progress: told how far an upload is.
      options: `model`, `n_epochs`, `suffix` ... as the server names them; None is not sent.
    """
    with connected(api) as server:
        asked = files.training(server, training_file, validation_file, options, on_progress)

        def find(began: float) -> Object | None:
            return next((one for one in listing.since(server, "/fine-tunes", {}, began) if _is_of(one, asked)), None)

        return server.make(Request("/fine-tunes", asked), find)


def list(api: API | Server) -> Iterator[Object]:
    """All fine-tunes, without their events."""
    with connected(api) as server:
        yield from listing.every(server, "/fine-tunes", paged=False)


def get(api: API | Server, fine_tune_id: str) -> Object:
    with connected(api) as server:
        return server.get(_path(fine_tune_id))


def cancel(api: API | Server, fine_tune_id: str) -> Object:
    with connected(api) as server:
        return server.change(_path(fine_tune_id), "cancel", {"cancelled"})


def events(api: API | Server, fine_tune_id: str) -> Iterator[Object]:
    """What has happened so far, oldest first."""
    with connected(api) as server:
        yield from listing.every(server, f"{_path(fine_tune_id)}/events", paged=False)


def follow(api: API | Server, fine_tune_id: str, poll: float = 5.0) -> Iterator[Object]:
    """What has happened, and what happens from now on, each event once, until the fine-tune has ended.

    A stream that breaks is opened again, and what it repeats is left out. Where a server has no stream to give, its list
    of events is asked for, every `poll` seconds.

    Raises:
      APIError: the server is not there any more, or says no.
    """
    with connected(api) as server:
        path, unseen = _path(fine_tune_id), _Unseen()
        while True:
            is_whole = yield from _stream(server, path, unseen)
            # Asked for before the events are: what it did until then is among them.
            has_ended = server.get(path).get("status") in ENDED
            if not (is_whole and has_ended):
                yield from unseen.of(listing.every(server, f"{path}/events", paged=False))
            if has_ended:
                return
            server.sleep(poll)


class _Unseen:
    """Leaves out what was given before. Events have no id, and two may be the same: it counts how often each one comes."""

    def __init__(self) -> None:
        self._seen: collections.Counter[str] = collections.Counter()

    def of(self, events: Iterable[Object]) -> Iterator[Object]:
        """Those of one stream, or list, that are new."""
        times: collections.Counter[str] = collections.Counter()
        for event in events:
            key = repr([event.get(name) for name in ("created_at", "level", "message")])
            times[key] += 1
            if times[key] > self._seen[key]:
                self._seen[key] = times[key]
                yield event


def _stream(server: Server, path: str, unseen: _Unseen) -> Generator[Object, None, bool]:
    """The new events of one stream. Returns whether it came to its end; if not, the next call will tell why."""
    ending = _Ending()
    request = Request(f"{path}/events", method="GET", query={"stream": "true"})
    with contextlib.suppress(errors.APIError), server.stream(request) as stream:
        yield from unseen.of(ending.before(sse.events(stream.pieces)))
    return ending.came


class _Ending:
    """The events of a stream as objects, and whether `[DONE]` came behind them."""

    came = False

    def before(self, events: Iterable[sse.Event]) -> Iterator[Object]:
        for event in events:
            if event.is_done:
                self.came = True
                return
            said = _object(event.data)
            if said is None or said.get("error"):
                return  # what comes under 200 all the same is no event, and ends the stream
            yield said


def _object(data: str) -> Object | None:
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        said = msgspec.json.decode(data)
        return said if isinstance(said, dict) else None
    return None


def _is_of(job: Object, asked: Object) -> bool:
    """Whether a fine-tune is what was asked for, as far as it tells: it does not tell its suffix."""
    told = {"model": job.get("model"), **(job.get("hyperparams") or {})}
    if any(told[name] not in (None, asked[name]) for name in asked.keys() & told.keys()):
        return False
    return all(
        [file.get("id") for file in job.get(f"{kind}s") or ()] == [asked[kind]]
        for kind in ("training_file", "validation_file")
        if kind in asked
    )


def _path(fine_tune_id: str) -> str:
    return f"/fine-tunes/{segment(fine_tune_id)}"
