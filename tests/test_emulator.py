"""The emulator over real sockets; its pure parts with no server at all."""

import base64
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests

from beam_openai.emulator import Emulator, Options
from beam_openai.emulator.faults import KINDS, Plan, parse
from beam_openai.emulator.vectors import embed, embed_cheap

MODEL = "text-embedding-3-small"
INVALID = "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."


@pytest.fixture(scope="module")
def shared():
    with Emulator(models={"tiny": 8}, drip_seconds=0.2, stall_seconds=0.2) as emulator:
        yield emulator


@pytest.fixture
def server(shared):
    shared.clear()
    return shared


def post(server, input="hello", model="tiny", headers=None, **fields):
    body = {"model": model, "input": input, **fields}
    return requests.post(f"{server.base_url}/embeddings", json=body, headers=headers, timeout=10)


def floats(embedding):
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), "<f4")
    return np.array(embedding, np.float32)


# Answers


def test_an_answer_has_the_shape_of_the_real_one(server):
    answer = post(server, ["one", "two words"]).json()
    assert list(answer) == ["object", "data", "model", "usage"]
    assert answer["object"] == "list" and answer["model"] == "tiny"
    assert [row["index"] for row in answer["data"]] == [0, 1]
    assert answer["data"][0]["object"] == "embedding"
    assert answer["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


@pytest.mark.parametrize("dimensions", [None, 1, 7, 256])
def test_base64_and_floats_are_exactly_the_vectors_of_embed(server, dimensions):
    texts = ["The quick brown fox", "été 東京 🦊", "   ", "!"]
    fields = {"dimensions": dimensions} if dimensions else {}
    expected = embed(texts, dimensions or 1536)
    for encoding in ("float", "base64"):
        rows = post(server, texts, MODEL, encoding_format=encoding, **fields).json()["data"]
        assert isinstance(rows[0]["embedding"], str) == (encoding == "base64")
        np.testing.assert_array_equal([floats(row["embedding"]) for row in rows], expected)


@pytest.mark.parametrize(
    "model, dims",
    [(MODEL, 1536), ("text-embedding-3-large", 3072), ("text-embedding-ada-002", 1536)],
)
def test_each_model_has_its_own_length(server, model, dims):
    assert len(post(server, model=model).json()["data"][0]["embedding"]) == dims


def test_a_flat_list_of_token_ids_is_one_input_and_a_nested_one_is_many(server):
    assert len(post(server, [1, 2, 3]).json()["data"]) == 1
    answer = post(server, [[1, 2, 3], [4]]).json()
    assert len(answer["data"]) == 2 and answer["usage"]["prompt_tokens"] == 4
    assert server.billed([[1, 2, 3], [4]]) == [2, 1]


def test_models_are_listed_and_found_one_by_one(server):
    listed = requests.get(f"{server.base_url}/models").json()
    assert {"tiny", MODEL} <= {model["id"] for model in listed["data"]}
    assert requests.get(f"{server.base_url}/models/tiny").json()["object"] == "model"
    assert requests.get(f"{server.base_url}/models/a%2Fb").json()["error"]["message"] == (
        "The model `a/b` does not exist or you do not have access to it."
    )


def test_the_official_client_is_content(server):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=server.base_url, api_key="sk-any", max_retries=0)
    rows = client.embeddings.create(model="tiny", input=["a", "b"]).data
    np.testing.assert_array_equal([row.embedding for row in rows], embed(["a", "b"], 8))
    with pytest.raises(openai.BadRequestError, match="input"):
        client.embeddings.create(model="tiny", input=[""])


def test_azure_paths_and_its_header_are_understood():
    with Emulator(key="sk-azure") as server:
        root = server.base_url.removesuffix("/v1")
        url = f"{root}/openai/deployments/{MODEL}/embeddings?api-version=2024-10-21"
        answer = requests.post(url, json={"input": "a"}, headers={"api-key": "sk-azure"})
        assert answer.json()["model"] == MODEL


# Refusals


