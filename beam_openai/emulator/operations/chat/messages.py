"""The messages of POST /chat/completions: checked one by one, and what of them the answer rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...parameters import Check, Parameters
from ...replies import Refusal
from ...texts import count_tokens
from ...wording import MODERN
from . import parts

ROLES = ("system", "assistant", "user", "function", "tool", "developer")
PER_MESSAGE, PER_NAME, PRIMING = 3, 1, 3
"""Tokens beside those of the texts: for each message, for each name, and for the answer's beginning."""

_checks = Parameters(MODERN)
_FUNCTION = _checks.members({"name": _checks.string(1), "arguments": _checks.string()}, ("name", "arguments"))
_CUSTOM = _checks.members({"name": _checks.string(1), "input": _checks.string()}, ("name", "input"))
_TOOL_CALL: dict[str, Check] = {
    "id": _checks.string(1),
    "type": _checks.one_of("function", "custom"),
    "function": _FUNCTION,
    "custom": _CUSTOM,
}
_KNOWN: dict[str, Check] = {
    "role": _checks.one_of(*ROLES),
    "content": lambda name, value: None,
    "name": _checks.string(1, 64, "^[a-zA-Z0-9_-]+$"),
    "tool_call_id": _checks.string(1),
    "tool_calls": _checks.array(1, 128, _checks.members(_TOOL_CALL, ("id", "type"))),
    "function_call": _FUNCTION,
    "refusal": _checks.string(),
    "annotations": _checks.array(),
    "audio": _checks.members({"id": _checks.string(1)}, ("id",)),
}
_NEEDED = {"tool": "tool_call_id", "function": "name"}
_INSTEAD = ("tool_calls", "function_call", "refusal", "audio")


@dataclass
class Conversation:
    """What was said: `texts` are all texts in order, `last_user` those of a user's last message.

    `tokens` are those of all messages, of which `tokens_before` are of all but the last, and
    `audio_tokens` of sounds. `last_role` is whose the last message is.
    """

    texts: list[str] = field(default_factory=list)
    last_user: str | None = None
    tokens: int = PRIMING
    tokens_before: int = 0
    audio_tokens: int = 0
    last_role: str = ""

    @property
    def last(self) -> str:
        """The user's last words; the last words of all where no user said any."""
        if self.last_user is not None:
            return self.last_user
        return self.texts[-1] if self.texts else ""


def read(messages: Any, bytes_per_token: float) -> Conversation:
    """Checks and reads the messages.

    Raises:
        Refusal: one cannot be.
    """
    if type(messages) is not list:
        raise MODERN.wrong_type("messages", messages, "an array of objects")
    if not messages:
        raise MODERN.too_short("messages", messages, 1)
    conversation = Conversation()
    waiting: set[str] = set()
    for index, message in enumerate(messages):
        conversation.tokens_before = conversation.tokens
        said = _said(f"messages[{index}]", message, conversation)
        waiting = _waiting(index, message, waiting)
        conversation.last_role = message["role"]
        if message["role"] == "user":
            conversation.last_user = " ".join(said)
        conversation.texts += said
        conversation.tokens += PER_MESSAGE + sum([count_tokens(text, bytes_per_token) for text in said if text])
        if message.get("name"):
            conversation.tokens += PER_NAME
    if waiting:
        raise _unanswered(len(messages), waiting)
    return conversation


def _said(name: str, message: Any, conversation: Conversation) -> list[str]:
    """The texts of one message."""
    _check_keys(name, message)
    role, content = message["role"], message.get("content")
    if type(content) is str:
        said = [content]
    elif content is None:
        _check_nothing(name, message)
        said = []
    elif type(content) is list:
        said = list(_parts(f"{name}.content", content, role, conversation))
    else:
        raise MODERN.wrong_type(f"{name}.content", content, "string", "array of objects")
    if role == "assistant":
        said += _called(name, message)
    return said


def _check_keys(name: str, message: Any) -> None:
    if type(message) is not dict:
        raise MODERN.wrong_type(name, message, "object")
    if "role" not in message:
        raise MODERN.missing(f"{name}.role")
    for key, value in message.items():
        if key not in _KNOWN:
            raise MODERN.unknown(f"{name}.{key}")
        if key != "content" and (value is not None or key == "role"):
            _KNOWN[key](f"{name}.{key}", value)
    needed = _NEEDED.get(message["role"])
    if needed and message.get(needed) is None:
        raise MODERN.missing(f"{name}.{needed}")


def _check_nothing(name: str, message: Mapping[str, Any]) -> None:
    """No content: right for a message that calls something instead."""
    if message["role"] == "assistant" and any(message.get(key) for key in _INSTEAD):
        return
    if "content" not in message:
        raise MODERN.missing(f"{name}.content")
    if message["role"] != "function":
        param = name.replace("[", ".[") + ".content"
        raise Refusal(400, "Invalid value for 'content': expected a string, got null.", param=param)


def _parts(name: str, content: list[Any], role: str, conversation: Conversation) -> Iterator[str]:
    for part in parts.read(name, content, role):
        conversation.tokens += part.tokens + part.audio_tokens
        conversation.audio_tokens += part.audio_tokens
        if part.text is not None:
            yield part.text


def _called(name: str, message: Mapping[str, Any]) -> Iterator[str]:
    """The texts of an assistant's calls."""
    for index, call in enumerate(message.get("tool_calls") or ()):
        if call.get(call["type"]) is None:
            raise MODERN.missing(f"{name}.tool_calls[{index}].{call['type']}")
        yield from call[call["type"]].values()
    yield from (message.get("function_call") or {}).values()


def _waiting(index: int, message: Mapping[str, Any], waiting: set[str]) -> set[str]:
    """The calls that wait for an answer after this message: all are answered before anything else is said."""
    if message["role"] == "tool":
        if message["tool_call_id"] not in waiting:
            text = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
            raise Refusal(400, f"Invalid parameter: {text}", param=f"messages.[{index}].role")
        return waiting - {message["tool_call_id"]}
    if waiting:
        raise _unanswered(index, waiting)
    if message["role"] == "assistant" and message.get("tool_calls"):
        return {call["id"] for call in message["tool_calls"]}
    return waiting


def _unanswered(index: int, waiting: set[str]) -> Refusal:
    message = (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {', '.join(sorted(waiting))}"
    )
    return Refusal(400, message, param=f"messages.[{index}].role")
