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
    """Requests' transport, its connections known to `sockets`, also those through a proxy.

    For one host, what is the same for each call is looked up once: that would be a third of a small call.

    Args:
      sockets: where they are known.
      connections: kept open at most, to each host.
      hosts: to how many.
    """

    def __init__(self, sockets: Sockets, connections: int, hosts: int = 1) -> None:
        self._sockets = sockets
        super().__init__(pool_connections=hosts, pool_maxsize=connections)
        self.poolmanager.pool_classes_by_scheme = sockets.pools
        self._is_for_one = hosts == 1
        self._pool: Any = None
        self._is_verified = False

    def get_connection_with_tls_context(self, *call: Any, **options: Any) -> Any:
        if self._pool is not None:
            return self._pool
        pool = super().get_connection_with_tls_context(*call, **options)
        if self._is_for_one:
            self._pool = pool
        return pool

    def cert_verify(self, *call: Any) -> None:
        if self._pool is None or not self._is_verified:
            super().cert_verify(*call)  # type: ignore[no-untyped-call]
            self._is_verified = True

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        # Without what only a session would want of it: cookies, and the encoding.
        response = requests.Response()
        response.status_code, response.headers, response.raw = resp.status, resp.headers, resp
        response.request, response.url = req, str(req.url)
        return response

    def close(self) -> None:
        """Closes what is idle now, not when the pools are collected, as urllib3 would."""
        self._pool = None
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118 - no iteration but this is allowed
                manager.pools[key].close()
        super().close()

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
