"""A reply onto the wire: as it should be, or broken as a fault says."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import AsyncIterator

from aiohttp import web

from .replies import Cut, Reply

_DRIPS = 20


async def send(request: web.BaseRequest, reply: Reply, fault: str | None, drip_seconds: float) -> web.StreamResponse:
    """Sends `reply`; `fault` is one of `faults.BROKEN`, or None."""
    if reply.stream is not None:
        return await _send_stream(request, reply, reply.stream, fault)
    if fault == "gzip":
        reply.body = gzip.compress(reply.body, compresslevel=1)
        reply.headers["content-encoding"] = "gzip"
    elif fault is not None:
        return await _send_broken(request, reply, fault, drip_seconds)
    response = web.Response(status=reply.status, body=reply.body, headers=reply.headers)
    response.headers["content-type"] = reply.content_type
    return response


async def _send_stream(
    request: web.BaseRequest, reply: Reply, pieces: AsyncIterator[bytes], fault: str | None
) -> web.StreamResponse:
    """Sends a stream as its pieces come; one that is to break does so after the second."""
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.headers["content-type"] = reply.content_type
    response.enable_chunked_encoding()
    await response.prepare(request)
    sent = 0
    try:
        async for piece in pieces:
            await response.write(piece)
            sent += 1
            if fault in ("reset_after", "short_body") and sent == 2:
                reset(request)
                break
    except Cut:
        if request.transport is not None:
            request.transport.close()
    return response


def gone(request: web.BaseRequest) -> bool:
    """Whether nobody waits for the answer any more."""
    return request.transport is None or request.transport.is_closing()


def reset(request: web.BaseRequest) -> web.StreamResponse:
    """Resets the connection: what was sent before may be lost on its way."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        # To linger for zero seconds means RST where a close would be a polite FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def _send_broken(request: web.BaseRequest, reply: Reply, fault: str, drip_seconds: float) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.headers["content-type"] = reply.content_type
    response.content_length = len(reply.body)
    await response.prepare(request)
    if fault == "slow_body":
        size = max(1, -(-len(reply.body) // _DRIPS))
        for at in range(0, len(reply.body), size):
            await asyncio.sleep(drip_seconds / _DRIPS)
            await response.write(reply.body[at : at + size])
        return response
    await response.write(reply.body[: len(reply.body) // 2])
    if fault == "reset_after":
        reset(request)
    elif request.transport is not None:
        request.transport.close()
    return response
