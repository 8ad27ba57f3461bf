"""Completions: prompts that share a request, choices that find their way back, and what stands beside them."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import QUICK, run
from hypothesis import given
from hypothesis import strategies as st
from pure import answer, answered, asked, invalid, prepared
from test_cli import run as command

from beam_openai import API, Completions, column
from beam_openai.endpoints.completions import LOGPROBS
from beam_openai.errors import BadAnswerError
from beam_openai.tokens import Estimate

pytestmark = pytest.mark.usefixtures("clean")
MODEL = "gpt-3.5-turbo-instruct"


def made(server=None, **options):
    given = {"model": MODEL, "retry": QUICK, **options}
    return Completions(**given, **({"api": API(base_url=server.base_url)} if server else {}))


def choices(texts, **more):
    return {"choices": [{"text": text, "index": at, "finish_reason": "stop", **more} for at, text in enumerate(texts)]}


# What is asked


def test_many_prompts_go_as_a_list_and_one_goes_alone():
    endpoint = made(prompt="Q: {text}\nA:", max_tokens=5)
    assert endpoint.inputs == ["text"]
    body = asked(endpoint, {"text": "a"}, {"text": "b"})
    assert body == {"model": MODEL, "max_tokens": 5, "prompt": ["Q: a\nA:", "Q: b\nA:"]}
    assert asked(endpoint, {"text": "a"})["prompt"] == "Q: a\nA:"


def test_a_column_of_token_ids_goes_as_it_is():
    endpoint = made(prompt="{ids}")
    assert asked(endpoint, {"ids": [1, 2]}, {"ids": [3]})["prompt"] == [[1, 2], [3]]
    assert asked(endpoint, {"ids": [1, 2]})["prompt"] == [1, 2]
    assert asked(made(prompt="ids: {ids}"), {"ids": [1, 2]})["prompt"] == "ids: [1, 2]"
    rows = [{"ids": [1, 2]}, {"ids": []}, {"ids": None}, {"ids": [1, None]}]
    assert invalid(endpoint, *rows) == {
        1: "ids is empty",
        2: "ids is null",
        3: "ids has a null among its token ids",
    }


def test_prompts_that_cannot_be_sent_say_why():
    rows = [{"prompt": "a"}, {"prompt": None}, {"prompt": ""}, {"prompt": " "}]
    assert invalid(made(), *rows) == {1: "prompt is null", 2: "prompt would be empty"}
    assert invalid(made(), pa.table({"prompt": [b"x"]})) == {0: "prompt is binary, not text"}


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, 20),
        ({"n": 1}, 20),
        ({"n": 6}, 20),
        ({"n": 7}, 18),
        ({"n": 2, "best_of": 20}, 6),
        ({"n": 128}, 1),
        ({"max_batch_size": 1}, 1),
        ({"max_batch_size": 128}, 128),
        ({"max_batch_size": 128, "n": 3}, 42),
    ],
    ids=str,
)
def test_a_request_has_no_more_than_128_choices(options, size):
    assert made(**options).batch_size == size


def test_a_request_counts_its_prompts_its_suffix_and_the_answers_it_may_get():
    count, rows = Estimate(), [{"prompt": "x" * 30, "tail": "y" * 9}, {"prompt": "z" * 3, "tail": None}]
    endpoint = made()
    assert endpoint.tokens(prepared(endpoint, rows), count).tolist() == [10, 1]
    assert endpoint.answer_tokens(prepared(endpoint, rows)) == 16
    endpoint = made(suffix="y" * 9, n=2, best_of=3, max_tokens=100)
    assert endpoint.tokens(prepared(endpoint, rows), count).tolist() == [13, 4]
    assert endpoint.answer_tokens(prepared(endpoint, rows)) == 300
    endpoint = made(suffix=column("tail"), max_tokens=column("most"), n=2)
    ready = prepared(endpoint, [{**rows[0], "most": 5}, {**rows[1], "most": None}])
    assert endpoint.tokens(ready, count).tolist() == [13, 2]
    assert np.asarray(endpoint.answer_tokens(ready)).tolist() == [10, 32]
    endpoint = made(prompt="{ids}")
    assert endpoint.tokens(prepared(endpoint, [{"ids": list(range(50))}]), count).tolist() == [50]


@pytest.mark.parametrize(
    "options",
    [
        {"n": 0},
        {"n": 129},
        {"n": 3, "best_of": 2},
        {"best_of": 21},
        {"temperature": 2.1},
        {"top_p": 1.1},
        {"logprobs": 6},
        {"stop": ["a", "b", "c", "d", "e"]},
        {"presence_penalty": 2.1},
        {"frequency_penalty": -2.1},
        {"logit_bias": {"50256": 101}},
        {"max_tokens": -1},
        {"max_tokens": 1.5},
        {"max_batch_size": 0},
        {"max_batch_size": 129},
        {"prompt": "{"},
        {"params": {"prompt": "x"}},
        {"params": {"stream": True}},
        {"output": {"logprobs": "likely"}},
    ],
    ids=str,
)
def test_options_that_can_never_work_are_refused(options):
    with pytest.raises(ValueError):
        made(**options)


# What comes back


@given(st.integers(1, 6), st.integers(1, 4), st.randoms(use_true_random=False))
def test_prompt_i_has_the_choices_from_i_times_n_on_in_whatever_order_they_come(rows, n, chance: random.Random):
    body = choices([f"{at // n}.{at % n}" for at in range(rows * n)])
    chance.shuffle(body["choices"])
    found = answered(made(n=n), rows, body)
    assert [row["completion"] for row in found] == [[f"{row}.{k}" for k in range(n)] for row in range(rows)]


def test_without_any_index_choices_are_by_position():
    body = {"choices": [{"text": "a"}, {"text": "b"}]}
    assert [row["completion"] for row in answered(made(), 2, body)] == ["a", "b"]
    assert answered(made(n=2), 1, body) == [{"completion": ["a", "b"], "finish_reason": [None, None]}]


@pytest.mark.parametrize(
    "body",
    [
        choices("abc"),
        choices("a"),
        {"choices": []},
        {"choices": [{"text": "a", "index": 0}, {"text": "b", "index": 0}]},
        {"choices": [{"text": "a", "index": 1}, {"text": "b", "index": 2}]},
        {"choices": [{"text": "a", "index": 0}, {"text": "b"}]},
        {"choices": {"text": "a"}},
        {},
        b"[",
        b"",
    ],
    ids=str,
)
def test_what_does_not_answer_each_prompt_once_is_no_answer(body):
    with pytest.raises(BadAnswerError):
        answer(made(), 2, body)


def test_a_choice_without_text_fails_its_row_alone_and_keeps_what_came():
    body = choices(["a", None, "c", "d"])
    read = answer(made(n=2), 2, body)
    assert list(read.bad) == [0] and b'"index":1' in read.bad[0].raw and not read.bad[0].systematic
    assert read.columns[0][1] == ["c", "d"]


def test_a_filter_may_leave_no_text():
    (row,) = answered(made(), 1, {"choices": [{"text": None, "index": 0, "finish_reason": "content_filter"}]})
    assert row == {"completion": None, "finish_reason": "content_filter"}


@pytest.mark.parametrize(("told", "reason"), [("length", "length"), ("", ""), (None, None), (7, None)])
def test_why_it_ends_is_shown(told, reason):
    assert answered(made(), 1, choices(["a"], finish_reason=told))[0]["finish_reason"] == reason


def test_logprobs_are_lists_with_a_place_for_each_token():
    told = {
        "tokens": ["a", "b"],
        "token_logprobs": [None, -0.5],
        "top_logprobs": [None, {"b": -0.5, "c": -1}],
        "text_offset": [0, 1],
    }
    (row,) = answered(made(logprobs=2), 1, choices(["ab"], logprobs=told))
    top = [None, [{"token": "b", "logprob": -0.5}, {"token": "c", "logprob": -1.0}]]
    assert row["logprobs"] == {**told, "top_logprobs": top}
    assert answered(made(logprobs=0), 1, choices(["ab"]))[0]["logprobs"] is None
    (row,) = answered(made(logprobs=0), 1, choices(["ab"], logprobs={"tokens": ["ab"], "more": 1}))
    assert row["logprobs"] == {
        "tokens": ["ab"],
        "token_logprobs": None,
        "top_logprobs": None,
        "text_offset": None,
    }


@pytest.mark.parametrize("told", ["yes", {"tokens": [1]}, {"top_logprobs": [["a"]]}, {"text_offset": ["a"]}], ids=str)
def test_logprobs_that_cannot_be_read_fail_their_row_where_they_were_asked_for(told):
    read = answer(made(logprobs=1), 1, choices(["a"], logprobs=told))
    assert "logprobs" in read.bad[0].message
    assert answered(made(), 1, choices(["a"], logprobs=told))[0]["completion"] == "a"


def test_usage_is_counted_and_may_be_missing():
    body = choices(["a"])
    assert answer(made(), 1, body).prompt_tokens is None
    read = answer(made(), 1, {**body, "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})
    assert (read.prompt_tokens, read.completion_tokens) == (3, 4)


# On the emulator


def test_each_row_has_its_own_completion_whatever_order_the_choices_come_in(emulator):
    rows = [{"id": n, "prompt": f"subject {n}"} for n in range(45)]
    outcome = run([pa.Table.from_pylist(rows)], made(emulator, n=2, max_tokens=12))
    plain = {row["id"]: row["completion"] for row in outcome.rows()}
    sizes = [len(request["body"]["prompt"]) for request in emulator.requests()]
    assert sorted(plain) == list(range(45)) and sorted(sizes) == [5, 20, 20]
    assert emulator.billed([row["prompt"] for row in rows]) == [1] * 45
    assert outcome.counter("completion_tokens") > 45 and outcome.counter("prompt_tokens") > 45
    emulator.inject("shuffled", times=3)
    shuffled = run([pa.Table.from_pylist(rows)], made(emulator, n=2, max_tokens=12))
    assert {row["id"]: row["completion"] for row in shuffled.rows()} == plain
    assert all(len(set(texts)) == 2 for texts in plain.values())


@pytest.mark.parametrize("fault", ["missing", "doubled", "extra", "truncated"])
def test_an_answer_that_is_not_whole_is_asked_for_again(emulator, fault):
    emulator.inject(fault)
    outcome = run([{"prompt": f"subject {n}"} for n in range(10)], made(emulator))
    assert len(outcome.answered) == 10 and emulator.ledger()["requests"] == 2


def test_rows_fail_with_what_came_where_no_answer_is_whole(emulator):
    emulator.inject({"status": 200, "body": choices("a")}, times=9)
    outcome = run([{"prompt": "a"}, {"prompt": "b"}], made(emulator))
    assert [row["error"]["kind"] for row in outcome.rows("failed")] == ["bad_answer"] * 2
    assert "1 answers where 2 were asked for" in outcome.rows("failed")[0]["error"]["message"]
    assert '"text"' in outcome.rows("failed")[0]["error"]["raw"]


def test_token_ids_are_prompts(emulator):
    ids = [[n, n + 1, 40] for n in range(3)]
    outcome = run([pa.table({"ids": pa.array(ids, pa.list_(pa.int32()))})], made(emulator, prompt="{ids}"))
    assert emulator.requests()[0]["body"]["prompt"] == ids and emulator.billed(ids) == [1] * 3
    assert [row["ids"] for row in outcome.rows()] == ids and all(row["completion"] for row in outcome.rows())


def test_a_prompt_that_is_refused_takes_no_other_with_it(emulator):
    rows = [{"id": n, "prompt": "POISON-400" if n in (3, 17) else f"subject {n}"} for n in range(40)]
    outcome = run([pa.Table.from_pylist(rows)], made(emulator))
    assert {row["id"] for row in outcome.rows("failed")} == {3, 17}
    assert emulator.billed([row["prompt"] for row in outcome.rows()]) == [1] * 38


def test_rows_with_other_options_do_not_share_a_request(emulator):
    rows = [{"prompt": f"subject {n}", "most": 3 + n % 3, "tail": "end" if n % 2 else None} for n in range(24)]
    endpoint = made(emulator, max_tokens=column("most"), suffix=column("tail"))
    outcome = run([pa.Table.from_pylist(rows)], endpoint)
    bodies = [request["body"] for request in emulator.requests()]
    assert len(outcome.rows()) == 24 and len(bodies) == 6
    sent = {prompt: (body["max_tokens"], body.get("suffix")) for body in bodies for prompt in body["prompt"]}
    assert sent == {row["prompt"]: (row["most"], row["tail"]) for row in rows}


def test_a_server_that_takes_no_lists_is_sent_texts(emulator):
    run([{"prompt": f"subject {n}"} for n in range(5)], made(emulator, max_batch_size=1))
    assert sorted(request["body"]["prompt"] for request in emulator.requests()) == [f"subject {n}" for n in range(5)]


def test_echo_and_logprobs_come_out_of_the_pipeline_with_their_types(emulator):
    endpoint = made(emulator, echo=True, logprobs=2, max_tokens=0, output={"logprobs": "likely"})
    outcome = run([pa.table({"prompt": ["score this text", "and this"]})], endpoint)
    table = outcome.answered[0].value
    assert table.schema.field("likely").type == LOGPROBS
    for row in outcome.rows():
        assert row["completion"] == row["prompt"] == "".join(row["likely"]["tokens"])
        assert row["likely"]["token_logprobs"][0] is None and row["likely"]["token_logprobs"][1] < 0
        assert all(len(top) >= 2 for top in row["likely"]["top_logprobs"][1:])
        assert row["likely"]["text_offset"][0] == 0


def test_any_text_arrives_and_comes_back_as_it_is(emulator):
    texts = [
        "\U0001f600 e\u0301",
        "nul \x00 and \x7f",
        "line\u2028 para\u2029",
        "\u202eright to left",
        '"\\/{}\r\n\t',
        " ",
    ]
    outcome = run([pa.table({"prompt": texts})], made(emulator, echo=True, max_tokens=0))
    assert [row["completion"] for row in outcome.rows()] == texts and emulator.billed(texts) == [1] * len(texts)


def test_from_the_command_line_to_parquet(emulator, tmp_path):
    pq.write_table(pa.table({"id": range(30), "text": [f"subject {n}" for n in range(30)]}), tmp_path / "in.parquet")
    where = ["--input", tmp_path / "in.parquet", "--output", tmp_path / "out", "--base-url", emulator.base_url]
    options = [
        "--column",
        "text",
        "--n",
        2,
        "--max-tokens",
        8,
        "--logprobs",
        1,
        "--stop",
        "zzz",
        "--max-batch-size",
        10,
    ]
    ended = command("completions", *where, "--model", MODEL, *options)
    assert ended.returncode == 0, ended.stderr
    table = pq.read_table(tmp_path / "out")
    assert sorted(table["id"].to_pylist()) == list(range(30))
    assert table.schema.field("completion").type == pa.list_(pa.field("element", pa.string()))
    assert all(len(texts) == 2 and all(texts) for texts in table["completion"].to_pylist())
    assert table["logprobs"][0][0].as_py()["tokens"]
    assert [len(request["body"]["prompt"]) for request in emulator.requests()] == [10] * 3
