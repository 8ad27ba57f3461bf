"""A server that answers nobody for a while."""

from __future__ import annotations

import collections
import json
import socket
import struct
import threading
import time

import pytest
from conftest import embeddings, run, texts_table
from wire import Wire

from beam_openai import API, Embeddings, Retry
from beam_openai.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    BadAnswerError,
    InternalServerError,
    RateLimitError,
)
from beam_openai.outage import IN_A_ROW, SECONDS, Outage, Part

pytestmark = pytest.mark.usefixtures("clean")
START = 1000.0
REQUEST: dict[object, Part] = collections.defaultdict(Part)


def error(kind: type[APIError] = InternalServerError, status: int | None = 503) -> APIError:
    return kind("no", status=status)


def gone(requests: int, why: APIError) -> Outage:
    """So many requests without an answer, a second after the last was answered."""
    outage = Outage()
    outage.answered(REQUEST["before"], START)
    for number in range(requests):
        outage.unanswered(REQUEST[number], why, START + 0.5)
    return outage


# When it is one


@pytest.mark.parametrize(
    ("why", "enough"),
    [
        (error(), 3),
        (error(status=502), 3),
        (error(APIConnectionError, None), 3),
        (error(status=500), IN_A_ROW),
    ],
)
def test_several_requests_without_an_answer_are_an_outage(why, enough):
    assert not gone(enough - 1, why).explains(REQUEST[0], why, START + 1)
    assert gone(enough, why).explains(REQUEST[0], why, START + 1)


@pytest.mark.parametrize("kind", [APITimeoutError, BadAnswerError, RateLimitError])
def test_what_may_have_been_paid_for_or_was_refused_is_none(kind):
    assert not gone(50, error(kind, None)).explains(REQUEST[0], error(kind, None), START + 1)
    assert not gone(50, error()).explains(REQUEST[0], error(kind, None), START + 1)


def test_one_request_that_fails_again_and_again_is_none():
    outage = gone(1, error())
    for _ in range(50):
        outage.unanswered(REQUEST[0], error(), START + 0.6)
    assert not outage.explains(REQUEST[0], error(), START + 1)


def test_an_answer_ends_it_and_what_fails_further_on_may_be_what_the_server_cannot_answer():
    outage = gone(50, error())
    outage.answered(REQUEST["another"], START + 2)
    for number in range(50):
        outage.unanswered(REQUEST[number], error(), START + 2.5)
    assert not outage.explains(REQUEST[0], error(), START + 2.5)


def test_who_spends_the_attempts_as_it_ends_has_them_again_once():
    outage = gone(12, error())
    assert outage.explains(REQUEST[0], error(), START + 1)
    outage.answered(REQUEST["another"], START + 2)
    assert outage.explains(REQUEST[1], error(), START + 2) and outage.explains(REQUEST[0], error(), START + 2)
    assert not outage.explains(REQUEST[1], error(), START + 9) and not outage.explains(REQUEST[0], error(), START + 9)


def test_who_failed_before_it_too_has_them_again_if_the_attempts_fell_into_it():
    outage = gone(12, error())
    outage.answered(REQUEST["another"], START + 2)
    for number in range(100, 103):
        outage.unanswered(REQUEST[number], error(), START + 3)
    for later in (4, 9):
        outage.unanswered(REQUEST[0], error(), START + later)
    assert outage.explains(REQUEST[100], error(), START + 10)
    outage.answered(REQUEST["another"], START + 11)
    outage.unanswered(REQUEST[0], error(), START + 12)
    assert outage.explains(REQUEST[0], error(), START + 12) and not outage.explains(REQUEST[1], error(), START + 12)


def test_parts_of_one_request_tell_of_none():
    outage = gone(0, error())
    parts = [Part(REQUEST[0]) for _ in range(50)]
    for part in parts:
        outage.unanswered(part, error(), START + 1)
    assert not outage.explains(parts[0], error(), START + 1)
    for number in (1, 2):
        outage.unanswered(REQUEST[number], error(), START + 1)
    assert outage.explains(parts[0], error(), START + 1)


def test_requests_that_have_ended_tell_of_nothing():
    outage = gone(12, error())
    for number in range(10):
        outage.ended(REQUEST[number])
    assert not outage.explains(REQUEST[0], error(), START + 1)
    outage.unanswered(REQUEST[100], error(), START + 1)
    assert outage.explains(REQUEST[100], error(), START + 1)


