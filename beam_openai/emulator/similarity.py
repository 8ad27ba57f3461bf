"""How near texts are to a query: by the words that they share, scored as POST /engines/{engine_id}/search did.

A text that says nothing of the query has about 0; one that has all of its words, and no others, 350.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from . import vectors

_DIMENSIONS = 512
_BY_VECTOR, _BY_WORDS = 250, 100
_WORD = re.compile(r"\w+")


def scores(query: str, texts: Sequence[str]) -> list[float]:
    """The score of each text, at least 0."""
    if not texts:
        return []
    rows = vectors.embed([query, *texts], _DIMENSIONS)
    cosines = (rows[1:] @ rows[0]).tolist()
    wanted = _words(query)
    return [
        round(max(0.0, _BY_VECTOR * cosine) + _BY_WORDS * len(wanted & _words(text)) / max(1, len(wanted)), 3)
        for cosine, text in zip(cosines, texts, strict=True)
    ]


def ranked(query: str, texts: Sequence[str]) -> list[tuple[int, float]]:
    """Index and score of each text, the nearest first."""
    found = list(enumerate(scores(query, texts)))
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
