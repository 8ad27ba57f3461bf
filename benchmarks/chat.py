"""Chat with tiny bodies: one row a request, 64 in flight in one process, answers after 0.01 s.

CPU time and seconds of a call are what many calls take more than few, divided by their difference. 64 / 0.01 = 6,400
calls/s are possible; what the server can do by itself, at a client that does nothing with its answers, stands beside.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from beam_openai.emulator import Emulator
from benchmarks.contestants import CHAT_MODEL
from benchmarks.figures import Figure, Plan
from benchmarks.process import apart, cost_of_each, in_turns, medians
from benchmarks.server import rate

_FEW = 500
_GOAL = 2_000
_OURS = {"tables of 1,000 rows": {"rows": 1000}, "dicts": {"rows": None}}
_PEERS = {
    "the openai package, AsyncOpenAI with aiohttp": ({"aiohttp": True}, ">= 2"),
    "the openai package, AsyncOpenAI (httpx)": ({"aiohttp": False}, ""),
}


def figures(plan: Plan) -> Iterator[Figure]:
    count = plan.either(6_000, 3_000)
    with Emulator(latency=0.01) as server:
        cost = partial(apart, cost_of_a_call, base_url=server.base_url, count=count)
        turns = {case: partial(cost, who="ours_chat", **shape) for case, shape in _OURS.items()}
        turns |= {peer: partial(cost, who="openai_chat", **transport) for peer, (transport, _) in _PEERS.items()}
        spent = in_turns(turns, plan.either(3, 1), medians)
    with Emulator() as server:
        body = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "text 1"}], "max_tokens": 5}
        sends = plan.either(1_000, 500)
        alone = apart(rate, base_url=server.base_url, path="/v1/chat/completions", body=body, threads=8, sends=sends)
    for case in _OURS:
        cpu, seconds = spent[case]
        what, ours = f"chat, {case}", f"{1 / seconds:,.0f} calls/s"
        yield Figure(what, ours, f"{_GOAL:,} calls/s", 1 / seconds / _GOAL, ">= 1")
        for peer, (_, goal) in _PEERS.items():
            peer_cpu, peer_seconds = spent[peer]
            yield Figure(what, ours, f"{peer}: {1 / peer_seconds:,.0f} calls/s", peer_seconds / seconds, goal)
            beside = f"{peer}: {1e6 * peer_cpu:.0f} us"
            yield Figure(f"CPU of a call of {what}", f"{1e6 * cpu:.0f} us", beside, peer_cpu / cpu, goal)
    yield Figure("the server itself, chat", f"{alone:,.0f} calls/s")


def cost_of_a_call(who: str, base_url: str, count: int, **options: int | bool | None) -> tuple[float, float]:
    """Seconds of CPU, and seconds."""
    from benchmarks import calls

    call = getattr(calls, who)
    return cost_of_each(lambda size: call(base_url, size, **options), _FEW, count)
