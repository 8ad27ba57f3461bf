"""What items and their parts may have, of those that this server looks into."""

from __future__ import annotations

from typing import Any

from ...attachments import PICTURE_TOKENS, check_picture
from ...parameters import Check, Parameters
from ...wording import MODERN

_OTHER_TYPES = """
file_search_call web_search_call computer_call computer_call_output image_generation_call code_interpreter_call
local_shell_call local_shell_call_output shell_call shell_call_output apply_patch_call apply_patch_call_output
mcp_list_tools mcp_approval_request mcp_approval_response mcp_call tool_search_call tool_search_output
additional_tools compaction compaction_trigger program program_output
"""
"""Items of tools that the service has itself: counted, and not looked into."""


_checks = Parameters(MODERN)


def _any(name: str, value: Any) -> None:
    """Whatever it is."""


def _output(name: str, value: Any) -> None:
    """A tool's: a text, or parts."""
    if type(value) is not str:
        _checks.array(0, None, _checks.object)(name, value)


_STATUS = _checks.one_of("in_progress", "completed", "incomplete")
_COMMON: dict[str, Check] = {
    "type": _checks.string(1),
    "id": _checks.string(1),
    "status": _STATUS,
    "caller": _any,
    "namespace": _checks.string(1, 64),
}
_MESSAGE: dict[str, Check] = {
    **_COMMON,
    "role": _checks.one_of("assistant", "system", "developer", "user"),
    "content": _any,
    "phase": _checks.string(),
}
_CALL: dict[str, Check] = {**_COMMON, "call_id": _checks.string(1, 64), "name": _checks.string(1)}
_OUTPUT: dict[str, Check] = {**_CALL, "output": _output}
_SUMMARY = _checks.members({"type": _checks.one_of("summary_text"), "text": _checks.string()}, ("type", "text"))
_REASONING: dict[str, Check] = {
    **_COMMON,
    "summary": _checks.array(0, None, _SUMMARY),
    "content": _checks.array(0, None, _checks.object),
    "encrypted_content": _checks.string(),
}
ITEMS: dict[str, Check] = {
    "message": _checks.members(_MESSAGE, ("role", "content")),
    "function_call": _checks.members({**_CALL, "arguments": _checks.string()}, ("call_id", "name", "arguments")),
    "function_call_output": _checks.members(_OUTPUT, ("call_id", "output")),
    "custom_tool_call": _checks.members({**_CALL, "input": _checks.string()}, ("call_id", "name", "input")),
    "custom_tool_call_output": _checks.members(_OUTPUT, ("call_id", "output")),
    "reasoning": _checks.members(_REASONING, ("id", "summary")),
    "item_reference": _checks.members({"type": _checks.string(1), "id": _checks.string(1)}, ("id",)),
}
"""Checks of items, by their types."""
check_type = _checks.one_of(*ITEMS, *_OTHER_TYPES.split())
"""Checks an item's type."""
_INPUT_PARTS = ("input_text", "input_image", "input_file")
_OUTPUT_PARTS = ("output_text", "refusal")
_PARTS: dict[str, Check] = {
    "input_text": _checks.members({"type": _any, "text": _checks.string(), "prompt_cache_breakpoint": _any}, ("text",)),
    "input_image": _checks.members(
        {
            "type": _any,
            "image_url": check_picture,
            "file_id": _checks.string(1),
            "detail": _checks.one_of(*PICTURE_TOKENS),
            "prompt_cache_breakpoint": _any,
        }
    ),
    "input_file": _checks.members(
        {
            "type": _any,
            "prompt_cache_breakpoint": _any,
            "detail": _any,
            **{name: _checks.string(1) for name in ("file_id", "filename", "file_data", "file_url")},
        }
    ),
    "output_text": _checks.members(
        {"type": _any, "text": _checks.string(), "annotations": _any, "logprobs": _any}, ("text",)
    ),
    "refusal": _checks.members({"type": _any, "refusal": _checks.string()}, ("refusal",)),
}


def read_parts(name: str, content: list[Any], role: str) -> tuple[list[str], int]:
    """The texts of a message's parts, and the tokens of those that are none."""
    texts, tokens = [], 0
    allowed = _OUTPUT_PARTS if role == "assistant" else _INPUT_PARTS
    for index, part in enumerate(content):
        path = f"{name}[{index}]"
        _checks.object(path, part)
        if "type" not in part:
            raise MODERN.missing(f"{path}.type")
        _checks.one_of(*allowed)(f"{path}.type", part["type"])
        _PARTS[part["type"]](path, part)
        text = part.get("text", part.get("refusal"))
        if text is not None:
            texts.append(text)
        elif part["type"] == "input_image":
            if not part.get("image_url") and not part.get("file_id"):
                raise MODERN.missing(f"{path}.image_url")
            tokens += PICTURE_TOKENS[part.get("detail") or "auto"]
        elif not any(part.get(member) for member in ("file_id", "file_data", "file_url")):
            raise MODERN.missing(f"{path}.file_id")
    return texts, tokens