def test_it_is_waited_for_for_a_minute_and_never_before_the_first_answer():
    outage = gone(50, error())
    assert outage.explains(REQUEST[0], error(), START + SECONDS) and not outage.explains(
        REQUEST[1], error(), START + SECONDS + 0.5
    )
    never = Outage()
    for number in range(50):
        never.unanswered(REQUEST[number], error(), START)
    assert not never.explains(REQUEST[0], error(), START)


def test_ten_that_spent_their_attempts_stop_a_job_only_after_that_minute():
    outage = gone(IN_A_ROW, error())
    assert not any(outage.exhausted(REQUEST[number], error(), START + 1) for number in range(2 * IN_A_ROW))
    assert outage.exhausted(REQUEST[0], error(), START + SECONDS + 0.5)
    outage.answered(REQUEST["another"], START + SECONDS + 1)
    later = START + 3 * SECONDS
    assert not any(outage.exhausted(REQUEST[number], error(), later) for number in range(IN_A_ROW)), (
        "they failed before the answer"
    )
    others = range(100, 100 + IN_A_ROW)
    for number in others:
        outage.unanswered(REQUEST[number], error(), later)
    ended = [outage.exhausted(REQUEST[number], error(), later + SECONDS) for number in others]
    assert ended == [False] * (IN_A_ROW - 1) + [True]


def test_rows_that_are_lost_for_good_tell_of_an_outage_until_the_next_answer():
    outage = gone(0, error())
    for number in range(3):
        assert not outage.explains(REQUEST[number], error(), START + 1)
        outage.unanswered(REQUEST[number], error(), START + 1)
        outage.lost(REQUEST[number])
    outage.unanswered(REQUEST[3], error(), START + 1)
    assert outage.explains(REQUEST[3], error(), START + 1)
    outage.answered(REQUEST["another"], START + 2)
    assert not outage.explains(REQUEST[4], error(), START + 2)


def test_rows_lost_long_ago_tell_of_nothing():
    outage = gone(0, error())
    for number in range(3):
        outage.unanswered(REQUEST[number], error(), START + 1)
        outage.lost(REQUEST[number])
    for number in range(10, 13):
        assert not outage.explains(REQUEST[number], error(), START + 500)
        outage.unanswered(REQUEST[number], error(), START + 500)
    assert outage.explains(REQUEST[10], error(), START + 550)


def test_the_minute_begins_with_the_first_request_that_comes_to_nothing_not_with_the_last_answer():
    outage = Outage()
    outage.answered(REQUEST["before"], START)
    outage.unanswered(REQUEST["alone"], error(), START + 100)
    outage.ended(REQUEST["alone"])
    for number in range(IN_A_ROW):
        outage.unanswered(REQUEST[number], error(), START + 500)
    assert outage.explains(REQUEST[0], error(), START + 550)
    assert not any(outage.exhausted(REQUEST[number], error(), START + 550) for number in range(2 * IN_A_ROW))
    assert not outage.explains(REQUEST[0], error(), START + 560) and outage.exhausted(REQUEST[0], error(), START + 560)


@pytest.mark.parametrize("why", [error(APITimeoutError, None), error(RateLimitError, 429), error()])
def test_requests_that_come_to_nothing_minutes_apart_stop_a_job_all_the_same(why):
    outage = gone(0, error())
    now, ended = START, []
    for number in range(3 * IN_A_ROW):
        now += 2 * SECONDS
        outage.unanswered(REQUEST[number], why, now)
        ended.append(outage.exhausted(REQUEST[number], why, now))
        outage.lost(REQUEST[number])
    assert ended == [False] * (IN_A_ROW - 1) + [True] * (2 * IN_A_ROW + 1)


def test_one_that_spends_its_attempts_again_and_again_is_one():
    outage = gone(0, error())
    assert not any(outage.exhausted(REQUEST[0], error(), START + 3 * SECONDS) for _ in range(100))


def test_ten_answers_that_are_paid_for_and_cannot_be_used_stop_it_at_once():
    outage, unusable = gone(0, error()), error(BadAnswerError, None)
    ended = [outage.exhausted(REQUEST[number], unusable, START + 1) for number in range(IN_A_ROW)]
    assert ended == [False] * (IN_A_ROW - 1) + [True]


