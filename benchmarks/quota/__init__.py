"""One quota shared by workers that know nothing of each other: how much of it is used, and how often it is hit.

A simulation, without threads, sockets or a clock: only the `Limiter` is the one that is shipped.
`python -m benchmarks.quota` prints all scenarios; the table of all benchmarks has the least use and the most refusals of
a few of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import Figure, Plan

_GOAL_MICROS = 20


def figures(plan: Plan) -> Iterator[Figure]:
    from benchmarks.quota.cost import micros_of_a_request
    from benchmarks.quota.scenarios import quick
    from benchmarks.quota.simulation import simulate

    runs = {scenario.name: simulate(scenario) for scenario in quick()}
    least = min(runs, key=lambda name: runs[name].used)
    most = max(runs, key=lambda name: runs[name].refused_later)
    used, refused = 100 * runs[least].used, 100 * runs[most].refused_later
    yield Figure("quota used, at least", f"{used:.1f} %", f"of {len(runs)}: {least}; 99 %", used / 99, ">= 1")
    yield Figure("429s, at most", f"{refused:.2f} %", f"of {len(runs)}: {most}; 0.5 %", refused / 0.5, "<= 1")
    micros = micros_of_a_request(plan.either(100_000, 20_000))
    yield Figure(
        "CPU of a request in the limiter", f"{micros:.1f} us", f"{_GOAL_MICROS} us", micros / _GOAL_MICROS, "<= 1"
    )
