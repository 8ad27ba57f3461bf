"""What the families of models differ in: how much they can read, and whether they reason before they answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .models import Model
from .replies import Refusal

_CONTEXT = (
    ("gpt-3.5-turbo-instruct", 4097),
    ("gpt-3.5-turbo", 16_385),
    ("gpt-4.1", 1_047_576),
    ("gpt-4-turbo", 128_000),
    ("gpt-4-32k", 32_768),
    ("gpt-4o", 128_000),
    ("gpt-4", 8192),
    ("gpt-5", 400_000),
    ("o1", 200_000),
    ("o3", 200_000),
    ("o4-mini", 200_000),
)
"""Tokens of prompt and answer together, by how a model's name begins: the first that fits counts."""
_CONTEXT_OF_KINDS = (("chat", 128_000), ("edit", 3000), ("completion", 4097))
_REASONS = re.compile(r"o\d|gpt-5(?!-chat)")
_NEVER_REASONS = re.compile(r"gpt-[34]|chatgpt")
_STOPS = re.compile(r"o1")
_FIXED = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
_REASONING_TOKENS = {"none": 0, "minimal": 0, "low": 64, "medium": 128, "high": 320, "xhigh": 640, "max": 1280}
EFFORTS = tuple(_REASONING_TOKENS)
"""What `reasoning_effort` can be."""


def context_length(model: Model) -> int:
    """Tokens that a prompt and its answer may have together."""
    name = model.base or model.name
    for beginning, tokens in _CONTEXT:
        if name.startswith(beginning):
            return tokens
    return next((tokens for kind, tokens in _CONTEXT_OF_KINDS if kind in model.kinds), 128_000)


def reasons(model: Model) -> bool:
    """Whether it thinks before it answers, and takes fewer parameters for that."""
    return _REASONS.match(model.base or model.name) is not None


def never_reasons(model: Model) -> bool:
    """Whether it is known not to, and refuses what is about reasoning. Of other servers' models nothing is known."""
    return _NEVER_REASONS.match(model.base or model.name) is not None


def reasoning_tokens(model: Model, effort: str | None) -> int:
    """Tokens of the thoughts that come before an answer: a fixed number for each effort."""
    return _REASONING_TOKENS[effort or "medium"] if reasons(model) else 0


def check_parameters(model: Model, fields: Mapping[str, Any]) -> None:
    """Looks for what this family does not take.

    Raises:
        Refusal: 400, a parameter or a value that is not supported with this model.
    """
    if reasons(model):
        _check_reasoning(model, fields)
    elif never_reasons(model):
        if fields.get("reasoning_effort") is not None:
            raise Refusal(400, "Unrecognized request argument supplied: reasoning_effort", param="reasoning_effort")
        verbosity = fields.get("verbosity")
        if verbosity not in (None, "medium"):
            raise unsupported_value("verbosity", repr(verbosity), "Supported values are: 'medium'.")


def _check_reasoning(model: Model, fields: Mapping[str, Any]) -> None:
    if fields.get("max_tokens") is not None:
        raise unsupported_parameter("max_tokens", " Use 'max_completion_tokens' instead.")
    for name, only in _FIXED.items():
        value = fields.get(name)
        if value is not None and value != only:
            raise unsupported_value(name, value, f"Only the default ({only}) value is supported.")
    for name in ("logprobs", "top_logprobs", "logit_bias"):
        if fields.get(name):
            raise unsupported_parameter(name)
    if fields.get("stop") is not None and not _STOPS.match(model.base or model.name):
        raise unsupported_parameter("stop")


def unsupported_parameter(name: str, advice: str = "") -> Refusal:
    """The 400 for a parameter that a model does not take."""
    message = f"Unsupported parameter: '{name}' is not supported with this model.{advice}"
    return Refusal(400, message, param=name, code="unsupported_parameter")


def unsupported_value(name: str, value: object, advice: str) -> Refusal:
    """The 400 for a value that a model does not take."""
    message = f"Unsupported value: '{name}' does not support {value} with this model. {advice}"
    return Refusal(400, message, param=name, code="unsupported_value")
