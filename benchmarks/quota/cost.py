"""CPU time that a request spends in the limiter: `wait`, `take`, `observe` and `settle`, in one thread."""

from __future__ import annotations

import collections
import itertools
import time

from beam_openai.quota import Cost, Limiter, Quota
from benchmarks.quota.server import Rules, Server

_LATENCY = 100  # requests


def micros_of_a_request(count: int = 100_000) -> float:
    """Microseconds a request, of a worker that uses all of a quota; its answers are those of a server, made before."""
    cost = Cost(1, 300)
    server = Server(Rules())
    rate = 1.01 * server.rules.rates[0]
    said = [server.ask(cost[:2], number / rate).headers for number in range(count)]
    limiter = Limiter(Quota(), 0.0)
    grants = collections.deque(limiter.take(cost, number / rate) for number in range(_LATENCY))
    began = time.process_time()
    for number, headers in zip(itertools.count(_LATENCY), said):
        now = number / rate
        limiter.wait(cost, now)
        grants.append(limiter.take(cost, now))
        grant = grants.popleft()
        limiter.observe(grant, headers, now)
        limiter.settle(grant, tokens=300)
    return 1e6 * (time.process_time() - began) / count
