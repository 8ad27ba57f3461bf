"""Workers that share a server's quota, minute by minute.

Each worker has a `Limiter` of its own, and does as a pool does: one request in flight until the first has succeeded, what
was refused before what was never sent, and a pause as long as the server asks for.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

from beam_openai.durations import retry_after
from beam_openai.quota import Cost, Grant, Limiter, Quota
from beam_openai.retry import Retry
from benchmarks.quota.record import Record
from benchmarks.quota.server import MINUTE, Reply, Rules, Server

_TO_ARRIVE = 0.05  # seconds, at most
_TO_REFUSE = 0.02
_MOST_IN_FLIGHT = 1000
_RETRY = Retry(attempts=1_000_000, max_elapsed=math.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is simulated.

    Attributes:
      rules: the server's, at first.
      changes: of its rules, by the second.
      tokens: of a request, the median; they vary by half of it and more.
      latency: seconds to an answer, the median.
      joins, dies: when a worker, by its number, begins and is killed.
      pace: requests a second that a worker, by its number, has to send; None for as many as it can.
      paced_until: all can send as many as they can from then on.
    """

    name: str
    workers: int = 1
    seconds: int = 450
    rules: Rules = dataclasses.field(default_factory=Rules)
    changes: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    tokens: float = 200
    latency: float = 0.8
    joins: Callable[[int], float] = lambda number: 0.0
    dies: Callable[[int], float] = lambda number: math.inf
    pace: Callable[[int], float | None] = lambda number: None
    paced_until: float = math.inf
    seed: int = 0


def simulate(scenario: Scenario) -> Record:
    return _Simulation(scenario).run()


class _Simulation:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.random = random.Random(scenario.seed)
        self.server = Server(scenario.rules)
        self.record = Record(scenario.workers, scenario.seconds)
        self.now = 0.0
        self._largest = int(scenario.rules.tpm / MINUTE * scenario.rules.bucket)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()

    def at(self, when: float, what: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, arguments))

    def run(self) -> Record:
        scenario = self.scenario
        for number in range(scenario.workers):
            worker = _Worker(number, self)
            self.at(scenario.joins(number) + 0.5 * self.random.random(), worker.begin)
            self.at(scenario.dies(number), worker.end)
        for when, rules in scenario.changes.items():
            self.at(when, self._change, rules)
        for second in range(scenario.seconds):
            self.at(second, self._note, second)
        while self._events[0][0] < scenario.seconds:
            self.now, _, what, arguments = heapq.heappop(self._events)
            what(*arguments)
        return self.record

    def _change(self, rules: dict[str, Any]) -> None:
        self.server.change(dataclasses.replace(self.server.rules, **rules), self.now)

    def _note(self, second: int) -> None:
        self.record.note(second, self.server.rules.left, self.server.level(self.now))

    def ask(self, worker: _Worker, request: _Request) -> None:
        """A request has come to the server."""
        reply = self.server.ask(request.cost[:2], self.now)
        charged = request.cost._replace(tokens=request.cost.tokens * self.server.rules.charge)
        self.record.asked(int(self.now), worker.number, charged, reply.admitted)
        seconds = self.scenario.latency * self.random.lognormvariate(0, 0.4) if reply.admitted else _TO_REFUSE
        self.at(self.now + seconds, worker.answered, request, reply)

    def cost(self) -> Cost:
        """Of the next request."""
        tokens = self.random.lognormvariate(math.log(self.scenario.tokens), 0.5)
        return Cost(1, max(1, min(int(tokens), self._largest)))


@dataclasses.dataclass(slots=True)
class _Request:
    cost: Cost
    grant: Grant
    attempts: int = 0


class _Worker:
    def __init__(self, number: int, simulation: _Simulation) -> None:
        self.number = number
        self._simulation = simulation
        self._pace = simulation.scenario.pace(number)
        self._limiter = Limiter(Quota(), 0.0, uniform=simulation.random.random)
        self._later: list[tuple[float, int, _Request]] = []
        self._order = itertools.count()
        self._next: Cost | None = None
        self._next_at = 0.0
        self._in_flight, self._places = 0, 1.0
        self._looks_at = math.inf
        self._is_alive = False

    def begin(self) -> None:
        self._is_alive, self._next_at = True, self._simulation.now
        self._simulation.record.lives(self.number, self._simulation.now)
        self._look()

    def end(self) -> None:
        self._is_alive = False
        self._simulation.record.ends(self.number, self._simulation.now)

    def answered(self, request: _Request, reply: Reply) -> None:
        if not self._is_alive:
            return
        now = self._simulation.now
        self._in_flight -= 1
        self._limiter.observe(request.grant, reply.headers, now, not reply.admitted)
        if reply.admitted:
            self._limiter.settle(request.grant, tokens=request.cost.tokens)
            # The headers tell how many; where there are none, one more for each success.
            self._places = math.inf if reply.headers else min(_MOST_IN_FLIGHT, self._places + 1)
        else:
            self._limiter.forgive(request.grant)
            self._try_again(request, reply)
        self._look()

    def _try_again(self, request: _Request, reply: Reply) -> None:
        now = self._simulation.now
        asked = retry_after(reply.headers, reply.message, now)
        wait = _RETRY.wait(request.attempts, 0.0, asked, self._simulation.random.random) or 0.0
        self._limiter.pause(wait, now)
        heapq.heappush(self._later, (now + wait, next(self._order), request))

    def _look(self) -> None:
        """Sends all that may be sent now, and sees to it that the rest is looked at in time."""
        now = self._simulation.now
        while self._is_alive and self._in_flight < self._places:
            is_due = bool(self._later) and self._later[0][0] <= now
            cost = self._later[0][2].cost if is_due else self._fresh()
            due = 0.0 if is_due else min(self._next_at, self._simulation.scenario.paced_until)
            wait = max(self._limiter.wait(cost, now), due - now)
            if wait > 1e-9:
                self._look_at(now + wait)
                return
            self._send(cost, heapq.heappop(self._later)[2] if is_due else None)

    def _look_at(self, when: float) -> None:
        if when < self._looks_at:
            self._looks_at = when
            self._simulation.at(when, self._wake, when)

    def _wake(self, when: float) -> None:
        # Another time may have been chosen since.
        if when == self._looks_at:
            self._looks_at = math.inf
            self._look()

    def _fresh(self) -> Cost:
        if self._next is None:
            self._next = self._simulation.cost()
        return self._next

    def _send(self, cost: Cost, again: _Request | None) -> None:
        simulation = self._simulation
        grant = self._limiter.take(cost, simulation.now)
        request = again or _Request(cost, grant)
        request.grant, request.attempts = grant, request.attempts + 1
        if again is None:
            self._next = None
            self._next_at += 1 / self._pace if self._pace else 0.0
        self._in_flight += 1
        simulation.at(simulation.now + _TO_ARRIVE * simulation.random.random(), simulation.ask, self, request)
