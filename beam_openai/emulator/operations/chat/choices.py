"""The choices of a chat completion: what each says or calls, and what all of them cost."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ... import logprobs
from ...answering import Called, Question, Said, answer, cached
from ...replies import Reply, reply_json
from ...writing import pieces, variant
from .messages import Conversation

FINGERPRINT = "fp_emulator"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A checked request. `top_logprobs` is None where no probabilities are asked for."""

    id: str
    created: int
    model: str
    question: Question
    said: Conversation
    n: int
    temperature: float
    seed: int | None
    top_logprobs: int | None
    prompt_tokens: int
    service_tier: str

    def head(self, kind: str) -> dict[str, Any]:
        """What an answer, or a piece of one, begins with."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


@dataclass(frozen=True)
class Choice:
    """What was said at an index."""

    index: int
    said: Said


def choices(asked: Asked) -> list[Choice]:
    """All of them, in order."""
    return [
        Choice(
            index,
            answer(asked.question, variant(index, asked.temperature, asked.seed), partial(_call_id, asked, index)),
        )
        for index in range(asked.n)
    ]


def _call_id(asked: Asked, index: int, number: int) -> str:
    drawn = zlib.crc32(f"{index} {number}".encode())
    return f"call_{asked.id.removeprefix('chatcmpl-')[:16]}{drawn:08x}"


def usage(asked: Asked, made: Sequence[Choice]) -> dict[str, Any]:
    """The tokens that were used."""
    written = sum([choice.said.tokens for choice in made])
    return {
        "prompt_tokens": asked.prompt_tokens,
        "completion_tokens": written,
        "total_tokens": asked.prompt_tokens + written,
        "prompt_tokens_details": {
            "cached_tokens": cached(asked.prompt_tokens, asked.said.tokens_before),
            "audio_tokens": asked.said.audio_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": sum([choice.said.thoughts for choice in made]),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def reply(asked: Asked) -> Reply:
    """All choices at once."""
    made = choices(asked)
    used = usage(asked, made)
    shown = [
        {
            "index": choice.index,
            "message": _message(asked, choice.said),
            "logprobs": shown_logprobs(asked, choice.said),
            "finish_reason": choice.said.finish_reason,
        }
        for choice in made
    ]
    return reply_json(
        {
            **asked.head("chat.completion"),
            "choices": shown,
            "usage": used,
            "service_tier": asked.service_tier,
            "system_fingerprint": FINGERPRINT,
        },
        tokens=used["total_tokens"],
    )


def _message(asked: Asked, said: Said) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text, "refusal": None, "annotations": []}
    if said.refused:
        message |= {"content": None, "refusal": said.text}
    if said.calls:
        calls = [shown_call(call, call.argument) for call in said.calls]
        message["content"] = None
        message |= {"function_call": calls[0]["function"]} if asked.question.offer.legacy else {"tool_calls": calls}
    return message


def shown_call(call: Called, argument: str) -> dict[str, Any]:
    """A call, as a message has it, with so much of its argument."""
    if call.tool.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.tool.name, "input": argument}}
    return {"id": call.id, "type": "function", "function": {"name": call.tool.name, "arguments": argument}}


def shown_logprobs(asked: Asked, said: Said) -> dict[str, Any] | None:
    """The probabilities of what was said, token by token, if they were asked for."""
    if asked.top_logprobs is None:
        return None
    scores = logprobs.of_chat(pieces(said.text, asked.question.bytes_per_token), asked.top_logprobs)
    return {"content": None, "refusal": scores} if said.refused else {"content": scores, "refusal": None}
