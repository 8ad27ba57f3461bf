"""Arrow tables as Beam elements: their coder, and rows of other kinds beside them.

A row is a dict, a `beam.Row` or a NamedTuple. It is never converted as a whole: what an endpoint reads is taken out
of it, what the endpoint answers is added to it, and everything else stays the very object that came in.
"""

from __future__ import annotations

import collections
import functools
import keyword
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam import coders


class TableCoder(coders.Coder):
    """Writes a `pa.Table` as an Arrow IPC stream.

    Pickling, Beam's default, writes the whole buffers behind a slice (32 MB for ten rows of a million); IPC writes
    the rows of the slice only.
    """

    def encode(self, value: pa.Table) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_table(value)
        return bytes(sink.getvalue())

    def decode(self, encoded: bytes) -> pa.Table:
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_all()

    def is_deterministic(self) -> bool:
        return False

    def to_type_hint(self) -> type:
        return pa.Table

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


coders.registry.register_coder(pa.Table, TableCoder)


def as_dict(row: Any) -> Mapping[str, Any]:
    """The fields of a dict, a `beam.Row` or a NamedTuple by name, in their order.

    Raises:
      TypeError: the row is of another kind.
    """
    if isinstance(row, Mapping):
        return row
    if isinstance(row, beam.Row):
        return row.as_dict()
    if hasattr(row, "_asdict"):
        return row._asdict()
    raise TypeError(f"rows must be pa.Table, dict, beam.Row or NamedTuple, not {type(row).__name__}")


def length(value: Any) -> int:
    """About how many bytes a text or bytes take up, or several of them in a list; of other lists, how long they are."""
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Sized):
        return sum(map(length, value))
    return len(value) if isinstance(value, Sized) else 0


def check_can_extend(rows: Sequence[Any], names: Sequence[str]) -> None:
    """Refuses names that fields of a NamedTuple cannot have, where rows are such.

    Raises:
      ValueError: the first of them.
    """
    wrong = [name for name in names if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_")]
    if wrong and any(not isinstance(row, (Mapping, beam.Row)) for row in rows):
        raise ValueError(
            f"no field of a NamedTuple can be named {wrong[0]!r}: name it otherwise, output={{...}}, or use dicts"
        )


def extend(row: Any, added: Mapping[str, Any]) -> Any:
    """The row with fields added, of the kind that it was.

    A NamedTuple comes back as a NamedTuple of the same name with the longer list of fields.
    """
    if isinstance(row, Mapping):
        return {**row, **added}
    if isinstance(row, beam.Row):
        return beam.Row(**{**row.as_dict(), **added})
    fields = {**row._asdict(), **added}
    return _make(type(row).__name__, tuple(fields), tuple(fields.values()))


def _make(name: str, fields: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    return _named_tuple(name, fields)._make(values)


@functools.cache
def _named_tuple(name: str, fields: tuple[str, ...]) -> Any:
    made = collections.namedtuple(name, fields)  # type: ignore[misc]
    # A class made at run time cannot be pickled by name, and a runner pickles rows between stages.
    made.__reduce__ = _reduce  # type: ignore[method-assign, assignment]
    return made


def _reduce(row: Any) -> tuple[Any, ...]:
    return _make, (type(row).__name__, row._fields, tuple(row))


def to_table(rows: Sequence[Any]) -> pa.Table:
    """Rows of any kind as one table; its columns are all names that occur, in order of appearance."""
    dicts = [as_dict(row) for row in rows]
    names = dict.fromkeys(name for row in dicts for name in row)
    return pa.table({name: pa.array([row.get(name) for row in dicts]) for name in names})
