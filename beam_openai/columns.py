"""Values of Python rows as Arrow columns, of the types that each would have alone.

What Arrow would make another value of beside others (1 beside 2.5, an object beside one with more fields) is not given the
chance: objects, lists of them, lists of several types, and integers of more than 64 bits are carried as JSON, `Json`, which
is how they are sent. The rows themselves come back as what they were.
"""

from __future__ import annotations

import datetime
import decimal
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from beam_openai.values import as_number


class _UnlikeJsonError(Exception):
    """Names the type of a value that JSON has not."""


class _Read(pa.ExtensionScalar):
    def as_py(self, **_: Any) -> Any:
        return None if self.value is None else json.loads(self.value.as_py())


class Json(pa.ExtensionType):
    """Values of any type that JSON has, each its own, read one by one: never seen outside of a transform."""

    def __init__(self) -> None:
        super().__init__(pa.large_string(), "beam_openai.json")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Json:
        return cls()

    def __arrow_ext_scalar_class__(self) -> type:
        return _Read

    def __hash__(self) -> int:
        return hash(type(self))


_JSON = Json()
_JSONS = pa.list_(_JSON)
_EMPTY = pa.list_(pa.null())
_PLAIN = {str: pa.string(), float: pa.float64(), bool: pa.bool_(), bytes: pa.binary(), int: pa.int64()}
_INT64 = range(-(2**63), 2**63)
_UNFIT = (pa.ArrowException, TypeError, ValueError, OverflowError, RecursionError, _UnlikeJsonError)


def alike(columns: Sequence[Sequence[Any]], rows: int) -> Iterator[tuple[Sequence[int], list[pa.DataType]]]:
    """The positions of rows whose values have the same types, and the type of each column in them.

    Null goes with any type, and an empty list with any list.
    """
    kinds = [_kinds(values) for values in columns]
    mixed = [kind for kind in kinds if isinstance(kind, list)]
    groups: dict[tuple[pa.DataType, ...], list[int]] = {}
    for row, key in enumerate(zip(*mixed, strict=True)):
        groups.setdefault(key, []).append(row)
    for positions in groups.values() if mixed else [range(rows)]:
        yield positions, [kind[positions[0]] if isinstance(kind, list) else kind for kind in kinds]


def _kinds(values: Sequence[Any]) -> pa.DataType | list[pa.DataType]:
    """The type of all values, or a list of the types of each."""
    given = {type(value) for value in values if value is not None}
    if len(given) == 1 and int not in given and (kind := _PLAIN.get(next(iter(given)))) is not None:
        return kind
    kinds = [None if value is None else kind_of(value) for value in values]
    usual = [kind for kind, _ in Counter(kind for kind in kinds if kind is not None).most_common()]
    if len(usual) < 2:
        return usual[0] if usual else pa.null()
    a_list = next((kind for kind in usual if kind != _EMPTY and pa.types.is_list(kind)), _EMPTY)
    return [usual[0] if kind is None else a_list if kind == _EMPTY else kind for kind in kinds]


def of_values(name: str, values: Sequence[Any], kind: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """An array of this type; and by row, why some values are not in it, in whose places there is null."""
    try:
        return _array(values, kind), {}
    except _UNFIT:
        reasons = {row: f"{name} {reason}" for row, value in enumerate(values) if (reason := _unfit(value, kind))}
        return _array([None if row in reasons else value for row, value in enumerate(values)], kind), reasons


def kind_of(value: Any) -> pa.DataType:
    """The type that a value has alone: `null` if no column can hold it."""
    kind = _PLAIN.get(type(value))
    if kind is not None:
        return kind if type(value) is not int or value in _INT64 else _JSON
    if isinstance(value, Mapping):
        return _JSON
    if isinstance(value, list | tuple):
        given = {type(item) for item in value if item is not None}
        if len(given) > 1 or any(issubclass(one, Mapping | list | tuple) for one in given):
            return _JSONS
    try:
        return pa.infer_type([value])
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.null()


def _unfit(value: Any, kind: pa.DataType) -> str | None:
    """Why the value cannot stand in a column of its own type. Arrow's own message would repeat it."""
    try:
        _array([value], kind)
    except UnicodeEncodeError:
        return "holds a lone surrogate, which UTF-8 cannot write"
    except _UnlikeJsonError as error:
        return f"holds {error}, which JSON has not"
    except _UNFIT:
        return f"is {type(value).__name__} that no column can hold"
    return None


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if kind == _JSON:
        return _jsons(values, [value is None for value in values])
    if kind == _JSONS:
        ends = itertools.accumulate((len(value or ()) for value in values), initial=0)
        offsets = [None if value is None else end for value, end in zip([*values, ()], ends)]
        items = [item for value in values for item in value or ()]
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), _jsons(items, [False] * len(items)))
    return pa.array(values, kind)


def _jsons(values: Sequence[Any], nulls: Sequence[bool]) -> pa.Array:
    written = [
        None if null else json.dumps(value, ensure_ascii=False, default=_plain) for value, null in zip(values, nulls)
    ]
    return pa.ExtensionArray.from_storage(_JSON, pa.array(written, pa.large_string()))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        number = as_number(value)
        return str(number) if isinstance(number, decimal.Decimal) else number
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise _UnlikeJsonError(type(value).__name__)
