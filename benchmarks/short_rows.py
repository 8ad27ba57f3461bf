"""CPU time of a short row, Parquet to Parquet, where a request has many: moderations and completions beside embeddings.

Texts of about 30 bytes; vectors of 8 numbers in base64, completions of 5 tokens, of a moderation 13 categories, their
scores and what they apply to. What a row costs is what many rows take more than 2,000 do, divided by their difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from beam_openai.emulator import Emulator
from benchmarks.contestants import MODEL
from benchmarks.corpus import corpus
from benchmarks.figures import Figure, Plan
from benchmarks.process import apart, cpu_of_each, in_turns

_FEW = 2_000
_MOST = 2_048
_WORDS = 4
_EMBEDDINGS = {"endpoint": "Embeddings", "model": MODEL, "dimensions": 8}
_MODERATIONS = {"endpoint": "Moderations", "model": "omni-moderation-latest"}
_COMPLETIONS = {"endpoint": "Completions", "model": "davinci-002", "prompt": "{text}", "max_tokens": 5}
_CASES: dict[str, tuple[dict[str, Any], int, str]] = {
    "a moderation": (_MODERATIONS, _MOST, "<= 2"),
    "a completion": (_COMPLETIONS, 128, "<= 2"),
    "a moderation, as it comes": (_MODERATIONS, 32, ""),
    "a completion, as it comes": (_COMPLETIONS, 20, ""),
}


def figures(plan: Plan) -> Iterator[Figure]:
    rows = plan.either(60_000, 20_000)
    for size in (_FEW, rows):
        corpus(plan.folder, size, _WORDS)
    with Emulator(vectors="cheap", models={MODEL: 8}) as server:
        cost = partial(apart, micros_of_a_row, base_url=server.base_url, folder=plan.folder, rows=rows)
        sizes = {size for _, size, _ in _CASES.values()}
        turns: dict[Any, Any] = {size: partial(cost, **_EMBEDDINGS, max_batch_size=size) for size in sizes}
        turns |= {what: partial(cost, **case, max_batch_size=size) for what, (case, size, _) in _CASES.items()}
        spent = in_turns(turns, plan.either(3, 1))
    for what, (_, size, goal) in _CASES.items():
        line, ours = f"CPU of {what}, requests of {size:,} rows", f"{spent[what]:.1f} us"
        for beside, wanted in {size: "", _MOST: goal}.items():
            vector = f"a vector of 8 numbers, requests of {beside:,} rows: {spent[beside]:.1f} us"
            yield Figure(line, ours, vector, spent[what] / spent[beside], wanted)


def micros_of_a_row(endpoint: str, base_url: str, folder: str, rows: int, **options: Any) -> float:
    import beam_openai
    from benchmarks.contestants import ours

    def run(size: int) -> None:
        made = getattr(beam_openai, endpoint)(api=beam_openai.API(base_url=base_url), **options)
        ours.through(made, str(corpus(Path(folder), size, _WORDS)), f"{folder}/out-short")

    return 1e6 * cpu_of_each(run, _FEW, rows)
