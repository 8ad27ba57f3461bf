"""Log probabilities of tokens: made up, the same for the same tokens, and a token's own the highest."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from .writing import VOCABULARY


def chosen(tokens: Sequence[str]) -> list[float]:
    """The log probability of each token: -4 to 0."""
    return [-(zlib.crc32(f"{index} {token}".encode()) % 4_000_000) / 1e6 for index, token in enumerate(tokens)]


def likeliest(token: str, logprob: float, many: int) -> list[tuple[str, float]]:
    """The `many` most likely tokens in place of one, itself the first, likelier ones before others."""
    others: list[tuple[str, float]] = []
    at = zlib.crc32(token.encode())
    while len(others) < many - 1:
        other = f" {VOCABULARY[at % len(VOCABULARY)]}"
        if other != token:
            others.append((other, round(logprob - 0.5 * (len(others) + 1), 6)))
        at += 1
    return [(token, logprob), *others][:many]


def of_completion(tokens: Sequence[str], many: int, offset: int, prompt_tokens: int = 0) -> dict[str, Any]:
    """The four lists of POST /completions.

    Args:
        tokens: of the choice's text.
        many: how many are listed for each; with 0 the token itself still is.
        offset: of the first token, in characters from the beginning of the prompt.
        prompt_tokens: 0, or how many of the tokens are an echoed prompt's, whose first has no
            probability.
    """
    scores: list[float | None] = [*chosen(tokens)]
    if prompt_tokens and scores:
        scores[0] = None
    tops: list[dict[str, float] | None] = []
    offsets = []
    for token, score in zip(tokens, scores, strict=True):
        tops.append(None if score is None else dict(likeliest(token, score, max(1, many))))
        offsets.append(offset)
        offset += len(token)
    return {"tokens": list(tokens), "token_logprobs": scores, "top_logprobs": tops, "text_offset": offsets}


def of_chat(tokens: Sequence[str], many: int) -> list[dict[str, Any]]:
    """One object for each token, with its `many` most likely."""
    found = []
    for token, score in zip(tokens, chosen(tokens), strict=True):
        tops = [_shown(other, value) for other, value in likeliest(token, score, many)] if many else []
        found.append({**_shown(token, score), "top_logprobs": tops})
    return found


def _shown(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
