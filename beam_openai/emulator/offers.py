"""Tools that may be called, and which of them the model calls.

One is called when it must be (`tool_choice` is "required" or names one), or when the last text of the user has the
marker CALL-TOOL; as many at once as the marker stands there, unless `parallel_tool_calls` is false.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .schemas import fitting
from .writing import compose

MARKER = "CALL-TOOL"
_MOST_CALLS = 8


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One tool. A custom one takes a text, a function the JSON that its `parameters` describe."""

    name: str
    custom: bool = False
    parameters: Any = field(default=True, hash=False)

    def argument(self, seed: str) -> str:
        """What it is called with."""
        if self.custom:
            return compose(seed)
        return msgspec.json.encode(fitting(self.parameters, seed)).decode()


@dataclass(frozen=True, kw_only=True)
class Offer:
    """The tools that may be called: one `must` be, or even one that is `named`.

    `legacy` are those of `functions`, of which one at most is called.
    """

    tools: Sequence[Tool] = ()
    must: bool = False
    named: bool = False
    parallel: bool = True
    legacy: bool = False

    def called(self, text: str, seed: str) -> list[Tool]:
        """The tools that are called in answer to the user's last `text`."""
        asked = text.count(MARKER)
        if not self.tools or not (self.must or asked):
            return []
        many = min(max(1, asked), _MOST_CALLS) if self.parallel and not self.legacy else 1
        first = zlib.crc32(seed.encode())
        return [self.tools[(first + index) % len(self.tools)] for index in range(many)]
