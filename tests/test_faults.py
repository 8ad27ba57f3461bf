"""What goes wrong: each row still comes out once, with its answer or its reason, or the job stops and says what to do."""

from __future__ import annotations

import collections
import gc
import http.server
import json
import math
import socket
import threading
import time
from typing import ClassVar

import apache_beam as beam
import numpy as np
import pytest
from conftest import (
    DIMENSIONS,
    MODEL,
    embeddings,
    fn_api,
    open_sockets,
    our_threads,
    run,
    texts_table,
    threads,
    vectors,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_openai import API, Embeddings, Quota, Retry, column, errors, memory, outage, service
from beam_openai.emulator.faults import KINDS

pytestmark = pytest.mark.usefixtures("clean")


def numbered(count, poison=(), marker="POISON-400"):
    return [f"{n} {marker}" if n in poison else f"{n}" for n in range(count)]


def check(outcome, texts, failed=()):
    """Every text once, the good ones with their own vectors."""
    rows = outcome.rows()
    assert sorted(row["text"] for row in rows) == sorted(set(texts) - set(failed))
    assert sorted(row["text"] for row in outcome.rows("failed")) == sorted(failed)
    answers = np.array([row["embedding"] for row in rows])
    assert np.allclose(answers, vectors([row["text"] for row in rows]), atol=1e-6)


def answer(count, length=DIMENSIONS, **changes):
    """A raw answer of the emulator's, as it is to be injected."""
    data = [{"object": "embedding", "index": n, "embedding": [0.5] * length} for n in range(count)]
    return {"status": 200, "body": {"object": "list", "data": data, "model": MODEL, **changes}}


# Split


@pytest.mark.parametrize("poison", [{0}, {99}, {31, 32, 64}, set(range(0, 100, 9)), set(range(100))], ids=len)
def test_poison_rows_fail_alone_for_few_requests_and_good_rows_are_billed_once(emulator, poison):
    texts = numbered(100, poison)
    outcome = run([texts_table(texts)], embeddings(emulator))
    check(outcome, texts, [texts[n] for n in poison])
    for row in outcome.rows("failed"):
        error = row["error"]
        assert (error["kind"], error["status"], error["attempts"], error["raw"]) == ("rejected", 400, 1, None)
        assert error["type"] == "invalid_request_error" and error["request_id"].startswith("req_")
        assert row["text"] not in error["message"]
    k = len(poison)
    assert emulator.ledger()["requests"] - 1 <= 2 * k * (math.log2(100 / k) + 1)
    good = [text for n, text in enumerate(texts) if n not in poison]
    assert emulator.billed(good) == [1] * len(good)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_however_the_poison_lies_the_bound_holds(plain_emulator, data):
    count = data.draw(st.integers(1, 300))
    poison = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=12))
    texts = numbered(count, poison)
    plain_emulator.clear()
    check(run([texts_table(texts)], embeddings(plain_emulator)), texts, [texts[n] for n in poison])
    extra = plain_emulator.ledger()["requests"] - 1
    assert extra <= 2 * len(poison) * (math.log2(count / len(poison)) + 1)
    assert plain_emulator.ledger()["billed_twice"] == 0


@pytest.mark.parametrize("style", ["openai", "vllm", "tei"])
@pytest.mark.parametrize("cap", [1, 32])
def test_a_servers_own_cap_is_learned_at_once_and_kept(start_emulator, style, cap):
    server = start_emulator(max_inputs=cap, style=style)
    texts = numbered(100 * cap)
    shared = service.acquire(embeddings(server))
    try:
        check(run([texts_table(texts[at : at + 500]) for at in range(0, len(texts), 500)], embeddings(server)), texts)
        refused = sum(count for status, count in server.ledger()["by_status"].items() if status != "200")
        assert refused <= 2 and server.ledger()["requests"] <= 102 + refused
        server.clear()
        again = [f"again {text}" for text in texts]
        check(run([texts_table(again)], embeddings(server)), again)
        assert set(server.ledger()["by_status"]) == {"200"}
    finally:
        service.release(shared)


def test_a_servers_own_cap_of_tokens_is_learned(start_emulator):
    server = start_emulator(max_tokens_per_request=1000, bytes_per_token=1.0)
    texts = [f"{n:03d} {'x' * 96}" for n in range(200)]  # 100 tokens each
    check(run([texts_table(texts)], embeddings(server)), texts)
    assert server.ledger()["by_status"]["400"] <= 25
    assert server.ledger()["billed_twice"] == 0


def test_a_body_that_is_too_large_is_split(start_emulator):
    server = start_emulator(max_body_bytes=5000)
    texts = [f"{n:03d} {'x' * 396}" for n in range(100)]
    check(run([texts_table(texts)], embeddings(server)), texts)
    assert server.ledger()["by_status"]["413"] <= 8


