"""Edits: a text and what to do with it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import QUICK, run
from pure import answer, answered, asked, invalid, prepared
from test_cli import run as command

from beam_openai import API, Edits, column
from beam_openai.errors import BadAnswerError
from beam_openai.tokens import Estimate

pytestmark = pytest.mark.usefixtures("clean")
MODEL = "text-davinci-edit-001"


def made(server=None, **options):
    given = {"model": MODEL, "retry": QUICK, "instruction": "Fix the spelling.", **options}
    return Edits(**given, **({"api": API(base_url=server.base_url)} if server else {}))


def choices(*texts):
    return {"choices": [{"text": text, "index": at} for at, text in enumerate(texts)]}


def test_the_instruction_is_a_template_and_the_text_goes_as_it_is():
    endpoint = made(instruction="Translate to {language}; keep {{braces}}.", temperature=0)
    assert endpoint.inputs == ["text", "language"]
    assert asked(endpoint, {"text": "a {b}", "language": "French"}) == {
        "model": MODEL,
        "temperature": 0,
        "input": "a {b}",
        "instruction": "Translate to French; keep {braces}.",
    }
    assert made(instruction="Answer {text}").inputs == ["text"]


def test_null_fails_and_an_empty_text_is_sent():
    endpoint = made(instruction="In {language}.")
    rows = [
        {"text": None, "language": "French"},
        {"text": "", "language": "French"},
        {"text": "a", "language": None},
        {"text": "a", "language": ""},
    ]
    assert invalid(endpoint, *rows) == {0: "text is null", 2: "language is null"}
    assert invalid(made(instruction="{language}"), *rows)[3] == "instruction would be empty"
    assert asked(endpoint, rows[1])["input"] == ""


def test_text_and_instruction_are_counted():
    endpoint = made(instruction="x" * 30)
    assert endpoint.tokens(prepared(endpoint, [{"text": "y" * 30}, {"text": ""}]), Estimate()).tolist() == [20, 11]


@pytest.mark.parametrize(
    "options",
    [
        {"n": 0},
        {"n": 21},
        {"temperature": 2.1},
        {"top_p": -0.1},
        {"instruction": None},
        {"instruction": "{"},
        {"params": {"instruction": "x"}},
    ],
    ids=str,
)
def test_options_that_can_never_work_are_refused(options):
    with pytest.raises(ValueError):
        made(**options)


def test_an_instruction_is_needed():
    with pytest.raises(TypeError, match="instruction"):
        Edits(model=MODEL)


def test_one_edit_is_a_text_and_several_are_a_list_by_their_indexes():
    assert answered(made(), 1, choices("a")) == [{"edited": "a"}]
    assert answered(made(n=1), 1, choices("a")) == [{"edited": ["a"]}]
    body = choices("a", "b", "c")
    body["choices"].reverse()
    assert answered(made(n=3), 1, body) == [{"edited": ["a", "b", "c"]}]


@pytest.mark.parametrize(
    "body", [{}, choices(), choices("a", "b"), {"choices": [{"index": 1, "text": "a"}]}, b"?"], ids=str
)
def test_another_number_of_edits_is_no_answer(body):
    with pytest.raises(BadAnswerError):
        answer(made(), 1, body)


def test_an_edit_without_text_is_a_bad_row():
    assert answer(made(n=2), 1, choices("a", None)).bad[0].message == "the answer has no text"


def test_each_row_is_changed_as_its_own_instruction_says(emulator):
    rows = [{"id": n, "text": f"subject {n}", "how": f"In way {n}.", "heat": 1.0 if n % 2 else None} for n in range(12)]
    endpoint = made(emulator, instruction="{how}", n=2, temperature=column("heat"))
    outcome = run([pa.Table.from_pylist(rows)], endpoint)
    sent = {body["input"]: body for body in (request["body"] for request in emulator.requests())}
    assert len(sent) == 12
    for row in outcome.rows():
        body = sent[row["text"]]
        assert body["instruction"] == row["how"] and body.get("temperature") == row["heat"]
        assert len(row["edited"]) == 2 and all(isinstance(text, str) for text in row["edited"])
    assert outcome.counter("prompt_tokens") > 0 and outcome.counter("completion_tokens") > 0


def test_from_the_command_line_to_parquet(emulator, tmp_path):
    pq.write_table(pa.table({"id": [1, 2, 3], "body": ["teh cat", "a  dog", None]}), tmp_path / "in.parquet")
    where = ["--input", tmp_path / "in.parquet", "--output", tmp_path / "out", "--base-url", emulator.base_url]
    ended = command("edits", *where, "--model", MODEL, "--column", "body", "--instruction", "Fix {id}.")
    assert ended.returncode == 3, ended.stderr
    table = pq.read_table(tmp_path / "out")
    assert sorted(table["id"].to_pylist()) == [1, 2] and table.schema.field("edited").type == pa.string()
    assert all(table["edited"].to_pylist())
    (failed,) = pq.read_table(tmp_path / "out.failed").to_pylist()
    assert failed["id"] == 3 and failed["error"]["kind"] == "invalid_input"
    assert sorted(request["body"]["instruction"] for request in emulator.requests()) == ["Fix 1.", "Fix 2."]


def test_without_an_instruction_the_command_line_is_wrong(emulator, tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "in.parquet")
    ended = command("edits", "--input", tmp_path / "in.parquet", "--output", tmp_path / "out", "--model", MODEL)
    assert ended.returncode == 2 and "--instruction" in ended.stderr
