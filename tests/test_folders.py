"""ReadFiles and WriteFiles: a file is a row and a row is a file, bounded, safe, whole, or a clear error."""

import os
import pickle
import subprocess
import sys
import textwrap
import unicodedata

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import EmbeddedPythonEnvironment
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from hypothesis import given
from hypothesis import strategies as st
from test_parquet import ROOT, Bucket

from beam_openai.emulator.media.pngs import picture
from beam_openai.folders import ReadFiles, WriteFiles, count_files
from beam_openai.folders.names import Row, names_of, safe
from beam_openai.folders.read import groups, read
from beam_openai.folders.write import _Files
from beam_openai.parquet import clear_temporary

PNG, OTHER = picture(b"one", 8, 8), picture(b"two", 8, 8)


def pipeline():
    return beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))


def tables(pattern, **options):
    """The tables that ReadFiles gives, without a pipeline."""
    made = ReadFiles(pattern, **options)
    patterns = [pattern] if isinstance(pattern, str) else pattern
    most = made.max_bytes if made.column else None
    return [read(paths, made.column) for paths in groups(patterns, made.extensions, made.max_rows, most)]


def rows_of(pattern, **options):
    return [row for table in tables(pattern, **options) for row in table.to_pylist()]


def fill(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    return str(folder)


def contents(folder):
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}


# Reading


def test_each_file_is_a_row_with_its_path_its_name_and_its_bytes(tmp_path):
    folder = fill(tmp_path / "in", a__png=b"1", b__PNG=b"22", c__txt=b"")
    assert rows_of(folder) == [
        {"path": f"{folder}/a.png", "name": "a.png", "image": b"1"},
        {"path": f"{folder}/b.PNG", "name": "b.PNG", "image": b"22"},
        {"path": f"{folder}/c.txt", "name": "c.txt", "image": b""},
    ]
    (table,) = tables(folder, column="audio", extensions=[".png"])
    assert table.schema == pa.schema([("path", pa.string()), ("name", pa.string()), ("audio", pa.binary())])
    assert table["name"].to_pylist() == ["a.png", "b.PNG"]


def test_without_a_column_files_are_named_and_not_read(tmp_path):
    folder = fill(tmp_path / "in", a__wav=b"1", b__wav=b"2")
    os.chmod(f"{folder}/a.wav", 0)
    assert rows_of(folder, column=None) == [{"path": f"{folder}/{n}.wav", "name": f"{n}.wav"} for n in "ab"]


def test_hidden_files_and_folders_are_passed_over_unless_asked_for(tmp_path):
    folder = fill(tmp_path / "in", a__png=b"", _SUCCESS=b"", __DS_Store=b"")
    fill(tmp_path / "in" / "deep", b__png=b"")
    assert [row["name"] for row in rows_of(folder)] == ["a.png"]
    assert [row["name"] for row in rows_of(f"{folder}/**/*.png")] == ["a.png", "b.png"]
    assert [row["name"] for row in rows_of([f"{folder}/_*", f"{folder}/a.png", f"{folder}/*"])] == ["_SUCCESS", "a.png"]


def test_nothing_to_read_is_an_error_when_the_pipeline_is_built(tmp_path):
    folder = fill(tmp_path / "in", a__txt=b"")
    for pattern, extensions in ((f"{folder}/*.png", None), (folder, ["png", "jpg"]), (f"{folder}/none", None)):
        with pytest.raises(ValueError, match="no files match"):
            pipeline() | ReadFiles(pattern, extensions=extensions)
    with pytest.raises(ValueError, match="end in jpg, png"):
        count_files([folder], {"png", "jpg"})
    assert count_files([folder]) == 1


@pytest.mark.parametrize(
    "options",
    [{"column": ""}, {"column": "path"}, {"column": "name"}, {"max_rows": 0}, {"max_bytes": 0}, {"extensions": "png"}],
    ids=str,
)
def test_options_that_cannot_work_are_refused_when_made(options):
    with pytest.raises(ValueError):
        ReadFiles("x", **options)


def test_tables_stay_within_rows_and_bytes_and_a_large_file_comes_alone(tmp_path):
    sizes = {"a": 3, "b": 4, "c": 20, "d": 1, "e": 1, "f": 1}
    folder = fill(tmp_path / "in", **{name: bytes(size) for name, size in sizes.items()})
    found = tables(folder, max_bytes=8)
    assert ["".join(table["name"].to_pylist()) for table in found] == ["ab", "c", "def"]
    found = tables(folder, max_rows=2, column=None)
    assert ["".join(table["name"].to_pylist()) for table in found] == ["ab", "cd", "ef"]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    folder = fill(tmp_path / "in", a__png=b"1")
    os.remove(f"{folder}/a.png")
    os.symlink("/nowhere/at/all", f"{folder}/a.png")
    with pytest.raises(ValueError, match=r"in/a\.png: cannot be read"):
        read([f"{folder}/a.png"], "image")


