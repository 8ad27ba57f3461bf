"""How much of what the latency allows is used: 64 requests in flight, answers after 0.2 s, one in twenty after 1 s.

With `mean` the seconds that the server took for an answer (0.24 s expected, counted by its ledger) and n requests:

    share used = (n - 64) * mean / 64 / (arrival of the last request - arrival of the first)

By the last arrival, n - 64 requests must have been answered, 64 at a time. So this holds all that the client does between
two requests, and the beginning with a single request; it leaves out the time before the first request (see startup.py)
and the wait for the last 64 answers, which no client can avoid: the second figure has that too, against the least time
that it can take, (n / 64) * mean.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from beam_openai.emulator import Emulator
from benchmarks.contestants import MODEL
from benchmarks.figures import Figure, Plan
from benchmarks.process import apart

_IN_FLIGHT = 64
_MEAN = 0.2 * (0.95 + 0.05 * 5)
_CASES = {
    "tables of 4,096 rows, requests of 1": {"rows": 4096, "batch_size": 1},
    "tables of 10 rows, requests of 10": {"rows": 10, "batch_size": 10},
    "tables of 1 row, requests of 1": {"rows": 1, "batch_size": 1},
    "dicts, requests of 1": {"rows": None, "batch_size": 1},
}


def figures(plan: Plan) -> Iterator[Figure]:
    requests = int(plan.either(45, 10) * _IN_FLIGHT / _MEAN)
    for case, shape in _CASES.items():
        steady, whole, mean = apart(shares, requests=requests, **shape)
        what = f"latency-bound, {case}: share of {_IN_FLIGHT} / mean latency"
        ours = f"{steady * _IN_FLIGHT / mean:.1f} requests/s"
        beside = f"{_IN_FLIGHT / mean:.1f} requests/s possible; last answers included {whole:.3f}"
        yield Figure(what, ours, beside, steady, ">= 0.97")


def shares(requests: int, rows: int | None, batch_size: int) -> tuple[float, float, float]:
    """Share used until the last request left, share used until the last answer, and seconds of a mean answer."""
    from benchmarks.calls import ours

    slow = {"latency": 0.2, "slow_share": 0.05, "slow_factor": 5.0}
    with Emulator(vectors="cheap", models={MODEL: 8}, keep_requests=requests, **slow) as server:
        ours(server.base_url, requests * batch_size, rows, batch_size)
        ended = time.monotonic()
        arrivals = [request["at"] for request in server.requests(requests)]
        ledger = server.ledger()
    if ledger["requests"] != ledger["answered"] or ledger["requests"] != requests:
        raise RuntimeError(f"{requests} requests were expected: {ledger}")
    mean = ledger["mean_in_flight"] * ledger["seconds"] / requests
    steady = (requests - _IN_FLIGHT) * mean / _IN_FLIGHT / (arrivals[-1] - arrivals[0])
    return steady, requests * mean / _IN_FLIGHT / (ended - arrivals[0]), mean