def test_one_text_that_is_too_long_among_a_hundred_good_ones(emulator):
    texts = [*numbered(100), "word " * 9000]
    outcome = run([texts_table(texts)], embeddings(emulator))
    check(outcome, texts, texts[-1:])
    assert "maximum context length" in outcome.rows("failed")[0]["error"]["message"]
    assert emulator.ledger()["requests"] <= 1 + 2 * (math.log2(101) + 1)
    assert emulator.billed(texts[:-1]) == [1] * 100


def test_a_text_that_is_surely_too_long_for_a_known_model_costs_nothing(emulator):
    texts = ["short", "x" * 3_000_000]
    outcome = run([texts_table(texts)], embeddings(emulator, model="text-embedding-3-small"))
    (failed,) = outcome.rows("failed")
    assert failed["error"]["kind"] in ("invalid_input", "rejected")
    assert len(outcome.rows()) == 1 and emulator.ledger()["billed_inputs"] == 1


def test_too_large_for_the_tokens_of_a_minute_is_split_without_a_wait(emulator):
    message = (
        "Request too large for tiny in organization org-x on tokens per min (TPM): Limit 1000, Requested 1200. "
        "The input or output tokens must be reduced in order to run successfully."
    )
    body = {"error": {"message": message, "type": "tokens", "param": None, "code": "rate_limit_exceeded"}}
    emulator.inject({"status": 429, "body": body}, path="/embeddings")
    texts = numbered(50)
    outcome = run([texts_table(texts)], embeddings(emulator))
    check(outcome, texts)
    assert outcome.counter("retries") in (None, 0)
    emulator.clear()
    emulator.inject({"status": 429, "body": body}, path="/embeddings")
    outcome = run([texts_table(["one"])], embeddings(emulator))
    assert outcome.rows("failed")[0]["error"]["kind"] == "rejected" and emulator.ledger()["requests"] == 1


# Wait


@pytest.mark.parametrize(
    ("refusal", "seconds"),
    [
        ("rate_limit", 1.0),
        ("rate_limit_ms", 0.25),
        ("rate_limit_message", 0.644),
        ({"status": 429, "headers": {"retry-after": "0.3"}, "body": "slow down"}, 0.3),
        ({"status": 503, "headers": {"retry-after": "0.3"}, "body": {"error": "Loading model"}}, 0.3),
        (
            {
                "status": 429,
                "headers": {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "300ms"},
                "body": {"error": {"message": "Slow down", "type": "requests", "code": "rate_limit_exceeded"}},
            },
            0.3,
        ),
    ],
    ids=str,
)
def test_a_wait_that_the_server_asks_for_is_kept(emulator, refusal, seconds):
    emulator.inject(refusal, path="/embeddings")
    outcome = run([texts_table(["a", "b"])], embeddings(emulator, retry=Retry(max_wait=5)))
    check(outcome, ["a", "b"])
    first, second = [request["at"] for request in emulator.requests()]
    assert second - first >= seconds
    assert outcome.counter("retries") == 1 and outcome.counter("requests") == 1 and outcome.counter("attempts") == 2


@pytest.mark.parametrize(
    "kind",
    [
        "server_error",
        "bad_gateway",
        "unavailable",
        "overloaded",
        "gateway_timeout",
        "empty_520",
        "error_200",
        "reset",
        "missing",
        "doubled",
        "extra",
        "truncated",
        "invalid_json",
        "short_body",
        "reset_after",
    ],
)
def test_what_passes_is_tried_again(emulator, kind):
    emulator.inject(kind, times=2, path="/embeddings")
    texts = numbered(20)
    outcome = run([texts_table(texts)], embeddings(emulator))
    check(outcome, texts)
    assert emulator.ledger()["requests"] == 3 and outcome.counter("retries") == 2
    assert set(emulator.billed(texts)) == {
        3 if kind in KINDS and KINDS[kind].startswith("200") and kind != "error_200" else 1
    }


@pytest.mark.parametrize("kind", ["shuffled", "no_index", "no_usage", "floats", "gzip", "slow_body"])
def test_what_is_odd_but_right_is_taken(start_emulator, kind):
    server = start_emulator(drip_seconds=0.1)
    server.inject(kind, path="/embeddings")
    texts = numbered(50)
    outcome = run([texts_table(texts)], embeddings(server))
    check(outcome, texts)
    assert server.billed(texts) == [1] * 50 and outcome.counter("retries") in (None, 0)


