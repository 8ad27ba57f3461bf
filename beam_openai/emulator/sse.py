"""Server-sent events, and how they come over the wire: plainly, or as awkwardly as is allowed.

Awkward means what a real network and a real server may do at any time: an event comes in several
pieces, or several in one; a piece ends in the middle of a line, of its end, or of a character;
lines end with CRLF here and there; comments stand between events. It is drawn from a seed.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import msgspec

from .replies import Reply

STYLES = ("awkward", "plain")
DONE = b"data: [DONE]"
"""The last event of most streams."""

CONTENT_TYPE = "text/event-stream; charset=utf-8"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_MULTIBYTE = re.compile(rb"[\xc2-\xf4]")


def data(value: Any) -> bytes:
    """An event that is only data: `value` as JSON."""
    return b"data: " + msgspec.json.encode(value)


def named(value: dict[str, Any]) -> bytes:
    """An event that has the name of its `type`."""
    return b"event: %b\ndata: %b" % (value["type"].encode(), msgspec.json.encode(value))


def padding(chance: random.Random) -> str:
    """What is added to an event as `obfuscation`: of any length, so that the event's own tells nothing."""
    return "".join([_LETTERS[int(chance.random() * len(_LETTERS))] for _ in range(int(chance.random() * 16))])


def reply(events: Sequence[bytes], style: str, seed: int, tokens: int | None = None) -> Reply:
    """A reply that sends these events, one of `STYLES`."""
    pieces = awkward(events, random.Random(seed)) if style == "awkward" else plain(events)
    return Reply(content_type=CONTENT_TYPE, stream=_sent(pieces), tokens=tokens)


async def _sent(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        # So that a piece can reach its reader before the next one is written.
        await asyncio.sleep(0)


def plain(events: Sequence[bytes]) -> list[bytes]:
    """Each event in a piece of its own, all lines ended with LF."""
    return [event + b"\n\n" for event in events]


def awkward(events: Sequence[bytes], chance: random.Random) -> list[bytes]:
    """The same events, cut where nobody would."""
    wire = b"".join(_lines(events, chance))
    cuts = set(_cuts(len(wire), len(wire) // max(1, len(events)), chance))
    character = _MULTIBYTE.search(wire)
    if character:
        cuts.add(character.start() + 1)
    ends = [*sorted(cuts), len(wire)]
    return [wire[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]


def _lines(events: Sequence[bytes], chance: random.Random) -> Iterator[bytes]:
    for event in events:
        end = b"\r\n" if chance.random() < 0.25 else b"\n"
        if chance.random() < 0.125:
            yield b": keep-alive" + end + end
        yield event.replace(b"\n", end) + end + end


def _cuts(size: int, event: int, chance: random.Random) -> Iterator[int]:
    """Where pieces end: after a few bytes, within an event's length, or after several events."""
    at = 0
    while at < size:
        at += 1 + int(chance.random() * chance.choice((8, event, 4 * event)))
        yield min(at, size)
