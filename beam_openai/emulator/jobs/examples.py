"""The examples of a training file: how many there are, and whether they can be used.

The marker FAIL-TRAINING in any of them makes the training fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..jsonl import lines

_FAILS = b"FAIL-TRAINING"


@dataclass(kw_only=True)
class Examples:
    """A file's examples: `wrong` says what is amiss with the first that cannot be used."""

    count: int = 0
    size: int = 0
    fail: bool = False
    wrong: str | None = None


def read_examples(pieces: Iterable[bytes], wrong: Callable[[Any], str | None]) -> Examples:
    """Looks at every example.

    Args:
        pieces: of the file.
        wrong: what is amiss with an example's JSON value, or None.
    """
    examples = Examples()
    decode = msgspec.json.Decoder().decode
    for line in lines(pieces):
        examples.count += 1
        examples.size += len(line)
        examples.fail |= _FAILS in line
        try:
            amiss = wrong(decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            amiss = "not valid JSON"
        if amiss is not None and examples.wrong is None:
            examples.wrong = f"line {examples.count}: {amiss}"
    return examples


def wrong_completion(example: Any) -> str | None:
    """What is amiss with an example that is to have a prompt and its completion."""
    texts = [example.get(key) for key in ("prompt", "completion")] if isinstance(example, dict) else []
    if texts and all(isinstance(text, str) for text in texts):
        return None
    return "expected prompt/completion keys with texts"


_SHAPES: dict[str, Mapping[str, type]] = {
    "dpo": {"input": dict, "preferred_output": list, "non_preferred_output": list},
    "reinforcement": {"messages": list},
}


def wrong_example(method: str, example: Any) -> str | None:
    """What is amiss with an example for a method: of chat or completion, of two answers, or of a task."""
    if not isinstance(example, dict):
        return "expected a JSON object"
    if method == "supervised":
        return _wrong_messages(example.get("messages")) if wrong_completion(example) else None
    for key, kind in _SHAPES[method].items():
        if not isinstance(example.get(key), kind):
            return f"expected '{key}' for the method {method}"
    return None


def _wrong_messages(messages: Any) -> str | None:
    if not isinstance(messages, list) or not messages:
        return "expected either prompt/completion pairs or chat messages"
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return f"message {index} Discriminator 'role' is missing in value"
    if not any(message["role"] == "assistant" for message in messages):
        return "expected a message of the role 'assistant'"
    return None
