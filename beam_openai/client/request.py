"""What one call sends, and what comes back."""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from beam_openai import errors
from beam_openai.client.multipart import Form

Body = bytes | memoryview


@dataclasses.dataclass(frozen=True)
class Request:
    """One call.

    Attributes:
      path: begins with a slash and is percent-encoded; `segment` encodes an id in it.
      body: bytes as they are; or a mapping, which is written as a JSON object; or a form.
      content_type: of bytes and JSON; a form has its own.
      query: added to the URL's own.
    """

    path: str
    body: bytes | Mapping[str, Any] | Form | None = None
    method: str = "POST"
    content_type: str = "application/json"
    query: Mapping[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Response:
    """A 2xx answer.

    Attributes:
      headers: names in lower case.
      seconds: from sending to the last byte.
      fetched: what was found at URLs in the body, or why nothing was; put in by whoever looked.
    """

    status: int
    headers: Mapping[str, str]
    body: Body
    seconds: float
    fetched: Mapping[str, Body | errors.APIError] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Stream:
    """A 2xx answer whose body comes in pieces, as they arrive: iterate once. `headers` in lower case."""

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]

    def __iter__(self) -> Iterator[bytes]:
        return self.pieces


def segment(text: str) -> str:
    """An id as one segment of a path: `/` is `%2F`, and the colons of `ft:gpt-4o:org::id` stay.

    Raises:
      ValueError: an id that would lead to another path.
    """
    try:
        quoted = urllib.parse.quote(text, safe="!$&'()*+,;=:@")
    except UnicodeEncodeError:
        quoted = ""
    if quoted in ("", ".", ".."):
        raise ValueError(f"not an id: {text!r}")
    return quoted
