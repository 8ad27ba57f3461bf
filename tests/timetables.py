"""Sends as a limiter lets it, on a clock that only the sender moves; and the headers of a server."""

from __future__ import annotations

import heapq
import math

from beam_openai.quota import Cost, Limiter, Quota

START = 1000.0


def limiter(**quota):
    return Limiter(Quota(**quota), START, uniform=lambda: 0.5)


def tokens(number):
    return Cost(1, number)


def headers(limit=None, remaining=None, reset=None, what="requests"):
    said = {"limit": limit, "remaining": remaining, "reset": reset}
    return {f"x-ratelimit-{name}-{what}": str(value) for name, value in said.items() if value is not None}


def send_all(running, costs, now=START, latency=lambda number: 0.0, used=None, until=math.inf):
    """Sends costs of tokens as soon as the limiter lets it; returns when each was sent, and what it turned out to cost."""
    sent, due = [], []
    for number, cost in enumerate(costs):
        for _ in range(10_000):
            wait = running.wait(tokens(cost), now)
            if wait <= 0:
                break
            now += max(wait, 1e-6)
            while due and due[0][0] <= now:
                _, _, grant, actual = heapq.heappop(due)
                running.settle(grant, tokens=actual)
        else:
            raise AssertionError(f"request {number} waits for ever")
        if now > until:
            break
        grant = running.take(tokens(cost), now)
        actual = cost if used is None else used[number]
        heapq.heappush(due, (now + latency(number), number, grant, actual))
        sent.append((now, actual))
    return sent
