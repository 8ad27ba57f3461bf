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

from . import damage, embeddings, faults, models
from .calls import Answer, Call, Routes
from .injections import Injection, Queue
from .ledger import Ledger, Seen
from .limits import Limits
from .options import Options
from .replies import Refusal, Reply
from .sending import reset, send

_ENDPOINTS = (embeddings, models)
_MANY_TOKENS = 10_000


class Server:
    """One emulated server: its limits, ledger, faults, and the requests under /v1.

    Azure's paths are known as well: /openai/v1/..., and /openai/deployments/NAME/..., where the
    deployment has the name of a model; and its header, `api-key`.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.ledger = Ledger(deque(maxlen=options.keep_requests))
        self.queue = Queue()
        self._routes = Routes([route for part in _ENDPOINTS for route in part.routes(options)])
        self._limits = Limits(options)
        self._plan = faults.Plan(faults.parse(options.faults), options.seed)
        self._slow = random.Random(f"slow {options.seed}")
        self._hit = random.Random(f"hit {options.seed}")
        self._ids = random.Random(f"ids {options.seed}")

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request under /v1."""
        seen = Seen(request.method, request.raw_path, time.monotonic())
        self.ledger.arrived(seen.at)
        self.ledger.recent.append(seen)
        try:
            return await self._life(request, seen)
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
            answer = self._checked(call)
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
        if fault in faults.DAMAGED:
            reply.body = damage.damaged(reply.body, fault, self._hit)
        # Billed before it is sent: whether it arrives is not for a server to know.
        if answer.inputs:
            self.ledger.bill(answer.scope, answer.inputs, answer.tokens)
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
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            read = request.content_length or self.options.max_body_bytes + 1
            limit = self.options.max_body_bytes
            message = f"Maximum content size limit ({limit}) exceeded ({read} bytes read)"
            raise Refusal(413, message, type="server_error") from error
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

    def _checked(self, call: Call) -> Answer:
        route = self._routes.find(call)
        self._authorise(call)
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