@pytest.mark.parametrize(
    "fields, status, expected",
    [
        ({"model": None}, 400, {"message": "you must provide a model parameter"}),
        ({"model": "no"}, 404, {"code": "model_not_found", "param": None}),
        ({"input": ""}, 400, {"message": INVALID, "code": None}),
        ({"input": []}, 400, {"message": INVALID}),
        ({"input": ["a", ""]}, 400, {"message": INVALID}),
        ({"input": ["a", None]}, 400, {"message": INVALID}),
        ({"input": ["a", 1]}, 400, {"message": INVALID}),
        ({"input": [[1], []]}, 400, {"message": INVALID}),
        ({"input": {"a": 1}}, 400, {"message": INVALID}),
        (
            {"input": ["a"] * 2049},
            400,
            {
                "message": "Invalid 'input': array too long. Expected an array with maximum "
                "length 2048, but got an array with length 2049 instead.",
                "param": "input",
                "code": "array_above_max_length",
            },
        ),
        (
            {"input": ["good", "x" * 32769]},
            400,
            {
                "message": "This model's maximum context length is 8192 tokens, however you "
                "requested 8193 tokens (8193 in your prompt; 0 for the completion). Please reduce "
                "your prompt; or completion length.",
                "code": None,
            },
        ),
        (
            {"input": ["x" * 32768] * 37},
            400,
            {
                "message": "Requested 303104 tokens, max 300000 tokens per request",
                "type": "max_tokens_per_request",
                "code": "max_tokens_per_request",
            },
        ),
        ({"top_p": 1}, 400, {"message": "Unrecognized request argument supplied: top_p"}),
        (
            {"encoding_format": "hex"},
            400,
            {"message": "'hex' is not one of ['float', 'base64'] - 'encoding_format'"},
        ),
        ({"dimensions": 0}, 400, {"message": "0 is less than the minimum of 1 - 'dimensions'"}),
        ({"dimensions": 9}, 400, {"type": "invalid_request_error"}),
        ({"dimensions": ["64"]}, 400, {"param": "dimensions"}),
        (
            {"dimensions": 8, "model": "text-embedding-ada-002"},
            400,
            {"message": "This model does not support specifying dimensions.", "param": None},
        ),
        ({"user": 1}, 400, {"message": "1 is not of type 'string' - 'user'"}),
    ],
)
def test_a_wrong_request_is_refused_in_the_real_words(server, fields, status, expected):
    response = post(server, **fields)
    assert response.status_code == status
    assert expected.items() <= response.json()["error"].items()
    assert server.ledger()["billed_inputs"] == 0


def test_the_limits_themselves_are_allowed(server):
    assert post(server, ["a"] * 2048).status_code == 200
    assert post(server, "x" * 32768).status_code == 200


def test_a_body_that_is_no_json_is_refused(server):
    url = f"{server.base_url}/embeddings"
    for body in (b"", b"{", b"[1]", b'{"model":"tiny","input":"\xff"}', b'{"input":"\\ud800"}'):
        response = requests.post(url, data=body)
        assert response.status_code == 400
        assert response.json()["error"]["message"].startswith("We could not parse the JSON body")
    assert requests.post(url, data={"model": "tiny"}).status_code == 415


def test_unknown_urls_and_wrong_methods_are_told_apart(server):
    unknown = requests.post(f"{server.base_url}/embedding", json={})
    assert unknown.status_code == 404 and unknown.json()["error"]["code"] == "unknown_url"
    wrong = requests.get(f"{server.base_url}/embeddings")
    assert wrong.status_code == 405 and wrong.headers["allow"] == "POST"


