"""A bundle's account: which rows wait for others, and that all memory comes back."""

from __future__ import annotations

import itertools
import time

import apache_beam as beam
import pyarrow as pa
import pytest
from conftest import embeddings, run, texts_table

from beam_openai import API, Completions, Moderations, column, memory, service
from beam_openai.bundle import Bundle
from beam_openai.sources import Place

pytestmark = pytest.mark.usefixtures("clean")
NOWHERE = API(base_url="http://127.0.0.1:9/v1")


@pytest.mark.parametrize("users", [1, 7, 1000, 100_000])
def test_rows_that_hardly_share_a_request_do_not_wait_until_the_bundle_ends(users):
    endpoint = Completions(model="m", api=NOWHERE, user=column("user"), concurrency=8)
    shared = service.acquire(endpoint)
    bundle = Bundle(endpoint, shared)
    rows, waits, sent = 5000, 0, []
    for n in range(rows):
        sent += bundle.add({"prompt": f"{n}", "user": f"{n % users}"}, Place(0, (), None))
        waits = max(
            waits, n + 1 - sum(map(len, (segment for batch in sent for segment in batch))) if n % 100 == 0 else 0
        )
    # Two rounds of full requests for all that may be in flight, and those that are gathered.
    assert waits <= 2 * 8 * 20 + 64
    sent += bundle.flush()
    assert all(1 <= sum(map(len, batch)) <= 20 for batch in sent)
    if users <= 7:
        assert len(sent) <= rows / 20 + users
    spans = sorted((id(s.source), s.start, s.stop) for batch in sent for s in batch)
    assert sum(stop - start for _, start, stop in spans) == rows
    assert all(a[0] != b[0] or a[2] == b[1] for a, b in itertools.pairwise(spans))
    service.release(shared)


@pytest.mark.parametrize(
    ("kind", "model", "name"),
    [(Completions, "gpt-3.5-turbo-instruct", "prompt"), (Moderations, "omni-moderation-latest", "text")],
)
def test_no_byte_of_memory_is_kept_however_rows_share_requests(kind, model, name, emulator):
    endpoint = kind(model=model, api=API(base_url=emulator.base_url))
    shared = service.acquire(endpoint)
    before = shared.memory._free
    outcome = run([pa.table({name: [f"text {n}" + "x" * (n % 5)]}) for n in range(150)], endpoint)
    assert len(outcome.answered) == 150
    end = time.monotonic() + 5
    while shared.memory._free != before and time.monotonic() < end:
        time.sleep(0.01)
    assert shared.memory._free == before
    service.release(shared)


class Both(beam.PTransform):
    """The second is fed with what the first has answered, and shares its service."""

    def __init__(self, first, second):
        super().__init__()
        self._first, self._second = first, second

    def expand(self, pcoll):
        return (pcoll | "First" >> self._first).answered | "Second" >> self._second


def test_a_transform_that_feeds_another_of_its_kind_does_not_wait_for_memory_that_it_holds_itself(
    emulator, monkeypatch
):
    monkeypatch.setattr(service, "_MEMORY", 5_000)
    first = embeddings(emulator, max_batch_size=50, concurrency=4)
    second = embeddings(emulator, max_batch_size=50, concurrency=4, output="again")
    tables = [texts_table([f"{start + n}" for n in range(100)]) for start in range(0, 3000, 100)]
    began = time.monotonic()
    outcome = run(tables, Both(first, second))
    assert sum(out.value.num_rows for out in outcome.answered) == 3000
    assert time.monotonic() - began < memory.Memory._PATIENCE / 2


def test_one_model_has_one_limiter_in_a_process_whether_it_is_named_or_a_column_s():
    named = service.acquire(Completions(model="m", api=NOWHERE))
    of_column = service.acquire(Completions(model=column("model"), api=NOWHERE))
    other = service.acquire(Completions(model="m", api=API(base_url="http://127.0.0.1:10/v1")))
    one = named.limiter_of("m")
    assert (
        of_column.limiter_of("m") is one and of_column.limiter_of("n") is not one and other.limiter_of("m") is not one
    )
    service.release(named)
    assert of_column.limiter_of("m") is one
    service.release(of_column)
    service.release(other)
    again = service.acquire(Completions(model="m", api=NOWHERE))
    assert again.limiter_of("m") is not one
    service.release(again)