def test_a_file_too_large_for_a_row_is_named_before_it_is_read(tmp_path):
    folder = fill(tmp_path / "in")
    with open(f"{folder}/film.mp4", "wb") as file:
        file.truncate(2**31)
    with pytest.raises(ValueError, match=r"film\.mp4 has 2,147,483,648 bytes, too many for one row: column=None"):
        tables(folder)
    assert len(rows_of(folder, column=None)) == 1


def test_reading_and_what_follows_are_one_stage_behind_a_shuffle_of_paths(tmp_path):
    folder = fill(tmp_path / "in", a__png=PNG)
    p = pipeline()
    found = p | ReadFiles(folder)
    assert found.element_type == pa.Table
    found | "Same" >> beam.Map(lambda table: table)
    _, stages = FnApiRunner().create_stages(p.to_runner_api(default_environment=EmbeddedPythonEnvironment.default()))
    (names,) = [
        names
        for names in ([t.unique_name for t in stage.transforms] for stage in stages)
        if any(name.startswith("Same") for name in names)
    ]
    assert any(name.startswith("ReadFiles/Read") for name in names)
    assert not any("Find" in name for name in names)


def test_transforms_are_pickled_and_printed_as_they_were_made():
    for transform in ReadFiles(["a", "b"], column=None), WriteFiles("out", "image", overwrite=True):
        assert repr(pickle.loads(pickle.dumps(transform))) == repr(transform)


# Writing


def write(folder, elements, column="image", **options):
    with pipeline() as p:
        elements = p | beam.Create(elements, reshuffle=False)
        paths = elements | WriteFiles(str(folder), column, **options)
        paths | beam.Map(check_there)


def check_there(path):
    assert path in Bucket.objects or os.path.isfile(path), path


def images(*images, names=None):
    return pa.table({"name": names or [f"{n}" for n in range(len(images))], "image": pa.array(images)})


def test_each_row_becomes_a_file_named_after_it_and_told_by_its_bytes(tmp_path):
    names = ["cat.jpg", "dog.PNG", "v1.2 final", "a talk.mp3", "odd"]
    write(tmp_path / "out", [images(PNG, OTHER, PNG, b"ID3", b"?", names=names)])
    assert contents(tmp_path / "out") == {
        "cat.png": PNG, "dog.png": OTHER, "v1.2 final.png": PNG, "a talk.mp3": b"ID3", "odd.bin": b"?",
    }  # fmt: skip
    assert sorted(os.listdir(tmp_path / "out")) == sorted(contents(tmp_path / "out"))


def test_of_several_rows_with_one_name_none_is_lost(tmp_path):
    names = ["cat", "cat.jpg", "CAT.png", "cat~2", "dog"]
    data = [PNG + bytes([n]) for n in range(5)]
    write(tmp_path / "out", [images(*data, names=names)])
    found = contents(tmp_path / "out")
    assert sorted(found) == ["CAT.png", "cat~2.png", "cat~3.png", "cat~4.png", "dog.png"]
    assert sorted(found.values()) == data and found["cat~2.png"] == data[3]


def test_lists_are_numbered_and_null_is_no_file(tmp_path):
    rows = pa.table({"name": ["a", "b", "c", "a"], "image": [[PNG, None, OTHER], None, [], [OTHER]]})
    write(tmp_path / "out", [rows])
    found = contents(tmp_path / "out")
    assert sorted(found.values()) == sorted([PNG, OTHER, OTHER])
    assert set(found) in ({"a-0.png", "a-2.png", "a~2-0.png"}, {"a-0.png", "a~2-0.png", "a~2-2.png"})


@pytest.mark.parametrize("nothing", [None, [], [None]], ids=str)
def test_a_dict_without_a_file_is_passed_over(tmp_path, nothing):
    write(tmp_path / "out", [{"name": "a", "image": [PNG]}, {"name": "b", "image": nothing}])
    assert contents(tmp_path / "out") == {"a-0.png": PNG}


@pytest.mark.parametrize(
    "kind",
    [pa.large_binary(), pa.binary_view(), pa.binary(len(PNG)), pa.dictionary(pa.int8(), pa.binary())],
    ids=str,
)
def test_bytes_are_written_however_arrow_holds_them(tmp_path, kind):
    data = pa.array([PNG, None])
    column = data.dictionary_encode() if pa.types.is_dictionary(kind) else data.cast(kind)
    write(tmp_path / "out", [pa.table({"name": ["a", "b"], "image": column})])
    assert contents(tmp_path / "out") == {"a.png": PNG}


