"""POST /engines/{model}/search: documents in the order of their scores, one request for each row."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cases import uploaded
from conftest import QUICK, run
from hypothesis import given
from hypothesis import strategies as st
from test_cli import run as command

from beam_openai import API, Search, column
from beam_openai.client import Response
from beam_openai.errors import BadAnswerError
from beam_openai.tokens import byte_lengths

pytestmark = pytest.mark.usefixtures("clean")
DOCUMENTS = ["the cat sat on a mat", "dogs bark", "a cat, a mat", ""]
RESULTS = pa.list_(pa.struct([("document", pa.int64()), ("score", pa.float64()), ("text", pa.string())]))


def search(server=None, **options):
    api = API(base_url=server.base_url if server else "http://localhost:1/v1")
    return Search(**{"model": "ada", "api": api, "retry": QUICK, **options})


def answer(*results, **more):
    return Response(200, {}, json.dumps({"object": "list", "data": results, **more}).encode(), 0.1)


def scored(*scores):
    return [{"object": "search_result", "document": place, "score": score} for place, score in enumerate(scores)]


def read(endpoint, response, rows):
    columns = endpoint.columns(response, rows).columns
    return columns[0].to_pylist()[0]


ONE = pa.table({"query": ["cat"]})


# What is asked


def test_the_model_is_in_the_path_and_not_in_the_body():
    request = search(model="org/ada:x", documents=["a"]).request(ONE)
    assert request.path == "/engines/org%2Fada:x/search"
    assert dict(request.body) == {"query": "cat", "documents": ["a"]}


def test_each_row_has_a_model_of_its_own():
    rows = pa.table({"query": ["cat"], "which": ["ba/bbage"]})
    request = search(model=column("which"), documents=["a"]).request(rows)
    assert request.path == "/engines/ba%2Fbbage/search" and "model" not in request.body


@pytest.mark.parametrize("documents", ["texts", column("texts")], ids=["by name", "column()"])
def test_each_row_has_documents_of_its_own(documents):
    rows = pa.table({"query": ["cat"], "texts": [["a", "b"]]})
    endpoint = search(documents=documents)
    assert set(endpoint.columns_read) == {"query", "texts"}
    assert endpoint.request(rows).body == {"query": "cat", "documents": ["a", "b"]}


def test_the_column_documents_is_read_where_nothing_else_is_said():
    assert search().columns_read == ["query", "documents"]
    assert search(file="file-1").columns_read == ["query"]
    assert search(params={"documents": ["a"]}).columns_read == ["query"]
    assert search(params={"file": "file-1"}).request(ONE).body == {"query": "cat", "file": "file-1"}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"documents": []}, "documents has 0 texts, where 1 to 200 can be sent"),
        ({"documents": ["x"] * 201}, "documents has 201 texts"),
        ({"documents": ["x", 1]}, "documents has at 1 what is not a text"),
        ({"documents": ["x", "\ud800"]}, "documents has at 1"),
        ({"documents": {"a": "b"}}, "documents is not a list of texts"),
        ({"documents": ["x"], "file": "file-1"}, "documents and file"),
        ({"documents": ["x"], "params": {"file": "file-1"}}, r"documents and params\['file'\]"),
        ({"documents": ["x"], "params": {"query": "q"}}, "query"),
        ({"max_rerank": 0}, "max_rerank"),
        ({"model": ".."}, r"'\.\.'"),
    ],
)
def test_options_that_can_never_work_are_refused_when_it_is_made(options, message):
    with pytest.raises(ValueError, match=message):
        search(**options)


def test_rows_that_no_request_could_carry_are_found():
    documents = pa.array([["a"], None, [], ["a", None], ["x"] * 201, ["a"], ["a"]], pa.list_(pa.string()))
    rows = pa.table({"query": ["q", "q", "q", "q", "q", "", None], "documents": documents})
    assert search().invalid(rows) == {
        1: "documents is null",
        2: "documents has 0 texts, where 1 to 200 can be sent",
        3: "documents has at 1 what is not a text",
        4: "documents has 201 texts, where 1 to 200 can be sent",
        5: "query is empty",
        6: "query is null",
    }


def test_documents_of_another_type_or_not_utf_8_are_found():
    assert search().invalid(pa.table({"query": ["q"], "documents": ["a"]})) == {0: "documents is not a list of texts"}
    bytes_ = pa.array([[b"\xff"]], pa.list_(pa.binary()))
    text = pa.ListArray.from_arrays(bytes_.offsets, bytes_.values.view(pa.string()))
    assert search().invalid(pa.table({"query": ["q"], "documents": text})) == {
        0: "documents holds text that is not valid UTF-8"
    }


def test_models_of_rows_are_looked_at():
    rows = pa.table({"query": ["q"] * 4, "which": ["ada", None, "..", ""]})
    assert search(model=column("which"), documents=["a"]).invalid(rows) == {
        1: "which is null",
        2: "which is not a model's name",
        3: "which is empty",
    }


@pytest.mark.parametrize("documents", [["aaaa", "bb"], "texts"], ids=["for all", "of each row"])
def test_tokens_are_counted_as_they_were_billed(documents):
    rows = pa.table({"query": ["abc", "abcdef"], "texts": [["aaaa", "bb"]] * 2})
    tokens = search(documents=documents).tokens(rows, byte_lengths)
    # All documents, and 14 and the query once for each of them and once more.
    assert tokens.tolist() == [6 + 3 * 14 + 3 * 3, 6 + 3 * 14 + 3 * 6]


# What is answered


def test_the_best_documents_come_first_with_their_texts():
    endpoint = search(documents=["a", "b", "c", "d"])
    rows = read(endpoint, answer(*scored(1, 7.5, 3, 7.5)), ONE)
    assert [(row["document"], row["score"], row["text"]) for row in rows] == [
        (1, 7.5, "b"),
        (3, 7.5, "d"),
        (2, 3.0, "c"),
        (0, 1.0, "a"),
    ]
    assert endpoint.fields == [pa.field("results", RESULTS)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.randoms())
def test_in_whatever_order_the_server_answers(scores, random):
    texts = [f"text {place}" for place in range(len(scores))]
    shuffled = scored(*scores)
    random.shuffle(shuffled)
    rows = read(search(documents=texts), answer(*shuffled), ONE)
    assert [row["score"] for row in rows] == sorted(scores, reverse=True)
    assert all(scores[row["document"]] == row["score"] and texts[row["document"]] == row["text"] for row in rows)


@pytest.mark.parametrize(
    "results, message",
    [
        (scored(1), "1 scores where 2 documents"),
        ([], "0 scores where 2"),
        (scored(1, 2, 3), "was not sent"),
        ([*scored(1), *scored(2)], "twice"),
        ([{"document": -1, "score": 1}, *scored(1)], "was not sent"),
        ([{"score": 1}, {"score": 2}], "was not sent"),
        (scored(1, None), "no score for document 1"),
        (scored(1, "high"), "no score"),
        (scored(1, True), "no score"),
        (scored(1, 10**400), "no score"),
    ],
)
def test_an_answer_that_does_not_fit_the_documents_is_refused(results, message):
    with pytest.raises(BadAnswerError, match=message):
        read(search(documents=["a", "b"]), answer(*results), ONE)


def test_fewer_are_no_error_where_max_rerank_asks_for_fewer():
    assert len(read(search(documents=["a", "b"], max_rerank=1), answer(*scored(1)), ONE)) == 1


def test_the_texts_of_a_file_are_in_the_answer():
    endpoint = search(file="file-1", return_metadata=True)
    results = [
        {"document": 4, "score": 1, "text": "four", "metadata": "4"},
        {"document": 700, "score": 2, "metadata": {"a": ["ü"]}},
    ]
    assert read(endpoint, answer(*results), ONE) == [
        {"document": 700, "score": 2.0, "text": None, "metadata": '{"a": ["ü"]}'},
        {"document": 4, "score": 1.0, "text": "four", "metadata": "4"},
    ]


def test_usage_is_counted_where_a_server_tells_it():
    response = answer(*scored(1), usage={"prompt_tokens": 7, "total_tokens": 7})
    assert search(documents=["a"]).columns(response, ONE).prompt_tokens == 7


# In a pipeline


def test_every_row_has_its_documents_by_their_scores(emulator):
    rows = pa.table(
        {"id": range(20), "query": ["cat"] * 20, "documents": [[f"dog {n}", f"cat {n}"] for n in range(20)]}
    )
    outcome = run([rows], search(emulator))
    assert len(outcome.rows()) == 20
    for row in outcome.rows():
        assert [result["text"] for result in row["results"]] == [f"cat {row['id']}", f"dog {row['id']}"]
        assert [result["document"] for result in row["results"]] == [1, 0]
    assert {request["path"] for request in emulator.requests()} == {"/v1/engines/ada/search"}


def test_rows_with_models_of_their_own_go_to_their_engines(emulator):
    rows = [{"query": "cat", "which": which} for which in ("ada", "davinci", "no-such", None)]
    outcome = run(rows, search(emulator, model=column("which"), documents=DOCUMENTS))
    assert sorted(row["which"] for row in outcome.rows()) == ["ada", "davinci"]
    failed = {row["which"]: row["error"] for row in outcome.rows("failed")}
    assert failed["no-such"]["status"] == 404 and failed["no-such"]["code"] == "model_not_found"
    assert failed[None]["kind"] == "invalid_input"
    assert {request["path"] for request in emulator.requests()} == {
        f"/v1/engines/{name}/search" for name in ("ada", "davinci", "no-such")
    }


def test_a_model_that_is_not_there_stops_the_job(emulator):
    with pytest.raises(Exception, match="no-such"):
        run([{"query": "q"}] * 5, search(emulator, model="no-such", documents=["a"], concurrency=1))
    assert len(emulator.requests()) == 1


def test_documents_in_a_file(emulator):
    lines = [{"text": "a dog"}, {"text": "a cat", "metadata": "felix"}, {"text": "a cat and a dog"}]
    file = uploaded("search", *lines)(emulator)
    outcome = run([{"query": "a cat"}], search(emulator, file=file, max_rerank=2, return_metadata=True))
    (row,) = outcome.rows()
    assert len(row["results"]) == 2
    assert row["results"][0] == {
        "document": 1,
        "score": row["results"][0]["score"],
        "text": "a cat",
        "metadata": "felix",
    }
    assert emulator.requests()[-1]["body"] == {"query": "a cat", "file": file, "max_rerank": 2, "return_metadata": True}


def test_a_row_that_is_too_long_fails_alone(emulator):
    rows = [{"id": n, "query": "q", "documents": ["x" * (9000 if n == 3 else 10)]} for n in range(6)]
    outcome = run(rows, search(emulator))
    (failed,) = outcome.rows("failed")
    assert (failed["id"], failed["error"]["kind"], failed["error"]["status"]) == (3, "rejected", 400)
    assert len(outcome.rows()) == 5 and len(emulator.requests()) == 6


def test_half_an_answer_is_asked_for_again_and_fails_its_row_in_the_end(emulator):
    body = {"data": scored(1)}
    emulator.inject({"status": 200, "body": body}, path="/engines/ada/search", times=1)
    assert len(run([{"query": "q"}], search(emulator, documents=["a", "b"])).rows()) == 1
    emulator.inject({"status": 200, "body": body}, path="/engines/ada/search", times=9)
    outcome = run([{"query": "q"}], search(emulator, documents=["a", "b"]))
    (failed,) = outcome.rows("failed")
    assert failed["error"]["kind"] == "bad_answer" and json.loads(failed["error"]["raw"]) == body


def test_the_command_writes_what_parquet_gives_back(emulator, tmp_path):
    lines = [{"query": "cat", "documents": DOCUMENTS}, {"query": "", "documents": DOCUMENTS}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--input", tmp_path / "rows.jsonl", "--output", tmp_path / "out", "--base-url", emulator.base_url]
    ended = command("search", *options, "--model", "ada", "--output-column", "found")
    assert ended.returncode == 3, ended.stderr
    table = pq.read_table(tmp_path / "out")
    kind = table.schema.field("found").type
    assert pa.types.is_list(kind) and [field.name for field in kind.value_type] == ["document", "score", "text"]
    (row,) = table.to_pylist()
    assert sorted(result["document"] for result in row["found"]) == [0, 1, 2, 3]
    assert {result["text"] for result in row["found"]} == set(DOCUMENTS)


def test_the_command_takes_documents_as_json_and_another_column(emulator, tmp_path):
    (tmp_path / "rows.csv").write_text("asked\ncat\n")
    options = ["--input", tmp_path / "rows.csv", "--output", tmp_path / "out", "--base-url", emulator.base_url]
    ended = command("search", *options, "--model", "ada", "--column", "asked", "--documents", '["a cat", "b"]')
    assert ended.returncode == 0, ended.stderr
    (row,) = pq.read_table(tmp_path / "out").to_pylist()
    assert [result["text"] for result in row["results"]] == ["a cat", "b"]
