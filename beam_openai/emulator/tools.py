"""The tools and functions that a request offers, and what of them its choice leaves: checked, and read into an `Offer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from . import schema_rules
from .offers import Offer, Tool
from .parameters import Parameters
from .replies import Refusal
from .wording import MODERN

NAME = "^[a-zA-Z0-9_-]+$"
_MOST_TOOLS = 128

_checks = Parameters(MODERN)
_NAME = _checks.string(1, 64, NAME)
_FUNCTION = _checks.members(
    {"name": _NAME, "description": _checks.string(), "parameters": _checks.object, "strict": _checks.boolean}, ("name",)
)
_CUSTOM = _checks.members({"name": _NAME, "description": _checks.string(), "format": _checks.object}, ("name",))
_NAMED = _checks.members({"name": _checks.string()}, ("name",))
_SERVICE = """
file_search web_search web_search_2025_08_26 web_search_preview web_search_preview_2025_03_11 computer
computer_use_preview mcp code_interpreter programmatic_tool_calling image_generation local_shell shell namespace
tool_search apply_patch
"""
_BUILT_IN = tuple(_SERVICE.split())
"""Tools of POST /responses that the service has itself. They are accepted, and never called."""


_NOTHING = Offer()


def of_chat(fields: Mapping[str, Any]) -> Offer:
    """What POST /chat/completions is offered: `tools` and `tool_choice`, or `functions` and `function_call`.

    Raises:
        Refusal: what cannot be.
    """
    if fields.get("functions") is not None or fields.get("function_call") is not None:
        return _legacy(fields)
    if fields.get("tools") is None:
        _only_with_tools(fields)
        return _NOTHING
    _checks.array(1, _MOST_TOOLS)("tools", fields["tools"])
    tools = [_chat_tool(f"tools[{index}]", tool) for index, tool in enumerate(fields["tools"])]
    return _offer(tools, fields, {"function": "function", "custom": "custom"})


def of_responses(fields: Mapping[str, Any]) -> Offer:
    """What POST /responses is offered: its tools are flat, and strict if nothing else is said.

    Raises:
        Refusal: what cannot be.
    """
    if not fields.get("tools"):
        if fields.get("tool_choice") not in (None, "auto", "none"):
            raise _not_found(fields["tool_choice"])
        return _NOTHING
    _checks.array(0, _MOST_TOOLS)("tools", fields["tools"])
    found = [_flat_tool(f"tools[{index}]", tool) for index, tool in enumerate(fields["tools"])]
    return _offer([tool for tool in found if tool is not None], fields, {"function": "", "custom": ""})


def _only_with_tools(fields: Mapping[str, Any]) -> None:
    for name in ("tool_choice", "parallel_tool_calls"):
        if fields.get(name) is not None:
            message = f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified."
            raise Refusal(400, message, param=name)


def _chat_tool(name: str, tool: Any) -> Tool:
    _checks.object(name, tool)
    kind = _kind(name, tool, ("function", "custom"))
    described = _FUNCTION if kind == "function" else _CUSTOM
    _checks.members({"type": _checks.string(), kind: described}, ("type", kind))(name, tool)
    if kind == "custom":
        return Tool(name=tool["custom"]["name"], custom=True)
    return _function(f"{name}.function.parameters", tool["function"], bool(tool["function"].get("strict")))


def _flat_tool(name: str, tool: Any) -> Tool | None:
    _checks.object(name, tool)
    kind = _kind(name, tool, ("function", "custom", *_BUILT_IN))
    if kind in _BUILT_IN:
        return None
    members = {each: value for each, value in tool.items() if each not in _FLAT_ONLY}
    (_FUNCTION if kind == "function" else _CUSTOM)(name, members)
    if kind == "custom":
        return Tool(name=tool["name"], custom=True)
    return _function(f"{name}.parameters", tool, tool.get("strict") is not False)


_FLAT_ONLY = ("type", "defer_loading", "allowed_callers", "output_schema")


def _kind(name: str, tool: Mapping[str, Any], kinds: Sequence[str]) -> str:
    if "type" not in tool:
        raise MODERN.missing(f"{name}.type")
    _checks.one_of(*kinds)(f"{name}.type", tool["type"])
    return str(tool["type"])


def _function(param: str, function: Mapping[str, Any], strict: bool) -> Tool:
    name, parameters = function["name"], function.get("parameters")
    if parameters is None:
        return Tool(name=name, parameters={"type": "object", "properties": {}})

    def refuse(what: str) -> Refusal:
        message = f"Invalid schema for function '{name}': {what}"
        return Refusal(400, message, param=param, code="invalid_function_parameters")

    schema_rules.check(parameters, strict, refuse, an_object=True)
    return Tool(name=name, parameters=parameters)


def _offer(tools: Sequence[Tool], fields: Mapping[str, Any], nested: Mapping[str, str]) -> Offer:
    """The tools that `tool_choice` leaves."""
    choice = fields.get("tool_choice")
    parallel = fields.get("parallel_tool_calls") is not False
    if choice is None or choice == "auto":
        return Offer(tools=tools, parallel=parallel)
    if isinstance(choice, str):
        _checks.one_of("none", "auto", "required")("tool_choice", choice)
        return Offer(tools=tools if choice == "required" else (), must=choice == "required", parallel=parallel)
    if not isinstance(choice, dict):
        raise MODERN.wrong_type("tool_choice", choice, "string", "object")
    kind = _kind("tool_choice", choice, (*_choosable(nested), "allowed_tools"))
    if kind == "allowed_tools":
        return _allowed(tools, choice, nested, parallel)
    if kind not in nested:
        return Offer(parallel=parallel)
    return Offer(tools=[_chosen(tools, "tool_choice", choice, nested[kind])], must=True, named=True, parallel=parallel)


def _choosable(nested: Mapping[str, str]) -> Sequence[str]:
    """The types of tools that a choice can name: in POST /responses also those of the service."""
    return (*nested, *(() if nested["function"] else _BUILT_IN))


def _chosen(tools: Sequence[Tool], name: str, choice: Any, member: str) -> Tool:
    """The tool that a choice names, in its `member` or, where that is empty, itself."""
    _checks.object(name, choice)
    if member:
        if member not in choice:
            raise MODERN.missing(f"{name}.{member}")
        name, choice = f"{name}.{member}", choice[member]
        _checks.object(name, choice)
    if "name" not in choice:
        raise MODERN.missing(f"{name}.name")
    _NAMED(name, {"name": choice["name"]})
    for tool in tools:
        if tool.name == choice["name"]:
            return tool
    raise _not_found(choice["name"])


def _allowed(tools: Sequence[Tool], choice: Mapping[str, Any], nested: Mapping[str, str], parallel: bool) -> Offer:
    name, allowed = "tool_choice", choice
    if nested["function"]:
        if "allowed_tools" not in choice:
            raise MODERN.missing("tool_choice.allowed_tools")
        name, allowed = "tool_choice.allowed_tools", choice["allowed_tools"]
    known = {"type": _checks.string(), "mode": _checks.one_of("auto", "required"), "tools": _checks.array()}
    _checks.members(known, ("mode", "tools"))(name, allowed)
    kept = []
    for index, each in enumerate(allowed["tools"]):
        path = f"{name}.tools[{index}]"
        _checks.object(path, each)
        kind = _kind(path, each, _choosable(nested))
        if kind in nested:
            kept.append(_chosen(tools, path, each, nested[kind]))
    return Offer(tools=kept, must=allowed["mode"] == "required", parallel=parallel)


def _not_found(choice: Any) -> Refusal:
    shown = choice if isinstance(choice, str) else msgspec.json.encode(choice).decode()
    return Refusal(400, f"Tool choice '{shown}' not found in 'tools' parameter.", param="tool_choice")


def _legacy(fields: Mapping[str, Any]) -> Offer:
    """`functions` and `function_call`, as they were before there were tools."""
    if fields.get("functions") is None:
        message = "Invalid value for 'function_call': 'function_call' is only allowed when 'functions' are specified."
        raise Refusal(400, message, param="function_call")
    _checks.array(1, _MOST_TOOLS, _FUNCTION)("functions", fields["functions"])
    tools = [
        _function(f"functions[{index}].parameters", function, False)
        for index, function in enumerate(fields["functions"])
    ]
    choice = fields.get("function_call")
    if choice is None or choice == "auto":
        return Offer(tools=tools, legacy=True)
    if isinstance(choice, str):
        _checks.one_of("none", "auto")("function_call", choice)
        return Offer(legacy=True)
    _NAMED("function_call", choice)
    named = [tool for tool in tools if tool.name == choice["name"]]
    if not named:
        message = (
            f"Invalid value for 'function_call': no function named {choice['name']} was specified in the 'functions' "
            "parameter."
        )
        raise Refusal(400, message, param="function_call")
    return Offer(tools=named, must=True, named=True, legacy=True)
