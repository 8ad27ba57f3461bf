"""Every connection of a client, so that a call which is blocked in one can be ended."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import weakref
from typing import Any, ClassVar

import urllib3

_SMALL_BYTES = 1 << 16
_INTERIM = 100  # answers before an answer
_SWITCHING_PROTOCOLS = 101


class _Answer(http.client.HTTPResponse):
    """One that may be preceded by interim ones, also by other than 100, which is all that http.client passes over.

    To take a 103 for the answer would leave the real one to whoever has the connection next.
    """

    def _read_status(self) -> tuple[str, int, str]:
        found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        for _ in range(_INTERIM):
            if not _SWITCHING_PROTOCOLS < found[1] < 200:
                break
            while self.fp.readline(_SMALL_BYTES).strip():
                pass
            found = super()._read_status()  # type: ignore[misc]
        if _SWITCHING_PROTOCOLS <= found[1] < 200:
            raise http.client.BadStatusLine(f"status {found[1]}, and no answer behind it")
        return found


class Connection:
    """What is added to a connection of urllib3."""

    _sockets: ClassVar[Sockets]
    response_class = _Answer
    _socket: socket.socket | None = None
    _head: bytes | None = None
    sock: socket.socket | None
    timeout: float | None

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self._socket = self.sock  # http.client forgets it before the body is read, if the server will close
        self._sockets.add(self._socket)
        self.wait_at_most(self._sockets.timeout)  # urllib3 would have a large body sent within the time to connect

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self.timeout = self._sockets.timeout  # the same, of a connection that is there already
        self._head = b""
        try:
            super().request(*args, **kwargs)  # type: ignore[misc]
            if self._head:
                self.send(b"")
        finally:
            self._head = None

    def send(self, data: bytes | memoryview) -> None:
        """Sends, but a request's head only with what comes first of its body: a packet and a system call less."""
        head, self._head = self._head, None
        if head == b"":
            self._head = bytes(data)
        elif head and len(data) < _SMALL_BYTES:
            super().send(head + data)  # type: ignore[misc]
        else:
            if head:
                super().send(head)  # type: ignore[misc]
            super().send(data)  # type: ignore[misc]

    def wait_at_most(self, seconds: float) -> None:
        if self._socket is None:
            return
        # Each setting is a system call, for which the lock of all threads is given up: a hundredth more or less will do.
        if abs((self._socket.gettimeout() or 0.0) - seconds) > seconds / 100:
            with contextlib.suppress(OSError):  # closed meanwhile: who reads it is told
                self._socket.settimeout(seconds)


class Sockets:
    """Every socket that is open, so that a blocked call can be ended: urllib3 knows only the idle ones."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._shut = False
        sockets = self

        def remember(kind: Any) -> Any:
            class Remembered(Connection, kind):
                _sockets = sockets

            Remembered.__name__ = kind.__name__  # which urllib3 begins its messages with

            return Remembered

        class HTTPPool(urllib3.HTTPConnectionPool):
            ConnectionCls = remember(urllib3.HTTPConnectionPool.ConnectionCls)

        class HTTPSPool(urllib3.HTTPSConnectionPool):
            ConnectionCls = remember(urllib3.HTTPSConnectionPool.ConnectionCls)

        self.pools = {"http": HTTPPool, "https": HTTPSPool}

    def add(self, sock: socket.socket | None) -> None:
        with self._lock:
            if self._shut:
                raise ConnectionAbortedError("the client is closed")
            if sock is not None:
                self._open.add(sock)

    def shut(self) -> None:
        with self._lock:
            self._shut = True
            for sock in self._open:
                # Not closed: who is blocked in it wakes up and closes it. Another socket could have its number by then.
                with contextlib.suppress(OSError):  # it may be closed already
                    sock.shutdown(socket.SHUT_RDWR)
