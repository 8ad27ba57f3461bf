"""What an answer that is an error means."""

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_openai import errors
from beam_openai.errors import from_response, is_error

WHERE = "POST /embeddings"


def classes(kind=errors.APIError):
    return [kind, *(found for sub in kind.__subclasses__() for found in classes(sub))]


def openai(message="", type=None, code=None, param=None):
    return json.dumps({"error": {"message": message, "type": type, "param": param, "code": code}}).encode()


def error(status, body=b"", **headers):
    return from_response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, WHERE)


@pytest.mark.parametrize("kind", classes())
def test_each_class_can_be_made_from_its_message_alone_and_pickled(kind):
    made = kind("what happened")
    assert str(type(made)(str(made))) == "what happened" == made.detail
    made.status, made.headers, made.raw = 500, {"a": "b"}, b"raw"
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is kind and vars(again) == vars(made) and again.action in ("wait", "split", "fail", "stop")


@pytest.mark.parametrize("kind", [kind for kind in classes() if not kind.__subclasses__()])
def test_the_module_says_of_each_class_what_it_asks_for(kind):
    line = next(line for line in errors.__doc__.splitlines() if line.split()[:1] == [kind.__name__])
    assert line.split()[1] == kind.action


REACHED = "Rate limit reached for gpt-4o in organization org-x on "
QUOTA = "You exceeded your current quota, please check your plan and billing details."
TOO_LARGE = (
    "Request too large for gpt-5 in organization org-x on tokens per min (TPM): Limit 30000, Requested 36055. "
    "The input or output tokens must be reduced in order to run successfully."
)


@pytest.mark.parametrize(
    "body, kind",
    [
        (openai(REACHED + "requests per min (RPM): Limit 3", "requests", "rate_limit_exceeded"), "RateLimitError"),
        (openai(REACHED + "tokens per min (TPM): Limit 3", "tokens", "rate_limit_exceeded"), "RateLimitError"),
        (openai(TOO_LARGE, "tokens", "rate_limit_exceeded"), "RequestTooLargeError"),
        (openai(QUOTA, "insufficient_quota", "insufficient_quota"), "QuotaExceededError"),
        (openai(QUOTA, "insufficient_quota", None), "QuotaExceededError"),
        (openai(QUOTA, None, None), "QuotaExceededError"),
        (openai("litellm.RateLimitError: " + QUOTA, "throttling_error", "429"), "QuotaExceededError"),
        (openai(QUOTA + " Please retry in 32.6s.", None, 429), "RateLimitError"),
        *(
            (openai("-", "insufficient_quota", code), "QuotaExceededError")
            for code in (
                "credit_balance_exhausted",
                "organization_spend_limit_exceeded",
                "project_spend_limit_exceeded",
                "organization_usage_limit_exceeded",
            )
        ),
        (openai("-", "budget_exceeded", "429"), "QuotaExceededError"),
        (openai("-", "rate_limit_error", "slow_down"), "RateLimitError"),
        (openai("Resource Unavailable", None, "resource_unavailable"), "RateLimitError"),
        (openai("That model is currently overloaded with other requests", "requests"), "RateLimitError"),
        (openai("The engine is currently overloaded", "server_error", "engine_overloaded"), "RateLimitError"),
        (
            openai("Requests have exceeded call rate limit. Please retry after 55 seconds.", code="429"),
            "RateLimitError",
        ),
        (b"", "RateLimitError"),
        (b"<html>Too Many Requests</html>", "RateLimitError"),
        (b"slow down!", "RateLimitError"),
    ],
)
def test_each_kind_of_429_is_told_apart(body, kind):
    assert type(error(429, body)).__name__ == kind


LONG = "This model's maximum context length is 8192 tokens, however you requested 8610 tokens"


