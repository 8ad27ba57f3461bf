"""The README's blocks run as they stand, against an emulator."""

import json
import os
import re
import subprocess
import sys
import wave
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_openai.emulator import Emulator
from beam_openai.sources import ERROR

ROOT = Path(__file__).parent.parent
RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
RECIPES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "recipes.md").read_text(), re.DOTALL)
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(1, len(BLOCKS) + 1))
def test_a_block_runs_and_a_table_comes_out(block, tmp_path):
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.table({"id": [1, 2], "text": ["one", None]}), tmp_path / "corpus" / "a.parquet")
    with Emulator() as server:
        environment = {**os.environ, "OPENAI_BASE_URL": server.base_url, "PYTHONPATH": str(ROOT)}
        # Beam's own default runner would look for a download first.
        block = block.replace("beam.Pipeline()", f"beam.Pipeline('{RUNNER}')")
        ended = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
    assert ended.returncode == 0, ended.stderr
    if "out/embedded" in block:
        assert pq.read_table(tmp_path / "out" / "embedded")["id"].to_pylist() == [1]
        assert pq.read_table(tmp_path / "out" / "failed")["id"].to_pylist() == [2]
    if "print answered" in block:
        assert "'text': 'a cat', 'embedding': [" in ended.stdout
        assert "'kind': 'invalid_input'" in ended.stdout


def test_the_recipes_run_one_after_another(tmp_path):
    (tmp_path / "out" / "failed").mkdir(parents=True)
    failed = pa.table({"id": [3], "text": ["again"]}).append_column("error", pa.nulls(1, ERROR))
    pq.write_table(failed, tmp_path / "out" / "failed" / "part-0.parquet")
    reviews = [{"text": "The soup was cold."}, {"text": "I could kill for that cake!"}]
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reviews))
    (tmp_path / "recordings").mkdir()
    with wave.open(str(tmp_path / "recordings" / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    printed = []
    with Emulator(models={"gpt-4o-mini-2024-07-18": "chat"}) as server:
        environment = {**os.environ, "OPENAI_BASE_URL": server.base_url, "PYTHONPATH": str(ROOT)}
        for block in RECIPES:
            block = block.replace("beam.Pipeline()", f"beam.Pipeline('{RUNNER}')")
            ended = subprocess.run(
                [sys.executable, "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert ended.returncode == 0, block + ended.stderr
            printed.append(ended.stdout)
    judged = pq.read_table(tmp_path / "out" / "judged")
    assert judged.schema.field("stars").type == pa.int8() and judged.num_rows == 2
    assert {"summary", "title", "title_usage"} <= set(pq.read_table(tmp_path / "out" / "entitled").column_names)
    assert sorted(path.name for path in (tmp_path / "out" / "pictures").iterdir()) == ["cat.png", "dog.png"]
    assert pq.read_table(tmp_path / "out" / "heard").num_rows == 1
    assert pq.read_table(tmp_path / "out" / "embedded-again")["id"].to_pylist() == [3]
    assert "I could kill for that cake!" in "".join(printed) and "'examples': 20" in "".join(printed)
    programs = set(re.findall(r"python -m (pipelines\.\w+)", (ROOT / "docs" / "recipes.md").read_text()))
    there = {f"pipelines.{path.stem}" for path in (ROOT / "pipelines").glob("*.py")}
    assert programs == there - {"pipelines.__init__", "pipelines.demo", "pipelines.starting"}


@pytest.mark.parametrize(
    ("how", "rows", "library", "oldest"),
    [
        ("unify_schemas", "moderated.to_pylist()", "pyarrow", (19, 0)),
        ("union_by_name", "categories.fetchall()", "duckdb", (1, 2)),
    ],
)
def test_categories_that_come_up_late_are_read_too(how, rows, library, oldest, tmp_path):
    if tuple(map(int, metadata.version(library).split(".")[:2])) < oldest:
        pytest.skip("the recipe says that an older one cannot")
    folder = tmp_path / "out" / "moderated"
    folder.mkdir(parents=True)
    for number, row in enumerate([{"hate": False, "violence": True}, {"hate": False, "violence": False, "spam": True}]):
        pq.write_table(pa.Table.from_pylist([{"text": "a", "categories": row}]), folder / f"part-{number}.parquet")
    assert "spam" not in str(pq.read_table(folder).to_pylist())
    (block,) = [block for block in RECIPES if how in block]
    program = [sys.executable, "-c", f"{block}\nprint({rows})"]
    ended = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    told, values = ended.stdout.splitlines()
    assert "spam" in told and (values.count("True"), values.count("None")) == (2, 1)


def test_the_commands_that_it_names_are_there():
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make (\w+)", text)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w ]", "", heading).lower().replace(" ", "-") for heading in headings}
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        assert link in anchors or (ROOT / link).exists(), link


def test_the_demo_embeds_a_corpus_and_finds_its_texts(tmp_path):
    program = [sys.executable, "-m", "pipelines.demo", "--rows", "500", "--folder", str(tmp_path / "demo")]
    ended = subprocess.run(
        program, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert ended.returncode == 0, ended.stderr
    assert "500 rows answered, 0 failed" in ended.stdout
    assert "0 of them more than once" in ended.stdout
    assert ended.stderr == ""
    assert pq.read_table(tmp_path / "demo" / "embedded").num_rows == 500
