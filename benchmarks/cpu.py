"""CPU time of a row, Parquet to Parquet, vectors of 1,536 numbers in base64, requests of 2,048 rows.

What a row costs is what 100,000 rows take more than 2,000 do, divided by their difference; for Beam's MLTransform, which
takes ten times as long, 20,000 rows. How many rows a contestant's requests really have is read from the server's ledger.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from beam_openai.emulator import Emulator
from benchmarks.contestants import DIMENSIONS, MODEL
from benchmarks.corpus import corpus
from benchmarks.figures import Figure, Plan
from benchmarks.process import apart, cpu_of_each, in_turns

_FEW = 2_000
_CHECKED = 8_192
_PEERS = {
    "full": ("Beam's MLTransform, made to send full requests", ">= 12"),
    "default": ("Beam's MLTransform as it comes", ">= 12"),
    "loop": ("a loop by hand, without Beam", ""),
    "threads": ("a loop by hand, 4 threads", ""),
}


def figures(plan: Plan) -> Iterator[Figure]:
    rows, fewer = plan.either(100_000, 40_000), plan.either(20_000, 10_000)
    for size in (_FEW, _CHECKED, rows, fewer):
        corpus(plan.folder, size)
    with Emulator(vectors="cheap", models={MODEL: DIMENSIONS}) as server:
        cost = partial(apart, micros_of_a_row, base_url=server.base_url, folder=plan.folder)
        turns = {
            "ours": partial(cost, who="ours", rows=rows),
            "full": partial(cost, who="ml_transform", rows=fewer, batch_size=2048),
            "default": partial(cost, who="ml_transform", rows=fewer, batch_size=None),
            "loop": partial(cost, who="by_hand", rows=rows, threads=1),
            "threads": partial(cost, who="by_hand", rows=rows, threads=4),
            "64": partial(cost, who="ours", rows=rows, dimensions=64),
            "8": partial(cost, who="ours", rows=rows, dimensions=8),
        }
        sizes = {}
        for name in _PEERS:
            server.clear()
            turns[name](rows=_CHECKED)
            ledger = server.ledger()
            sizes[name] = ledger["billed_inputs"] / ledger["answered"]
        spent = in_turns(turns, rounds=plan.either(3, 1))
    mine = f"{spent['ours']:.1f} us"
    yield Figure("CPU of a row, 1536 numbers", mine, "30 us", spent["ours"] / 30, "<= 1")
    for name, (peer, goal) in _PEERS.items():
        beside = f"{peer} ({sizes[name]:,.0f} rows each): {spent[name]:.1f} us"
        yield Figure("CPU of a row, 1536 numbers", mine, beside, spent[name] / spent["ours"], goal)
    for size in ("64", "8"):
        yield Figure(f"CPU of a row, {size} numbers", f"{spent[size]:.1f} us")


def micros_of_a_row(who: str, base_url: str, folder: str, rows: int, **options: object) -> float:
    contestant = importlib.import_module(f"benchmarks.contestants.{who}")
    target = f"{folder}/out-{who}"

    def run(size: int) -> None:
        contestant.run(base_url, str(corpus(Path(folder), size)), target, **options)

    return 1e6 * cpu_of_each(run, _FEW, rows)
