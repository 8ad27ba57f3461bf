"""What can go wrong with one call, and what each error asks of the caller.

    APIError
      APIConnectionError            wait   no usable answer: refused, reset, cut off
        APITimeoutError             wait
      BadAnswerError                wait   status 200, but the body is not an answer to what was asked
      RateLimitError                wait   429, pace
      InternalServerError           wait   408, 409, 424, 425, 499, 5xx
      RequestTooLargeError          split  too many items or tokens in one request
      BadRequestError               split  400 and what resembles it: one row of many may be the cause
        UnprocessableEntityError    split  422
      QuotaExceededError            stop   429 or 402, money
      AuthenticationError           stop   401, and a key that is not where it should be
      PermissionDeniedError         stop   403
      NotFoundError                 stop   404, 405, 415, a redirect: wrong address or model
      ConfigurationError            stop   an option that the model or the server does not know
      ServerDownError               stop   too many requests in a row without one success
      SharedQuotaError              stop   no Redis for a shared quota; "wait" where it cannot be reached at the moment
      InvalidInputError             fail   a file that a request is to carry is not there, too large, or cannot be read

`action` is what to do: "wait" and try again, "split" the request (or fail its only row), "fail" its rows, "stop" the job;
or, where whoever sent it knows better, "again": at once, in other words.
Every class can be made from its message alone, because Beam re-raises a DoFn's error as `type(error)(message)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import msgspec

Action = Literal["wait", "again", "split", "fail", "stop"]

_LONGEST_ERROR = 1 << 20
_LONGEST_MESSAGE = 500
_LONGEST_NAME = 100


class APIError(Exception):
    """One call that did not work.

    Attributes:
      status: the HTTP status; None where there was no answer.
      code, type, param: as the server named them; None where it did not.
      detail: the server's own message, at most 500 characters.
      request_id: the server's `x-request-id`.
      headers: the answer's headers, names in lower case.
      raw: the body, where it may have been paid for.
      reached: False where there was not even a connection to the server.
    """

    action: Action = "fail"
    reached: bool = True

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        detail: str | None = None,
        request_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.type = type
        self.param = param
        self.detail = message if detail is None else detail
        self.request_id = request_id
        self.headers = headers or {}
        self.raw = raw


class APIConnectionError(APIError):
    """No usable answer came."""

    action = "wait"


class APITimeoutError(APIConnectionError):
    pass


class BadAnswerError(APIError):
    action = "wait"


class RateLimitError(APIError):
    action = "wait"


class InternalServerError(APIError):
    action = "wait"


class RequestTooLargeError(APIError):
    """More than one request may hold.

    Attributes:
      counts: what there was too much of.
      most: how many of it the server takes; None where it does not say.
      had: how many tokens the request had, by the server's count; None where it does not say.
    """

    action = "split"
    counts: Literal["rows", "tokens", "bytes"] = "rows"
    most: int | None = None
    had: int | None = None


class BadRequestError(APIError):
    action = "split"


class UnprocessableEntityError(BadRequestError):
    pass


class QuotaExceededError(APIError):
    action = "stop"


class AuthenticationError(APIError):
    action = "stop"


class PermissionDeniedError(APIError):
    action = "stop"


class NotFoundError(APIError):
    action: Action = "stop"


class ConfigurationError(APIError):
    action = "stop"


class ServerDownError(APIError):
    action = "stop"


class SharedQuotaError(APIError):
    """No Redis for a shared quota, without which nothing is sent; `action` is "wait" where it cannot be reached now."""

    action: Action = "stop"


class InvalidInputError(APIError):
    action: Action = "fail"


def from_response(status: int, headers: Mapping[str, str], body: bytes, where: str) -> APIError:
    """The error that an answer means, whatever shape its body has.

    Args:
      status: the HTTP status; 200 with an error in its body counts as the status that the body names.
      headers: names in lower case.
      body: as it came: JSON of any server's shape, HTML, text or nothing.
      where: what was asked, for the message ("POST /embeddings").
    """
    told = _parse(body)
    if status < 300:
        status = _status_inside(told)
    kind = _classify(status, told)
    request_id = _line(headers.get("x-request-id"), _LONGEST_NAME) or None
    message = f"{where}: {status} {told.message or 'no message'}".rstrip()
    if told.code and told.code not in message:
        message += f" [{told.code}]"
    if request_id:
        message += f" (request {request_id})"
    if advice := _ADVICE.get(kind):
        message += f". {advice}"
    error = kind(
        message,
        status=status,
        code=told.code,
        type=told.type,
        param=told.param,
        detail=told.message,
        request_id=request_id,
        headers=headers,
    )
    if isinstance(error, RequestTooLargeError):
        error.counts, error.most = _allowance(told)
        if had := re.search(r"requested (\d+)", told.message.lower().replace(",", "")):
            error.had = int(had.group(1))
    should_retry = headers.get("x-should-retry")
    if should_retry == "false" and error.action == "wait":
        error.action = "fail"
    elif should_retry == "true" and error.action in ("split", "fail"):
        error.action = "wait"
    return error


_ADVICE: dict[type[APIError], str] = {
    AuthenticationError: "Check the key, and where `key` says it is",
    QuotaExceededError: "No retry can mend this: check plan and billing, then run again",
    PermissionDeniedError: "The key may not do this: check its project and the model",
    NotFoundError: "Check `model` and `base_url`",
}


def is_error(body: bytes | memoryview) -> bool:
    """Whether a 2xx answer's body is an error all the same."""
    if len(body) > _LONGEST_ERROR or b'"error"' not in bytes(body):
        return False
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if isinstance(said, list) and said:
        said = said[0]
    return isinstance(said, dict) and (bool(said.get("error")) or said.get("object") == "error")


