"""POST /answers and POST /classifications: by example, from documents or a file."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cases import uploaded
from conftest import QUICK, run
from test_cli import run as command

from beam_openai import API, Answers, Classifications, column
from beam_openai.client import Response
from beam_openai.errors import BadAnswerError
from beam_openai.tokens import byte_lengths

pytestmark = pytest.mark.usefixtures("clean")
EXAMPLES = [["What is the capital of Canada?", "Ottawa"], ["Which province is it in?", "Ontario"]]
DOCUMENTS = ["Puppy A is happy.", "Puppy B is sad."]
LABELLED = [["A happy moment", "positive"], ["I am sad", "negative"], ["I feel awesome", "positive"]]


def made(kind, server=None, **options):
    api = API(base_url=server.base_url if server else "http://localhost:1/v1")
    given = {Answers: {"examples": EXAMPLES, "examples_context": "Ottawa is in Ontario.", "documents": DOCUMENTS}}
    unset = {Classifications: {"examples": LABELLED}}
    return kind(**{"model": "curie", "api": api, "retry": QUICK, **given.get(kind, unset.get(kind)), **options})


def said(endpoint, body, rows):
    response = Response(200, {}, json.dumps(body).encode(), 0.1)
    columns = endpoint.columns(response, rows).columns
    assert [column.type for column in columns] == [field.type for field in endpoint.fields]
    return {field.name: column.to_pylist()[0] for field, column in zip(endpoint.fields, columns, strict=True)}


QUESTION = pa.table({"question": ["Which puppy is happy?"]})
QUERY = pa.table({"query": ["a happy day"]})


# What is asked


def test_a_request_of_each():
    assert made(Answers, search_model="ada", stop=["\n"]).request(QUESTION).body == {
        "model": "curie",
        "question": "Which puppy is happy?",
        "examples": EXAMPLES,
        "examples_context": "Ottawa is in Ontario.",
        "documents": DOCUMENTS,
        "search_model": "ada",
        "stop": ["\n"],
    }
    body = made(Classifications, labels=("Positive", "Negative"), max_examples=5).request(QUERY).body
    assert body == {
        "model": "curie",
        "query": "a happy day",
        "examples": LABELLED,
        "labels": ["Positive", "Negative"],
        "max_examples": 5,
    }


@pytest.mark.parametrize(
    "pairs",
    [
        pa.array([EXAMPLES], pa.list_(pa.list_(pa.string()))),
        pa.array([EXAMPLES], pa.list_(pa.list_(pa.string(), 2))),
        pa.array(
            [[{"q": q, "a": a} for q, a in EXAMPLES]], pa.list_(pa.struct([("q", pa.string()), ("a", pa.string())]))
        ),
    ],
    ids=["lists", "fixed lists", "structs"],
)
def test_examples_of_each_row_are_sent_as_pairs(pairs):
    rows = pa.table({"question": ["?"], "examples": pairs, "examples_context": ["c"], "documents": [["d"]]})
    endpoint = made(Answers, examples=None, examples_context=None, documents=None)
    assert endpoint.columns_read == ["question", "examples", "examples_context", "documents"]
    assert endpoint.invalid(rows) == {}
    assert endpoint.request(rows).body == {
        "model": "curie",
        "question": "?",
        "examples": EXAMPLES,
        "examples_context": "c",
        "documents": ["d"],
    }


def test_what_params_hold_is_not_read_from_columns():
    params = {"examples": EXAMPLES, "examples_context": "c", "file": "file-1", "max_tokens": 5}
    endpoint = made(Answers, examples=None, examples_context=None, documents=None, params=params)
    assert endpoint.columns_read == ["question"]
    assert endpoint.request(QUESTION).body == {"model": "curie", "question": "Which puppy is happy?", **params}


@pytest.mark.parametrize(
    "kind, options, message",
    [
        (Answers, {"examples": []}, "examples has 0 pairs of texts, where 1 to 200"),
        (Answers, {"examples": [["q", "a"]] * 201}, "examples has 201"),
        (Answers, {"examples": [["q", "a"], ["q"]]}, "examples has at 1 what is not a pair of texts"),
        (Answers, {"examples": [["q", ""]]}, "examples has at 0"),
        (Answers, {"documents": ["d"] * 201}, "documents has 201"),
        (Answers, {"file": "file-1"}, "documents and file"),
        (Answers, {"temperature": 2.1}, "temperature"),
        (Answers, {"logprobs": 6}, "logprobs"),
        (Answers, {"n": 0}, "n must be"),
        (Answers, {"n": 11}, "n must be"),
        (Answers, {"max_tokens": 0}, "max_tokens"),
        (Answers, {"max_rerank": 0}, "max_rerank"),
        (Answers, {"stop": ["a"] * 5}, "stop"),
        (Answers, {"logit_bias": {"1": 101}}, r"logit_bias\[1\]"),
        (Classifications, {"examples": [["a", "b"]]}, "examples has 1 pairs of texts, where 2 to 200"),
        (Classifications, {"labels": ["one"]}, "labels has 1 texts, where 2 to 200"),
        (Classifications, {"labels": ["one", None]}, "labels has at 1"),
        (Classifications, {"file": "file-1"}, "examples and file"),
        (Classifications, {"temperature": -0.1}, "temperature"),
        (Classifications, {"logprobs": -1}, "logprobs"),
        (Classifications, {"max_examples": 0}, "max_examples"),
        (Classifications, {"logit_bias": {"1": -101}}, r"logit_bias\[1\]"),
    ],
)
def test_options_that_can_never_work_are_refused_when_it_is_made(kind, options, message):
    with pytest.raises(ValueError, match=message):
        made(kind, **options)


def test_no_documents_at_all_are_allowed_to_answers():
    assert made(Answers, documents=[]).request(QUESTION).body["documents"] == []
    rows = pa.table({"question": ["?"], "documents": pa.array([[]], pa.list_(pa.string()))})
    assert made(Answers, documents="documents").invalid(rows) == {}


def test_rows_that_no_request_could_carry_are_found():
    rows = pa.table(
        {
            "question": ["?", "?", "?", "", None],
            "examples": pa.array([EXAMPLES, None, [["q"]], EXAMPLES, EXAMPLES]),
            "examples_context": ["c", "c", "c", "c", "c"],
            "documents": [["d"]] * 5,
        }
    )
    endpoint = made(Answers, examples="examples", examples_context=column("examples_context"), documents="documents")
    assert endpoint.invalid(rows) == {
        1: "examples is null",
        2: "examples has at 0 what is not a pair of texts",
        3: "question is empty",
        4: "question is null",
    }
    rows = pa.table({"query": ["q"] * 3, "labels": [["a", "b"], ["a"], None], "which": ["file-1", "file-1", None]})
    endpoint = made(Classifications, examples=None, file=column("which"), labels="labels")
    assert endpoint.invalid(rows) == {1: "labels has 1 texts, where 2 to 200 can be sent", 2: "labels is null"}


def test_tokens_are_counted_with_all_that_is_sent():
    rows = pa.table({"question": ["abc"]})
    endpoint = made(Answers, examples=[["a", "bc"]], examples_context="de", documents=["f", "g"], max_tokens=7, n=2)
    assert endpoint.tokens(rows, byte_lengths).tolist() == [7 + 3 * 14 + 3 * 3]
    assert endpoint.answer_tokens(rows) == 14.0
    assert made(Answers).answer_tokens(rows) == 16.0
    most = pa.table({"question": ["a", "b"], "most": [5, None]})
    assert made(Answers, max_tokens=column("most")).answer_tokens(most).tolist() == [5.0, 16.0]
    rows = pa.table({"query": ["abc"]})
    endpoint = made(Classifications, examples=[["a", "bc"], ["d", "ef"]], labels=["gh", "i"])
    assert endpoint.tokens(rows, byte_lengths).tolist() == [9 + 3 * 14 + 3 * 3]


# What is answered


def test_answers_and_what_they_were_made_from():
    body = {
        "answers": ["puppy A."],
        "completion": "cmpl-1",
        "selected_documents": [{"document": 0, "text": "Puppy A is happy. ", "object": "x"}, {"document": 1.0}],
    }
    assert said(made(Answers), body, QUESTION) == {
        "answers": ["puppy A."],
        "selected_documents": [{"document": 0, "text": "Puppy A is happy. "}, {"document": 1, "text": None}],
    }


def test_a_label_and_what_it_was_made_from():
    body = {"label": "Positive", "selected_examples": [{"document": 2, "text": "good", "label": "Positive"}]}
    assert said(made(Classifications), body, QUERY) == {
        "label": "Positive",
        "selected_examples": [{"document": 2, "text": "good", "label": "Positive"}],
    }


@pytest.mark.parametrize(
    "kind, body, name", [(Answers, {"answers": ["a"]}, "answers"), (Classifications, {"label": "A"}, "label")]
)
def test_what_was_asked_for_is_beside_it(kind, body, name):
    options = {"return_metadata": True, "return_prompt": True, "expanded": ["file"], "logprobs": 0}
    endpoint = made(kind, output={name: "said", "prompt": "asked"}, **options)
    names = [field.name for field in endpoint.fields]
    assert names[0] == "said" and names[2:] == ["completion", "file", "asked"]
    assert "metadata" in [field.name for field in endpoint.fields[1].type.value_type]
    row = said(endpoint, {**body, "completion": {"id": "cmpl-1"}, "prompt": "Q: ?"}, QUESTION)
    assert (row["completion"], row["file"], row["asked"]) == ('{"id": "cmpl-1"}', None, "Q: ?")
    assert row[names[1]] is None


@pytest.mark.parametrize(
    "kind, body",
    [
        (Answers, {}),
        (Answers, {"answers": "a"}),
        (Answers, {"answers": []}),
        (Answers, {"answers": [None]}),
        (Answers, {"answers": ["a", "b"]}),
        (Classifications, {}),
        (Classifications, {"label": ""}),
        (Classifications, {"label": None}),
        (Classifications, {"label": ["A"]}),
    ],
    ids=str,
)
def test_nothing_stands_in_for_an_answer(kind, body):
    with pytest.raises(BadAnswerError, match="answer"):
        said(made(kind), body, QUESTION)


def test_an_answer_that_is_no_object_is_refused():
    for body in (b"[]", b"<html>", b'{"answers"'):
        with pytest.raises(BadAnswerError):
            made(Answers).columns(Response(200, {}, body, 0.1), QUESTION)


# In a pipeline


def test_every_question_is_answered_from_its_documents(emulator):
    rows = [
        {"id": n, "question": f"What is the colour of ball {n}?", "documents": [f"ball {n} is red", "cats purr"]}
        for n in range(20)
    ]
    outcome = run([pa.Table.from_pylist(rows)], made(Answers, emulator, documents="documents", n=2, max_tokens=30))
    assert len(outcome.rows()) == 20
    for row in outcome.rows():
        assert len(row["answers"]) == 2 and str(row["id"]) in row["answers"][0]
        assert row["selected_documents"][0] == {"document": 0, "text": f"ball {row['id']} is red"}


def test_every_text_has_the_label_of_the_example_like_it(emulator):
    rows = pa.table({"id": range(20), "query": [LABELLED[n % 3][0] + f" {n}" for n in range(20)]})
    outcome = run([rows], made(Classifications, emulator))
    assert len(outcome.rows()) == 20
    for row in outcome.rows():
        assert row["label"] == ("Negative" if row["id"] % 3 == 1 else "Positive")
        assert row["selected_examples"][0]["document"] == row["id"] % 3


@pytest.mark.parametrize(
    "asked", [{"expanded": ["completion", "file"]}, {"params": {"expand": ["completion", "file"]}}]
)
def test_what_is_expanded_is_asked_for_and_added(emulator, asked):
    rows = [{"question": "ball?", "query": "I am sad"}]
    for kind in (Answers, Classifications):
        endpoint = made(kind, emulator, **asked)
        (row,) = run(rows, endpoint).rows()
        assert json.loads(row["completion"])["object"] == "text_completion" and row["file"] is None
        assert emulator.requests()[-1]["body"]["expand"] == ["completion", "file"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"expanded": "file"}, "expanded must be a list of"),
        ({"expanded": ["prompt"]}, "expanded must be a list of"),
        ({"expanded": ["file"], "params": {"expand": []}}, "one of them"),
    ],
)
@pytest.mark.parametrize("kind", [Answers, Classifications])
def test_what_cannot_be_expanded_is_refused(kind, options, says):
    with pytest.raises(ValueError, match=says):
        made(kind, **options)


def test_both_from_files(emulator):
    file = uploaded("answers", {"text": "ball 1 is red", "metadata": "one"}, {"text": "cats purr"})(emulator)
    options = {"file": file, "documents": None, "return_metadata": True, "expanded": ["completion", "file"]}
    (row,) = run([{"question": "ball 1?"}], made(Answers, emulator, max_rerank=1, **options)).rows()
    assert row["selected_documents"] == [{"document": 0, "text": "ball 1 is red", "metadata": "one"}]
    assert json.loads(row["file"])["id"] == file and json.loads(row["completion"])["object"] == "text_completion"
    lines = [{"text": text, "label": label} for text, label in LABELLED]
    file = uploaded("classifications", *lines)(emulator)
    (row,) = run([{"query": "I am sad"}], made(Classifications, emulator, file=file, examples=None)).rows()
    assert row["label"] == "Negative"


def test_what_the_server_refuses_fails_its_row_alone(emulator):
    rows = [{"id": n, "question": "POISON-400" if n == 3 else "ball?"} for n in range(8)]
    outcome = run(rows, made(Answers, emulator))
    assert [row["id"] for row in outcome.rows("failed")] == [3] and len(outcome.rows()) == 7
    rows = [{"id": n, "query": "POISON-400" if n == 3 else "ball"} for n in range(8)]
    outcome = run(rows, made(Classifications, emulator))
    assert [row["id"] for row in outcome.rows("failed")] == [3] and len(outcome.rows()) == 7


def test_the_commands_write_what_parquet_gives_back(emulator, tmp_path):
    pq.write_table(pa.table({"question": ["ball 1?", None]}), tmp_path / "questions.parquet")
    pq.write_table(pa.table({"text": ["I am sad", "happy"]}), tmp_path / "texts.parquet")
    to = ["--base-url", emulator.base_url, "--model", "curie"]
    options = ["--examples", json.dumps(EXAMPLES), "--examples-context", "Ottawa", "--documents", '["ball 1 is red"]']
    ended = command(
        "answers", "--input", tmp_path / "questions.parquet", "--output", tmp_path / "answers", *to, *options
    )
    assert ended.returncode == 3, ended.stderr
    table = pq.read_table(tmp_path / "answers")
    assert table.schema.field("selected_documents").type.value_type.field("document").type == pa.int64()
    assert table["selected_documents"].to_pylist() == [[{"document": 0, "text": "ball 1 is red"}]]
    (tmp_path / "examples.json").write_text(json.dumps(LABELLED))
    options = [
        "--examples",
        f"@{tmp_path / 'examples.json'}",
        "--column",
        "text",
        "--labels",
        '["positive", "negative"]',
    ]
    ended = command(
        "classifications", "--input", tmp_path / "texts.parquet", "--output", tmp_path / "labels", *to, *options
    )
    assert ended.returncode == 0, ended.stderr
    assert sorted(pq.read_table(tmp_path / "labels")["label"].to_pylist()) == ["Negative", "Positive"]
