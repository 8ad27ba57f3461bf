"""/batches: many requests in a file, answered by the clock, at the latest in 24 hours."""

from __future__ import annotations

from collections import Counter

from ..calls import Answer, Call, Route
from ..jobs.batch import ENDED, Batch
from ..pages import page
from ..parameters import Check, Parameters, check
from ..replies import Refusal, Reply, reply_json
from ..state import State
from ..wording import MODERN
from .files import lifetime

_ENDPOINTS = (
    "/v1/responses",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/completions",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/videos",
)

_checks = Parameters(MODERN)
_NEEDED: dict[str, Check] = {
    "input_file_id": _checks.string(1),
    "endpoint": _checks.one_of(*_ENDPOINTS),
    "completion_window": _checks.one_of("24h"),
}


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    batches = _Batches(state)
    return [
        Route("GET", "/batches", batches.list, clocked=True),
        Route("POST", "/batches", batches.create, clocked=True),
        Route("GET", "/batches/{batch_id}", batches.get, clocked=True),
        Route("POST", "/batches/{batch_id}/cancel", batches.cancel, clocked=True),
    ]


class _Batches:
    """All batches, the oldest first."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._by_id: dict[str, Batch] = {}
        self._enqueued: Counter[str] = Counter()

    def list(self, call: Call) -> Answer:
        answer = page(self._by_id.values(), call.query, Batch.shown, default=20, most=100)
        return Answer(write=lambda: reply_json(answer))

    def get(self, call: Call) -> Answer:
        batch = self._find(call)
        return Answer(write=lambda: reply_json(batch.shown()))

    def _find(self, call: Call) -> Batch:
        batch = self._by_id.get(call.ids["batch_id"])
        if batch is None:
            raise Refusal(404, f"No batch found with id '{call.ids['batch_id']}'.")
        return batch

    def create(self, call: Call) -> Answer:
        fields = call.fields((*_NEEDED, "metadata", "output_expires_after"))
        for name in _NEEDED:
            if name not in fields:
                raise MODERN.missing(name)
        check(fields, {**_NEEDED, "metadata": _checks.metadata}, tuple(_NEEDED))
        lives = lifetime(fields.get("output_expires_after"), "output_expires_after")
        file = self._state.files.get(fields["input_file_id"], "input_file_id")
        if file.purpose != "batch":
            message = f"Invalid purpose of file {file.id}: expected 'batch', but got '{file.purpose}'."
            raise Refusal(400, message, param="input_file_id")

        def write() -> Reply:
            batch = Batch(
                state=self._state,
                enqueued=self._enqueued,
                id=self._state.new_id("batch_"),
                created_at=self._state.clock.now(),
                endpoint=fields["endpoint"],
                host=call.headers.get("host", "localhost"),
                input=file,
                metadata=fields.get("metadata"),
                lives=lives,
            )
            self._by_id[batch.id] = batch
            return reply_json(batch.shown())

        return Answer(write=write)

    def cancel(self, call: Call) -> Answer:
        batch = self._find(call)
        if batch.status in ENDED:
            raise Refusal(409, f"Cannot cancel a batch with status '{batch.status}'.")

        def write() -> Reply:
            batch.cancel()
            return reply_json(batch.shown())

        return Answer(write=write)
