"""POST /completions: each prompt is continued, by the words of `writing`.

The ledger bills each prompt once: its text, or the tuple of its token ids. What continues a prompt with the
marker FILTERED breaks off half way, its finish_reason content_filter.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ...calls import Answer, Call, Route
from ...families import context_length
from ...parameters import Check, Parameters, check, given, stops
from ...replies import Refusal
from ...state import State
from ...texts import check_poison, count_tokens
from ...wording import MODERN
from .choices import Asked, Prompt, reply, stream

_END_OF_TEXT = "<|endoftext|>"

_checks = Parameters(MODERN)
_CHECKS: dict[str, Check] = {
    "max_tokens": _checks.integer(0),
    "temperature": _checks.number(0, 2),
    "n": _checks.integer(1, 128),
    "stop": _checks.stop,
    "logprobs": _checks.integer(0, 5),
    "echo": _checks.boolean,
    "top_p": _checks.number(0, 1),
    "best_of": _checks.integer(0, 20),
    "suffix": _checks.string(),
    "stream": _checks.boolean,
    "stream_options": _checks.members({"include_usage": _checks.boolean, "include_obfuscation": _checks.boolean}),
    "presence_penalty": _checks.number(-2, 2),
    "frequency_penalty": _checks.number(-2, 2),
    "logit_bias": _checks.logit_bias,
    "seed": _checks.integer(-(2**63), 2**63 - 1),
    "user": _checks.string(),
}
_FIELDS = ("model", "prompt", *_CHECKS)


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    return [Route("POST", "/completions", partial(_completions, state))]


def _completions(state: State, call: Call) -> Answer:
    fields = call.fields(_FIELDS)
    model = state.models.serving(fields.get("model"), "completion")
    check(fields, _CHECKS, ("user",))
    _check_together(fields)
    prompts, size = _prompts(fields), state.options.bytes_per_token
    counts = [_count(prompt, size) for prompt in prompts]
    asked = _asked(state, model.name, fields, prompts, sum(counts))
    _check_length(max(counts), asked.max_tokens, context_length(model))
    check_poison(prompts)
    write = partial(reply, asked)
    if fields.get("stream"):
        usage = bool(given(fields, "stream_options", {}).get("include_usage"))
        write = partial(stream, asked, usage, state.options.stream_style, zlib.crc32(call.body))
    tokens = asked.prompt_tokens + asked.max_tokens * asked.best_of * len(prompts)
    return Answer(model=model.name, tokens=tokens, inputs=prompts, scope=(call.path, model.name), write=write)


def _asked(state: State, model: str, fields: Mapping[str, Any], prompts: Sequence[Prompt], prompt_tokens: int) -> Asked:
    n = given(fields, "n", 1)
    return Asked(
        id=state.new_id("cmpl-"),
        created=int(state.clock.now()),
        model=model,
        prompts=prompts,
        prompt_tokens=prompt_tokens,
        suffix=given(fields, "suffix", ""),
        n=n,
        best_of=given(fields, "best_of", n),
        max_tokens=given(fields, "max_tokens", 16),
        stop=stops(fields),
        temperature=given(fields, "temperature", 1),
        seed=fields.get("seed"),
        echo=given(fields, "echo", False),
        logprobs=fields.get("logprobs"),
        bytes_per_token=state.options.bytes_per_token,
    )


def _prompts(fields: Mapping[str, Any]) -> list[Prompt]:
    """The prompts: texts, or tuples of token ids. A flat list of ids is one prompt."""
    if "prompt" not in fields:
        raise MODERN.missing("prompt")
    prompt = fields["prompt"]
    if prompt is None:
        return [_END_OF_TEXT]
    if type(prompt) is str:
        return [prompt]
    if type(prompt) is not list:
        raise MODERN.wrong_type("prompt", prompt, "string", "array")
    if not prompt:
        raise MODERN.too_short("prompt", prompt, 1)
    if all([type(item) is str for item in prompt]):
        return prompt
    if _are_ids(prompt):
        return [tuple(prompt)]
    if all([type(item) is list and _are_ids(item) for item in prompt]):
        return [tuple(item) for item in prompt]
    raise Refusal(
        400, "Invalid 'prompt': expected texts, token ids, or arrays of token ids, all alike.", param="prompt"
    )


def _are_ids(items: list[Any]) -> bool:
    return bool(items) and all([type(item) is int and item >= 0 for item in items])


def _check_together(fields: Mapping[str, Any]) -> None:
    n, best_of = given(fields, "n", 1), fields.get("best_of")
    if best_of is not None and best_of < n:
        message = (
            "You requested that the server return more choices than it will generate (HINT: you must set 'n' "
            f"(currently {n}) to be at most 'best_of' (currently {best_of}), or omit either parameter if you don't "
            "specifically want to use them.)"
        )
        raise Refusal(400, message)
    if fields.get("stream") and best_of is not None and best_of > n:
        raise Refusal(400, f"You cannot stream results with 'best_of' (currently {best_of}) above 'n' (currently {n}).")
    if fields.get("stream_options") is not None and not fields.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise Refusal(400, message, param="stream_options")


def _count(prompt: Prompt, bytes_per_token: float) -> int:
    return count_tokens(prompt, bytes_per_token) if isinstance(prompt, str) else len(prompt)


def _check_length(prompt: int, completion: int, limit: int) -> None:
    if prompt + completion > limit:
        raise Refusal(
            400,
            f"This model's maximum context length is {limit} tokens, however you requested {prompt + completion} tokens "
            f"({prompt} in your prompt; {completion} for the completion). Please reduce your prompt; or completion "
            "length.",
        )