def test_attempts_that_are_spent_fail_the_rows_with_all_there_is_to_know(emulator):
    emulator.inject("server_error", times=3, path="/embeddings")
    outcome = run([texts_table(["a", "b"])], embeddings(emulator, retry=Retry(attempts=3, max_wait=0.05)))
    assert not outcome.rows()
    for row in outcome.rows("failed"):
        error = row["error"]
        assert (error["kind"], error["status"], error["attempts"]) == ("exhausted", 500, 3)
        assert error["request_id"].startswith("req_") and error["type"] == "server_error" and error["raw"] is None
    assert emulator.ledger()["requests"] == 3


@pytest.mark.parametrize("kind", ["truncated", "invalid_json", "missing", "doubled", "extra"])
def test_an_answer_that_stays_unusable_was_paid_for_and_is_kept(emulator, kind):
    emulator.inject(kind, times=2, path="/embeddings")
    outcome = run([texts_table(["a", "b"])], embeddings(emulator, retry=Retry(attempts=2, max_wait=0.05)))
    for row in outcome.rows("failed"):
        error = row["error"]
        assert (error["kind"], error["status"], error["attempts"]) == ("bad_answer", 200, 2)
        assert error["raw"] and len(error["raw"]) <= 65_536 and error["request_id"].startswith("req_")
    assert len(outcome.rows("failed")) == 2


def test_x_should_retry_is_obeyed(emulator):
    emulator.inject({"status": 500, "headers": {"x-should-retry": "false"}, "body": ""}, path="/embeddings")
    outcome = run([texts_table(["a"])], embeddings(emulator))
    assert outcome.rows("failed")[0]["error"]["attempts"] == 1 and emulator.ledger()["requests"] == 1
    emulator.clear()
    emulator.inject({"status": 400, "headers": {"x-should-retry": "true"}, "body": ""}, path="/embeddings")
    outcome = run([texts_table(["a"])], embeddings(emulator))
    assert len(outcome.rows()) == 1 and emulator.ledger()["requests"] == 2


def test_a_server_that_stalls_is_given_up_after_the_timeout_and_asked_again(emulator):
    emulator.inject({"delay": 20}, path="/embeddings")
    api = API(base_url=emulator.base_url, timeout=0.5)
    check(run([texts_table(["a"])], embeddings(emulator, api=api)), ["a"])
    first, second = [request["at"] for request in emulator.requests()]
    assert second - first >= 0.5


def test_a_request_whose_answer_was_lost_is_billed_again_and_the_ledger_shows_it(emulator):
    emulator.inject("reset_after", path="/embeddings")
    check(run([texts_table(["a"])], embeddings(emulator)), ["a"])
    assert emulator.billed(["a"]) == [2]


# Bad rows of good answers


@pytest.mark.parametrize("kind", ["nan", "wrong_length", "null_in_vector"])
@pytest.mark.parametrize("encoding_format", ["base64", "float"])
def test_a_bad_vector_fails_its_row_alone_and_is_kept(emulator, kind, encoding_format):
    texts = numbered(20)
    options = {"dimensions": DIMENSIONS, "encoding_format": encoding_format}
    emulator.inject(kind, path="/embeddings")
    outcome = run([texts_table(texts)], embeddings(emulator, **options))
    (failed,) = outcome.rows("failed")
    check(outcome, texts, [failed["text"]])
    assert failed["error"]["kind"] == "bad_answer" and failed["error"]["raw"]
    assert failed["error"]["status"] == 200 and failed["error"]["request_id"].startswith("req_")
    assert emulator.billed(texts) == [1] * 20


def test_rows_that_the_model_answers_with_nan_fail_alone(emulator):
    texts = numbered(100, {3, 50}, "POISON-NAN")
    check(run([texts_table(texts)], embeddings(emulator)), texts, [texts[3], texts[50]])
    assert emulator.ledger()["requests"] == 1


# Stop


STOPS = {
    "insufficient_quota": ("insufficient_quota", {}, errors.QuotaExceededError, "check plan and billing"),
    "quota without a code": (
        {"status": 429, "body": {"error": {"message": "You exceeded your current quota, please check your plan"}}},
        {},
        errors.QuotaExceededError,
        "check plan and billing",
    ),
    "402": ({"status": 402, "body": "pay"}, {}, errors.QuotaExceededError, "check plan and billing"),
    "401": (
        {"status": 401, "body": {"error": {"message": "wrong key"}}},
        {},
        errors.AuthenticationError,
        "Check the key",
    ),
    "403": (
        {"status": 403, "body": {"error": {"message": "no"}}},
        {},
        errors.PermissionDeniedError,
        "key may not do this",
    ),
    "unknown model": (None, {"model": "no-such-model"}, errors.NotFoundError, "Check `model`"),
    "unknown option": (None, {"params": {"shoe_size": 43}}, errors.ConfigurationError, "shoe_size"),
    "redirect": (
        {"status": 307, "headers": {"location": "http://x/"}, "body": ""},
        {},
        errors.NotFoundError,
        "redirects to x",
    ),
    "a wait of a day": (
        {"status": 429, "headers": {"retry-after": "86400"}, "body": {"error": {"message": "daily limit"}}},
        {},
        errors.RateLimitError,
        "asks to wait 86400 s, longer than Retry",
    ),
    "a length that was not asked for": (
        answer(100, length=3),
        {"dimensions": 5},
        errors.ConfigurationError,
        "3 numbers where 5 were expected: set dimensions",
    ),
}


