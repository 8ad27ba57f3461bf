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
from typing import Any


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
            **_reader(hints[field.name]),
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


def _reader(hint: Any) -> dict[str, Any]:
    """How argparse reads a value of this type; where None may be meant, it is written `none`."""
    options = [hint]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = list(typing.get_args(hint))
    optional = type(None) in options
    kind = next((option for option in options if option is not type(None)), str)
    if typing.get_origin(kind) is typing.Literal:
        choices = [*typing.get_args(kind), *(["none"] if optional else [])]
        return {"choices": choices} if not optional else {"type": _or_none(str, choices), "metavar": "|".join(choices)}
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(kind) in (dict, list) or kind in (dict, list):
        return {"type": _json, "metavar": "JSON"}
    reads = kind if kind in (int, float) else str
    return {"type": reads, "metavar": {int: "N", float: "X"}.get(reads, "TEXT")}


def _or_none(kind: type, choices: list[str]) -> Any:
    def read(text: str) -> Any:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(choices)}")
        return None if text == "none" else kind(text)

    return read


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