class _Told:
    """What a body says of its error; every field may be missing.

    Attributes:
      is_answer: it is a whole answer that says of itself that it failed, as those of /responses do.
    """

    is_answer = False

    def __init__(self, message: object, type: object, code: object, param: object) -> None:
        self.message = _line(message, _LONGEST_MESSAGE)
        self.type = _line(type, _LONGEST_NAME) or None
        self.code = _line(code, _LONGEST_NAME) or None
        self.param = _line(param, _LONGEST_NAME) or None

    names: ClassVar = property(lambda self: {self.type, self.code})


def _line(said: object, longest: int) -> str:
    if said is None:
        return ""
    try:
        text = said if isinstance(said, str) else str(said)
    except RecursionError:
        return "(nested too deeply to be shown)"
    return " ".join(text[: 4 * longest].split())[:longest]


def _parse(body: bytes) -> _Told:
    try:
        said: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Told(_plain_text(body), None, None, None)
    if isinstance(said, list) and said:
        said = said[0]
    if not isinstance(said, dict):
        return _Told(said, None, None, None)
    inner, is_answer = said.get("error"), said.get("status") == "failed"
    if isinstance(inner, dict):
        said = inner
    elif inner is not None and "message" not in said:
        return _Told(inner, said.get("error_type"), said.get("code"), None)
    if isinstance(said.get("detail"), list):
        return _from_fastapi(said["detail"])
    message = said.get("message", said.get("detail"))
    code = said.get("code", said.get("statusCode"))
    if message is None and said:
        message = said
    told = _Told(message, said.get("type"), code, said.get("param") or _named(message))
    told.is_answer = is_answer
    return told


def _named(message: object) -> str | None:
    """The parameter that a message names as Python would: "[{'loc': ('body', 'voice'), ...}]", as OpenAI's audio does."""
    found = re.search(r"'loc': \('body', '(\w+)'", message) if isinstance(message, str) else None
    return found.group(1) if found else None


def _from_fastapi(details: list[Any]) -> _Told:
    """`{"detail": [{"loc": ["body", "input", 3], "msg": ...}]}`; its `input` repeats the row and is left out."""
    first: dict[str, Any] = next((d for d in details if isinstance(d, dict)), {})
    loc = first.get("loc")
    place = [_line(part, _LONGEST_NAME) for part in loc if part != "body"] if isinstance(loc, list) else []
    message = f"{'.'.join(place)}: {first.get('msg', '')}" if place else first.get("msg")
    return _Told(message, first.get("type"), None, place[0] if place else None)


