"""Runs an emulator in this process until it is interrupted."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import sys
import threading
from typing import Any

from aiohttp import web

from .control import control
from .options import Options
from .server import Server

LISTENING = "Listening on "


def serve(options: Options, until_stdin_closes: bool = False) -> None:
    """Serves until SIGINT or SIGTERM; prints its URL once it is ready, and its ledger at the end.

    Args:
        options: how it behaves.
        until_stdin_closes: ends, and says nothing, when standard input does or its parent dies.

    Raises:
        OSError: the address cannot be listened on.
    """
    asyncio.run(_serve(options, until_stdin_closes))


async def _serve(options: Options, until_stdin_closes: bool) -> None:
    server = Server(options)
    done = _end(until_stdin_closes)
    runner = web.ServerRunner(_HTTP(server), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, options.host, options.port, backlog=1024)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        number = error.errno or 0
        why = os.strerror(number) if number > 0 else error.strerror
        hint = "; --port 0 takes a free one" if number == errno.EADDRINUSE else ""
        raise OSError(f"cannot listen on {options.host}:{options.port}: {why}{hint}") from error
    port = runner.addresses[0][1]
    print(f"{LISTENING}http://{options.host}:{port}/v1", flush=True)
    gc.freeze()
    await done.wait()
    if not until_stdin_closes:
        print("\n" + server.ledger.summary(), flush=True)
    await runner.cleanup()
    server.state.store.close()


def _end(until_stdin_closes: bool) -> asyncio.Event:
    """An event that is set when it is time to end."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, done.set)
    loop.add_signal_handler(signal.SIGINT, done.set)
    if until_stdin_closes:
        # Ctrl-C reaches the parent too, which may still want an answer while it winds up.
        loop.add_signal_handler(signal.SIGINT, lambda: None)

        def watch() -> None:
            # A read of nothing: whoever held the other end has closed it, or died.
            while os.read(sys.stdin.fileno(), 1024):
                pass
            loop.call_soon_threadsafe(done.set)

        threading.Thread(target=watch, daemon=True).start()
    return done


class _HTTP(web.Server):
    """aiohttp's low-level server, without its router: /v1 goes to one place, the rest to another."""

    def __init__(self, server: Server) -> None:
        super().__init__(
            self._handle,
            request_factory=self._request,
            access_log=None,
            keepalive_timeout=600,
            read_bufsize=2**18,
        )
        self._server = server

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.startswith(("/v1/", "/openai/")):
            return await self._server.handle(request)
        return await control(self._server, request)

    def _request(self, *parts: Any) -> web.BaseRequest:
        message, payload, protocol, writer, task = parts
        return web.BaseRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            asyncio.get_running_loop(),
            client_max_size=self._server.most_bytes(message.method, message.path),
        )

    def connection_made(self, *connection: Any) -> None:
        self._server.ledger.connections += 1
        super().connection_made(*connection)
