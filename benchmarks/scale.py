"""CPU time of a row at 10^4, 10^5 and 10^6 rows, with vectors of 64 numbers: each row is to cost the same.

What a row costs is what so many rows take more than 2,000 do, divided by their difference: start-up apart. Small runs are
repeated and their median counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from beam_openai.emulator import Emulator
from benchmarks.contestants import DIMENSIONS, MODEL
from benchmarks.corpus import corpus
from benchmarks.figures import Figure, Plan
from benchmarks.process import apart, cpu_of_each, in_turns

_FEW = 2_000


def figures(plan: Plan) -> Iterator[Figure]:
    sizes = {10_000: 15, 100_000: 3, plan.either(1_000_000, 300_000): 1}
    for rows in (_FEW, *sizes):
        corpus(plan.folder, rows)
    with Emulator(vectors="cheap", models={MODEL: DIMENSIONS}) as server:
        options = {"base_url": server.base_url, "folder": plan.folder}
        turns = {
            rows: partial(apart, micros_of_a_row, rows=rows, times=times, **options) for rows, times in sizes.items()
        }
        spent = in_turns(turns, plan.either(3, 1))
    base, *others = spent
    for rows in others:
        beside = f"{base:,} rows: {spent[base]:.2f} us"
        yield Figure(f"CPU of a row, of {rows:,}", f"{spent[rows]:.2f} us", beside, spent[rows] / spent[base], "<= 1.1")


def micros_of_a_row(base_url: str, folder: str, rows: int, times: int) -> float:
    from benchmarks.contestants import ours

    def run(size: int) -> None:
        ours.run(base_url, str(corpus(Path(folder), size)), f"{folder}/out-scale", 64)

    return 1e6 * cpu_of_each(run, _FEW, rows, times)