@pytest.mark.parametrize(
    "make",
    [dict, lambda row: beam.Row(**row), lambda row: pa.Table.from_pylist([row])],
    ids=["dict", "Row", "Table"],
)
def test_rows_of_every_kind_are_written(tmp_path, make):
    write(
        tmp_path / "out", [make({"id": n, "image": PNG + bytes([n]), "more": {"a": 1}}) for n in range(40)], name="id"
    )
    assert contents(tmp_path / "out") == {f"{n}.png": PNG + bytes([n]) for n in range(40)}


@given(st.one_of(st.none(), st.text(max_size=300), st.integers(), st.binary(max_size=40)))
def test_any_name_is_made_one_that_stays_in_its_folder(name):
    found = safe(name)
    assert 0 < len(found.encode()) <= 180 and found == unicodedata.normalize("NFC", found)
    assert not set(found) & set('/\\:\0\n*?<>|"') and found.isprintable()
    assert found not in (".", "..") and not found.startswith(".") and found.strip(" .") == found


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("/absolute/cat.png", "_absolute_cat"),
        ("C:\\cat.png", "C__cat"),
        ("..", "unnamed"),
        ("", "unnamed"),
        (None, "unnamed"),
        (".png", "unnamed"),
        (".hidden", "hidden"),
        ("a\x00b\nc", "a_b_c"),
        ("e\u0301t\u00e9", "\u00e9t\u00e9"),
        ("\u202egnp.exe", "_gnp.exe"),
        ("\ud800", "_"),
        (12, "12"),
        (b"caf\xe9.wav", "caf\ufffd"),
        ("🦊" * 100, "🦊" * 45),
    ],
)
def test_a_name_that_would_do_harm_does_none(name, stem):
    assert safe(name) == stem


def test_names_in_a_table_lead_nowhere_else(tmp_path):
    names = ["../up", "/tmp/abs", "a/b", "..", "."]
    write(tmp_path / "out", [images(*[PNG] * 5, names=names)])
    assert len(contents(tmp_path / "out")) == 5
    assert os.listdir(tmp_path) == ["out"]


@given(st.lists(st.tuples(st.sampled_from(["a", "A", "a~2", "b", "a~3"]), st.integers(0, 3)), max_size=12))
def test_no_two_files_have_one_name(rows):
    rows = [Row(stem, tuple(f"-{n}.png" for n in range(count)), ()) for stem, count in rows]
    names = names_of(rows, taken=["b-0.png"])
    assert len(names) == sum(len(row.endings) for row in rows)
    assert len({name.casefold() for name in names} | {"b-0.png"}) == len(names) + 1
    assert names == names_of(rows, taken=["B-0.PNG"])


def test_a_folder_with_files_is_refused_unless_they_may_go(tmp_path):
    folder = fill(tmp_path / "out", **{"0.png": b"old", "mine.txt": b"stays"})
    with pytest.raises(FileExistsError, match=r"already holds 2 files; pass overwrite=True \(--overwrite\)"):
        pipeline() | beam.Create([images(PNG)]) | WriteFiles(folder, "image")
    write(folder, [images(PNG)], overwrite=True)
    assert contents(tmp_path / "out") == {"0.png": PNG, "mine.txt": b"stays"}


def test_a_folder_of_that_name_is_never_replaced(tmp_path):
    (tmp_path / "out" / "0.png").mkdir(parents=True)
    (tmp_path / "out" / "0.png" / "mine.txt").write_text("stays")
    write(tmp_path / "out", [images(PNG)], overwrite=True)
    assert contents(tmp_path / "out") == {"0~2.png": PNG}
    assert (tmp_path / "out" / "0.png" / "mine.txt").read_text() == "stays"


def check_good(table):
    if table["name"][0].as_py() == "bad":
        raise RuntimeError("on purpose")
    return table


def test_a_job_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(Exception, match="on purpose"), pipeline() as p:
        tables = p | beam.Create([images(PNG), images(PNG, names=["bad"])], reshuffle=False)
        tables | beam.Map(check_good) | WriteFiles(str(tmp_path / "out"), "image")
    assert contents(tmp_path / "out") == {}
    clear_temporary(str(tmp_path / "out"), "files")
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("element", "column", "says"),
    [
        (images(PNG), "picture", "no column 'picture'"),
        (images(PNG).rename_columns(["id", "image"]), "image", "no column 'name' to name files after; they have: id"),
        (pa.table({"name": ["a"], "image": ["text"]}), "image", "image is string, and files are bytes"),
    ],
)
def test_rows_without_such_columns_are_an_error(tmp_path, element, column, says):
    with pytest.raises(Exception, match=says):
        write(tmp_path / "out", [element], column=column)


