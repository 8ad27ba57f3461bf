"""How a command that went wrong ends: one line in its user's words, and a traceback where it is asked for."""

from __future__ import annotations

import re
import sys
import traceback
import types
from collections.abc import Mapping

from beam_openai.cli.showing import printable

_TOLD = r"(?:(?<=heck )|(?<=set )|(?<=raise )|(?<=leave )|(?<=, and ))"
_NO_FLAGS: Mapping[str, str] = types.MappingProxyType({})


def fail(program: str, error: BaseException, debug: bool, status: int, flags: Mapping[str, str] = _NO_FLAGS) -> int:
    """Says what went wrong on standard error; returns the exit status.

    Args:
      program: what the line begins with.
      error: what went wrong.
      debug: whether the traceback comes first.
      status: the exit status.
      flags: what the options that the line may name are called on the command line: `{"output": "--output-column"}`.
    """
    if debug:
        traceback.print_exception(type(error), error, error.__traceback__)
    print(f"{program}: {in_flags(one_line(error), flags)}", file=sys.stderr)
    return status


def one_line(error: BaseException) -> str:
    """What went wrong, without the traceback that a runner puts into its message."""
    # Of a KeyError `str` is Python's spelling of its message.
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error) or type(error).__name__
    last = list(re.finditer(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Exit)): ", text, re.MULTILINE))
    if "Traceback (most recent call last)" in text and last:
        text = text[last[-1].end() :]
    text = re.sub(r"\s*\[while running '[^']*'\]", "", text)
    return printable(" ".join(text.split()))


def in_flags(text: str, flags: Mapping[str, str]) -> str:
    """The same with flags where an option is named as Python has it.

    Named so are `output=` and `output={...}`, `Retry.attempts`, `Retry(attempts=6)` and `API(key=...)`, `model` in
    backticks, what a message begins with, "n must be ...", and, if it is of several words, what it says to check, set, raise
    or leave. Elsewhere a name may be a word, a column's, or the server's.
    """
    if not flags:
        return text
    names = "|".join(map(re.escape, flags))
    several_words = "|".join(re.escape(name) for name in flags if "_" in name)
    spelled = (
        rf"\b(?:API|Quota|Retry)\((?P<set>{names})=(?P<to>[\w.]*\w)\)",
        rf"\b(?:API|Quota|Retry)[.(](?P<policy>{names})\b(?:=\.\.\.\))?",
        rf"`(?P<quoted>{names})`",
        rf"\A(?P<first>{names})(?= must\b| needs\b|: )",
        rf"(?:\A|(?<=[\s(]))(?P<given>{names})=(?:True\b)?(?: \(--[\w-]+\))?(?P<value>(?=[^\s),;:]))?",
        *([rf"{_TOLD}(?P<told>{several_words})\b"] if several_words else []),
    )
    return re.sub("|".join(spelled), lambda found: _flag(found, flags), text)


def _flag(found: re.Match[str], flags: Mapping[str, str]) -> str:
    kinds = found.groupdict()
    is_with_value, to = kinds.pop("value") is not None, kinds.pop("to")
    name = next(filter(None, kinds.values()))
    return flags[name] + (f" {to}" if to else " " if is_with_value else "")