def test_a_key_is_asked_for_and_a_wrong_one_is_not_repeated():
    with Emulator(key="sk-right", max_body_bytes=1000) as server:
        url = f"{server.base_url}/models"
        missing = requests.get(url)
        assert missing.status_code == 401 and missing.json()["error"]["code"] is None
        assert missing.json()["error"]["message"].startswith("You didn't provide an API key.")
        wrong = requests.get(url, headers={"authorization": "Bearer sk-wrong-0123456789abcdef"})
        assert wrong.status_code == 401 and wrong.json()["error"]["code"] == "invalid_api_key"
        assert "Incorrect API key provided: sk-wrong**********" in wrong.json()["error"]["message"]
        assert "0123456789" not in wrong.text
        right = {"authorization": "Bearer sk-right"}
        assert requests.get(url, headers=right).status_code == 200
        large = post(server, "x" * 1000, headers=right)
        assert large.status_code == 413
        assert large.json()["error"] == {
            "message": f"Maximum content size limit (1000) exceeded ({len(large.request.body)} bytes read)",
            "type": "server_error",
            "param": None,
            "code": None,
        }


@pytest.mark.parametrize(
    "style, status, body",
    [
        (
            "vllm",
            400,
            {
                "object": "error",
                "message": "batch size 33 > maximum allowed batch size 32",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            },
        ),
        (
            "tei",
            413,
            {
                "message": "batch size 33 > maximum allowed batch size 32",
                "code": 413,
                "type": "Validation",
            },
        ),
    ],
)
def test_compatible_servers_refuse_in_their_own_way(style, status, body):
    with Emulator(style=style, max_inputs=32, no_dimensions=True) as server:
        response = post(server, ["a"] * 33, MODEL)
        assert (response.status_code, response.json()) == (status, body)
        assert "matryoshka" in post(server, model=MODEL, dimensions=4).json()["message"]
        assert post(server, ["a"] * 32, MODEL).status_code == 200


def test_encoding_format_can_be_refused_or_ignored():
    with Emulator(no_encoding_format=True) as server:
        refused = post(server, model=MODEL, encoding_format="base64").json()["error"]["message"]
        assert refused == "Unrecognized request argument supplied: encoding_format"
    with Emulator(ignore_encoding_format=True) as server:
        answer = post(server, model=MODEL, encoding_format="base64").json()
        assert isinstance(answer["data"][0]["embedding"], list)


@pytest.mark.parametrize(
    "options",
    [{"faults": "rest=0.1"}, {"faults": "reset=2"}, {"rpm": 0}, {"models": "a"}, {"latency": -1}],
)
def test_options_that_cannot_be_raise_at_once(options):
    with pytest.raises(ValueError, match=str(next(iter(options.values())))[:3]):
        Emulator(**options)


# Faults


def test_a_plan_is_the_same_for_the_same_seed_and_as_frequent_as_asked():
    chances = parse("reset=0.02, server_error=0.1")
    first, again, other = (Plan(chances, seed) for seed in (1, 1, 2))
    drawn = [first.draw() for _ in range(10_000)]
    assert drawn == [again.draw() for _ in range(10_000)]
    assert drawn != [other.draw() for _ in range(10_000)]
    assert 130 < drawn.count("reset") < 270 and 850 < drawn.count("server_error") < 1150


def test_planned_faults_happen():
    with Emulator(faults={"server_error": 1}) as server:
        assert post(server, model=MODEL).status_code == 500
        assert requests.get(f"{server.base_url}/models").status_code == 200
        assert server.ledger()["faults"] == {"server_error": 1}


@pytest.mark.parametrize(
    "kind, status, type, code",
    [
        ("rate_limit", 429, "requests", "rate_limit_exceeded"),
        ("rate_limit_ms", 429, "requests", "rate_limit_exceeded"),
        ("rate_limit_message", 429, "requests", "rate_limit_exceeded"),
        ("insufficient_quota", 429, "insufficient_quota", "insufficient_quota"),
        ("server_error", 500, "server_error", None),
        ("unavailable", 503, "service_unavailable_error", "server_is_overloaded"),
        ("overloaded", 503, "server_error", "engine_overloaded"),
        ("error_200", 200, "server_error", None),
    ],
)
def test_a_refusing_fault_bills_nothing(server, kind, status, type, code):
    server.inject(kind)
    response = post(server)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"]) == (status, type, code)
    waits = {name for name in response.headers if name.lower().startswith("retry-after")}
    assert waits == {
        "rate_limit": {"retry-after"},
        "rate_limit_ms": {"retry-after", "retry-after-ms"},
    }.get(kind, set())
    assert server.ledger()["billed_inputs"] == 0
    assert post(server).status_code == 200


