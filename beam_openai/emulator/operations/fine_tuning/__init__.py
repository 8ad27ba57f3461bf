"""/fine_tuning/jobs: supervised fine-tuning, preferences (DPO) and reinforcement, as jobs that go by the clock."""

from __future__ import annotations

import random
from collections.abc import Callable

from ...calls import Answer, Call, Route
from ...files import File
from ...jobs.fine_tuning import ENDED, FineTuningJob
from ...jobs.training import training_file
from ...models import Model
from ...pages import page
from ...parameters import check, given
from ...replies import Refusal, Reply, reply_json
from ...state import State
from ...wording import MODERN
from .parameters import FIELDS, MOST_SEED, method_of

_SNAPSHOTS = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
    "o4-mini": "o4-mini-2025-04-16",
    "babbage-002": "babbage-002",
    "davinci-002": "davinci-002",
}
"""What can be fine-tuned, and its full name. Models of the server's own options can be as well."""
_MOST_ON_PAGE = 100


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    jobs = _Jobs(state)
    one = "/fine_tuning/jobs/{fine_tuning_job_id}"
    return [
        Route("GET", "/fine_tuning/jobs", jobs.list, clocked=True),
        Route("POST", "/fine_tuning/jobs", jobs.create, clocked=True),
        Route("GET", one, jobs.get, clocked=True),
        Route("POST", f"{one}/cancel", jobs.cancel, clocked=True),
        Route("POST", f"{one}/pause", jobs.pause, clocked=True),
        Route("POST", f"{one}/resume", jobs.resume, clocked=True),
        Route("GET", f"{one}/events", jobs.events, clocked=True),
        Route("GET", f"{one}/checkpoints", jobs.checkpoints, clocked=True),
    ]


class _Jobs:
    """All jobs, the oldest first."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._by_id: dict[str, FineTuningJob] = {}
        self._seeds = random.Random(f"fine-tuning {state.options.seed}")

    def list(self, call: Call) -> Answer:
        wanted = {name[9:-1]: value for name, value in call.query.items() if name.startswith("metadata[")}
        without = call.query.get("metadata") == "null"

        def is_wanted(job: FineTuningJob) -> bool:
            metadata = job.asked.get("metadata") or {}
            return wanted.items() <= metadata.items() and not (without and metadata)

        jobs = [job for job in self._by_id.values() if is_wanted(job)]
        answer = page(jobs, call.query, FineTuningJob.shown, default=20, most=_MOST_ON_PAGE, ids=False)
        return Answer(write=lambda: reply_json(answer))

    def get(self, call: Call) -> Answer:
        job = self._find(call)
        return Answer(write=lambda: reply_json(job.shown()))

    def _find(self, call: Call) -> FineTuningJob:
        job_id = call.ids["fine_tuning_job_id"]
        if job_id not in self._by_id:
            message = f"Could not find fine tune: {job_id}"
            raise Refusal(404, message, param="fine_tune_id", code="fine_tune_not_found")
        return self._by_id[job_id]

    def create(self, call: Call) -> Answer:
        fields = call.fields(tuple(FIELDS))
        for name in ("model", "training_file"):
            if name not in fields:
                raise MODERN.missing(name)
        check(fields, FIELDS, ("model", "training_file"))
        base, snapshot = self._base(fields["model"])
        method, settings, hyperparameters = method_of(fields)
        training = self._file(fields["training_file"], "training_file")
        asked = fields.get("validation_file")
        validation = None if asked is None else self._file(asked, "validation_file")

        def write() -> Reply:
            job = FineTuningJob(
                state=self._state,
                id=self._state.new_id("ftjob-"),
                created_at=self._state.clock.now(),
                asked={**fields, "seed": given(fields, "seed", self._seeds.randrange(MOST_SEED))},
                base=base,
                snapshot=snapshot,
                method=method,
                settings=settings,
                hyperparameters=hyperparameters,
                training=training,
                validation=validation,
            )
            self._by_id[job.id] = job
            return reply_json(job.shown())

        return Answer(write=write)

    def _base(self, name: str) -> tuple[Model, str]:
        """The model to fine-tune, and the full name of what was first of it."""
        models = {model.name: model for model in self._state.models}
        alias = next((alias for alias, snapshot in _SNAPSHOTS.items() if name == snapshot), name)
        model = models.get(name) or models.get(alias)
        root = "" if model is None else model.base or model.name
        if model is None or (root not in _SNAPSHOTS and root not in self._state.options.models_by_name()):
            message = f"Model {name} is not available for fine-tuning or does not exist."
            raise Refusal(400, message, param="model", code="model_not_available")
        return model, _SNAPSHOTS.get(root, root)

    def _file(self, file_id: str, param: str) -> File:
        try:
            return training_file(self._state.files, file_id, param)
        except Refusal as refusal:
            if refusal.status == 404:
                raise Refusal(400, f"invalid {param}: {file_id}", param=param) from refusal
            raise

    def cancel(self, call: Call) -> Answer:
        job = self._find(call)
        if job.status in ENDED:
            raise _conflict("cancel", job)
        return _changed(job, job.cancel)

    def pause(self, call: Call) -> Answer:
        job = self._find(call)
        if job.status != "running":
            raise _conflict("pause", job)
        return _changed(job, job.pause)

    def resume(self, call: Call) -> Answer:
        job = self._find(call)
        if job.status != "paused":
            raise _conflict("resume", job)
        return _changed(job, job.resume)

    def events(self, call: Call) -> Answer:
        events = self._find(call).events
        answer = page(events, call.query, dict, default=20, most=_MOST_ON_PAGE, ids=False)
        return Answer(write=lambda: reply_json(answer))

    def checkpoints(self, call: Call) -> Answer:
        checkpoints = self._find(call).checkpoints
        answer = page(checkpoints, call.query, dict, default=10, most=_MOST_ON_PAGE)
        return Answer(write=lambda: reply_json(answer))


def _changed(job: FineTuningJob, change: Callable[[], None]) -> Answer:
    def write() -> Reply:
        change()
        return reply_json(job.shown())

    return Answer(write=write)


def _conflict(what: str, job: FineTuningJob) -> Refusal:
    return Refusal(400, f'Cannot {what} a job {job.id} that already has status "{job.status}".')
