"""What tokens cost."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_openai.prices import PRICES, Price, cost, price_of, training_cost

NUMBERS = st.integers(0, 10**9)


@pytest.mark.parametrize(
    "model, tokens, dollars",
    [
        ("gpt-4o-mini", (1_000_000, 0, 0), "0.15"),
        ("gpt-4o-mini", (1_000_000, 1_000_000, 1_000_000), "0.675"),
        ("gpt-4o-mini-2024-07-18", (10, 20, 5), "0.000013125"),
        ("gpt-5-mini", (3, 1, 0), "0.00000275"),
        ("gpt-4-turbo", (1_000_000, 0, 1_000_000), "10"),
        ("text-embedding-3-small", (50_000_000, 0, 0), "1"),
        ("omni-moderation-latest", (10**9, 0, 0), "0"),
        ("gpt-4o", (0, 0, 0), "0"),
    ],
)
def test_tokens_cost_what_the_list_says(model, tokens, dollars):
    assert cost(model, *tokens) == Decimal(dollars)


@pytest.mark.parametrize(
    "model, tokens",
    [
        ("gpt-99", (1, 1)),
        ("", (1, 1)),
        ("gpt-4o-mini-latest", (1, 1)),
        ("gpt-4o-2024-07", (1, 1)),
        ("ft:gpt-4o-mini:org::id", (1, 1)),
        ("text-embedding-3-small", (1, 1)),
    ],
)
def test_what_the_list_does_not_know_has_no_price(model, tokens):
    assert cost(model, *tokens) is None


def test_a_model_with_a_date_of_its_own_in_the_list_has_that_price():
    prices = {"m": Price(prompt=Decimal(1)), "m-2024-05-13": Price(prompt=Decimal(5))}
    assert price_of("m-2024-05-13", prices) == Price(prompt=Decimal(5))
    assert price_of("m-2025-01-01", prices) == Price(prompt=Decimal(1))


def test_a_list_of_ones_own_counts():
    prices = {**PRICES, "ft:gpt-4o-mini:org::id": Price(Decimal(".30"), None, Decimal("1.20"))}
    assert cost("ft:gpt-4o-mini:org::id", 1_000_000, 1_000_000, prices=prices) == Decimal("1.5")


@pytest.mark.parametrize("tokens", [(-1, 0, 0), (0, -1, 0), (5, 0, -1), (5, 0, 6)])
def test_numbers_that_cannot_be_are_refused(tokens):
    with pytest.raises(ValueError, match="tokens"):
        cost("gpt-4o", *tokens)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_costs_add_up_without_drift(prompt, completion, cached):
    prompt += cached
    apart = [cost("gpt-4.1-nano", prompt, 0, cached), cost("gpt-4.1-nano", 0, completion)]
    assert sum(apart) == cost("gpt-4.1-nano", prompt, completion, cached)
    assert cost("gpt-4.1-nano", prompt, completion, cached) <= cost("gpt-4.1-nano", prompt, completion)


def test_training_has_prices_of_its_own():
    prices = {"m": Price(training=Decimal("2.50"))}
    assert training_cost("m-2024-07-18", 2_000_000, prices) == Decimal(5)
    assert training_cost("ft:m:o::i", 1, prices) is None and training_cost("gpt-4o-mini", 1) is None
