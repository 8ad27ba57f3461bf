"""POST /embeddings: checked as the real service does, answered with vectors of hashed features.

Beside the markers of `texts`, POISON-NAN anywhere in a text makes its own row's vector NaN, alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pybase64

from .. import vectors
from ..calls import Answer, Call, Route
from ..options import Options
from ..replies import Refusal, Reply
from ..state import State
from ..texts import INVALID_INPUT, check_poison, count_tokens

_FIELDS = ("model", "input", "encoding_format", "dimensions", "user")
_FIXED_LENGTH = "text-embedding-ada-002"

Input = str | tuple[int, ...]


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    return [Route("POST", "/embeddings", partial(_embeddings, state))]


def _embeddings(state: State, call: Call) -> Answer:
    options = state.options
    known = [name for name in _FIELDS if name != "encoding_format" or not options.no_encoding_format]
    fields = call.fields(known)
    served = state.models.serving(fields.get("model"), "embedding")
    model = served.name
    if not isinstance(fields.get("user", ""), str):
        raise Refusal(400, f"{_quoted(fields['user'])} is not of type 'string' - 'user'")
    dimensions = _dimensions(fields, model, served.dimensions, options)
    packed = _packed(fields, options)
    inputs = _inputs(fields, options)
    tokens = _tokens(inputs, options)
    check_poison(inputs)
    write = partial(_write, inputs, model, dimensions, packed, tokens, options)
    scope = (call.path, model, str(fields.get("dimensions", "")))
    return Answer(model=model, tokens=tokens, inputs=inputs, scope=scope, write=write)


def _quoted(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else msgspec.json.encode(value).decode()[:100]


def _dimensions(fields: dict[str, Any], model: str, native: int, options: Options) -> int:
    if "dimensions" not in fields:
        return native
    wanted = fields["dimensions"]
    if options.no_dimensions:
        message = (
            f'Model "{model}" does not support matryoshka representation, changing output '
            "dimensions will lead to poor results."
        )
        raise Refusal(400, message)
    if model == _FIXED_LENGTH:
        raise Refusal(400, "This model does not support specifying dimensions.")
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        message = f"{_quoted(wanted)} is not of type 'integer' - 'dimensions'"
        raise Refusal(400, message, param="dimensions")
    if wanted < 1:
        raise Refusal(400, f"{wanted} is less than the minimum of 1 - 'dimensions'")
    if wanted > native:
        message = f"Invalid value for 'dimensions' = {wanted}. Must be less than or equal to {native}."
        raise Refusal(400, message)
    return wanted


def _packed(fields: dict[str, Any], options: Options) -> bool:
    wanted = fields.get("encoding_format", "float")
    if wanted not in ("float", "base64"):
        message = f"{_quoted(wanted)} is not one of ['float', 'base64'] - 'encoding_format'"
        raise Refusal(400, message)
    return wanted == "base64" and not options.ignore_encoding_format


def _inputs(fields: dict[str, Any], options: Options) -> list[Input]:
    """The inputs: texts, or tuples of token ids. A flat list of ids is one input."""
    if "input" not in fields:
        raise Refusal(400, "'input' is a required property")
    given = fields["input"]
    if isinstance(given, str) or _is_ids(given):
        given = [given]
    if not isinstance(given, list) or not given or "" in given:
        raise Refusal(400, INVALID_INPUT)
    if len(given) > options.max_inputs:
        raise _too_many(len(given), options)
    if all(type(item) is str for item in given):
        return given
    if all(_is_ids(item) for item in given):
        return [tuple(item) for item in given]
    raise Refusal(400, INVALID_INPUT)


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int and item >= 0 for item in value)


def _too_many(count: int, options: Options) -> Refusal:
    limit = options.max_inputs
    if options.style != "openai":
        return Refusal(400, f"batch size {count} > maximum allowed batch size {limit}")
    message = (
        f"Invalid 'input': array too long. Expected an array with maximum length {limit}, but got "
        f"an array with length {count} instead."
    )
    return Refusal(400, message, param="input", code="array_above_max_length")


def _tokens(inputs: Sequence[Input], options: Options) -> int:
    """Tokens of all inputs, each within its limit."""
    counts = [_count(item, options.bytes_per_token) for item in inputs]
    longest, limit = max(counts), options.max_tokens_per_input
    if longest > limit:
        message = (
            f"This model's maximum context length is {limit} tokens, however you requested "
            f"{longest} tokens ({longest} in your prompt; 0 for the completion). Please reduce "
            "your prompt; or completion length."
        )
        raise Refusal(400, message)
    total, limit = sum(counts), options.max_tokens_per_request
    if total > limit:
        code = "max_tokens_per_request"
        message = f"Requested {total} tokens, max {limit} tokens per request"
        raise Refusal(400, message, type=code, code=code)
    return total


def _count(item: Input, bytes_per_token: float) -> int:
    return count_tokens(item, bytes_per_token) if isinstance(item, str) else len(item)


def _write(inputs: Sequence[Input], model: str, dims: int, packed: bool, tokens: int, options: Options) -> Reply:
    """The body, joined from bytes: at thousands of numbers a row, no object for each of them."""
    rows = _vectors(inputs, dims, options)
    pack = _base64_rows if packed else _float_rows
    data = [
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, vector) for index, vector in enumerate(pack(rows))
    ]
    body = b'{"object":"list","data":[%b],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}'
    return Reply(body=body % (b",".join(data), msgspec.json.encode(model), tokens, tokens))


def _vectors(inputs: Sequence[Input], dims: int, options: Options) -> vectors.Floats:
    texts = [item if isinstance(item, str) else " ".join(map(str, item)) for item in inputs]
    embed = vectors.embed if options.vectors == "features" else vectors.embed_cheap
    rows = embed(texts, dims)
    for index, text in enumerate(texts):
        if "POISON-NAN" in text:
            rows[index] = np.nan
    return rows


def _base64_rows(rows: vectors.Floats) -> list[bytes]:
    """Little-endian float32, packed, in standard base64, in quotes."""
    view = memoryview(np.ascontiguousarray(rows, "<f4").data).cast("B")
    size = rows.shape[1] * 4
    encode = pybase64.b64encode
    return [b'"%b"' % encode(view[at : at + size]) for at in range(0, len(view), size)]


def _float_rows(rows: vectors.Floats) -> list[bytes]:
    """JSON lists of the decimals of nine digits, which are these float32 exactly; a NaN stands bare."""
    with np.errstate(divide="ignore", invalid="ignore"):
        wide = rows.astype(np.float64)
        scale = 10.0 ** (8 - np.floor(np.log10(np.abs(wide))))
        short = np.where(wide == 0, 0.0, np.rint(wide * scale) / scale)
    written = []
    for before, row in zip(rows, short, strict=True):
        if np.isnan(before).any():
            numbers = ["NaN" if math.isnan(number) else repr(number) for number in row.tolist()]
            written.append(f"[{','.join(numbers)}]".encode())
        else:
            written.append(msgspec.json.encode(row.tolist()))
    return written
