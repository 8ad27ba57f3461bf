"""A server that answers nobody for a while."""

from __future__ import annotations

import threading
import time

import pytest
from conftest import embeddings, run, texts_table

from beam_openai import Retry
from beam_openai.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    BadAnswerError,
    InternalServerError,
    RateLimitError,
)
from beam_openai.outage import IN_A_ROW, SECONDS, Outage

pytestmark = pytest.mark.usefixtures("clean")
START = 1000.0


def error(kind: type[APIError] = InternalServerError, status: int | None = 503) -> APIError:
    return kind("no", status=status)


def gone(requests: int, why: APIError) -> Outage:
    """So many requests without an answer, a second after the last was answered."""
    outage = Outage()
    outage.answered(START)
    for number in range(requests):
        outage.unanswered(number, why)
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
    assert not gone(enough - 1, why).is_on(why, START + 1)
    assert gone(enough, why).is_on(why, START + 1)


@pytest.mark.parametrize("kind", [APITimeoutError, BadAnswerError, RateLimitError])
def test_what_may_have_been_paid_for_or_was_refused_is_none(kind):
    assert not gone(50, error(kind, None)).is_on(error(kind, None), START + 1)
    assert not gone(50, error()).is_on(error(kind, None), START + 1)


def test_one_request_that_fails_again_and_again_is_none():
    outage = gone(1, error())
    for _ in range(50):
        outage.unanswered(0, error())
    assert not outage.is_on(error(), START + 1)


def test_an_answer_ends_it():
    outage = gone(50, error())
    outage.answered(START + 2)
    assert not outage.is_on(error(), START + 3)


def test_it_is_waited_for_for_a_minute_and_never_before_the_first_answer():
    outage = gone(50, error())
    assert outage.is_on(error(), START + SECONDS - 1) and not outage.is_on(error(), START + SECONDS)
    never = Outage()
    for number in range(50):
        never.unanswered(number, error())
    assert not never.is_on(error(), START)


def test_ten_that_spent_their_attempts_stop_a_job_only_after_that_minute():
    outage = gone(IN_A_ROW, error())
    assert not any(outage.exhausted(error(), START + 1) for _ in range(2 * IN_A_ROW))
    assert outage.exhausted(error(), START + SECONDS)
    outage.answered(START + SECONDS)
    later = START + 3 * SECONDS
    assert [outage.exhausted(error(), later) for _ in range(IN_A_ROW)] == [False] * (IN_A_ROW - 1) + [True]


def test_ten_answers_that_are_paid_for_and_cannot_be_used_stop_it_at_once():
    outage, unusable = gone(0, error()), error(BadAnswerError, None)
    assert [outage.exhausted(unusable, START + 1) for _ in range(IN_A_ROW)] == [False] * (IN_A_ROW - 1) + [True]


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
        embeddings(server, max_batch_size=of_each, retry=Retry(attempts=2, max_wait=0.05), concurrency=8),
    )
    thread.join()
    assert len(outcome.rows()) == rows and not outcome.rows("failed")
    # Each is one request, however often it was sent.
    assert outcome.counter("requests") == rows / of_each
    assert outcome.counter("retries") >= 40
