"""Vectors for texts: deterministic, of unit length, and near where texts share words. Pure numpy.

These are no model's embeddings. A text is a bag of words and of character trigrams, each hashed
to one dimension and a sign; long words weigh more than short ones, and the commonest English
words almost nothing. So nearest neighbours make lexical sense: same words, inflected words, typos.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.uint32]
Indexes = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]

WHISPER = 0.1
"""How much of a text's own noise is in its vector: equal bags of words still differ, slightly."""

_STOP_WORDS = """
a about after all also an and any are as at back be because been before between both but by can
could did do does down each even first for from get go had has have he her here him his how i if in
into is it its just know like made make many may me more most much must my new no not now of off on
one only or other our out over own said same see she should so some such take than that the their
them then there these they this those through time to too two under up us use very was way we well
were what when where which while who why will with work would year you your
"""
_STOP_WEIGHT = 0.1
_TRIGRAM_WEIGHT = 1.0
_LONGEST_WORD = 20  # longer runs are not words: scripts without spaces, hashes, URLs
_TAILS = 64
_BLOCK = 256


def embed(texts: Sequence[str], dims: int) -> Floats:
    """One vector for each text.

    Args:
        texts: any strings. Words are runs of ASCII letters and digits, in any case, and of
            non-ASCII characters.
        dims: length of a vector. Another `dims` hashes anew: unlike a real model's, a shorter
            vector is not the beginning of a longer one.

    Returns:
        float32[len(texts), dims], each row of length 1.
    """
    blobs = [text.encode() for text in texts]
    vectors = WHISPER * _noise(blobs, dims)
    features = _features(blobs, dims)
    for start in range(0, len(blobs), _BLOCK):
        block = features[start : start + _BLOCK]
        norms = np.sqrt(np.einsum("ij,ij->i", block, block))
        norms[norms == 0] = 1
        block /= norms[:, None]
        rows = vectors[start : start + _BLOCK]
        rows += block
        rows /= np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return vectors


def embed_cheap(texts: Sequence[str], dims: int) -> Floats:
    """As `embed`, but each vector derives from a hash of its text alone: neighbours mean nothing.

    It costs about a microsecond for each text, so that a benchmark measures its client. Vectors
    are distinct for distinct texts: four numbers come from the hash, the others from one of a few
    fixed rows of noise.
    """
    return _noise([text.encode() for text in texts], dims)


def _features(blobs: Sequence[bytes], dims: int) -> Weights:
    """Signed sums of the weights of all words and trigrams: float64[len(blobs), dims]."""
    sizes = np.fromiter(map(len, blobs), np.int64, len(blobs))
    joined = np.frombuffer(b"\0" + b"\0".join(blobs) + b"\0", np.uint8)
    trigrams, starts, lengths = _words(joined)
    if not len(starts):
        return np.zeros((len(blobs), dims))
    words = np.add.reduceat(trigrams, np.cumsum(lengths) - lengths, dtype=np.uint32)
    weights = _weights(words, lengths)
    ends = np.searchsorted(starts, np.cumsum(sizes + 1))
    first_slots = np.repeat(np.arange(len(blobs)) * dims, np.diff(ends, prepend=0))

    # A word's trigrams together weigh in proportion to the word, however long it is.
    shares = _TRIGRAM_WEIGHT * weights / np.sqrt(np.minimum(lengths, _LONGEST_WORD))
    weights[lengths > _LONGEST_WORD] = 0
    slots, values = _signed(words, weights, first_slots, dims)
    more_slots, more_values = _signed(trigrams, np.repeat(shares, lengths), np.repeat(first_slots, lengths), dims)
    summed = np.bincount(
        np.concatenate((slots, more_slots)),
        np.concatenate((values, more_values)),
        minlength=len(blobs) * dims,
    )
    # In float64 also where there was nothing to sum, which bincount counts in integers.
    return summed.reshape(len(blobs), dims).astype(np.float64, copy=False)


