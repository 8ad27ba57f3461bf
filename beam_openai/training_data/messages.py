"""What messages must be like, each of them and all together: roles, contents, calls of tools and their answers. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

MOST_IMAGES = 10
MOST_IMAGE_BYTES = 10_000_000
_MOST_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_IMAGE = re.compile(r"https?://|data:image/(?:jpeg|jpg|png|webp);base64,")
_KEYS = {
    "system": {"content", "name"},
    "developer": {"content", "name"},
    "user": {"content", "name"},
    "assistant": {"content", "name", "refusal", "tool_calls", "function_call", "weight"},
    "tool": {"content", "name", "tool_call_id"},
    "function": {"content", "name"},
}
_PARTS = {
    "user": ("text", "image_url"),
    "assistant": ("text", "refusal"),
    "system": ("text",),
    "developer": ("text",),
    "tool": ("text",),
    "function": (),
}


class BrokenRule(ValueError):
    """Why an example cannot be used; the message begins with the name of the rule."""

    def __init__(self, rule: str, why: str) -> None:
        super().__init__(f"{rule}: {why}")


def check_messages(messages: Any, where: str) -> None:
    """Refuses what is not a conversation; `where` it stands is for the reason.

    Raises:
      BrokenRule: the first rule that it breaks.
    """
    if not isinstance(messages, list) or not messages:
        raise BrokenRule("messages", f"{where} is not a list of messages")
    for at, message in enumerate(messages):
        _check_message(message, f"{where}[{at}]")
    _check_order(messages, where)
    images = sum(part["type"] == "image_url" for message in messages for part in parts_of(message))
    if images > MOST_IMAGES:
        raise BrokenRule("images", f"{where} has {images} images, where {MOST_IMAGES} can be in an example")


def _check_message(message: Any, where: str) -> None:
    role = message.get("role") if isinstance(message, Mapping) else None
    if not isinstance(role, str) or role not in _KEYS:
        raise BrokenRule("role", f"the role of {where} is not one of {', '.join(_KEYS)}")
    given = {name for name, value in message.items() if value is not None}
    if unknown := given - _KEYS[role] - {"role"}:
        raise BrokenRule("key", f"{where} has {min(unknown)!r}, which a message of the role {role} cannot have")
    if "name" in given or role == "function":
        _check_name(message.get("name"), f"{where}.name")
    if "weight" in given and (isinstance(message["weight"], bool) or message["weight"] not in (0, 1)):
        raise BrokenRule("weight", f"{where}.weight is neither 0 nor 1")
    is_call = bool({"tool_calls", "function_call"} & given)
    if not (is_call and not message.get("content")) and ("content" in given or "refusal" not in given):
        _check_content(message.get("content"), role, f"{where}.content")
    if "refusal" in given and not (isinstance(message["refusal"], str) and message["refusal"]):
        raise BrokenRule("refusal", f"{where}.refusal is not a text, or empty")
    if role == "tool" and not (isinstance(message.get("tool_call_id"), str) and message["tool_call_id"]):
        raise BrokenRule("tool_call_id", f"{where} does not say which call it answers")
    if "tool_calls" in given:
        _check_calls(message["tool_calls"], f"{where}.tool_calls")
    if "function_call" in given:
        _check_function(message["function_call"], f"{where}.function_call")


def _check_name(name: Any, where: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BrokenRule("name", f"{where} is not 1 to 64 letters, digits, underscores or dashes")


def _check_content(content: Any, role: str, where: str) -> None:
    if isinstance(content, list) and content and _PARTS[role]:
        for at, part in enumerate(content):
            _check_part(part, _PARTS[role], f"{where}[{at}]")
    elif not isinstance(content, str) or not content:
        kinds = "a text or a list of parts" if _PARTS[role] else "a text"
        raise BrokenRule("content", f"{where} is empty" if content in ("", []) else f"{where} is not {kinds}")


def _check_part(part: Any, kinds: tuple[str, ...], where: str) -> None:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind not in kinds:
        raise BrokenRule("part", f"the type of {where} is not {' or '.join(kinds)}")
    if kind == "image_url":
        _check_image(part.get("image_url"), where)
    elif not isinstance(part.get(kind), str) or not part[kind]:
        raise BrokenRule("part", f"{where}.{kind} is not a text, or empty")


def _check_image(image: Any, where: str) -> None:
    url = image.get("url") if isinstance(image, Mapping) else None
    if not isinstance(url, str) or not (start := _IMAGE.match(url)):
        raise BrokenRule("images", f"{where} is neither a URL nor a JPEG, PNG or WebP as a data URL")
    if url.startswith("data:") and (len(url) - start.end()) * 3 / 4 > MOST_IMAGE_BYTES:
        raise BrokenRule("images", f"{where} has more than {MOST_IMAGE_BYTES // 1_000_000} MB")
    if image.get("detail") not in (None, "auto", "low", "high"):
        raise BrokenRule("images", f"{where}.image_url.detail is not one of auto, low, high")


# Calls of tools


def _check_calls(calls: Any, where: str) -> None:
    if not isinstance(calls, list) or not calls:
        raise BrokenRule("tool_calls", f"{where} is not a list of calls")
    for at, call in enumerate(calls):
        if not isinstance(call, Mapping) or call.get("type") != "function":
            raise BrokenRule("tool_calls", f"{where}[{at}] is not a call of the type function")
        if not isinstance(call.get("id"), str) or not call["id"]:
            raise BrokenRule("tool_calls", f"{where}[{at}] has no id")
        _check_function(call.get("function"), f"{where}[{at}].function")
    if len({call["id"] for call in calls}) < len(calls):
        raise BrokenRule("tool_calls", f"{where} has an id twice")


def _check_function(called: Any, where: str) -> None:
    if not isinstance(called, Mapping):
        raise BrokenRule("tool_calls", f"{where} is not a function's name and arguments")
    _check_name(called.get("name"), f"{where}.name")
    if not isinstance(called.get("arguments"), str) or not isinstance(_decoded(called["arguments"]), dict):
        raise BrokenRule("arguments", f"{where}.arguments is not a JSON object, written as a text")


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def check_tools(example: Mapping[str, Any]) -> None:
    """Refuses tools and functions that could not be called.

    Raises:
      BrokenRule: the first rule that one breaks.
    """
    for name, least in (("tools", 0), ("functions", 1)):
        tools = example.get(name)
        if tools is None:
            continue
        if not isinstance(tools, list) or not least <= len(tools) <= _MOST_TOOLS:
            raise BrokenRule(name, f"{name} is not a list of at most {_MOST_TOOLS}")
        for at, tool in enumerate(tools):
            _check_tool(tool, name, f"{name}[{at}]")
    if not isinstance(example.get("parallel_tool_calls"), bool | None):
        raise BrokenRule("parallel_tool_calls", "parallel_tool_calls is neither true nor false")


def _check_tool(tool: Any, rule: str, where: str) -> None:
    if rule == "tools":
        if not isinstance(tool, Mapping) or tool.get("type") != "function":
            raise BrokenRule(rule, f"{where} is not a tool of the type function")
        tool, where = tool.get("function"), f"{where}.function"
    if not isinstance(tool, Mapping):
        raise BrokenRule(rule, f"{where} is not a function")
    _check_name(tool.get("name"), f"{where}.name")
    if not isinstance(tool.get("parameters"), Mapping | None):
        raise BrokenRule(rule, f"{where}.parameters is not a JSON schema")


# Their order


def _check_order(messages: list[Mapping[str, Any]], where: str) -> None:
    """Every call is answered, by what comes next, before anything else is said."""
    open_calls: set[str] = set()
    for at, message in enumerate(messages):
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                raise BrokenRule("order", f"{where}[{at}] answers no call of the assistant's message before it")
            open_calls.remove(message["tool_call_id"])
        elif open_calls:
            raise BrokenRule("order", f"{where}[{at}] comes before the call {min(open_calls)!r} is answered")
        if message["role"] == "function" and not (at and messages[at - 1].get("function_call")):
            raise BrokenRule("order", f"{where}[{at}] answers no call of a function")
        open_calls |= {call["id"] for call in message.get("tool_calls") or ()}


def parts_of(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The parts of a message's content, where it has some."""
    content = message.get("content")
    return content if isinstance(content, list) else []
