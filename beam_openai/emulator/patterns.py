"""A text that matches a regular expression: of what JSON schemas use of them, all but what looks around or back."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

_Maker = Callable[[random.Random], str]

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"
_ANY = [*_LETTERS, *_LETTERS.upper(), *_DIGITS, *" -_.,:;!?/@#%&+=*~'\"()<>"]
_CLASSES = {
    "d": [*_DIGITS],
    "D": [*_LETTERS],
    "w": [*_LETTERS, *_DIGITS, "_"],
    "W": [*" -.,"],
    "s": [" "],
    "S": [*_LETTERS, *_DIGITS],
}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}
_REPEATS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_MOST = 1000
_MORE = 3  # times that something without an end is repeated beyond what it must


def matching(pattern: str, chance: random.Random) -> str:
    """A text in which `re.search` finds the pattern.

    Raises:
        ValueError: it is no regular expression, or one that this module cannot write for.
    """
    try:
        found = re.compile(pattern).search
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    for _ in range(20):
        text = _Reader(pattern).read()(chance)
        if found(text):
            return text
    raise ValueError(f"no text was found for {pattern!r}")


@dataclass
class _Reader:
    """Reads a pattern into a function that writes a text; each method reads on from `at`."""

    pattern: str
    at: int = 0

    def read(self) -> _Maker:
        branches = [self._sequence()]
        while self._next("|"):
            branches.append(self._sequence())
        return lambda chance: branches[int(chance.random() * len(branches))](chance)

    def _next(self, wanted: str) -> bool:
        if self.pattern.startswith(wanted, self.at):
            self.at += len(wanted)
            return True
        return False

    def _take(self) -> str:
        self.at += 1
        return self.pattern[self.at - 1]

    def _sequence(self) -> _Maker:
        parts: list[_Maker] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            parts.append(self._repeated(self._atom()))
        return lambda chance: "".join(part(chance) for part in parts)

    def _repeated(self, atom: _Maker) -> _Maker:
        low, high = 1, 1
        if self.at < len(self.pattern) and self.pattern[self.at] in _REPEATS:
            low, most = _REPEATS[self._take()]
            high = low + _MORE if most is None else most
        elif found := re.compile(r"\{(\d+)(,?)(\d*)\}").match(self.pattern, self.at):
            self.at = found.end()
            low = int(found[1])
            high = int(found[3]) if found[3] else low + _MORE if found[2] else low
        else:
            return atom
        if high > _MOST:
            raise ValueError(f"more than {_MOST} times is too often to write: {self.pattern!r}")
        _ = self._next("?") or self._next("+")  # lazy or possessive: it matches the same texts
        return lambda chance: "".join(atom(chance) for _ in range(low + int(chance.random() * (high - low + 1))))

    def _atom(self) -> _Maker:
        character = self._take()
        if character == "(":
            return self._group()
        if character == "[":
            return _one_of(self._set())
        if character == "\\":
            return _one_of(self._escape())
        if character in "^$":
            return lambda chance: ""
        return _one_of(_ANY if character == "." else [character])

    def _group(self) -> _Maker:
        if self._next("?"):
            named = re.compile(r"P?<[A-Za-z_]\w*>|:").match(self.pattern, self.at)
            if not named:
                raise ValueError(f"what looks around or back cannot be written for: {self.pattern!r}")
            self.at = named.end()
        inner = self.read()
        self._next(")")
        return inner

    def _set(self) -> list[str]:
        negated = self._next("^")
        found: list[str] = []
        first = True
        while first or not self._next("]"):
            first = False
            characters = self._escape() if self._next("\\") else [self._take()]
            if len(characters) == 1 and re.compile(r"-[^\]]").match(self.pattern, self.at):
                self.at += 1
                last = self._escape() if self._next("\\") else [self._take()]
                characters = [chr(code) for code in range(ord(characters[0]), ord(last[0]) + 1)]
            found += characters
        return [each for each in _ANY if each not in found] if negated else found

    def _escape(self) -> list[str]:
        character = self._take()
        if character in _CLASSES:
            return _CLASSES[character]
        if character in "bBAZz":
            return [""]
        if character in "xu":
            size = 2 if character == "x" else 4
            self.at += size
            return [chr(int(self.pattern[self.at - size : self.at], 16))]
        if character.isdigit() and character != "0":
            raise ValueError(f"what looks back cannot be written for: {self.pattern!r}")
        return [_ESCAPES.get(character, character)]


def _one_of(characters: list[str]) -> _Maker:
    if not characters:
        raise ValueError("no character is left to write")
    return lambda chance: characters[int(chance.random() * len(characters))]
