"""What a small request costs: one row, a vector of 8 numbers, 64 in flight, a server that answers at once.

CPU time is what many requests take more than few, divided by their difference; requests/s are of the whole machine, the
server included, which takes one of its cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from beam_openai.emulator import Emulator
from benchmarks.contestants import MODEL
from benchmarks.figures import Figure, Plan
from benchmarks.process import apart, cpu_of_each, in_turns

_FEW = 500


def figures(plan: Plan) -> Iterator[Figure]:
    count = plan.either(6_000, 3_000)
    with Emulator(vectors="cheap", models={MODEL: 8}) as server:
        cost = partial(apart, micros_of_a_request, base_url=server.base_url, count=count)
        turns = {
            "openai": partial(cost, who="openai"),
            "tables": partial(cost, who="ours", rows=4096, batch_size=1),
            "one-row tables": partial(cost, who="ours", rows=1, batch_size=1),
            "dicts": partial(cost, who="ours", rows=None, batch_size=1),
        }
        spent = in_turns(turns, plan.either(3, 1))
    peer = spent.pop("openai")
    for case, micros in spent.items():
        beside = f"the openai package, AsyncOpenAI: {peer:.0f} us"
        yield Figure(f"CPU of a request of one row, {case}", f"{micros:.0f} us", beside, peer / micros, ">= 1")


def micros_of_a_request(who: str, base_url: str, count: int, **options: int | None) -> float:
    from benchmarks import calls

    call = getattr(calls, who)
    return 1e6 * cpu_of_each(lambda size: call(base_url, size, **options), _FEW, count)
