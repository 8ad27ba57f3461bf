"""JSON Lines as tables.

A column of lists or objects that have no Arrow type in common, as the messages of a chat have none where some contents are
text and others lists of parts, becomes one of text: each value as JSON. Messages and training data are read from that, too.
"""

from __future__ import annotations

import decimal
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pyarrow as pa

from beam_openai.parquet import files

_JSON_BLOCK_BYTES = 4 << 20
_BOM = b"\xef\xbb\xbf"
_HALF_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_json_lines(path: str, start: int = 0, stop: int | None = None) -> Iterator[pa.Table]:
    """The rows whose lines begin at byte `start` or later and before `stop`.

    Raises:
      ValueError: a line is not a JSON object, or the values of a column have no type in common, and are not all lists or
        objects.
    """
    try:
        with files.open_text(path) as source:
            for offset, lines in whole_lines(source, start, stop):
                rows = _decode(path, offset, lines)
                if rows:
                    yield _json_table(path, offset, rows)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as JSON Lines: {error}") from error


def whole_lines(source: pa.NativeFile, start: int, stop: int | None) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines, and where in the file each block begins."""
    at = start
    if start:
        # The line that `start` is in the middle of belongs to the range before this one.
        at = start - 1
        source.seek(at)
        for data in iter(lambda: source.read(_JSON_BLOCK_BYTES), b""):
            newline = data.find(b"\n")
            at += newline + 1 if newline >= 0 else len(data)
            if newline >= 0:
                break
        source.seek(at)
    held: list[bytes] = []
    data = source.read(_JSON_BLOCK_BYTES)
    while data and (stop is None or at < stop):
        # Read ahead: the last line, when nothing ends it, belongs to the block before.
        ahead = source.read(_JSON_BLOCK_BYTES)
        end = data.rfind(b"\n") + 1 if ahead else len(data)
        if end:
            lines = b"".join([*held, data[:end]])
            yield at, _before(lines, None if stop is None else stop - at)
            at += len(lines)
            held = []
        held.append(data[end:])
        data = ahead


def _before(lines: bytes, stop: int | None) -> bytes:
    """The lines that begin before `stop`, the last of them whole."""
    if stop is None or stop >= len(lines):
        return lines
    newline = lines.find(b"\n", stop - 1)
    return lines[: newline + 1] if newline >= 0 else lines


def _decode(path: str, offset: int, lines: bytes) -> list[dict[str, Any]]:
    if offset == 0:
        lines = lines.removeprefix(_BOM)
    try:
        rows = msgspec.json.Decoder().decode_lines(lines)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _first_bad(path, offset, lines) from None
    if not all(type(row) is dict for row in rows):
        raise _first_bad(path, offset, lines)
    return rows


def _first_bad(path: str, offset: int, lines: bytes) -> ValueError:
    reason = "the lines are not one JSON object each"
    at = offset
    for line in io.BytesIO(lines):
        if line.strip():
            try:
                if type(msgspec.json.decode(line)) is not dict:
                    reason = "not a JSON object"
                    break
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                reason = f"not valid JSON ({error})"
                if _HALF_SURROGATE.search(line):
                    reason += "; half a surrogate pair, as \\ud800 alone, is not text"
                break
        at += len(line)
    number = files.line_number(path, at)
    return ValueError(f"{path}: line {number} (byte {at}): {reason}")


def _json_table(path: str, offset: int, rows: list[dict[str, Any]]) -> pa.Table:
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            columns[name] = _column([row.get(name) for row in rows])
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: column {name!r}: the values of the {len(rows)} rows from byte {offset} "
                f"have no type in common: {_without_value(error)}"
            ) from None
    return pa.table(columns)


def _column(values: list[Any]) -> pa.Array:
    try:
        return _typed(values)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        if {type(value) for value in values if value is not None} <= {list, dict}:
            return pa.array([None if value is None else _as_json(value) for value in values], pa.string())
        raise


def _typed(values: list[Any]) -> pa.Array:
    try:
        array = pa.array(values)
    except OverflowError:
        return _large_integers(values)
    if _hides_a_bool(values, array.type):
        raise TypeError("true or false among numbers")
    return array


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _large_integers(values: list[Any]) -> pa.Array:
    if not all(value is None or type(value) is int for value in values):
        raise TypeError("an integer beyond int64 in a list, an object or beside other values")
    try:
        return pa.array(values, pa.uint64())
    except OverflowError:
        exact = [value if value is None else decimal.Decimal(value) for value in values]
        return pa.array(exact, pa.decimal128(38, 0))


def _hides_a_bool(values: Iterable[Any], type_: pa.DataType) -> bool:
    """Whether Arrow took true for 1.0, as it does behind a fraction."""
    if pa.types.is_floating(type_):
        return bool in set(map(type, values))
    if pa.types.is_list(type_) and _has_floats(type_):
        lists = (value for value in values if value is not None)
        return _hides_a_bool(itertools.chain.from_iterable(lists), type_.value_type)
    if pa.types.is_struct(type_) and _has_floats(type_):
        objects = [value for value in values if value is not None]
        return any(_hides_a_bool([value.get(field.name) for value in objects], field.type) for field in type_)
    return False


def _has_floats(type_: pa.DataType) -> bool:
    if pa.types.is_struct(type_):
        return any(_has_floats(field.type) for field in type_)
    if pa.types.is_list(type_):
        return _has_floats(type_.value_type)
    return bool(pa.types.is_floating(type_))


def _without_value(error: Exception) -> str:
    return re.sub(r"^Could not convert .* with type", "a value of type", str(error), flags=re.DOTALL)
