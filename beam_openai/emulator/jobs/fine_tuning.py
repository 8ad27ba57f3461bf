"""A job of /fine_tuning: its files are validated, it is queued, it runs, and ten minutes later it has succeeded."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..files import File
from ..limits import ORGANIZATION
from ..models import Model
from ..state import State
from .agenda import Step, Timeline
from .examples import Examples, read_examples, wrong_example
from .training import accuracy, batch_size, loss, plain_suffix, result_steps, tuned

ENDED = ("succeeded", "failed", "cancelled")
_VALIDATED, _STARTED, _TRAINED, _ENDED = 30.0, 60.0, 580.0, 600.0
_LEAST_EXAMPLES = 10
_REPORTS = 10  # of one epoch
_NAME_CHARACTERS = 8


@dataclass(kw_only=True, eq=False)
class FineTuningJob:
    """One job, which lives from when it is made.

    Args:
        asked: the request's fields: suffix, seed, integrations, metadata.
        snapshot: the name of the base model, with its date.
        method: `supervised`, `dpo` or `reinforcement`.
        settings: what the request said of the method beside the hyperparameters.
        hyperparameters: all of them, `auto` where the server is to choose.
    """

    state: State = field(repr=False)
    id: str
    created_at: float
    asked: Mapping[str, Any]
    base: Model
    snapshot: str
    method: str
    settings: Mapping[str, Any]
    hyperparameters: dict[str, Any]
    training: File
    validation: File | None
    status: str = "validating_files"
    fine_tuned_model: str | None = None
    finished_at: float | None = None
    trained_tokens: int | None = None
    error: dict[str, Any] | None = None
    result_files: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._examples = Examples()
        self._key = self.id[-_NAME_CHARACTERS:]
        self._happened(f"Created fine-tuning job: {self.id}", self.created_at)
        with_validation = f" and validation file: {self.validation.id}" if self.validation else ""
        self._happened(f"Validating training file: {self.training.id}{with_validation}", self.created_at)
        self._timeline = Timeline(self.state.agenda, self.created_at, [(_VALIDATED, self._validate)])

    def shown(self) -> dict[str, Any]:
        """The API's fine-tuning job object."""
        basic = ("n_epochs", "batch_size", "learning_rate_multiplier")
        return {
            "object": "fine_tuning.job",
            "id": self.id,
            "model": self.snapshot,
            "created_at": int(self.created_at),
            "finished_at": None if self.finished_at is None else int(self.finished_at),
            "fine_tuned_model": self.fine_tuned_model,
            "organization_id": ORGANIZATION,
            "result_files": self.result_files,
            "status": self.status,
            "validation_file": self.validation.id if self.validation else None,
            "training_file": self.training.id,
            "hyperparameters": {name: self.hyperparameters[name] for name in basic},
            "trained_tokens": self.trained_tokens,
            "error": self.error,
            "user_provided_suffix": self.asked.get("suffix"),
            "seed": self.asked["seed"],
            "estimated_finish": int(self._timeline.end()) if self.status == "running" else None,
            "integrations": self.asked.get("integrations") or [],
            "metadata": self.asked.get("metadata"),
            "method": {
                "type": self.method,
                self.method: {**self.settings, "hyperparameters": self.hyperparameters},
            },
        }

    def cancel(self) -> None:
        """Ends it now, if it has not ended."""
        if self.status not in ENDED:
            self._end("cancelled", "Fine-tuning job was cancelled", self.state.clock.now())

    def pause(self) -> None:
        """Stops it for as long as it takes, if it runs."""
        if self.status == "running":
            now = self.state.clock.now()
            self.status = "paused"
            self._timeline.pause(now)
            self._happened("Fine-tuning job paused", now)

    def resume(self) -> None:
        """Goes on where it was paused."""
        if self.status == "paused":
            now = self.state.clock.now()
            self.status = "running"
            self._timeline.resume(now)
            self._happened("Fine-tuning job resumed", now)

    def _happened(self, message: str, when: float, level: str = "info", data: Mapping[str, Any] | None = None) -> None:
        self.events.append(
            {
                "object": "fine_tuning.job.event",
                "id": self.state.new_id("ftevent-"),
                "created_at": int(when),
                "level": level,
                "message": message,
                "data": data or {},
                "type": "metrics" if data else "message",
            }
        )

    async def _validate(self, when: float) -> None:
        # Half a gigabyte may have to be read.
        wrong = partial(wrong_example, self.method)
        self._examples = await asyncio.to_thread(read_examples, self.training.blob.pieces(), wrong)
        found = self._examples
        if found.wrong is not None:
            message = f"The job failed due to an invalid training file. Invalid file format. Example on {found.wrong}"
            self._fail("invalid_training_file", message, "training_file", when)
        elif found.count < _LEAST_EXAMPLES:
            message = f"Training file has {found.count} example(s), but must have at least {_LEAST_EXAMPLES} examples"
            self._fail("invalid_n_examples", message, "training_file", when)
        else:
            self.status = "queued"
            self._happened("Files validated, moving job to queued state", when)
            self._choose()
            self._timeline.then(self._steps())

    def _choose(self) -> None:
        """Numbers in the place of `auto`."""
        chosen = {
            "n_epochs": 3,
            "batch_size": batch_size(self._examples.count),
            "learning_rate_multiplier": 1.8,
            "beta": 0.1,
            "compute_multiplier": 1.0,
            "eval_interval": 5,
            "eval_samples": 1,
        }
        for name, value in self.hyperparameters.items():
            if value == "auto":
                self.hyperparameters[name] = chosen[name]

    def _steps(self) -> Iterator[tuple[float, Step]]:
        """What becomes of it once its files are good, unless it fails or is cancelled."""
        yield _STARTED, self._start
        epochs, total = self.hyperparameters["n_epochs"], self._total_steps()
        for epoch in range(1, epochs + 1):
            first, last = total * (epoch - 1) // epochs, total * epoch // epochs
            stride = max(1, (last - first) // _REPORTS)
            for step in range(first + stride, last + 1, stride):
                yield _STARTED + (_TRAINED - _STARTED) * step / total, partial(self._report, step, total)
            yield _STARTED + (_TRAINED - _STARTED) * epoch / epochs, partial(self._complete_epoch, epoch, last)
        yield _ENDED, self._succeed

    def _total_steps(self) -> int:
        epochs, size = self.hyperparameters["n_epochs"], self.hyperparameters["batch_size"]
        return int(epochs) * max(1, math.ceil(self._examples.count / size))

    def _start(self, when: float) -> None:
        self.status = "running"
        self._happened("Fine-tuning job started", when)

    def _report(self, step: int, total: int, when: float) -> None:
        data = {
            "step": step,
            "train_loss": loss(step),
            "total_steps": total,
            "train_mean_token_accuracy": accuracy(step),
        }
        self._happened(f"Step {step}/{total}: training loss={loss(step):.2f}", when, data=data)

    def _complete_epoch(self, epoch: int, step: int, when: float) -> None:
        if self._examples.fail:
            self._fail("server_error", "The job failed due to an internal error.", None, when)
            return
        last = epoch == self.hyperparameters["n_epochs"]
        name = self._name() + ("" if last else f":ckpt-step-{step}")
        tuned(self.state.models, name, self.base, when)
        metrics = {"step": step, "train_loss": loss(step), "train_mean_token_accuracy": accuracy(step)}
        if self.validation:
            metrics |= {"full_valid_loss": loss(step), "full_valid_mean_token_accuracy": accuracy(step)}
        self.checkpoints.append(
            {
                "object": "fine_tuning.job.checkpoint",
                "id": self.state.new_id("ftckpt_"),
                "created_at": int(when),
                "fine_tuned_model_checkpoint": name,
                "step_number": step,
                "metrics": metrics,
                "fine_tuning_job_id": self.id,
            }
        )
        if not last:
            self._happened(f"Checkpoint created at step {step}", when)

    def _succeed(self, when: float) -> None:
        file = self.state.files.keep(
            self._results(), filename="step_metrics.csv", purpose="fine-tune-results", created_at=when
        )
        self.result_files.append(file.id)
        self.fine_tuned_model = self._name()
        size = self._examples.size * self.hyperparameters["n_epochs"]
        self.trained_tokens = round(size / self.state.options.bytes_per_token)
        self._happened(f"New fine-tuned model created: {self.fine_tuned_model}", when)
        self._end("succeeded", "The job has successfully completed", when)

    def _name(self) -> str:
        suffix = plain_suffix(self.asked.get("suffix") or "")
        return f"ft:{self.snapshot}:{ORGANIZATION.removeprefix('org-')}:{suffix}:{self._key}"

    def _results(self) -> bytes:
        """The CSV of the training: a row for each step."""
        rows = ["step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"]
        size = self.hyperparameters["batch_size"]
        for step in result_steps(self._examples.count * self.hyperparameters["n_epochs"], size):
            valid = [loss(step), accuracy(step)] if self.validation else ["", ""]
            rows.append(",".join(map(str, [step, loss(step), accuracy(step), *valid])))
        return "\n".join([*rows, ""]).encode()

    def _fail(self, code: str, message: str, param: str | None, when: float) -> None:
        self.error = {"code": code, "message": message, "param": param}
        self._end("failed", message, when)

    def _end(self, status: str, message: str, when: float) -> None:
        self.status = status
        self.finished_at = when
        self._happened(message, when, "error" if status == "failed" else "info")
        self._timeline.stop()
