"""One blocking HTTP call, and the address that it goes to.

The order of a call: `API` (picklable: where the server is, and where its key is) -> `Client` (alive, one for a process)
-> `Client.send(Request)` -> `Response`, or an error of `errors.py`. Nothing is retried here and no redirect followed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import socket
import ssl
import threading
import time
import urllib.parse
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

import requests
import urllib3

from beam_openai import buffers, errors

OPENAI = "https://api.openai.com/v1"
_CONNECT_SECONDS = 10.0
_READ_BYTES = 1 << 18
_LARGEST_BYTES = 1 << 30
Body = bytes | memoryview
_SECRET_HEADERS = {"authorization", "api-key", "x-api-key", "proxy-authorization", "cookie"}


class Secret(Protocol):
    """What Beam's `apache_beam.transforms.util.Secret` does."""

    def get_secret_bytes(self) -> bytes: ...


@dataclasses.dataclass(frozen=True, repr=False)
class API:
    """Where the server is, and where its key is. Holds no key, so it may be printed, pickled and sent to workers.

    Attributes:
      base_url: default the variable OPENAI_BASE_URL, then OpenAI's. A trailing slash is dropped, a query is kept on every
        request; `/v1` is never added by guess.
      key: where the key is: an environment variable's name (capitals), a file (its path, from /, ./, ../ or ~/), or a Beam
        `Secret`. Default the variable OPENAI_API_KEY, if it is set. Looked up on the worker when it starts.
      organization, project: sent as OpenAI-Organization and OpenAI-Project; default OPENAI_ORG_ID, OPENAI_PROJECT_ID.
      api_version: for Azure: sent as `?api-version=`, and the key goes in the header `api-key`.
      headers: further headers, as they are; not for secrets.
      timeout: seconds that one attempt may take, from connecting to the answer's last byte.

    Raises:
      ValueError: something that can never work, or a key where the place of a key belongs (it is not repeated).
    """

    base_url: str | None = None
    key: str | Secret | None = None
    organization: str | None = None
    project: str | None = None
    api_version: str | None = None
    headers: Mapping[str, str] | None = None
    timeout: float = 600.0

    def __post_init__(self) -> None:
        url = self.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
        object.__setattr__(self, "base_url", _checked_url(url))
        object.__setattr__(self, "organization", self.organization or os.environ.get("OPENAI_ORG_ID"))
        object.__setattr__(self, "project", self.project or os.environ.get("OPENAI_PROJECT_ID"))
        if not _is_place(self.key):
            raise ValueError(
                "API(key=...) says where the key is, never the key itself: an environment variable's name in capitals, "
                "a file's path from /, ./, ../ or ~/, or a Beam Secret (the value given is not shown here)"
            )
        for name, value in (self.headers or {}).items():
            _check_header(name, value)
        for name in ("organization", "project"):
            if not _is_header_value(getattr(self, name) or ""):
                raise ValueError(f"API.{name} cannot be sent in a header: {getattr(self, name)!r}")
        if not 0 < self.timeout < float("inf"):
            raise ValueError(f"API.timeout must be more than 0 seconds, not {self.timeout!r}")

    def __repr__(self) -> str:
        # A Secret of the user's own may print what it holds.
        shown = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values = [f"{name}={value!r}" for name, value in shown.items() if value is not None and name != "key"]
        if self.key is not None:
            values.append(f"key={self.key!r}" if isinstance(self.key, str) else f"key=<{type(self.key).__name__}>")
        return f"API({', '.join(values)})"

    def identity(self) -> str:
        """The same for two that mean the same, also when each was unpickled for itself."""
        key = None if isinstance(self.key, str | None) else getattr(self.key, "__dict__", self.key)
        return repr((self, key))

    def url(self, path: str) -> str:
        """The URL of an operation: the base's path + `path`, with the base's query and the API version."""
        parts = urllib.parse.urlsplit(str(self.base_url))
        query = [parts.query] if parts.query else []
        if self.api_version:
            query.append(urllib.parse.urlencode({"api-version": self.api_version}))
        return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + path, "&".join(query), ""))

    def find_key(self) -> str | None:
        """The key, from where it is; None where none is set and none was asked for.

        Raises:
          AuthenticationError: it is not there, or cannot be a key. Names the place, never the value.
        """
        if self.key is None:
            value, place = os.environ.get("OPENAI_API_KEY"), "environment variable OPENAI_API_KEY"
            if not value and not str(self.base_url).startswith(OPENAI):
                return None
        elif not isinstance(self.key, str):
            place = type(self.key).__name__
            try:
                value = self.key.get_secret_bytes().decode("utf-8", "replace")
            except Exception as error:
                raise errors.AuthenticationError(f"no API key: the {place} cannot be read: {error}") from error
        elif _is_variable(self.key):
            value, place = os.environ.get(self.key), f"environment variable {self.key}"
        else:
            value, place = _file_text(self.key), f"file {self.key}"
        value = (value or "").strip()
        if not value:
            raise errors.AuthenticationError(f"no API key: the {place} is not set or is empty on this worker")
        if not value.isascii() or not value.isprintable() or " " in value:
            raise errors.AuthenticationError(
                f"the {place} does not hold an API key: it has spaces or special characters in it"
            )
        return value


