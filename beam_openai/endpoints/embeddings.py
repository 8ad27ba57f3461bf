"""POST /embeddings: a vector for each text, up to 2,048 of them in one request."""

from __future__ import annotations

import binascii
import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pybase64

from beam_openai import buffers
from beam_openai.call import Answer, Bad, Endpoint, option
from beam_openai.client import Body, Request
from beam_openai.errors import BadAnswerError
from beam_openai.tokens import Counts, as_plain, byte_lengths

DIMENSIONS = {
    "text-embedding-ada-002": 1536,
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
}
"""Length of the vectors of OpenAI's models; each takes 8,192 tokens of a text."""


@dataclasses.dataclass(kw_only=True, eq=False)
class Embeddings(Endpoint):
    """Adds to each row the vector of one of its columns: `embedding: fixed_size_list<float32>[length]`.

    Limits, by OpenAI's API reference: 2,048 texts and 300,000 tokens a request, 8,192 tokens a text. Rows that are null,
    empty, not text (or a list of token ids), or surely too long fail before anything is sent, and cost nothing. A row that
    makes the server refuse a request is found by halving, at most 2 * (log2(rows) + 1) requests more, none of them billed.
    A row whose vector is NaN, null or of another length than the others' was paid for: kind `bad_answer`.

    Attributes:
      input: the column to embed: text, or lists of token ids.
      output: the name of the column added.
      dimensions: length that the vectors are to have, for models that can shorten them; not sent unless set.
      encoding_format: how vectors travel: "base64" (a fifth of the bytes, exact), "float", or None: not sent, for servers
        that refuse it. What comes back is read either way.
      user: an end user's id, passed on for abuse monitoring.
      max_batch_size: rows of one request at most; default as many as the limits allow.
    """

    path: ClassVar[str] = "/embeddings"
    most_rows: ClassVar[int] = 2048
    most_tokens: ClassVar[float] = 300_000
    advice: ClassVar[dict[str, str]] = {
        "dimensions": "This server or model does not know dimensions: leave it unset",
        "encoding_format": 'This server does not know encoding_format: set it to "float", or to None so that it is not sent',
    }

    input: str = "text"
    output: str = "embedding"
    dimensions: int | None = option()
    encoding_format: Literal["base64", "float"] | None = option("base64")
    user: str | None = option()
    max_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        native = DIMENSIONS.get(self.model)
        if self.dimensions is not None and not _is_between(self.dimensions, 1, native):
            most = f" to {native}, what {self.model} has" if native else " or more"
            raise ValueError(f"dimensions must be 1{most}, not {self.dimensions!r}")
        if self.encoding_format not in ("base64", "float", None):
            raise ValueError(f'encoding_format must be "base64", "float" or None, not {self.encoding_format!r}')
        if self.max_batch_size is not None and not _is_between(self.max_batch_size, 1, self.most_rows):
            raise ValueError(f"max_batch_size must be 1 to {self.most_rows}, not {self.max_batch_size!r}")

    @property
    def inputs(self) -> list[str]:
        return [self.input]

    @property
    def fields(self) -> list[pa.Field]:
        length = self.dimensions or DIMENSIONS.get(self.model)
        return [pa.field(self.output, pa.list_(pa.float32(), length) if length else pa.null())]

    @property
    def batch_size(self) -> int:
        return self.max_batch_size or self.most_rows

    @property
    def most_input_tokens(self) -> int | None:
        return 8192 if self.model in DIMENSIONS else None

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        values = as_plain(rows[self.input])
        if not (_is_text(values.type) or _is_token_ids(values.type)):
            return dict.fromkeys(range(len(values)), f"{self.input} is {values.type}, not text")
        empty, null = np.flatnonzero(byte_lengths(values) == 0), np.flatnonzero(values.is_null())
        return {
            **dict.fromkeys(empty.tolist(), f"{self.input} is empty"),
            **dict.fromkeys(_broken(values), f"{self.input} is not valid UTF-8, or has a null among its token ids"),
            **dict.fromkeys(null.tolist(), f"{self.input} is null"),
        }

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        values = rows[self.input]
        if _is_text(as_plain(values[:0]).type) or _is_token_ids(values.type):
            return count(values)
        return np.zeros(len(values), dtype=np.int64)

    def request(self, rows: pa.Table) -> Request:
        body = {**self.options(), "input": rows[self.input].to_pylist()}
        return Request(self.path, msgspec.json.encode(body))

    def columns(self, body: Body, rows: pa.Table) -> Answer:
        response = _decode(body)
        vectors = [item.embedding for item in _in_order(response.data, rows.num_rows)]
        column, bad = _column(vectors, self.dimensions or DIMENSIONS.get(self.model))
        return Answer([column], bad, _prompt_tokens(response.usage))


def _is_between(number: object, least: int, most: int | None) -> bool:
    return isinstance(number, int) and least <= number <= (most or number)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_token_ids(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_integer(kind.value_type))


def _broken(values: pa.ChunkedArray) -> list[int]:
    """Rows whose bytes are not what their type says, which Parquet files may hold, or that have holes."""
    try:
        values.validate(full=True)
        if _is_text(values.type) or not any(chunk.flatten().null_count for chunk in values.chunks):
            return []
    except pa.ArrowInvalid:
        pass
    return [row for row, value in enumerate(values) if not _is_whole(value)]


