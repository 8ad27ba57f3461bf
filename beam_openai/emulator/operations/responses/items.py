"""The input of POST /responses: a text, or items that are checked one by one, and what of them the answer rests on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from ...parameters import Parameters
from ...replies import Refusal
from ...texts import count_tokens
from ...wording import MODERN
from .shapes import ITEMS, check_type, read_parts

PER_ITEM, PRIMING = 3, 3
"""Tokens beside those of the texts."""
_checks = Parameters(MODERN)


@dataclass
class Input:
    """What was said, in this request and in those before it: as a chat's `Conversation`.

    `open` are the ids of calls that no tool has answered yet.
    """

    texts: list[str] = field(default_factory=list)
    last_user: str | None = None
    tokens: int = PRIMING
    tokens_before: int = 0
    answered: bool = False
    open: set[str] = field(default_factory=set)

    @property
    def last(self) -> str:
        """The user's last words; the last words of all where no user said any."""
        if self.last_user is not None:
            return self.last_user
        return self.texts[-1] if self.texts else ""

    def copy(self) -> Input:
        """Another one, to go on from here."""
        return replace(self, texts=[*self.texts], open={*self.open})

    def say(self, texts: list[str], tokens: int) -> None:
        """One item more."""
        self.tokens_before = self.tokens
        self.texts += texts
        self.tokens += tokens


class Reader:
    """Reads items into an input.

    Args:
        bytes_per_token: of a text.
        known: the ids of items that were stored.
    """

    def __init__(self, bytes_per_token: float, known: Mapping[str, Any]) -> None:
        self._size = bytes_per_token
        self._known = known

    def read(self, given: Any, said: Input) -> None:
        """Checks `input`, and adds it.

        Raises:
            Refusal: an item cannot be.
        """
        if type(given) is str:
            given = [{"role": "user", "content": given}]
        elif type(given) is not list:
            raise MODERN.wrong_type("input", given, "string", "array of input items")
        for index, item in enumerate(given):
            self._item(f"input[{index}]", item, said)
        if said.open:
            raise Refusal(400, f"No tool output found for function call {sorted(said.open)[0]}.", param="input")

    def _item(self, name: str, item: Any, said: Input) -> None:
        _checks.object(name, item)
        kind = item.get("type") or ("message" if "role" in item else "item_reference" if set(item) == {"id"} else None)
        if kind is None:
            raise MODERN.missing(f"{name}.type")
        check_type(f"{name}.type", kind)
        if kind in ITEMS:
            ITEMS[kind](name, item)
        said.answered = kind.endswith("_output")
        if kind == "message":
            self._message(name, item, said)
        elif kind == "item_reference":
            self._reference(item["id"], said)
        else:
            self._call(kind, item, said)
            self._say(list(_texts_of(kind, item)), said)

    def add(self, items: Iterable[Mapping[str, Any]], said: Input) -> None:
        """Adds items that a response put out."""
        for item in items:
            self._call(item["type"], item, said)
            self._say(list(_texts_of(item["type"], item)), said)

    def _say(self, texts: list[str], said: Input, more: int = 0) -> None:
        said.say(texts, PER_ITEM + more + sum(count_tokens(text, self._size) for text in texts if text))

    def _message(self, name: str, message: Mapping[str, Any], said: Input) -> None:
        content = message["content"]
        if type(content) is str:
            texts, more = [content], 0
        elif type(content) is list:
            texts, more = read_parts(f"{name}.content", content, message["role"])
        else:
            raise MODERN.wrong_type(f"{name}.content", content, "string", "array of objects")
        if message["role"] == "user":
            said.last_user = " ".join(texts)
        self._say(texts, said, more)

    def _reference(self, item_id: str, said: Input) -> None:
        if item_id not in self._known:
            message = (
                f"Item with id '{item_id}' not found. Items are not persisted when `store` is set to false. Try again "
                "with `store` set to true, or remove this item from your input."
            )
            raise Refusal(404, message, param="input")
        self.add([self._known[item_id]], said)

    def _call(self, kind: str, item: Mapping[str, Any], said: Input) -> None:
        """Calls wait for an answer; an answer must have been waited for."""
        if kind in ("function_call", "custom_tool_call"):
            said.open.add(item["call_id"])
        elif kind in ("function_call_output", "custom_tool_call_output"):
            if item["call_id"] not in said.open:
                message = f"No tool call found for function call output with call_id {item['call_id']}."
                raise Refusal(400, message, param="input")
            said.open.remove(item["call_id"])


def _texts_of(kind: str, item: Mapping[str, Any]) -> Iterator[str]:
    """The texts of an item that is no message of this request."""
    if kind == "message":
        yield from (part.get("text", part.get("refusal", "")) for part in item["content"])
    elif kind.startswith(("function_call", "custom_tool_call")):
        values = [item[key] for key in ("name", "arguments", "input", "output") if item.get(key) is not None]
        yield from (each if isinstance(each, str) else msgspec.json.encode(each).decode() for each in values)
    elif kind == "reasoning":
        yield from (part.get("text", "") for part in item["summary"])
    else:
        yield msgspec.json.encode(item).decode()
