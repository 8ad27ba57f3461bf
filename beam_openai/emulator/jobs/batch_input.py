"""The file of a batch: every line is looked at before the first request is made."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..jsonl import lines
from ..texts import count_tokens

_MOST_REQUESTS = 50_000
_MOST_INPUTS = 50_000
_KEYS = ("custom_id", "method", "url", "body")
_TEXTS = ("input", "prompt", "messages", "instructions")


@dataclass(kw_only=True)
class BatchInput:
    """What was found: how many requests for which model, their tokens; or what is wrong."""

    requests: int = 0
    model: str | None = None
    tokens: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)

    def fail(self, code: str, message: str, param: str | None = None, line: int | None = None) -> None:
        """Notes an error of the file, or of a line."""
        self.errors.append({"code": code, "message": message, "param": param, "line": line})


def read_batch(pieces: Iterable[bytes], endpoint: str, models: Collection[str], bytes_per_token: float) -> BatchInput:
    """Reads a batch's file.

    Args:
        pieces: of the file.
        endpoint: of the batch, `/v1/embeddings`.
        models: the names there are.
        bytes_per_token: of the texts.
    """
    found, seen, inputs = BatchInput(), set[str](), 0
    decode = msgspec.json.Decoder().decode
    for number, line in enumerate(lines(pieces), 1):
        found.requests += 1
        try:
            request = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            request = None
        if not isinstance(request, dict):
            found.fail("invalid_json_line", "This line is not parseable as valid JSON.", line=number)
            continue
        if _is_complete(found, request, number):
            _check(found, request, number, endpoint, models, seen)
            inputs += _inputs(request["body"])
            found.tokens += _tokens(request["body"], bytes_per_token)
    if not found.requests:
        found.fail("empty_file", "The input file is empty. Please ensure that the batch contains at least one request.")
    if found.requests > _MOST_REQUESTS:
        message = f"The batch input file contains too many requests. Limit: {_MOST_REQUESTS}, found: {found.requests}."
        found.fail("too_many_requests", message)
    if endpoint == "/v1/embeddings" and inputs > _MOST_INPUTS:
        message = f"The batch contains too many embedding inputs. Limit: {_MOST_INPUTS}, found: {inputs}."
        found.fail("too_many_embedding_inputs", message)
    return found


def _is_complete(found: BatchInput, request: dict[str, Any], number: int) -> bool:
    before = len(found.errors)
    for key in _KEYS:
        kind = dict if key == "body" else str
        if request.get(key) is None:
            message = f"Missing required parameter: '{key}'."
            found.fail("missing_required_parameter", message, key, number)
        elif not isinstance(request[key], kind):
            wanted = "an object" if key == "body" else "a string"
            found.fail("invalid_type", f"Invalid type for '{key}': expected {wanted}.", key, number)
    return len(found.errors) == before


def _check(
    found: BatchInput, request: dict[str, Any], number: int, endpoint: str, models: Collection[str], seen: set[str]
) -> None:
    custom_id, model = request["custom_id"], request["body"].get("model")
    if custom_id in seen:
        message = (
            f"The custom_id '{custom_id}' for this request is a duplicate of another request. The custom_id parameter "
            "must be unique for each request in a batch."
        )
        found.fail("duplicate_custom_id", message, "custom_id", number)
    seen.add(custom_id)
    if request["method"] != "POST":
        message = f"Invalid value: '{request['method']}'. Supported values are: 'POST'."
        found.fail("invalid_value", message, "method", number)
    if request["url"] != endpoint:
        message = "The URL provided for this request does not prefix-match the batch endpoint."
        found.fail("invalid_url", message, "url", number)
    if not isinstance(model, str):
        return
    if model not in models:
        message = f"The provided model '{model}' is not supported by the Batch API."
        found.fail("model_not_found", message, "body.model", number)
    found.model = found.model or model
    if model != found.model:
        message = (
            f"The model '{model}' for this request does not match the rest of the batch. Each batch must contain "
            "requests for a single model."
        )
        found.fail("mismatched_model", message, "body.model", number)


def _inputs(body: dict[str, Any]) -> int:
    """How many there are in a request for embeddings: a list of numbers is one."""
    given = body.get("input")
    if not isinstance(given, list) or all(isinstance(item, int) for item in given):
        return 1
    return len(given)


def _tokens(body: dict[str, Any], bytes_per_token: float) -> int:
    """Of all texts that a model would read; a list of tokens has as many."""
    waiting, total = [body[name] for name in _TEXTS if name in body], 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            total += count_tokens(value, bytes_per_token)
        elif isinstance(value, int):
            total += 1
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
    return total
