"""One blocking HTTP call."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
import urllib.parse
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any

import msgspec
import urllib3

from beam_openai import errors
from beam_openai.client.api import API
from beam_openai.client.elsewhere import Elsewhere
from beam_openai.client.failures import FAILURES, from_transport
from beam_openai.client.multipart import Form
from beam_openai.client.reading import bounded, chunks, closing, headers_of, length_of, read
from beam_openai.client.request import Request, Response, Stream
from beam_openai.client.routes import Routes
from beam_openai.client.sockets import Sockets

_CONNECT_SECONDS = 10.0
_LARGEST_ERROR_BYTES = 16 << 20


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
        self._routes = Routes(self._sockets, connections)
        # Looked up once: it would be a third of a small call.
        self._route = self._routes.to(self._url)
        self._headers = self._make_headers()
        self._headers_of_bodies = _without(self._headers, "content-type", "content-length")
        connect, whole = min(_CONNECT_SECONDS, api.timeout), api.timeout
        self._limits = urllib3.Timeout(connect=connect, total=whole)
        self._limits_of_streams = urllib3.Timeout(connect=connect, read=whole)
        self._elsewhere = Elsewhere(self._sockets, api.timeout)

    def _make_headers(self) -> dict[str, str]:
        headers = {"User-Agent": "beam-openai", "Accept-Encoding": "gzip, deflate"}
        if self._api.organization:
            headers["OpenAI-Organization"] = self._api.organization
        if self._api.project:
            headers["OpenAI-Project"] = self._api.project
        own = self._api.headers or {}
        headers = {**_without(headers, *own), **own}
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
        started, answer = time.monotonic(), None
        try:
            answer = self._open(request)
            with closing(answer):
                length = length_of(answer)
                headed = time.monotonic()
                before_body(length)
                now = time.monotonic()
                # What was streamed may have taken any time to send; and while we stand still, the server need not wait.
                is_streamed = isinstance(request.body, Form) and request.body.is_streamed
                body = read(answer, length, (now if is_streamed else started + now - headed) + self._api.timeout)
        except FAILURES as error:
            raise self._failure(error, request, answer is not None) from None
        response = Response(answer.status, headers_of(answer), body, time.monotonic() - started)
        if response.status >= 300:
            raise self._refusal(response, request)
        return response

    @contextlib.contextmanager
    def stream(self, request: Request) -> Iterator[Stream]:
        """Sends once, and gives the answer's body as it comes: for downloads, and for events.

        `API.timeout` is how long each piece may take, not the whole. What is not read to its end is given up, with its
        connection.

        Raises:
          APIError: as `send` does; also while the pieces are read.
        """
        started = time.monotonic()
        try:
            answer = self._open(request)
        except FAILURES as error:
            raise self._failure(error, request, is_answered=False) from None
        headers, pieces = headers_of(answer), self._pieces(answer, request)
        try:
            if answer.status >= 300:
                body = b"".join(bounded(pieces, _LARGEST_ERROR_BYTES))
                raise self._refusal(Response(answer.status, headers, body, time.monotonic() - started), request)
            yield Stream(answer.status, headers, pieces)
        finally:
            pieces.close()
            # Nothing is left of it where all was read: its connection is back by then.
            answer.close()

    def _pieces(self, answer: urllib3.BaseHTTPResponse, request: Request) -> Generator[bytes, None, None]:
        try:
            yield from chunks(answer, math.inf, self._api.timeout)
            answer.release_conn()
        except FAILURES as error:
            raise self._failure(error, request, is_answered=True) from None

    def fetch(self, url: str, most: int = 256 << 20) -> Response:
        """GETs what a server handed out the address of: an image, say. No header tells who asks, and the key least of all.

        Redirects are followed within a scheme, from https to https; `most` is what the body may have, in bytes.

        Raises:
          APIError: as `send` does, but nothing that a host elsewhere refuses stops a job. No message holds the address's
            query, which may be a pass to what it names.
        """
        return self._elsewhere.fetch(url, most)

    def _refusal(self, response: Response, request: Request) -> errors.APIError:
        if response.status < 400:
            to = _host(response.headers.get("location", ""))
            said = f"the server redirects to {to}, which is not followed: set base_url"
            response = dataclasses.replace(response, body=said.encode())
        return self.error_in(response, request)

    def error_in(self, response: Response, request: Request) -> errors.APIError:
        """The error that an answer's body holds; also a 2xx answer's."""
        # Scrubbed before it is cut to length too: half a key would not be found.
        body, where = self.scrub(bytes(response.body)), f"{request.method} {request.path}"
        return self.scrubbed(errors.from_response(response.status, response.headers, body, where))

    def close(self) -> None:
        """Closes all connections for good; calls under way end at once with an error, and no other begins."""
        self._sockets.shut()
        self._routes.close()
        self._elsewhere.close()

    def _open(self, request: Request) -> urllib3.BaseHTTPResponse:
        url, limits = self._api.url(request.path, request.query), self._limits
        if request.body is None:
            return self._route.send(request.method, url, self._headers, limits)
        body: bytes | memoryview | Iterable[bytes | memoryview]
        if isinstance(request.body, Form):
            content_type, length, body = request.body.encode()
            if request.body.is_streamed:
                limits = self._limits_of_streams
        else:
            body = msgspec.json.encode(request.body) if isinstance(request.body, Mapping) else request.body
            content_type, length = request.content_type, len(body)
        headers = {**self._headers_of_bodies, "Content-Type": content_type, "Content-Length": str(length)}
        return self._route.send(request.method, url, headers, limits, body)

    def _failure(self, error: Exception, request: Request, is_answered: bool) -> errors.APIError:
        where = f"{request.method} {request.path}"
        return self.scrubbed(from_transport(error, where, self._url, is_answered))

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


def _without(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    """The headers but those of these names, in whichever case."""
    gone = {name.lower() for name in names}
    return {name: value for name, value in headers.items() if name.lower() not in gone}


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
