"""One blocking HTTP call, and the address that it goes to.

The order of a call: `API` (picklable: where the server is, and where its key is) -> `Client` (alive, one for a process)
-> `Client.send(Request)` -> `Response`, or an error of `errors.py`. Nothing is retried here and no redirect followed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import socket
import ssl
import time
import urllib.parse
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import requests
import urllib3

from beam_openai import buffers, errors

OPENAI = "https://api.openai.com/v1"
_CONNECT_SECONDS = 10.0
_READ_BYTES = 1 << 18
Body = bytes | memoryview
_SECRET_HEADERS = {"authorization", "api-key", "x-api-key", "proxy-authorization", "cookie"}


class Secret(Protocol):
    """What Beam's `apache_beam.transforms.util.Secret` does."""

    def get_secret_bytes(self) -> bytes: ...


@dataclasses.dataclass(frozen=True)
class API:
    """Where the server is, and where its key is. Holds no key, so it may be printed, pickled and sent to workers.

    Attributes:
      base_url: default the variable OPENAI_BASE_URL, then OpenAI's. A trailing slash is dropped, a query is kept on every
        request; `/v1` is never added by guess.
      key: where the key is: an environment variable's name (capitals), a file (a path with a slash), or a Beam `Secret`.
        Default the variable OPENAI_API_KEY, if it is set. Looked up on the worker when it starts.
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
        if isinstance(self.key, str) and not (_is_variable(self.key) or _is_file(self.key)):
            raise ValueError(
                "API(key=...) says where the key is, never the key itself: an environment variable's name in capitals, "
                "a file's path with a slash in it, or a Beam Secret (the value given is not shown here)"
            )
        for name in self.headers or {}:
            if name.lower() in _SECRET_HEADERS:
                raise ValueError(
                    f"API(headers=...) must not hold {name!r}: it would stand in the job graph. "
                    "Say with key= where the key is"
                )
        if not self.timeout > 0:
            raise ValueError(f"API.timeout must be more than 0 seconds, not {self.timeout!r}")

    def identity(self) -> str:
        """The same for two that mean the same, also when each was unpickled for itself."""
        key = self.key if isinstance(self.key, str | None) else vars(self.key)
        return repr((dataclasses.replace(self, key=None), key))

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
            value, place = self.key.get_secret_bytes().decode("utf-8", "replace"), "Secret"
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
        port_and_host = (parts.port, parts.hostname)
    except ValueError:
        port_and_host = (None, None)
        parts = urllib.parse.urlsplit("")
    if parts.scheme not in ("http", "https") or not port_and_host[1]:
        raise ValueError(f"base_url must be a http:// or https:// address, not {url!r}")
    if "@" in parts.netloc:
        raise ValueError("base_url must not hold a user name or password: say with key= where the key is")
    return urllib.parse.urlunsplit(parts._replace(path=parts.path.rstrip("/"), fragment=""))


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
        self._sockets = _Sockets()
        self._adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=connections)
        self._adapter.poolmanager.pool_classes_by_scheme = self._sockets.pools
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
                length = int(headers.get("content-length") or 0)
                before_body(length)
                body = _read(answer, length, started + self._api.timeout)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._scrubbed(_from_transport(error, where, self._url)) from None
        if answer.status_code >= 300:
            if 300 <= answer.status_code < 400:
                host = urllib.parse.urlsplit(headers.get("location", "")).netloc or "elsewhere"
                body = f"the server redirects to {host}, which is not followed: set base_url".encode()
            raise self._scrubbed(errors.from_response(answer.status_code, headers, bytes(body), where))
        return Response(answer.status_code, headers, body, time.monotonic() - started)

    def error_in(self, response: Response, request: Request) -> errors.APIError:
        """The error that a 2xx answer's body holds."""
        where = f"{request.method} {request.path}"
        return self._scrubbed(errors.from_response(response.status, response.headers, bytes(response.body), where))

    def close(self) -> None:
        """Closes all connections; calls under way end at once with an error."""
        self._adapter.close()
        self._sockets.shut()

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
        timeout = (min(_CONNECT_SECONDS, self._api.timeout), self._api.timeout)
        return self._adapter.send(
            prepared,
            stream=True,
            timeout=timeout,
            verify=self._verify if self._verify is not None else True,
            cert=self._cert,
            proxies=self._proxies,
        )

    def _scrubbed(self, error: errors.APIError) -> errors.APIError:
        """Takes the key out of what the server or a library echoed."""
        if not self._key:
            return error

        def scrub(value: Any) -> Any:
            if isinstance(value, str):
                return value.replace(str(self._key), "***")
            if isinstance(value, bytes):
                return value.replace(str(self._key).encode(), b"***")
            return value

        error.args = tuple(scrub(value) for value in error.args)
        error.headers = {name: scrub(value) for name, value in error.headers.items()}
        for name in ("code", "type", "param", "detail", "request_id", "raw"):
            setattr(error, name, scrub(getattr(error, name)))
        return error


