"""What an example for fine-tuning must be like, by OpenAI's guides and API reference. Pure.

There are three forms: `chat` (messages, the last one the assistant's), `completion` (a prompt and its completion: the models
of 2022, davinci-002 and babbage-002) and `preference` (an input, and two answers to it, one of them preferred: DPO).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from beam_openai.training_data.messages import BrokenRule, check_messages, check_tools, parts_of

FORMS: Mapping[str, tuple[str, ...]] = {
    "chat": ("messages", "tools", "parallel_tool_calls", "functions"),
    "completion": ("prompt", "completion"),
    "preference": ("input", "preferred_output", "non_preferred_output"),
}
"""The keys of an example of each form; the first is what the form is told by."""


def check(form: str, example: Mapping[str, Any]) -> None:
    """Refuses an example that OpenAI would refuse, or cut, or train on in vain.

    Raises:
      BrokenRule: the first rule that it breaks.
    """
    if form == "completion":
        _check_completion(example)
    elif form == "preference":
        _check_preference(example)
    else:
        check_messages(example.get("messages"), "messages")
        _check_ending(example["messages"])
        check_tools(example)


# A prompt and its completion


def _check_completion(example: Mapping[str, Any]) -> None:
    for name in ("prompt", "completion"):
        if not isinstance(example.get(name), str):
            raise BrokenRule(name, f"{name} is not a text")
    if not example["completion"]:
        raise BrokenRule("completion", "completion is empty: there is nothing to learn")


# Messages


def _check_ending(messages: list[Mapping[str, Any]]) -> None:
    said = [message for message in messages if message["role"] == "assistant"]
    if not said:
        raise BrokenRule("assistant", "no message is the assistant's: there is nothing to learn")
    if messages[-1]["role"] != "assistant":
        raise BrokenRule("last_message", f"the last message is of the role {messages[-1]['role']}, not the assistant's")
    if all(message.get("weight") == 0 for message in said):
        raise BrokenRule("weight", "all messages of the assistant have weight 0: there is nothing to learn")


# Two answers


def _check_preference(example: Mapping[str, Any]) -> None:
    asked = example.get("input")
    if not isinstance(asked, Mapping):
        raise BrokenRule("input", "input is not an object with messages")
    if unknown := asked.keys() - set(FORMS["chat"]):
        raise BrokenRule("key", f"input has {min(unknown)!r}, which it cannot have")
    check_messages(asked.get("messages"), "input.messages")
    check_tools(asked)
    for name in ("preferred_output", "non_preferred_output"):
        _check_output(example.get(name), name)
    if any(part["type"] == "image_url" for message in asked["messages"] for part in parts_of(message)):
        raise BrokenRule("images", "input.messages has images, where only text can be compared")
    if example["preferred_output"] == example["non_preferred_output"]:
        raise BrokenRule("outputs", "the two outputs are the same: there is nothing to learn")


def _check_output(output: Any, name: str) -> None:
    check_messages(output, name)
    if len(output) != 1 or output[0]["role"] != "assistant":
        raise BrokenRule("outputs", f"{name} is not one message of the assistant's")


# What it will cost

_MESSAGE_TOKENS, _NAME_TOKENS, _ANSWER_TOKENS, _IMAGE_TOKENS = 3, 1, 3, 765


def text_in(example: Any) -> str:
    """All that is said in an example, one after another; images are not."""
    return "".join(_said(example))


def _said(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _said(item)
    elif isinstance(value, Mapping) and value.get("type") != "image_url":
        for item in value.values():
            yield from _said(item)


def tokens_beside(example: Mapping[str, Any]) -> int:
    """Tokens of an example beside its texts: what frames its messages, and its images."""
    asked = example.get("input") or example
    messages = [*(asked.get("messages") or ()), *(example.get("preferred_output") or ())]
    messages += example.get("non_preferred_output") or ()
    if not messages:
        return 0
    named = sum(message.get("name") is not None for message in messages)
    images = sum(part["type"] == "image_url" for message in messages for part in parts_of(message))
    return len(messages) * _MESSAGE_TOKENS + named * _NAME_TOKENS + _ANSWER_TOKENS + images * _IMAGE_TOKENS
