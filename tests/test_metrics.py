"""What Beam's metrics say is what happened."""

from __future__ import annotations

import pytest
from conftest import RUNNERS, embeddings, fn_api, metric, run, texts_table

from beam_openai import Quota, service

pytestmark = pytest.mark.usefixtures("clean")

COUNTERS = ["requests", "attempts", "retries", "rows_answered", "rows_failed", "prompt_tokens", "throttled"]


@pytest.mark.parametrize("pipeline", RUNNERS)
def test_counters_say_what_the_servers_ledger_says(emulator, pipeline):
    emulator.inject("server_error", times=2, path="/embeddings")
    texts = [f"{n}" for n in range(95)] + ["", "POISON-400 a", "POISON-NAN b"]
    outcome = run([texts_table(texts)], embeddings(emulator, max_batch_size=10), pipeline)
    ledger = emulator.ledger()
    assert outcome.counter("attempts") == ledger["requests"]
    assert outcome.counter("retries") == 2
    assert outcome.counter("requests") == ledger["requests"] - 2
    assert outcome.counter("rows_answered") == len(outcome.rows()) == 95
    assert outcome.counter("rows_failed") == len(outcome.rows("failed")) == 3
    assert outcome.counter("prompt_tokens") == ledger["tokens"]
    latency = metric(outcome.result, "latency_ms", "distributions")
    assert latency.count == ledger["requests"] and 0 <= latency.min <= latency.max < 60_000
    names = {found.key.metric.namespace for found in outcome.result.metrics().query()["counters"]}
    assert "Embeddings" in names


@pytest.mark.parametrize("pipeline", RUNNERS)
def test_time_spent_waiting_for_quota_is_told_to_the_runner(emulator, pipeline):
    texts = [f"{n}" for n in range(6)]
    endpoint = embeddings(emulator, max_batch_size=1, quota=Quota(requests_per_minute=100))
    outcome = run([texts_table(texts)], endpoint, pipeline)
    arrived = [request["at"] for request in emulator.requests()]
    assert arrived[-1] - arrived[0] >= 5 * 0.6 - 2  # a second may be made up for, and the first may come late
    waited = outcome.counter("throttled")
    assert 1 <= waited <= 6
    assert outcome.counter("cumulativeThrottlingSeconds") == waited


def test_nothing_is_throttled_where_nothing_limits(start_emulator):
    server = start_emulator(latency=0.3)
    outcome = run([texts_table([f"{n}" for n in range(20)])], embeddings(server, max_batch_size=1, concurrency=2))
    assert outcome.counter("throttled") in (None, 0)
    assert outcome.counter("cumulativeThrottlingSeconds") in (None, 0)


def test_a_missing_usage_counts_no_tokens(emulator):
    emulator.inject("no_usage", times=10, path="/embeddings")
    outcome = run([texts_table(["a"])], embeddings(emulator))
    assert len(outcome.rows()) == 1 and outcome.counter("prompt_tokens") in (None, 0)


def test_progress_of_the_process_adds_up_over_services(emulator):
    before = service.progress()
    run([texts_table(["a", "b", ""])], embeddings(emulator), fn_api)
    after = service.progress()
    assert after["rows_answered"] - before["rows_answered"] == 2
    assert after["rows_failed"] - before["rows_failed"] == 1
    assert after["requests"] - before["requests"] == 1 and after["in_flight"] == 0
