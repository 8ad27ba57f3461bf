"""Columns whose structs gain fields from one answer to the next: nothing of them is lost, and nothing else may change."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import pyarrow as pa


def merged(known: pa.DataType, given: pa.DataType) -> pa.DataType:
    """`known`, and behind its fields those that only `given` has, where both are structs that agree in what they share."""
    if known == given or not _agree(known, given):
        return known
    there = {field.name for field in known}
    return pa.struct([*known, *(field for field in given if field.name not in there)])


def widened(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values as `kind`, null in the fields that they lack; as they are, where they differ from it in more than that."""
    if values.type == kind or not _agree(values.type, kind):
        return values
    has = {field.name for field in values.type}
    if not has <= {field.name for field in kind}:
        return values
    columns = [values.field(field.name) if field.name in has else pa.nulls(len(values), field.type) for field in kind]
    return pa.StructArray.from_arrays(columns, fields=list(kind), mask=values.is_null())


def _agree(one: pa.DataType, other: pa.DataType) -> bool:
    if not (pa.types.is_struct(one) and pa.types.is_struct(other)):
        return False
    types = {field.name: field.type for field in one}
    return all(types.get(field.name, field.type) == field.type for field in other)


def concat(arrays: Sequence[pa.Array]) -> pa.Array:
    """The arrays one after another; structs with the fields of all."""
    try:
        return pa.concat_arrays(arrays)
    except pa.ArrowInvalid:
        kind = reduce(merged, [array.type for array in arrays])
        return pa.concat_arrays([widened(array, kind) for array in arrays])


def concat_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """The tables one after another; structs with the fields of all."""
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid:
        kinds = [reduce(merged, types) for types in zip(*(table.schema.types for table in tables))]
        return pa.concat_tables([_widened(table, kinds) for table in tables])


def _widened(table: pa.Table, kinds: Sequence[pa.DataType]) -> pa.Table:
    for at, (field, kind) in enumerate(zip(table.schema, kinds)):
        if field.type != kind:
            chunks = [widened(chunk, kind) for chunk in table.column(at).chunks]
            table = table.set_column(at, field.name, pa.chunked_array(chunks, kind))
    return table
