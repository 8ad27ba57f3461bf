"""A batch: its file is validated, its requests are answered by the server's own routes, its answers made a file."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from ..blobs import Blob
from ..calls import Call
from ..files import File
from ..jsonl import lines
from ..limits import ORGANIZATION
from ..replies import Refusal, Reply
from ..state import State
from .agenda import Step, Timeline
from .batch_input import BatchInput, read_batch

ENDED = ("failed", "completed", "expired", "cancelled")
WINDOW = 86_400.0
_VALIDATED, _FINALIZED, _CANCELLED = 10.0, 5.0, 10.0
_SLICES = 10
_SHUFFLED = 32
_UNDONE = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed because the batch was cancelled."),
}
_NO_STREAM = Refusal(400, "Streaming is not supported in the Batch API.", param="stream", code="unsupported_parameter")


class _Line(msgspec.Struct):
    """One request, its body as it was written."""

    custom_id: str
    body: msgspec.Raw


@dataclass(kw_only=True, eq=False)
class Batch:
    """One batch, which lives from when it is made.

    Args:
        host: the server's name, as it was called by who made the batch.
        lives: seconds after which the files of its answers expire.
        enqueued: model -> input tokens of all unfinished batches.
    """

    state: State = field(repr=False)
    enqueued: Counter[str] = field(repr=False)
    id: str
    created_at: float
    endpoint: str
    host: str
    input: File
    metadata: Mapping[str, str] | None
    lives: float | None
    status: str = "validating"
    found: BatchInput = field(default_factory=BatchInput)
    done: Counter[str] = field(default_factory=Counter)
    usage: Counter[str] = field(default_factory=Counter)
    times: dict[str, int] = field(default_factory=dict)
    output: File | None = None
    errors: File | None = None

    def __post_init__(self) -> None:
        self._lines: Iterator[bytes] = iter(())
        self._answered = _Shuffled(self.state, self.id)
        self._failed = _Shuffled(self.state, self.id)
        self._timeline = Timeline(self.state.agenda, self.created_at, [(_VALIDATED, self._validate)])

    def shown(self) -> dict[str, Any]:
        """The API's batch object."""
        stages = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        failed = self.status == "failed"
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.found.model,
            "errors": {"object": "list", "data": self.found.errors} if failed else None,
            "input_file_id": self.input.id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output.id if self.output else None,
            "error_file_id": self.errors.id if self.errors else None,
            "created_at": int(self.created_at),
            "expires_at": int(self.created_at + WINDOW),
            **{f"{stage}_at": self.times.get(stage) for stage in stages},
            "request_counts": {
                "total": 0 if failed or self.status == "validating" else self.found.requests,
                "completed": self.done["completed"],
                "failed": self.done["failed"],
            },
            "usage": _shown_usage(self.usage),
            "metadata": self.metadata,
        }

    def cancel(self) -> None:
        """What was not executed when it is called never is; a little later the batch has ended."""
        if self.status not in (*ENDED, "cancelling"):
            now = self.state.clock.now()
            self._timeline.stop()
            self._become("cancelling", now)
            steps = [(_CANCELLED, partial(self._finish, "cancelled"))]
            self._timeline = Timeline(self.state.agenda, now, steps)

    def _become(self, status: str, when: float) -> None:
        self.status = status
        self.times[status] = int(when)

    async def _validate(self, when: float) -> None:
        options, models = self.state.options, {model.name for model in self.state.models}
        pieces = self.input.blob.pieces()
        # Hundreds of megabytes may have to be read.
        self.found = await asyncio.to_thread(read_batch, pieces, self.endpoint, models, options.bytes_per_token)
        model, limit = self.found.model or "", options.batch_queue_tokens
        if not self.found.errors and limit is not None and self.enqueued[model] + self.found.tokens > limit:
            message = (
                f"Enqueued token limit reached for {model} in organization {ORGANIZATION}. Limit: {limit:,} enqueued "
                "tokens. Please try again once some in_progress batches have been completed."
            )
            self.found.fail("token_limit_exceeded", message)
        if self.found.errors:
            self._become("failed", when)
            return
        self.enqueued[model] += self.found.tokens
        self._lines = lines(self.input.blob.pieces())
        self._become("in_progress", when)
        self._timeline.then(self._steps())

    def _steps(self) -> Iterator[tuple[float, Step]]:
        """What becomes of it once it is valid, unless it is cancelled: what takes too long expires."""
        seconds = self.state.options.batch_seconds
        for part in range(1, _SLICES + 1):
            at = _VALIDATED + seconds * part / _SLICES
            if at >= WINDOW:
                yield WINDOW, partial(self._finish, "expired")
                return
            yield at, partial(self._execute, self.found.requests * part // _SLICES)
        yield _VALIDATED + seconds, partial(self._become, "finalizing")
        yield _VALIDATED + seconds + _FINALIZED, partial(self._finish, "completed")

    async def _execute(self, until: int, when: float) -> None:
        """Answers requests in the order of the file, until so many are answered in all."""
        while self.done.total() < until:
            line = msgspec.json.decode(next(self._lines), type=_Line)
            reply = self._reply(line.body)
            answered = reply.status < 400
            self.done["completed" if answered else "failed"] += 1
            if answered:
                self.usage.update(_usage(reply.body))
            response = {
                "status_code": reply.status,
                "request_id": self.state.new_id("req_"),
                "body": msgspec.Raw(reply.body),
            }
            self._write(self._answered if answered else self._failed, line.custom_id, response, None)
            # Other clients are served meanwhile.
            await asyncio.sleep(0)

    def _reply(self, body: msgspec.Raw) -> Reply:
        if msgspec.json.decode(body).get("stream"):
            return _NO_STREAM.reply(self.state.options.style)
        call = Call(
            method="POST",
            path=self.endpoint.removeprefix("/v1"),
            query={},
            headers={"content-type": "application/json", "host": self.host},
            body=bytes(body),
        )
        return self.state.execute(call)

    def _finish(self, status: str, when: float) -> None:
        """The end: files of the answers, and of the errors, where there are any."""
        code, message = _UNDONE.get(status, ("", ""))
        for rest in self._lines:
            custom_id = msgspec.json.decode(rest, type=_Line).custom_id
            self._write(self._failed, custom_id, None, {"code": code, "message": message})
        self.output = self._file(self._answered, "output", when)
        self.errors = self._file(self._failed, "error", when)
        if self.found.model is not None and "in_progress" in self.times:
            self.enqueued[self.found.model] -= self.found.tokens
        self._become(status, when)

    def _write(self, place: _Shuffled, custom_id: str, response: Any, error: Any) -> None:
        line = {"id": self.state.new_id("batch_req_"), "custom_id": custom_id, "response": response, "error": error}
        place.write(msgspec.json.encode(line) + b"\n")

    def _file(self, place: _Shuffled, what: str, when: float) -> File | None:
        blob = place.kept()
        if not blob.size:
            return None
        filename = f"{self.id}_{what}.jsonl"
        return self.state.files.add(blob, filename=filename, purpose="batch_output", lives=self.lives, created_at=when)


class _Shuffled:
    """Lines in another order than they were written in, as a batch's answers come in any."""

    def __init__(self, state: State, seed: str) -> None:
        self._draft = state.store.draft()
        self._chance = random.Random(seed)
        self._held: list[bytes] = []

    def write(self, line: bytes) -> None:
        self._held.append(line)
        if len(self._held) > _SHUFFLED:
            self._release()

    def kept(self) -> Blob:
        while self._held:
            self._release()
        return self._draft.kept()

    def _release(self) -> None:
        chosen = self._chance.randrange(len(self._held))
        self._held[chosen], self._held[-1] = self._held[-1], self._held[chosen]
        self._draft.write(self._held.pop())


class _Tokens(msgspec.Struct):
    prompt_tokens: int = 0
    input_tokens: int = 0
    completion_tokens: int = 0
    output_tokens: int = 0


class _Answer(msgspec.Struct):
    usage: _Tokens | None = None


def _usage(body: bytes) -> dict[str, int]:
    try:
        tokens = msgspec.json.decode(body, type=_Answer).usage or _Tokens()
    except msgspec.DecodeError:  # an answer with a bare NaN
        return {}
    return {
        "input": tokens.prompt_tokens or tokens.input_tokens,
        "output": tokens.completion_tokens or tokens.output_tokens,
    }


def _shown_usage(usage: Counter[str]) -> dict[str, Any]:
    return {
        "input_tokens": usage["input"],
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": usage["output"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["input"] + usage["output"],
    }