@pytest.mark.parametrize("name", STOPS)
def test_what_no_retry_mends_costs_one_request_and_stops_the_job_with_advice(emulator, name):
    injected, options, kind, advice = STOPS[name]
    if injected is not None:
        emulator.inject(injected, times=100, path="/embeddings")
    tables = [texts_table(numbered(100)) for _ in range(5)]
    with pytest.raises(kind) as raised:
        run(tables, embeddings(emulator, max_batch_size=100, **options))
    assert advice in str(raised.value)
    assert emulator.ledger()["requests"] == 1 and emulator.ledger()["billed_inputs"] == 0


def test_a_wrong_address_costs_one_request(emulator):
    api = API(base_url=emulator.base_url + "/no/such")
    with pytest.raises(errors.NotFoundError, match=r"Check `model` and `base_url`"):
        run([texts_table(numbered(100))], embeddings(emulator, api=api, max_batch_size=10))
    assert emulator.ledger()["requests"] == 1


@pytest.mark.parametrize("status", [404, 405, 308])
def test_a_wrong_address_costs_one_request_also_where_each_row_has_its_model(emulator, status):
    emulator.inject({"status": status, "body": {"detail": "Not Found"}}, times=100, path="/embeddings")
    rows = texts_table(numbered(100), model=[MODEL] * 100)
    with pytest.raises(errors.NotFoundError):
        run([rows], embeddings(emulator, model=column("model"), max_batch_size=10))
    assert emulator.ledger()["requests"] == 1


@pytest.mark.parametrize(
    ("server_options", "options", "advice"),
    [
        ({"no_dimensions": True}, {"dimensions": 4}, "does not know dimensions: leave it unset"),
        ({"no_dimensions": True, "style": "vllm"}, {"dimensions": 4}, "does not know dimensions: leave it unset"),
        ({"no_encoding_format": True}, {}, 'does not know encoding_format: set it to "float", or to None'),
        ({"no_encoding_format": True, "style": "vllm"}, {}, "does not know encoding_format"),
    ],
    ids=str,
)
def test_an_option_that_the_server_does_not_know_stops_the_job_and_says_what_to_set(
    start_emulator, server_options, options, advice
):
    server = start_emulator(**server_options)
    with pytest.raises(errors.ConfigurationError) as raised:
        run([texts_table(numbered(50))], embeddings(server, **options))
    assert advice in str(raised.value) and server.ledger()["requests"] == 1


def test_a_key_that_is_wrong_or_missing_stops_the_job_and_is_not_repeated(start_emulator, monkeypatch):
    server = start_emulator(key="sk-the-right-one")
    monkeypatch.setenv("MY_KEY", "sk-a-wrong-one-7531")
    with pytest.raises(errors.AuthenticationError) as raised:
        run([texts_table(["a"])], embeddings(server, api=API(base_url=server.base_url, key="MY_KEY")))
    assert "a-wrong-one" not in str(raised.value) and "Check the key" in str(raised.value)
    assert server.ledger()["requests"] == 1
    with pytest.raises(errors.AuthenticationError, match="environment variable NO_SUCH_KEY is not set"):
        run([texts_table(["a"])], embeddings(server, api=API(base_url=server.base_url, key="NO_SUCH_KEY")))
    assert not service._services


def test_a_server_that_refuses_connections_stops_the_job(emulator):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    api = API(base_url=f"http://127.0.0.1:{port}/v1")
    with pytest.raises(errors.ServerDownError, match="Check base_url, and that the server runs"):
        run([texts_table(["a"])], embeddings(emulator, api=api, retry=Retry(attempts=2, max_wait=0.01)))


def test_a_server_that_never_recovers_stops_the_job_after_the_documented_number(emulator):
    emulator.inject("server_error", times=10_000, path="/embeddings")
    with pytest.raises(errors.ServerDownError, match="10 requests in a row spent their attempts"):
        run(
            [texts_table(numbered(1000))],
            embeddings(emulator, max_batch_size=10, retry=Retry(attempts=2, max_wait=0.01)),
        )
    # Ten requests of two attempts each, and what was being waited for or in flight.
    assert 20 <= emulator.ledger()["requests"] <= 20 + 2 * 32 and outage.IN_A_ROW == 10


