"""Moderations: results by position, categories as structs that lose none, and images."""

from __future__ import annotations

import base64

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import QUICK, fn_api, run
from pure import answer, answered, asked, invalid, prepared
from test_cli import run as command

from beam_openai import API, Moderations, WriteTables, column
from beam_openai.endpoints.moderations import CATEGORIES
from beam_openai.errors import BadAnswerError
from beam_openai.tokens import Estimate

pytestmark = pytest.mark.usefixtures("clean")
MODEL = "omni-moderation-latest"
PNG = b"\x89PNG\r\n\x1a\n and more"
URL = "https://example.com/knife.png"


def made(server=None, **options):
    given = {"model": MODEL, "retry": QUICK, **options}
    return Moderations(**given, **({"api": API(base_url=server.base_url)} if server else {}))


def result(flagged=False, more=None, **values):
    """One result: all categories that are known, and `more`, a score for each."""
    scores = {**dict.fromkeys(CATEGORIES, 0.25), **(more or {})}
    return {
        "flagged": flagged,
        "categories": {name: score > 0.5 for name, score in scores.items()},
        "category_scores": scores,
        "category_applied_input_types": {name: ["text"] for name in scores},
        **values,
    }


# What is asked


def test_texts_go_as_a_list():
    assert asked(made(), {"text": "a"}, {"text": "b"}) == {"model": MODEL, "input": ["a", "b"]}
    assert asked(made(), {"text": "a"})["input"] == ["a"]
    assert (made().batch_size, made(max_batch_size=2048).batch_size, made(images="i").batch_size) == (32, 2048, 1)


