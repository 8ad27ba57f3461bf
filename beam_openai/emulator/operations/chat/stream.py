"""A chat completion token by token."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import chain, zip_longest
from typing import Any

from ... import sse
from ...answering import Called
from ...replies import Reply
from ...writing import pieces
from .choices import FINGERPRINT, Asked, Choice, choices, shown_call, shown_logprobs, usage


def stream(asked: Asked, options: Mapping[str, Any], style: str, seed: int) -> Reply:
    """The choices in turns, as the request's `stream_options` say."""
    made = choices(asked)
    used = usage(asked, made)
    head = {
        **asked.head("chat.completion.chunk"),
        "service_tier": asked.service_tier,
        "system_fingerprint": FINGERPRINT,
    }
    with_usage = bool(options.get("include_usage"))
    tail: dict[str, Any] = {"usage": None} if with_usage else {}
    chance = random.Random(seed) if options.get("include_obfuscation") is not False else None
    events = []
    for piece in chain.from_iterable(zip_longest(*[_pieces(asked, choice) for choice in made])):
        if piece is not None:
            padded = {"obfuscation": sse.padding(chance)} if chance else {}
            events.append(sse.data({**head, "choices": [piece], **tail, **padded}))
    if with_usage:
        events.append(sse.data({**head, "choices": [], "usage": used}))
    return sse.reply([*events, sse.DONE], style, seed, used["total_tokens"])


def _pieces(asked: Asked, choice: Choice) -> Iterator[dict[str, Any]]:
    """The first says who speaks, the last why it ends."""
    said, size = choice.said, asked.question.bytes_per_token
    scores = shown_logprobs(asked, said)
    content = None if said.calls or said.refused else ""
    yield _piece(choice, {"role": "assistant", "content": content, "refusal": None})
    for number, call in enumerate(said.calls):
        for delta in _calling(call, size):
            if asked.question.offer.legacy:
                yield _piece(choice, {"function_call": delta["function"]})
            else:
                yield _piece(choice, {"tool_calls": [{"index": number, **delta}]})
    member = "refusal" if said.refused else "content"
    for at, text in enumerate(pieces(said.text, size)):
        one = scores and {name: values and values[at : at + 1] for name, values in scores.items()}
        yield _piece(choice, {member: text}, one)
    yield _piece(choice, {}, None, said.finish_reason)


def _calling(call: Called, bytes_per_token: float) -> Iterator[dict[str, Any]]:
    """The call and its name, then its argument token by token."""
    yield shown_call(call, "")
    for text in pieces(call.argument, bytes_per_token):
        yield {"custom": {"input": text}} if call.tool.custom else {"function": {"arguments": text}}


def _piece(choice: Choice, delta: Mapping[str, Any], scores: Any = None, reason: str | None = None) -> dict[str, Any]:
    return {"index": choice.index, "delta": delta, "logprobs": scores, "finish_reason": reason}