def test_successes_in_between_keep_a_job_running(start_emulator):
    server = start_emulator()
    texts = numbered(40, range(0, 40, 2), "POISON-500")
    retry = Retry(attempts=1)
    outcome = run([texts_table(texts)], embeddings(server, max_batch_size=1, retry=retry, concurrency=1))
    check(outcome, texts, texts[::2])
    assert {row["error"]["kind"] for row in outcome.rows("failed")} == {"exhausted"}


# Quota, pace, concurrency


def test_a_ceiling_of_requests_is_kept(emulator):
    outcome = run(
        [texts_table(numbered(12))], embeddings(emulator, max_batch_size=1, quota=Quota(requests_per_minute=300))
    )
    check(outcome, numbered(12))
    arrived = [request["at"] for request in emulator.requests()]
    # A second may be made up for, and the first may come late.
    assert len(arrived) == 12 and arrived[-1] - arrived[0] >= 11 * 0.2 - 1.7
    assert outcome.counter("throttled") >= 1


def test_the_servers_own_quota_is_used_and_hardly_hit(start_emulator):
    server = start_emulator(rpm=600, bucket_seconds=1)
    texts = numbered(40)
    check(run([texts_table(texts)], embeddings(server, max_batch_size=1, retry=Retry(max_wait=5))), texts)
    assert set(server.billed(texts)) == {1}


def test_no_more_requests_are_in_flight_than_may_be_and_one_until_the_first_success(start_emulator):
    server = start_emulator(latency=0.05)
    texts = numbered(200)
    outcome = run([texts_table(texts)], embeddings(server, max_batch_size=5, concurrency=6), threads)
    check(outcome, texts)
    assert server.ledger()["peak_in_flight"] <= 6
    first, second, *_ = [request["at"] for request in server.requests()]
    assert second - first >= 0.05


def test_requests_of_later_tables_start_while_stragglers_of_earlier_ones_finish(emulator):
    run_first = texts_table(["first"])
    emulator.inject({"delay": 0.0}, path="/embeddings")
    emulator.inject({"delay": 3.0}, path="/embeddings")
    tables = [run_first, *(texts_table([f"{n}"]) for n in range(30))]
    outcome = run(tables, embeddings(emulator, max_batch_size=1, concurrency=4))
    assert len(outcome.rows()) == 31
    arrived = [request["at"] for request in emulator.requests()]
    assert len([at for at in arrived if at - arrived[1] < 3.0]) > 10
    assert outcome.rows()[-1]["text"] == emulator.requests()[1]["body"]["input"][0]


# Memory


def within(seconds, do):
    """Fails where it takes longer, instead of hanging."""
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(do()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"not done after {seconds} s"
    return outcome[0]


def given_back(shared, size):
    """All of it: a thread may still be about to, when what it answered is out already."""
    deadline = time.monotonic() + 10
    while shared.memory._free != size and time.monotonic() < deadline:
        time.sleep(0.01)
    return shared.memory._free == size


@pytest.mark.parametrize("size", [1, 50_000])
@pytest.mark.parametrize("pipeline", [fn_api, threads])
def test_a_tiny_bound_for_answers_never_stops_the_work(emulator, monkeypatch, size, pipeline):
    monkeypatch.setattr(service, "_MEMORY", size)
    monkeypatch.setattr(memory.Memory, "_PATIENCE", 1000.0)
    endpoint = embeddings(emulator, max_batch_size=7)
    shared = service.acquire(endpoint)
    try:
        tables = [texts_table([f"{at} {n}" for n in range(100)]) for at in range(40)]
        outcome = within(100, lambda: run(tables, endpoint, pipeline))
        assert len(outcome.rows()) == 4000
        assert given_back(shared, size)
    finally:
        service.release(shared)


def test_many_bundles_of_one_process_share_a_tiny_bound(emulator, monkeypatch):
    """Each bundle keeps a little that is done, and together they keep more than there is."""
    monkeypatch.setattr(service, "_MEMORY", 20_000)
    monkeypatch.setattr(memory.Memory, "_PATIENCE", 1000.0)
    endpoint = embeddings(emulator, max_batch_size=20)
    shared = service.acquire(endpoint)
    failures = []

    def one_bundle(number):
        try:
            texts = [f"{number} {n}" for n in range(400)]
            done = Calls(endpoint).bundle([texts_table(texts)])
            assert sum(value.num_rows for value in done) == 400
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=one_bundle, args=(n,), daemon=True) for n in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(100)
    assert not failures and not any(worker.is_alive() for worker in workers)
    assert given_back(shared, 20_000)
    service.release(shared)