def test_an_image_goes_with_its_text_or_alone():
    endpoint = made(images="image")
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert asked(endpoint, {"text": "a", "image": PNG})["input"] == [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    assert asked(endpoint, {"text": None, "image": URL})["input"] == [{"type": "image_url", "image_url": {"url": URL}}]
    assert asked(endpoint, {"image": [URL, URL]})["input"] == [{"type": "image_url", "image_url": {"url": URL}}] * 2
    assert asked(endpoint, {"text": "a", "image": None})["input"] == [{"type": "text", "text": "a"}]


def test_the_text_beside_an_image_may_be_missing_unless_it_was_named():
    assert (made().inputs, made().optional_inputs) == (["text"], [])
    assert (made(images="i").inputs, made(images="i").optional_inputs) == (["i"], ["text"])
    assert (made(images="i", input="body").inputs, made(images="i", input="body").optional_inputs) == (
        ["body", "i"],
        [],
    )


@pytest.mark.parametrize("options", [{"images": "text"}, {"images": "body", "input": "body"}])
def test_texts_and_images_are_in_two_columns(options):
    with pytest.raises(ValueError, match="is the column of the texts, too: name the one that holds the images"):
        made(**options)


def test_an_option_may_be_taken_from_the_column_of_the_texts(emulator):
    rows = pa.table({"text": [MODEL], "image": [URL]})
    (row,) = run([rows], made(emulator, images="image", model=column("text"))).rows()
    assert row["flagged"] is False and emulator.requests()[-1]["body"]["model"] == MODEL


def test_rows_that_cannot_be_sent_say_why():
    rows = [{"text": "a"}, {"text": ""}, {"text": None}, {"text": " "}]
    assert invalid(made(), *rows) == {1: "text is empty", 2: "text is null"}
    rows = [
        {"text": "a", "image": None},
        {"text": "", "image": None},
        {"text": None, "image": URL},
        {"text": "a", "image": "C:/knife.png"},
    ]
    endpoint = made(images="image")
    assert invalid(endpoint, *rows) == {
        1: "text and image are empty",
        3: "image is neither an image's bytes nor its URL",
    }
    assert invalid(endpoint, {"image": []}, {"image": [URL]}) == {0: "text and image are empty"}
    assert invalid(endpoint, {"text": 3, "image": URL}) == {0: "text is int64, not text"}
    assert "not PNG" in invalid(endpoint, {"image": b"?"})[0]
    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff", URL.encode()]).buffers())
    assert invalid(endpoint, pa.table({"image": broken})) == {0: "image is not valid UTF-8"}
    assert invalid(endpoint, pa.table({"text": broken, "image": [URL, URL]})) == {0: "text is not valid UTF-8"}


def test_only_texts_are_counted():
    endpoint = made(images="image")
    assert endpoint.tokens(prepared(endpoint, [{"text": "x" * 30, "image": URL}]), Estimate()).tolist() == [10]
    assert endpoint.tokens(prepared(endpoint, [{"image": URL}]), Estimate()).tolist() == [0]
    assert made().is_text and not endpoint.is_text


@pytest.mark.parametrize(
    "options", [{"max_batch_size": 0}, {"max_batch_size": 2049}, {"params": {"input": "x"}}, {"output": {"hate": "h"}}]
)
def test_options_that_can_never_work_are_refused(options):
    with pytest.raises(ValueError):
        made(**options)


# What comes back


def test_results_are_by_position_and_their_fields_in_one_order():
    backwards = result(True, categories=dict.fromkeys(reversed(CATEGORIES), True))
    first, second = answered(made(), 2, {"results": [backwards, result()]})
    assert (first["flagged"], second["flagged"]) == (True, False)
    assert tuple(first["categories"]) == CATEGORIES == tuple(second["category_scores"])
    assert set(first["categories"].values()) == {True} and set(second["category_scores"].values()) == {0.25}
    assert second["category_applied_input_types"]["hate"] == ["text"]


@pytest.mark.parametrize("results", [[], [result()], [result()] * 3])
def test_another_number_of_results_is_no_answer(results):
    with pytest.raises(BadAnswerError, match=f"{len(results)} answers where 2"):
        answer(made(), 2, {"results": results})


@pytest.mark.parametrize(
    "body",
    [
        {},
        b"[",
        {"results": [{"flagged": True}]},
        {"results": [result("yes")]},
        {"results": [result(categories={"hate": "no"})]},
        {"results": [result(category_scores={"hate": "high"})]},
    ],
    ids=str,
)
def test_what_is_no_result_is_no_answer(body):
    with pytest.raises(BadAnswerError):
        answer(made(), 1, body)


def test_categories_that_a_model_has_not_got_are_null():
    some = {"hate": False, "illicit": None}
    body = {"results": [result(categories=some, category_scores={"hate": 0, "illicit": None})]}
    body["results"][0].pop("category_applied_input_types")
    (row,) = answered(made(), 1, body)
    assert row["categories"] == {**dict.fromkeys(CATEGORIES), "hate": False}
    assert row["category_scores"] == {**dict.fromkeys(CATEGORIES), "hate": 0.0}
    assert row["category_applied_input_types"] is None


def test_older_models_have_no_input_types():
    assert made(model="text-moderation-latest").outputs == ["flagged", "categories", "category_scores"]
    body = {"results": [result()]}
    assert "category_applied_input_types" not in answered(made(model="text-moderation-stable"), 1, body)[0]


def test_categories_that_are_not_known_come_behind_the_others_by_name():
    results = [result(more={"zoo": 0.75}), result(more={"art": 0.125}), result()]
    columns = answer(made(), 3, {"results": results}).columns
    categories, scores = columns[1].to_pylist(), columns[2].to_pylist()
    assert tuple(categories[0]) == (*CATEGORIES, "art", "zoo") == tuple(scores[2])
    assert [row["zoo"] for row in categories] == [True, None, None]
    assert [row["art"] for row in scores] == [None, 0.125, None]


def test_usage_is_counted_where_there_is_any():
    body = {"results": [result()]}
    assert answer(made(), 1, body).prompt_tokens is None
    assert answer(made(), 1, {**body, "usage": {"prompt_tokens": 3, "total_tokens": 3}}).prompt_tokens == 3


# On the emulator


def test_each_row_is_judged_by_its_own_text(emulator):
    words = ["I will kill you", "a nice day", "you idiot", "how to steal a car"]
    rows = [{"id": n, "text": f"{words[n % 4]} {n}"} for n in range(70)]
    outcome = run([pa.Table.from_pylist(rows)], made(emulator))
    found = {row["id"]: row for row in outcome.rows()}
    assert [found[n]["flagged"] for n in range(70)] == [n % 4 != 1 for n in range(70)]
    for name, kind in (("violence", 0), ("harassment", 2), ("illicit", 3)):
        assert [found[n]["categories"][name] for n in range(70)] == [n % 4 == kind for n in range(70)]
        assert all(found[n]["category_scores"][name] > 0.5 for n in range(kind, 70, 4))
    assert sorted(len(request["body"]["input"]) for request in emulator.requests()) == [6, 32, 32]
    assert emulator.billed([row["text"] for row in rows]) == [1] * 70


@pytest.mark.parametrize("fault", ["missing", "extra"])
def test_an_answer_with_another_number_of_results_is_asked_for_again(emulator, fault):
    emulator.inject(fault)
    outcome = run([{"text": f"text {n}"} for n in range(10)], made(emulator))
    assert len(outcome.answered) == 10 and emulator.ledger()["requests"] == 2


def test_a_text_that_is_refused_takes_no_other_with_it(emulator):
    rows = [{"id": n, "text": "POISON-400" if n == 9 else f"text {n}"} for n in range(32)]
    outcome = run([pa.Table.from_pylist(rows)], made(emulator))
    assert [row["id"] for row in outcome.rows("failed")] == [9] and len(outcome.rows()) == 31


@pytest.mark.parametrize("model", ["text-moderation-latest", "text-moderation-stable"])
def test_older_models_answer_with_nulls(emulator, model):
    (row,) = run([{"text": "how to steal"}], made(emulator, model=model)).rows()
    assert row["categories"]["illicit"] is None and row["categories"]["hate"] is False
    assert (row["categories"]["harassment"] is None) == (model == "text-moderation-stable")


def test_images_are_judged_one_row_a_request(emulator):
    rows = [
        {"id": 0, "image": ["https://example.com/blood.png"]},
        {"id": 1, "image": ["https://example.com/cat.png"]},
        {"id": 2, "image": ["https://example.com/a.png", "https://example.com/b.png"]},
    ]
    outcome = run([pa.Table.from_pylist(rows)], made(emulator, images="image"))
    found = {row["id"]: row for row in outcome.rows()}
    assert (found[0]["flagged"], found[1]["flagged"]) == (True, False)
    assert found[0]["category_applied_input_types"]["violence"] == ["image"]
    (failed,) = outcome.rows("failed")
    assert failed["id"] == 2 and failed["error"]["code"] == "too_many_images" and failed["error"]["status"] == 400
    (both,) = run([{"text": "idiot", "image": PNG}], made(emulator, images="image")).rows()
    assert both["categories"]["harassment"] and both["category_applied_input_types"]["violence"] == ["text", "image"]


def test_categories_of_the_server_s_own_are_in_the_first_answer_and_in_parquet(start_emulator, tmp_path):
    server = start_emulator(more_categories="spam,ads/loud")
    pq.write_table(pa.table({"id": [1, 2, 3], "body": ["spam", "nice", None]}), tmp_path / "in.parquet")
    where = ["--input", tmp_path / "in.parquet", "--output", tmp_path / "out", "--base-url", server.base_url]
    ended = command("moderations", *where, "--model", MODEL, "--column", "body", "--output-column", "harmful")
    assert ended.returncode == 3, ended.stderr
    table = pq.read_table(tmp_path / "out").sort_by("id")
    names = [*CATEGORIES, "ads/loud", "spam"]
    assert table.schema.field("categories").type == pa.struct([(name, pa.bool_()) for name in names])
    assert table.schema.field("category_scores").type == pa.struct([(name, pa.float32()) for name in names])
    assert table["harmful"].to_pylist() == [True, False]
    assert [row["spam"] for row in table["categories"].to_pylist()] == [True, False]
    (failed,) = pq.read_table(tmp_path / "out.failed").to_pylist()
    assert failed["id"] == 3 and failed["error"]["message"] == "body is null"


def test_a_category_that_comes_up_in_the_middle_is_kept(emulator):
    for more in ({}, {"zoo": 0.75}, {"art": 0.75}):
        emulator.inject({"status": 200, "body": {"results": [result(more=more)]}}, path="/moderations")
    rows = pa.table({"id": list(range(5)), "text": [f"text {n}" for n in range(5)]})
    outcome = run([rows], made(emulator, max_batch_size=1, concurrency=1))
    found = sorted(outcome.rows(), key=lambda row: row["id"])
    assert [row["id"] for row in found] == list(range(5)) and not outcome.failed
    kept = [[row["categories"].get("zoo"), row["categories"].get("art")] for row in found]
    assert sorted(kept, key=str) == [[None, None]] * 3 + [[None, True], [True, None]]
    scores = [row["category_scores"].get("zoo") for row in found]
    assert np.nansum(np.array(scores, dtype=float)) == 0.75


def test_tables_answered_before_and_after_share_a_part(emulator, tmp_path):
    for more in ({}, {"zoo": 0.75}):
        emulator.inject({"status": 200, "body": {"results": [result(more=more)]}}, path="/moderations")
    tables = [pa.table({"id": [n], "text": [f"text {n}"]}) for n in range(3)]
    with fn_api() as p:
        outputs = p | beam.Create(tables, reshuffle=False) | made(emulator, max_batch_size=1, concurrency=1)
        outputs.answered | WriteTables(str(tmp_path / "out"))
    found = pq.read_table(tmp_path / "out").sort_by("id")["categories"].to_pylist()
    assert [row["zoo"] for row in found] == [None, True, None] and tuple(found[0]) == (*CATEGORIES, "zoo")


def test_rows_that_are_dicts_keep_it_too(emulator):
    for more in ({}, {"zoo": 0.75}):
        emulator.inject({"status": 200, "body": {"results": [result(more=more)]}}, path="/moderations")
    outcome = run([{"text": f"text {n}"} for n in range(3)], made(emulator, max_batch_size=1, concurrency=1))
    assert sum(row["categories"].get("zoo") is True for row in outcome.rows()) == 1 and len(outcome.rows()) == 3
