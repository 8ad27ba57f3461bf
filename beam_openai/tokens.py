"""How many tokens a text will cost: an estimate that answers correct, and exact counts where tiktoken is installed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_logger = logging.getLogger(__name__)

_DOWNLOAD_SECONDS = 15.0
"""tiktoken fetches its vocabulary when it is first used, and waits for it without end."""

Counts = NDArray[np.int64]

MESSAGE_TOKENS = 4
"""What a message costs beside its text, about."""
IMAGE_TOKENS = 765
"""What an image of 1024 x 1024 pixels costs beside a prompt, about: nobody looks how large it is."""


def byte_lengths(texts: pa.Array) -> Counts:
    """UTF-8 bytes of each text, an upper bound of its tokens for every byte-level BPE; 0 for null, and for what is no text.

    A list of token ids counts one for each id.
    """
    try:
        lengths = pc.list_value_length(texts) if _is_list(texts.type) else pc.binary_length(as_plain(texts))
    except pa.ArrowNotImplementedError:
        return np.zeros(len(texts), dtype=np.int64)
    if lengths.null_count:
        lengths = lengths.fill_null(0)
    return lengths.to_numpy().astype(np.int64)


def as_plain(texts: pa.Array) -> pa.Array:
    """Dictionary-encoded texts, and views, as plain strings, which are all that most of Arrow's functions know."""
    kind = texts.type
    if pa.types.is_dictionary(kind):
        texts = texts.cast(kind.value_type)
    for is_view, plain in ((pa.types.is_string_view, pa.large_string()), (pa.types.is_binary_view, pa.large_binary())):
        if is_view(texts.type):
            texts = texts.cast(plain)
    return pa.nulls(len(texts), pa.string()) if pa.types.is_null(kind) else texts


def of_texts(rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
    """Tokens of all columns of a table that are text, row by row."""
    total = np.zeros(rows.num_rows, dtype=np.int64)
    for column in rows.columns:
        kind = as_plain(column[:0]).type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            total = total + count(column)
    return total


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


class Estimate:
    """Tokens by bytes: `max(1, ceil(bytes * ratio))`, the ratio learned from what answers say was used.

    It begins at one token in three bytes, a fair mean of languages and code (English has four, Chinese and base64 two),
    and follows the answers as an exponential mean over the last ten or so.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.ratio = 1 / 3
        self._answers = 0

    def __call__(self, texts: pa.Array) -> Counts:
        ratio = 1.0 if _is_list(texts.type) else self.ratio
        return np.maximum(1, np.ceil(byte_lengths(texts) * ratio)).astype(np.int64)

    @staticmethod
    def at_least(counts: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tokens that texts of so many bytes surely have: no token of OpenAI's vocabularies is longer than 128 bytes."""
        return lengths / 128

    def learn(self, estimated: float, used: float) -> None:
        """Takes in that texts estimated to cost so many tokens did cost so many."""
        if estimated <= 0 or used <= 0:
            return
        with self._lock:
            self._answers += 1
            weight = max(0.1, 1 / self._answers)
            correction = min(4.0, max(0.25, used / estimated))
            self.ratio = min(2.0, max(0.02, self.ratio * (1 + weight * (correction - 1))))

    def raise_to(self, estimated: float, counted: float) -> None:
        """Takes in that a server counted so many tokens in what was estimated at fewer, and refused them for it."""
        with self._lock:
            self.ratio = min(2.0, self.ratio * max(1.0, counted / max(1.0, estimated)))


class Exact:
    """Counts by tiktoken; there is nothing to learn."""

    def __init__(self, encode: Callable[[Sequence[str]], list[list[int]]]) -> None:
        self._encode = encode

    def __call__(self, texts: pa.Array) -> Counts:
        if _is_list(texts.type):
            return byte_lengths(texts)
        if not _is_bytes(as_plain(texts[:0]).type):
            return np.ones(len(texts), dtype=np.int64)
        # By way of bytes: a row that is not UTF-8 will fail for that reason, and is not to fail the others here.
        rows = [str(text or b"", "utf-8", "replace") for text in as_plain(texts).cast(pa.large_binary()).to_pylist()]
        return np.asarray([max(1, len(ids)) for ids in self._encode(rows)], dtype=np.int64)

    @staticmethod
    def at_least(counts: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float64]:
        return counts

    def raise_to(self, estimated: float, counted: float) -> None:
        pass

    def learn(self, estimated: float, used: float) -> None:
        pass


def counter(model: str) -> Estimate | Exact:
    """Exact counts if tiktoken is installed, knows the model and has its vocabulary; the estimate otherwise.

    Never raises, and takes at most 15 s where a vocabulary cannot be fetched: a worker may have no network.
    """
    try:
        import tiktoken
    except ImportError:
        return Estimate()
    found: list[Exact] = []

    def load() -> None:
        try:
            encoding = tiktoken.encoding_for_model(model)
        except Exception as error:  # an unknown model, no network, a broken cache: all mean the same here
            _logger.info("tokens are estimated, tiktoken has no vocabulary: %s", error)
            return
        found.append(Exact(lambda texts: encoding.encode_batch(list(texts), num_threads=2, disallowed_special=())))

    loader = threading.Thread(target=load, name="tiktoken", daemon=True)
    loader.start()
    loader.join(_DOWNLOAD_SECONDS)
    return found[0] if found else Estimate()