def _read(answer: requests.Response, length: int, deadline: float) -> Body:
    """The whole body, decompressed."""
    # `raw` and not `iter_content`: that one costs four times as much for a body of 16 MB.
    chunks = iter(lambda: answer.raw.read1(_READ_BYTES, decode_content=True), b"")
    if length < _READ_BYTES or "content-encoding" in answer.headers:
        return b"".join(_until(deadline, chunks))
    room, body = buffers.lease(length)
    filled = 0
    for chunk in _until(deadline, chunks):
        room[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return memoryview(body)[:filled]


def _until(deadline: float, chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        if time.monotonic() > deadline:
            raise requests.ReadTimeout("the answer is still not complete")


class _Sockets:
    """Every connection that is open, so that a blocked call can be ended: urllib3 knows only the idle ones."""

    def __init__(self) -> None:
        connections: weakref.WeakSet[urllib3.connection.HTTPConnection] = weakref.WeakSet()
        self._connections = connections

        def remember(kind: Any) -> Any:
            class Remembered(kind):
                def connect(self) -> None:
                    super().connect()
                    connections.add(self)

            return Remembered

        class HTTPPool(urllib3.HTTPConnectionPool):
            ConnectionCls = remember(urllib3.HTTPConnectionPool.ConnectionCls)

        class HTTPSPool(urllib3.HTTPSConnectionPool):
            ConnectionCls = remember(urllib3.HTTPSConnectionPool.ConnectionCls)

        self.pools = {"http": HTTPPool, "https": HTTPSPool}

    def shut(self) -> None:
        for connection in list(self._connections):
            if (sock := connection.sock) is not None:
                with contextlib.suppress(OSError):  # it may be closed already
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()


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
    host, text = parts.netloc, _innermost(error)
    timeouts = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    if isinstance(error, (requests.exceptions.SSLError, ssl.SSLError)) and "CERTIFICATE" in text:
        return errors.ConfigurationError(f"{where}: the certificate of {host} is not valid: {text}")
    unusable = (
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidHeader,
        requests.exceptions.InvalidSchema,
        requests.exceptions.MissingSchema,
    )
    if isinstance(error, unusable):
        return errors.ConfigurationError(f"{where}: {host} cannot be called: {text}")
    connecting = isinstance(error, requests.ConnectTimeout) or any(
        name in str(error) for name in ("NewConnectionError", "NameResolutionError")
    )
    kind = errors.APITimeoutError if isinstance(error, timeouts) else errors.APIConnectionError
    made = kind(f"{where}: no answer from {host}: {text}")
    made.reached = not connecting
    return made


def _innermost(error: BaseException) -> str:
    """The cause at the bottom, in words: requests wraps urllib3's error, which wraps the socket's."""
    for inner in (getattr(error, "reason", None), *getattr(error, "args", ())):
        if isinstance(inner, BaseException):
            return _innermost(inner)
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(": ", 1)[1] if text.startswith(("<urllib3", "HTTPConnection")) and ": " in text else text
