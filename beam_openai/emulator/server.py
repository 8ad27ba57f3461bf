"""The server: what happens to a request, from its arrival to its answer.

`Server.handle` is the whole of it, in order: seen, injected, routed, authorised, checked,
admitted, faulted, answered, billed, late on purpose, sent.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from . import damage, faults
from .calls import Answer, Call, Routes
from .injections import Injection, Queue
from .ledger import Ledger, Seen
from .limits import Limits
from .operations import OPERATIONS
from .options import Options
from .receiving import receive
from .replies import JSON, Refusal, Reply
from .sending import reset, send
from .state import State

_MANY_TOKENS = 10_000
_LONG_BODY = 4_000_000


class Server:
    """One emulated server: its limits, ledger, faults, and the requests under /v1.

    Azure's paths are known as well: /openai/v1/..., and /openai/deployments/NAME/..., where the
    deployment has the name of a model; and its header, `api-key`.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.ledger = Ledger(deque(maxlen=options.keep_requests))
        self.queue = Queue()
        self.state = State(options)
        self._routes = Routes([route for part in OPERATIONS for route in part.routes(self.state)])
        self._limits = Limits(options)
        self._plan = faults.Plan(faults.parse(options.faults), options.seed)
        self._slow = random.Random(f"slow {options.seed}")
        self._hit = random.Random(f"hit {options.seed}")
        self._ids = random.Random(f"ids {options.seed}")
        self.state.execute = self._execute

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
                headers |= self._limits.admit(answer.model, answer.tokens, seen.at)
        except Refusal as refusal:
            return await self._send(request, refusal.reply(self.options.style), headers, seen)
        seen.fault = injected.fault or (self._plan.draw() if call.method == "POST" else None)
        return await self._admitted(request, answer, headers, seen)

    async def _admitted(
        self, request: web.BaseRequest, answer: Answer, headers: dict[str, str], seen: Seen
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
            if request.transport is None or request.transport.is_closing():
                return web.Response()
        reply = await self._write(answer)
        if fault in faults.DAMAGED and reply.stream is None and reply.content_type == JSON:
            reply.body = damage.damaged(reply.body, fault, self._hit)
        # Billed before it is sent: whether it arrives is not for a server to know.
        self._bill(answer, reply)
        # An answer is this late in all, however long it took to write.
        late = seen.at + self._latency() - time.monotonic()
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
            query=dict(parse_qsl(query)),
            headers=seen.headers,
            body=body,
            deployment=deployment,
        )

    async def _checked(self, call: Call) -> Answer:
        route = self._routes.find(call)
        self._authorise(call)
        if route.clocked:
            await self.state.agenda.catch_up()
        if len(call.body) > _LONG_BODY:
            return await asyncio.to_thread(route.answer, call)
        return route.answer(call)

    def _authorise(self, call: Call) -> None:
        wanted = self.options.key
        if wanted is None:
            return
        scheme, _, given = call.headers.get("authorization", "").partition(" ")
        if "api-key" in call.headers:
            scheme, given = "bearer", call.headers["api-key"]
        if scheme.lower() != "bearer" or not given.strip():
            raise Refusal(401, _NO_KEY)
        if given.strip() != wanted:
            message = (
                f"Incorrect API key provided: {_masked(given.strip())}. You can find your API "
                "key at https://platform.openai.com/account/api-keys."
            )
            raise Refusal(401, message, code="invalid_api_key")

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

    def _bill(self, answer: Answer, reply: Reply) -> None:
        if answer.inputs:
            used = answer.tokens if reply.tokens is None else reply.tokens
            self.ledger.bill(answer.scope, answer.inputs, used)

    def _latency(self) -> float:
        options = self.options
        slow = options.slow_share and self._slow.random() < options.slow_share
        return options.latency * (options.slow_factor if slow else 1)

    async def _send(
        self, request: web.BaseRequest, reply: Reply, headers: dict[str, str], seen: Seen
    ) -> web.StreamResponse:
        seen.status = reply.status
        took = math.ceil((time.monotonic() - seen.at) * 1000)
        reply.headers = {**headers, "openai-processing-ms": str(took), **reply.headers}
        broken = seen.fault if seen.fault in faults.BROKEN else None
        return await send(request, reply, broken, self.options.drip_seconds)


_NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header "
    "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with "
    "blank username) if you're accessing the API from your browser and are prompted for a "
    "username and password. You can obtain an API key from "
    "https://platform.openai.com/account/api-keys."
)


def _place(path: str) -> tuple[str, str | None]:
    """The path without /v1, and without what Azure has there: its prefix and the deployment."""
    if path.startswith("/openai/deployments/"):
        name, _, rest = path.removeprefix("/openai/deployments/").partition("/")
        return "/" + rest, unquote(name)
    return path.removeprefix("/openai").removeprefix("/v1"), None


def _masked(key: str) -> str:
    """As the real service shows a wrong key: never the whole of it."""
    return f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}" if len(key) > 16 else "*" * len(key)
