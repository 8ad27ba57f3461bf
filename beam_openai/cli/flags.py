"""Command-line flags out of dataclasses: their fields are the flags, their docstrings the help."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from beam_openai.options import Column


def add_flags(
    parser: argparse._ActionsContainer,
    kind: type,
    rename: Mapping[str, str | None] = types.MappingProxyType({}),
) -> dict[str, str]:
    """Adds a flag for each field of a dataclass, with dashes for underscores.

    Args:
      parser: a parser or a group of one.
      kind: a dataclass; the help is in its docstring's (and its bases') section `Attributes:`.
      rename: other names for fields, without dashes before; None leaves a field out.

    Returns:
      The field of each name that the parsed arguments have.
    """
    helps, hints, fields = _helps(kind), typing.get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        name = rename.get(field.name, field.name.replace("_", "-"))
        if name is None or not field.init:
            continue
        destination = name.replace("-", "_")
        fields[destination] = field.name
        parser.add_argument(
            f"--{name}",
            dest=destination,
            default=argparse.SUPPRESS,
            required=field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
            help=_help(helps.get(field.name, ""), field),
            **_reader(hints[field.name], field.default),
        )
    return fields


def chosen(arguments: argparse.Namespace, fields: Mapping[str, str]) -> dict[str, Any]:
    """The fields that flags were given for, and their values."""
    return {field: getattr(arguments, name) for name, field in fields.items() if hasattr(arguments, name)}


def _helps(kind: type) -> dict[str, str]:
    """`name: text` of the section Attributes, for each name that a line has before its colon."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        lines = inspect.cleandoc(base.__dict__.get("__doc__") or "").split("\n")
        names: list[str] = []
        for line in _section(lines, "Attributes:"):
            if started := re.match(r"  (\w+(?:, \w+)*): (.*)", line):
                names = started.group(1).split(", ")
                found.update(dict.fromkeys(names, started.group(2).strip()))
            elif names:
                found.update({name: f"{found[name]} {line.strip()}" for name in names})
    return found


def _section(lines: list[str], title: str) -> list[str]:
    if title not in lines:
        return []
    rest = lines[lines.index(title) + 1 :]
    end = next((at for at, line in enumerate(rest) if line and not line.startswith(" ")), len(rest))
    return [line for line in rest[:end] if line.strip()]


def _help(text: str, field: dataclasses.Field[Any]) -> str:
    default = field.default
    if default not in (dataclasses.MISSING, None) and "default" not in text.lower():
        text = f"{text.rstrip('.')} (default: {default})"
    return text.replace("%", "%%")


def _reader(hint: Any, default: Any) -> dict[str, Any]:
    """How argparse reads a value of this type.

    Where None may be meant and is not the default it is written `none`, where a column `column(NAME)`; JSON may stand in
    a file, `@FILE`.
    """
    options = list(typing.get_args(hint)) if typing.get_origin(hint) in (typing.Union, types.UnionType) else [hint]
    if options == [bool] or set(options) == {bool, type(None)}:
        return {"action": argparse.BooleanOptionalAction}
    choices = next((typing.get_args(kind) for kind in options if typing.get_origin(kind) is typing.Literal), None)
    if choices and len(options) == 1:
        return {"choices": choices}
    kinds = [typing.get_origin(kind) or kind for kind in options]
    reads = next((kind for kind in kinds if kind in (bool, int, float, str)), None)
    json_kinds = [kind for kind, plain in zip(options, kinds) if plain in (list, dict, Mapping, Any)]
    may_be_none = type(None) in kinds and (bool(choices) or isinstance(default, str))
    names = {None: "JSON", int: "N", float: "X"}
    shown = "|".join([*(choices or [names.get(reads, "TEXT")]), *(["none"] if may_be_none else [])])
    return {"type": _Value(reads, choices, json_kinds, may_be_none, Column in kinds), "metavar": shown}


class _Value:
    """Reads one value from the command line."""

    def __init__(
        self, reads: Any, choices: tuple[Any, ...] | None, json_kinds: list[Any], may_be_none: bool, may_be_column: bool
    ) -> None:
        self._reads = reads
        self._choices = choices
        self._json_kinds = json_kinds
        self._may_be_none = may_be_none
        self._may_be_column = may_be_column

    def __call__(self, text: str) -> Any:
        if self._may_be_none and text == "none":
            return None
        if self._may_be_column and (named := re.fullmatch(r"column\((.+)\)", text)):
            return Column(named.group(1).strip("\"'"))
        if self._choices:
            if text not in self._choices:
                known = [*self._choices, *(["none"] if self._may_be_none else [])]
                raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(known)}")
            return text
        if self._json_kinds and (self._reads is None or text.startswith(("[", "{", "@"))):
            return self._checked(_json(text))
        try:
            return (self._reads or str)(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"not {_KINDS[self._reads]}: {text!r}") from None

    def _checked(self, value: Any) -> Any:
        if Any not in self._json_kinds:
            try:
                msgspec.convert(value, typing.Union[tuple(self._json_kinds)])  # noqa: UP007 - of a list
            except msgspec.ValidationError as error:
                # Its words for kinds, `array` and `object`, are those of JSON.
                raise argparse.ArgumentTypeError(str(error).replace("`", "")) from None
        return value


_KINDS = {int: "a whole number", float: "a number"}


def _json(text: str) -> Any:
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise argparse.ArgumentTypeError(f"the file {text[1:]!r} cannot be read: {error}") from None
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