@pytest.mark.parametrize(
    "kind, status, text",
    [("bad_gateway", 502, "<html>"), ("gateway_timeout", 504, "upstream"), ("empty_520", 520, "")],
)
def test_some_errors_are_no_json(server, kind, status, text):
    server.inject(kind)
    response = post(server)
    assert response.status_code == status and response.text.startswith(text)


@pytest.mark.parametrize("kind, billed", [("reset", 0), ("reset_after", 1), ("short_body", 1)])
def test_a_broken_connection_is_broken_and_billed_or_not(server, kind, billed):
    server.inject(kind)
    with pytest.raises(requests.exceptions.RequestException) as caught:
        post(server, model=MODEL)
    assert isinstance(
        caught.value,
        requests.exceptions.ConnectionError | requests.exceptions.ChunkedEncodingError,
    )
    assert server.billed(["hello"]) == [billed]


@pytest.mark.parametrize("kind", ["stall", "slow_body", "gzip"])
def test_a_late_or_compressed_answer_is_still_right(server, kind):
    server.inject(kind)
    response = post(server)
    np.testing.assert_array_equal(floats(response.json()["data"][0]["embedding"]), embed(["hello"], 8)[0])
    assert (response.headers.get("content-encoding") == "gzip") == (kind == "gzip")
    assert server.billed(["hello"]) == [1]


def test_a_stalled_answer_that_nobody_waits_for_is_not_billed():
    with Emulator(stall_seconds=0.3) as server:
        server.inject("stall")
        with pytest.raises(requests.exceptions.ReadTimeout):
            requests.post(f"{server.base_url}/embeddings", json={"model": MODEL, "input": "a"}, timeout=0.05)
        while server.ledger()["in_flight"]:
            time.sleep(0.01)
        assert server.ledger()["billed_inputs"] == 0


def damaged(server, kind, encoding="base64"):
    server.inject(kind)
    response = post(server, list("abcde"), encoding_format=encoding)
    assert response.status_code == 200 and server.ledger()["billed_inputs"] == 5
    return response


def test_damaged_rows_are_damaged_as_their_names_say(server):
    indexes = [row["index"] for row in damaged(server, "shuffled").json()["data"]]
    assert sorted(indexes) == [0, 1, 2, 3, 4] != indexes
    server.clear()
    assert len(damaged(server, "missing").json()["data"]) == 4
    server.clear()
    indexes = [row["index"] for row in damaged(server, "doubled").json()["data"]]
    assert len(indexes) == 6 and set(indexes) == {0, 1, 2, 3, 4}
    server.clear()
    assert [row["index"] for row in damaged(server, "extra").json()["data"]] == [0, 1, 2, 3, 4, 5]
    server.clear()
    rows = damaged(server, "no_index").json()["data"]
    assert not [row for row in rows if "index" in row]
    np.testing.assert_array_equal([floats(row["embedding"]) for row in rows], embed("abcde", 8))


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_damaged_vectors_keep_the_way_they_are_written(server, encoding):
    rows = [floats(row["embedding"]) for row in damaged(server, "wrong_length", encoding).json()["data"]]
    assert sorted(map(len, rows)) == [7, 8, 8, 8, 8]
    server.clear()
    rows = [floats(row["embedding"]) for row in damaged(server, "nan", encoding).json()["data"]]
    assert [np.isnan(row).sum() for row in rows].count(1) == 1
    server.clear()
    rows = [row["embedding"] for row in damaged(server, "null_in_vector", encoding).json()["data"]]
    assert sum(row[0] is None for row in rows) == 1


def test_damaged_bodies(server):
    assert "usage" not in damaged(server, "no_usage").json()
    server.clear()
    rows = damaged(server, "floats").json()["data"]
    np.testing.assert_array_equal([row["embedding"] for row in rows], embed("abcde", 8))
    for kind in ("truncated", "invalid_json"):
        server.clear()
        with pytest.raises(requests.exceptions.JSONDecodeError):
            damaged(server, kind).json()


