"""ReadTables and WriteTables: what goes in comes out, bounded, whole, or a clear error."""

import bz2
import csv
import datetime
import decimal
import glob
import gzip
import io
import json
import os
import pickle
import platform
import shutil
import string
import subprocess
import sys
import typing

import apache_beam as beam
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import EmbeddedPythonEnvironment
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from hypothesis import given, settings

from beam_openai.parquet import (
    ReadTables,
    WriteTables,
    clear_own_temporary,
    clear_temporary,
    count_rows,
    csv_files,
    json_lines,
    row_groups,
    unfinished,
)
from beam_openai.parquet.files import File
from beam_openai.parquet.quotes import Quotes
from beam_openai.parquet.read import bounded, find_files, pieces_of, plan, read_piece
from beam_openai.parquet.write import _Parts

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PRISM = os.environ.get("PRISM_BIN") or shutil.which("prism")


def pipeline(*options):
    if options:
        return beam.Pipeline(options=PipelineOptions(list(options)))
    return beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))


def read(pattern, **options):
    """The tables that ReadTables gives, without a pipeline."""
    transform = ReadTables(pattern, **options)
    patterns = [pattern] if isinstance(pattern, str) else pattern
    return [
        table
        for found in find_files(patterns, transform.format)
        for piece in plan(found)
        for table in read_piece(piece, transform.max_rows, transform.max_bytes)
    ]


def rows_of(tables):
    return [row for table in tables for row in table.to_pylist()]


def write(directory, elements, **options):
    with pipeline() as p:
        p | beam.Create(elements, reshuffle=False) | WriteTables(str(directory), **options)


def parts(directory):
    return sorted(glob.glob(f"{directory}/part-*.parquet"))


def written_rows(directory):
    return [row for part in parts(directory) for row in pq.read_table(part).to_pylist()]


def ints(count, start=0):
    return pa.table({"id": range(start, start + count)})


# Whole pipelines


def copy(source, target, *options, **write_options):
    with pipeline(*options) as p:
        paths = p | ReadTables(str(source)) | WriteTables(str(target), **write_options)
        paths | beam.Map(assert_part)


def assert_part(path):
    assert os.path.basename(path).startswith("part-")
    assert path.startswith("bucket:") or os.path.exists(path), path


def make_files(folder, files=3, rows=1000):
    folder.mkdir()
    for i in range(files):
        pq.write_table(ints(rows, i * rows), folder / f"{i}.parquet", row_group_size=300)


def test_a_pipeline_copies_every_row_once(tmp_path):
    make_files(tmp_path / "in")
    copy(tmp_path / "in", tmp_path / "out")
    assert sorted(row["id"] for row in written_rows(tmp_path / "out")) == list(range(3000))
    assert os.listdir(tmp_path / "out") == [os.path.basename(p) for p in parts(tmp_path / "out")]


def test_several_workers_of_one_process_write_parts_of_one_run(tmp_path):
    make_files(tmp_path / "in", files=12)
    copy(
        tmp_path / "in",
        tmp_path / "out",
        "--runner=FnApiRunner",
        "--direct_num_workers=3",
        "--direct_running_mode=multi_threading",
    )
    assert sorted(row["id"] for row in written_rows(tmp_path / "out")) == list(range(12000))
    assert len({path.rsplit("-", 1)[1] for path in parts(tmp_path / "out")}) == 1


@pytest.mark.skipif(not PRISM, reason="no Prism binary: set PRISM_BIN or put prism on the PATH")
def test_prism_copies_every_row_once_and_replaces_old_parts(tmp_path):
    make_files(tmp_path / "in", files=12)
    write(tmp_path / "out", [ints(5)])
    copy(
        tmp_path / "in",
        tmp_path / "out",
        "--runner=PrismRunner",
        f"--prism_location={PRISM}",
        "--environment_type=LOOPBACK",
        overwrite=True,
    )
    assert sorted(row["id"] for row in written_rows(tmp_path / "out")) == list(range(12000))
    assert os.listdir(tmp_path / "out") == [os.path.basename(p) for p in parts(tmp_path / "out")]


def test_reading_a_map_and_writing_are_one_stage(tmp_path):
    make_files(tmp_path / "in")
    p = pipeline()
    tables = p | ReadTables(str(tmp_path / "in"))
    mapped = tables | "Same" >> beam.Map(lambda table: table).with_output_types(pa.Table)
    mapped | WriteTables(str(tmp_path / "out"))
    environment = EmbeddedPythonEnvironment.default()
    _, stages = FnApiRunner().create_stages(p.to_runner_api(default_environment=environment))
    [names] = [
        names
        for names in ([t.unique_name for t in stage.transforms] for stage in stages)
        if any(name.startswith("Same") for name in names)
    ]
    assert any(name.startswith("ReadTables/Read") for name in names)
    assert any("WriteBundles" in name for name in names)


def test_the_elements_are_known_to_be_tables(tmp_path):
    make_files(tmp_path / "in")
    p = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))
    assert (p | ReadTables(str(tmp_path / "in"))).element_type == pa.Table


def test_transforms_are_pickled_and_printed_as_they_were_made():
    for transform in ReadTables(["a", "b"], max_rows=7), WriteTables("out", overwrite=True):
        assert repr(pickle.loads(pickle.dumps(transform))) == repr(transform)
    assert repr(WriteTables("out")).startswith("WriteTables(directory='out', overwrite=False")


@pytest.mark.parametrize(
    "make",
    [
        lambda: ReadTables("x", format="xml"),
        lambda: ReadTables("x", max_rows=0),
        lambda: ReadTables("x", max_bytes=0),
        lambda: WriteTables(""),
        lambda: WriteTables("out", row_group_bytes=0),
    ],
)
def test_options_that_cannot_work_are_refused_when_made(make):
    with pytest.raises(ValueError):
        make()


# Which files


def test_a_pattern_without_files_fails_when_the_pipeline_is_built(tmp_path):
    with pytest.raises(ValueError, match=r"no files match .*typo\*\.parquet"):
        pipeline() | ReadTables(f"{tmp_path}/typo*.parquet")


def test_an_unknown_name_lists_what_is_known(tmp_path):
    (tmp_path / "data.xyz").write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"data\.xyz.*\.parquet, .*\.jsonl.*format="):
        pipeline() | ReadTables(f"{tmp_path}/data.xyz")
    assert rows_of(read(f"{tmp_path}/data.xyz", format="jsonl")) == [{"a": 1}]


