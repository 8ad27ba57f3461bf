"""POST /embeddings: a vector for each text, up to 2,048 of them in one request."""

from __future__ import annotations

import binascii
import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pybase64

from beam_openai import buffers
from beam_openai.call import Answer, Bad, Endpoint, option
from beam_openai.client import Body, Request
from beam_openai.errors import BadAnswerError
from beam_openai.tokens import Counts

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
        if self.dimensions is not None and not 1 <= self.dimensions <= (native or self.dimensions):
            most = f" to {native}, what {self.model} has" if native else " or more"
            raise ValueError(f"dimensions must be 1{most}, not {self.dimensions!r}")
        if self.encoding_format not in ("base64", "float", None):
            raise ValueError(f'encoding_format must be "base64", "float" or None, not {self.encoding_format!r}')
        if self.max_batch_size is not None and not 1 <= self.max_batch_size <= self.most_rows:
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
        values = rows[self.input]
        if _is_text(values.type):
            empty = pc.equal(pc.binary_length(values), 0)
        elif _is_token_ids(values.type):
            empty = pc.equal(pc.list_value_length(values), 0)
        elif pa.types.is_null(values.type):
            empty = pc.is_null(values)
        else:
            return dict.fromkeys(range(len(values)), f"{self.input} is {values.type}, not text")
        null = np.flatnonzero(values.is_null())
        return {
            **dict.fromkeys(np.flatnonzero(empty.fill_null(False)).tolist(), f"{self.input} is empty"),
            **dict.fromkeys(null.tolist(), f"{self.input} is null"),
        }

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        values = rows[self.input]
        if _is_text(values.type) or _is_token_ids(values.type):
            return count(values)
        return np.zeros(len(values), dtype=np.int64)

    def request(self, rows: pa.Table) -> Request:
        body = {**self.options(), "input": rows[self.input].to_pylist()}
        return Request(self.path, msgspec.json.encode(body))

    def columns(self, body: Body, rows: pa.Table) -> Answer:
        response = _decode(body)
        vectors = [item.embedding for item in _in_order(response.data, rows.num_rows)]
        column, bad = _column(vectors, self.dimensions or DIMENSIONS.get(self.model))
        usage = response.usage or _Usage()
        return Answer([column], bad, usage.prompt_tokens)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_token_ids(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(is_list and pa.types.is_integer(kind.value_type))


class _Item(msgspec.Struct, gc=False):
    embedding: msgspec.Raw
    index: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None


class _Response(msgspec.Struct):
    data: list[_Item]
    usage: _Usage | None = None


_decoder = msgspec.json.Decoder(_Response)


def _decode(body: Body) -> _Response:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        try:
            # A bare NaN is not JSON, but some servers write it; it is one row's trouble and not the others'.
            return msgspec.convert(json.loads(bytes(body), parse_constant=lambda name: None), _Floats).items()
        except (ValueError, RecursionError):
            raise BadAnswerError(f"/embeddings: the answer is not a list of vectors: {error}") from error


class _FloatItem(msgspec.Struct):
    embedding: Any
    index: int | None = None


class _Floats(msgspec.Struct):
    data: list[_FloatItem]
    usage: _Usage | None = None

    def items(self) -> _Response:
        items = [_Item(msgspec.Raw(msgspec.json.encode(item.embedding)), item.index) for item in self.data]
        return _Response(items, self.usage)


def _in_order(items: list[_Item], rows: int) -> list[_Item]:
    """The items by their indexes, which must be those of the rows; by position, if none has an index."""
    indexes = [item.index for item in items]
    if indexes == list(range(rows)):
        return items
    if len(items) != rows:
        raise BadAnswerError(f"/embeddings: {len(items)} vectors for {rows} texts")
    if not any(index is not None for index in indexes):
        return items
    if Counter(indexes) != Counter(range(rows)):
        raise BadAnswerError(
            f"/embeddings: the indexes of {rows} vectors are not 0 to {rows - 1}, each once "
            "(a server that numbers none of them right can be asked with max_batch_size=1)"
        )
    return sorted(items, key=lambda item: item.index or 0)


def _column(raws: Sequence[msgspec.Raw], length: int | None) -> tuple[pa.Array, dict[int, Bad]]:
    """The vectors as one array; without a `length`, that of the first that can be read is right."""
    size = length or next((len(first) // 4 for first in map(_vector, raws) if first), 1)
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
    for row in np.flatnonzero(~np.isfinite(matrix.sum(axis=1))).tolist():
        if not np.isfinite(matrix[row]).all():
            bad[row] = Bad("the vector holds NaN, null or infinity", bytes(raws[row]))
    values = pa.Array.from_buffers(pa.float32(), matrix.size, [None, buffer])
    return pa.FixedSizeListArray.from_arrays(values, size), bad


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
            return _from_base64(view)
        numbers = msgspec.json.decode(raw, type=list[float | None])
    except (ValueError, msgspec.DecodeError):
        return None
    return np.array(numbers, dtype="<f4").tobytes()


def _from_base64(quoted: memoryview) -> bytes:
    try:
        return pybase64.b64decode(quoted[1:-1], validate=True)
    except binascii.Error:
        # Some JSON writers escape the slashes of base64.
        return pybase64.b64decode(msgspec.json.decode(quoted, type=str), validate=True)
