"""The lines of a file that was uploaded for search, answers or classifications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from .files import File
from .jsonl import cut, lines
from .replies import Refusal
from .state import State


def file_of(state: State, fields: Mapping[str, Any], purpose: str, instead: str) -> File | None:
    """The file that a request names, or None where it has `instead` what would be in it.

    Raises:
        Refusal: it has both or neither; 404 for a file that is not there, 400 for one of another purpose.
    """
    named, given = fields.get("file"), fields.get(instead)
    if (named is None) == (given is None):
        raise Refusal(400, f"You should specify either `{instead}` or a `file`, but not both.")
    if named is None:
        return None
    file = state.files.get(named, "file")
    if file.purpose != purpose:
        message = f"File {named} has the purpose '{file.purpose}'; one with the purpose '{purpose}' is needed."
        raise Refusal(400, message, param="file")
    return file


def records(file: File) -> Sequence[dict[str, Any]]:
    """Its lines: they were looked at when the file was uploaded."""
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    return [decode(line) for line in lines(cut(memoryview(file.data)))]