def test_several_answers_in_a_row_that_cannot_be_used_are_told():
    outage = gone(0, error())
    assert [outage.unusable() for _ in range(3)] == [False, False, True]
    outage.answered(REQUEST["another"], START)
    assert not outage.unusable()


# What becomes of a job


@pytest.mark.parametrize("what", ["503", "reset"])
def test_no_row_fails_and_no_request_is_divided_for_an_outage(start_emulator, monkeypatch, what):
    monkeypatch.setattr("beam_openai.batch._OUTAGE_PAUSE", 0.2)
    server = start_emulator(latency=0.02)
    rows, of_each = 2000, 20
    broken = {"status": 503, "body": {"error": {"message": "upstream"}}} if what == "503" else "reset"

    def interrupt() -> None:
        while server.ledger()["requests"] < 20:
            time.sleep(0.01)
        server.inject(broken, times=1_000_000, path="/embeddings")
        failed = server.ledger()["requests"] + 60
        while server.ledger()["requests"] < failed:
            time.sleep(0.01)
        server.clear()

    thread = threading.Thread(target=interrupt)
    thread.start()
    outcome = run(
        [texts_table([f"text {n}" for n in range(rows)])],
        embeddings(server, max_batch_size=of_each, retry=Retry(attempts=4, max_wait=0.5), concurrency=8),
    )
    thread.join()
    assert len(outcome.rows()) == rows and not outcome.rows("failed")
    # Each is one request, however often it was sent.
    assert outcome.counter("requests") == rows / of_each
    assert outcome.counter("retries") >= 40


def test_rows_that_the_server_never_answers_stop_no_job(emulator):
    rows = [f"POISON-500 {n}" if n % 10 == 0 else f"text {n}" for n in range(300)]
    outcome = run(
        [texts_table(rows)],
        embeddings(emulator, max_batch_size=1, retry=Retry(attempts=3, max_wait=0.1), concurrency=16),
    )
    assert len(outcome.rows()) == 270
    assert {row["error"]["kind"] for row in outcome.rows("failed")} == {"exhausted"}


def test_a_row_of_the_first_request_that_the_server_never_answers_fails_alone(emulator):
    rows = ["POISON-500", *(f"text {n}" for n in range(127))]
    endpoint = embeddings(emulator, retry=Retry(attempts=3, max_wait=0.05), max_batch_size=64)
    outcome = run([texts_table(rows)], endpoint)
    assert [row["text"] for row in outcome.rows("failed")] == ["POISON-500"] and len(outcome.rows()) == 127


def test_a_row_of_the_only_request_that_the_server_never_answers_fails_alone(emulator):
    rows = [*(f"text {n}" for n in range(100)), "POISON-500"]
    outcome = run([texts_table(rows)], embeddings(emulator, retry=Retry(attempts=3, max_wait=0.02)))
    assert [row["text"] for row in outcome.rows("failed")] == ["POISON-500"] and len(outcome.rows()) == 100


def spoiled(connection: socket.socket, body: bytes, how: str) -> str | None:
    """An answer to texts; where one of them is BAD, none that could be used."""
    texts = json.loads(body)["input"]
    if how == "reset" and "BAD" in texts:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return "close"
    data = [
        {"index": index, "embedding": [1.0]} for index, text in enumerate(texts) if how != "missing" or text != "BAD"
    ]
    text = "<html>" if how == "html" and "BAD" in texts else json.dumps({"data": data})
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
    return None


@pytest.mark.parametrize("how", ["reset", "html", "missing"])
@pytest.mark.parametrize("every", [40, 7])
def test_rows_that_spoil_every_request_fail_alone(how, every, monkeypatch):
    """More of them than it takes requests to stop a job; and none is answered before the first of them."""
    monkeypatch.setattr("beam_openai.outage.SECONDS", 2.0)
    monkeypatch.setattr("beam_openai.batch._OUTAGE_PAUSE", 0.2)
    rows = ["BAD" if n % every == 0 else f"text {n}" for n in range(600)]
    with Wire(lambda connection: spoiled(connection, wire.requests[-1][2], how)) as wire:
        endpoint = Embeddings(
            model="tiny",
            api=API(base_url=wire.url),
            retry=Retry(attempts=2, max_wait=0.01),
            max_batch_size=120,
            concurrency=1,
        )
        outcome = run([texts_table(rows)], endpoint)
    assert {row["text"] for row in outcome.rows("failed")} == {"BAD"}
    assert len(outcome.rows()) == len(rows) - rows.count("BAD")