def _checked_url(url: str) -> str:
    try:
        parts = urllib.parse.urlsplit(url.strip())
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if "@" in url and not (is_address and "@" not in parts.netloc):
        raise ValueError("base_url must not hold a user name or password: say with key= where the key is")
    if not is_address or re.search(r"\s", url.strip()):
        raise ValueError(f"base_url must be a http:// or https:// address, not {url!r}")
    return urllib.parse.urlunsplit(parts._replace(path=parts.path.rstrip("/"), fragment=""))


def _check_header(name: str, value: str) -> None:
    if name.lower() in _SECRET_HEADERS:
        raise ValueError(
            f"API(headers=...) must not hold {name!r}: it would stand in the job graph. Say with key= where the key is"
        )
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not _is_header_value(value):
        raise ValueError(f"API(headers=...): {name!r} cannot be sent as a header, or its value cannot")


def _is_header_value(value: str) -> bool:
    return isinstance(value, str) and value.isascii() and (value.isprintable() or not value)


def _is_place(key: object) -> bool:
    if isinstance(key, str):
        return _is_variable(key) or _is_file(key)
    return key is None or hasattr(key, "get_secret_bytes")


def _is_variable(key: str) -> bool:
    # Capitals only: a key of some services is a valid name otherwise, and would be printed as one.
    return re.fullmatch(r"[A-Z_][A-Z0-9_]*", key) is not None


def _is_file(key: str) -> bool:
    return key.startswith(("/", "./", "../", "~/"))


def _file_text(path: str) -> str | None:
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


@dataclasses.dataclass(frozen=True)
class Request:
    """One call. `path` begins with a slash and is percent-encoded."""

    path: str
    body: bytes | None = None
    method: str = "POST"
    content_type: str = "application/json"


@dataclasses.dataclass(frozen=True)
class Response:
    """A 2xx answer; `headers` in lower case, `seconds` from sending to the last byte."""

    status: int
    headers: Mapping[str, str]
    body: Body
    seconds: float


