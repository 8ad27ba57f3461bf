"""One Parquet file while it is written: which tables it takes, and how they are stored."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_openai import tables
from beam_openai.parquet.widen import common_schema, without_fixed_size

# A table of a few rows costs kilobytes beside its buffers.
_SMALL_TABLES = 256
_VECTOR_TYPES = ("FLOAT", "DOUBLE")
# Arrow's allocator keeps what threads free, and a long run would hold 50 MB more than a short one. Giving it back costs
# as much as writing the rows, so it is done seldom.
_FLUSHES_TO_RELEASE = 16
# Levels above 1 were measured to save 7 % of a text's bytes for 20 % more time.
_ZSTD_LEVEL = 1


class Part:
    """Gathers tables into row groups of about `row_group_bytes` and writes them to a file.

    The file is made with the first row group; until then the schema may still widen.

    Attributes:
      bytes: the size in memory of all rows added.
    """

    def __init__(self, path: str, row_group_bytes: int) -> None:
        self.bytes = 0
        self._path = path
        self._row_group_bytes = row_group_bytes
        self._schema: pa.Schema | None = None
        self._held: list[pa.Table] = []
        self._small: list[pa.Table] = []
        self._held_bytes = 0
        self._file: _File | None = None
        self._flushes = 0

    def add(self, table: pa.Table) -> bool:
        """Takes the table, unless its schema and the part's have none in common.

        Raises:
          OSError: the file cannot be written.
        """
        if self._schema is None:
            self._schema = table.schema
        elif not table.schema.equals(self._schema):
            widened = self._widened(table)
            if widened is None:
                return False
            table = widened
        table = _compact(table)
        self.bytes += table.nbytes
        self._held_bytes += table.nbytes
        self._small.append(table)
        if len(self._small) == _SMALL_TABLES:
            self._join_small()
        if self._held_bytes >= self._row_group_bytes:
            self._flush()
        return True

    def close(self) -> None:
        """Writes what is left, and the footer."""
        self._flush()
        if self._file:
            self._file.close()

    def _widened(self, table: pa.Table) -> pa.Table | None:
        schema = common_schema(self._schema, table.schema)
        if schema is None or (self._file and not schema.equals(self._schema)):
            return None
        try:
            if not schema.equals(self._schema):
                held = [held.cast(schema) for held in [*self._held, *self._small]]
                self._held, self._small, self._schema = held, [], schema
            return table.cast(schema)
        except pa.ArrowException:
            return None

    def _join_small(self) -> None:
        self._held.append(pa.concat_tables(self._small).combine_chunks())
        self._small = []

    def _flush(self) -> None:
        held, self._held, self._small = [*self._held, *self._small], [], []
        if not held:
            return
        if self._file is None:
            self._file = _File(self._path, self._schema)
        groups = max(1, self._held_bytes // self._row_group_bytes)
        self._held_bytes = 0
        self._file.write(pa.concat_tables(held), groups)
        self._flushes += 1
        if not self._flushes % _FLUSHES_TO_RELEASE:
            pa.default_memory_pool().release_unused()


def _compact(table: pa.Table) -> pa.Table:
    """A copy, where the table is a small part of the memory that it keeps alive."""
    if table.get_total_buffer_size() <= 4 * table.nbytes + (256 << 10):
        return table
    coder = tables.TableCoder()
    return coder.decode(coder.encode(table))


class _File:
    """A `pq.ParquetWriter` that says where it failed, and fails once."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        self._path = path
        with self._explained():
            self._bytes = FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)
            self._writer = pq.ParquetWriter(self._bytes, schema, **storage(schema))

    def write(self, table: pa.Table, groups: int) -> None:
        with self._explained():
            self._writer.write_table(table, row_group_size=-(-table.num_rows // groups))

    def close(self) -> None:
        with self._explained():
            self._writer.close()
            self._bytes.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if hasattr(self, "_writer"):
                # Or it would write the footer, and fail again, when it is collected.
                self._writer.is_open = False
            if hasattr(self, "_bytes"):
                with contextlib.suppress(OSError):
                    self._bytes.close()
            raise OSError(f"{self._path} cannot be written: {error}") from error


def storage(schema: pa.Schema) -> dict[str, object]:
    """The options of `pq.ParquetWriter` for a schema: vectors plain, the rest with zstd."""
    leaves = [_Leaf(field.name + leaf.path, leaf.is_vector) for field in schema for leaf in _leaves(field.type) or ()]
    others = [leaf.path for leaf in leaves if not leaf.is_vector]
    return {
        "compression": {leaf.path: "none" if leaf.is_vector else "zstd" for leaf in leaves},
        "compression_level": dict.fromkeys(others, _ZSTD_LEVEL),
        "use_dictionary": others,
        "write_statistics": others,
    }


def storable(table: pa.Table) -> pa.Table:
    """The table with columns that would be lost in Parquet as something that is not.

    A column of a type that Parquet cannot hold becomes JSON text. A fixed_size_list that is null in
    some row becomes a list, see `without_fixed_size`.
    """
    for index, field in enumerate(table.schema):
        column = table.column(index)
        if _leaves(field.type) is None:
            table = table.set_column(index, field.name, _as_json(column))
        elif without_fixed_size(field.type) != field.type and any(_misses_a_vector(chunk) for chunk in column.chunks):
            # Casting leaves room behind a null, which some versions cannot write; taking does not.
            listed = column.cast(without_fixed_size(field.type)).take(pa.array(range(len(column))))
            table = table.set_column(index, field.with_type(listed.type), listed)
    return table


def _as_json(column: pa.ChunkedArray) -> pa.Array:
    encoded = [
        None if value is None else msgspec.json.encode(value, enc_hook=str).decode() for value in column.to_pylist()
    ]
    return pa.array(encoded, pa.string())


def _misses_a_vector(array: pa.Array) -> bool:
    """Whether a fixed_size_list is null, or anything that it is in."""
    types = pa.types
    if types.is_fixed_size_list(array.type):
        return array.null_count > 0 or _misses_a_vector(array.flatten())
    if types.is_struct(array.type):
        return any(map(_misses_a_vector, array.flatten()))
    if types.is_list(array.type) or types.is_large_list(array.type):
        return _misses_a_vector(array.flatten())
    return False


class _Leaf(NamedTuple):
    path: str
    is_vector: bool


@functools.lru_cache(maxsize=1024)
def _leaves(type: pa.DataType) -> tuple[_Leaf, ...] | None:
    """What a column of the type is stored as, paths without the column's name.

    None if Parquet cannot hold the type. Parquet itself is asked, as the rules are its own.
    """
    stored = pa.BufferOutputStream()
    try:
        pq.ParquetWriter(stored, pa.schema([("", type)])).close()
    except pa.ArrowException:
        return None
    schema = pq.ParquetFile(pa.BufferReader(stored.getvalue())).schema
    columns = [schema.column(index) for index in range(len(schema))]
    return tuple(
        _Leaf(
            column.path,
            column.max_repetition_level > 0
            and (column.physical_type in _VECTOR_TYPES or column.logical_type.type == "FLOAT16"),
        )
        for column in columns
    )