@pytest.mark.parametrize(
    "status, body, kind, action",
    [
        (400, openai("'' is not one of [] - 'purpose'", "invalid_request_error"), "BadRequestError", "split"),
        (400, openai("Unrecognized request argument supplied: x"), "ConfigurationError", "stop"),
        (400, openai("no", code="unknown_parameter"), "ConfigurationError", "stop"),
        (400, openai(LONG, "invalid_request_error"), "BadRequestError", "split"),
        (400, openai(LONG, "invalid_request_error", "context_length_exceeded"), "BadRequestError", "split"),
        (400, openai("-", "max_tokens_per_request", "max_tokens_per_request"), "RequestTooLargeError", "split"),
        (400, openai("-", None, "array_above_max_length"), "RequestTooLargeError", "split"),
        (400, openai("'$.input' is invalid. Please check the API reference"), "BadRequestError", "split"),
        (400, openai("no", None, "unsupported_parameter", "max_tokens"), "ConfigurationError", "stop"),
        (400, openai("no", None, "unsupported_value", "temperature"), "ConfigurationError", "stop"),
        (400, openai("Your request was rejected", code="content_policy_violation"), "BadRequestError", "split"),
        (400, openai("-", "image_generation_user_error", "moderation_blocked"), "BadRequestError", "split"),
        (400, openai("Number of images (2) exceeds maximum of 1", code="too_many_images"), "BadRequestError", "split"),
        (400, openai("filtered", None, "content_filter", "prompt"), "BadRequestError", "split"),
        (400, openai("-", None, "billing_hard_limit_reached"), "QuotaExceededError", "stop"),
        (400, openai("API key not valid", None, "invalid_api_key"), "AuthenticationError", "stop"),
        (400, openai("no such model", "invalid_request_error", "model_not_found"), "NotFoundError", "stop"),
        (401, openai("Incorrect API key provided", code="invalid_api_key"), "AuthenticationError", "stop"),
        (401, b"", "AuthenticationError", "stop"),
        (402, openai("Insufficient credits"), "QuotaExceededError", "stop"),
        (403, openai("Country", "request_forbidden"), "PermissionDeniedError", "stop"),
        (403, openai("no access", code="model_not_found"), "PermissionDeniedError", "stop"),
        (404, openai("The model `x` does not exist", code="model_not_found"), "NotFoundError", "stop"),
        (404, b'{"detail":"Not Found"}', "NotFoundError", "stop"),
        (405, b"", "NotFoundError", "stop"),
        (415, b"", "NotFoundError", "stop"),
        *((status, b"", "NotFoundError", "stop") for status in (300, 301, 302, 303, 304, 307, 308)),
        *((status, b"", "InternalServerError", "wait") for status in (408, 409, 424, 425, 499, 500, 501)),
        *((status, b"<html>", "InternalServerError", "wait") for status in (502, 503, 504, 520, 524, 599)),
        (
            413,
            openai("Maximum content size limit (26214400) exceeded", "server_error"),
            "RequestTooLargeError",
            "split",
        ),
        (413, b"", "RequestTooLargeError", "split"),
        (422, b'{"detail":"no"}', "UnprocessableEntityError", "split"),
        (418, b"", "BadRequestError", "split"),
        (503, openai("Loading model", "unavailable_error", 503), "InternalServerError", "wait"),
        (503, openai("-", "service_unavailable_error", "server_is_overloaded"), "InternalServerError", "wait"),
    ],
)
def test_a_status_and_its_codes_mean_one_class_and_one_action(status, body, kind, action):
    made = error(status, body)
    assert (type(made).__name__, made.action, made.status) == (kind, action, status)


@pytest.mark.parametrize(
    "body, message, code",
    [
        (openai("words", "t", 400), "words", "400"),
        (openai("words", "t", "c"), "words", "c"),
        (b'{"error":"words"}', "words", None),
        (b'{"object":"error","message":"words","type":"BadRequestError","param":null,"code":400}', "words", "400"),
        (b'{"message":"words","code":413,"type":"Validation"}', "words", "413"),
        (b'{"error":"words","error_type":"Validation"}', "words", None),
        (b'{"detail":"words"}', "words", None),
        (b'{"detail":[{"loc":["body","input",3],"msg":"words","type":"string_type"}]}', "input.3: words", None),
        (b'{"error":{"code":"429","message":"words"}}', "words", "429"),
        (b'{"statusCode":401,"message":"words"}', "words", "401"),
        (b'{"code":20042,"message":"words","data":null}', "words", "20042"),
        (b'{"error":{"message":"words","type":"throttling_error","param":null,"code":"429"}}', "words", "429"),
        (b'[{"error":{"message":"words","code":400}}]', "words", "400"),
        (b"<html><head><title>502 Bad\n Gateway</title></head><body>x</body></html>", "502 Bad Gateway", None),
        (b"<p>some <b>words</b></p>", "some words", None),
        (b"plain\r\nwords", "plain words", None),
        (b'"words"', "words", None),
        (b'{"error":{"message":null,"code":"c"}}', "{'message': None, 'code': 'c'}", "c"),
        (b"\xff\xfe words", "\ufffd\ufffd words", None),
        (b"", "", None),
        (b"{}", "", None),
        (b"null", "", None),
    ],
)
def test_every_shape_of_a_body_is_read(body, message, code):
    made = error(418, body)
    assert (made.detail, made.code) == (message, code)
    assert f"{WHERE}: 418 {message or 'no message'}" in str(made)


