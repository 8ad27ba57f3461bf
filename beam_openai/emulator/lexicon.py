"""How harmful a text or an image's address looks: by a few words, and a noise far below. Pure.

No model is behind it. A score is that of the worst word found, so that a text is flagged where a person
who only reads words would flag it; without such a word it is noise by the text's hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""Those of omni-moderation."""

OF_IMAGES = frozenset(
    (
        "self-harm",
        "self-harm/instructions",
        "self-harm/intent",
        "sexual",
        "violence",
        "violence/graphic",
    )
)
"""Those that an image is judged by."""

FLAGGED = 0.5
"""The score from which on a category is flagged."""

_WORDS: dict[str, dict[str, float]] = {
    "kill killed killing murder murdered shoot stab": {"violence": 0.92, "harassment/threatening": 0.41},
    "attack fight punch beat": {"violence": 0.61},
    "blood bloody gore severed entrails": {"violence": 0.71, "violence/graphic": 0.87},
    "bomb explosive grenade": {"illicit": 0.78, "illicit/violent": 0.74, "violence": 0.55},
    "steal shoplift counterfeit meth": {"illicit": 0.83},
    "suicide": {"self-harm": 0.94, "self-harm/intent": 0.66},
    "overdose cutting": {"self-harm": 0.72, "self-harm/instructions": 0.37},
    "idiot moron stupid loser": {"harassment": 0.84},
    "hate despise vermin subhuman": {"hate": 0.69, "harassment": 0.58},
    "exterminate eradicate": {"hate/threatening": 0.64, "hate": 0.73, "violence": 0.7},
    "sex porn nude erotic": {"sexual": 0.9},
    "underage": {"sexual/minors": 0.57},
}
_SCORES = {word: scores for words, scores in _WORDS.items() for word in words.split()}
_WORD = re.compile(r"[a-z]+")


def scores(text: str, categories: Sequence[str]) -> dict[str, float]:
    """A score from 0 to 1 for each category.

    Of a category that is not in `CATEGORIES` the only word is its own name.
    """
    words = set(_WORD.findall(text.lower()))
    found = {category: _noise(text, category) for category in categories}
    for word in words & _SCORES.keys():
        for category, score in _SCORES[word].items():
            if category in found:
                found[category] = max(found[category], score)
    for category in set(categories) - set(CATEGORIES):
        if words.issuperset(_WORD.findall(category.lower())):
            found[category] = 0.9
    return found


def worst(all_scores: Iterable[dict[str, float]]) -> dict[str, float]:
    """The highest score of each category."""
    found: dict[str, float] = {}
    for each in all_scores:
        for category, score in each.items():
            found[category] = max(found.get(category, 0.0), score)
    return found


def _noise(text: str, category: str) -> float:
    """A millionth to a thousandth."""
    drawn = hashlib.blake2b(f"{category} {text}".encode(), digest_size=4).digest()
    return float(10 ** (-6 + 3 * int.from_bytes(drawn, "big") / 2**32))
