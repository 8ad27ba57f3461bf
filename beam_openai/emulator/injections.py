"""Answers that a test has put in line: for the next requests to a path, before any plan."""

from __future__ import annotations

import base64
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .faults import KINDS
from .replies import Reply


@dataclass
class Injection:
    """What the next request to `path` (any, if None) meets.

    Either `fault`, the kind; or `reply`, sent in place of the answer, unchecked and unbilled;
    after `delay` seconds more. With neither the request is just late.
    """

    path: str | None = None
    fault: str | None = None
    reply: Reply | None = None
    delay: float = 0.0


def injection(described: dict[str, Any]) -> Injection:
    """Reads `{"fault": kind}`, `{"status", "headers", "body"}`, `{"delay": seconds}`, `"path"`.

    A body may be a string, `{"base64": "..."}` for bytes, or any other JSON.

    Raises:
        ValueError: an unknown kind or key.
    """
    unknown = set(described) - {"path", "fault", "status", "headers", "body", "delay"}
    if unknown:
        raise ValueError(f"an injection knows nothing of {', '.join(sorted(unknown))}")
    fault = described.get("fault")
    if fault is not None and fault not in KINDS:
        raise ValueError(f"unknown fault {fault!r}; known are {', '.join(KINDS)}")
    reply = _reply(described) if {"status", "body", "headers"} & set(described) else None
    if fault and reply:
        raise ValueError("an injection is a fault or a reply, not both")
    delay = float(described.get("delay", 0))
    return Injection(described.get("path"), fault, reply, delay)


def _reply(described: dict[str, Any]) -> Reply:
    body = described.get("body", "")
    if isinstance(body, str):
        raw = body.encode()
    elif isinstance(body, dict) and set(body) == {"base64"}:
        raw = base64.b64decode(body["base64"])
    else:
        raw = msgspec.json.encode(body)
    headers = {name.lower(): str(value) for name, value in described.get("headers", {}).items()}
    kind = headers.pop("content-type", "application/json")
    status = int(described.get("status", 200))
    return Reply(status=status, body=raw, content_type=kind, headers=headers)


@dataclass
class Queue:
    """Injections in the order they were put; each is used once."""

    waiting: deque[Injection] = field(default_factory=deque)

    def next(self, path: str, named: bool = False) -> Injection | None:
        """Takes the first injection for `path` out of the line; if `named`, the first that names it."""
        for injected in self.waiting:
            if (injected.path is None and not named) or injected.path == path:
                self.waiting.remove(injected)
                return injected
        return None
