"""The choices of a completion: written, and shown at once or token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from ... import logprobs, sse
from ...replies import Reply, reply_json
from ...writing import FILTERED, Written, compose, filtered, finish, pieces, spelled, variant

Prompt = str | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A checked request. `prompt_tokens` are those of all prompts."""

    id: str
    created: int
    model: str
    prompts: Sequence[Prompt]
    prompt_tokens: int
    suffix: str
    n: int
    best_of: int
    max_tokens: int
    stop: Sequence[str]
    temperature: float
    seed: int | None
    echo: bool
    logprobs: int | None
    bytes_per_token: float

    def head(self) -> dict[str, Any]:
        """What an answer, or a piece of one, begins with."""
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}

    def tokens(self, prompt: Prompt) -> list[str]:
        """A prompt's tokens."""
        return pieces(prompt, self.bytes_per_token) if isinstance(prompt, str) else spelled(prompt)


@dataclass(frozen=True)
class _Choice:
    """What was written at `index`, to go on from `prompt`."""

    index: int
    prompt: Prompt
    written: Written

    def tokens(self, asked: Asked) -> list[str]:
        """The tokens of its text, behind those of an echoed prompt."""
        before = asked.tokens(self.prompt) if asked.echo else []
        return before + pieces(self.written.text, asked.bytes_per_token)

    def text(self, asked: Asked) -> str:
        """Its text, behind an echoed prompt."""
        return (_spelled(self.prompt) if asked.echo else "") + self.written.text

    def logprobs(self, asked: Asked) -> dict[str, Any] | None:
        """The four lists, if they were asked for."""
        if asked.logprobs is None:
            return None
        before = asked.tokens(self.prompt)
        echoed, offset = (len(before), 0) if asked.echo else (0, sum(map(len, before)))
        return logprobs.of_completion(self.tokens(asked), asked.logprobs, offset, echoed)


def reply(asked: Asked) -> Reply:
    """All choices at once."""
    choices = list(_choices(asked))
    usage = _usage(asked, choices)
    shown = [
        {
            "text": choice.text(asked),
            "index": choice.index,
            "logprobs": choice.logprobs(asked),
            "finish_reason": choice.written.finish_reason,
        }
        for choice in choices
    ]
    return reply_json({**asked.head(), "choices": shown, "usage": usage}, tokens=usage["total_tokens"])


def stream(asked: Asked, with_usage: bool, style: str, seed: int) -> Reply:
    """The choices token by token, in turns."""
    choices = list(_choices(asked))
    used = _usage(asked, choices)
    usage = {"usage": None} if with_usage else {}
    turns = chain.from_iterable(zip_longest(*[_deltas(asked, choice) for choice in choices]))
    events = [sse.data({**asked.head(), "choices": [delta], **usage}) for delta in turns if delta is not None]
    if with_usage:
        events.append(sse.data({**asked.head(), "choices": [], "usage": used}))
    return sse.reply([*events, sse.DONE], style, seed, used["total_tokens"])


def _deltas(asked: Asked, choice: _Choice) -> Iterator[dict[str, Any]]:
    lists = choice.logprobs(asked)
    for at, token in enumerate(choice.tokens(asked)):
        scores = lists and {name: values[at : at + 1] for name, values in lists.items()}
        yield {"text": token, "index": choice.index, "logprobs": scores, "finish_reason": None}
    yield {"text": "", "index": choice.index, "logprobs": None, "finish_reason": choice.written.finish_reason}


def _choices(asked: Asked) -> Iterator[_Choice]:
    """Prompt i has the choices from i * n on.

    Of `best_of` those are taken whose tokens have the highest log probability on average.
    """
    for number, prompt in enumerate(asked.prompts):
        written = [_written(asked, prompt, k) for k in range(asked.best_of)]
        if asked.best_of > asked.n:
            written.sort(key=lambda each: _likelihood(pieces(each.text, asked.bytes_per_token)), reverse=True)
        for k, each in enumerate(written[: asked.n]):
            yield _Choice(number * asked.n + k, prompt, each)


def _written(asked: Asked, prompt: Prompt, k: int) -> Written:
    before = _spelled(prompt)
    text = compose(before + asked.suffix, variant(k, asked.temperature, asked.seed))
    written = finish(f" {text}", asked.stop, asked.max_tokens, asked.bytes_per_token)
    return filtered(written, asked.bytes_per_token) if FILTERED in before else written


def _spelled(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "".join(spelled(prompt))


def _likelihood(tokens: Sequence[str]) -> float:
    return sum(logprobs.chosen(tokens)) / max(1, len(tokens))


def _usage(asked: Asked, choices: Sequence[_Choice]) -> dict[str, int]:
    written = sum([choice.written.tokens for choice in choices])
    return {
        "prompt_tokens": asked.prompt_tokens,
        "completion_tokens": written,
        "total_tokens": asked.prompt_tokens + written,
    }
