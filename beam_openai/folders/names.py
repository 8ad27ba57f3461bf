"""What files are called: safely, and no two alike. Pure."""

from __future__ import annotations

import collections
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

_LONGEST_NAME = 180
"""Bytes of a name, before what is put behind it: filesystems take 255."""
_UNSAFE = frozenset('\\/:*?"<>|')
_IMAGES = ("png", "jpg", "jpeg", "gif", "webp")
_SOUNDS = ("wav", "mp3", "mpga", "mpeg", "mp4", "m4a", "aac", "flac", "ogg", "oga", "opus", "webm", "pcm")
_ENDINGS = frozenset([*_IMAGES, *_SOUNDS, "bin"])
"""What a name may end with that is not kept: the bytes tell what they are."""


class Row(NamedTuple):
    """The files of one row: what they are to be called together, what ends each one's name, and where they are now."""

    stem: str
    endings: tuple[str, ...]
    paths: tuple[str, ...]


def safe(name: Any) -> str:
    """What a file may be called that belongs to a row of this name, without what ends it."""
    text = str(name, "utf-8", "replace") if isinstance(name, bytes) else "" if name is None else str(name)
    stem, point, ending = text.rpartition(".")
    if point and ending.lower() in _ENDINGS:
        text = stem
    letters = (letter if letter.isprintable() and letter not in _UNSAFE else "_" for letter in text)
    kept = unicodedata.normalize("NFC", "".join(letters)).strip(" .")
    kept = kept.encode()[:_LONGEST_NAME].decode("utf-8", "ignore").rstrip(" .")
    return kept or "unnamed"


def names_of(rows: Sequence[Row], taken: Iterable[str] = ()) -> list[str]:
    """The names of all files: no two alike, nor as those `taken`, even where upper and lower case are one."""
    taken = {name.casefold() for name in taken}
    stems: list[str | None] = []
    for row in rows:
        # All plain names first, so that `cat~2` is called so where a row is.
        stems.append(row.stem if _take(row, row.stem, taken) else None)
    numbers: dict[str, int] = collections.defaultdict(lambda: 2)
    for at, row in enumerate(rows):
        while stems[at] is None:
            stem = f"{row.stem}~{numbers[row.stem]}"
            stems[at] = stem if _take(row, stem, taken) else None
            numbers[row.stem] += 1
    return [f"{stem}{ending}" for stem, row in zip(stems, rows, strict=True) for ending in row.endings]


def _take(row: Row, stem: str, taken: set[str]) -> bool:
    """Takes the names, if all are free."""
    names = {f"{stem}{ending}".casefold() for ending in row.endings}
    if names & taken:
        return False
    taken |= names
    return True