def test_a_folder_means_its_data_files(tmp_path):
    for name in "a.jsonl", "b.csv", "_c.jsonl", ".d.jsonl", "README.md":
        (tmp_path / name).write_text('{"a": 1}' if "json" in name else "a\n2\n")
    pq.write_table(pa.table({"a": [3]}), tmp_path / "c.parquet")
    (tmp_path / "beam-temp-1").mkdir()
    (tmp_path / "beam-temp-1" / "x.jsonl").write_text('{"a": 4}')
    assert [row["a"] for row in rows_of(read(str(tmp_path)))] == [1, 2, 3]
    assert [row["a"] for row in rows_of(read(f"{tmp_path}/**/*.jsonl"))] == [1]
    assert [row["a"] for row in rows_of(read(f"{tmp_path}/_*.jsonl"))] == [1]


def test_a_file_that_two_patterns_match_is_read_once(tmp_path):
    make_files(tmp_path / "in")
    tables = read([f"{tmp_path}/in/*.parquet", f"{tmp_path}/in/0.parquet"])
    assert sorted(row["id"] for row in rows_of(tables)) == list(range(3000))


def test_a_name_with_brackets_is_a_name(tmp_path):
    pq.write_table(ints(3), tmp_path / "a[1].parquet")
    assert len(rows_of(read(f"{tmp_path}/a[1].parquet"))) == 3
    write(tmp_path / "o[1]", [ints(3)])
    with pytest.raises(FileExistsError):
        write(tmp_path / "o[1]", [ints(3)])


def test_count_rows_reads_footers_only(tmp_path):
    make_files(tmp_path / "in")
    assert count_rows(f"{tmp_path}/in/*.parquet") == 3000
    (tmp_path / "in" / "more.csv").write_text("a\n1\n")
    assert count_rows(str(tmp_path / "in")) is None
    with pytest.raises(ValueError, match="no files match"):
        count_rows(f"{tmp_path}/nothing")


# Parquet


def many_types():
    return pa.table(
        {
            "int8": pa.array([1, None], pa.int8()),
            "uint64": pa.array([2**64 - 1, None], pa.uint64()),
            "half": pa.array([np.float16(1.5), None]),
            "text": ["a", None],
            "large": pa.array(["a", None], pa.large_string()),
            "bytes": pa.array([b"\xff", None], pa.binary()),
            "flag": [True, None],
            "day": [datetime.date(2024, 1, 1), None],
            "utc": pa.array([0, None], pa.timestamp("us", "UTC")),
            "ns": pa.array([1, None], pa.timestamp("ns")),
            "money": pa.array([decimal.Decimal("1.25"), None], pa.decimal128(9, 2)),
            "word": pa.array(["x", None]).dictionary_encode(),
            "list": [["a"], None],
            "struct": [{"a": 1, "b": [{"c": "d"}]}, None],
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())),
            "vector": pa.array([[1.0, 2.0], [3.0, None]], pa.list_(pa.float32(), 2)),
            "null": pa.nulls(2),
            "duration": pa.array([1, None], pa.duration("ms")),
        }
    ).replace_schema_metadata({"made": "by a test"})


def test_every_type_survives_reading_and_writing(tmp_path):
    table = many_types()
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    [got] = read(str(tmp_path / "in"))
    assert got.schema.equals(table.schema) and got.equals(table)
    copy(tmp_path / "in", tmp_path / "out")
    [part] = parts(tmp_path / "out")
    back = pq.read_table(part)
    assert back.schema.equals(table.schema) and back.equals(table)
    assert back.schema.metadata == {b"made": b"by a test"}


def test_tables_stay_within_rows_and_bytes(tmp_path):
    path = str(tmp_path / "a.parquet")
    pq.write_table(ints(8193), path)
    assert [table.num_rows for table in read(path)] == [4097, 4096]
    assert [table.num_rows for table in read(path, max_rows=8193)] == [8193]
    assert [table.num_rows for table in read(path, max_bytes=8 * 1000)][:2] == [768, 768]


def test_rows_of_a_megabyte_come_in_tables_of_a_few(tmp_path):
    path = str(tmp_path / "a.parquet")
    # One value, so the file is tiny: only its dictionary says how large the rows are.
    pq.write_table(pa.table({"text": ["x" * (1 << 20)] * 600}), path)
    assert os.path.getsize(path) < 1 << 20
    sizes = [(table.num_rows, table.nbytes) for table in read(path)]
    assert sum(rows for rows, _ in sizes) == 600
    assert all(rows > 1 and size <= 9 << 20 for rows, size in sizes)


def test_rows_that_are_large_in_the_file_are_decoded_a_few_at_a_time(tmp_path):
    path = str(tmp_path / "a.parquet")
    images = [os.urandom(1 << 20) for _ in range(40)]
    pq.write_table(pa.table({"image": images}), path, use_dictionary=False, write_batch_size=1)
    (piece,) = pieces_of(File(path, 0, "parquet"))
    decoded = list(row_groups.read(piece))
    assert max(table.num_rows for table in decoded) <= 8
    assert [row["image"] for row in rows_of(decoded)] == images


def test_a_large_dictionary_does_not_make_tables_of_one_row(tmp_path):
    path = str(tmp_path / "a.parquet")
    words = pa.array([f"{i:01000}" for i in range(20_000)]).dictionary_encode()
    pq.write_table(pa.table({"word": words}), path)
    tables = read(path)
    assert sum(table.num_rows for table in tables) == 20_000
    assert min(table.num_rows for table in tables) > 10


def test_a_large_row_group_is_read_in_parts_and_small_ones_together(tmp_path):
    path = str(tmp_path / "a.parquet")
    pq.write_table(ints(100_000), path, row_group_size=100_000)
    pieces = pieces_of(File(path, 0, "parquet"))
    assert len(pieces) == 4 and (pieces[0].start, pieces[-1].stop) == (0, 100_000)
    assert [row["id"] for row in rows_of(read(path))] == list(range(100_000))
    pq.write_table(ints(20_000), path, row_group_size=10)
    assert len(pieces_of(File(path, 0, "parquet"))) == 2
    assert [row["id"] for row in rows_of(read(path))] == list(range(20_000))


def test_files_without_rows_give_no_table_and_no_error(tmp_path):
    pq.write_table(ints(0), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text("")
    (tmp_path / "c.csv").write_text("a,b\n")
    (tmp_path / "d.csv").write_text("")
    with gzip.open(tmp_path / "e.jsonl.gz", "wb"):
        pass
    assert read(str(tmp_path)) == []


@pytest.mark.parametrize("damage", ["footer", "middle", "empty", "text"])
def test_a_damaged_parquet_file_among_good_ones_is_named(tmp_path, damage):
    make_files(tmp_path / "in")
    path = tmp_path / "in" / "1.parquet"
    stored = path.read_bytes()
    damaged = {
        "footer": stored[:-20],
        "middle": stored[:4] + b"\xff" * 800 + stored[804:],
        "empty": b"",
        "text": b"hello",
    }[damage]
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"in/1\.parquet: cannot be read as Parquet"):
        copy(tmp_path / "in", tmp_path / "out")
    assert parts(tmp_path / "out") == []


