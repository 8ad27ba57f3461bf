"""Peak memory, Parquet to Parquet with vectors of 1,536 numbers: ten times the rows are to take no more of it."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from beam_openai.emulator import Emulator
from benchmarks.contestants import DIMENSIONS, MODEL
from benchmarks.corpus import corpus
from benchmarks.figures import Figure, Plan
from benchmarks.process import apart, in_turns, peak_megabytes

_MOST_MEGABYTES = 500


def figures(plan: Plan) -> Iterator[Figure]:
    few, many = plan.either(100_000, 50_000), plan.either(1_000_000, 250_000)
    dimensions = _that_fit(plan.folder, many)
    for rows in (few, many):
        corpus(plan.folder, rows)
    with Emulator(vectors="cheap", models={MODEL: DIMENSIONS}) as server:
        options = {"base_url": server.base_url, "folder": plan.folder, "dimensions": dimensions}
        turns = {rows: partial(apart, megabytes, rows=rows, **options) for rows in (few, many)}
        peak = in_turns(turns, plan.either(3, 1))
    what = f"peak memory, {many:,} rows of {dimensions} numbers"
    yield Figure(what, f"{peak[many]:.0f} MB", f"{few:,} rows: {peak[few]:.0f} MB", peak[many] / peak[few], "<= 1.1")
    yield Figure(what, f"{peak[many]:.0f} MB", f"{_MOST_MEGABYTES} MB", peak[many] / _MOST_MEGABYTES, "<= 1")


def megabytes(base_url: str, folder: str, rows: int, dimensions: int) -> float:
    """As a user runs it: the command line, which also tells the allocators to give back what they do not need."""
    target = f"{folder}/out-memory"
    options = {
        "input": f"{corpus(Path(folder), rows)}/*.parquet",
        "output": target,
        "model": MODEL,
        "dimensions": dimensions,
        "base-url": base_url,
    }
    command = [sys.executable, "-m", "beam_openai.cli", "embeddings"]
    subprocess.run([*command, *(f"--{name}={value}" for name, value in options.items())], check=True, stdout=sys.stderr)
    shutil.rmtree(target)
    shutil.rmtree(f"{target}.failed", ignore_errors=True)
    return peak_megabytes(resource.RUSAGE_CHILDREN)


def _that_fit(folder: Path, rows: int) -> int:
    """1,536, or what the disk has room for, with a half to spare."""
    free = shutil.disk_usage(folder).free
    return next((size for size in (DIMENSIONS, 384) if 1.5 * rows * size * 4 < free), 64)