def test_every_kind_can_be_injected_and_is_counted(server):
    for kind in KINDS:
        server.inject(kind)
        with contextlib.suppress(requests.exceptions.RequestException):
            post(server, ["a", "b"], encoding_format="base64")
    assert set(server.ledger()["faults"]) == set(KINDS)
    assert post(server).status_code == 200


def test_poison_texts(server):
    assert post(server, ["good", "a POISON-400 text"]).json()["error"]["message"] == INVALID
    assert post(server, ["good", "POISON-500"]).status_code == 500
    assert server.billed(["good"]) == [0]
    for encoding in ("float", "base64"):
        rows = post(server, ["good", "POISON-NAN"], encoding_format=encoding).json()["data"]
        assert np.isnan(floats(rows[1]["embedding"])).all()
        assert not np.isnan(floats(rows[0]["embedding"])).any()


@pytest.mark.parametrize("body", ["text", b"\x00\xff", {"json": [1, None]}])
def test_a_raw_answer_can_be_put_in_line(server, body):
    server.inject({"status": 418, "headers": {"x-odd": "1"}, "body": body}, times=2)
    for _ in range(2):
        response = post(server)
        assert response.status_code == 418 and response.headers["x-odd"] == "1"
        assert response.json() == body if isinstance(body, dict) else True
        assert response.content == body if isinstance(body, bytes) else True
    assert post(server).status_code == 200
    assert server.ledger()["billed_inputs"] == 1


def test_injections_wait_for_their_path_and_can_be_cleared(server):
    server.inject({"status": 503, "body": ""}, path="/models")
    assert post(server).status_code == 200
    assert requests.get(f"{server.base_url}/models").status_code == 503
    server.inject({"delay": 30}, times=5)
    server.clear()
    assert post(server).status_code == 200
    with pytest.raises(ValueError, match="unknown fault"):
        server.inject("no_such_fault")


@pytest.mark.parametrize("options", [{"port": 99999}, {"port": -1}, {"max_inputs": 0}, {"max_body_bytes": -5}], ids=str)
def test_options_that_can_never_work_are_refused_with_the_value(options):
    [(name, value)] = options.items()
    with pytest.raises(ValueError, match=f"{name} .*{value}"):
        Options(**options)


def test_json_that_is_nested_too_deeply_is_refused_and_remembered(server):
    body = b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    response = requests.post(f"{server.base_url}/embeddings", data=body, headers={"content-type": "application/json"})
    assert response.status_code == 400 and "parse the JSON" in response.json()["error"]["message"]
    assert server.requests()[-1]["size"] == len(body)


# Ledger


def test_the_ledger_knows_how_often_each_input_was_billed(server):
    for texts in (["a", "b"], ["b", "c"], "c"):
        post(server, texts)
    post(server, "c", MODEL)
    assert server.billed(["a", "b", "c", "d"]) == [1, 2, 3, 0]
    assert server.billed(["c"], model="tiny") == [2]
    ledger = server.ledger()
    assert ledger["requests"] == ledger["answered"] == 4
    assert ledger["by_status"] == {"200": 4}
    assert ledger["billed_inputs"] == 6 and ledger["tokens"] == 6
    assert ledger["distinct_inputs"] == 4 and ledger["billed_twice"] == 2
    assert "4 requests (200: 4), 6 inputs billed, 2 of them more than once" in server.summary()