def test_files_of_different_columns_are_read_side_by_side(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"b": ["x"]}), tmp_path / "b.parquet")
    assert rows_of(read(str(tmp_path))) == [{"a": 1}, {"b": "x"}]


@given(
    st.lists(st.lists(st.text(max_size=30), max_size=20), max_size=10),
    st.integers(1, 12),
    st.integers(1, 200),
)
def test_bounded_tables_hold_the_same_rows(blocks, max_rows, max_bytes):
    tables = list(bounded((pa.table({"t": pa.array(block, pa.string())}) for block in blocks), max_rows, max_bytes))
    assert [r["t"] for r in rows_of(tables)] == [text for block in blocks for text in block]
    assert all(0 < table.num_rows <= max_rows for table in tables)


# JSON Lines

json_values = st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=20), st.just("2024-01-01T00:00:00Z"))


@given(st.lists(st.dictionaries(st.sampled_from("abc"), json_values, min_size=1), min_size=1))
@settings(deadline=None)
def test_strings_of_json_lines_come_back_as_they_are(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("json") / "a.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    names = {name for row in rows for name in row}
    got = rows_of(read(str(path)))
    assert got == [{name: row.get(name) for name in names} for row in rows]


def test_json_numbers_are_exact(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [
        {"mixed": 1, "big": 2**63, "huge": -(2**100), "int": 2**53 + 1},
        {"mixed": 0.5, "big": 0, "huge": 1, "int": None},
    ]
    path.write_text("\r\n".join(json.dumps(row) for row in rows) + "\r\n\r\n")
    [table] = read(str(path))
    assert table.to_pylist() == rows
    assert [str(field.type) for field in table.schema] == [
        "double", "uint64", "decimal128(38, 0)", "int64",
    ]  # fmt: skip


def test_json_objects_and_lists_become_structs_and_lists(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": {"x": [1]}}\n\n{"a": {"y": "z"}, "b": null}\n')
    [table] = read(str(path))
    assert table.to_pylist() == [
        {"a": {"x": [1], "y": None}, "b": None},
        {"a": {"x": None, "y": "z"}, "b": None},
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a" 1}', "not valid JSON"),
        (b'{"a": "\\ud800"}', "half a surrogate pair"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b'{"a": NaN}', "not valid JSON"),
        (b'[{"a": 1}]', "not a JSON object"),
        (b'{"a": 1', "not valid JSON"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_json_line_is_named(tmp_path, line, reason, packed):
    good = b'{"a": 1}\n'
    path = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    stored = good * 3 + line + b"\n" + good
    path.write_bytes(gzip.compress(stored) if packed else stored)
    with pytest.raises(ValueError, match=rf"a\.jsonl.*: line 4 \(byte 27\): .*{reason}"):
        read(str(path))


@pytest.mark.parametrize(
    "values",
    [
        [{"k": 1}, None, {"k": "é"}],
        [[{"content": "s"}, {"content": [{"type": "text"}]}]],
        [["a"], {"a": 1}],
        [[0.5, True]],
        [{"f": [0.5, True]}],
        [[2**70]],
        [["a"], [1]],
    ],
    ids=str,
)
def test_lists_and_objects_without_a_type_in_common_become_json_text(tmp_path, values):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"ok": 1, "c": value}) for value in values))
    (table,) = read(str(path))
    assert table.schema == pa.schema([("ok", pa.int64()), ("c", pa.string())])
    assert [value and json.loads(value) for value in table["c"].to_pylist()] == values


def test_values_without_a_type_in_common_name_file_and_column_but_not_the_value(tmp_path):
    path = tmp_path / "a.jsonl"
    for values in (
        [1, "secret"],
        [2**70, "secret"],
        [0.5, True],
        [True, 1],
        [["secret"], "secret"],
        [{"k": "secret"}, 1],
    ):
        path.write_text("\n".join(json.dumps({"ok": 1, "c": value}) for value in values))
        with pytest.raises(ValueError, match=r"a\.jsonl: column 'c'") as raised:
            read(str(path))
        assert "secret" not in str(raised.value)


@given(
    st.lists(st.text(string.ascii_letters, max_size=12), max_size=30),
    st.integers(1, 40),
    st.integers(1, 40),
    st.booleans(),
)
@settings(deadline=None, max_examples=200)
def test_byte_ranges_give_each_line_once(tmp_path_factory, texts, size, block, newline_at_end):
    lines = [json.dumps({"t": value}).encode() for value in texts]
    stored = b"\n".join(lines) + (b"\n" if newline_at_end else b"")
    got = []
    before, json_lines._JSON_BLOCK_BYTES = json_lines._JSON_BLOCK_BYTES, block
    try:
        for start in range(0, len(stored), size):
            source = pa.BufferReader(stored)
            for offset, data in json_lines.whole_lines(source, start, start + size):
                assert stored[offset : offset + len(data)] == data
                got += [json.loads(line)["t"] for line in data.split(b"\n") if line]
    finally:
        json_lines._JSON_BLOCK_BYTES = before
    assert got == texts


def test_a_line_separator_within_a_string_is_not_a_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": "x\xe2\x80\xa8y\\u2029z\\u0000"}\n')
    assert rows_of(read(str(path))) == [{"a": "x\u2028y\u2029z\x00"}]


# CSV


def test_csv_columns_are_strings_unless_all_integers(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,zip,when,empty,text,minus\n1,007,2024-01-01,,"a ""b"",\nc",-0\n,10115,NA,,null,5\n')
    [table] = read(str(path))
    assert table.schema.field("id").type == pa.int64()
    assert table.to_pylist() == [
        {"id": 1, "zip": "007", "when": "2024-01-01", "empty": "", "text": 'a "b",\nc',
         "minus": "-0"},
        {"id": None, "zip": "10115", "when": "NA", "empty": "", "text": "null", "minus": "5"},
    ]  # fmt: skip


@given(
    st.lists(
        st.lists(
            st.one_of(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=9),
                      st.integers(-(2**70), 2**70).map(str)),
            min_size=2, max_size=2),
        min_size=1, max_size=8),
)  # fmt: skip
@settings(deadline=None)
def test_csv_cells_come_back_as_they_are(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    path.write_bytes("\r\n".join(["a,b", *quoted]).encode())
    got = [["" if cell is None else str(cell) for cell in row.values()] for row in rows_of(read(str(path)))]
    assert got == rows


def test_csv_columns_are_strings_where_that_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("id,n\n1,\n2,5\n")
    with pipeline() as p:
        p | ReadTables(f"{tmp_path}/a.csv", csv_text=True) | WriteTables(f"{tmp_path}/out")
    assert written_rows(tmp_path / "out") == [{"id": "1", "n": ""}, {"id": "2", "n": "5"}]


@pytest.mark.parametrize(
    ("stored", "line", "problem"),
    [
        ('id,text\n1,one\n2,"two\n3,three\n', 3, "is never closed"),
        ('id,text\n1,one\n2,"two\n3,three', 3, "is never closed"),
        ('id,text\n1,"one\n', 2, "is never closed"),
        ('id,text\n1,"a ""quote"" and\n\n2,"b', 2, "is closed in another line"),
        ('text,id\n"one,1\ntwo,2\n', 2, "is never closed"),
        ('text,id\n"one\nmore",1\n"two,2\n"three",3\n', 4, "is closed in another line, in the middle of a cell"),
        ('id,"text\n1,one\n', 1, "is never closed"),
        ("\ufeff" + 'id,"a"\r\n1,"b"\r\n2,"c\r\n', 3, "is never closed"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_a_quote_that_swallows_rows_is_an_error_that_says_where(tmp_path, stored, line, problem, suffix):
    pack = gzip.compress if suffix.endswith("gz") else bytes
    (tmp_path / f"a.{suffix}").write_bytes(pack(stored.encode()))
    with pytest.raises(ValueError, match=rf"a\.{suffix}: the quote that opens a cell in line {line} {problem}"):
        read(f"{tmp_path}/a.{suffix}")


def test_a_quote_that_is_open_for_longer_than_a_block_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", (64, 4096))
    rows = "".join(f"{i},line {i}\n" for i in range(10_000))
    (tmp_path / "a.csv").write_text(f'id,text\n{rows}10000,"open\n{rows}')
    with pytest.raises(ValueError, match=r"the quote that opens a cell in line 10002 is n(ot closed in|ever closed)"):
        read(f"{tmp_path}/a.csv")


@pytest.mark.parametrize(
    ("cell", "read_as"),
    [
        ('two "quoted"', 'two "quoted"'),
        ('"two"x', "twox"),
        ('x"', 'x"'),
        ('"a\nb"', "a\nb"),
        ('""', ""),
        ('"""\n"""', '"\n"'),
    ],
)
def test_a_quote_that_costs_no_row_is_taken_as_it_is(tmp_path, cell, read_as):
    (tmp_path / "a.csv").write_text(f"id,text\n1,{cell}\n2,{cell}")
    assert rows_of(read(f"{tmp_path}/a.csv")) == [{"id": 1, "text": read_as}, {"id": 2, "text": read_as}]


CSV_BYTES = st.text(st.sampled_from('",\n\rab'), max_size=40).map(str.encode)


def looked_at(stored, size):
    quotes = Quotes(pa.BufferReader(stored), ",")
    while quotes.read(size):
        pass
    return quotes.problem, quotes.problem and quotes.opened


@given(CSV_BYTES, st.integers(1, 9))
@settings(deadline=None)
def test_quotes_are_seen_alike_wherever_a_file_is_cut(stored, size):
    assert looked_at(stored, size) == looked_at(stored, 1000)


@given(st.lists(st.tuples(*[st.text(st.sampled_from('",\nab'), max_size=6)] * 2), min_size=1, max_size=6), st.data())
@settings(deadline=None)
def test_well_formed_csv_has_no_problem_and_has_one_where_it_ends_in_a_cell(rows, data):
    stored = io.StringIO()
    csv.writer(stored, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    whole = stored.getvalue().encode()
    assert looked_at(whole, data.draw(st.integers(1, 9))) == (None, None)
    length = data.draw(st.integers(0, len(whole)))
    is_open = whole[:length].count(b'"') % 2 == 1
    assert looked_at(whole[:length], 5)[0] == ("is never closed" if is_open else None)


def test_a_later_block_that_is_not_integers_is_strings(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", (64,))
    path = tmp_path / "a.csv"
    path.write_text("n\n" + "".join(f"{i:}\n" for i in range(100)) + "x\n")
    tables = read(str(path))
    assert tables[0].schema.field("n").type == pa.int64()
    assert tables[-1].schema.field("n").type == pa.string()
    assert [str(row["n"]) for row in rows_of(tables)] == [*map(str, range(100)), "x"]


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfa,b\n1,2\n")
    assert rows_of(read(f"{tmp_path}/a.csv")) == [{"a": 1, "b": 2}]


def test_a_csv_row_larger_than_a_block_is_read_in_larger_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", (64, 4096))
    rows = [[str(i), "x" * (300 if i == 30 else 3)] for i in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["a,b", *map(",".join, rows)]))
    got = [[str(row["a"]), row["b"]] for row in rows_of(read(f"{tmp_path}/a.csv"))]
    assert got == rows


def test_a_csv_row_larger_than_the_largest_block_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", (64,))
    (tmp_path / "a.csv").write_text("a,b\n1,2\n" + "x" * 200 + ",3\n4,5\n")
    with pytest.raises(ValueError, match=r"a\.csv: cannot be read as CSV"):
        read(f"{tmp_path}/a.csv")


def test_tsv_is_told_by_its_name(tmp_path):
    (tmp_path / "a.tsv").write_text("a\tb\n1,5\tx\n")
    assert rows_of(read(f"{tmp_path}/a.tsv")) == [{"a": "1,5", "b": "x"}]


@pytest.mark.parametrize("stored", [b"a,b\n1,2\n3,secret,5\n", b"a,b\n1,\xff\xfe\n", b"a,a\n1,2\n", b"a,\xff\n1,2\n"])
def test_a_bad_csv_file_is_named_and_its_rows_are_not_shown(tmp_path, stored):
    path = tmp_path / "bad.csv"
    path.write_bytes(stored)
    with pytest.raises(ValueError, match=r"bad\.csv: ") as raised:
        read(str(path))
    assert "secret" not in str(raised.value)


# Compression


def packers():
    def by_arrow(codec):
        return lambda data: pa.compress(data, codec=codec, asbytes=True)

    return {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": by_arrow("zstd")}


@pytest.mark.parametrize("suffix", list(packers()))
def test_packed_text_is_read_and_a_truncated_one_is_an_error(tmp_path, suffix):
    pack = packers()[suffix]
    lines = [json.dumps({"i": i, "t": f"{i * 7919:x}" * 9}).encode() + b"\n" for i in range(20_000)]
    halves = b"".join(lines[:10_000]), b"".join(lines[10_000:])
    path = tmp_path / f"a.jsonl{suffix}"
    # Two archives one behind the other are one file, as gzip has it.
    path.write_bytes(pack(halves[0]) + pack(halves[1]))
    assert [row["i"] for row in rows_of(read(str(path)))] == list(range(20_000))
    path.write_bytes(pack(halves[0])[:-200])
    with pytest.raises(ValueError, match=r"a\.jsonl"):
        read(str(path))
    (tmp_path / f"b.csv{suffix}").write_bytes(pack(b"a,b\n1,x\n"))
    assert rows_of(read(f"{tmp_path}/b.csv{suffix}")) == [{"a": 1, "b": "x"}]


def test_a_packed_parquet_file_is_refused(tmp_path):
    (tmp_path / "a.parquet.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="unpack it first"):
        read(f"{tmp_path}/a.parquet.gz")


# Writing: which parts


def test_parts_in_the_directory_are_not_overwritten_unasked(tmp_path):
    write(tmp_path, [ints(3)])
    with pytest.raises(FileExistsError, match=r"already holds 1 part; pass overwrite=True"):
        pipeline() | beam.Create([ints(3)]) | WriteTables(str(tmp_path))
    assert len(written_rows(tmp_path)) == 3


def test_parts_that_appear_before_the_run_are_not_overwritten_either(tmp_path):
    p = pipeline()
    p | beam.Create([ints(3)]) | WriteTables(str(tmp_path))
    pq.write_table(ints(2), tmp_path / "part-other.parquet")
    with pytest.raises(FileExistsError, match="already holds 1 part"):
        p.run().wait_until_finish()
    assert [os.path.basename(path) for path in parts(tmp_path)] == ["part-other.parquet"]


@pytest.mark.parametrize("rows", [[], [ints(2)]], ids=["no rows", "fewer parts"])
def test_overwriting_leaves_no_part_of_an_earlier_run(tmp_path, rows):
    write(tmp_path, [ints(1), pa.table({"other": ["x"]}), pa.table({"third": ["x"]})])
    assert len(parts(tmp_path)) == 3
    write(tmp_path, rows, overwrite=True)
    assert len(parts(tmp_path)) == len(rows)
    assert written_rows(tmp_path) == rows_of(rows)


def test_without_rows_there_is_the_folder_and_no_part(tmp_path):
    write(tmp_path / "a" / "b", [])
    assert os.listdir(tmp_path / "a" / "b") == []
    write(tmp_path / "c", [ints(0)])
    assert os.listdir(tmp_path / "c") == []


def test_a_failed_pipeline_leaves_no_part_and_the_old_ones(tmp_path):
    write(tmp_path / "out", [ints(3)])
    before = parts(tmp_path / "out")

    def fail_late(i):
        if i == 9:
            raise RuntimeError("stop here")
        return ints(10)

    with pytest.raises(RuntimeError, match="stop here"), pipeline() as p:
        (
            p
            | beam.Create(range(10))
            | beam.Map(fail_late)
            | WriteTables(str(tmp_path / "out"), overwrite=True, row_group_bytes=1)
        )
    assert parts(tmp_path / "out") == before
    assert len(os.listdir(tmp_path / "out")) == 2
    clear_temporary(str(tmp_path / "out"))
    assert os.listdir(tmp_path / "out") == [os.path.basename(path) for path in before]


@pytest.mark.parametrize("renamed", [0, 1, 2])
@pytest.mark.parametrize("overwrite", [False, True])
def test_finalizing_again_changes_nothing(tmp_path, renamed, overwrite):
    directory = str(tmp_path)
    if overwrite:
        write(directory, [ints(7)])
    sink = _Parts(directory, overwrite, 32 << 20, 1 << 30)
    temporary = sink.initialize_write()
    results = []
    for i in range(2):
        writer = sink.open_writer(temporary, str(i))
        writer.write(ints(1, i))
        results.append(writer.close())
    names = [f"part-0000{i}-of-00002-{temporary.rsplit('-', 1)[1]}.parquet" for i in range(2)]
    # An earlier try was cut off after so many renames, once between copy and delete.
    for i in range(renamed):
        shutil.copy(results[i][0], tmp_path / names[i])
        if i == 0:
            os.remove(results[i][0])
    for _ in range(3):
        assert sink.finalize_write(temporary, results, None) == [str(tmp_path / n) for n in names]
        assert sorted(os.listdir(tmp_path)) == names
    assert written_rows(tmp_path) == [{"id": 0}, {"id": 1}]


def test_a_part_that_was_lost_is_an_error_not_a_shorter_dataset(tmp_path):
    sink = _Parts(str(tmp_path), False, 32 << 20, 1 << 30)
    temporary = sink.initialize_write()
    writer = sink.open_writer(temporary, "0")
    writer.write(ints(1))
    [path] = writer.close()
    os.remove(path)
    with pytest.raises(FileNotFoundError, match="not there any more"):
        sink.finalize_write(temporary, [[path]], None)


# Writing: what cannot be written


def test_an_unbounded_collection_is_refused(tmp_path):
    p = pipeline()
    stream = p | PeriodicImpulse()
    with pytest.raises(ValueError, match="writes bounded data"):
        stream | WriteTables(str(tmp_path))


def test_a_directory_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"file/out cannot be written: .*file is not"):
        pipeline() | beam.Create([ints(1)]) | WriteTables(f"{tmp_path}/file/out")
    with pytest.raises(OSError, match="/proc/out cannot be written"):
        write("/proc/out", [ints(1)])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_one_clear_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="no permission"):
        pipeline() | beam.Create([ints(1)]) | WriteTables(f"{tmp_path}/out")


DISK_FULL = """
import resource, sys
import apache_beam as beam, pyarrow as pa
from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from beam_openai.parquet import WriteTables
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as p:
    table = pa.table({"v": pa.array([[0.5] * 8] * 10_000, pa.list_(pa.float32(), 8))})
    p | beam.Create([table] * 4) | WriteTables(sys.argv[1], row_group_bytes=int(sys.argv[2]))
"""


@pytest.mark.parametrize("row_group_bytes", [1 << 16, 1 << 30])
def test_a_full_disk_names_the_file_and_leaves_no_part(tmp_path, row_group_bytes):
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(tmp_path / "out"), str(row_group_bytes)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, *sys.path]), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 1
    assert f"OSError: {tmp_path}/out/_beam-temp-parts-" in done.stderr
    assert "Exception ignored" not in done.stderr
    assert parts(tmp_path / "out") == []


# Other filesystems


class Bucket(FileSystem):
    """An object store in memory: names and bytes, no folders."""

    objects: typing.ClassVar[dict] = {}

    @classmethod
    def scheme(cls):
        return "bucket"

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def mkdirs(self, path):
        pass

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        for path, data in sorted(self.objects.items()):
            if path.startswith(dir_or_prefix):
                yield FileMetadata(path, len(data))

    def create(self, path, mime_type=None, compression_type=None):
        objects = self.objects

        class Upload(io.BytesIO):
            def close(self):
                if not self.closed:
                    objects[path] = self.getvalue()
                super().close()

        return Upload()

    def open(self, path, mime_type=None, compression_type=None):
        return io.BytesIO(self.objects[path])

    def copy(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def rename(self, source_file_names, destination_file_names):
        for source, destination in zip(source_file_names, destination_file_names):
            self.objects[destination] = self.objects.pop(source)

    def exists(self, path):
        return path in self.objects

    def size(self, path):
        return len(self.objects[path])

    last_updated = checksum = metadata = size

    def delete(self, paths):
        missing = {path: "not found" for path in paths if path not in self.objects}
        for path in paths:
            self.objects.pop(path, None)
        if missing:
            raise BeamIOError("Delete operation failed", missing)


def test_an_object_store_is_read_and_written_as_a_disk_is(tmp_path):
    Bucket.objects.clear()
    Bucket.objects["bucket://in/_SUCCESS"] = b"x"
    Bucket.objects["bucket://in/b.csv.gz"] = gzip.compress(b"id\n7\n")
    stored = io.BytesIO()
    pq.write_table(ints(1000), stored)
    Bucket.objects["bucket://in/a.parquet"] = stored.getvalue()
    copy("bucket://in", "bucket://out/x")
    with pytest.raises(FileExistsError, match="already holds 1 part"):
        copy("bucket://in", "bucket://out/x")
    with pytest.raises(ValueError, match="no files match"):
        copy("bucket://nothing", "bucket://out/x", overwrite=True)
    copy("bucket://in/*.parquet", "bucket://out/x/", overwrite=True)
    assert count_rows("bucket://out/x/part-*.parquet") == 1000
    assert len([path for path in Bucket.objects if path.startswith("bucket://out/")]) == 1
    _Parts("bucket://out/x", True, 1, 1).initialize_write()
    assert len([path for path in Bucket.objects if "beam-temp" in path]) == 1
    clear_temporary("bucket://out/x")
    assert not [path for path in Bucket.objects if "beam-temp" in path]


# Writing: what is in a part


class Named(typing.NamedTuple):
    id: int
    text: str


@pytest.mark.parametrize(
    "make",
    [
        lambda i: {"id": i, "text": str(i)},
        lambda i: beam.Row(id=i, text=str(i)),
        lambda i: Named(i, str(i)),
    ],
    ids=["dict", "Row", "NamedTuple"],
)
def test_rows_are_gathered_into_tables(tmp_path, make):
    with pipeline() as p:
        p | beam.Create(range(2500)) | beam.Map(make) | WriteTables(str(tmp_path))
    rows = sorted(written_rows(tmp_path), key=lambda row: row["id"])
    assert rows == [{"id": i, "text": str(i)} for i in range(2500)]
    assert len(parts(tmp_path)) < 10


def test_rows_that_are_large_are_gathered_by_their_bytes(tmp_path):
    sink = _Parts(str(tmp_path), False, 1 << 20, 1 << 30)
    writer = sink.open_writer(sink.initialize_write(), "0")
    before = pa.total_allocated_bytes()
    for i in range(100):
        writer.write({"id": i, "image": [bytes(1 << 19), bytes(1 << 19)]})
        assert len(writer._rows) < 10
    assert pa.total_allocated_bytes() - before < 30 << 20
    [path] = writer.close()
    assert pq.read_table(path)["id"].to_pylist() == list(range(100))


def test_rows_whose_values_differ_in_type_are_all_written(tmp_path):
    values = [1, "a", 2.5, [1], None, "b", {"k": 1}, 2**70, True] * 30
    with pytest.raises(TypeError, match="a row of 'id', 'value'"):
        write(tmp_path, [{"id": i, "value": value} for i, value in enumerate(values)])
    values = [value for value in values if value != 2**70]
    write(tmp_path, [{"id": i, "value": value} for i, value in enumerate(values)])
    rows = sorted(written_rows(tmp_path), key=lambda row: row["id"])
    assert [row["value"] for row in rows] == values


def test_of_a_row_what_has_no_type_is_written_as_json_text(tmp_path):
    said = [{"content": "be brief"}, {"content": [{"type": "text", "text": "é"}]}]
    values = [said, [{"content": "x"}], [1, "a"], {"k": [1, "a"]}] * 5
    write(tmp_path, [{"id": i, "value": value} for i, value in enumerate(values)])
    rows = sorted(written_rows(tmp_path), key=lambda row: row["id"])
    read = [row["value"] if i % 4 == 1 else json.loads(row["value"]) for i, row in enumerate(rows)]
    assert read == values and "é" in rows[0]["value"]
    with pytest.raises(TypeError, match="a row of 'value' has a value that Arrow cannot hold"):
        write(tmp_path / "bytes", [{"value": [b"a", 1, {"b": 2}]}])


def test_many_small_tables_make_few_row_groups(tmp_path):
    sink = _Parts(str(tmp_path), False, 1 << 20, 1 << 30)
    writer = sink.open_writer(sink.initialize_write(), "0")
    for i in range(3000):
        writer.write(ints(1, i))
    [path] = writer.close()
    assert pq.ParquetFile(path).num_row_groups == 1
    assert pq.read_table(path)["id"].to_pylist() == list(range(3000))


def test_row_groups_and_parts_have_the_size_asked_for(tmp_path):
    sink = _Parts(str(tmp_path), False, 8 * 1000, 8 * 10_000)
    writer = sink.open_writer(sink.initialize_write(), "0")
    writer.write(ints(10_000))
    for i in range(100):
        writer.write(ints(250, 10_000 + 250 * i))
    paths = writer.close()
    counts = [
        pq.ParquetFile(path).metadata.row_group(i).num_rows
        for path in paths
        for i in range(pq.ParquetFile(path).num_row_groups)
    ]
    assert len(paths) == 4
    assert sum(counts) == 35_000 and max(counts) == 1000


def test_slices_do_not_keep_their_tables_alive(tmp_path):
    sink = _Parts(str(tmp_path), False, 32 << 20, 1 << 30)
    writer = sink.open_writer(sink.initialize_write(), "0")
    before = pa.total_allocated_bytes()
    for _ in range(100):
        writer.write(pa.table({"text": ["x" * 1000] * 8192}).slice(7, 1))
    assert pa.total_allocated_bytes() - before < 8 << 20
    [path] = writer.close()
    assert pq.read_table(path)["text"].to_pylist() == ["x" * 1000] * 100


def one_part(tmp_path, *tables):
    sink = _Parts(str(tmp_path), False, 32 << 20, 1 << 30)
    writer = sink.open_writer(sink.initialize_write(), "0")
    for table in tables:
        writer.write(table)
    return [pq.read_table(path) for path in writer.close()]


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (pa.null(), pa.string()),
        (pa.null(), pa.list_(pa.float32(), 3)),
        (pa.null(), pa.struct([("a", pa.int64())])),
        (pa.null(), pa.dictionary(pa.int32(), pa.string())),
        (pa.int32(), pa.int64()),
        (pa.uint8(), pa.int16()),
        (pa.int32(), pa.float64()),
        (pa.float32(), pa.float64()),
        (pa.string(), pa.large_string()),
        (pa.dictionary(pa.int32(), pa.string()), pa.string()),
        (pa.list_(pa.null()), pa.list_(pa.string())),
        (pa.list_(pa.field("element", pa.int8())), pa.list_(pa.int64())),
        (pa.struct([("a", pa.null()), ("b", pa.int8())]),
         pa.struct([("a", pa.string()), ("b", pa.int64())])),
        (pa.struct([("b", pa.int8())]), pa.struct([("a", pa.list_(pa.string())), ("b", pa.int64())])),
    ],
    ids=str,
)  # fmt: skip
def test_types_that_widen_without_loss_share_a_part(tmp_path, narrow, wide):
    tables = [pa.table({"c": pa.nulls(2, type)}) for type in (narrow, wide, narrow)]
    [got] = one_part(tmp_path, *tables)
    assert got.num_rows == 6
    assert got.schema.field("c").type.equals(pa.list_(pa.float32()) if pa.types.is_fixed_size_list(wide) else wide)


def test_a_struct_that_gains_a_vector_holds_it_as_a_list(tmp_path):
    kinds = [pa.struct([("a", pa.int64()), *more]) for more in ([], [("v", F2)], [])]
    values = [{"a": 1}, {"a": 2, "v": [1.0, 2.0]}, {"a": 3}]
    tables = [pa.table({"c": pa.array([value], kind)}) for value, kind in zip(values, kinds)]
    [got] = one_part(tmp_path, *tables)
    assert got["c"].to_pylist() == [{"a": 1, "v": None}, {"a": 2, "v": [1.0, 2.0]}, {"a": 3, "v": None}]


def test_structs_that_have_each_a_field_of_their_own_do_not_share_a_part(tmp_path):
    tables = one_part(tmp_path, pa.table({"c": [{"a": 1, "b": 1}]}), pa.table({"c": [{"a": 1, "c": 1}]}))
    assert [table.num_rows for table in tables] == [1, 1]


def test_nullability_and_metadata_do_not_part_tables(tmp_path):
    required = pa.schema([pa.field("a", pa.int64(), nullable=False)], {"k": "v"})
    tables = pa.table({"a": [1]}, schema=required), pa.table({"a": [None, 2]})
    [got] = one_part(tmp_path, *tables)
    assert got["a"].to_pylist() == [1, None, 2]


def test_other_schemas_go_to_parts_of_their_own(tmp_path):
    kinds = [
        pa.table({"a": [1]}),
        pa.table({"a": ["x"]}),
        pa.table({"a": [1.5]}),
        pa.table({"b": [1]}),
        pa.table({"a": [1], "b": [1]}),
        pa.table({"a": pa.array([2**63], pa.uint64())}),
    ]
    tables = one_part(tmp_path, *kinds[:4], *kinds[:4], *kinds)
    assert sum(table.num_rows for table in tables) == 14
    # Schemas that alternate do not make a part each time.
    assert len(tables) < 12
    for kind in kinds:
        assert any(table.schema.equals(kind.schema) for table in tables)


def test_what_widens_after_a_row_group_was_written_begins_a_part(tmp_path):
    sink = _Parts(str(tmp_path), False, 1, 1 << 30)
    writer = sink.open_writer(sink.initialize_write(), "0")
    writer.write(pa.table({"i": [1], "a": pa.nulls(1)}))
    writer.write(pa.table({"i": [2], "a": ["x"]}))
    writer.write(pa.table({"i": [3], "a": pa.nulls(1)}))
    tables = [pq.read_table(path) for path in writer.close()]
    assert sorted(table.num_rows for table in tables) == [1, 2]


def test_types_that_parquet_lacks_are_written_as_json_text(tmp_path):
    table = pa.table({"meta": [{}, None], "deep": [{"a": {}}, {"a": None}], "n": [1, 2]})
    [got] = one_part(tmp_path, table)
    assert got.to_pylist() == [
        {"meta": "{}", "deep": '{"a":{}}', "n": 1},
        {"meta": None, "deep": '{"a":null}', "n": 2},
    ]


def test_vectors_are_stored_plain_and_the_rest_with_zstd(tmp_path):
    floats = pa.list_(pa.float32(), 4)
    table = pa.table(
        {
            "text": ["a"],
            "score": [0.5],
            "fixed": pa.array([[1.0] * 4], floats),
            "list": [[0.5, 0.25]],
            "half": pa.array([[np.float16(1)]], pa.list_(pa.float16())),
            "nested": pa.array([[{"v": [1.0] * 4, "t": "x"}]],
                               pa.list_(pa.struct([("v", floats), ("t", pa.string())]))),
            "tags": [["a"]],
            "a.dotted": pa.array([[1.0] * 4], floats),
        }
    )  # fmt: skip
    write(tmp_path, [table])
    [path] = parts(tmp_path)
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    plain = {c.path_in_schema for c in columns if c.compression == "UNCOMPRESSED"}
    assert plain == {
        "fixed.list.element", "list.list.element", "half.list.element",
        "nested.list.element.v.list.element", "a.dotted.list.element",
    }  # fmt: skip
    for column in columns:
        vector = column.path_in_schema in plain
        assert column.has_dictionary_page != vector, column.path_in_schema
        assert column.is_stats_set != vector, column.path_in_schema
        assert column.compression == ("UNCOMPRESSED" if vector else "ZSTD")
    assert pq.read_table(path).schema.field("fixed").type.equals(floats)
    assert pq.read_table(path).to_pylist() == table.to_pylist()


F2 = pa.list_(pa.float32(), 2)


@pytest.mark.parametrize(
    ("values", "type"),
    [
        ([[1.0, 2.0], None, [3.0, 4.0]], F2),
        ([{"v": [1.0, 2.0]}, {"v": None}, None], pa.struct([("v", F2)])),
        ([{"v": [1.0, 2.0]}, None], pa.struct([("v", F2)])),
        ([[[1.0, 2.0], None], [], None], pa.list_(F2)),
    ],
    ids=str,
)
def test_a_vector_that_is_null_can_be_read_again(tmp_path, values, type):
    table = pa.table({"c": pa.array(values, type)})
    [got] = one_part(tmp_path, table, table.slice(1))
    assert got.to_pylist() == table.to_pylist() + table.to_pylist()[1:]


def test_vectors_with_and_without_nulls_share_a_part_of_lists(tmp_path):
    whole = pa.table({"c": pa.array([[1.0, 2.0]], F2)})
    missing = pa.table({"c": pa.array([None], F2)})
    [got] = one_part(tmp_path, whole, missing, whole)
    assert got["c"].to_pylist() == [[1.0, 2.0], None, [1.0, 2.0]]
    assert got.schema.field("c").type.equals(pa.list_(pa.float32()))


def test_duckdb_reads_vectors(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    write(tmp_path, [pa.table({"v": pa.array([[1.0, 2.0]], F2)})])
    assert duckdb.sql(f"select v from '{tmp_path}/part-*.parquet'").fetchall() == [([1.0, 2.0],)]


def test_pandas_reads_vectors(tmp_path):
    pandas = pytest.importorskip("pandas")
    write(tmp_path, [pa.table({"v": pa.array([[1.0, 2.0]], F2)})])
    assert pandas.read_parquet(tmp_path)["v"][0].tolist() == [1.0, 2.0]


def test_windowed_tables_are_written_as_one_dataset(tmp_path):
    with pipeline() as p:
        tables = p | beam.Create([ints(1, i) for i in range(5)])
        windowed = tables | beam.WindowInto(beam.window.FixedWindows(10))
        paths = windowed | WriteTables(str(tmp_path))
        paths | beam.Map(assert_part)
    assert len(written_rows(tmp_path)) == 5


def test_two_runs_into_one_folder_are_not_both_there(tmp_path):
    directory = str(tmp_path / "out")
    first, second = (_Parts(directory, False, 1 << 20, 1 << 20) for _ in range(2))
    begun = [sink.initialize_write() for sink in (first, second)]
    paths = []
    for sink, temporary in zip((first, second), begun):
        writer = sink.open_writer(temporary, "one")
        writer.write(ints(3))
        paths.append(writer.close())
    first.finalize_write(begun[0], [paths[0]], None)
    with pytest.raises(FileExistsError, match="this run's are kept in"):
        second.finalize_write(begun[1], [paths[1]], None)
    clear_temporary(directory)
    assert pq.read_table(directory).num_rows == 3
    assert os.path.exists(paths[1][0])


def test_only_the_temporary_files_of_the_own_run_are_cleared(tmp_path):
    directory = str(tmp_path / "out")
    mine, theirs = (_Parts(directory, False, 1 << 20, 1 << 20, name) for name in ("mine", "theirs"))
    begun = [sink.initialize_write() for sink in (mine, theirs)]
    clear_temporary(directory, "mine")
    assert [os.path.exists(temporary) for temporary in begun] == [False, True]


KILLED = """
import os, sys, time
import pyarrow as pa
from beam_openai.parquet.write import _Parts
sink = _Parts(sys.argv[1], False, 1 << 20, 1 << 20, "another")
temporary = sink.initialize_write()
writer = sink.open_writer(temporary, "one")
writer.write(pa.table({"id": [1]}))
written = [writer.close()]
print(temporary, flush=True)
if sys.argv[2] == "naming":
    import beam_openai.parquet.sink
    beam_openai.parquet.sink.rename = lambda *_: os._exit(9)
    sink.finalize_write(temporary, written, None)
time.sleep(60)
"""


@pytest.fixture
def other_run(tmp_path):
    """Begins to write in another process; gives that and its temporary folder."""
    processes = []

    def begin(where):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "out"), where]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, *sys.path])}
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True))
        return processes[-1], processes[-1].stdout.readline().strip()

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("where", ["writing", "naming"])
def test_what_a_killed_run_has_left_goes_with_the_parts_that_are_replaced(tmp_path, other_run, where):
    process, temporary = other_run(where)
    if where == "writing":
        process.kill()
    process.wait()
    write(tmp_path / "out", [ints(3)])
    assert os.path.exists(temporary)
    write(tmp_path / "out", [ints(2)], overwrite=True)
    assert os.listdir(tmp_path / "out") == [os.path.basename(path) for path in parts(tmp_path / "out")]
    assert written_rows(tmp_path / "out") == [{"id": 0}, {"id": 1}]


