"""Each recipe of `pipelines` as it stands, over a little data, against the emulator."""

import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import wave
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import vectors

from pipelines import (
    classify_rows,
    complete_prompts,
    embed_corpus,
    finetune,
    generate_images,
    moderate_dataset,
    semantic_search,
    transcribe_audio,
)

ROOT = Path(__file__).parent.parent
RECIPES = sorted(path.stem for path in (ROOT / "pipelines").glob("*.py") if "starting.parser(" in path.read_text())

pytestmark = pytest.mark.usefixtures("clean")


@pytest.fixture
def start(emulator, tmp_path):
    """Runs a recipe over some rows; its output's folder."""

    def run(recipe, rows, *options, status=0):
        source = rows
        if isinstance(rows, pa.Table):
            source = tmp_path / "in.parquet"
            pq.write_table(rows, source)
        arguments = ["--input", source, "--output", tmp_path / "out", "--base-url", emulator.base_url, *options]
        assert recipe.main([str(argument) for argument in arguments]) == status
        return tmp_path / "out"

    return run


def rows_in(folder):
    return pq.read_table(folder).to_pylist()


def test_embed_corpus(start):
    folder = start(embed_corpus, pa.table({"body": ["a", "b", None]}), "--model", "tiny", "--column", "body")
    assert {row["body"]: row["embedding"] for row in rows_in(folder)} == dict(zip("ab", vectors(["a", "b"])))
    assert [row["error"]["message"] for row in rows_in(f"{folder}.failed")] == ["body is null"]


def test_moderate_dataset(start):
    texts = ["I like cats", "I will kill you", "I will kill them", None]
    folder = start(moderate_dataset, pa.table({"text": texts}))
    assert {row["text"]: row["flagged"] for row in rows_in(folder)} == dict(zip(texts, [False, True, True]))
    counts = {row["what"]: row["rows"] for row in rows_in(f"{folder}.counts")}
    assert (counts["rows"], counts["flagged"], counts["violence"], counts["sexual"]) == (3, 2, 2, 0)
    assert len(rows_in(f"{folder}.failed")) == 1


def test_complete_prompts(start, emulator):
    options = ["--model", "davinci-002", "--prompt", r"English: {text}\nFrench:", "--stop", r"\n", "--max-tokens", "5"]
    folder = start(complete_prompts, pa.table({"text": ["cat", "dog"]}), *options)
    assert all(row["completion"] and row["finish_reason"] for row in rows_in(folder))
    (request,) = emulator.requests()
    assert sorted(request["body"]["prompt"]) == ["English: cat\nFrench:", "English: dog\nFrench:"]
    assert request["body"]["stop"] == ["\n"] and request["body"]["max_tokens"] == 5


def test_classify_rows(start):
    rows = pa.table({"id": range(6), "review": [f"review {n}" for n in range(6)]})
    folder = start(classify_rows, rows, "--text", "{review}", "--labels", "good, bad", "--model", "gpt-4o-mini")
    found = rows_in(folder)
    assert len(found) == 6 and {row["label"] for row in found} <= {"good", "bad"}
    schema = pq.read_schema(next(folder.glob("*.parquet")))
    assert (schema.field("confidence").type, schema.field("reason").type) == (pa.float64(), pa.string())


@pytest.mark.parametrize("labels", ["good", ",", "good,bad,good", "good,,bad"])
def test_labels_that_are_none_are_wrong_usage(start, labels):
    with pytest.raises(SystemExit, match="2"):
        start(classify_rows, pa.table({"text": ["a"]}), "--labels", labels)


