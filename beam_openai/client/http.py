"""One blocking HTTP call."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
import urllib.parse
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import msgspec
import requests
import urllib3

from beam_openai import errors
from beam_openai.client.api import API
from beam_openai.client.elsewhere import Elsewhere
from beam_openai.client.failures import FAILURES, from_transport
from beam_openai.client.multipart import Form
from beam_openai.client.reading import bounded, chunks, closing, length_of, read
from beam_openai.client.request import Request, Response, Stream
from beam_openai.client.sockets import Adapter, Sockets

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
        self._adapter = Adapter(self._sockets, connections)
        self._headers = self._make_headers()
        # Looking these up in the environment costs a third of a small call: once for a client is enough.
        with requests.Session() as session:
            found = session.merge_environment_settings(self._url, {}, False, None, None)
        self._proxies, self._verify, self._cert = found["proxies"], found["verify"], found["cert"]
        self._elsewhere = Elsewhere(self._sockets, api.timeout)

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
            with closing(answer):
                headers = {name.lower(): value for name, value in answer.headers.items()}
                length = length_of(answer)
                before_body(length)
                # What was streamed may have taken any time to send.
                began = time.monotonic() if isinstance(request.body, Form) and request.body.is_streamed else started
                body = read(answer, length, began + self._api.timeout)
        except FAILURES as error:
            raise self.scrubbed(from_transport(error, where, self._url)) from None
        response = Response(answer.status_code, headers, body, time.monotonic() - started)
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
        where = f"{request.method} {request.path}"
        started = time.monotonic()
        try:
            answer = self._open(request)
        except FAILURES as error:
            raise self.scrubbed(from_transport(error, where, self._url)) from None
        headers = {name.lower(): value for name, value in answer.headers.items()}
        pieces = self._pieces(answer, where)
        try:
            if answer.status_code >= 300:
                body = b"".join(bounded(pieces, _LARGEST_ERROR_BYTES))
                raise self._refusal(Response(answer.status_code, headers, body, time.monotonic() - started), request)
            yield Stream(answer.status_code, headers, pieces)
        finally:
            pieces.close()
            # Nothing is left of it where all was read: its connection is back by then.
            answer.raw.close()

    def _pieces(self, answer: requests.Response, where: str) -> Generator[bytes, None, None]:
        try:
            yield from chunks(answer, math.inf, self._api.timeout)
            answer.raw.release_conn()
        except FAILURES as error:
            raise self.scrubbed(from_transport(error, where, self._url)) from None

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
        self._adapter.close()
        self._elsewhere.close()

    def _open(self, request: Request) -> requests.Response:
        # A prepared request made by hand: Session.request() would cost as much again as the rest of a small call.
        prepared = requests.PreparedRequest()
        prepared.method, prepared.url = request.method, self._api.url(request.path, request.query)
        prepared.hooks = {}
        prepared.headers = requests.structures.CaseInsensitiveDict(self._headers)
        timeout = self._api.timeout
        limits = urllib3.Timeout(connect=min(_CONNECT_SECONDS, timeout), total=timeout)
        if isinstance(request.body, Form):
            form = request.body.encode()
            prepared.body = form.pieces  # type: ignore[assignment]  # requests takes an iterator, its stubs do not say so
            prepared.headers["Content-Type"] = form.content_type
            prepared.headers["Content-Length"] = str(form.length)
            if request.body.is_streamed:
                limits = urllib3.Timeout(connect=min(_CONNECT_SECONDS, timeout), read=timeout)
        elif request.body is not None:
            body = msgspec.json.encode(request.body) if isinstance(request.body, Mapping) else request.body
            prepared.body = body
            prepared.headers["Content-Type"] = request.content_type
            prepared.headers["Content-Length"] = str(len(body))
        return self._adapter.send(
            prepared,
            stream=True,
            timeout=limits,  # type: ignore[arg-type]  # requests takes urllib3's too, its stubs do not say so
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
