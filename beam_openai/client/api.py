"""Where a server is, and where its key is."""

from __future__ import annotations

import dataclasses
import os
import re
import urllib.parse
from collections.abc import Mapping
from typing import Protocol

from beam_openai import errors

OPENAI = "https://api.openai.com/v1"
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
      timeout: seconds that one attempt may take, from connecting to the answer's last byte; of files that are streamed, up
        or down, seconds in which nothing moves.

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
        # Not where it is empty: the key would go to OpenAI because a script's variable was not set.
        url = (os.environ.get("OPENAI_BASE_URL") or OPENAI) if self.base_url is None else self.base_url
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

    def url(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """The URL of an operation: the base's path + `path`, with the base's query, the API version and `query`."""
        parts = urllib.parse.urlsplit(str(self.base_url))
        queries = [parts.query] if parts.query else []
        if self.api_version:
            queries.append(urllib.parse.urlencode({"api-version": self.api_version}))
        if query:
            queries.append(urllib.parse.urlencode(query))
        return urllib.parse.urlunsplit(
            (parts.scheme, parts.netloc, parts.path.rstrip("/") + path, "&".join(queries), "")
        )

    def find_key(self) -> str | None:
        """The key, from where it is; None where none is set and none was asked for.

        Raises:
          AuthenticationError: it is not there, or cannot be a key. Names the place, never the value.
        """
        lacks = "is not set or is empty"
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
            value, place, lacks = _file_text(self.key), f"file {self.key}", "is empty"
        value = (value or "").strip()
        if not value:
            raise errors.AuthenticationError(f"no API key: the {place} {lacks} on this worker")
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


def _file_text(path: str) -> str:
    try:
        with open(os.path.expanduser(path), encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        lacks = "does not exist"
    except IsADirectoryError:
        lacks = "is a folder, not a file"
    except OSError as error:
        lacks = f"cannot be read ({error.strerror or error})"
    raise errors.AuthenticationError(f"no API key: the file {path} {lacks} on this worker")
