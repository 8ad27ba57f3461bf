"""What two schemas have in common: the narrowest schema that holds the rows of both exactly."""

from __future__ import annotations

import functools

import pyarrow as pa


def common_schema(one: pa.Schema, other: pa.Schema) -> pa.Schema | None:
    """None where the columns differ in name or order, or a type would lose something."""
    if one.names != other.names:
        return None
    fields = [common_field(a, b) for a, b in zip(one, other)]
    if any(field is None for field in fields):
        return None
    return pa.schema(fields, one.metadata)


def common_field(one: pa.Field, other: pa.Field) -> pa.Field | None:
    type = common_type(one.type, other.type)
    if type is None:
        return None
    return one.with_type(type).with_nullable(one.nullable or other.nullable)


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if one.equals(other):
        return one
    for null, typed in (one, other), (other, one):
        if pa.types.is_null(null):
            return without_fixed_size(typed)
    for narrow, wide in (one, other), (other, one):
        if _widens(narrow, wide):
            return wide
    return _common_nested(one, other)


def _widens(narrow: pa.DataType, wide: pa.DataType) -> bool:
    types = pa.types
    if types.is_integer(narrow) and types.is_integer(wide):
        if types.is_signed_integer(narrow) == types.is_signed_integer(wide):
            return bool(narrow.bit_width <= wide.bit_width)
        return bool(types.is_signed_integer(wide) and narrow.bit_width < wide.bit_width)
    if types.is_floating(narrow) and types.is_floating(wide):
        return bool(narrow.bit_width <= wide.bit_width)
    if types.is_integer(narrow) and types.is_float64(wide):
        return bool(narrow.bit_width <= 32)
    if types.is_dictionary(narrow):
        return bool(narrow.value_type.equals(wide))
    if types.is_string(narrow):
        return bool(types.is_large_string(wide))
    return bool(types.is_binary(narrow) and types.is_large_binary(wide))


def _common_nested(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    types = pa.types
    if types.is_fixed_size_list(one) and types.is_fixed_size_list(other):
        values = common_field(one.value_field, other.value_field)
        same = one.list_size == other.list_size
        return pa.list_(values, one.list_size) if values and same else None
    for is_kind, make in (types.is_list, pa.list_), (types.is_large_list, pa.large_list):
        if is_kind(one) and is_kind(other):
            values = common_field(one.value_field, other.value_field)
            return make(values) if values else None
    if types.is_fixed_size_list(one) != types.is_fixed_size_list(other):
        listed = [pa.list_(t.value_field) if types.is_fixed_size_list(t) else t for t in (one, other)]
        return _common_nested(*listed)
    if types.is_struct(one) and types.is_struct(other):
        schema = common_schema(*_with_all_fields(one, other))
        return pa.struct(list(schema)) if schema else None
    return None


def _with_all_fields(one: pa.StructType, other: pa.StructType) -> tuple[pa.Schema, pa.Schema]:
    """Two structs as schemas; where all fields of the one are among the other's, it is given those that it lacks."""
    large, small = sorted((list(one), list(other)), key=len, reverse=True)
    names, mine = {field.name for field in large}, {field.name: field for field in small}
    if mine.keys() < names and (len(names), len(mine)) == (len(large), len(small)):
        small = [mine.get(field.name, _null(field)) for field in large]
    return pa.schema(large), pa.schema(small)


def _null(field: pa.Field) -> pa.Field:
    return field.with_type(without_fixed_size(field.type)).with_nullable(True)


@functools.lru_cache(maxsize=1024)
def without_fixed_size(type: pa.DataType) -> pa.DataType:
    """The type with list in place of fixed_size_list, at any depth.

    What holds a null must be a list: pyarrow can write a null in a fixed_size_list to Parquet, but
    not read it (https://github.com/apache/arrow/issues/35692).
    """
    types = pa.types
    if types.is_fixed_size_list(type) or types.is_list(type) or types.is_large_list(type):
        values = type.value_field.with_type(without_fixed_size(type.value_type))
        return pa.large_list(values) if types.is_large_list(type) else pa.list_(values)
    if types.is_struct(type):
        return pa.struct([f.with_type(without_fixed_size(f.type)) for f in type])
    return type
