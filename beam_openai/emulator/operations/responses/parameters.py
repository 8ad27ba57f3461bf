"""What POST /responses can be asked for, one by one and together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...families import EFFORTS, check_parameters, never_reasons, unsupported_parameter
from ...models import Model
from ...parameters import Check, Parameters, check
from ...replies import Refusal
from ...wording import MODERN

_INCLUDE = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
)
_checks = Parameters(MODERN)


def _any(name: str, value: Any) -> None:
    """Looked at elsewhere."""


_CHECKS: dict[str, Check] = {
    "input": _any,
    "instructions": _checks.string(),
    "max_output_tokens": _checks.integer(16),
    "text": _checks.members({"format": _checks.object, "verbosity": _checks.one_of("low", "medium", "high")}),
    "temperature": _checks.number(0, 2),
    "store": _checks.boolean,
    "metadata": _checks.metadata,
    "reasoning": _checks.members(
        {
            "effort": _checks.one_of(*EFFORTS),
            "summary": _checks.one_of("auto", "concise", "detailed"),
            "generate_summary": _checks.one_of("auto", "concise", "detailed"),
            "context": _checks.one_of("auto", "current_turn", "all_turns"),
            "mode": _checks.string(),
        }
    ),
    "stream": _checks.boolean,
    "stream_options": _checks.members({"include_obfuscation": _checks.boolean}),
    "tools": _any,
    "tool_choice": _any,
    "parallel_tool_calls": _checks.boolean,
    "previous_response_id": _checks.string(1),
    "include": _checks.array(0, None, _checks.one_of(*_INCLUDE)),
    "top_p": _checks.number(0, 1),
    "top_logprobs": _checks.integer(0, 20),
    "background": _checks.boolean,
    "conversation": _any,
    "truncation": _checks.one_of("auto", "disabled"),
    "service_tier": _checks.one_of("auto", "default", "flex", "scale", "priority", "fast", "ultrafast"),
    "user": _checks.string(),
    "safety_identifier": _checks.string(0, 64),
    "prompt_cache_key": _checks.string(),
    "prompt_cache_retention": _checks.one_of("in_memory", "24h"),
    "prompt_cache_options": _checks.object,
    "max_tool_calls": _checks.integer(1),
    "prompt": _checks.object,
    "moderation": _checks.object,
    "context_management": _checks.array(1),
}
FIELDS = ("model", *_CHECKS)
"""All that POST /responses knows."""
COUNTED = (
    "model",
    "input",
    "instructions",
    "text",
    "reasoning",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "previous_response_id",
    "conversation",
    "truncation",
    "personality",
)
"""All that POST /responses/input_tokens knows."""


def check_all(model: Model, fields: Mapping[str, Any]) -> None:
    """Checks all that is not read elsewhere: input, text format and tools.

    Raises:
        Refusal: what cannot be.
    """
    check(fields, _CHECKS, ("user",))
    _check_family(model, fields)
    _check_together(fields)


def check_counted(fields: Mapping[str, Any]) -> None:
    """Checks what POST /responses/input_tokens takes.

    Raises:
        Refusal: what cannot be.
    """
    check(fields, {name: _CHECKS[name] for name in COUNTED if name in _CHECKS})


def _check_family(model: Model, fields: Mapping[str, Any]) -> None:
    text = fields.get("text") or {}
    check_parameters(model, {**fields, "verbosity": text.get("verbosity")})
    if never_reasons(model):
        for name, value in (fields.get("reasoning") or {}).items():
            if value is not None:
                raise unsupported_parameter(f"reasoning.{name}")


def _check_together(fields: Mapping[str, Any]) -> None:
    """What goes only with something else, and what refers to something that this server never has."""
    if fields.get("background") and fields.get("store") is False:
        raise Refusal(400, "Background responses require 'store' to be true.", param="background")
    if fields.get("stream_options") is not None and not fields.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise Refusal(400, message, param="stream_options")
    for name, noun in (("conversation", "Conversation"), ("prompt", "Prompt")):
        value = fields.get(name)
        if value is not None:
            named = value.get("id") if isinstance(value, dict) else value
            raise Refusal(404, f"{noun} with id '{named}' not found.", param=name)