def test_what_others_have_under_way_is_not_taken_from_them(tmp_path, other_run):
    _, temporary = other_run("writing")
    elsewhere = [tmp_path / "out" / f"_beam-temp-parts-{number}" for number in range(4)]
    for folder, owner in zip(
        elsewhere, [b"another-machine 2147483646", b"", b"\xff 7", f"{platform.node()} {9**30}".encode()]
    ):
        folder.mkdir()
        (folder / "begun").write_bytes(owner)
    mine = _Parts(str(tmp_path / "out"), False, 1 << 20, 1 << 20).initialize_write()
    write(tmp_path / "out", [ints(2)], overwrite=True)
    assert all(os.path.exists(folder) for folder in (temporary, *elsewhere, mine))


def test_a_program_on_its_way_out_clears_what_it_has_begun(tmp_path, other_run):
    _, temporary = other_run("writing")
    sinks = [_Parts(str(tmp_path / name), False, 1 << 20, 1 << 20) for name in ("out", "named")]
    mine, named = (sink.initialize_write() for sink in sinks)
    writer = sinks[1].open_writer(named, "one")
    writer.write(ints(1))
    [path] = writer.close()
    (tmp_path / "named" / "part-of-another.parquet").write_bytes(b"")
    assert unfinished(str(tmp_path / "named"), "parts") == []
    with pytest.raises(FileExistsError, match="kept in"):
        sinks[1].finalize_write(named, [[path]], None)
    clear_own_temporary()
    assert [os.path.exists(folder) for folder in (mine, named, temporary)] == [False, True, True]
    assert unfinished(str(tmp_path / "named"), "parts") == [named]
