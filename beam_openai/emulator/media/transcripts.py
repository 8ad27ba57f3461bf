"""What was heard, with its times: segments, words, subtitles. Pure.

Time is shared out evenly over the characters.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from ..writing import VOCABULARY

TOKEN = re.compile(r"\s*\S+|\s+\Z")
"""A word, and what separates it from the one before."""

_SENTENCE = 8  # words
_LONGEST = 12  # words of a segment
_WORDS_PER_SECOND = 2.5
_MOST_WORDS = 250


@dataclass(frozen=True)
class Span:
    """A piece of a transcript, from `start` to `end`, in seconds."""

    text: str
    start: float
    end: float


def invented(digest: str, seconds: float) -> str:
    """Words for audio of that SHA-256, in sentences, as many as can be said in that time."""
    count = min(_MOST_WORDS, max(3, round(seconds * _WORDS_PER_SECOND)))
    words = [VOCABULARY[byte % len(VOCABULARY)] for byte in hashlib.shake_128(digest.encode()).digest(count)]
    sentences = [" ".join(words[at : at + _SENTENCE]) for at in range(0, count, _SENTENCE)]
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def segments(text: str, seconds: float) -> list[Span]:
    """The text in pieces of a sentence or of twelve words, whichever is shorter."""
    pieces: list[list[str]] = []
    for word in text.split():
        if not pieces or len(pieces[-1]) == _LONGEST or pieces[-1][-1][-1] in ".!?":
            pieces.append([])
        pieces[-1].append(word)
    return _timed([" ".join(piece) for piece in pieces], seconds)


def words(text: str, seconds: float) -> list[Span]:
    """The words, without the marks around them."""
    spans = [Span(span.text.strip("\"'.,;:!?()[]"), span.start, span.end) for span in _timed(text.split(), seconds)]
    return [span for span in spans if span.text]


def _timed(pieces: Sequence[str], seconds: float) -> list[Span]:
    total = max(1, sum(map(len, pieces)))
    spans, at = [], 0
    for piece in pieces:
        start, at = at, at + len(piece)
        spans.append(Span(piece, round(seconds * start / total, 3), round(seconds * at / total, 3)))
    return spans


def tokens(text: str) -> list[int]:
    """Ids that stand for the tokens of a text: one for each word."""
    return [zlib.crc32(word.encode()) % 50_000 for word in text.split()]


def srt(spans: Sequence[Span]) -> str:
    """Subtitles as SubRip: numbered, with a comma in the times."""
    blocks = [
        f"{number}\n{_clock(span.start, ',')} --> {_clock(span.end, ',')}\n{span.text}\n\n"
        for number, span in enumerate(spans, 1)
    ]
    return "".join(blocks)


def vtt(spans: Sequence[Span]) -> str:
    """Subtitles as WebVTT: a headline, and a point in the times."""
    blocks = [f"{_clock(span.start, '.')} --> {_clock(span.end, '.')}\n{span.text}\n\n" for span in spans]
    return "WEBVTT\n\n" + "".join(blocks)


def _clock(seconds: float, point: str) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"


_LANGUAGES = """
af afrikaans ar arabic hy armenian az azerbaijani be belarusian bs bosnian bg bulgarian ca catalan zh chinese
hr croatian cs czech da danish nl dutch en english et estonian fi finnish fr french gl galician de german el greek
he hebrew hi hindi hu hungarian is icelandic id indonesian it italian ja japanese kn kannada kk kazakh ko korean
lv latvian lt lithuanian mk macedonian ms malay mr marathi mi maori ne nepali no norwegian fa persian pl polish
pt portuguese ro romanian ru russian sr serbian sk slovak sl slovenian es spanish sw swahili sv swedish tl tagalog
ta tamil th thai tr turkish uk ukrainian ur urdu vi vietnamese cy welsh
"""
LANGUAGES: dict[str, str] = dict(re.findall(r"(\w+) (\w+)", _LANGUAGES))
"""ISO-639-1 codes -> what the verbose answer calls them."""
