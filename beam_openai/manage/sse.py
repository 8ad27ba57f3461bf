"""Server-sent events, out of the bytes of a stream.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Event(NamedTuple):
    """One event; `data` its lines, joined by line feeds."""

    data: str
    event: str | None = None
    id: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether it is the mark that nothing more follows: `[DONE]`."""
        return self.data.startswith("[DONE]")


def events(pieces: Iterable[bytes]) -> Iterator[Event]:
    """The events of a stream that is cut into pieces anywhere, in the middle of a character too.

    Ends after `[DONE]`, which is the last event given: where there is none, the stream was broken off, and the event that
    was under way then is dropped.
    """
    fields: dict[str, str] = {}
    data: list[str] = []
    for line in _lines(pieces):
        if not line:
            if data:
                event = Event("\n".join(data), fields.get("event"), fields.get("id"))
                yield event
                if event.is_done:
                    return
            data = []
            fields.pop("event", None)  # an id holds until there is another
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name:  # a line that begins with a colon is a comment
            fields[name] = value


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Whole lines, which end with LF, CR or CRLF."""
    decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
    rest, after_cr = "", False
    for piece in pieces:
        text = decode(piece)
        if after_cr and text:
            text = text.removeprefix("\n")
            after_cr = False
        if text.endswith("\r"):
            after_cr = True
        *lines, rest = (rest + text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
        yield from lines
