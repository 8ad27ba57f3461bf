"""A response as events: each has a name, and a number of its own; the last one tells how it ended."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from ... import sse
from ...writing import pieces

_IN_PROGRESS = ("response.created", "response.in_progress")
_ARGUMENTS = {
    "function_call": ("function_call_arguments", "arguments"),
    "custom_tool_call": ("custom_tool_call_input", "input"),
}
_PARTS = {"output_text": ("output_text", "text"), "refusal": ("refusal", "refusal")}


def events(
    begun: Mapping[str, Any], done: Mapping[str, Any], bytes_per_token: float, chance: random.Random | None
) -> Iterator[dict[str, Any]]:
    """All events of a response.

    Args:
        begun: the response before there is any output.
        done: the same in the end.
        chance: of the padding of what comes token by token; None for none.
    """
    for number, event in enumerate(_events(begun, done, bytes_per_token)):
        padded = {"obfuscation": sse.padding(chance)} if chance and event["type"].endswith(".delta") else {}
        yield {**event, "sequence_number": number, **padded}


def _events(begun: Mapping[str, Any], done: Mapping[str, Any], size: float) -> Iterator[dict[str, Any]]:
    for kind in _IN_PROGRESS:
        yield {"type": kind, "response": begun}
    for index, item in enumerate(done["output"]):
        yield {"type": "response.output_item.added", "output_index": index, "item": _empty(item)}
        place = {"item_id": item["id"], "output_index": index}
        if item["type"] == "message":
            for number, part in enumerate(item["content"]):
                yield from _said({**place, "content_index": number}, part, size)
        elif item["type"] == "reasoning":
            for number, part in enumerate(item["summary"]):
                yield from _summed({**place, "summary_index": number}, part, size)
        else:
            yield from _called(place, item, size)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{done['status']}", "response": done}


def _empty(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item before it has anything in it."""
    nothing: dict[str, Any] = {"content": [], "summary": [], "arguments": "", "input": "", "status": "in_progress"}
    return {key: nothing.get(key, value) for key, value in item.items()}


def _said(place: Mapping[str, Any], part: Mapping[str, Any], size: float) -> Iterator[dict[str, Any]]:
    """A text, token by token."""
    name, member = _PARTS[part["type"]]
    emptied = {**part, member: ""} | ({"logprobs": []} if "logprobs" in part else {})
    yield {"type": "response.content_part.added", **place, "part": emptied}
    for at, token in enumerate(pieces(part[member], size)):
        scores = {"logprobs": part["logprobs"][at : at + 1]} if "logprobs" in part else {}
        yield {"type": f"response.{name}.delta", **place, "delta": token, **scores}
    scores = {"logprobs": part["logprobs"]} if "logprobs" in part else {}
    yield {"type": f"response.{name}.done", **place, member: part[member], **scores}
    yield {"type": "response.content_part.done", **place, "part": part}


def _summed(place: Mapping[str, Any], part: Mapping[str, Any], size: float) -> Iterator[dict[str, Any]]:
    """A summary of thoughts, token by token."""
    yield {"type": "response.reasoning_summary_part.added", **place, "part": {**part, "text": ""}}
    for token in pieces(part["text"], size):
        yield {"type": "response.reasoning_summary_text.delta", **place, "delta": token}
    yield {"type": "response.reasoning_summary_text.done", **place, "text": part["text"]}
    yield {"type": "response.reasoning_summary_part.done", **place, "part": part}


def _called(place: Mapping[str, Any], item: Mapping[str, Any], size: float) -> Iterator[dict[str, Any]]:
    """A call's argument, token by token."""
    name, member = _ARGUMENTS[item["type"]]
    for token in pieces(item[member], size):
        yield {"type": f"response.{name}.delta", **place, "delta": token}
    named = {"name": item["name"]} if member == "arguments" else {}
    yield {"type": f"response.{name}.done", **place, member: item[member], **named}