def test_memory_is_given_back_after_every_kind_of_end(emulator):
    endpoint = embeddings(emulator, max_batch_size=10, retry=Retry(max_wait=2))
    shared = service.acquire(endpoint)
    before = shared.memory._free
    for kind in [*sorted(set(KINDS) - {"stall", "slow_body", "insufficient_quota"}), "insufficient_quota"]:
        emulator.clear()
        emulator.inject(kind, times=2, path="/embeddings")
        try:
            run([texts_table(numbered(200, {7}))], endpoint)
        except errors.APIError:
            assert kind in ("insufficient_quota",)
        assert given_back(shared, before), kind
    service.release(shared)


# Broken off


class Calls:
    """A runner's calls to one DoFn, made by hand."""

    def __init__(self, endpoint):
        from beam_openai.call import _Call

        self.fn = _Call(endpoint)

    def bundle(self, elements):
        self.fn.setup()
        self.fn.start_bundle()
        done = [out for element in elements for out in self.process(element)]
        done += self.finish()
        self.fn.teardown()
        return [getattr(out, "value", out) for out in done]

    def process(self, element):
        windowed = beam.utils.windowed_value.WindowedValue(element, 0, (beam.transforms.window.GlobalWindow(),))
        return list(self.fn.process(element, windowed))

    def finish(self):
        return list(self.fn.finish_bundle())


class Raises(beam.DoFn):
    def process(self, element):
        raise ValueError("what follows does not work")
        yield


@pytest.mark.parametrize("pipeline", [fn_api, threads])
def test_an_error_downstream_cancels_what_was_not_sent_and_leaves_nothing(start_emulator, pipeline):
    server = start_emulator(latency=0.1)
    sockets = open_sockets()

    class Followed(beam.PTransform):
        def expand(self, pcoll):
            outputs = pcoll | embeddings(server, max_batch_size=2, concurrency=2)
            outputs.answered | "Fails" >> beam.ParDo(Raises())
            return outputs

    tables = [texts_table([f"{at} {n}" for n in range(10)]) for at in range(100)]
    with pytest.raises((ValueError, RuntimeError), match="what follows does not work"):
        run(tables, Followed(), pipeline)
    assert server.ledger()["requests"] < 100
    gc.collect()
    assert not our_threads() and not service._services
    if pipeline is fn_api:  # the other has sockets of its own
        assert len(open_sockets() - sockets) <= 0
    asked = server.ledger()["requests"]
    time.sleep(0.3)  # three times as long as an answer takes
    assert server.ledger()["requests"] == asked


def test_an_error_upstream_cancels_what_was_not_sent(start_emulator):
    server = start_emulator(latency=0.1)

    class Then(beam.DoFn):
        def process(self, n):
            if n == 3:
                raise ValueError("what comes before does not work")
            yield texts_table([f"{n} {row}" for row in range(10)])

    source = beam.Create(list(range(30)), reshuffle=False) | beam.ParDo(Then())
    with pytest.raises(ValueError, match="what comes before does not work"):
        run(source, embeddings(server, max_batch_size=1))
    assert server.ledger()["requests"] < 30


def test_teardown_leaves_no_thread_and_no_socket(emulator):
    run([texts_table(["warm"])], embeddings(emulator))
    gc.collect()
    before, sockets = threading.active_count(), open_sockets()
    run([texts_table(numbered(100))], embeddings(emulator, max_batch_size=1))
    gc.collect()
    assert threading.active_count() <= before and open_sockets() <= sockets


def test_a_bundle_that_is_given_up_gives_back_what_it_holds(emulator):
    endpoint = embeddings(emulator, max_batch_size=10)
    shared = service.acquire(endpoint)
    before = shared.memory._free
    calls = Calls(endpoint)
    calls.fn.setup()
    for _ in range(3):
        calls.fn.start_bundle()
        calls.process(texts_table(numbered(995)))
    calls.fn.teardown()
    calls.fn.teardown()
    assert not shared._bundles
    assert given_back(shared, before)
    assert next(iter(service._services.values())).users == 1
    service.release(shared)


def test_a_dofn_serves_bundle_after_bundle(emulator):
    calls = Calls(embeddings(emulator))
    calls.fn.setup()
    for n in range(3):
        calls.fn.start_bundle()
        calls.process({"text": f"{n}"})
        (out,) = calls.finish()
        assert out.value["text"] == f"{n}"
    calls.fn.teardown()


