"""What stands beside /v1 for tests and people: the ledger, recent requests, injections.

| request | answer or effect |
|---|---|
| GET /ledger | the ledger's totals, as JSON |
| POST /emulator/billed | `{"inputs": [...], "model": null}` -> `{"billed": [times, ...]}` |
| GET /emulator/requests?last=100 | recent requests as they arrived, oldest first |
| POST /emulator/inject | `{"answer": {...}, "times": 1}`: see `injections.injection` |
| POST /emulator/clock | `{"forward": seconds}`: the time of day of life cycles goes forward |
| POST /emulator/clear | forgets ledger, recent requests and injections |
| GET /files/images/... | an image that was drawn: see `media.downloads` |
"""

from __future__ import annotations

from urllib.parse import parse_qs

import msgspec
from aiohttp import web

from .injections import injection
from .media.downloads import download
from .media.pictures import FOLDER
from .replies import Reply, reply_json
from .server import Server


async def control(server: Server, request: web.BaseRequest) -> web.StreamResponse:
    """Answers one request outside /v1."""
    if request.raw_path.startswith(FOLDER):
        return await download(server, request)
    try:
        reply = _reply(server, request, await request.read())
    except (ValueError, KeyError, TypeError) as error:
        reply = reply_json({"error": str(error)}, 400)
    return web.Response(status=reply.status, body=reply.body, content_type=reply.content_type)


def _reply(server: Server, request: web.BaseRequest, body: bytes) -> Reply:
    path, _, query = request.raw_path.partition("?")
    ledger = server.ledger
    if path == "/ledger":
        return reply_json(ledger.totals())
    if path == "/emulator/billed":
        asked = msgspec.json.decode(body)
        inputs = [tuple(item) if isinstance(item, list) else item for item in asked["inputs"]]
        return reply_json({"billed": ledger.billed(inputs, asked.get("model"))})
    if path == "/emulator/requests":
        last = int(parse_qs(query).get("last", ["100"])[0])
        recent = list(ledger.recent)[-last:] if last > 0 else []
        return reply_json([seen.shown() for seen in recent])
    if path == "/emulator/inject":
        asked = msgspec.json.decode(body)
        for _ in range(asked.get("times", 1)):
            server.queue.waiting.append(injection(asked["answer"]))
        return reply_json({"waiting": len(server.queue.waiting)})
    if path == "/emulator/clock":
        server.state.clock.turn(float(msgspec.json.decode(body)["forward"]))
        return reply_json({"now": server.state.clock.now()})
    if path == "/emulator/clear":
        ledger.clear()
        server.queue.waiting.clear()
        return reply_json({})
    return reply_json({"error": f"nothing at {path}: the API is under /v1"}, 404)
