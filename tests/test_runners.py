"""The same on every runner at hand: several workers, several bundles at once, several transforms in one process."""

from __future__ import annotations

import threading
from collections import Counter

import apache_beam as beam
import numpy as np
import pytest
from conftest import (
    QUICK,
    RUNNERS,
    direct,
    embeddings,
    fn_api,
    needs_prism,
    our_threads,
    prism,
    run,
    texts_table,
    threads,
    vectors,
)

from beam_openai import Retry, errors, service

pytestmark = pytest.mark.usefixtures("clean")

ALL = [*RUNNERS, pytest.param(direct, id="direct")]


def shuffled_tables(count, rows):
    """Tables that a runner may spread over its workers: they come out of a shuffle."""
    return (
        beam.Create(list(range(count)))
        | beam.Reshuffle()
        | beam.Map(lambda at: texts_table([f"{at} {n}" for n in range(rows)], id=[at * rows + n for n in range(rows)]))
    )


@pytest.mark.parametrize("pipeline", ALL)
def test_every_row_comes_out_once_with_its_own_vector(emulator, pipeline):
    outcome = run(shuffled_tables(40, 100), embeddings(emulator, max_batch_size=30), pipeline)
    rows = outcome.rows()
    assert sorted(row["id"] for row in rows) == list(range(4000))
    assert np.allclose(np.array([row["embedding"] for row in rows]), vectors([row["text"] for row in rows]), atol=1e-6)
    assert emulator.ledger()["billed_inputs"] == 4000 and emulator.ledger()["billed_twice"] == 0
    assert not our_threads()


@pytest.mark.parametrize("pipeline", ALL)
def test_every_row_comes_out_once_through_faults(start_emulator, pipeline):
    server = start_emulator(
        faults="rate_limit_ms=0.03,server_error=0.05,reset=0.05,reset_after=0.03,missing=0.03,truncated=0.03,shuffled=0.1",
        seed=3,
    )
    outcome = run(shuffled_tables(40, 50), embeddings(server, max_batch_size=17, retry=Retry(max_wait=1)), pipeline)
    ids = Counter(row["id"] for row in outcome.rows() + outcome.rows("failed"))
    assert ids == Counter(range(2000))
    rows = outcome.rows()
    assert np.allclose(np.array([row["embedding"] for row in rows]), vectors([row["text"] for row in rows]), atol=1e-6)


@pytest.mark.parametrize("pipeline", RUNNERS)
def test_what_stops_a_job_stops_it_on_every_runner(emulator, pipeline):
    emulator.inject("insufficient_quota", times=1000, path="/embeddings")
    with pytest.raises((errors.QuotaExceededError, RuntimeError), match="check plan and billing"):
        run(shuffled_tables(10, 100), embeddings(emulator, max_batch_size=10), pipeline)
    # One, and where a runner tries a bundle again, one for each try.
    assert emulator.ledger()["requests"] <= 4
    assert emulator.ledger()["billed_inputs"] == 0


@pytest.mark.parametrize("pipeline", [fn_api, threads, pytest.param(prism, marks=needs_prism)])
def test_all_instances_and_transforms_of_a_process_share_one_service(start_emulator, pipeline):
    server = start_emulator(latency=0.02)
    endpoint = embeddings(server, max_batch_size=10, concurrency=5)
    seen = set()

    class Both(beam.PTransform):
        def expand(self, pcoll):
            pcoll | "Other column" >> embeddings(server, max_batch_size=10, concurrency=5, output="other")
            return pcoll | "One column" >> endpoint

    stop = threading.Event()

    def watch():
        while not stop.wait(0.005):
            seen.update(service._services)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        outcome = run(shuffled_tables(20, 50), Both(), pipeline)
    finally:
        stop.set()
        watcher.join()
    assert len(outcome.rows()) == 1000 and server.ledger()["billed_inputs"] == 2000
    assert server.ledger()["peak_in_flight"] <= 5
    assert len(seen) == 1


def test_transforms_with_other_addresses_or_models_do_not_share(start_emulator):
    server = start_emulator(models={"tiny": 8, "other": 8})
    one = service.acquire(embeddings(server))
    same = service.acquire(embeddings(server, dimensions=4))
    other = service.acquire(embeddings(server, model="other"))
    assert one is same and one is not other
    for shared in (one, same, other):
        service.release(shared)
    assert not service._services


def test_what_one_transform_learned_of_types_does_not_bind_another(emulator):
    class Both(beam.PTransform):
        def expand(self, pcoll):
            first = pcoll | "Whole" >> embeddings(emulator, output="whole")
            return first.answered | "Short" >> embeddings(emulator, output="short", dimensions=4)

    outcome = run([texts_table(["a", "b"])], Both())
    assert [(len(row["whole"]), len(row["short"])) for row in outcome.rows()] == [(8, 4), (8, 4)]


def test_a_pipeline_can_be_run_after_one_that_failed(emulator):
    emulator.inject("insufficient_quota", path="/embeddings")
    with pytest.raises(errors.QuotaExceededError):
        run([texts_table(["a"])], embeddings(emulator))
    assert len(run([texts_table(["a"])], embeddings(emulator)).rows()) == 1


def test_pipelines_in_several_threads_do_not_disturb_each_other(emulator):
    outcomes, failures = {}, []

    def one(number):
        try:
            texts = [f"{number} {n}" for n in range(200)]
            outcomes[number] = run([texts_table(texts)], embeddings(emulator, max_batch_size=20, retry=QUICK))
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=one, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
    for number, outcome in outcomes.items():
        assert sorted(row["text"] for row in outcome.rows()) == sorted(f"{number} {n}" for n in range(200))
