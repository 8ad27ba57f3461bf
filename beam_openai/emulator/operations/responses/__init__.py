"""POST /responses, and those that were stored: GET and DELETE /responses/{id}, and POST .../cancel.

The ledger bills the last text of the user, all its parts joined by spaces; a response that fails is not
billed. Markers in it: FAIL-200 has the response fail under HTTP 200; REFUSE, FILTERED and CALL-TOOL do what
they do in POST /chat/completions. POST /responses/input_tokens counts and bills nothing.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from ... import formats, sse, tools
from ...answering import Question
from ...calls import Answer, Call, Route
from ...families import context_length, reasoning_tokens
from ...models import Model
from ...parameters import given
from ...replies import Refusal, Reply, reply_json
from ...state import State
from ...texts import check_poison, count_tokens
from ...wording import MODERN
from ...writing import variant
from .events import events
from .items import PER_ITEM, Input, Reader
from .output import FAIL, Asked, begun, respond
from .parameters import COUNTED, FIELDS, check_all, check_counted
from .stored import BACKGROUND_SECONDS, Kept, Stored


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    stored = Stored(state.clock)
    return [
        Route("POST", "/responses", partial(_create, state, stored)),
        Route("POST", "/responses/input_tokens", partial(_count, state, stored)),
        Route("GET", "/responses/{response_id}", partial(_get, state, stored)),
        Route("DELETE", "/responses/{response_id}", partial(_delete, stored)),
        Route("POST", "/responses/{response_id}/cancel", partial(_cancel, state, stored)),
    ]


def _create(state: State, stored: Stored, call: Call) -> Answer:
    fields = call.fields(FIELDS)
    model = state.models.serving(fields.get("model"), "chat")
    check_all(model, fields)
    asked = _asked(state, stored, model, fields)
    _check_length(asked, context_length(model))
    check_poison(asked.said.texts)
    write = partial(_write, state, stored, asked, zlib.crc32(call.body))
    last = asked.said.last
    return Answer(
        model=model.name,
        tokens=asked.input_tokens + given(fields, "max_output_tokens", 0),
        inputs=() if FAIL in last else (last,),
        scope=(call.path, model.name),
        write=write,
    )


def _check_length(asked: Asked, limit: int) -> None:
    if asked.input_tokens > limit and asked.fields.get("truncation") != "auto":
        message = "Your input exceeds the context window of this model. Please adjust your input and try again."
        raise Refusal(400, message, param="input", code="context_length_exceeded")


def _asked(state: State, stored: Stored, model: Model, fields: Mapping[str, Any]) -> Asked:
    """Reads what is asked.

    Raises:
        Refusal: what cannot be.
    """
    size = state.options.bytes_per_token
    said = _said(stored, fields, size)
    instructions = given(fields, "instructions", "")
    more = _tokens_beside(fields, size)
    texts = [instructions, *said.texts] if instructions else said.texts
    question = Question(
        prompt="\n".join(texts),
        last=said.last,
        answered=said.answered,
        offer=tools.of_responses(fields),
        form=formats.of_responses((fields.get("text") or {}).get("format"), texts),
        stop=(),
        max_tokens=fields.get("max_output_tokens"),
        thoughts=reasoning_tokens(model, (fields.get("reasoning") or {}).get("effort")),
        bytes_per_token=size,
    )
    return Asked(
        id=state.new_id("resp_"),
        created=int(state.clock.now()),
        model=model.name,
        fields=fields,
        question=question,
        said=said,
        input_tokens=said.tokens + more,
        tokens_before=said.tokens_before + more,
        variant=variant(0, given(fields, "temperature", 1), None),
        new_id=state.new_id,
    )


def _said(stored: Stored, fields: Mapping[str, Any], size: float) -> Input:
    """The input, behind what was said before it."""
    previous = fields.get("previous_response_id")
    if fields.get("input") is None and previous is None:
        raise MODERN.missing("input")
    said = stored.previous(previous) if previous is not None else Input()
    Reader(size, stored.items).read(given(fields, "input", []), said)
    return said


def _tokens_beside(fields: Mapping[str, Any], size: float) -> int:
    """Tokens of the instructions and of the tools."""
    instructions, offered = fields.get("instructions"), fields.get("tools")
    tokens = PER_ITEM + count_tokens(instructions, size) if instructions else 0
    return tokens + (count_tokens(msgspec.json.encode(offered).decode(), size) if offered else 0)


def _write(state: State, stored: Stored, asked: Asked, seed: int) -> Reply:
    done, size = respond(asked), asked.question.bytes_per_token
    background, stream = asked.fields.get("background"), asked.fields.get("stream")
    first = begun(asked, "queued" if background and not stream else "in_progress")
    if asked.fields.get("store") is not False:
        said = asked.said.copy()
        Reader(size, stored.items).add(done["output"], said)
        ready_at = state.clock.now() + BACKGROUND_SECONDS if background and not stream else 0.0
        stored.keep(Kept(begun=first, done=done, said=said, ready_at=ready_at))
    reply = reply_json(first if background else done)
    if stream:
        padded = (asked.fields.get("stream_options") or {}).get("include_obfuscation") is not False
        reply = _stream(state, first, done, seed, padded)
    if done["usage"]:
        reply.tokens = done["usage"]["total_tokens"]
    return reply


def _stream(state: State, first: Mapping[str, Any], done: Mapping[str, Any], seed: int, padded: bool) -> Reply:
    chance = random.Random(seed) if padded else None
    written = [sse.named(event) for event in events(first, done, state.options.bytes_per_token, chance)]
    return sse.reply(written, state.options.stream_style, seed)


def _get(state: State, stored: Stored, call: Call) -> Answer:
    kept = stored.get(call.ids["response_id"])
    shown = kept.shown(state.clock.now())
    if call.query.get("stream") == "true" and shown is kept.done and shown["status"] != "cancelled":
        return Answer(write=lambda: _stream(state, kept.begun, kept.done, zlib.crc32(call.path.encode()), False))
    return Answer(write=lambda: reply_json(shown))


def _delete(stored: Stored, call: Call) -> Answer:
    response_id = call.ids["response_id"]
    stored.get(response_id)

    def write() -> Reply:
        stored.remove(response_id)
        return reply_json({"id": response_id, "object": "response", "deleted": True})

    return Answer(write=write)


def _cancel(state: State, stored: Stored, call: Call) -> Answer:
    kept = stored.cancel(call.ids["response_id"])
    return Answer(write=lambda: reply_json(kept.shown(state.clock.now())))


def _count(state: State, stored: Stored, call: Call) -> Answer:
    fields = call.fields(COUNTED)
    if fields.get("model") is not None:
        state.models.serving(fields["model"], "chat")
    check_counted(fields)
    size = state.options.bytes_per_token
    tokens = _said(stored, fields, size).tokens + _tokens_beside(fields, size)
    return Answer(write=lambda: reply_json({"object": "response.input_tokens", "input_tokens": tokens}))