@pytest.mark.parametrize("loc", [None, 3, "body", {"a": 1}, []])
def test_a_fastapi_error_in_an_unknown_place_is_read_too(loc):
    body = json.dumps({"detail": [None, {"loc": loc, "msg": "words", "type": "t"}]}).encode()
    assert error(422, body).detail == "words"


def test_a_fastapi_error_does_not_repeat_the_input():
    body = {"detail": [{"type": "string_type", "loc": ["body", "input", 0], "msg": "not a string", "input": "secret"}]}
    made = error(422, json.dumps(body).encode())
    assert "secret" not in str(made) + str(vars(made)) and made.param == "input"


ROWS, TOKENS = "rows", "tokens"


@pytest.mark.parametrize(
    "status, message, counts, most",
    [
        (
            400,
            "Invalid 'input': array too long. Expected an array with maximum length 2048, but got an array with length 9",
            ROWS,
            2048,
        ),
        (413, "batch size 64 > maximum allowed batch size 32", ROWS, 32),
        (422, "batch size 33 > maximum allowed batch size 32", ROWS, 32),
        (400, "input batch size 136 > maximum allowed batch size 64", ROWS, 64),
        (400, "batch size is invalid, it should not be larger than 10.: input.contents", ROWS, 10),
        (400, "Too many inputs. The max number of inputs is 16.  We hope to increase it", ROWS, 16),
        (422, "input: List should have at most 2,048 items after validation, not 3000", ROWS, 2048),
        (400, "array too long", ROWS, None),
        (400, "Requested 416735 tokens, max 300000 tokens per request", TOKENS, 300_000),
        (400, "Too many tokens in batch. Max is 16384 got 17555", TOKENS, 16_384),
        (400, "Too many tokens in batch", TOKENS, None),
        (429, TOO_LARGE, TOKENS, 30_000),
        (429, "Request too large", TOKENS, None),
        (413, "Payload Too Large", "bytes", None),
    ],
)
def test_too_much_at_once_is_told_with_what_the_server_takes(status, message, counts, most):
    made = error(status, openai(message))
    assert isinstance(made, errors.RequestTooLargeError)
    assert (made.counts, made.most) == (counts, most)


@pytest.mark.parametrize("code, counts", [("array_above_max_length", ROWS), ("max_tokens_per_request", TOKENS)])
def test_a_code_alone_says_what_there_was_too_much_of(code, counts):
    made = error(400, openai("no", code=code))
    assert (made.counts, made.most) == (counts, None)


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize(
    "message",
    [
        LONG,
        "`inputs` must have less than 512 tokens. Given: 1024",
        "the input length exceeds the context length",
        "input is too long",
        "input (9000 tokens) is larger than the maximum context size (8192 tokens)",
    ],
)
def test_one_row_that_is_too_long_says_nothing_of_how_much_a_request_takes(status, message):
    made = error(status, openai(message))
    assert isinstance(made, errors.BadRequestError) and made.action == "split"


@pytest.mark.parametrize(
    "status, said, action",
    [
        (500, "false", "fail"),
        (429, "false", "fail"),
        (400, "false", "split"),
        (400, "true", "wait"),
        (500, "true", "wait"),
        (401, "true", "stop"),
    ],
)
def test_x_should_retry_is_obeyed_but_never_restarts_what_stops_the_job(status, said, action):
    assert error(status, x_should_retry=said).action == action


