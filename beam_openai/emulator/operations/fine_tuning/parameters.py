"""What a job of fine-tuning is asked with: all parameters, checked, and what is meant where one is not said."""

from __future__ import annotations

import math
from typing import Any

from ...parameters import Check, Parameters
from ...replies import Refusal
from ...wording import MODERN

MOST_SEED = 2_147_483_647

_checks = Parameters(MODERN)


def _auto_or(number: Check) -> Check:
    def auto_or(name: str, value: Any) -> None:
        if value != "auto":
            number(name, value)

    return auto_or


def _above_zero(most: float) -> Check:
    def above_zero(name: str, value: Any) -> None:
        _checks.number(-math.inf, most)(name, value)
        if value <= 0:
            message = f"Invalid '{name}': decimal below minimum value. Expected a value > 0, but got {value} instead."
            raise Refusal(400, message, param=name, code="decimal_below_min_value")

    return above_zero


_BASIC: dict[str, Check] = {
    "batch_size": _auto_or(_checks.integer(1, 256)),
    "learning_rate_multiplier": _auto_or(_above_zero(math.inf)),
    "n_epochs": _auto_or(_checks.integer(1, 50)),
}
_HYPERPARAMETERS: dict[str, dict[str, Check]] = {
    "supervised": _BASIC,
    "dpo": {**_BASIC, "beta": _auto_or(_above_zero(2))},
    "reinforcement": {
        **_BASIC,
        "reasoning_effort": _checks.one_of("default", "low", "medium", "high"),
        "compute_multiplier": _auto_or(_above_zero(10)),
        "eval_interval": _auto_or(_checks.integer(1)),
        "eval_samples": _auto_or(_checks.integer(1)),
    },
}
_GRADERS = ("string_check", "text_similarity", "python", "score_model", "multi")


def _grader(name: str, value: Any) -> None:
    _checks.object(name, value)
    if "type" not in value:
        raise MODERN.missing(f"{name}.type")
    _checks.one_of(*_GRADERS)(f"{name}.type", value["type"])


def _integration(name: str, value: Any) -> None:
    text = _checks.string()
    wandb = {"project": _checks.string(1), "name": text, "entity": text, "tags": _checks.array(0, None, text)}
    members = {"type": _checks.one_of("wandb"), "wandb": _checks.members(wandb, ("project",))}
    _checks.members(members, ("type", "wandb"))(name, value)


_METHODS: dict[str, Check] = {
    "supervised": _checks.members({"hyperparameters": _checks.members(_HYPERPARAMETERS["supervised"])}),
    "dpo": _checks.members({"hyperparameters": _checks.members(_HYPERPARAMETERS["dpo"])}),
    "reinforcement": _checks.members(
        {
            "grader": _grader,
            "response_format": _checks.object,
            "hyperparameters": _checks.members(_HYPERPARAMETERS["reinforcement"]),
        },
        ("grader",),
    ),
}
FIELDS: dict[str, Check] = {
    "model": _checks.string(1),
    "training_file": _checks.string(1),
    "validation_file": _checks.string(1),
    "suffix": _checks.string(1, 64),
    "seed": _checks.integer(0, MOST_SEED),
    "hyperparameters": _checks.members(_BASIC),
    "method": _checks.members({"type": _checks.one_of(*_METHODS), **_METHODS}, ("type",)),
    "integrations": _checks.array(0, 5, _integration),
    "metadata": _checks.metadata,
}


def method_of(fields: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Its type, what is said of it, and all its hyperparameters."""
    asked = fields.get("method")
    if asked is not None and fields.get("hyperparameters") is not None:
        message = "Parameters 'hyperparameters' and 'method' cannot be used together."
        raise Refusal(400, message, param="hyperparameters", code="invalid_value")
    if asked is None:
        asked = {"type": "supervised", "supervised": {"hyperparameters": fields.get("hyperparameters")}}
    kind = asked["type"]
    for name, value in asked.items():
        if name not in ("type", kind) and value is not None:
            raise MODERN.unknown(f"method.{name}")
    settings = dict(asked.get(kind) or {})
    if kind == "reinforcement" and "grader" not in settings:
        raise MODERN.missing("method.reinforcement.grader")
    chosen = settings.pop("hyperparameters", None) or {}
    hyperparameters: dict[str, Any] = dict.fromkeys(_HYPERPARAMETERS[kind], "auto")
    if kind == "reinforcement":
        hyperparameters["reasoning_effort"] = "default"
    return kind, settings, {**hyperparameters, **{name: value for name, value in chosen.items() if value is not None}}
