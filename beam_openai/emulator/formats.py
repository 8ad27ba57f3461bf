"""What form an answer must have: `response_format` of POST /chat/completions, `text.format` of POST /responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from . import schema_rules
from .parameters import Check, Parameters
from .replies import Refusal
from .schemas import fitting
from .tools import NAME
from .wording import MODERN
from .writing import compose

_KINDS = ("text", "json_object", "json_schema")
_checks = Parameters(MODERN)
_SCHEMA: dict[str, Check] = {
    "name": _checks.string(1, 64, NAME),
    "description": _checks.string(),
    "schema": _checks.object,
    "strict": _checks.boolean,
}
_TYPED: dict[str, Check] = {"type": _checks.string()}
_PLAIN = _checks.members(_TYPED)
_NESTED = _checks.members({**_TYPED, "json_schema": _checks.members(_SCHEMA, ("name",))}, ("type", "json_schema"))
_FLAT = _checks.members({**_TYPED, **_SCHEMA}, ("type", "name", "schema"))


@dataclass(frozen=True)
class Format:
    """`kind` is text, json_object or json_schema, then with a `schema`."""

    kind: str = "text"
    schema: Any = None

    def write(self, prompt: str, variant: int) -> str:
        """The answer to a prompt, in this form."""
        if self.kind == "json_schema":
            return msgspec.json.encode(fitting(self.schema, f"{variant} {prompt}")).decode()
        text = compose(prompt, variant)
        if self.kind == "json_object":
            words = text.split()
            return msgspec.json.encode({"answer": text, "topic": words[0].lower(), "words": len(words)}).decode()
        return text


_TEXT = Format()


def of_chat(value: Any, texts: Iterable[str]) -> Format:
    """Reads `response_format`.

    Args:
        value: the parameter, or None.
        texts: of the messages: one must have the word json, where a JSON object is asked for.

    Raises:
        Refusal: what cannot be.
    """
    if value is None:
        return _TEXT
    kind = _kind("response_format", value)
    if kind == "json_schema":
        _NESTED("response_format", value)
        return _schema(value["json_schema"], "response_format", None)
    _PLAIN("response_format", value)
    if kind == "json_object" and not _mentioned(texts):
        message = (
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
        )
        raise Refusal(400, message, param="messages")
    return Format(kind)


def of_responses(value: Any, texts: Iterable[str]) -> Format:
    """Reads `text.format`, which is flat.

    Raises:
        Refusal: what cannot be.
    """
    if value is None:
        return _TEXT
    kind = _kind("text.format", value)
    if kind == "json_schema":
        _FLAT("text.format", value)
        return _schema(value, "text.format.schema", "invalid_json_schema")
    _PLAIN("text.format", value)
    if kind == "json_object" and not _mentioned(texts):
        message = (
            "Response input messages must contain the word 'json' in some form to use 'text.format' of type "
            "'json_object'."
        )
        raise Refusal(400, message, param="input")
    return Format(kind)


def _kind(name: str, value: Any) -> str:
    _checks.object(name, value)
    if "type" not in value:
        raise MODERN.missing(f"{name}.type")
    _checks.one_of(*_KINDS)(f"{name}.type", value["type"])
    return str(value["type"])


def _mentioned(texts: Iterable[str]) -> bool:
    return any("json" in text.lower() for text in texts)


def _schema(described: Mapping[str, Any], param: str, code: str | None) -> Format:
    schema = described.get("schema", {"type": "object"})

    def refuse(what: str) -> Refusal:
        message = f"Invalid schema for response_format '{described['name']}': {what}"
        return Refusal(400, message, param=param, code=code)

    schema_rules.check(schema, bool(described.get("strict")), refuse)
    return Format("json_schema", schema)
