"""/fine_tuning/jobs: fine-tuning as it is since 2023."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from beam_openai.client import API, Request, segment
from beam_openai.manage import files, listing, transfer
from beam_openai.manage.server import Object, Server, connected

ENDED = {"succeeded", "failed", "cancelled"}
"""What the status of a job is in the end."""

_JOBS = "/fine_tuning/jobs"
_PAGE = {"limit": "100"}


def create(
    api: API | Server,
    training_file: str,
    model: str,
    *,
    validation_file: str | None = None,
    on_progress: transfer.OnProgress | None = None,
    **options: Any,
) -> Object:
    """Begins a job; never two, where the first one's answer was lost: see `server`.

    Args:
      api: where to.
      training_file, validation_file: a file's id; or a local path, which is uploaded first.
      model: what is tuned.
      on_progress: told how far an upload is.
      options: `suffix`, `seed`, `method`, `metadata` ... as the server names them; None is not sent.
    """
    with connected(api) as server:
        asked = files.training(server, training_file, validation_file, {"model": model, **options}, on_progress)

        def find(began: float) -> Object | None:
            return next((job for job in listing.since(server, _JOBS, _PAGE, began) if _is_of(job, asked)), None)

        return server.make(Request(_JOBS, asked), find)


def list(api: API | Server) -> Iterator[Object]:
    """All jobs, over all pages, newest first."""
    with connected(api) as server:
        yield from listing.every(server, _JOBS, _PAGE)


def get(api: API | Server, job_id: str) -> Object:
    with connected(api) as server:
        return server.get(_path(job_id))


def cancel(api: API | Server, job_id: str) -> Object:
    with connected(api) as server:
        return server.change(_path(job_id), "cancel", {"cancelled"})


def pause(api: API | Server, job_id: str) -> Object:
    with connected(api) as server:
        return server.change(_path(job_id), "pause", {"paused"})


def resume(api: API | Server, job_id: str) -> Object:
    with connected(api) as server:
        return server.change(_path(job_id), "resume", {"validating_files", "queued", "running"})


def events(api: API | Server, job_id: str) -> Iterator[Object]:
    """What has happened so far, over all pages, newest first."""
    with connected(api) as server:
        yield from listing.every(server, f"{_path(job_id)}/events", _PAGE)


def checkpoints(api: API | Server, job_id: str) -> Iterator[Object]:
    """The models that a job made on its way, over all pages, newest first."""
    with connected(api) as server:
        yield from listing.every(server, f"{_path(job_id)}/checkpoints")


def follow(api: API | Server, job_id: str, poll: float = 5.0) -> Iterator[Object]:
    """What has happened, and what happens from now on, oldest first, each event once, until the job has ended.

    The server is asked every `poll` seconds: it has no stream.
    """
    seen: set[str] = set()
    with connected(api) as server:
        while True:
            # Asked for before the events are: what it did until then is among them.
            has_ended = server.get(_path(job_id)).get("status") in ENDED
            new = []
            for event in listing.every(server, f"{_path(job_id)}/events", _PAGE):
                if event.get("id") in seen:
                    break
                new.append(event)
            seen.update(str(event.get("id")) for event in new)
            yield from sorted(reversed(new), key=lambda event: event.get("created_at") or 0)
            if has_ended:
                return
            server.sleep(poll)


def _is_of(job: Object, asked: Object) -> bool:
    """Whether a job is what was asked for, as far as it tells."""
    model = str(job.get("model"))
    if model != asked["model"] and not model.startswith(f"{asked['model']}-"):
        return False  # a name without a date is answered with the one that has it
    told = {**job, "suffix": job.get("user_provided_suffix", asked.get("suffix"))}
    same = {"training_file", "validation_file", "seed", "suffix", "metadata"} & asked.keys()
    return all(told.get(name) == asked[name] for name in same)


def _path(job_id: str) -> str:
    return f"{_JOBS}/{segment(job_id)}"
