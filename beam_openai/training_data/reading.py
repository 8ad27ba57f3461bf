"""What a row holds, as an example for fine-tuning has it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pyarrow as pa

from beam_openai import texts
from beam_openai.training_data.messages import BrokenRule
from beam_openai.training_data.rules import FORMS, check


def form_of(names: Iterable[str], form: str | None = None) -> str:
    """The form of examples with these columns.

    Raises:
      ValueError: they are of none, or of several, and `form` does not say which.
    """
    names = set(names)
    found = [name for name, keys in FORMS.items() if keys[0] in names] if form is None else [form]
    if len(found) > 1:
        raise ValueError(f"the rows have the columns of {' and '.join(found)}: say which with form=")
    needed = {name: keys[:1] if name == "chat" else keys for name, keys in FORMS.items()}
    if not found or not names.issuperset(needed[found[0]]):
        wanted = " or ".join(", ".join(needed[name]) for name in (found or FORMS))
        raise ValueError(f"the rows have no columns {wanted}; they have: {', '.join(sorted(names)) or 'none'}")
    return found[0]


def example_of(form: str, row: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """A row as an example, and its line.

    Raises:
      BrokenRule: it is none.
    """
    example = {name: _value(name, value) for name, value in row.items() if value is not None}
    check(form, example)
    try:
        return example, msgspec.json.encode(example) + b"\n"
    except (UnicodeEncodeError, TypeError, OverflowError) as error:
        raise BrokenRule("encoding", "there is a value that JSON, in UTF-8, cannot write") from error


def _value(name: str, value: Any) -> Any:
    """A column's value: text and truth as they are; else without the nulls that structs are filled up with, or from JSON."""
    if isinstance(value, _Unreadable):
        raise BrokenRule("encoding", f"{name} is not valid UTF-8")
    if name in ("prompt", "completion", "parallel_tool_calls"):
        return value
    if not isinstance(value, str):
        return _plain(value)
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise BrokenRule("json", f"{name} is not JSON") from None


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    # Weights become floats where a column has nulls among its integers.
    return int(value) if isinstance(value, float) and value.is_integer() else value


class _Unreadable:
    """Stands for a value that is not UTF-8."""


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column, as `example_of` takes them."""
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        return [value.as_py() if texts.is_whole(value) else _Unreadable() for value in column]
    return values
