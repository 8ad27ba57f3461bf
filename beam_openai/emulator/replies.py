"""What is sent back: a reply, or a refusal in the words of the server that is emulated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

JSON = "application/json"


@dataclass(kw_only=True)
class Reply:
    """One response: status, body, headers. A `stream` is sent piece by piece, in place of the body.

    `tokens` were used, where those are others than the limits were charged.
    """

    body: bytes = b""
    status: int = 200
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    stream: AsyncIterator[bytes] | None = None
    tokens: int | None = None


class Cut(Exception):
    """Raised by a stream in place of its end: the connection is closed in the middle of it."""


def reply_json(value: Any, status: int = 200, tokens: int | None = None) -> Reply:
    """A reply with `value` as JSON."""
    return Reply(status=status, body=msgspec.json.encode(value), tokens=tokens)


class Refusal(Exception):
    """A request that is not answered, with the fields of OpenAI's error object.

    Args:
        status: HTTP status.
        message: what the real service says, word for word where that is known.
        type: `error.type`.
        param: the request's parameter that is at fault, or None.
        code: `error.code`, or None.
        headers: sent beside the error.
        more: further fields of the error object.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str | None = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.headers = dict(headers or {})
        self.more = dict(more or {})

    def reply(self, style: str) -> Reply:
        """The refusal as `style` ("openai", "vllm" or "tei") writes it."""
        status, body = _STYLES[style](self)
        return Reply(status=status, body=msgspec.json.encode(body), headers=dict(self.headers))


def _openai(refusal: Refusal) -> tuple[int, Any]:
    error = {
        "message": refusal.message,
        "type": refusal.type,
        "param": refusal.param,
        "code": refusal.code,
        **refusal.more,
    }
    return refusal.status, {"error": error}


def _vllm(refusal: Refusal) -> tuple[int, Any]:
    """vLLM up to 0.10: a flat object, the status as the code."""
    types = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError"}
    return refusal.status, {
        "object": "error",
        "message": refusal.message,
        "type": types.get(refusal.status, "InternalServerError"),
        "param": None,
        "code": refusal.status,
    }


def _tei(refusal: Refusal) -> tuple[int, Any]:
    """text-embeddings-inference: what is invalid is a 413, what fails in the model a 424."""
    status = {400: 413, 500: 424}.get(refusal.status, refusal.status)
    types = {413: "Validation", 422: "Tokenizer", 424: "Backend", 429: "Overloaded"}
    kind = types.get(status, "Unhealthy")
    return status, {"message": refusal.message, "code": status, "type": kind}


_STYLES = {"openai": _openai, "vllm": _vllm, "tei": _tei}
