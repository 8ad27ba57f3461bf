"""JSON Lines that are uploaded for a purpose: what the service looks for in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from .blobs import PIECE
from .replies import Refusal

CHECKED = ("fine-tune", "search", "answers", "classifications")
"""Purposes whose files are looked at when they are uploaded."""
_KEYS = {
    "search": (("text",), "text key and (optional) metadata key"),
    "answers": (("text",), "text key and (optional) metadata key"),
    "classifications": (("text", "label"), "text/label and (optional) metadata keys"),
}
_HINT = 3  # characters of a line


def check_lines(pieces: Iterable[bytes], purpose: str) -> None:
    """Looks at a file for one of the purposes `CHECKED`.

    Raises:
        Refusal: 400, a line is no JSON object, or lacks a key.
    """
    keys, named = _KEYS.get(purpose, ((), ""))
    decode = msgspec.json.Decoder().decode
    for number, line in enumerate(lines(pieces), 1):
        try:
            record = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            record = None
        if not isinstance(record, dict):
            start = line[: 4 * _HINT].decode("utf-8", "replace")[:_HINT]
            raise Refusal(
                400,
                "Expected file to have JSONL format, where every line is a JSON dictionary. Line "
                f'{number} is not a dictionary (HINT: line starts with: "{start}...").',
            )
        if not all(isinstance(record.get(key), str) for key in keys):
            message = f"Expected file to have JSONL format with {named}. Invalid format on line {number}."
            raise Refusal(400, message)


def lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a text that comes in pieces, without their ends; the last needs no end."""
    begun: list[bytes] = []
    for piece in pieces:
        end, *others = piece.split(b"\n")
        begun.append(end)
        for start in others:
            yield b"".join(begun)
            begun = [start]
    if any(begun):
        yield b"".join(begun)


def cut(view: memoryview) -> Iterator[bytes]:
    """What lies in memory, a quarter of a megabyte at a time."""
    for at in range(0, len(view), PIECE):
        yield bytes(view[at : at + PIECE])