@pytest.mark.parametrize(
    "body, kind",
    [
        (openai("-", "server_error"), "InternalServerError"),
        (openai("-", None, 404), "NotFoundError"),
        (openai("-", None, "401"), "AuthenticationError"),
        (openai("-", "insufficient_quota"), "QuotaExceededError"),
        (openai("-", None, "rate_limit_exceeded"), "RateLimitError"),
        (openai("-", "invalid_request_error", "model_not_found"), "NotFoundError"),
        (b'{"object":"error","message":"-","type":"BadRequestError","code":null}', "BadRequestError"),
        (b'{"object":"error","message":"-","type":"NotFoundError"}', "NotFoundError"),
        (b'[{"error":{"code":400,"message":"-"}}]', "BadRequestError"),
        ('{"error":{"code":"²","message":"-"}}'.encode(), "InternalServerError"),
        (b'{"error":{"code":999,"message":"-"}}', "InternalServerError"),
        (b'{"error":{"code":"brand_new","message":"-"}}', "InternalServerError"),
        (b'{"status":"failed","error":{"code":"brand_new","message":"-"}}', "BadRequestError"),
        (b'{"status":"failed","error":{"code":"bio_policy","message":"-"}}', "BadRequestError"),
        (b'{"status":"failed","error":{"code":"server_error","message":"-"}}', "InternalServerError"),
        (b'{"status":"failed","error":{"code":"vector_store_timeout","message":"-"}}', "InternalServerError"),
        (b'{"status":"failed","error":{"code":"rate_limit_exceeded","message":"-"}}', "RateLimitError"),
        (b'{"status":"failed","error":{"code":"insufficient_quota","message":"-"}}', "QuotaExceededError"),
    ],
)
def test_an_error_with_status_200_is_the_error_that_its_body_names(body, kind):
    assert is_error(body) and is_error(memoryview(body))
    assert type(error(200, body)).__name__ == kind


@pytest.mark.parametrize("body", [b'{"data":[],"error":null}', b"[]", b"1", b"", b"[" * 100_000, b'{"x":NaN}', b"\xff"])
def test_other_bodies_with_status_200_are_no_error(body):
    assert not is_error(body)


def test_the_message_names_place_status_code_and_request():
    made = error(500, openai("words", "server_error", "internal_error"), x_request_id="req_1")
    assert str(made) == "POST /embeddings: 500 words [internal_error] (request req_1)"
    assert made.request_id == "req_1" and made.type == "server_error"


def test_what_stops_the_job_comes_with_advice():
    for status in (401, 402, 403, 404):
        assert str(error(status, openai("words"))).count(". ") == 1


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("error", "message", "type", "code", "param", "detail", "loc", "msg", "object", "statusCode", "error_type")
objects = st.recursive(
    nested,
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=5) | st.lists(inner, max_size=2),
    max_leaves=12,
)
bodies = st.binary() | objects.map(lambda said: json.dumps(said).encode())
texts = st.text(st.characters(max_codepoint=255), max_size=2000)


@given(st.integers(100, 999), bodies, st.dictionaries(st.sampled_from(["x-request-id", "x-should-retry"]), texts))
def test_no_answer_makes_it_raise_and_the_message_is_one_bounded_line(status, body, headers):
    made = from_response(status, headers, body, WHERE)
    assert len(str(made)) <= 1000 and len(made.detail) <= 500
    assert len(str(made).splitlines()) == 1
    for name in (made.code, made.type, made.param, made.request_id):
        assert name is None or 0 < len(name) <= 100
    is_error(body)
    pickle.dumps(made)


@pytest.mark.parametrize("depth", [100, 900, 990, 5000, 100_000])
@pytest.mark.parametrize("shape", [b"%s", b'{"error":{"message":%s}}', b'{"detail":%s}', b'{"x":%s}'])
def test_a_body_nested_without_end_is_an_error_like_any_other(depth, shape):
    made = error(500, shape % (b"[" * depth + b"]" * depth))
    assert isinstance(made, errors.InternalServerError) and len(str(made)) < 1000


def test_long_names_and_messages_are_cut():
    body = json.dumps(
        {"error": {"message": "m" * 10**6, "code": "c" * 10**6, "type": "t" * 10**6, "param": "p" * 10**6}}
    )
    made = error(500, body.encode(), x_request_id="r" * 60_000)
    assert len(str(made)) < 1000 and len(made.code) == len(made.type) == len(made.param) == len(made.request_id) == 100
