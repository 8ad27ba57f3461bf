"""POST /edits: the input tidied up, or in capitals or small letters where the instruction says so.

The ledger bills the input.
"""

from __future__ import annotations

import zlib
from functools import partial
from typing import Any

from ..calls import Answer, Call, Route
from ..families import context_length
from ..parameters import Check, Parameters, check, given
from ..replies import Refusal, Reply, reply_json
from ..state import State
from ..texts import check_poison
from ..wording import OLD
from ..writing import VOCABULARY, compose, count, variant

_checks = Parameters(OLD)
_CHECKS: dict[str, Check] = {
    "instruction": _checks.string(),
    "input": _checks.string(),
    "n": _checks.integer(1, 20),
    "temperature": _checks.number(0, 2),
    "top_p": _checks.number(0, 1),
}
_FIELDS = ("model", *_CHECKS)


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    return [Route("POST", "/edits", partial(_edits, state))]


def _edits(state: State, call: Call) -> Answer:
    fields = call.fields(_FIELDS)
    model = state.models.serving(fields.get("model"), "edit")
    check(fields, _CHECKS, ("instruction",))
    if "instruction" not in fields:
        raise OLD.missing("instruction")
    text, size = given(fields, "input", ""), state.options.bytes_per_token
    tokens, limit = count(text, size) + count(fields["instruction"], size), context_length(model)
    if tokens > limit:
        raise Refusal(
            400,
            f"This model's maximum context length is {limit} tokens, however you requested {tokens} tokens ({tokens} in "
            "your prompt; 0 for the completion). Please reduce your prompt; or completion length.",
        )
    check_poison([text, fields["instruction"]])
    write = partial(_write, fields, tokens, size, int(state.clock.now()))
    return Answer(model=model.name, tokens=tokens, inputs=(text,), scope=(call.path, model.name), write=write)


def _write(fields: dict[str, Any], tokens: int, size: float, created: int) -> Reply:
    text, temperature = given(fields, "input", ""), given(fields, "temperature", 1)
    made = [edited(text, fields["instruction"], variant(k, temperature, None)) for k in range(given(fields, "n", 1))]
    written = sum(count(each, size) for each in made)
    return reply_json(
        {
            "object": "edit",
            "created": created,
            "choices": [{"text": each, "index": index} for index, each in enumerate(made)],
            "usage": {
                "prompt_tokens": tokens,
                "completion_tokens": written,
                "total_tokens": tokens + written,
            },
        },
        tokens=tokens + written,
    )


def edited(text: str, instruction: str, choice: int = 0) -> str:
    """The text as the instruction wants it, as far as it is understood.

    It begins with a capital, ends with a full stop, and has single spaces; or has all its letters in the
    case that was asked for. Choices beyond the first have one word replaced. Of nothing, something is made.
    """
    words = text.split()
    if not words:
        return compose(instruction, choice)
    if choice:
        words[zlib.crc32(text.encode()) % len(words)] = VOCABULARY[choice % len(VOCABULARY)]
    tidy, wanted = " ".join(words), instruction.lower()
    if "uppercase" in wanted or "upper case" in wanted:
        return tidy.upper()
    if "lowercase" in wanted or "lower case" in wanted:
        return tidy.lower()
    return tidy[0].upper() + tidy[1:] + ("" if tidy[-1] in ".!?" else ".")
