"""A request's body off the wire: at most as many bytes as it may have, in memory once."""

from __future__ import annotations

from aiohttp import web

from .replies import Refusal


async def receive(request: web.BaseRequest) -> bytes | bytearray:
    """The body of `request`.

    Raises:
        Refusal: 413, it has more than `request.client_max_size` bytes; those are not read.
    """
    limit = request.client_max_size
    if (request.content_length or 0) > limit:
        raise _too_large(limit, request.content_length or 0)
    first = await request.content.readany()
    if request.content.at_eof():
        return _within(first, limit)
    # One that grows: a list of pieces, joined, would be all of it twice.
    body = bytearray(first)
    while piece := await request.content.readany():
        body += piece
        _within(body, limit)
    return body


def _within(body: bytes | bytearray, limit: int) -> bytes | bytearray:
    if len(body) > limit:
        raise _too_large(limit, len(body))
    return body


def _too_large(limit: int, read: int) -> Refusal:
    message = f"Maximum content size limit ({limit}) exceeded ({read} bytes read)"
    return Refusal(413, message, type="server_error")
