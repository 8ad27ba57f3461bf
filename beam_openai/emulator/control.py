"""What stands beside /v1 for tests and people: the ledger, recent requests, injections.

| request | answer or effect |
|---|---|
| GET /ledger | the ledger's totals, as JSON |
| POST /emulator/billed | `{"inputs": [...], "model": null}` -> `{"billed": [times, ...]}` |
| GET /emulator/requests?last=100 | recent requests as they arrived, oldest first |
| POST /emulator/inject | `{"answer": {...}, "times": 1}`: see `injections.injection` |
| POST /emulator/clock | `{"forward": seconds}`: the time of day of life cycles goes forward |
| POST /emulator/options | `{"rpm": 60, "tenant_share": 0.5}`: other options from now on; all that can be, as they are |
| GET /emulator/traffic | what was admitted and refused, by model and client: see `traffic.Traffic.totals` |
| GET /emulator/decisions | each admitted or refused request |
| GET /emulator/seconds | the same, in each second |
| GET /emulator/peak?seconds=60 | the most that was admitted in any so many seconds |
| POST /emulator/clear | forgets ledger, recent requests, traffic and injections |
| GET /files/images/... | an image that was drawn: see `media.downloads` |

Decisions, seconds and peak are about one model with `?model=NAME`, one client with `?client=NAME`.
"""

from __future__ import annotations

from urllib.parse import parse_qs, parse_qsl

import msgspec
from aiohttp import web

from .injections import injection
from .media.downloads import download
from .media.pictures import FOLDER
from .options import CHANGEABLE
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
    if path == "/emulator/options":
        server.change(msgspec.json.decode(body) if body else {})
        return reply_json({name: getattr(server.options, name) for name in CHANGEABLE})
    if path == "/emulator/clear":
        ledger.clear()
        server.traffic.clear()
        server.slots.peak_waiting = server.slots.waiting
        server.queue.waiting.clear()
        return reply_json({})
    told = _traffic(server, path, dict(parse_qsl(query, keep_blank_values=True)))
    return told or reply_json({"error": f"nothing at {path}: the API is under /v1"}, 404)


def _traffic(server: Server, path: str, query: dict[str, str]) -> Reply | None:
    traffic, slots = server.traffic, server.slots
    if path == "/emulator/traffic":
        waiting = {"busy": slots.busy, "waiting": slots.waiting, "peak_waiting": slots.peak_waiting}
        return reply_json({**traffic.totals(), **waiting})
    about = {"model": query.get("model"), "client": query.get("client")}
    if path == "/emulator/decisions":
        return reply_json([decision.shown() for decision in traffic.decisions(**about)])
    if path == "/emulator/seconds":
        return reply_json(traffic.seconds(**about))
    if path == "/emulator/peak":
        return reply_json(traffic.peak(float(query.get("seconds", 60)), **about))
    return None
