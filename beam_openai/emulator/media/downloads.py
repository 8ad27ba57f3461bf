"""GET /files/images/...: images are fetched from beside the API, as from a blob store.

It meets no limit, no latency and no planned fault; only what was injected for the path /files/images.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from .. import damage, faults
from ..injections import Injection
from ..sending import reset, send
from ..server import Server
from .pictures import FOLDER, carries_key


async def download(server: Server, request: web.BaseRequest) -> web.StreamResponse:
    """Sends an image, or says why not; a key that came with the request is counted."""
    injected = server.queue.next(FOLDER.rstrip("/"), named=True) or Injection()
    await asyncio.sleep(injected.delay)
    if carries_key(request.headers):
        server.ledger.leaked_keys += 1
    fault = injected.fault
    if fault == "reset":
        return reset(request)
    if fault == "stall":
        await asyncio.sleep(server.options.stall_seconds)
    reply = injected.reply
    if fault in faults.REFUSED:
        reply = damage.refusal(fault, "", server.options.style)
    if reply is None:
        reply = server.state.pictures.fetched(request.raw_path, request.headers)
    return await send(request, reply, fault if fault in faults.BROKEN else None, server.options.drip_seconds)
