"""What the body of an answer holds for the rows of its request."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import pyarrow as pa

from beam_openai.client import Body
from beam_openai.errors import BadAnswerError
from beam_openai.schemas import Schema

T = TypeVar("T")


USAGE = pa.struct(
    [
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("total_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("reasoning_tokens", pa.int64()),
    ]
)
"""What an answer cost, as a column: null where the server does not say."""

TOOL_CALLS = pa.list_(
    pa.struct([("id", pa.string()), ("type", pa.string()), ("name", pa.string()), ("arguments", pa.string())])
)
"""Calls of the caller's own tools, as a column: arguments as JSON, of a custom tool the text that it is given."""

TOP = pa.struct([("token", pa.string()), ("logprob", pa.float64())])
"""One of the likeliest tokens at a place."""


@dataclasses.dataclass(frozen=True)
class Bad:
    """Why one row of an answer cannot be used.

    Attributes:
      message: the reason.
      raw: the row's part of the answer, as it came.
      systematic: the reason would hold for every row: if it does for the first answer of all, the job stops.
    """

    message: str
    raw: bytes
    systematic: bool = False


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a response holds for the rows of its request.

    Attributes:
      columns: one for each of the endpoint's fields, a value for each row: an array; or, where the field's type is declared,
        a list, of which arrays are made when there are more rows. None where all rows are bad.
      bad: by the row's position, those without a usable value.
      prompt_tokens, completion_tokens, cached_tokens: the answer's usage; None where it does not say.
    """

    columns: Sequence[pa.Array | list[Any]]
    bad: Mapping[int, Bad] = dataclasses.field(default_factory=dict)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


def decode(body: Body, decoder: msgspec.json.Decoder[T], what: str) -> T:
    """A JSON body as the decoder's type.

    Args:
      body: as it came.
      decoder: of a struct that names no more than what is used: servers leave out, and add, what they like.
      what: the path, for the message.

    Raises:
      BadAnswerError: it is something else.
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswerError(f"{what}: the answer is not what was asked for: {error}") from error


def tool_call(id: Any, type: Any, name: Any, arguments: Any) -> dict[str, str | None]:
    """A value of `TOOL_CALLS`, whatever stands where texts should: arguments that are an object become its JSON."""
    if arguments is not None and not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode()
    parts = {"id": id, "type": type, "name": name, "arguments": arguments}
    return {part: value if isinstance(value, str) else None for part, value in parts.items()}


def calls_as_json(calls: list[dict[str, str | None]] | None) -> str | None:
    """Values of `tool_call` as JSON; None where there are none."""
    return msgspec.json.encode(calls).decode() if calls else None


def typed(
    schema: Schema, text: str | None, refusal: str | None, calls: str | None, cut: str | None
) -> list[pa.Array] | Bad:
    """The columns of an answer that was to fit a schema; or why there are none.

    Args:
      schema: what was asked for.
      text: the answer's; None where it has none.
      refusal: its words.
      calls: the tools that it calls, as JSON.
      cut: why the text is not complete, and what would help; None if it is complete.
    """
    if cut:
        return Bad(f"the answer was cut: {cut}", (text or refusal or calls or "").encode())
    if refusal and not text:
        return Bad("the answer is a refusal", refusal.encode())
    try:
        return schema.parse(text or "")
    except ValueError as error:
        if calls:
            return Bad("the answer calls tools, and has no text that fits the schema", calls.encode())
        return Bad(f"the answer does not fit the schema: {error}", (text or "").encode())


def usage_of(usage: Any) -> dict[str, Any]:
    """An answer's usage, as `Answer` takes it: whatever else stands there must not cost the answer."""
    counts = usage if isinstance(usage, dict) else {}
    prompt = _first(counts, "prompt_tokens", "input_tokens")
    if prompt is None and not ("completion_tokens" in counts or "output_tokens" in counts):
        prompt = _first(counts, "total_tokens")
    details = counts.get("prompt_tokens_details") or counts.get("input_tokens_details")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": _first(counts, "completion_tokens", "output_tokens"),
        "cached_tokens": _first(details if isinstance(details, dict) else {}, "cached_tokens"),
    }


def usage_struct(usage: Any, told: Mapping[str, int | None]) -> dict[str, int | None]:
    """An answer's usage as a value of the type `USAGE`; `told` is what `usage_of` reads in it."""
    counts = usage if isinstance(usage, dict) else {}
    details = counts.get("completion_tokens_details") or counts.get("output_tokens_details")
    return {
        **told,
        "total_tokens": _first(counts, "total_tokens"),
        "reasoning_tokens": _first(details if isinstance(details, dict) else {}, "reasoning_tokens"),
    }


def _first(counts: Mapping[str, Any], *names: str) -> int | None:
    numbers = (integer(counts.get(name)) for name in names)
    return next((number for number in numbers if number is not None and number >= 0), None)


def integer(said: object) -> int | None:
    """12 of 12, 12.0 and "12"; None of anything else."""
    if isinstance(said, str) and said.isascii() and said.isdigit() and len(said) < 16:
        return int(said)
    if isinstance(said, bool) or not isinstance(said, (int, float)) or not abs(said) < 2**53 or said != int(said):
        return None
    return int(said)


def in_order(items: list[T], indexes: Sequence[object], wanted: int, what: str) -> list[T]:
    """Items by their indexes, which must be 0 to `wanted` - 1, each once; by position, if none has an index.

    Raises:
      BadAnswerError: there are more or fewer, or an index is missing, doubled or another.
    """
    told = [index if type(index) is int else integer(index) for index in indexes]
    if told == list(range(wanted)):
        return items
    if len(items) != wanted:
        raise BadAnswerError(f"{what}: {len(items)} answers where {wanted} were asked for")
    if all(index is None for index in indexes):
        return items
    if Counter(told) != Counter(range(wanted)):
        raise BadAnswerError(
            f"{what}: the indexes of {wanted} answers are not 0 to {wanted - 1}, each once "
            "(a server that numbers none of them right can be asked with max_batch_size=1)"
        )
    by_index = dict(zip(told, items))
    return [by_index[row] for row in range(wanted)]
