"""GETs from hosts that are not the API's, and that are not to know who asks."""

from __future__ import annotations

import time
import urllib.parse

import requests
import urllib3

from beam_openai import errors
from beam_openai.client.failures import FAILURES, from_transport
from beam_openai.client.reading import bounded, chunks, closing, headers_of
from beam_openai.client.request import Response
from beam_openai.client.routes import Routes
from beam_openai.client.sockets import Sockets

_CONNECT_SECONDS = 10.0
_REDIRECTS = 5
_HEADERS = {"User-Agent": "beam-openai", "Accept-Encoding": "gzip, deflate"}


class Elsewhere:
    """Connections to any host.

    Args:
      sockets: where they are known, so that a call under way can be ended.
      timeout: seconds for one fetch, redirects included.
    """

    def __init__(self, sockets: Sockets, timeout: float) -> None:
        self._routes = Routes(sockets, connections=16, hosts=4)
        self._timeout = timeout

    def close(self) -> None:
        self._routes.close()

    def fetch(self, url: str, most: int) -> Response:
        """See `Client.fetch`."""
        started = time.monotonic()
        try:
            response = self._follow(url, most, started + self._timeout)
        except errors.APIError as error:
            if error.action != "wait":
                error.action = "fail"
            raise
        return Response(response.status, response.headers, response.body, time.monotonic() - started)

    def _follow(self, url: str, most: int, deadline: float) -> Response:
        for _ in range(_REDIRECTS + 1):
            response = self._get(url, most, deadline)
            if response.status < 300:
                return response
            if response.status >= 400 or "location" not in response.headers:
                raise _refusal(response, url)
            url = _next(url, response.headers["location"])
        raise errors.APIError(f"GET {_shown(url)}: this is redirect number {_REDIRECTS + 1}, and is not followed")

    def _get(self, url: str, most: int, deadline: float) -> Response:
        asked, answer = _prepared(url), None
        left = max(0.001, deadline - time.monotonic())
        limits = urllib3.Timeout(connect=min(_CONNECT_SECONDS, left), total=left)
        try:
            answer = self._routes.to(asked).send("GET", asked, _HEADERS, limits)
            with closing(answer):
                body = b"".join(bounded(chunks(answer, deadline), most))
        except FAILURES as error:
            failure = from_transport(error, f"GET {_shown(url)}", _shown(url), answer is not None)
            raise _without_query(failure, url) from None
        return Response(answer.status, headers_of(answer), body, 0.0)


def _prepared(url: str) -> str:
    """The same address, its host and path written as they are sent."""
    try:
        parts = urllib.parse.urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        asked = requests.PreparedRequest()
        asked.prepare_url(url, None)
    except (ValueError, requests.RequestException):
        is_address = False
    if not is_address or "@" in parts.netloc:
        raise errors.ConfigurationError(
            f"GET {_shown(url)}: it is no http:// or https:// address, or has a password in it"
        )
    return str(asked.url)


def _next(url: str, location: str) -> str:
    try:
        there = urllib.parse.urljoin(url, location)
        is_same = urllib.parse.urlsplit(there).scheme == urllib.parse.urlsplit(url).scheme
    except ValueError:
        is_same, there = False, ""
    if not is_same:
        raise errors.APIError(f"GET {_shown(url)}: it redirects to {_shown(there)}, which is not followed")
    return there


def _refusal(response: Response, url: str) -> errors.APIError:
    """The error that the answer means, without the advice to check key and model: neither was sent."""
    where = f"GET {_shown(url)}"
    error = errors.from_response(response.status, response.headers, bytes(response.body), where)
    error.args = (f"{where}: {response.status} {error.detail or 'no message'}",)
    return _without_query(error, url)


def _shown(url: str) -> str:
    """The address without its query, which may be a pass to what it names, and without a password."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return "an address that is none"
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _without_query(error: errors.APIError, url: str) -> errors.APIError:
    """The same error, what a library or the host repeats of the query taken out."""
    query = url.partition("?")[2]
    if query:
        error.args = tuple(str(value).replace(query, "***") for value in error.args)
        error.detail = error.detail.replace(query, "***")
    return error