def test_generate_images(start):
    rows = pa.table({"id": ["one", "two", "none"], "animal": ["cat", "dog", None]})
    folder = start(generate_images, rows, "--prompt", "A {animal}", "--name", "id")
    assert sorted(path.name for path in folder.iterdir()) == ["one.png", "two.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.iterdir())
    assert [row["id"] for row in rows_in(f"{folder}.failed")] == ["none"]


def sound(seconds):
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(8000)
        written.writeframes(bytes(range(256)) * int(seconds * 8000 * 2 / 256))
    return file.getvalue()


def test_transcribe_audio(start, tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in ("a.wav", "b.wav"):
        (folder / name).write_bytes(sound(2))
    (folder / "notes.txt").write_text("not a recording")
    out = start(transcribe_audio, folder, "--segments")
    found = rows_in(out)
    assert sorted(row["name"] for row in found) == ["a.wav", "b.wav"]
    assert all(row["transcription"] and row["segments"] and "audio" not in row for row in found)


def test_semantic_search(start, emulator, capsys):
    rows = pa.table({"id": [1, 2, 3], "text": ["read a file", "bake a cake", "close a file"]})
    folder = start(semantic_search, rows, "--question", "read files", "--question", "bake", "--most", "2")
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "read files" and shown[1].endswith("read a file")
    assert shown[3] == "bake" and shown[4].endswith("bake a cake")
    nearest = rows_in(folder / "nearest.parquet")
    assert next(row["id"] for row in nearest if row["question"] == "read files") == 1
    assert len(nearest) == 4 and nearest[0]["score"] >= nearest[1]["score"]
    scores = duckdb.query(f"SELECT max(score) <= 1 FROM '{folder}/nearest.parquet'").fetchall()
    assert scores == [(True,)]
    emulator.clear()
    start(semantic_search, rows, "--question", "close")
    assert emulator.billed(["read a file", "close"]) == [0, 1]


def test_semantic_search_in_a_corpus_of_awkward_names(emulator, tmp_path, capsys):
    rows = pa.table(
        {"my text": ["bake a cake", "close a file"], "score": [5.0, 7.0], "question": ["a", "b"], "found": [1, 2]}
    )
    pq.write_table(rows, tmp_path / "in.parquet")
    where = ["--input", f"{tmp_path}/in.parquet", "--output", f"{tmp_path}/it's out", "--base-url", emulator.base_url]
    asked = ["--column", "my text", "--question", "bake", "--question", "bake", "--most", "1"]
    assert semantic_search.main([*where, *asked]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "bake" and all(line.endswith("bake a cake") for line in shown[1:]) and len(shown) == 3
    nearest = rows_in(tmp_path / "it's out" / "nearest.parquet")
    assert nearest[0]["question"] == "bake" and 0 < nearest[0]["score"] <= 1
    assert (nearest[0]["corpus_question"], nearest[0]["corpus_score"], nearest[0]["found"]) == ("a", 5.0, 1)
    with pytest.raises(SystemExit):
        semantic_search.main([*where, "--question", " "])
    assert "--question is empty" in capsys.readouterr().err


def conversation(n):
    return [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": f"answer {n}"}]


def tune(start, emulator, tmp_path, rows, *options, status=0):
    """Runs the recipe while the server's clock is turned forward."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "train.jsonl").write_text(lines)
    arguments = ["--train", tmp_path / "train.jsonl", "--folder", tmp_path / "tuning", "--poll", "0.1", *options]
    ended = threading.Event()

    def turn():
        while not ended.wait(0.2):
            emulator.turn_clock(60)

    clock = threading.Thread(target=turn)
    clock.start()
    try:
        return start(finetune, pa.table({"prompt": ["question 1", "something else"]}), *arguments, status=status)
    finally:
        ended.set()
        clock.join()


def test_finetune(start, emulator, tmp_path, capsys):
    rows = [{"messages": conversation(n)} for n in range(20)] + [{"messages": []}]
    options = ["--model", "gpt-4o-mini", "--suffix", "mine", "--epochs", "2"]
    folder = tune(start, emulator, tmp_path, rows, *options)
    shown = capsys.readouterr().out
    assert "The job has successfully completed" in shown and '"examples": 20' in shown
    summary = json.loads((tmp_path / "tuning" / "summary.json").read_text())
    assert (summary["failed"], summary["epochs"], summary["form"]) == (1, 2, "chat") and summary["price"] is None
    assert [row["error"]["message"].split(":")[0] for row in rows_in(tmp_path / "tuning.failed")] == ["messages"]
    assert len(rows_in(folder)) == 2 and all(row["completion"] for row in rows_in(folder))
    models = {request["body"]["model"] for request in emulator.requests() if request["path"] == "/v1/chat/completions"}
    assert len(models) == 1 and models.pop().startswith("ft:gpt-4o-mini") and ":mine:" in shown


def test_finetune_of_a_model_that_completes_prompts(start, emulator, tmp_path):
    rows = [{"prompt": f"{n} ->", "completion": f" {n}\n"} for n in range(12)]
    folder = tune(start, emulator, tmp_path, rows, "--model", "davinci-002")
    assert len(rows_in(folder)) == 2
    (request,) = [request for request in emulator.requests() if request["path"] == "/v1/completions"]
    assert request["body"]["model"].startswith("ft:davinci-002")


def test_finetune_uploads_no_rows_of_a_form_that_the_model_does_not_take(start, emulator, tmp_path):
    rows = [{"prompt": f"{n} ->", "completion": f" {n}\n"} for n in range(12)]
    says = "a job for gpt-4o-mini does not take examples of completion: nothing was uploaded"
    with pytest.raises(ValueError, match=says):
        tune(start, emulator, tmp_path, rows, "--model", "gpt-4o-mini")
    assert emulator.requests() == [] and len(list((tmp_path / "tuning").glob("part-*.jsonl"))) == 1
    with pytest.raises(Exception, match="not supported in the v1/completions endpoint"):
        tune(start, emulator, tmp_path, rows, "--model", "gpt-4o-mini", "--any-form", "--overwrite")
    assert "/v1/files" in [request["path"] for request in emulator.requests()]


def test_finetune_takes_messages_whose_contents_are_text_and_parts(start, emulator, tmp_path):
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    seen = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}
    told = {"role": "system", "content": "Be brief."}
    said = [[told, seen, {"role": "assistant", "content": f"a cat, {n}"}] for n in range(12)]
    tune(start, emulator, tmp_path, [{"messages": each} for each in said], "--model", "gpt-4o-mini", "--prepare")
    (written,) = (tmp_path / "tuning").glob("part-*.jsonl")
    assert [json.loads(line)["messages"] for line in written.read_text().splitlines()] == said


def test_finetune_says_what_training_costs_where_it_is_told_the_price(start, emulator, tmp_path, capsys):
    rows = [{"messages": conversation(n)} for n in range(12)]
    options = ["--model", "gpt-4o-mini", "--prepare", "--epochs", "2", "--price-per-million-tokens"]
    tune(start, emulator, tmp_path, rows, *options, "0.50")
    summary = json.loads((tmp_path / "tuning" / "summary.json").read_text())
    assert Decimal(summary["price"]) == Decimal("0.5") * 2 * summary["tokens"] / 1_000_000
    for wrong in ("x", "-1", "nan"):
        with pytest.raises(SystemExit):
            tune(start, emulator, tmp_path, rows, *options, wrong)
        assert f"not a price in dollars: '{wrong}'" in capsys.readouterr().err


def test_finetune_says_why_a_job_failed(start, emulator, tmp_path, capsys):
    rows = [{"messages": conversation(f"FAIL-TRAINING {n}")} for n in range(12)]
    folder = tune(start, emulator, tmp_path, rows, "--model", "gpt-4o-mini", status=1)
    assert "has failed" in capsys.readouterr().err and not folder.exists()


def test_finetune_prepares_and_no_more(start, emulator, tmp_path):
    rows = [{"messages": conversation(n)} for n in range(12)]
    folder = tune(start, emulator, tmp_path, rows, "--model", "gpt-4o-mini", "--prepare")
    assert emulator.requests() == [] and not folder.exists()
    assert len(list((tmp_path / "tuning").glob("part-*.jsonl"))) == 1


# As programs


def program(recipe, *arguments, cwd=ROOT, before=()):
    command = [*before, sys.executable, "-m", f"pipelines.{recipe}", *map(str, arguments)]
    # A module's cache that is cut off by a limit on files would fail whoever imports it next.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, timeout=120)


def test_a_recipe_is_a_program_that_takes_the_options_of_beam(emulator, tmp_path):
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(40)]}), tmp_path / "in.parquet")
    where = ["--input", tmp_path / "in.parquet", "--output", tmp_path / "out", "--base-url", emulator.base_url]
    runner = ["--runner", "apache_beam.runners.portability.fn_api_runner.FnApiRunner"]
    workers = ["--direct_running_mode", "multi_processing", "--direct_num_workers", "2"]
    ended = program("moderate_dataset", *where, *runner, *workers)
    assert ended.returncode == 0, ended.stderr
    assert len(rows_in(tmp_path / "out")) == 40
    assert {row["what"]: row["rows"] for row in rows_in(tmp_path / "out.counts")}["rows"] == 40


@pytest.fixture
def rows(tmp_path):
    pq.write_table(pa.table({"text": ["a cat", "a hen"]}), tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


@pytest.mark.parametrize(
    ("recipe", "options", "status", "says"),
    [
        ("embed_corpus", ["--input", "nowhere/*.parquet"], 2, "no files match 'nowhere/*.parquet'"),
        ("embed_corpus", ["--column", "body"], 1, "the rows have no column 'body'; they have: text"),
        ("embed_corpus", ["--key", "NOT_SET_HERE"], 1, "no API key: the environment variable NOT_SET_HERE is not set"),
        ("embed_corpus", ["--key", "sk-0123456789abcdef"], 2, "--key says where the key is, never the key itself"),
        ("moderate_dataset", ["--output", "full"], 2, "full already holds 1 part; pass --overwrite to replace them"),
        (
            "generate_images",
            ["--name", "id", "--prompt", "{text}"],
            1,
            "the rows have no column 'id' to name files after",
        ),
        ("finetune", ["--train", "in.parquet", "--folder", "tuning"], 1, "the rows have no columns messages or prompt"),
        ("finetune", ["--train", "a", "--folder", "b", "--output", "full"], 2, "full already holds 1 part"),
    ],
)
def test_a_mistake_ends_a_recipe_in_one_line_and_costs_nothing(emulator, rows, tmp_path, recipe, options, status, says):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "part-0.parquet").write_bytes(rows.read_bytes())
    where = ["--input", rows, "--output", tmp_path / "out", "--base-url", emulator.base_url]
    ended = program(recipe, *where, *options, cwd=tmp_path)
    assert ended.returncode == status and "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith(f"python -m pipelines.{recipe}: {says}")
    assert ended.stdout == "" and "0123456789" not in ended.stderr
    assert emulator.requests() == [] and not [path for path in tmp_path.rglob("*") if "temp-" in path.name]


def test_a_recipe_that_runs_out_of_disk_leaves_nothing_behind(emulator, rows, tmp_path):
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({"messages": conversation(n)}) + "\n" for n in range(200)))
    train = ["--train", tmp_path / "train.jsonl", "--folder", tmp_path / "tuning", "--prepare"]
    where = ["--input", rows, "--output", tmp_path / "out", "--base-url", emulator.base_url]
    # 18 blocks of 512 bytes.
    ended = program("finetune", *train, *where, before=["sh", "-c", 'ulimit -f 18; exec "$@"', "sh"])
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert re.search(rf"{tmp_path}/tuning/_beam-temp-parts-\S+ cannot be written", ended.stderr.splitlines()[-1])
    assert not [path for path in tmp_path.rglob("*") if "temp-" in path.name]


def test_a_traceback_of_a_recipe_is_shown_only_with_debug(rows, tmp_path):
    ended = program("embed_corpus", "--input", "nowhere", "--output", tmp_path / "out", "--debug")
    assert ended.returncode == 2 and "Traceback" in ended.stderr
    assert ended.stderr.splitlines()[-1] == "python -m pipelines.embed_corpus: no files match 'nowhere'"


def test_ctrl_c_ends_a_recipe_at_once_and_leaves_no_file(start_emulator, rows, tmp_path):
    server = start_emulator(latency=60)
    where = ["--input", rows, "--output", tmp_path / "out", "--base-url", server.base_url, "--model", "tiny"]
    command = [sys.executable, "-m", "pipelines.embed_corpus", *map(str, where)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 30
    while not server.ledger()["in_flight"] and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1].splitlines()[-1] == "python -m pipelines.embed_corpus: stopped by you"
    assert process.returncode == 1 and list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_says_what_it_does(recipe, capsys):
    module = importlib.import_module(f"pipelines.{recipe}")
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "--model" in shown and " ".join(module.__doc__.split("\n")[0].split()) in " ".join(shown.split())
    assert f"python -m pipelines.{recipe} " in module.__doc__


def test_a_folder_may_have_a_slash_behind_it(start, tmp_path):
    folder = start(embed_corpus, pa.table({"text": ["a", None]}), "--model", "tiny", "--output", f"{tmp_path / 'to'}/")
    assert len(rows_in(tmp_path / "to")) == len(rows_in(tmp_path / "to.failed")) == 1 and not folder.exists()


def test_an_option_that_nobody_knows_is_refused(start, capsys):
    with pytest.raises(SystemExit):
        start(embed_corpus, pa.table({"text": ["a"]}), "--dimension", "8")
    assert "unknown option --dimension" in capsys.readouterr().err
