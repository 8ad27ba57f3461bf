"""A fine-tune of 2021 to 2023: pending for a minute, and succeeded ten minutes after it was made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..files import File
from ..limits import ORGANIZATION
from ..models import Model
from ..state import State
from .agenda import Step, Timeline
from .examples import Examples, read_examples, wrong_completion
from .training import accuracy, batch_size, loss, plain_suffix, result_steps, tuned

BASES = ("ada", "babbage", "curie", "davinci")
_DOLLARS = {"ada": 0.0004, "babbage": 0.0006, "curie": 0.003, "davinci": 0.03}
"""For a thousand tokens."""
_VALIDATED, _QUEUED, _STARTED, _TRAINED, _ENDED = 20.0, 40.0, 60.0, 580.0, 600.0


@dataclass(kw_only=True, eq=False)
class FineTune:
    """One fine-tune, which lives from when it is made. `streamed` is how many events a client was sent."""

    state: State = field(repr=False)
    id: str
    created_at: float
    base: Model
    suffix: str | None
    hyperparams: dict[str, Any]
    training: File
    validation: File | None
    status: str = "pending"
    fine_tuned_model: str | None = None
    updated_at: float = 0.0
    result_files: list[File] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    streamed: int = 0

    def __post_init__(self) -> None:
        self._examples = Examples()
        self._happened(f"Created fine-tune: {self.id}", self.created_at)
        self._timeline = Timeline(self.state.agenda, self.created_at, self._steps())

    @property
    def ended(self) -> bool:
        """Whether nothing more becomes of it."""
        return self.status in ("succeeded", "failed", "cancelled")

    def shown(self, events: bool = True) -> dict[str, Any]:
        """The API's fine-tune object."""
        answer = {
            "object": "fine-tune",
            "id": self.id,
            "hyperparams": self.hyperparams,
            "organization_id": ORGANIZATION,
            "model": self.base.name,
            "training_files": [self.training.shown()],
            "validation_files": [self.validation.shown()] if self.validation else [],
            "result_files": [file.shown() for file in self.result_files],
            "created_at": int(self.created_at),
            "updated_at": int(self.updated_at),
            "status": self.status,
            "fine_tuned_model": self.fine_tuned_model,
        }
        return {**answer, "events": self.events} if events else answer

    def cancel(self) -> None:
        """Ends it now, if it has not ended."""
        if not self.ended:
            self._end("cancelled", "Fine-tune cancelled", self.state.clock.now())

    def _happened(self, message: str, when: float, level: str = "info") -> None:
        event = {"object": "fine-tune-event", "level": level, "message": message, "created_at": int(when)}
        self.events.append(event)
        self.updated_at = when

    def _steps(self) -> Iterator[tuple[float, Step]]:
        """What becomes of it, unless it fails or is cancelled."""
        yield _VALIDATED, self._validate
        yield _QUEUED, partial(self._happened, "Fine-tune is in the queue. Queue number: 0")
        yield _STARTED, self._start
        epochs = self.hyperparams["n_epochs"]
        for epoch in range(1, epochs + 1):
            yield _STARTED + (_TRAINED - _STARTED) * epoch / epochs, partial(self._complete_epoch, epoch)
        yield _ENDED - 10, self._upload_model
        yield _ENDED - 5, self._upload_results
        yield _ENDED, partial(self._end, "succeeded", "Fine-tune succeeded")

    async def _validate(self, when: float) -> None:
        # Half a gigabyte may have to be read.
        self._examples = await asyncio.to_thread(read_examples, self.training.blob.pieces(), wrong_completion)
        if self._examples.wrong is not None:
            message = f"Fine-tune failed. Invalid training file {self.training.id}, {self._examples.wrong}."
            self._end("failed", message, when)
            return
        asked = self.hyperparams
        if asked["batch_size"] is None:
            asked["batch_size"] = batch_size(self._examples.count)
        if asked["learning_rate_multiplier"] is None:
            asked["learning_rate_multiplier"] = 0.05 if asked["batch_size"] < 16 else 0.1
        tokens = self._tokens(self._examples.count * asked["n_epochs"])
        self._happened(f"Fine-tune costs ${tokens / 1000 * _DOLLARS[self._root()]:.2f}", when)
        self._happened("Fine-tune enqueued. Queue number: 0", when)

    def _start(self, when: float) -> None:
        self.status = "running"
        self._happened("Fine-tune started", when)

    def _complete_epoch(self, epoch: int, when: float) -> None:
        if not self._examples.fail:
            self._happened(f"Completed epoch {epoch}/{self.hyperparams['n_epochs']}", when)
            return
        message = (
            "Fine-tune failed. For help, please contact OpenAI through our help center "
            f"(https://help.openai.com) and include your fine-tune ID ({self.id}) with your request."
        )
        self._end("failed", message, when)

    def _upload_model(self, when: float) -> None:
        suffix = plain_suffix(self.suffix or "")
        name = f"{self._root()}:ft-{ORGANIZATION.removeprefix('org-')}" + (f":{suffix}" if suffix else "")
        taken, second = {model.name for model in self.state.models}, when
        while _dated(name, second) in taken:
            second += 1
        self.fine_tuned_model = tuned(self.state.models, _dated(name, second), self.base, when).name
        self._happened(f"Uploaded model: {self.fine_tuned_model}", when)

    def _upload_results(self, when: float) -> None:
        file = self.state.files.keep(
            self._results(), filename="compiled_results.csv", purpose="fine-tune-results", created_at=when
        )
        self.result_files.append(file)
        self._happened(f"Uploaded result file: {file.id}", when)

    def _end(self, status: str, message: str, when: float) -> None:
        self.status = status
        self._happened(message, when, "error" if status == "failed" else "info")
        self._timeline.stop()

    def _root(self) -> str:
        return self.base.base or self.base.name

    def _tokens(self, examples: int) -> int:
        """Tokens of so many examples, if all were of the same length."""
        size = self._examples.size * examples / max(1, self._examples.count)
        return round(size / self.state.options.bytes_per_token)

    def _results(self) -> bytes:
        """The CSV of the training: a row for each step."""
        kinds = ["training", "validation"] if self.validation else ["training"]
        measures = [f"{kind}_{what}" for kind in kinds for what in ("loss", "sequence_accuracy", "token_accuracy")]
        if self.hyperparams.get("compute_classification_metrics"):
            measures.append("classification/accuracy")
        rows = [",".join(["step", "elapsed_tokens", "elapsed_examples", *measures])]
        size, total = self.hyperparams["batch_size"], self._examples.count * self.hyperparams["n_epochs"]
        for step in result_steps(total, size):
            seen = min(step * size, total)
            values = [loss(step) if measure.endswith("loss") else accuracy(step) for measure in measures]
            rows.append(",".join(map(str, [step, self._tokens(seen), seen, *values])))
        return "\n".join([*rows, ""]).encode()


def _dated(name: str, when: float) -> str:
    return f"{name}-{time.strftime('%Y-%m-%d-%H-%M-%S', time.gmtime(when))}"
