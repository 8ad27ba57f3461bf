"""What tokens cost, by OpenAI's price list: US dollars for a million of them.

The figures are those of OpenAI's documentation as of September 2026, for the standard tier: of a prompt's tokens, of cached
ones, and of an answer's. What training costs is not among them, nor are the models that were gone by then, nor what comes
on top (for very long prompts, for writing to the cache): what is not there has no price. A price list ages: pass your own
to `cost` for another day, another tier, or another server. Tokens are counted whole and priced in decimals, so that sums
over a dataset do not drift.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from decimal import Decimal

AS_OF = "2026-09"
"""The month of `PRICES`, which are those of the standard tier (a batch job and the flex tier cost half)."""

_MILLION = Decimal(1_000_000)
_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclasses.dataclass(frozen=True)
class Price:
    """Dollars for a million tokens: of a prompt, of one that was cached, of an answer, and in training.

    None where there is no such price, or none is known; a model without one for cached tokens takes that of a prompt.
    """

    prompt: Decimal | None = None
    cached: Decimal | None = None
    completion: Decimal | None = None
    training: Decimal | None = None


def _price(*dollars: str | None) -> Price:
    return Price(*(None if value is None else Decimal(value) for value in dollars))


PRICES: Mapping[str, Price] = {
    "gpt-6-astra": _price("10", "1", "50"),
    "gpt-5.6-sol": _price("4", ".40", "20"),
    "gpt-5.6-terra": _price("2", ".20", "12"),
    "gpt-5.6-luna": _price(".20", ".02", "1.20"),
    "gpt-5.5": _price("5", ".50", "30"),
    "gpt-5.4": _price("2.50", ".25", "15"),
    "gpt-5.4-mini": _price(".75", ".075", "4.50"),
    "gpt-5.4-nano": _price(".20", ".02", "1.25"),
    "gpt-5.2": _price("1.75", ".175", "14"),
    "gpt-5.1": _price("1.25", ".125", "10"),
    "gpt-5": _price("1.25", ".125", "10"),
    "gpt-5-mini": _price(".25", ".025", "2"),
    "gpt-5-nano": _price(".05", ".005", ".40"),
    "gpt-4.1": _price("2", ".50", "8"),
    "gpt-4.1-mini": _price(".40", ".10", "1.60"),
    "gpt-4.1-nano": _price(".10", ".025", ".40"),
    "gpt-4o": _price("2.50", "1.25", "10"),
    "gpt-4o-mini": _price(".15", ".075", ".60"),
    "o4-mini": _price("1.10", ".275", "4.40"),
    "o3": _price("2", ".50", "8"),
    "o3-mini": _price("1.10", ".55", "4.40"),
    "o1": _price("15", "7.50", "60"),
    "gpt-4-turbo": _price("10", None, "30"),
    "gpt-4": _price("30", None, "60"),
    "gpt-3.5-turbo": _price(".50", None, "1.50"),
    "gpt-3.5-turbo-instruct": _price("1.50", None, "2"),
    "davinci-002": _price("2", None, "2"),
    "babbage-002": _price(".40", None, ".40"),
    "text-embedding-3-small": _price(".02", None, None),
    "text-embedding-3-large": _price(".13", None, None),
    "text-embedding-ada-002": _price(".10", None, None),
    "omni-moderation-latest": _price("0", None, None),
}


def price_of(model: str, prices: Mapping[str, Price] = PRICES) -> Price | None:
    """The price of a model by its name, or by its name without the date behind it; None where it is not known.

    A model that was fine-tuned costs more than its base, so `ft:...` has only the price that `prices` gives it.
    """
    return prices.get(model) or prices.get(_DATE.sub("", model))


def cost(
    model: str,
    prompt_tokens: int = 0,
    completion_tokens: int = 0,
    cached_tokens: int = 0,
    prices: Mapping[str, Price] = PRICES,
) -> Decimal | None:
    """Dollars that so many tokens cost; None where the list does not know.

    Args:
      model: by its name.
      prompt_tokens: all of them, the cached ones included, as a server counts them.
      completion_tokens: all of them, those of reasoning included.
      cached_tokens: so many of the prompt's were cached.
      prices: a list of your own.

    Raises:
      ValueError: a number is below 0, or more are cached than there are.
    """
    if min(prompt_tokens, completion_tokens, cached_tokens) < 0 or cached_tokens > prompt_tokens:
        raise ValueError(
            f"{prompt_tokens} prompt_tokens, {completion_tokens} completion_tokens, {cached_tokens} cached_tokens: "
            "none can be below 0, nor more be cached than are in the prompt"
        )
    price = price_of(model, prices)
    if price is None:
        return None
    cached = price.prompt if price.cached is None else price.cached
    parts = (
        (prompt_tokens - cached_tokens, price.prompt),
        (cached_tokens, cached),
        (completion_tokens, price.completion),
    )
    if any(tokens and dollars is None for tokens, dollars in parts):
        return None
    return sum((tokens * dollars for tokens, dollars in parts if dollars is not None), Decimal(0)) / _MILLION


def training_cost(model: str, tokens: int, prices: Mapping[str, Price] = PRICES) -> Decimal | None:
    """Dollars that it costs to train on so many tokens, those of all epochs; None where the list does not know.

    `PRICES` knows of no model what training costs: give a list that has `Price(training=...)`.
    """
    price = price_of(model, prices)
    return None if price is None or price.training is None else tokens * price.training / _MILLION
