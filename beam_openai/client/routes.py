"""The way to a host: through a proxy or not, and whose certificates are trusted."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

import requests
import urllib3

from beam_openai import errors
from beam_openai.client.sockets import Sockets

_ONCE = urllib3.Retry(False)


class Routes(requests.adapters.HTTPAdapter):
    """Finds routes as requests does: by the same variables of the environment, with the same defaults.

    Only that is left to requests. What it would add to every call is a fifth of a small one, and nothing that is used.

    Args:
      sockets: where all connections are known, also those through a proxy.
      connections: kept open at most, to each host.
      hosts: to how many.
    """

    def __init__(self, sockets: Sockets, connections: int, hosts: int = 1) -> None:
        self._sockets = sockets
        super().__init__(pool_connections=hosts, pool_maxsize=connections)
        self.poolmanager.pool_classes_by_scheme = sockets.pools

    def to(self, url: str) -> Route:
        """The route to the host of `url`.

        Raises:
          ConfigurationError: the environment names a proxy or certificates that cannot be used.
        """
        with requests.Session() as session:
            found = session.merge_environment_settings(url, {}, False, None, None)
        asked = requests.PreparedRequest()
        asked.url = url
        try:
            pool: Any = self.get_connection_with_tls_context(asked, found["verify"], found["proxies"], found["cert"])
            self.cert_verify(pool, url, found["verify"], found["cert"])  # type: ignore[no-untyped-call]
        except (urllib3.exceptions.HTTPError, OSError, TypeError, ValueError) as error:
            host, text = urllib.parse.urlsplit(url).netloc, re.sub(r"\S*@", "***@", str(error))
            raise errors.ConfigurationError(
                f"{host} cannot be called with the proxy or the certificates that the environment names: {text}"
            ) from None
        return Route(pool, is_forwarded=not self.request_url(asked, found["proxies"]).startswith("/"))

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = self._sockets.pools
        return manager

    def close(self) -> None:
        """Closes what is idle now, not when the pools are collected, as urllib3 would."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118 - no iteration but this is allowed
                manager.pools[key].close()
        super().close()


class Route:
    """Connections to one host.

    Args:
      pool: of them.
      is_forwarded: whether they lead to a proxy that reads each request, and is to be told the whole URL.
    """

    def __init__(self, pool: urllib3.HTTPConnectionPool, is_forwarded: bool) -> None:
        self._pool = pool
        self._is_forwarded = is_forwarded

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        timeout: urllib3.Timeout,
        body: bytes | memoryview | Iterable[bytes | memoryview] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Sends once, and reads the head of the answer. No redirect is followed, and no cookie kept.

        Args:
          url: of this host, with a path.
          headers: with the body's length, if there is one.

        Raises:
          HTTPError, OSError: as `failures.from_transport` takes them.
        """
        return self._pool.urlopen(
            method,
            url if self._is_forwarded else url[url.index("/", len("https://")) :],
            body,  # type: ignore[arg-type]  # it takes pieces that are memoryviews, its hints do not say so
            headers,
            _ONCE,
            timeout=timeout,
            redirect=False,
            assert_same_host=False,  # a proxy's pool is of the proxy
            preload_content=False,
        )
