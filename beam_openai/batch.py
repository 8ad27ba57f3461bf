"""One request in a thread of the pool: its attempts, and what follows from each."""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from beam_openai import errors, recovery, sources, stored, structs
from beam_openai.answers import Answer, Bad
from beam_openai.bundle import Bundle, too_much_audio
from beam_openai.client import Body, Form, Request, Response
from beam_openai.outage import IN_A_ROW, Part
from beam_openai.quota import Cost, Grant
from beam_openai.sources import ANSWER_TOKENS, AUDIO_BYTES, MEGABYTE, TOKENS, Segment

RAW_BYTES = 65_536
"""How much of an unusable answer `error.raw` keeps."""

_OUTAGE_PAUSE = 5.0
"""Seconds, at most, until a request is tried again that has spent its attempts in an outage."""

_PATIENCE = 4.0
"""Times as long as another attempt waits one that was refused again: a refusal is not billed, and a quota is of a minute."""

_DEPTH = 1e6
"""Seconds by which what was divided further goes before what was divided less."""

_OVERLOADED = (503, 529)
"""What servers answer that have no room."""

_MUCH_BYTES = 65_536
"""An answer that is so long to read that the next request need not wait for it."""


class Batch:
    """The rows of one request, and its attempts: a task of the pool."""

    def __init__(self, bundle: Bundle, segments: list[Segment], attempts: int = 0, parent: Batch | None = None) -> None:
        self.owner = bundle
        # Kept by the outage for longer than the rows are by anyone.
        self._part: Part = Part(parent._part if parent else None)
        self._depth: int = parent._depth + 1 if parent else 0
        self._bundle = bundle
        self._segments = segments
        self._rows = sum(len(segment) for segment in segments)
        self._endpoint = bundle.endpoint
        self._service = bundle.service
        totals = sum(segment.costs.sum(axis=0) for segment in segments)
        self._tokens, self._answer_tokens = float(totals[TOKENS]), float(totals[ANSWER_TOKENS])
        self._audio_bytes = float(totals[AUDIO_BYTES])
        self.limiter = self._service.limiter_of(self._model())
        self._attempts, self._earlier_attempts = attempts, 0
        self._request: Request = None  # type: ignore[assignment]  # until one was made
        self._is_new = True
        self._began = 0.0
        self._memory = 0
        self._outcome: Response | BaseException | None = None
        self._inputs: pa.Table = None  # until a request was made of it
        self._grant: Grant = None  # type: ignore[assignment]  # until it was sent

    @property
    def cost(self) -> Cost:
        """What it takes of the quota; what nobody knows before is taken to be as it was lately: the length of answers that
        no option bounds, and of recordings that are read only while they are sent."""
        learned = self._bundle.learned
        tokens = self._bundle.packing.allowed(self._rows, self._tokens + self._answer_tokens)
        answers = 0.0 if self._answer_tokens else self._rows * learned.answer_tokens
        audio = self._rows * learned.audio_bytes if math.isnan(self._audio_bytes) else self._audio_bytes
        return Cost(1.0, tokens + answers, self._endpoint.images_made(self._rows), audio / MEGABYTE)

    def _model(self) -> str:
        if isinstance(self._endpoint.model, str):
            return self._endpoint.model
        # The same in all its rows, which is why they are in one request.
        first = dataclasses.replace(self._segments[0], stop=self._segments[0].start + 1)
        return str(self._endpoint.options(sources.inputs_of([first]))["model"])

    def send(self, grant: Grant) -> bool:
        """One attempt; its outcome is kept for `receive`. Whether that will take long."""
        self._outcome, self._memory = None, 0
        try:
            self._attempt(grant)
        except BaseException as error:
            self._outcome = error
        outcome: Any = self._outcome
        return isinstance(outcome, Response) and (
            len(outcome.body) > _MUCH_BYTES or bool(self._endpoint.links(outcome))
        )

    def _attempt(self, grant: Grant) -> None:
        if self._bundle.is_stopped or not self._bundle.packing.fits(self._segments):
            self.limiter.cancel(grant)
            self._divide()
            return
        now = time.monotonic()
        self._began = self._began or now
        try:
            self._inputs = sources.inputs_of(self._segments)
            self._request = stored.found(self._named(self._endpoint.request(self._inputs)))
        except errors.InvalidInputError as error:
            # Nothing is sent, and nothing counted.
            self.limiter.cancel(grant)
            self._outcome = error
            return
        if math.isnan(self._audio_bytes) and not self._is_as_long_as_reserved(grant):
            return
        self._attempts += 1
        try:
            self._outcome = response = self._service.client.send(self._request, self._reserve)
            if errors.is_error(response.body):
                self._outcome = self._service.client.error_in(response, self._request)
        except errors.APIError as error:
            self._outcome = error
        self._observe(grant, time.monotonic() - now)

    def _is_as_long_as_reserved(self, grant: Grant) -> bool:
        """Now that its recordings were found, it is known how long they are; if longer than was reserved, it asks again."""
        assert isinstance(self._request.body, Form)
        self._audio_bytes = float(sum(file.size for file in self._request.body.files))
        megabytes, most = self._audio_bytes / MEGABYTE, self._endpoint.quota.audio_megabytes_per_minute
        if most is None or megabytes <= most:
            self._bundle.learned.learn_audio(self._audio_bytes / self._rows)
        if most is None or megabytes <= grant.cost.audio:
            self.limiter.settle(grant, audio=megabytes)
            return True
        self.limiter.cancel(grant)
        self._outcome = outcome = errors.InvalidInputError(too_much_audio(self._audio_bytes, most))
        if megabytes <= most:
            outcome.action = "again"
        return False

    def _named(self, request: Request) -> Request:
        """The request with the names that this server turned out to know."""
        names = self._bundle.learned.names
        if not names or not isinstance(request.body, Mapping):
            return request
        return dataclasses.replace(request, body={names.get(name, name): value for name, value in request.body.items()})

    def _reserve(self, length: int) -> None:
        """Waits until there is memory for an answer of so many bytes, and its columns."""
        self._memory = 2 * length
        self._service.memory.take(self._memory)

    def _observe(self, grant: Grant, latency: float) -> None:
        outcome, now = self._outcome, time.monotonic()
        self._bundle.note(latency, attempts=1, **({"requests": 1} if self._is_new else {"retries": 1}))
        self._is_new = False
        if isinstance(outcome, Response | errors.APIError) and outcome.headers:
            self._service.reached = True
            self.limiter.observe(grant, outcome.headers, now, refused=isinstance(outcome, errors.RateLimitError))
        if isinstance(outcome, errors.APIError) and outcome.status in _OVERLOADED:
            self._service.pool.overloaded()
        if isinstance(outcome, errors.APIError) and (outcome.status is not None or not outcome.reached):
            # Refused, or never arrived. What was cut off may have been billed, and stays counted.
            self.limiter.forgive(grant)
        self._grant = grant

    def receive(self) -> bool:
        """What follows from the outcome; whether it was a success."""
        try:
            is_answer = isinstance(self._outcome, Response)
            error = self._read()
            if error is not None and not self._bundle.is_stopped:
                self._recover(error)
            return is_answer and error is None
        except BaseException as error:
            self.give_up(error)
            return False

    def give_up(self, error: BaseException) -> None:
        """Nothing more is sent: the job stops."""
        self._service.stop(error, self._bundle.learned)

    def _read(self) -> errors.APIError | None:
        """Decodes the answer; returns an error that something can be done about, and raises what stops the job."""
        outcome, self._outcome = self._outcome, None
        try:
            if isinstance(outcome, Response):
                outcome = self._answered(outcome)
        finally:
            # Before another attempt may begin, in another thread.
            memory, self._memory = self._memory, 0
            self._service.memory.release(memory)
        if outcome is None:
            return None
        if not isinstance(outcome, errors.APIError):
            raise outcome
        outcome = recovery.explained(outcome, self._endpoint, self._bundle.learned, self._request, time.time())
        if outcome.action == "stop":
            raise outcome
        return outcome

    def _answered(self, response: Response) -> errors.APIError | None:
        """Columns back to where the rows came from; or the error that the answer turns out to be."""
        if links := self._endpoint.links(response):
            response = dataclasses.replace(response, fetched={link: self._fetched(link) for link in links})
        try:
            answer = self._endpoint.columns(response, self._inputs)
        except errors.BadAnswerError as error:
            self._service.unusable()
            error.raw = self._raw(response.body)
            error.status, error.request_id = response.status, response.headers.get("x-request-id")
            return self._service.client.scrubbed(error)
        used = self._learn(answer)
        columns, misfits = self._settled(answer)
        bad = {**answer.bad, **misfits}
        hopeless = len(bad) == self._rows and all(why.systematic for why in bad.values())
        if hopeless and not self._bundle.learned.answered:
            return errors.ConfigurationError(self._message(bad[0]))
        self._bundle.learned.answered |= len(bad) < self._rows
        if not hopeless:
            self._service.succeeded(self._part)
        else:
            self._service.unusable()
            self._service.outage.ended(self._part)
            if down := self._service.exhausted(self._part, errors.BadAnswerError(self._message(bad[0]))):
                return down
        failures = {row: self._failure(why, response) for row, why in bad.items()}
        size = sum(len(response.body) if isinstance(column, list) else column.nbytes for column in columns)
        self._memory -= size
        self._bundle.answered(self._segments, columns, failures, size, used)
        return None

    def _fetched(self, link: str) -> Body | errors.APIError:
        """What is at a URL that the answer gave: tried again by itself, for the answer was paid for."""
        began, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            try:
                body = self._service.client.fetch(link).body
                # Taken without a wait, for others may hold what they fetched: until it is given back no answer is begun.
                self._memory += len(body)
                self._service.memory.release(-len(body))
                return body
            except errors.APIError as error:
                wait = None
                if error.action == "wait" and not self._bundle.is_stopped:
                    wait = self._endpoint.retry.wait(
                        attempt, time.monotonic() - began, recovery.asked(error, time.time())
                    )
                if wait is None:
                    return error
                self._bundle.sleep(wait)

    def _learn(self, answer: Answer) -> dict[str, float]:
        """What the answer cost, for the estimate, for the limiter, and for the metrics."""
        names = ("prompt_tokens", "completion_tokens", "cached_tokens")
        used = {name: number for name in names if (number := getattr(answer, name)) is not None}
        if answer.prompt_tokens:
            if self._endpoint.is_text:
                self._bundle.learned.count.learn(self._bundle.packing.tokens(self._segments), answer.prompt_tokens)
            self.limiter.settle(self._grant, tokens=answer.prompt_tokens + (answer.completion_tokens or 0))
        if answer.completion_tokens:
            self._bundle.learned.learn_answers(answer.completion_tokens / self._rows)
        return used

    def _settled(self, answer: Answer) -> tuple[Sequence[pa.Array | list[Any]], dict[int, Bad]]:
        """The columns with the types that are declared, or that earlier answers had; all good rows, if they cannot."""
        known = self._bundle.learned.types
        if len(answer.bad) == self._rows:
            return [], {}
        pairs = zip(answer.columns, known, strict=True)
        types = [type if isinstance(column, list) else column.type for column, type in pairs]
        if types == known:
            return answer.columns, {}
        wanted = self._bundle.learned.settle(types)
        columns = [
            column if isinstance(column, list) else structs.widened(column, wants)
            for column, wants in zip(answer.columns, wanted, strict=True)
        ]
        misfits = [
            (column.type, wants)
            for column, wants in zip(columns, wanted)
            if not isinstance(column, list) and column.type != wants
        ]
        if not misfits:
            return columns, {}
        why = Bad(f"the answer is {misfits[0][0]}, where {misfits[0][1]} was expected", b"", systematic=True)
        return columns, {row: why for row in range(self._rows) if row not in answer.bad}

    def _failure(self, why: Bad, response: Response) -> sources.Failure:
        return sources.failure(
            "bad_answer",
            self._message(why),
            status=response.status,
            request_id=self._service.client.scrub(response.headers.get("x-request-id")),
            attempts=self._all_attempts,
            raw=self._raw(why.raw).decode("utf-8", "replace"),
        )

    def _message(self, why: Bad) -> str:
        # It may quote the answer, and that what the server was sent.
        return str(self._service.client.scrub(f"{self._endpoint.path}: {why.message}"))

    def _raw(self, body: Body) -> bytes:
        # Scrubbed before it is cut: half a key would not be found.
        scrubbed: bytes = self._service.client.scrub(bytes(body))
        return scrubbed[:RAW_BYTES]

    def _recover(self, error: errors.APIError) -> None:
        """What the table in errors.py says of such an error."""
        if error.action == "again":
            self._service.pool.submit(self, wait=0.0)
        elif error.action == "wait" or type(error).action == "wait":
            self._try_again(error)
        elif error.action == "split" and self._rows > 1:
            self._split(error)
        else:
            self._fail("invalid_input" if isinstance(error, errors.InvalidInputError) else "rejected", error)

    def _try_again(self, error: errors.APIError) -> None:
        """Queues the batch again, to go after the wait and before what was never sent; or gives up."""
        self._service.unanswered(self._part, error, self._endpoint.retry.max_wait)
        wait = self._wait(error)
        if wait is None:
            self._give_up_trying(error)
        elif isinstance(error, errors.RateLimitError):
            # In this order it is due when the pause ends, and no later: before what was never sent.
            self._service.pool.submit(self, max(wait, self._more_patience()))
            self.limiter.pause(wait, time.monotonic())
        else:
            self._service.pool.submit(self, wait)

    def _give_up_trying(self, error: errors.APIError) -> None:
        """The attempts are spent: for the server's sake, or a row's, or an outage's."""
        is_bad = isinstance(error, errors.BadAnswerError)
        # Where nothing was answered so far, few rows would tell no more alone.
        least = 1 if self._bundle.learned.answered or self._depth else IN_A_ROW
        can_divide = self._rows > least and _may_be_a_row(error)
        # A few rows that cannot be answered spoil many requests: of what was divided only rows that stand alone count.
        counts = not (can_divide and self._depth)
        if is_bad and can_divide and (self._service.outage.are_unusable or not self._is_for_others_to_tell):
            # Not counted either. Others have told, or there are none.
            self._divide(attempts=1)
        elif counts and (down := self._service.exhausted(self._part, error)) is not None:
            self._service.stop(down)
        elif self._service.awaits(self._part, error):
            self._begin_anew(random.uniform(0.2, 1.0) * _OUTAGE_PAUSE)
        elif self._is_for_others_to_tell and not isinstance(error, errors.APITimeoutError):
            self._begin_anew(None)
        elif can_divide:
            self._divide(attempts=max(0, self._endpoint.retry.attempts - 2))
        else:
            self._fail("bad_answer" if is_bad else "exhausted", error)

    def _wait(self, error: errors.APIError) -> float | None:
        """Seconds until the next attempt; None if there is none. An answer that is paid for and cannot be used is bought
        twice and no more, where there is something else to do."""
        if error.action != "wait":
            return None  # the server says that there is no point
        is_bought = isinstance(error, errors.BadAnswerError) and self._rows > 1 and self._attempts > 1
        if is_bought and (self._bundle.learned.answered or self._is_for_others_to_tell):
            return None
        asked = recovery.asked(error, time.time())
        return self._endpoint.retry.wait(self._attempts, time.monotonic() - self._began, asked)

    @property
    def _is_for_others_to_tell(self) -> bool:
        """Whether nothing was answered so far, so that the next requests will show whether this one is at fault."""
        return not (self._bundle.learned.answered or self._earlier_attempts) and self._bundle.has_others

    def _begin_anew(self, wait: float | None) -> None:
        """With all its attempts before it, for it may not be at fault: after so many seconds, or behind what is new."""
        self._earlier_attempts, self._attempts, self._began = self._all_attempts, 0, 0.0
        self._service.pool.submit(self, wait)

    @property
    def _all_attempts(self) -> int:
        return self._earlier_attempts + self._attempts

    def _more_patience(self) -> float:
        """Seconds, beside what the server asks for, that a row waits which was refused again: while a pace is still to be
        found, it would spend its attempts within a second."""
        if self._attempts == 1:
            return 0.0
        retry, elapsed = self._endpoint.retry, time.monotonic() - self._began
        return min(_PATIENCE * (retry.wait(self._attempts - 1, elapsed) or 0.0), retry.max_wait)

    def _split(self, error: errors.APIError) -> None:
        """Several requests in place of this one, until the rows that were the cause stand alone."""
        if isinstance(error, errors.RequestTooLargeError):
            tokens, size, *_ = self._bundle.packing.costs(self._segments).sum(axis=0)
            self._bundle.learned.too_large(error, self._rows, tokens, size)
        self._divide()

    def _divide(self, attempts: int = 0) -> None:
        """Others in place of this batch, so many of their attempts counted as made; before what others were divided into.

        So the first that can be answered is soon found, if there is one.
        """
        self._service.outage.ended(self._part)
        if self._bundle.is_stopped:
            return
        pieces = list(self._bundle.packing.divided(self._segments))
        self._bundle.replaced(len(pieces))
        for segments in pieces:
            self._service.pool.submit(Batch(self._bundle, segments, attempts, self), -_DEPTH * self._depth)

    def _fail(self, kind: str, error: errors.APIError) -> None:
        self._service.outage.lost(self._part)
        raw = error.raw.decode("utf-8", "replace") if error.raw is not None else None
        self._bundle.failed(
            self._segments,
            kind,
            str(error),
            status=error.status,
            code=error.code,
            type=error.type,
            request_id=error.request_id,
            attempts=self._all_attempts or None,
            raw=raw,
        )


def _may_be_a_row(error: errors.APIError) -> bool:
    """Whether it may be for one of the rows that the server cannot stand, or answer. What took too long is paid for."""
    if isinstance(error, errors.APITimeoutError):
        return False
    return isinstance(error, (errors.BadAnswerError, errors.InternalServerError, errors.APIConnectionError))