@pytest.mark.parametrize(
    "path, fields",
    [
        ("completions", {"model": "davinci-002", "prompt": ["a", "b"], "max_tokens": 500, "stop": " ", "n": 2}),
        ("completions", {"model": "davinci-002", "prompt": "a", "max_tokens": 500}),
        (
            "chat/completions",
            {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "a"}], "max_tokens": 5000, "n": 2},
        ),
        ("responses", {"model": "gpt-4o-mini", "input": "hello", "max_output_tokens": 5000}),
        ("edits", {"model": "text-davinci-edit-001", "input": "a text", "instruction": "mend"}),
    ],
)
def test_the_tokens_that_are_billed_are_those_that_were_used(server, path, fields):
    usage = requests.post(f"{server.base_url}/{path}", json=fields).json()["usage"]
    assert server.ledger()["tokens"] == usage["total_tokens"] > 0
    if path != "edits":
        streamed = requests.post(f"{server.base_url}/{path}", json={**fields, "stream": True})
        assert streamed.status_code == 200
        assert server.ledger()["tokens"] == 2 * usage["total_tokens"]


def test_the_same_text_with_other_dimensions_is_another_input(server):
    post(server, "a", dimensions=2)
    post(server, "a", dimensions=3)
    assert server.ledger()["billed_twice"] == 0 and server.billed(["a"]) == [2]


def test_requests_in_flight_together_are_counted():
    with Emulator(latency=2) as server, ThreadPoolExecutor(8) as pool:
        barrier = threading.Barrier(8)

        def ask(text):
            barrier.wait()
            return post(server, text, MODEL).elapsed.total_seconds()

        assert min(pool.map(ask, "abcdefgh")) >= 0.3
        ledger = server.ledger()
        assert ledger["peak_in_flight"] == 8 and ledger["in_flight"] == 0
        assert 0 < ledger["mean_in_flight"] <= 8 and ledger["connections"] >= 8


def test_slow_answers_are_as_slow_as_asked():
    with Emulator(latency=0.05, slow_share=1, slow_factor=4) as server:
        assert post(server, model=MODEL).elapsed.total_seconds() >= 0.2


def test_recent_requests_are_shown_as_they_arrived(server):
    post(server, "x" * 1_100_000)
    post(server, "hello", dimensions=2, headers={"x-mine": "1"})
    first, last = server.requests()
    assert first["status"] == 400 and first["size"] > 1_100_000 and len(first["body"]["abbreviated"]) == 1000
    assert (last["method"], last["path"], last["status"]) == ("POST", "/v1/embeddings", 200)
    assert last["body"] == {"model": "tiny", "input": "hello", "dimensions": 2}
    assert last["headers"]["x-mine"] == "1" and last["at"] >= first["at"]
    assert server.requests(last=1) == [last]


def test_only_as_many_requests_are_remembered_as_asked():
    with Emulator(keep_requests=3) as server:
        for number in range(5):
            post(server, str(number), MODEL)
        assert [seen["body"]["input"] for seen in server.requests()] == ["2", "3", "4"]


# Vectors

CORPUS = {
    "bread": ["How to bake sourdough bread at home", "Baking bread with a sourdough starter"],
    "space": ["The rocket reached orbit around Mars", "Rockets and orbits: a mission to Mars"],
    "law": ["The court dismissed the appeal", "An appeal was dismissed by the courts"],
    "dogs": ["Training a puppy to walk on a leash", "Puppies learn to walk without leashes"],
}


@pytest.mark.parametrize("dims", [256, 1536, 3072])
def test_the_nearest_neighbour_shares_its_words(dims):
    vectors = embed([text for pair in CORPUS.values() for text in pair], dims)
    near = vectors @ vectors.T - 2 * np.eye(len(vectors))
    assert near.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]


def test_stop_words_hardly_count():
    one, other, unlike = embed(["the cat is on the roof", "a cat on roof", "the dog is on the grass"], 1536)
    assert one @ other > 0.8 and one @ unlike < 0.3


@pytest.mark.parametrize("function", [embed, embed_cheap])
@pytest.mark.parametrize("dims", [2, 3, 5, 64, 1536])
def test_vectors_have_length_one_and_do_not_depend_on_their_neighbours(function, dims):
    chance = random.Random(dims)
    texts = ["", " ", "!?", "a", "Ünïcödé", "日本語", "x" * 5000]
    texts += ["".join(chance.choices("abc de\n\0", k=chance.randrange(60))) for _ in range(600)]
    vectors = function(texts, dims)
    assert vectors.dtype == np.float32 and vectors.shape == (607, dims)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    for at in (0, 3, 6, 300):
        np.testing.assert_array_equal(function([texts[at]], dims)[0], vectors[at])