def _is_whole(value: pa.Scalar) -> bool:
    try:
        found = value.as_py()
    except UnicodeDecodeError:
        return False
    return not isinstance(found, list) or None not in found


class _Item(msgspec.Struct, gc=False):
    embedding: msgspec.Raw = msgspec.Raw(b"null")
    index: Any = None


class _Response(msgspec.Struct):
    data: list[_Item]
    usage: Any = None


_decoder = msgspec.json.Decoder(_Response)


def _decode(body: Body) -> _Response:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            # A bare NaN is not JSON, but some servers write it; it is one row's trouble and not the others'.
            read = json.loads(bytes(body), parse_constant=lambda name: None, parse_int=float)
            return _decoder.decode(msgspec.json.encode(read))
        except (ValueError, RecursionError):
            raise BadAnswerError(f"/embeddings: the answer is not a list of vectors: {error}") from error


def _prompt_tokens(usage: Any) -> int | None:
    """What was billed, as far as it can be told: whatever else stands there must not cost the answer."""
    counts = usage if isinstance(usage, dict) else {}
    numbers = (_integer(counts.get(name)) for name in ("prompt_tokens", "total_tokens"))
    return next((number for number in numbers if number is not None and number >= 0), None)


def _integer(said: object) -> int | None:
    """12 of 12, 12.0 and "12"."""
    if isinstance(said, str) and said.isascii() and said.isdigit() and len(said) < 16:
        return int(said)
    if isinstance(said, bool) or not isinstance(said, (int, float)) or not abs(said) < 2**53 or said != int(said):
        return None
    return int(said)


def _in_order(items: list[_Item], rows: int) -> list[_Item]:
    """The items by their indexes, which must be those of the rows; by position, if none has an index."""
    indexes = [item.index if type(item.index) is int else _integer(item.index) for item in items]
    if indexes == list(range(rows)):
        return items
    if len(items) != rows:
        raise BadAnswerError(f"/embeddings: {len(items)} vectors for {rows} texts")
    if all(item.index is None for item in items):
        return items
    if Counter(indexes) != Counter(range(rows)):
        raise BadAnswerError(
            f"/embeddings: the indexes of {rows} vectors are not 0 to {rows - 1}, each once "
            "(a server that numbers none of them right can be asked with max_batch_size=1)"
        )
    by_index = dict(zip(indexes, items))
    return [by_index[row] for row in range(rows)]


def _column(raws: Sequence[msgspec.Raw], length: int | None) -> tuple[pa.Array, dict[int, Bad]]:
    """The vectors as one array; without a `length`, that of most of the first few that can be read is right."""
    size = length or _usual_length(raws)
    width, bad = 4 * size, {}
    room, buffer = buffers.lease(len(raws) * width)
    for row, raw in enumerate(raws):
        vector = _vector(raw)
        if vector is not None and len(vector) == width:
            room[row * width : (row + 1) * width] = vector
            continue
        room[row * width : (row + 1) * width] = bytes(width)
        bad[row] = _misfit(raw, vector, size)
    matrix = np.frombuffer(buffer, dtype="<f4").reshape(len(raws), size)
    # One sum a row finds NaN and infinity, which are rare: only what it finds is looked at number by number.
    with np.errstate(over="ignore", invalid="ignore"):
        sums = matrix.sum(axis=1)
    for row in np.flatnonzero(~np.isfinite(sums)).tolist():
        if not np.isfinite(matrix[row]).all():
            bad[row] = Bad("the vector holds NaN, null or infinity", bytes(raws[row]))
    values = pa.Array.from_buffers(pa.float32(), matrix.size, [None, buffer])
    return pa.FixedSizeListArray.from_arrays(values, size), bad


def _usual_length(raws: Sequence[msgspec.Raw]) -> int:
    readable = (vector for vector in map(_vector, raws) if vector)
    lengths = Counter(len(vector) // 4 for vector in itertools.islice(readable, 9))
    return lengths.most_common(1)[0][0] if lengths else 1


def _misfit(raw: msgspec.Raw, vector: bytes | None, size: int) -> Bad:
    if vector is None:
        return Bad("the vector is neither a list of numbers nor base64", bytes(raw))
    return Bad(
        f"the vector has {len(vector) // 4} numbers where {size} were expected: set dimensions to what the server gives, "
        "or leave it unset if the server does not know it",
        bytes(raw),
        systematic=True,
    )


def _vector(raw: msgspec.Raw) -> bytes | None:
    """The numbers of one vector as little-endian float32, whether they came as base64 or as a list."""
    view = memoryview(raw)
    try:
        if view[0] == 0x22:
            packed = _from_base64(view)
            return packed if len(packed) % 4 == 0 else None
        numbers = msgspec.json.decode(raw, type=list[float | None])
    except (ValueError, RecursionError):
        return None
    with np.errstate(over="ignore"):
        return np.array(numbers, dtype="<f4").tobytes()


def _from_base64(quoted: memoryview) -> bytes:
    try:
        return pybase64.b64decode(quoted[1:-1], validate=True)
    except binascii.Error:
        # Some JSON writers escape the slashes of base64, and some encoders break it into lines.
        text = "".join(msgspec.json.decode(quoted, type=str).split())
        return pybase64.b64decode(text, validate=True)