def test_what_cannot_work_is_refused_when_it_is_built(tmp_path):
    for make in (lambda: WriteFiles("", "image"), lambda: WriteFiles("out", ""), lambda: WriteFiles("o", "i", name="")):
        with pytest.raises(ValueError):
            make()
    with pytest.raises(ValueError, match="bounded"):
        pipeline() | PeriodicImpulse() | WriteFiles(str(tmp_path / "out"), "image")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        pipeline() | beam.Create([images(PNG)]) | WriteFiles(str(tmp_path / "file" / "out"), "image")


def begun(folder, *tables, uid="one", **options):
    """A sink that has written its files, and not named them yet."""
    sink = _Files(str(folder), "image", "name", options.pop("overwrite", False), "files")
    temporary = sink.initialize_write()
    writer = sink.open_writer(temporary, uid)
    for table in tables:
        writer.write(table)
    return sink, temporary, [writer.close()]


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_naming_can_be_repeated_whole_or_from_the_middle(tmp_path, monkeypatch, renamed):
    sink, temporary, results = begun(tmp_path / "out", images(PNG, OTHER, names=["a", "a"]))
    rename, left = os.rename, [renamed]

    def cut_off(*paths):
        if not left[0]:
            raise OSError("the worker dies here")
        left[0] -= 1
        rename(*paths)

    if renamed < 2:
        monkeypatch.setattr(os, "rename", cut_off)
        with pytest.raises(OSError, match="dies here"):
            sink.finalize_write(temporary, results, None)
        monkeypatch.undo()
    paths = sink.finalize_write(temporary, results, None)
    assert sorted(map(os.path.basename, paths)) == ["a.png", "a~2.png"]
    assert {path: open_bytes(path) for path in paths} == dict(zip(paths, [PNG, OTHER]))
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "a~2.png"]


def open_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def test_two_runs_into_one_folder_are_not_mixed(tmp_path):
    first = begun(tmp_path / "out", images(PNG))
    second = begun(tmp_path / "out", images(OTHER))
    first[0].finalize_write(*first[1:], None)
    for _ in range(2):
        with pytest.raises(FileExistsError, match="This run's are kept in"):
            second[0].finalize_write(*second[1:], None)
    clear_temporary(str(tmp_path / "out"), "files")
    assert contents(tmp_path / "out") == {"0.png": PNG}
    assert open_bytes(second[2][0][0].paths[0]) == OTHER


def test_an_object_store_is_read_and_written_as_a_disk_is():
    Bucket.objects.clear()
    Bucket.objects.update({"bucket://in/a.png": PNG, "bucket://in/b.png": OTHER, "bucket://in/c.txt": b""})
    with pipeline() as p:
        p | ReadFiles("bucket://in", extensions=["png"]) | WriteFiles("bucket://out/x/", "image")
    written = {path: data for path, data in Bucket.objects.items() if "/out/" in path}
    assert written == {"bucket://out/x/a.png": PNG, "bucket://out/x/b.png": OTHER}
    with pytest.raises(FileExistsError, match="already holds 2 files"):
        pipeline() | ReadFiles("bucket://in/*.png") | WriteFiles("bucket://out/x", "image")


# Memory

FLAT = """
    import logging, os, resource, sys
    logging.disable(logging.CRITICAL)
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from beam_openai import API, ReadFiles, Transcriptions, WriteFiles, WriteTables
    url, folder, out, column = sys.argv[1:]
    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as p:
        rows = p | ReadFiles(folder, column=column or None)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        heard = rows | Transcriptions(
            model="whisper-1", api=API(base_url=url), concurrency=8, paths=None if column else "path"
        )
        heard.answered | "Rows" >> WriteTables(out + "/rows")
        if column:
            heard.answered | "Files" >> WriteFiles(out + "/files", column)
    assert os.listdir(out + "/rows")
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.parametrize(("column", "most"), [("audio", 350), ("", 60)], ids=["bytes", "paths"])
def test_memory_is_bounded_by_what_is_in_flight(emulator, tmp_path, column, most):
    # 800 MB of files; 64 MB of input and 16 tables of files on their way may be held, some of it twice.
    folder = fill(tmp_path / "in", a__wav=bytes(5 << 20))
    for n in range(159):
        os.link(f"{folder}/a.wav", f"{folder}/{n}.wav")
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FLAT), emulator.base_url, folder, str(tmp_path / "out"), column],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout.split()[-1]) < most