class Client:
    """Connections to one `API`, shared by all threads of a process.

    Args:
      api: the address; its key is looked up here.
      connections: kept open at most.
    """

    def __init__(self, api: API, connections: int) -> None:
        self._api = api
        self._key = api.find_key()
        self._url = api.url("")
        self._sockets = _Sockets(api.timeout)
        self._adapter = _Adapter(self._sockets, connections)
        self._headers = self._make_headers()
        # Looking these up in the environment costs a third of a small call: once for a client is enough.
        with requests.Session() as session:
            found = session.merge_environment_settings(self._url, {}, False, None, None)
        self._proxies, self._verify, self._cert = found["proxies"], found["verify"], found["cert"]

    def _make_headers(self) -> dict[str, str]:
        headers = {"User-Agent": "beam-openai", "Accept-Encoding": "gzip, deflate"}
        if self._api.organization:
            headers["OpenAI-Organization"] = self._api.organization
        if self._api.project:
            headers["OpenAI-Project"] = self._api.project
        headers.update(self._api.headers or {})
        if self._key and self._api.api_version:
            headers["api-key"] = self._key
        elif self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers

    def send(self, request: Request, before_body: Callable[[int], None] = lambda length: None) -> Response:
        """Sends once, and reads the whole answer.

        Args:
          request: what to send.
          before_body: called with the body's length in bytes (0 where the server does not say) before it is read; may
            block, so that a process holds no more bodies than it has memory for.

        Raises:
          APIError: of the class that the answer means; no message holds the key.
        """
        where = f"{request.method} {request.path}"
        started = time.monotonic()
        try:
            answer = self._open(request)
            with _closing(answer):
                headers = {name.lower(): value for name, value in answer.headers.items()}
                length = _length(answer)
                before_body(length)
                body = _read(answer, length, started + self._api.timeout)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self.scrubbed(_from_transport(error, where, self._url)) from None
        response = Response(answer.status_code, headers, body, time.monotonic() - started)
        if 300 <= response.status < 400:
            said = f"the server redirects to {_host(headers.get('location', ''))}, which is not followed: set base_url"
            response = dataclasses.replace(response, body=said.encode())
        if response.status >= 300:
            raise self.error_in(response, request)
        return response

    def error_in(self, response: Response, request: Request) -> errors.APIError:
        """The error that an answer's body holds; also a 2xx answer's."""
        # Scrubbed before it is cut to length too: half a key would not be found.
        body, where = self._scrub(bytes(response.body)), f"{request.method} {request.path}"
        return self.scrubbed(errors.from_response(response.status, response.headers, body, where))

    def close(self) -> None:
        """Closes all connections for good; calls under way end at once with an error, and no other begins."""
        self._sockets.shut()
        self._adapter.close()

    def _open(self, request: Request) -> requests.Response:
        # A prepared request made by hand: Session.request() would cost as much again as the rest of a small call.
        prepared = requests.PreparedRequest()
        prepared.method, prepared.url, prepared.body = (
            request.method,
            self._api.url(request.path),
            request.body,
        )
        prepared.hooks = {}
        prepared.headers = requests.structures.CaseInsensitiveDict(self._headers)
        if request.body is not None:
            prepared.headers["Content-Type"] = request.content_type
            prepared.headers["Content-Length"] = str(len(request.body))
        timeout = urllib3.Timeout(connect=min(_CONNECT_SECONDS, self._api.timeout), total=self._api.timeout)
        return self._adapter.send(
            prepared,
            stream=True,
            timeout=timeout,  # type: ignore[arg-type]  # requests takes urllib3's too, its stubs do not say so
            verify=self._verify if self._verify is not None else True,
            cert=self._cert,
            proxies=self._proxies,
        )

    def scrubbed(self, error: errors.APIError) -> errors.APIError:
        """The same error, the key taken out of what the server or a library echoed."""
        error.args = tuple(self._scrub(value) for value in error.args)
        error.headers = {name: self._scrub(value) for name, value in error.headers.items()}
        for name in ("code", "type", "param", "detail", "request_id", "raw"):
            setattr(error, name, self._scrub(getattr(error, name)))
        return error

    def _scrub(self, value: Any) -> Any:
        for form in _forms(self._key):
            if isinstance(value, str):
                value = value.replace(form, "***")
            elif isinstance(value, bytes):
                value = value.replace(form.encode(), b"***")
        return value


def _forms(key: str | None) -> set[str]:
    """The key as it may be echoed: as it is, and as JSON writes it, with slashes escaped or not."""
    if not key:
        return set()
    quoted = json.dumps(key)[1:-1]
    return {key, quoted, quoted.replace("/", "\\/")}


