"""POST /chat/completions: messages are answered, by the words of `writing`, in JSON, or with calls of tools.

The ledger bills the text of the user's last message, all its parts joined by spaces. Markers in it:
REFUSE gets a refusal, FILTERED an answer that a content filter stops half way, CALL-TOOL calls a tool
(see `offers`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from ... import formats, tools
from ...answering import Question
from ...calls import Answer, Call, Route
from ...families import context_length, reasoning_tokens
from ...models import Model
from ...parameters import given, stops
from ...replies import Refusal
from ...state import State
from ...texts import check_poison, count_tokens
from .choices import Asked, reply
from .messages import read
from .parameters import FIELDS, OLD_FIELDS, check_all
from .stream import stream


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    return [Route("POST", "/chat/completions", partial(_chat, state))]


def _chat(state: State, call: Call) -> Answer:
    fields = call.fields(OLD_FIELDS if state.options.only_max_tokens else FIELDS)
    model = state.models.serving(fields.get("model"), "chat")
    check_all(model, fields)
    asked = _asked(state, model, fields)
    most = asked.question.max_tokens
    _check_length(asked.prompt_tokens, most, context_length(model))
    check_poison(asked.said.texts)
    write = partial(reply, asked)
    if fields.get("stream"):
        options = given(fields, "stream_options", {})
        write = partial(stream, asked, options, state.options.stream_style, zlib.crc32(call.body))
    return Answer(
        model=model.name,
        tokens=asked.prompt_tokens + (most or 0) * asked.n,
        inputs=(asked.said.last,),
        scope=(call.path, model.name),
        write=write,
    )


def _asked(state: State, model: Model, fields: Mapping[str, Any]) -> Asked:
    """Reads what is asked.

    Raises:
        Refusal: what cannot be.
    """
    size = state.options.bytes_per_token
    said = read(fields["messages"], size)
    question = Question(
        prompt="\n".join(said.texts),
        last=said.last,
        answered=said.last_role in ("tool", "function"),
        offer=tools.of_chat(fields),
        form=formats.of_chat(fields.get("response_format"), said.texts),
        stop=stops(fields),
        max_tokens=given(fields, "max_completion_tokens", fields.get("max_tokens")),
        thoughts=reasoning_tokens(model, fields.get("reasoning_effort")),
        bytes_per_token=size,
    )
    return Asked(
        id=state.new_id("chatcmpl-"),
        created=int(state.clock.now()),
        model=model.name,
        question=question,
        said=said,
        n=given(fields, "n", 1),
        temperature=given(fields, "temperature", 1),
        seed=fields.get("seed"),
        top_logprobs=given(fields, "top_logprobs", 0) if fields.get("logprobs") else None,
        prompt_tokens=said.tokens + _tokens_of_tools(fields, size),
        service_tier=_tier(fields.get("service_tier")),
    )


def _tier(asked: str | None) -> str:
    return "default" if asked in (None, "auto") else str(asked)


def _tokens_of_tools(fields: Mapping[str, Any], bytes_per_token: float) -> int:
    described = [fields[name] for name in ("tools", "functions") if fields.get(name)]
    return sum(count_tokens(msgspec.json.encode(each).decode(), bytes_per_token) for each in described)


def _check_length(prompt: int, completion: int | None, limit: int) -> None:
    beginning = f"This model's maximum context length is {limit} tokens. However,"
    if prompt > limit:
        message = f"{beginning} your messages resulted in {prompt} tokens. Please reduce the length of the messages."
    elif prompt + (completion or 0) > limit:
        message = (
            f"{beginning} you requested {prompt + (completion or 0)} tokens ({prompt} in the messages, {completion} in "
            "the completion). Please reduce the length of the messages or completion."
        )
    else:
        return
    raise Refusal(400, message, param="messages", code="context_length_exceeded")
