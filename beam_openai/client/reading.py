"""The body of an answer, read as it comes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import urllib3

from beam_openai import errors
from beam_openai.client.request import Body
from beam_openai.client.sockets import Connection

_READ_BYTES = 1 << 18
_LARGEST_BYTES = 1 << 30
_UNTOLD_BYTES = 256 << 20


def headers_of(answer: urllib3.BaseHTTPResponse) -> dict[str, str]:
    """The headers, names in lower case; of several with one name the last."""
    return {name.lower(): value for name, value in answer.headers.items()}


def length_of(answer: urllib3.BaseHTTPResponse) -> int:
    """The body's length in bytes; 0 where the server does not say, or not sanely."""
    # What urllib3 makes of the header, which may be no number, or stand beside chunks.
    length = answer.length_remaining or 0
    return length if length <= _LARGEST_BYTES else 0


def read(answer: urllib3.BaseHTTPResponse, length: int, deadline: float) -> Body:
    """The whole body, decompressed.

    Args:
      answer: its head was read.
      length: as `length_of` tells it.
      deadline: `time.monotonic()` when it must be complete.
    """
    pieces = chunks(answer, deadline)
    if length < _READ_BYTES or "content-encoding" in answer.headers:
        return b"".join(bounded(pieces, _UNTOLD_BYTES))
    # Not at the top: it brings Arrow with it, which what never reads so much does without.
    from beam_openai import buffers

    room, body = buffers.lease(length)
    filled = 0
    for chunk in pieces:
        room[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return memoryview(body)[:filled]


def bounded(pieces: Iterator[bytes], most: int) -> Iterator[bytes]:
    """The same pieces.

    Raises:
      BadAnswerError: they are more than `most` bytes.
    """
    size = 0
    for piece in pieces:
        yield piece
        size += len(piece)
        if size > most:
            raise errors.BadAnswerError(f"an answer of more than {most >> 20} MB")


def chunks(answer: urllib3.BaseHTTPResponse, deadline: float, silence: float = math.inf) -> Iterator[bytes]:
    """The body's pieces, decompressed, each as soon as it is there.

    Args:
      answer: its head was read.
      deadline: `time.monotonic()` when it must be complete.
      silence: seconds that the next piece may take.
    """
    while True:
        # None once the last byte was read: then the connection may already serve another thread.
        connection: object = answer.connection
        left = min(deadline - time.monotonic(), silence)
        if connection is not None and left <= 0:
            raise TimeoutError("the answer is still not complete")
        if isinstance(connection, Connection):
            connection.wait_at_most(left)
        chunk = answer.read1(_READ_BYTES, decode_content=True)
        if not chunk:
            return
        yield chunk


class closing:
    """Gives the connection back after a whole body, and closes it after anything else.

    Also after one that is told to be empty: it may still come, and is not the answer to the next request.
    """

    def __init__(self, answer: urllib3.BaseHTTPResponse) -> None:
        self._answer = answer

    def __enter__(self) -> None:
        if self._answer.length_remaining == 0:
            self._answer.close()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind:
            self._answer.close()
        self._answer.release_conn()
