"""Many rows through everything that the emulator can do to them."""

from __future__ import annotations

from collections import Counter

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from conftest import DIMENSIONS, embeddings, run, threads

from beam_openai import API, Retry
from beam_openai.emulator.faults import KINDS
from beam_openai.emulator.vectors import embed_cheap

pytestmark = pytest.mark.usefixtures("clean")

ROWS, TABLE, BATCH = 200_000, 2000, 100
ONE_ROW = ("nan", "wrong_length", "null_in_vector")
"""Faults that spoil one row of a good answer."""
CHANCES = {kind: 0.006 for kind in KINDS if kind != "insufficient_quota"}
# Each of these lets everything wait for a while, and teaches a pace.
CHANCES.update(rate_limit=0.004, rate_limit_ms=0.004, rate_limit_message=0.004)

POISON = {
    **dict.fromkeys(range(101, ROWS, 9001), (None, "invalid_input")),
    **dict.fromkeys(range(202, ROWS, 9001), ("", "invalid_input")),
    **dict.fromkeys(range(303, ROWS, 9001), ("POISON-400", "rejected")),
    **dict.fromkeys(range(404, ROWS, 9001), ("POISON-NAN", "bad_answer")),
    **dict.fromkeys(range(505, ROWS, 70_001), ("POISON-500", "exhausted")),
}


def text_of(row):
    if row not in POISON:
        return f"row {row}"
    poison, _ = POISON[row]
    return f"row {row} {poison}" if poison else poison


def table_from(start):
    rows = range(start, start + TABLE)
    return pa.table({"id": list(rows), "text": pa.array([text_of(row) for row in rows], pa.string())})


def test_each_of_many_rows_is_out_once_with_its_own_vector_or_its_reason(start_emulator):
    server = start_emulator(faults=CHANCES, vectors="cheap", stall_seconds=1.0, drip_seconds=0.3, seed=11)
    source = beam.Create(list(range(0, ROWS, TABLE))) | beam.Reshuffle() | beam.Map(table_from)
    endpoint = embeddings(
        server,
        api=API(base_url=server.base_url, timeout=0.7),
        max_batch_size=BATCH,
        dimensions=DIMENSIONS,
        retry=Retry(attempts=8, max_wait=1.5),
    )
    outcome = run(source, endpoint, threads)
    ledger = server.ledger()
    assert set(ledger["faults"]) == set(CHANCES), "the seed left a fault out"

    answered = pa.concat_tables(out.value for out in outcome.answered)
    failed = pa.concat_tables(out.value for out in outcome.failed)
    ids = answered["id"].to_pylist()
    assert Counter(ids) + Counter(failed["id"].to_pylist()) == Counter(range(ROWS))
    assert answered["text"].to_pylist() == [text_of(row) for row in ids]
    vectors = np.array(answered["embedding"].combine_chunks().flatten()).reshape(-1, DIMENSIONS)
    assert np.array_equal(vectors, embed_cheap(answered["text"].to_pylist(), DIMENSIONS))

    kinds = {row["id"]: row["error"] for row in failed.select(["id", "error"]).to_pylist()}
    for row, (_, kind) in POISON.items():
        # One that shares requests with a row that the server cannot stand goes its way.
        assert kinds[row]["kind"] in (kind, "exhausted"), (row, kinds[row])
    assert all(
        error["message"] and (error["raw"] is None) == (error["kind"] != "bad_answer") for error in kinds.values()
    )
    others = Counter(error["kind"] for row, error in kinds.items() if row not in POISON)
    assert others.keys() <= {"bad_answer", "exhausted"}
    assert others["bad_answer"] <= sum(ledger["faults"][kind] for kind in ONE_ROW)
    assert others["exhausted"] <= BATCH * sum(kind == "exhausted" for _, kind in POISON.values())

    assert outcome.counter("rows_answered") == len(ids) and outcome.counter("rows_failed") == len(kinds)
    assert outcome.counter("attempts") == ledger["requests"]
