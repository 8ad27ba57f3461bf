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

from beam_openai import answers, buffers, texts
from beam_openai.answers import Answer, Bad
from beam_openai.call import Endpoint, option
from beam_openai.client import Body, Request, Response
from beam_openai.errors import BadAnswerError
from beam_openai.options import Column, check, check_choice, of_each
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
    A row whose vector is NaN, null or of another length than the others' was paid for: kind `bad_answer`; where the models
    are a column, rows of OpenAI's models whose vectors have another length than most around them are not sent.

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
    row_fields: ClassVar[frozenset[str]] = frozenset({"input"})
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
        check("dimensions", self.dimensions, 1, self._native or float("inf"), whole=True)
        check_choice("encoding_format", self.encoding_format, ("base64", "float"))
        super().__post_init__()

    @property
    def _native(self) -> int | None:
        return DIMENSIONS.get(self.model) if isinstance(self.model, str) else None

    @property
    def inputs(self) -> list[str]:
        return [self.input]

    @property
    def added(self) -> list[pa.Field]:
        length = self.dimensions or self._native
        return [pa.field("embedding", pa.list_(pa.float32(), length) if length else pa.null())]

    @property
    def most_input_tokens(self) -> int | None:
        return 8192 if self.model in DIMENSIONS else None

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        values = rows[self.input]
        unusable = texts.unusable_token_ids if texts.is_token_ids(values.type) else texts.unusable
        return {**self._of_other_lengths(rows), **unusable(values, self.input)}

    def _of_other_lengths(self, rows: pa.Table) -> dict[int, str]:
        """Rows whose model is known to give vectors that do not fit in one column with those of most others."""
        if self.dimensions is not None or not isinstance(self.model, Column):
            return {}
        name = self.model.name
        lengths = ((row, DIMENSIONS.get(str(model))) for row, model in enumerate(of_each(self.model, rows)))
        known = {row: length for row, length in lengths if length}
        ((usual, _),) = Counter(known.values()).most_common(1) or [(0, 0)]
        return {
            row: f"{name} is a model whose vectors have {length} numbers, where those of most rows have {usual}, and a "
            "column holds one length: set dimensions, or run the models apart"
            for row, length in known.items()
            if length != usual
        }

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        values = rows[self.input]
        return count(values) if texts.is_token_ids(values.type) else super().tokens(rows, count)

    def request(self, rows: pa.Table) -> Request:
        return Request(self.path, {**self.options(rows), "input": rows[self.input].to_pylist()})

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        said = _decode(response.body)
        items = answers.in_order(said.data, [item.index for item in said.data], rows.num_rows, self.path)
        column, bad = _column([item.embedding for item in items], self.dimensions or self._native)
        return Answer([column], bad, **answers.usage_of(said.usage))


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