@pytest.mark.parametrize("function", [embed, embed_cheap])
def test_distinct_texts_have_distinct_vectors_even_with_the_same_words(function):
    texts = ["one two", "two one", "One two", "one  two", "one two "]
    texts += [f"row {number}" for number in range(5000)]
    assert len({row.tobytes() for row in function(texts, 64)}) == len(texts)


HELLO_WORLD = [0.0337461, -0.9860348, 0.0438535, 0.1570784]
CHEAP_WORLD = [0.3582454, -0.5229275, 0.4655446, 0.6176369]


def test_vectors_are_the_same_on_every_machine():
    assert embed(["hello world"], 4)[0].tolist() == pytest.approx(HELLO_WORLD, abs=1e-6)
    assert embed_cheap(["hello world"], 4)[0].tolist() == pytest.approx(CHEAP_WORLD, abs=1e-6)


def test_no_texts_have_no_vectors():
    assert embed([], 8).shape == embed_cheap([], 8).shape == (0, 8)


def test_cheap_vectors_are_served_when_asked_for():
    with Emulator(vectors="cheap") as server:
        row = post(server, "hello", MODEL, encoding_format="base64").json()["data"][0]
        np.testing.assert_array_equal(floats(row["embedding"]), embed_cheap(["hello"], 1536)[0])


# Process


def test_the_process_ends_with_the_block():
    with Emulator() as server:
        pid = server.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    server.stop()


def test_the_process_ends_when_its_parent_dies():
    code = (
        "from beam_openai.emulator import Emulator; import os; server = Emulator(); "
        "server.start(); print(server.base_url, flush=True); os.kill(os.getpid(), 9)"
    )
    parent = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    url = parent.stdout.strip()
    assert parent.returncode == -signal.SIGKILL and url.endswith("/v1")
    with pytest.raises(requests.exceptions.ConnectionError):
        while True:
            requests.get(f"{url}/models", timeout=10)


def test_a_taken_port_is_reported(server, capfd):
    port = int(server.base_url.split(":")[2].removesuffix("/v1"))
    with pytest.raises(RuntimeError, match="ended at once"):
        Emulator(port=port).start()
    assert capfd.readouterr().err.startswith("emulator: ")


def test_in_the_foreground_ctrl_c_ends_it_with_one_line():
    command = [sys.executable, "-m", "beam_openai.emulator", "--port=0", "--models", "tiny:8"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    url = process.stdout.readline().split()[-1]
    requests.post(f"{url}/embeddings", json={"model": "tiny", "input": "a"})
    ledger = requests.get(url.removesuffix("v1") + "ledger").json()
    assert ledger["billed_inputs"] == 1
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert "1 requests (200: 1), 1 inputs billed" in out and "Traceback" not in err
    assert process.returncode == 0


def test_every_option_survives_the_command_line():
    options = Options(port=5, key="-k", rpm=1.5, retry_after_ms=True, faults="reset=0.5", models="a:1,b/c:d:2")
    code = (
        "import argparse, sys; from beam_openai.emulator.options import *; "
        "parser = argparse.ArgumentParser(); add_arguments(parser); "
        "print(from_arguments(parser.parse_args())); "
        "assert not {'aiohttp', 'numpy'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, *options.arguments()]
    assert subprocess.check_output(command, text=True).strip() == repr(options)


def test_without_its_library_it_says_what_to_install():
    code = (
        "import sys; sys.modules['aiohttp'] = None; "
        "import runpy; runpy.run_module('beam_openai.emulator', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "emulator: it needs aiohttp: pip install beam-openai[emulator]\n" in done.stderr


def test_wrong_flags_are_wrong_usage():
    command = [sys.executable, "-m", "beam_openai.emulator", "--faults", "rest=1"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2 and "emulator: unknown fault 'rest'" in done.stderr
