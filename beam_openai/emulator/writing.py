"""What stands in for a language model: texts of the prompt's own words and of a fixed vocabulary, by hash.

The same prompt gets the same text, from every model. Texts are counted and cut in the tokens of
`texts.count_tokens`: so many bytes each, whatever a real tokenizer would say.
"""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .texts import count_tokens

_WORDS = """
and the with from near under over through river stone light paper garden window silver quiet early bright
small open clear warm gentle simple steady careful certain common distant familiar honest answer question
morning evening winter summer harbour valley mountain letter number reason pattern journey market village
bridge signal shadow colour music engine lantern follows carries keeps holds turns gathers opens crosses
branch evergreen
"""
VOCABULARY = tuple(_WORDS.split())
"""Words of no particular meaning: 64 of them, so that six bits of a hash name one."""

FILTERED = "FILTERED"
"""The marker of a prompt whose answer a content filter stops."""
REFUSE = "REFUSE"
"""The marker of a prompt that the model refuses to answer."""
REFUSAL = "I'm sorry, but I can't help with that."

_WORD = re.compile(r"[^\W_]+")
_READ = 2000  # characters of a prompt whose words may be used again
_OWN = 128
_LONGEST = 20


class Written(NamedTuple):
    """A text that was written: `tokens` of it, and why it ends ("stop", "length" or "content_filter")."""

    text: str
    tokens: int
    finish_reason: str


def compose(prompt: str, variant: int = 0) -> str:
    """A few sentences, 6 to 37 words, that a prompt and a variant always get."""
    data = prompt.encode()
    drawn = hashlib.blake2b(data, digest_size=64, salt=variant.to_bytes(16, "little")).digest()
    own = [word[:_LONGEST] for word in _WORD.findall(prompt, 0, _READ)[:_OWN]]
    # Whatever else they have in common, choices begin with different words.
    words = [VOCABULARY[(zlib.crc32(data) + variant) & 63]]
    for byte in drawn[2 : 7 + drawn[0] % 32]:
        at = byte >> 1
        words.append(own[at % len(own)] if byte & 1 and own else VOCABULARY[at & 63])
    return " ".join(_sentences(words, drawn))


def _sentences(words: Sequence[str], drawn: bytes) -> Iterator[str]:
    at = 0
    while at < len(words):
        end = at + 4 + (drawn[at] & 7)
        sentence = " ".join(words[at:end])
        yield f"{sentence[0].upper()}{sentence[1:]}."
        at = end


def variant(choice: int, temperature: float, seed: int | None) -> int:
    """Which text the choice of that index gets: at temperature 0 they are all the same."""
    return (0 if temperature == 0 else choice) | (seed or 0) % 2**64 << 32


def finish(text: str, stops: Sequence[str], max_tokens: int | None, bytes_per_token: float) -> Written:
    """Ends a text before the first of `stops`, or after `max_tokens`, whichever comes first.

    A text that is cut for its length has exactly `max_tokens`, in which no character is cut: with
    less than four bytes for a token it can have a few less.
    """
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    if found:
        text = text[: min(found)]
    if max_tokens is not None and count(text, bytes_per_token) > max_tokens:
        kept = text.encode()[: math.floor(max_tokens * bytes_per_token)].decode(errors="ignore")
        return Written(kept, count(kept, bytes_per_token), "length")
    return Written(text, count(text, bytes_per_token), "stop")


def filtered(written: Written, bytes_per_token: float) -> Written:
    """The first half of it: where a content filter stopped the model."""
    text = written.text[: len(written.text) // 2]
    return Written(text, count(text, bytes_per_token), "content_filter")


def count(text: str, bytes_per_token: float) -> int:
    """Tokens of what was written: none where nothing was."""
    return count_tokens(text, bytes_per_token) if text else 0


def pieces(text: str, bytes_per_token: float) -> list[str]:
    """The tokens of a text, one after another: as many as `count` says, and together the text.

    A character belongs to the token in which its first byte is not yet full; with less than four
    bytes for a token some tokens can be empty.
    """
    data = text.encode()
    ends = [math.floor(index * bytes_per_token) for index in range(1, count(text, bytes_per_token))] + [len(data)]
    found, start = [], 0
    for end in ends:
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        end = max(end, start)
        found.append(data[start:end].decode())
        start = end
    return found


def spelled(ids: Sequence[int]) -> list[str]:
    """The tokens that stand for token ids: each id is a word."""
    return [f" {VOCABULARY[token % len(VOCABULARY)]}" for token in ids]
