"""Columns of text: which rows of one cannot be sent, and templates over several."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_openai.tokens import as_plain, byte_lengths


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def written(kind: pa.DataType) -> str:
    """A type as messages have it."""
    return re.sub(r"extension<beam_openai\.(\w+)<\w+>>", r"\1", str(kind))


def unusable(values: pa.ChunkedArray, name: str, empty: bool = False, null: bool = False) -> dict[int, str]:
    """Rows whose value cannot be sent as a text, and why.

    Args:
      values: the column; dictionary-encoded text and views are text too.
      name: of the column, for the reasons.
      empty: whether an empty text may be sent.
      null: whether null is as good as an empty text.
    """
    values = as_plain(values)
    if not is_text(values.type):
        return dict.fromkeys(range(len(values)), f"{name} is {written(values.type)}, not text")
    found = {} if empty else _where(byte_lengths(values) == 0, f"{name} is empty")
    return {
        **found,
        **dict.fromkeys(broken(values), f"{name} is not valid UTF-8"),
        **({} if null else _where(values.is_null(), f"{name} is null")),
    }


def too_long(values: pa.ChunkedArray, name: str, most: int) -> dict[int, str]:
    """Rows whose text has more than `most` characters; what is no text is not looked at."""
    values = as_plain(values)
    if not is_text(values.type):
        return {}
    # A text has no more characters than bytes: few are counted.
    return {
        int(row): f"{name} has {length} characters, more than the {most} that can be sent"
        for row in np.flatnonzero(byte_lengths(values) > most)
        if (length := _characters(values[int(row)])) > most
    }


def _characters(value: pa.Scalar) -> int:
    return len(str(value.as_buffer(), "utf-8", "replace"))


def is_token_ids(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_integer(kind.value_type))


def unusable_token_ids(values: pa.ChunkedArray, name: str) -> dict[int, str]:
    """Rows whose list of token ids cannot be sent, and why."""
    return {
        **_where(byte_lengths(values) == 0, f"{name} is empty"),
        **dict.fromkeys(_with_holes(values), f"{name} has a null among its token ids"),
        **_where(values.is_null(), f"{name} is null"),
    }


def _with_holes(values: pa.ChunkedArray) -> list[int]:
    if not any(chunk.flatten().null_count for chunk in values.chunks):
        return []
    return [row for row, ids in enumerate(values.to_pylist()) if ids is not None and None in ids]


def _where(mask: Any, reason: str) -> dict[int, str]:
    return dict.fromkeys(np.flatnonzero(mask).tolist(), reason)


def broken(values: pa.ChunkedArray) -> list[int]:
    """Rows whose bytes are not UTF-8, which Parquet files may hold."""
    try:
        values.validate(full=True)
        return []
    except pa.ArrowInvalid:
        return [row for row, value in enumerate(values) if not is_whole(value)]


def is_whole(value: pa.Scalar) -> bool:
    """Whether it can be read: it holds no text that is not UTF-8, and no time that no calendar has."""
    try:
        value.as_py()
    except (ArithmeticError, LookupError, ValueError):
        return False
    return True


class Template:
    """A text with columns in it: `"Summarise: {text}"`; `{{` and `}}` are braces.

    What is between braces is a column's name, as it is. Numbers are written as Python writes them, true and false as
    JSON does, lists and structs as JSON, times as ISO 8601.

    Raises:
      ValueError: it is empty, or has a brace without its other half, or nothing between two.
    """

    _PIECES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

    def __init__(self, template: str, name: str = "prompt") -> None:
        if not isinstance(template, str):
            raise ValueError(f"{name} must be a text with columns in braces, not {template!r}")
        self._name = name
        self._parts: list[tuple[str, bool]] = []
        at = 0
        for piece in self._PIECES.finditer(template):
            self._literal(template[at : piece.start()])
            at = piece.end()
            if piece.group() in ("{{", "}}"):
                self._literal(piece.group()[0])
            elif piece.group(1):
                self._parts.append((piece.group(1), True))
            else:
                raise ValueError(
                    f"{name}={template!r}: {piece.group()!r} at {piece.start()} is no column in braces; "
                    "a brace that is meant is written twice"
                )
        self._literal(template[at:])
        if not self._parts:
            raise ValueError(f"{name} must not be empty")

    def _literal(self, text: str) -> None:
        if text and self._parts and not self._parts[-1][1]:
            self._parts[-1] = (self._parts[-1][0] + text, False)
        elif text:
            self._parts.append((text, False))

    @property
    def column(self) -> str | None:
        """The column that it is, `"{text}"`, if it is nothing else."""
        return self._parts[0][0] if len(self._parts) == 1 and self._parts[0][1] else None

    @property
    def columns(self) -> list[str]:
        """The columns that it names, each once."""
        return list(dict.fromkeys(text for text, is_column in self._parts if is_column))

    def unusable(self, rows: pa.Table) -> dict[int, str]:
        """Rows that it cannot be filled from, and why: a column is null, bytes or unreadable, or nothing would be left."""
        found = {}
        if all(is_column for _, is_column in self._parts):
            empty = byte_lengths(self.fill(rows)) == 0
            found.update(_where(empty, f"{self._name} would be empty"))
        for name in self.columns:
            values = as_plain(rows[name])
            if is_binary(values.type):
                return dict.fromkeys(range(len(values)), f"{name} is {written(values.type)}, not text")
            if is_text(values.type):
                found.update(dict.fromkeys(broken(values), f"{name} is not valid UTF-8"))
            elif not pa.types.is_integer(values.type):
                found.update(
                    _where(
                        _written(values).is_null(), f"{name} is {written(values.type)} that cannot be written as text"
                    )
                )
            found.update(_where(values.is_null(), f"{name} is null"))
        return found

    def fill(self, rows: pa.Table) -> pa.ChunkedArray:
        """The text of each row: `large_string`, null where a column is."""
        if not self.columns:
            return pa.chunked_array([pa.repeat(pa.scalar(self._parts[0][0], pa.large_string()), rows.num_rows)])
        written = {name: _written(as_plain(rows[name])) for name in self.columns}
        if len(self._parts) == 1:
            return written[self._parts[0][0]]
        # As bytes, which are not looked at: what is not UTF-8 is found in the column it came from.
        parts = [written[text] if is_column else pa.scalar(text, pa.large_string()) for text, is_column in self._parts]
        return pc.binary_join_element_wise(*parts, pa.scalar("", pa.large_string()))


def is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _written(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if is_text(values.type):
        return values.cast(pa.large_string())
    if pa.types.is_integer(values.type) or is_binary(values.type):
        return values.cast(pa.large_string(), safe=False) if pa.types.is_integer(values.type) else _nulls(values)
    write = _writer(values.type)
    return pa.chunked_array([pa.array([_text(value, write) for value in values], pa.large_string())])


def _text(value: pa.Scalar, write: Callable[[Any], str]) -> str | None:
    """A value as text; None where it is null, or cannot be written as such."""
    try:
        found = value.as_py()
        return None if found is None else write(found)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None


def _nulls(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([pa.nulls(len(values), pa.large_string())])


def _writer(kind: pa.DataType) -> Callable[[Any], str]:
    if pa.types.is_nested(kind) or pa.types.is_boolean(kind) or isinstance(kind, pa.ExtensionType):
        return lambda value: json.dumps(value, ensure_ascii=False, default=_plain)
    return _plain


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        raise TypeError("bytes are no text")
    return str(value.isoformat() if hasattr(value, "isoformat") else value)