def _plain_text(body: bytes) -> str:
    text = body[:4000].decode("utf-8", "replace")
    if "<" in text:
        title = re.search(r"<title>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        text = title.group(1) if title else re.sub(r"<[^>]*>", " ", text)
    return text


def _status_inside(told: _Told) -> int:
    if told.code and re.fullmatch("[45][0-9][0-9]", told.code):
        return int(told.code)
    if told.names & _MONEY:
        return 429
    # An answer that failed has a code for each thing that its input can do wrong (invalid_image, bio_policy, ...).
    other = 400 if told.is_answer else 500
    return next((status for name, status in _STATUS_OF_NAME.items() if name in told.names), other)


_STATUS_OF_NAME = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "slow_down": 429,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_error": 403,
    "model_not_found": 404,
    "NotFoundError": 404,
    "invalid_request_error": 400,
    "BadRequestError": 400,
    "invalid_prompt": 400,
    "server_error": 500,
    "vector_store_timeout": 500,
}


_MONEY = {
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
    "billing_not_active",
    "budget_exceeded",
}
_UNKNOWN_OPTION = {"unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden"}
_TOO_LARGE_CODES = {"array_above_max_length", "max_tokens_per_request"}
# Servers that have no code for it say it in words (commas left out); the group is how many they take.
_TOO_LARGE = [
    ("rows", r"array too long(?:.*?maximum length (\d+))?"),
    ("rows", r"batch size .*?maximum (?:allowed )?batch size (\d+)"),
    ("rows", r"batch size is invalid it should not be larger than (\d+)"),
    ("rows", r"max number of inputs is (\d+)"),
    ("rows", r"^input.*? at most (\d+) items"),
    ("tokens", r"max (\d+) tokens per request"),
    ("tokens", r"too many tokens in batch(?:.*?max is (\d+))?"),
    ("tokens", r"request too large(?:.*?limit (\d+))?"),
]
# One row is too long, however few others are with it.
_TOO_LONG_CODES = {"context_length_exceeded", "exceed_context_size_error"}
_TOO_LONG = re.compile(
    r"maximum context length|input length exceeds|too long|must have less than \d+ tokens|is larger than the maximum"
)


def _classify(status: int, told: _Told) -> type[APIError]:
    if told.names & _MONEY or status == 402:
        return QuotaExceededError
    if status == 429 and told.code in (None, "429") and _is_spent(told.message):
        return QuotaExceededError
    if status in (400, 413, 422, 429) and (told.names & _TOO_LARGE_CODES or _allowance(told) != ("bytes", None)):
        return RequestTooLargeError
    if status == 413:
        is_one_row = told.names & _TOO_LONG_CODES or _TOO_LONG.search(told.message.lower())
        return BadRequestError if is_one_row else RequestTooLargeError
    if status == 400 and told.names & {"invalid_api_key", "model_not_found"}:
        status = _status_inside(told)
    if status in (400, 422) and (told.names & _UNKNOWN_OPTION or "Unrecognized request argument" in told.message):
        return ConfigurationError
    return _BY_STATUS.get(status) or (InternalServerError if status >= 500 else BadRequestError)


def _is_spent(message: str) -> bool:
    # Gemini says the same of a quota per minute, and when to come back.
    return "exceeded your current quota" in message and not re.search(r"(?:try again|retry) in ", message)


_BY_STATUS: dict[int, type[APIError]] = {
    **{status: NotFoundError for status in (*range(300, 400), 404, 405, 415)},
    **{status: InternalServerError for status in (408, 409, 424, 425, 499)},
    401: AuthenticationError,
    403: PermissionDeniedError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def _allowance(told: _Told) -> tuple[Literal["rows", "tokens", "bytes"], int | None]:
    """What there was too much of, and how much the server takes; ("bytes", None) where the message names nothing."""
    message = told.message.lower().replace(",", "")
    for counts, pattern in _TOO_LARGE:
        if found := re.search(pattern, message):
            most = int(found.group(1)) if found.group(1) else None
            return ("rows" if counts == "rows" else "tokens"), most
    if told.code == "array_above_max_length":
        return "rows", None
    if told.code == "max_tokens_per_request":
        return "tokens", None
    return "bytes", None