def test_a_runner_that_goes_on_after_an_error_meets_it_again(emulator):
    emulator.inject("insufficient_quota", path="/embeddings")
    calls = Calls(embeddings(emulator, max_batch_size=1))
    calls.fn.setup()
    calls.fn.start_bundle()
    calls.process({"text": "a"})
    with pytest.raises(errors.QuotaExceededError):
        calls.finish()
    with pytest.raises(errors.QuotaExceededError):
        calls.process({"text": "b"})
    with pytest.raises(errors.QuotaExceededError):
        calls.finish()
    calls.fn.teardown()
    assert emulator.ledger()["requests"] == 1


def test_the_consumer_may_stop_in_the_middle_of_an_output(emulator):
    endpoint = embeddings(emulator)
    shared = service.acquire(endpoint)
    calls = Calls(endpoint)
    calls.fn.setup()
    calls.fn.start_bundle()
    for n in range(5):
        calls.process({"text": f"{n}"})
    outputs = calls.fn.finish_bundle()
    next(outputs)
    outputs.close()
    calls.fn.teardown()
    assert given_back(shared, service._MEMORY) and not shared._bundles
    service.release(shared)


def test_a_setup_that_fails_leaves_nothing_and_may_be_torn_down(emulator):
    calls = Calls(embeddings(emulator, api=API(base_url=emulator.base_url, key="NO_SUCH_KEY")))
    with pytest.raises(errors.AuthenticationError):
        calls.fn.setup()
    calls.fn.teardown()
    assert not service._services and not our_threads()


def test_services_may_be_acquired_and_released_by_many_threads_at_once(emulator):
    endpoint = embeddings(emulator)
    failures = []

    def acquire_and_release():
        try:
            for _ in range(100):
                shared = service.acquire(endpoint)
                shared.learned_of(endpoint)
                service.release(shared)
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=acquire_and_release) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures and not service._services


# Learning


def test_an_estimate_that_was_wrong_is_corrected_once_and_not_by_every_answer_that_was_under_way(start_emulator):
    server = start_emulator(bytes_per_token=4.0, latency=0.1)
    endpoint = embeddings(server, max_batch_size=10)
    shared = service.acquire(endpoint)
    texts = [f"{n:04d} {'x' * 395}" for n in range(600)]
    check(run([texts_table(texts)], endpoint), texts)
    assert shared.learned_of(endpoint).count.ratio == pytest.approx(0.25, rel=0.05)
    service.release(shared)


def test_all_answers_have_vectors_of_one_length(emulator):
    emulator.inject(answer(10, length=DIMENSIONS), path="/embeddings")
    emulator.inject(answer(10, length=5), path="/embeddings")
    outcome = run([texts_table(numbered(30))], embeddings(emulator, max_batch_size=10, concurrency=1))
    assert len(outcome.rows()) == 20 and len(outcome.rows("failed")) == 10
    error = outcome.rows("failed")[0]["error"]
    assert error["kind"] == "bad_answer" and "[5]" in error["message"] and "[8]" in error["message"]


# Keys


def unpacked(data):
    """Bytes, and what is packed inside them: Beam writes a DoFn as base64 of bz2 or zlib."""
    import base64
    import bz2
    import re
    import zlib

    yield data
    for packed in re.findall(rb"[A-Za-z0-9+/=]{40,}", data):
        for unpack in (bz2.decompress, zlib.decompress):
            try:
                yield from unpacked(unpack(base64.b64decode(packed)))
            except Exception:
                continue


def test_the_key_is_in_no_graph_log_error_or_output(start_emulator, monkeypatch, caplog, capfd, tmp_path):
    key = "sk-verysecret-86420"
    server = start_emulator(key=key)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    caplog.set_level("DEBUG")
    endpoint = embeddings(server, retry=Retry(attempts=2, max_wait=0.01))
    p = beam.Pipeline(runner=beam.runners.portability.fn_api_runner.FnApiRunner())
    p | beam.Create([texts_table(["a"])]) | endpoint
    proto, _ = p.to_runner_api(return_context=True)
    graph = list(unpacked(proto.SerializeToString()))
    assert any(b"_Call" in blob for blob in graph)
    assert not any(b"86420" in blob for blob in graph) and "86420" not in repr(endpoint)

    echoed = {"error": {"message": f"what a key: {key}", "type": key, "code": key, "param": key}}
    server.inject({"status": 400, "headers": {"x-request-id": key}, "body": echoed}, path="/embeddings")
    server.inject({"status": 200, "body": f"no JSON, but {key}"}, times=2, path="/embeddings")
    outcome = run([texts_table(["a"])], endpoint)
    outcome2 = run([texts_table(["b"])], endpoint)
    assert len(outcome.rows("failed")) == len(outcome2.rows("failed")) == 1
    for row in outcome.rows("failed") + outcome2.rows("failed"):
        assert "86420" not in json.dumps(row)
    server.inject({"status": 403, "body": echoed}, path="/embeddings")
    with pytest.raises(errors.PermissionDeniedError) as raised:
        run([texts_table(["c"])], endpoint)
    assert "86420" not in str(raised.value)
    captured = capfd.readouterr()
    assert "86420" not in caplog.text + captured.out + captured.err
    with pytest.raises(ValueError, match="never the key itself") as refused:
        API(key=key)
    assert "86420" not in str(refused.value)


