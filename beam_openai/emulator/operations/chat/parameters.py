"""What POST /chat/completions can be asked for, one by one and together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...families import EFFORTS, check_parameters, unsupported_value
from ...models import Model
from ...parameters import Check, Parameters, check
from ...replies import Refusal
from ...wording import MODERN

_checks = Parameters(MODERN)


def _any(name: str, value: Any) -> None:
    """Looked at elsewhere."""


_CHECKS: dict[str, Check] = {
    "temperature": _checks.number(0, 2),
    "max_tokens": _checks.integer(1),
    "max_completion_tokens": _checks.integer(1),
    "n": _checks.integer(1, 128),
    "stop": _checks.stop,
    "seed": _checks.integer(-(2**63), 2**63 - 1),
    "top_p": _checks.number(0, 1),
    "stream": _checks.boolean,
    "stream_options": _checks.members({"include_usage": _checks.boolean, "include_obfuscation": _checks.boolean}),
    "response_format": _checks.object,
    "logprobs": _checks.boolean,
    "top_logprobs": _checks.integer(0, 20),
    "tools": _any,
    "tool_choice": _any,
    "parallel_tool_calls": _checks.boolean,
    "functions": _any,
    "function_call": _any,
    "user": _checks.string(),
    "presence_penalty": _checks.number(-2, 2),
    "frequency_penalty": _checks.number(-2, 2),
    "logit_bias": _checks.logit_bias,
    "reasoning_effort": _checks.one_of(*EFFORTS),
    "verbosity": _checks.one_of("low", "medium", "high"),
    "service_tier": _checks.one_of("auto", "default", "flex", "scale", "priority", "fast"),
    "store": _checks.boolean,
    "metadata": _checks.metadata,
    "safety_identifier": _checks.string(0, 64),
    "prompt_cache_key": _checks.string(),
    "prompt_cache_retention": _checks.one_of("in_memory", "24h"),
    "prompt_cache_options": _checks.object,
    "modalities": _checks.array(1, 2, _checks.one_of("text", "audio")),
    "audio": _checks.object,
    "prediction": _checks.object,
    "web_search_options": _checks.object,
    "moderation": _checks.object,
}
_NEVER_NULL = ("parallel_tool_calls", "user", "web_search_options")
FIELDS = ("model", "messages", *_CHECKS)
"""All that it knows."""
OLD_FIELDS = tuple(name for name in FIELDS if name != "max_completion_tokens")
"""All that a server knows which has not heard of `max_completion_tokens`."""


def check_all(model: Model, fields: Mapping[str, Any]) -> None:
    """Checks all that is not read elsewhere: messages, response format and tools.

    Raises:
        Refusal: what cannot be.
    """
    if "messages" not in fields:
        raise MODERN.missing("messages")
    check(fields, _CHECKS, _NEVER_NULL)
    check_parameters(model, fields)
    _check_together(fields)


def _check_together(fields: Mapping[str, Any]) -> None:
    """What goes only with something else, or never with it."""
    if fields.get("stream_options") is not None and not fields.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise Refusal(400, message, param="stream_options")
    if fields.get("top_logprobs") is not None and not fields.get("logprobs"):
        message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled."
        raise Refusal(400, message, param="top_logprobs")
    if fields.get("max_tokens") is not None and fields.get("max_completion_tokens") is not None:
        message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise Refusal(400, message, code="invalid_parameter_combination")
    if "audio" in (fields.get("modalities") or ()):
        raise unsupported_value("modalities", "'audio'", "Supported values are: 'text'.")
