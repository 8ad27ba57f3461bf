"""Faults made into bytes: the replies of those that refuse, and spoilt bodies. Pure."""

from __future__ import annotations

import base64
import json
import random
import struct
from typing import Any

from .limits import ORGANIZATION
from .replies import Refusal, Reply

_DOCS = "https://platform.openai.com/docs/guides/error-codes/api-errors"
_SORRY = (
    "The server had an error while processing your request. Sorry about that! You can retry your "
    "request, or contact us through our help center at help.openai.com if the error persists."
)


def refusal(kind: str, model: str, style: str) -> Reply:
    """The reply of a fault of `faults.REFUSED`, as `style` writes it."""
    if kind == "bad_gateway":
        page = "<html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>"
        return Reply(status=502, body=page.encode(), content_type="text/html")
    if kind == "gateway_timeout":
        return Reply(status=504, body=b"upstream request timeout", content_type="text/plain")
    if kind == "empty_520":
        return Reply(status=520, body=b"", content_type="text/plain")
    return _refusal(kind, model).reply(style)


def _refusal(kind: str, model: str) -> Refusal:
    if kind == "rate_limit":
        return _pace(model, "1s", {"retry-after": "1"})
    if kind == "rate_limit_ms":
        return _pace(model, "250ms", {"retry-after": "2", "retry-after-ms": "250"})
    if kind == "rate_limit_message":
        return _pace(model, "644ms", {})
    if kind == "insufficient_quota":
        message = (
            "You exceeded your current quota, please check your plan and billing details. For "
            f"more information on this error, read the docs: {_DOCS}."
        )
        return Refusal(429, message, type=kind, code=kind)
    if kind == "unavailable":
        message = "The service is temporarily unavailable. Please try again later."
        return Refusal(503, message, type="service_unavailable_error", code="server_is_overloaded")
    if kind == "overloaded":
        message = "The engine is currently overloaded, please try again later"
        return Refusal(503, message, type="server_error", code="engine_overloaded")
    return Refusal(200 if kind == "error_200" else 500, _SORRY, type="server_error")


def _pace(model: str, wait: str, headers: dict[str, str]) -> Refusal:
    message = (
        f"Rate limit reached for {model} in organization {ORGANIZATION} on requests per min "
        f"(RPM): Limit 3000, Used 3000, Requested 1. Please try again in {wait}. Visit "
        "https://platform.openai.com/account/rate-limits to learn more."
    )
    return Refusal(429, message, type="requests", code="rate_limit_exceeded", headers=headers)


def damaged(body: bytes, kind: str, chance: random.Random) -> bytes:
    """`body`, a right JSON answer, spoilt by a fault of `faults.DAMAGED`.

    The rows are the answer's `data`, `choices` or `results`. Which row is hit is drawn from
    `chance`. An answer without rows, or whose rows lack what the fault spoils, comes back as it was.
    """
    if kind == "truncated":
        return body[: len(body) * 2 // 3]
    if kind == "invalid_json":
        return b"{'object': list, " + body[:40]
    answer = json.loads(body)
    rows: list[Any] = next((answer[key] for key in ("data", "choices", "results") if key in answer), [])
    if kind == "no_usage":
        answer.pop("usage", None)
    elif rows:
        _DAMAGE[kind](rows, chance)
    return json.dumps(answer, separators=(",", ":")).encode()


def _shuffled(rows: list[Any], chance: random.Random) -> None:
    before = list(rows)
    while len(rows) > 1 and rows == before:
        chance.shuffle(rows)


def _missing(rows: list[Any], chance: random.Random) -> None:
    del rows[chance.randrange(len(rows))]


def _doubled(rows: list[Any], chance: random.Random) -> None:
    at = chance.randrange(len(rows))
    rows.insert(at, rows[at])


def _extra(rows: list[Any], chance: random.Random) -> None:
    rows.append({**rows[0], "index": len(rows)} if "index" in rows[0] else rows[0])


def _no_index(rows: list[Any], chance: random.Random) -> None:
    for row in rows:
        row.pop("index", None)


def _floats(rows: list[Any], chance: random.Random) -> None:
    for row in rows:
        if "embedding" in row:
            row["embedding"] = _numbers(row["embedding"])


def _wrong_length(rows: list[Any], chance: random.Random) -> None:
    _revector(chance.choice(rows), lambda numbers: numbers[:-1])


def _nan(rows: list[Any], chance: random.Random) -> None:
    _revector(chance.choice(rows), lambda numbers: [float("nan"), *numbers[1:]])


def _null_in_vector(rows: list[Any], chance: random.Random) -> None:
    row = chance.choice(rows)
    if "embedding" in row:
        row["embedding"] = [None, *_numbers(row["embedding"])[1:]]


_DAMAGE = {
    "shuffled": _shuffled,
    "missing": _missing,
    "doubled": _doubled,
    "extra": _extra,
    "no_index": _no_index,
    "floats": _floats,
    "wrong_length": _wrong_length,
    "nan": _nan,
    "null_in_vector": _null_in_vector,
}


def _revector(row: dict[str, Any], change: Any) -> None:
    """Changes a row's vector, and keeps the way it is written: packed or as a list."""
    if "embedding" not in row:
        return
    numbers = change(_numbers(row["embedding"]))
    if isinstance(row["embedding"], str):
        packed = struct.pack(f"<{len(numbers)}f", *numbers)
        row["embedding"] = base64.b64encode(packed).decode()
    else:
        row["embedding"] = numbers


def _numbers(embedding: str | list[float]) -> list[float]:
    if isinstance(embedding, list):
        return embedding
    packed = base64.b64decode(embedding)
    return list(struct.unpack(f"<{len(packed) // 4}f", packed))