def _host(location: str) -> str:
    with contextlib.suppress(ValueError):
        return urllib.parse.urlsplit(location).hostname or "elsewhere"
    return "elsewhere"


def _length(answer: requests.Response) -> int:
    """The body's length in bytes; 0 where the server does not say, or not sanely."""
    # What `raw` makes of the header, which may be no number, or stand beside chunks.
    length = answer.raw.length_remaining or 0
    return length if length <= _LARGEST_BYTES else 0


def _read(answer: requests.Response, length: int, deadline: float) -> Body:
    """The whole body, decompressed."""
    # `raw` and not `iter_content`: that one costs four times as much for a body of 16 MB.
    chunks = _chunks(answer, deadline)
    if length < _READ_BYTES or "content-encoding" in answer.headers:
        return b"".join(chunks)
    room, body = buffers.lease(length)
    filled = 0
    for chunk in chunks:
        room[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return memoryview(body)[:filled]


def _chunks(answer: requests.Response, deadline: float) -> Iterator[bytes]:
    while True:
        # None once the last byte was read: then the connection may already serve another thread.
        connection = answer.raw.connection
        left = deadline - time.monotonic()
        if connection is not None and left <= 0:
            raise requests.ReadTimeout("the answer is still not complete")
        if isinstance(connection, _Remembered):
            connection.wait_at_most(left)
        chunk = answer.raw.read1(_READ_BYTES, decode_content=True)
        if not chunk:
            return
        yield chunk


class _Adapter(requests.adapters.HTTPAdapter):
    """Requests' transport, its connections known to `sockets`, also those through a proxy."""

    def __init__(self, sockets: _Sockets, connections: int) -> None:
        self._sockets = sockets
        super().__init__(pool_connections=1, pool_maxsize=connections)
        self.poolmanager.pool_classes_by_scheme = sockets.pools

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = self._sockets.pools
        return manager


class _Remembered:
    """What is added to a connection of urllib3."""

    _sockets: ClassVar[_Sockets]
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


class _Sockets:
    """Every socket that is open, so that a blocked call can be ended: urllib3 knows only the idle ones."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._shut = False
        sockets = self

        def remember(kind: Any) -> Any:
            class Remembered(_Remembered, kind):
                _sockets = sockets

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


class _closing:
    """Gives the connection back after a whole body, and closes it after anything else."""

    def __init__(self, answer: requests.Response) -> None:
        self._answer = answer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind:
            self._answer.raw.close()
        self._answer.raw.release_conn()


def _from_transport(error: Exception, where: str, url: str) -> errors.APIError:
    parts = urllib.parse.urlsplit(url)
    cause = _innermost(error)
    host, text = parts.netloc, _words(cause)
    timeouts = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    if isinstance(error, (requests.exceptions.SSLError, ssl.SSLError)) and "CERTIFICATE" in text:
        return errors.ConfigurationError(f"{where}: the certificate of {host} is not valid: {text}")
    unusable = (
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        requests.exceptions.MissingSchema,
        urllib3.exceptions.LocationValueError,
    )
    if isinstance(error, unusable):
        return errors.ConfigurationError(f"{where}: {host} cannot be called: {text}")
    unconnected = (requests.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError)
    connecting = isinstance(error, unconnected) or isinstance(cause, urllib3.exceptions.NewConnectionError)
    late = isinstance(error, timeouts) or isinstance(cause, TimeoutError)
    kind = errors.APITimeoutError if late else errors.APIConnectionError
    made = kind(f"{where}: no answer from {host}: {text}")
    made.reached = not connecting
    return made


def _innermost(error: BaseException) -> BaseException:
    """The cause at the bottom: requests wraps urllib3's error, which wraps the socket's."""
    for inner in (getattr(error, "reason", None), *getattr(error, "args", ())):
        if isinstance(inner, BaseException):
            return _innermost(inner)
    return error


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(": ", 1)[1] if text.startswith(("<", "HTTP")) and ": " in text else text
