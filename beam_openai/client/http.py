"""One blocking HTTP call."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests
import urllib3

from beam_openai import buffers, errors
from beam_openai.client.api import API
from beam_openai.client.sockets import Adapter, Connection, Sockets

_CONNECT_SECONDS = 10.0
_READ_BYTES = 1 << 18
_LARGEST_BYTES = 1 << 30
_UNTOLD_BYTES = 256 << 20
Body = bytes | memoryview


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
        self._sockets = Sockets(api.timeout)
        self._adapter = Adapter(self._sockets, connections)
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
        body, where = self.scrub(bytes(response.body)), f"{request.method} {request.path}"
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
        error.args = tuple(self.scrub(value) for value in error.args)
        error.headers = {name: self.scrub(value) for name, value in error.headers.items()}
        for name in ("code", "type", "param", "detail", "request_id", "raw"):
            setattr(error, name, self.scrub(getattr(error, name)))
        return error

    def scrub(self, value: Any) -> Any:
        """Text or bytes without the key."""
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
        return b"".join(_bounded(chunks))
    room, body = buffers.lease(length)
    filled = 0
    for chunk in chunks:
        room[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return memoryview(body)[:filled]


def _bounded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        yield chunk
        size += len(chunk)
        if size > _UNTOLD_BYTES:
            raise errors.BadAnswerError(f"an answer of more than {_UNTOLD_BYTES >> 20} MB that did not say its length")


def _chunks(answer: requests.Response, deadline: float) -> Iterator[bytes]:
    while True:
        # None once the last byte was read: then the connection may already serve another thread.
        connection = answer.raw.connection
        left = deadline - time.monotonic()
        if connection is not None and left <= 0:
            raise requests.ReadTimeout("the answer is still not complete")
        if isinstance(connection, Connection):
            connection.wait_at_most(left)
        chunk = answer.raw.read1(_READ_BYTES, decode_content=True)
        if not chunk:
            return
        yield chunk


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
