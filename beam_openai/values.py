"""Values of Arrow columns as JSON has them: read one by one, since some can be neither read nor written."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa


def read(value: pa.Scalar) -> Any:
    """A value as it goes into JSON, without the nulls that Arrow fills structs up with; times as ISO 8601.

    Raises:
      ValueError: JSON has none such; the message says why, and repeats nothing of it.
    """
    try:
        found = _plain(value.as_py())
    except UnicodeDecodeError as error:
        raise ValueError("is not valid UTF-8") from error
    except (pa.ArrowException, ArithmeticError, LookupError, TypeError, ValueError) as error:
        # Times beyond the calendar's end, or in a zone that nobody knows.
        raise ValueError(f"is a {value.type} that cannot be read") from error
    if reason := _unlike_json(found):
        raise ValueError(reason)
    try:
        return msgspec.to_builtins(found)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"is {value.type}, which JSON has not") from error


def of_column(column: pa.ChunkedArray) -> tuple[list[Any], dict[int, str]]:
    """The values of a column; and by row why some of them are none, in whose places there is None."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column.to_pylist(), {}
    values: list[Any] = []
    reasons: dict[int, str] = {}
    for row, value in enumerate(column):
        try:
            values.append(read(value))
        except ValueError as error:
            values.append(None)
            reasons[row] = str(error)
    return values, reasons


def fractions(column: Sequence[Any]) -> dict[int, str]:
    """Rows whose value is a number, and no whole one."""
    return {
        row: "is not a whole number"
        for row, value in enumerate(column)
        if isinstance(value, float) and not value.is_integer()
    }


def as_whole(value: Any) -> Any:
    """20 for 20.0, which is how a column of whole numbers holds them where some are missing; all else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return as_number(value)
    return value


def as_number(value: decimal.Decimal) -> int | float | decimal.Decimal:
    """The same as a number that JSON has, if there is one: it is written as text otherwise."""
    if value == value.to_integral_value() and abs(value) < 2**53:
        return int(value)
    number = float(value)
    return number if decimal.Decimal(repr(number)) == value else value


def _unlike_json(value: Any) -> str | None:
    """Why msgspec would write something else than the value."""
    if isinstance(value, bytes):
        return "holds bytes, which JSON has not"
    if isinstance(value, float) and not math.isfinite(value):
        return "is NaN or infinite, which JSON has not"
    if isinstance(value, (list, tuple, dict)):
        items = value.values() if isinstance(value, dict) else value
        return next((reason for item in items if (reason := _unlike_json(item))), None)
    return None