def test_a_row_of_the_first_request_that_no_answer_holds_fails_alone(start_emulator):
    server = start_emulator()
    rows = [f"text {n}" for n in range(128)]
    for _ in range(2):
        server.inject("missing", path="/embeddings")
    outcome = run([texts_table(rows)], embeddings(server, retry=Retry(max_wait=0.05), max_batch_size=64))
    assert len(outcome.rows()) == 128
    # Twice in vain, then the others, and then again.
    assert server.ledger()["requests"] == 4


def test_a_server_that_never_answers_anything_but_nonsense_is_paid_for_little_of_it(emulator):
    emulator.inject({"status": 200, "body": "<html>"}, times=1_000_000, path="/embeddings")
    with pytest.raises(Exception, match="requests in a row spent their attempts"):
        run([texts_table([f"text {n}" for n in range(4000)])], embeddings(emulator, max_batch_size=10))
    assert emulator.ledger()["requests"] <= 2 * IN_A_ROW + 2


def test_so_it_is_where_its_requests_can_be_divided(emulator):
    emulator.inject({"status": 200, "body": "<html>"}, times=1_000_000, path="/embeddings")
    with pytest.raises(Exception, match="requests in a row spent their attempts"):
        run(
            [texts_table([f"text {n}" for n in range(8000)])],
            embeddings(emulator, max_batch_size=1000, retry=Retry(attempts=3, max_wait=0.02)),
        )
    # Two requests, twice; then halves of one down to its rows, ten of which are bought as often as there are attempts.
    assert sum(len(request["body"]["input"]) for request in emulator.requests()) <= 6 * 1000


def test_one_request_that_hangs_keeps_no_other_from_finding_that_the_server_is_back(start_emulator, monkeypatch):
    monkeypatch.setattr("beam_openai.batch._OUTAGE_PAUSE", 0.2)
    server = start_emulator(latency=0.02)

    def interrupt() -> None:
        while server.ledger()["requests"] < 20:
            time.sleep(0.01)
        server.inject({"delay": 20.0}, path="/embeddings")
        server.inject({"status": 503, "body": {"error": {"message": "upstream"}}}, times=40, path="/embeddings")

    thread = threading.Thread(target=interrupt)
    thread.start()
    outcome = run(
        [texts_table([f"text {n}" for n in range(2000)])],
        embeddings(server, max_batch_size=20, retry=Retry(attempts=4, max_wait=0.2), concurrency=8),
    )
    thread.join()
    assert len(outcome.rows()) == 2000
    # All the others were sent while it hung.
    times = [request["at"] for request in server.requests()]
    assert max(times) - min(times) < 20


def test_a_server_that_begins_to_answer_nonsense_is_paid_for_little_of_it(start_emulator):
    server = start_emulator(latency=0.02)
    nonsense = {"status": 200, "body": "<html>", "delay": 0.02}
    before: list[int] = []

    def interrupt() -> None:
        while server.ledger()["requests"] < 60:
            time.sleep(0.01)
        server.inject(nonsense, times=1_000_000, path="/embeddings")
        before.append(server.ledger()["requests"])

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Exception, match="requests in a row spent their attempts"):
        run(
            [texts_table([f"text {n}" for n in range(4000)])],
            embeddings(server, max_batch_size=1, retry=Retry(attempts=3, max_wait=0.05), concurrency=16),
        )
    thread.join()
    # What was in flight, and three attempts of ten requests and more, one at a time: not the thousands that are waiting.
    assert server.ledger()["requests"] - before[0] <= 120


def test_a_server_that_refuses_for_ever_stops_the_job(emulator):
    refusal = {"status": 429, "body": {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}}
    emulator.inject(refusal, times=1_000_000, path="/embeddings")
    with pytest.raises(Exception, match="10 requests in a row spent their attempts"):
        run(
            [texts_table([f"text {n}" for n in range(40)])],
            embeddings(emulator, max_batch_size=1, retry=Retry(attempts=2, max_wait=0.05)),
        )
    assert emulator.ledger()["requests"] <= 2 * 10 + 2
