"""The /fine-tunes of 2021 to 2023: jobs that go by the clock, and their events, also as a stream."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator
from typing import Any

from .. import sse
from ..calls import Answer, Call, Route
from ..jobs.fine_tune import BASES, FineTune
from ..jobs.training import training_file
from ..limits import ORGANIZATION
from ..models import Model
from ..parameters import Check, Parameters, check, given
from ..replies import Cut, Refusal, Reply, reply_json
from ..state import State
from ..wording import OLD

_POLL_SECONDS = 0.05
_SILENT_SECONDS = 1.0

_checks = Parameters(OLD)


def _above_zero(name: str, value: Any) -> None:
    _checks.number(-math.inf, math.inf)(name, value)
    if value <= 0:
        raise Refusal(400, f"{value} is less than or equal to the minimum of 0 - '{name}'")


_FIELDS: dict[str, Check] = {
    "training_file": _checks.string(1),
    "validation_file": _checks.string(1),
    "model": _checks.string(1),
    "n_epochs": _checks.integer(1),
    "batch_size": _checks.integer(1, 256),
    "learning_rate_multiplier": _above_zero,
    "prompt_loss_weight": _checks.number(0, math.inf),
    "compute_classification_metrics": _checks.boolean,
    "classification_n_classes": _checks.integer(2),
    "classification_positive_class": _checks.string(1),
    "classification_betas": _checks.array(1, None, _checks.number(0, math.inf)),
    "suffix": _checks.string(1, 40),
}


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    tunes = _FineTunes(state)
    one = "/fine-tunes/{fine_tune_id}"
    return [
        Route("GET", "/fine-tunes", tunes.list, clocked=True),
        Route("POST", "/fine-tunes", tunes.create, clocked=True),
        Route("GET", one, tunes.get, clocked=True),
        Route("POST", f"{one}/cancel", tunes.cancel, clocked=True),
        Route("GET", f"{one}/events", tunes.events, clocked=True),
    ]


class _FineTunes:
    """All fine-tunes, the oldest first."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._by_id: dict[str, FineTune] = {}

    def list(self, call: Call) -> Answer:
        answer = {"object": "list", "data": [tune.shown(events=False) for tune in self._by_id.values()]}
        return Answer(write=lambda: reply_json(answer))

    def get(self, call: Call) -> Answer:
        tune = self._find(call)
        return Answer(write=lambda: reply_json(tune.shown()))

    def _find(self, call: Call) -> FineTune:
        tune = self._by_id.get(call.ids["fine_tune_id"])
        if tune is None:
            raise Refusal(404, f"No such FineTune object: {call.ids['fine_tune_id']}", param="id")
        return tune

    def create(self, call: Call) -> Answer:
        fields = call.fields(tuple(_FIELDS))
        if "training_file" not in fields:
            raise OLD.missing("training_file")
        check(fields, _FIELDS, ("training_file",))
        base, files = self._base(given(fields, "model", "curie")), self._state.files
        training = training_file(files, fields["training_file"], "training_file")
        asked = fields.get("validation_file")
        validation = None if asked is None else training_file(files, asked, "validation_file")
        hyperparams = _hyperparams(fields)

        def write() -> Reply:
            tune = FineTune(
                state=self._state,
                id=self._state.new_id("ft-"),
                created_at=self._state.clock.now(),
                base=base,
                suffix=fields.get("suffix"),
                hyperparams=hyperparams,
                training=training,
                validation=validation,
            )
            self._by_id[tune.id] = tune
            return reply_json(tune.shown())

        return Answer(write=write)

    def _base(self, name: str) -> Model:
        for model in self._state.models:
            if model.name == name and (model.base or name) in BASES:
                return model
        raise Refusal(
            400,
            f"Invalid base model: {name} (model must be one of {', '.join(BASES)}) or a fine-tuned model created by "
            f"your organization: {ORGANIZATION}",
        )

    def cancel(self, call: Call) -> Answer:
        tune = self._find(call)
        if tune.ended:
            raise Refusal(400, f'Cannot cancel a job {tune.id} that already has status "{tune.status}".')

        def write() -> Reply:
            tune.cancel()
            return reply_json(tune.shown())

        return Answer(write=write)

    def events(self, call: Call) -> Answer:
        tune = self._find(call)
        if call.query.get("stream", "false").lower() != "true":
            return Answer(write=lambda: reply_json({"object": "list", "data": tune.events}))
        return Answer(write=lambda: Reply(content_type=sse.CONTENT_TYPE, stream=_stream(self._state, tune)))


async def _stream(state: State, tune: FineTune) -> AsyncIterator[bytes]:
    """All events from the first on, then each when it happens; in silent times comments.

    With the option `drop_stream_after` the connection is cut after so many events that no stream of
    this fine-tune had sent before: who connects again gets further each time.
    """
    sent, silent, chance = 0, 0.0, random.Random(tune.id)
    last = tune.streamed + (state.options.drop_stream_after or math.inf)
    while True:
        await state.agenda.catch_up()
        events = [sse.data(event) for event in tune.events[sent : int(min(last, len(tune.events)))]]
        sent += len(events)
        tune.streamed = max(tune.streamed, sent)
        over = tune.ended and sent == len(tune.events) < last
        if over:
            events.append(sse.DONE)
        for piece in sse.awkward(events, chance) if state.options.stream_style == "awkward" else sse.plain(events):
            yield piece
            await asyncio.sleep(0)
        if over:
            return
        if sent >= last:
            raise Cut
        silent = 0.0 if events else silent + _POLL_SECONDS
        if silent >= _SILENT_SECONDS:
            # It is also how one finds out that nobody listens any more.
            yield b": keep-alive\n\n"
            silent = 0.0
        await asyncio.sleep(_POLL_SECONDS)


def _hyperparams(fields: dict[str, Any]) -> dict[str, Any]:
    hyperparams = {
        "n_epochs": given(fields, "n_epochs", 4),
        "batch_size": fields.get("batch_size"),
        "learning_rate_multiplier": fields.get("learning_rate_multiplier"),
        "prompt_loss_weight": given(fields, "prompt_loss_weight", 0.01),
    }
    if not fields.get("compute_classification_metrics"):
        return hyperparams
    if fields.get("validation_file") is None:
        raise Refusal(400, "'validation_file' is required to compute classification metrics")
    names = ("classification_n_classes", "classification_positive_class", "classification_betas")
    if fields.get(names[0]) is None and fields.get(names[1]) is None:
        message = f"'{names[0]}' or '{names[1]}' is required to compute classification metrics"
        raise Refusal(400, message)
    asked = {name: fields[name] for name in names if fields.get(name) is not None}
    return {**hyperparams, "compute_classification_metrics": True, **asked}
