"""Every connection of a client, so that a call which is blocked in one can be ended."""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import Any, ClassVar

import requests
import urllib3


class Adapter(requests.adapters.HTTPAdapter):
    """Requests' transport, its connections known to `sockets`, also those through a proxy."""

    def __init__(self, sockets: Sockets, connections: int) -> None:
        self._sockets = sockets
        super().__init__(pool_connections=1, pool_maxsize=connections)
        self.poolmanager.pool_classes_by_scheme = sockets.pools

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = self._sockets.pools
        return manager


class Connection:
    """What is added to a connection of urllib3."""

    _sockets: ClassVar[Sockets]
    _socket: socket.socket | None = None
    sock: socket.socket | None

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self._socket = self.sock  # http.client forgets it before the body is read, if the server will close
        self._sockets.add(self._socket)
        self.wait_at_most(self._sockets.timeout)  # urllib3 would have a large body sent within the time to connect

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self.wait_at_most(self._sockets.timeout)  # not what was left to the answer before
        super().request(*args, **kwargs)  # type: ignore[misc]

    def wait_at_most(self, seconds: float) -> None:
        if self._socket is not None:
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
