"""How long an example may be, how many there must be, and how often they are trained on.

Sources: OpenAI's fine-tuning guide, of 2022 for the models of then and of 2024 for gpt-3.5-turbo; Azure's table of models
that can be fine-tuned ("training example context length", 2025) for those since gpt-4o. Of gpt-4, davinci-002 and
babbage-002 it is the context length, which no example can exceed. What stands in neither has no limit here.
"""

from __future__ import annotations

import re

LEAST_EXAMPLES = 10
"""With fewer a fine-tuning job fails."""

MOST_FILE_BYTES = 512_000_000
"""Of one file."""

_EXAMPLE_TOKENS = {
    "gpt-4.1": 65_536,
    "gpt-4.1-mini": 65_536,
    "gpt-4.1-nano": 32_768,
    "gpt-4o": 65_536,
    "gpt-4o-mini": 65_536,
    "gpt-4": 8_192,
    "gpt-3.5-turbo": 16_385,
    "gpt-3.5-turbo-0613": 4_096,
    "davinci-002": 16_384,
    "babbage-002": 16_384,
    **dict.fromkeys(("ada", "babbage", "curie", "davinci"), 2_048),
}
_OLD = ("ada", "babbage", "curie", "davinci")
_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{4})$")


def base(model: str) -> str:
    """The model that a fine-tuned one was made from: of `ft:gpt-4o-mini:org::id`, and of `curie:ft-org-2022-01-01`."""
    first, _, rest = model.partition(":")
    return rest.partition(":")[0] if first == "ft" else first


def example_tokens(model: str) -> int | None:
    """Tokens of one example; what is longer would be cut by OpenAI, or refused. None where the model is not known."""
    name = base(model)
    return _EXAMPLE_TOKENS.get(name) or _EXAMPLE_TOKENS.get(_SNAPSHOT.sub("", name))


def takes(model: str, form: str) -> bool:
    """Whether a job for this model takes examples of this form, as far as its name tells."""
    name = _SNAPSHOT.sub("", base(model))
    if name in (*_OLD, "davinci-002", "babbage-002"):
        return form == "completion"
    return form != "completion" or not name.startswith("gpt-")


def epochs(model: str, examples: int) -> int:
    """How often OpenAI trains on a file of so many examples where n_epochs is `auto`: an estimate.

    By OpenAI's notebook for preparing chat data (2023): three times; more often where that is less than 100 examples in all,
    less often where it is more than 25,000. Models of 2022 four times.
    """
    if base(model) in _OLD:
        return 4
    if examples * 3 < 100:
        return min(25, 100 // max(1, examples))
    return min(3, max(1, 25_000 // examples))
