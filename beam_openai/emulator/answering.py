"""What the model answers: it thinks, then says something in the form that is wanted, refuses, or calls tools.

POST /chat/completions and POST /responses show the same answers in their own ways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .formats import Format
from .offers import Offer, Tool
from .writing import FILTERED, REFUSAL, REFUSE, count, filtered, finish

_CACHED_FROM, _CACHED_BY = 1024, 128


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked.

    Attributes:
        prompt: all texts, by which the answer is drawn.
        last: the user's last words, in which markers are looked for.
        answered: whether a tool has answered those: then none is asked again because of the marker.
        max_tokens: of thoughts and answer together.
        thoughts: tokens of thinking that come before an answer.
    """

    prompt: str
    last: str
    answered: bool
    offer: Offer
    form: Format
    stop: Sequence[str]
    max_tokens: int | None
    thoughts: int
    bytes_per_token: float


class Called(NamedTuple):
    """One call of a tool: `id` is what its answer refers to."""

    id: str
    tool: Tool
    argument: str


@dataclass(frozen=True, kw_only=True)
class Said:
    """An answer: a text, which may be a refusal, or calls.

    `finish_reason` is as in POST /chat/completions. `tokens` are of all, the `thoughts` included.
    """

    finish_reason: str
    tokens: int
    thoughts: int
    text: str = ""
    refused: bool = False
    calls: Sequence[Called] = ()


def answer(question: Question, variant: int, call_id: Callable[[int], str]) -> Said:
    """The answer to a question.

    Args:
        variant: which one, of those there can be.
        call_id: makes the id of the call of that number.
    """
    thoughts, left = question.thoughts, question.max_tokens
    if left is not None:
        thoughts = min(thoughts, left)
        left -= thoughts
        if left == 0:
            return Said(finish_reason="length", tokens=thoughts, thoughts=thoughts)
    if REFUSE in question.last:
        text, called = REFUSAL, []
    else:
        seed = f"{variant} {question.prompt}"
        called = question.offer.called("" if question.answered else question.last, seed)
        if called:
            return _calling(question, called, seed, thoughts, left, call_id)
        text = question.form.write(question.prompt, variant)
    written = finish(text, question.stop, left, question.bytes_per_token)
    if FILTERED in question.last:
        written = filtered(written, question.bytes_per_token)
    return Said(
        finish_reason=written.finish_reason,
        tokens=thoughts + written.tokens,
        thoughts=thoughts,
        text=written.text,
        refused=text is REFUSAL,
    )


def _calling(
    question: Question,
    called: Sequence[Tool],
    seed: str,
    thoughts: int,
    left: int | None,
    call_id: Callable[[int], str],
) -> Said:
    """Calls, of which the last argument is cut off, and no more are made, where the budget ends."""
    offer, size = question.offer, question.bytes_per_token
    # As the real service does: who names the tool is told that the model has stopped.
    reason = "stop" if offer.named else "function_call" if offer.legacy else "tool_calls"
    made, used = [], 0
    for number, tool in enumerate(called):
        used += count(tool.name, size)
        budget = None if left is None else max(0, left - used)
        argument = finish(tool.argument(f"{number} {seed}"), (), budget, size)
        made.append(Called(call_id(number), tool, argument.text))
        used += argument.tokens
        if argument.finish_reason == "length" and left is not None:
            reason, used = "length", min(used, left)
            break
    return Said(finish_reason=reason, tokens=thoughts + used, thoughts=thoughts, calls=made)


def cached(prompt_tokens: int, tokens_before: int) -> int:
    """Tokens of a prompt that come from the cache.

    A prompt of 1024 tokens or more is taken to have come before, all but its last message: of that
    as much is cached as fits in steps of 128.
    """
    return tokens_before // _CACHED_BY * _CACHED_BY if prompt_tokens >= _CACHED_FROM else 0