# What only one reading in ten would think of


def test_one_text_that_the_server_cannot_stand_takes_no_other_with_it(emulator):
    texts = numbered(200, {150}, "POISON-500")
    outcome = run([texts_table(texts)], embeddings(emulator, concurrency=1, max_batch_size=100))
    failed = outcome.rows("failed")
    assert [row["text"] for row in failed] == [texts[150]]
    assert failed[0]["error"]["kind"] == "exhausted"
    assert failed[0]["error"]["status"] == 500
    assert set(emulator.billed([text for text in texts if text != texts[150]])) == {1}


def test_a_400_that_names_an_option_fails_a_row_once_others_were_answered(emulator):
    said = {"error": {"message": "dimensions is not for this text", "param": "dimensions", "code": None, "type": "x"}}
    emulator.inject("no_usage", path="/embeddings")
    emulator.inject({"status": 400, "body": said}, path="/embeddings")
    endpoint = embeddings(emulator, dimensions=DIMENSIONS, max_batch_size=1, concurrency=1)
    outcome = run([texts_table(["a", "b", "c"])], endpoint)
    assert [row["text"] for row in outcome.rows("failed")] == ["b"]
    assert len(outcome.rows()) == 2


def test_a_key_across_the_end_of_what_raw_keeps_is_not_kept_by_half(emulator, monkeypatch):
    key = "sk-0123456789abcdefghij"
    monkeypatch.setenv("MY_KEY", key)
    body = '{"data": "' + "x" * (65_536 - 10 - 12) + key + '"}'
    emulator.inject({"status": 200, "body": body, "headers": {"x-request-id": f"Bearer {key}"}}, path="/embeddings")
    endpoint = embeddings(emulator, api=API(base_url=emulator.base_url, key="MY_KEY"), retry=Retry(attempts=1))
    outcome = run([texts_table(["a"])], endpoint)
    error = outcome.rows("failed")[0]["error"]
    assert error["kind"] == "bad_answer"
    assert "sk-01" not in str(error)


def test_a_column_of_the_users_own_named_error_is_refused_before_anything_is_sent(emulator):
    for rows in (
        texts_table(["a", None]).append_column("error", [["mine", "mine too"]]),
        {"text": "a", "error": "mine"},
    ):
        with pytest.raises(Exception, match="have a column 'error' already"):
            run([rows], embeddings(emulator))
    with pytest.raises(ValueError, match="error"):
        embeddings(emulator, output="error")
    assert emulator.ledger()["requests"] == 0


def test_rows_in_parts_of_one_come_out_in_few_chunks(emulator):
    outcome = run([texts_table(numbered(300))], embeddings(emulator, max_batch_size=1))
    for out in outcome.answered:
        assert out.value["embedding"].num_chunks <= 1 + out.value.num_rows // 64
    check(outcome, numbered(300))


class Forgetful(http.server.BaseHTTPRequestHandler):
    """Leaves one text out of every answer that it is in, and keeps how often each was answered."""

    protocol_version = "HTTP/1.1"
    answered: ClassVar[collections.Counter[str]] = collections.Counter()

    def do_POST(self):
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        type(self).answered.update(texts)
        found = [{"index": at, "embedding": [1.0, 2.0]} for at, text in enumerate(texts) if text != "text 150"]
        body = json.dumps({"data": found, "usage": {"prompt_tokens": 1}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_row_that_is_left_out_of_each_answer_fails_alone_and_the_others_are_not_paid_for_again_and_again():
    Forgetful.answered.clear()
    texts = [f"text {number}" for number in range(200)]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forgetful) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = API(base_url=f"http://127.0.0.1:{server.server_port}/v1")
        outcome = run(
            [texts_table(texts)], Embeddings(model="m", api=api, retry=Retry(max_wait=0.05), max_batch_size=100)
        )
        server.shutdown()
    assert [row["text"] for row in outcome.rows("failed")] == ["text 150"]
    assert sorted(row["text"] for row in outcome.rows()) == sorted(set(texts) - {"text 150"})
    assert sum(Forgetful.answered.values()) <= 3 * 200
