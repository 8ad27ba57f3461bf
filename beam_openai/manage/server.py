"""The calls of this package: each tried again as far as that is safe.

What only asks (GET), and DELETE, which twice does what it does once, is tried again as `Retry` says, after the wait that
the server asks for.

**What makes something is never sent twice blindly.** An attempt that was refused (429, or no connection) made nothing,
and is made again. One whose answer was lost (the connection broke after sending, a timeout, 5xx, a 200 with a broken
body) may have been carried out. So before it is sent again, and before it is given up, the server is asked: is there an
object like the one asked for (a file of the same name, size and purpose; a job with the same files, model and options),
made since the call began? Then that is the answer. Two calls for the very same object whose answers are lost at the same
time may be given one object between them; other metadata, or another suffix, tells them apart.
"""

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from beam_openai import errors
from beam_openai.client import API, Client, Request, Response, Stream
from beam_openai.client.reading import bounded
from beam_openai.durations import retry_after
from beam_openai.retry import Retry

Object = dict[str, Any]
"""What the server said, all of it: also fields that nobody here knows."""

T = TypeVar("T")

_LARGEST_BYTES = 256 << 20
_CLOCKS_DIFFER = 60.0
_CONNECTIONS = 8


class Server:
    """An `API` with its connections, and when a call to it is made again.

    Every function of this package takes an `API` or a `Server`. For an API it connects by itself, and retries as `Retry()`
    says; a Server is shared by many calls, and by threads.

    Args:
      api: the address; its key is looked up here.
      retry: for each call; default `Retry()`.
      sleep: waits so many seconds.
      on_wait: told of each error that is waited after, and for how many seconds.

    Attributes:
      ahead: seconds that the server's clock is ahead of this machine's, one less at most; a minute behind, where the server
        does not tell its time.
      made: ids of what was made by calls of this object.

    Raises:
      AuthenticationError: the key is not where it should be.
    """

    def __init__(
        self,
        api: API,
        retry: Retry | None = None,
        sleep: Callable[[float], object] = time.sleep,
        on_wait: Callable[[errors.APIError, float], object] = lambda error, seconds: None,
    ) -> None:
        self._api, self._retry, self._on_wait = api, retry or Retry(), on_wait
        self.sleep = sleep
        self.ahead = -_CLOCKS_DIFFER
        self.made: set[str] = set()
        self._client = Client(api, _CONNECTIONS)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections for good; calls under way in other threads end with an error."""
        self._client.close()

    def another(
        self,
        *,
        sleep: Callable[[float], object] | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
    ) -> Server:
        """One like it, with connections of its own; `timeout` is in seconds, as `API` has it."""
        api = self._api if timeout is None else dataclasses.replace(self._api, timeout=timeout)
        return Server(api, retry or self._retry, sleep or self.sleep, self._on_wait)

    # What does no harm when it is done twice

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        return self.ask(Request(path, method="GET", query=query))

    def ask(self, request: Request) -> Object:
        return self.repeat(lambda: self._once(request))

    def begin(self, request: Request) -> Object:
        """Makes an object that costs nothing and is forgotten where nothing follows: twice does no harm."""
        return self.repeat(lambda: self._made(request))

    def delete(self, path: str, id: str) -> Object:
        """Deletes. Where the answer to one attempt was lost, a 404 to the next says that it is done."""
        request, unsure = Request(path, method="DELETE"), False

        def attempt() -> Object:
            nonlocal unsure
            try:
                return self._once(request)
            except errors.NotFoundError as error:
                if unsure and error.status == 404:
                    return {"id": id, "deleted": True}
                raise
            except errors.APIError as error:
                unsure = unsure or _may_be_done(error)
                raise

        return self.repeat(attempt)

    def repeat(self, attempt: Callable[[], T]) -> T:
        """What `attempt` returns; made again as `Retry` says after an error that a wait may mend."""
        began, number = time.monotonic(), 0
        while True:
            number += 1
            try:
                return attempt()
            except errors.APIError as error:
                wait = self._wait(error, number, time.monotonic() - began)
                if wait is None:
                    raise
            self.sleep(wait)

    # What makes something

    def make(self, request: Request, find: Callable[[float], Object | None]) -> Object:
        """Sends what makes, or changes, an object, by the law at the top.

        Args:
          request: what is sent.
          find: told when the call began (`time.time()`), finds the object that an earlier attempt turns out to have made.

        Raises:
          APIError: refused, or its attempts are spent. Where it is not known whether it was carried out, it says so.
        """
        began, since, number, unsure = time.monotonic(), time.time(), 0, False
        while True:
            number += 1
            try:
                return self._remembered(self._made(request))
            except errors.APIError as error:
                wait, failed = self._wait(error, number, time.monotonic() - began), error
                unsure = unsure or _may_be_done(error)
            if wait is not None:
                self.sleep(wait)
            # After the wait: what was cut off may still be under way.
            if unsure and (found := _found(find, since, failed)) is not None:
                return self._remembered(found)
            if wait is None:
                raise failed

    def change(self, path: str, verb: str, done: Collection[str]) -> Object:
        """POSTs `path/verb` (cancel, pause ...); an object whose status is in `done` needs no second time."""

        def find(began: float) -> Object | None:
            changed = self.get(path)
            return changed if changed.get("status") in done else None

        return self.make(Request(f"{path}/{verb}"), find)

    def _remembered(self, made: Object) -> Object:
        self.made.add(str(made.get("id")))
        return made

    # One attempt

    def _made(self, request: Request) -> Object:
        made = self._once(request)
        if not made.get("id"):
            raise errors.BadAnswerError(f"{request.method} {request.path}: the answer is no object with an id")
        return made

    def _once(self, request: Request) -> Object:
        with self.stream(request) as stream:
            body = b"".join(bounded(stream.pieces, _LARGEST_BYTES))
        if not body and stream.status == 204:
            return {}
        try:
            said = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            said = None
        if isinstance(said, dict) and not _is_error(said):
            return said
        if errors.is_error(body):
            raise self._client.error_in(Response(stream.status, stream.headers, body, 0.0), request)
        raise errors.BadAnswerError(f"{request.method} {request.path}: the answer is no JSON object. Check base_url")

    @contextlib.contextmanager
    def stream(self, request: Request) -> Iterator[Stream]:
        """One attempt, its answer in pieces; see `Client.stream`."""
        try:
            with self._client.stream(request) as stream:
                self.ahead = _ahead(stream.headers.get("date"), self.ahead)
                yield stream
        except errors.APIConnectionError as error:
            if not error.reached:
                error.args = (f"{error}. Check base_url, and that the server runs",)
            raise
        except errors.NotFoundError as error:
            # In place of the advice for endpoints, which is about their model.
            asked = f" (request {error.request_id})" if error.request_id else ""
            check = "Check the id, and base_url" if error.status == 404 else "Check base_url"
            where = f"{request.method} {request.path}: {error.status}"
            error.args = (f"{where} {error.detail or 'no message'}{asked}. {check}",)
            raise

    def _wait(self, error: errors.APIError, attempt: int, elapsed: float) -> float | None:
        """Seconds until the next attempt; None where there is none."""
        if error.action != "wait":
            return None
        asked = retry_after(error.headers, error.detail, time.time())
        if asked is not None and asked > self._retry.max_wait:
            most = f"Retry(max_wait={self._retry.max_wait:g})"
            error.args = (f"{error}. The server asks to wait {asked:.0f} s, longer than {most}",)
            return None
        wait = self._retry.wait(attempt, elapsed, asked)
        if wait is not None:
            self._on_wait(error, wait)
        return wait


@contextlib.contextmanager
def connected(api: API | Server) -> Iterator[Server]:
    """The server itself; for an API one that is closed again."""
    if isinstance(api, Server):
        yield api
        return
    with Server(api) as server:
        yield server


def _may_be_done(error: errors.APIError) -> bool:
    lost = (errors.APIConnectionError, errors.BadAnswerError, errors.InternalServerError)
    return isinstance(error, lost) and error.reached


def _found(find: Callable[[float], Object | None], since: float, failed: errors.APIError) -> Object | None:
    try:
        return find(since)
    except errors.APIError as error:
        failed.args = (f"{failed}. It may have been carried out, and cannot be looked for: {error}",)
        raise failed from error


def _is_error(said: Object) -> bool:
    # Not every `error` is one of the call: a job that failed says why in a field of that name.
    return said.get("object") == "error" or (bool(said.get("error")) and not said.keys() & {"id", "object"})


def _ahead(date: str | None, before: float) -> float:
    """Seconds that the server's clock is ahead of ours; as before, where it does not tell its time."""
    try:
        return email.utils.parsedate_to_datetime(date or "").timestamp() - time.time()
    except (TypeError, ValueError, IndexError, OverflowError):
        return before
