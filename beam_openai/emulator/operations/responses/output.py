"""A response: its output items, what became of it, and what it cost."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ... import logprobs
from ...answering import Question, Said, answer, cached
from ...writing import compose, pieces
from .items import Input

FAIL = "FAIL-200"
"""The marker of an input whose response fails, under HTTP 200."""
_FAILED = {
    "code": "server_error",
    "message": "An error occurred while processing your request. You can retry your request, or contact us through our "
    "help center at help.openai.com if the error persists.",
}
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
ENCRYPTED, LOGPROBS = "reasoning.encrypted_content", "message.output_text.logprobs"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A checked request: `fields` as they were sent, `said` what was said without the instructions."""

    id: str
    created: int
    model: str
    fields: Mapping[str, Any]
    question: Question
    said: Input
    input_tokens: int
    tokens_before: int
    variant: int
    new_id: Callable[[str], str]

    @property
    def include(self) -> list[str]:
        """What more is to be shown."""
        return self.fields.get("include") or []

    @property
    def text(self) -> Mapping[str, Any]:
        """How a text is to be."""
        return self.fields.get("text") or {}


def respond(asked: Asked) -> dict[str, Any]:
    """The whole response."""
    if FAIL in asked.said.last:
        return {**begun(asked, "failed"), "error": _FAILED}
    said = answer(asked.question, asked.variant, lambda number: asked.new_id("call_"))
    reason = _INCOMPLETE.get(said.finish_reason)
    status = "incomplete" if reason else "completed"
    return {
        **begun(asked, status),
        "completed_at": None if reason else asked.created,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": [*_thoughts(asked, said), *_items(asked, said, status)],
        "usage": {
            "input_tokens": asked.input_tokens,
            "input_tokens_details": {
                "cached_tokens": cached(asked.input_tokens, asked.tokens_before),
                "cache_write_tokens": 0,
            },
            "output_tokens": said.tokens,
            "output_tokens_details": {"reasoning_tokens": said.thoughts},
            "total_tokens": asked.input_tokens + said.tokens,
        },
    }


def begun(asked: Asked, status: str) -> dict[str, Any]:
    """The response before there is any output: what was asked for, and the defaults."""
    fields, text = asked.fields, asked.text
    reasoning = fields.get("reasoning") or {}

    def default(name: str, value: Any) -> Any:
        return value if fields.get(name) is None else fields[name]

    tier = fields.get("service_tier")
    return {
        "id": asked.id,
        "object": "response",
        "created_at": asked.created,
        "status": status,
        "background": default("background", False),
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": fields.get("instructions"),
        "max_output_tokens": fields.get("max_output_tokens"),
        "max_tool_calls": fields.get("max_tool_calls"),
        "model": asked.model,
        "output": [],
        "parallel_tool_calls": default("parallel_tool_calls", True),
        "previous_response_id": fields.get("previous_response_id"),
        "prompt_cache_key": fields.get("prompt_cache_key"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": fields.get("safety_identifier"),
        "service_tier": "default" if tier in (None, "auto") else tier,
        "store": default("store", True),
        "temperature": float(default("temperature", 1)),
        "text": {"format": text.get("format") or {"type": "text"}, "verbosity": text.get("verbosity") or "medium"},
        "tool_choice": default("tool_choice", "auto"),
        "tools": default("tools", []),
        "top_logprobs": default("top_logprobs", 0),
        "top_p": float(default("top_p", 1)),
        "truncation": default("truncation", "disabled"),
        "usage": None,
        "user": fields.get("user"),
        "metadata": default("metadata", {}),
    }


def _thoughts(asked: Asked, said: Said) -> list[dict[str, Any]]:
    """What it thought, or rather that it did; in short where a summary is asked for."""
    if not said.thoughts:
        return []
    reasoning = asked.fields.get("reasoning") or {}
    summary = compose(f"summary {asked.question.prompt}")
    item: dict[str, Any] = {
        "id": asked.new_id("rs_"),
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": summary}] if reasoning.get("summary") else [],
    }
    if ENCRYPTED in asked.include:
        item["encrypted_content"] = base64.b64encode(summary.encode()).decode()
    return [item]


def _items(asked: Asked, said: Said, status: str) -> list[dict[str, Any]]:
    if said.calls:
        last = len(said.calls) - 1
        return [
            _call(
                asked, call.id, call.tool.name, call.argument, call.tool.custom, status if at == last else "completed"
            )
            for at, call in enumerate(said.calls)
        ]
    if not said.text and said.finish_reason == "length":
        return []
    part: dict[str, Any] = {"type": "refusal", "refusal": said.text}
    if not said.refused:
        part = {"type": "output_text", "annotations": [], "logprobs": _logprobs(asked, said.text), "text": said.text}
    return [
        {"id": asked.new_id("msg_"), "type": "message", "status": status, "content": [part], "role": "assistant"},
    ]


def _call(asked: Asked, call_id: str, name: str, argument: str, custom: bool, status: str) -> dict[str, Any]:
    if custom:
        head = {"id": asked.new_id("ctc_"), "type": "custom_tool_call", "status": status, "input": argument}
    else:
        head = {"id": asked.new_id("fc_"), "type": "function_call", "status": status, "arguments": argument}
    return {**head, "call_id": call_id, "name": name}


def _logprobs(asked: Asked, text: str) -> list[dict[str, Any]]:
    if LOGPROBS not in asked.include:
        return []
    many = asked.fields.get("top_logprobs") or 0
    return logprobs.of_chat(pieces(text, asked.question.bytes_per_token), many)
