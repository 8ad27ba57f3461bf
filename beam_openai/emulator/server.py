"""The server: what happens to a request, from its arrival to its answer.

`Server.handle` is the whole of it, in order: seen, injected, routed, authorised, checked,
admitted, queued, faulted, answered, billed, late on purpose, sent.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
import time
from collections import deque
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from . import damage, faults
from .calls import Answer, Call, Routes
from .injections import Injection, Queue
from .keys import authorise
from .ledger import Ledger, Seen
from .limits import Limits
from .operations import OPERATIONS
from .options import CHANGEABLE, Options
from .receiving import receive
from .replies import JSON, Refusal, Reply
from .sending import gone, reset, send
from .slots import Slots
from .state import State
from .traffic import Traffic

_MANY_TOKENS = 10_000
_LONG_BODY = 4_000_000


class Server:
    """One emulated server: its limits, slots, ledger, faults, and the requests under /v1.

    Azure's paths are known as well: /openai/v1/..., and /openai/deployments/NAME/..., where the
    deployment has the name of a model; and its header, `api-key`.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.ledger = Ledger(deque(maxlen=options.keep_requests))
        self.traffic = Traffic(options.keep_decisions)
        self.slots = Slots(options)
        self.queue = Queue()
        self.state = State(options)
        self._routes = Routes([route for part in OPERATIONS for route in part.routes(self.state)])
        self._limits = Limits(options)
        self._plan = faults.Plan(faults.parse(options.faults), options.seed)
        self._slow = random.Random(f"slow {options.seed}")
        self._hit = random.Random(f"hit {options.seed}")
        self._ids = random.Random(f"ids {options.seed}")
        self.state.execute = self._execute

    def change(self, changes: dict[str, Any]) -> None:
        """Is run by other options from now on.

        Raises:
            ValueError, TypeError: an option that cannot be changed while it runs, or be at all; none is changed.
        """
        fixed = set(changes) - set(CHANGEABLE)
        if fixed:
            raise ValueError(f"{', '.join(sorted(fixed))} cannot be changed, only {', '.join(CHANGEABLE)}")
        options = dataclasses.replace(self.options, **changes)
        self._limits.change(options, time.monotonic())
        self.slots.change(options)
        self.options = options

    def most_bytes(self, method: str, raw_path: str) -> int:
        """How many bytes the body of such a request may have."""
        path, _ = _place(raw_path.partition("?")[0])
        return self._routes.most_bytes(method, path) or self.options.max_body_bytes

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request under /v1."""
        seen = Seen(request.method, request.raw_path, time.monotonic())
        self.ledger.arrived(seen.at)
        self.ledger.recent.append(seen)
        try:
            return await self._life(request, seen)
        except ConnectionError:  # whoever asked is gone
            return web.Response()
        finally:
            self.ledger.left(seen.status or seen.fault or "dropped", time.monotonic())

    async def _life(self, request: web.BaseRequest, seen: Seen) -> web.StreamResponse:
        headers = self._standing_headers()
        try:
            call = await self._call(request, seen)
            injected = self.queue.next(call.path) or Injection()
            if injected.delay:
                await asyncio.sleep(injected.delay)
            if injected.reply is not None:
                return await self._send(request, injected.reply, headers, seen)
            answer = await self._checked(call)
            if answer.model:
                headers |= self._admit(answer, seen)
        except Refusal as refusal:
            return await self._send(request, refusal.reply(self.options.style), headers, seen)
        seen.fault = injected.fault or (self._plan.draw() if call.method == "POST" else None)
        if not answer.model:
            return await self._admitted(request, answer, headers, seen, seen.at)
        waited = await self.slots.take()
        try:
            if waited and gone(request):
                return web.Response()
            begins = time.monotonic() if waited else seen.at
            return await self._admitted(request, answer, headers, seen, begins)
        finally:
            self.slots.give()

    def _admit(self, answer: Answer, seen: Seen) -> dict[str, str]:
        """The headers that tell of the limits once the answer's costs are taken from them."""
        now = time.monotonic()
        # Who asks, where several share a server: a header of tests' and benchmarks' own.
        client = seen.headers.get("x-client", "")
        try:
            self.slots.check()
            headers = self._limits.admit(answer.model, answer.costs, now)
        except Refusal:
            self.traffic.note(now, answer.model, client, answer.costs, admitted=False)
            raise
        self.traffic.note(now, answer.model, client, answer.costs, admitted=True)
        return headers

    async def _admitted(
        self, request: web.BaseRequest, answer: Answer, headers: dict[str, str], seen: Seen, begins: float
    ) -> web.StreamResponse:
        fault = seen.fault
        if fault is not None:
            self.ledger.faults[fault] += 1
        if fault == "reset":
            return reset(request)
        if fault in faults.REFUSED:
            reply = damage.refusal(fault, answer.model, self.options.style)
            return await self._send(request, reply, headers, seen)
        if fault == "stall":
            await asyncio.sleep(self.options.stall_seconds)
            if gone(request):
                return web.Response()
        reply = await self._write(answer)
        if fault in faults.DAMAGED and reply.stream is None and reply.content_type == JSON:
            reply.body = damage.damaged(reply.body, fault, self._hit)
        # Billed before it is sent: whether it arrives is not for a server to know.
        used = self._bill(answer, reply)
        # An answer is this late in all, however long it took to write.
        late = begins + self._latency(used) - time.monotonic()
        if late > 0:
            await asyncio.sleep(late)
        return await self._send(request, reply, headers, seen)

    def _standing_headers(self) -> dict[str, str]:
        return {
            "x-request-id": f"req_{self._ids.getrandbits(128):032x}",
            "openai-version": "2020-10-01",
            "openai-organization": "emulator",
        }

    async def _call(self, request: web.BaseRequest, seen: Seen) -> Call:
        """Reads the request, and remembers it."""
        seen.headers = {name.lower(): value for name, value in request.headers.items()}
        body = await receive(request)
        seen.keep(body)
        path, _, query = request.raw_path.partition("?")
        path, deployment = _place(path)
        return Call(
            method=request.method,
            path=path,
            query=dict(parse_qsl(query)) if query else {},
            headers=seen.headers,
            body=body,
            deployment=deployment,
        )

    async def _checked(self, call: Call) -> Answer:
        route = self._routes.find(call)
        authorise(call.headers, self.options.key)
        if route.clocked:
            await self.state.agenda.catch_up()
        if len(call.body) > _LONG_BODY:
            return await asyncio.to_thread(route.answer, call)
        return route.answer(call)

    async def _write(self, answer: Answer) -> Reply:
        # In a thread where it takes long, so that no other request waits behind it.
        if answer.tokens > _MANY_TOKENS:
            return await asyncio.to_thread(answer.write)
        return answer.write()

    def _execute(self, call: Call) -> Reply:
        """The reply to a line of a batch: checked and billed as a request, neither limited nor faulted."""
        try:
            answer = self._routes.find(call).answer(call)
        except Refusal as refusal:
            return refusal.reply(self.options.style)
        reply = answer.write()
        self._bill(answer, reply)
        return reply

    def _bill(self, answer: Answer, reply: Reply) -> int:
        """Bills the answer; returns the tokens that were used."""
        used = answer.tokens if reply.tokens is None else reply.tokens
        if answer.inputs:
            self.ledger.bill(answer.scope, answer.inputs, used)
        return used

    def _latency(self, tokens: int) -> float:
        options = self.options
        slow = options.slow_share and self._slow.random() < options.slow_share
        return (options.latency + options.latency_per_token * tokens) * (options.slow_factor if slow else 1)

    async def _send(
        self, request: web.BaseRequest, reply: Reply, headers: dict[str, str], seen: Seen
    ) -> web.StreamResponse:
        seen.status = reply.status
        took = math.ceil((time.monotonic() - seen.at) * 1000)
        reply.headers = {**headers, "openai-processing-ms": str(took), **reply.headers}
        broken = seen.fault if seen.fault in faults.BROKEN else None
        return await send(request, reply, broken, self.options.drip_seconds)


def _place(path: str) -> tuple[str, str | None]:
    """The path without /v1, and without what Azure has there: its prefix and the deployment."""
    if path.startswith("/openai/deployments/"):
        name, _, rest = path.removeprefix("/openai/deployments/").partition("/")
        return "/" + rest, unquote(name)
    return path.removeprefix("/openai").removeprefix("/v1"), None