def _words(joined: npt.NDArray[np.uint8]) -> tuple[Hashes, Indexes, Indexes]:
    """Finds the words of NUL-separated texts.

    Returns:
        A hash for each character of a word, with its two neighbours (the word's trigrams);
        where each word starts; how many bytes it has.
    """
    characters = _alphabet()[joined]
    inside = characters != 0
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    wide = characters.astype(np.uint32)
    packed = wide[:-2] | wide[1:-1] << np.uint32(8) | wide[2:] << np.uint32(16)
    return _mixed(packed[inside[1:-1]]), starts, ends - starts


def _weights(words: Hashes, lengths: Indexes) -> Weights:
    """Weight of each word: its length stands for its rarity."""
    weights: Weights = np.minimum(0.2 * lengths, 2.0)
    weights *= _stop_factors()[words >> np.uint32(14)]
    return weights


def _signed(hashes: Hashes, weights: Weights, first_slots: Indexes, dims: int) -> tuple[Indexes, Weights]:
    """Where each feature goes (row * dims + dimension), and its weight with a sign."""
    mixed = _mixed(hashes)
    slots = (mixed.astype(np.uint64) * np.uint64(dims) >> np.uint64(32)).astype(np.int64)
    slots += first_slots
    return slots, weights * _SIGNS[mixed & np.uint32(1)]


_SIGNS = np.array([-1.0, 1.0])


def _mixed(hashes: Hashes) -> Hashes:
    """Spreads 32 bits over 32 bits, one to one: multiply and xor-shift, twice."""
    mixed: Hashes = hashes * np.uint32(0x7FEB352D)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x846CA68B)
    mixed ^= mixed >> np.uint32(16)
    return mixed


@functools.cache
def _alphabet() -> npt.NDArray[np.uint8]:
    """Byte -> byte: letters in lower case, digits and all of UTF-8's other bytes; else 0."""
    table = np.zeros(256, np.uint8)
    for code in range(256):
        if code >= 128 or chr(code).isalnum():
            table[code] = ord(chr(code).lower()) if code < 128 else code
    return table


@functools.cache
def _stop_factors() -> Weights:
    """A word's hash, shifted to 18 bits -> what its weight is multiplied by."""
    joined = np.frombuffer(b"\0" + " ".join(_STOP_WORDS.split()).encode() + b"\0", np.uint8)
    trigrams, _, lengths = _words(joined)
    words = np.add.reduceat(trigrams, np.cumsum(lengths) - lengths, dtype=np.uint32)
    factors = np.ones(1 << 18)
    factors[words >> np.uint32(14)] = _STOP_WEIGHT
    return factors


def _noise(blobs: Sequence[bytes], dims: int) -> Floats:
    """Unit vectors, each its text's own: float32[len(blobs), dims]."""
    digests = b"".join([hashlib.blake2b(blob, digest_size=16).digest() for blob in blobs])
    bits = np.frombuffer(digests, "<u4").reshape(len(blobs), 4)
    tails = _tails(dims)
    vectors: Floats = tails[bits[:, 0] % _TAILS]
    head = (bits[:, :dims].astype(np.float32) + 0.5) / 2**31 - 1
    head[head == 0] = 1e-3  # so that no head is of length 0
    norms = np.sqrt(np.einsum("ij,ij->i", head, head) * (1 if dims <= 4 else 2))
    vectors[:, :4] = head / norms[:, None]
    return vectors


@functools.lru_cache(maxsize=16)
def _tails(dims: int) -> Floats:
    """float32[_TAILS, dims], the first four columns 0, each row of length sqrt(1/2)."""
    # RandomState: its stream is the same in every version of numpy.
    rows = np.random.RandomState(0).standard_normal((_TAILS, dims)).astype(np.float32)
    rows[:, :4] = 0
    norms = np.sqrt(2 * np.einsum("ij,ij->i", rows, rows))
    norms[norms == 0] = 1
    return np.asarray(rows / norms[:, None], np.float32)
