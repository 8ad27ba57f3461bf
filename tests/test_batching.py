"""Request-sized pieces."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from beam_openai.batching import spans

COSTS = st.lists(st.integers(0, 1000), max_size=200)


@given(COSTS, st.integers(1, 50), st.integers(1, 2000))
def test_pieces_cover_all_rows_in_order_within_bounds_and_each_is_as_long_as_may_be(costs, max_rows, max_cost):
    pieces = spans(costs, max_rows, max_cost)
    assert list(itertools.chain.from_iterable(range(*piece) for piece in pieces)) == list(range(len(costs)))
    for start, stop in pieces:
        assert 1 <= stop - start <= max_rows
        assert sum(costs[start:stop]) <= max_cost or stop - start == 1
        if stop < len(costs) and stop - start < max_rows:
            assert sum(costs[start : stop + 1]) > max_cost


@given(st.lists(st.floats(0, 10), max_size=200), st.integers(1, 50), st.floats(0.1, 20))
def test_fractions_keep_the_bounds_too(costs, max_rows, max_cost):
    pieces = spans(costs, max_rows, max_cost)
    assert [start for start, _ in pieces] == [0, *(stop for _, stop in pieces[:-1])][: len(pieces)]
    assert (pieces[-1][1] if pieces else 0) == len(costs)
    for start, stop in pieces:
        assert stop - start == 1 or sum(costs[start:stop]) <= max_cost * (1 + 1e-9)


def test_no_rows_make_no_pieces():
    assert spans([], 10, 10) == []


def test_a_row_that_costs_too_much_stands_alone():
    assert spans([1, 99, 1, 1], 10, 10) == [(0, 1), (1, 2), (2, 4)]


def test_one_row_more_than_a_request_holds_makes_two():
    assert spans(np.ones(2049), 2048, 300_000) == [(0, 2048), (2048, 2049)]


def test_what_fits_exactly_fits():
    assert spans(np.full(10, 0.1), 100, 1.0) == [(0, 10)]
    assert spans(np.full(1_000_000, 1e-3), 10**6, 1.0)[0] == (0, 1000)


def test_without_a_bound_of_cost_rows_alone_count():
    assert spans([5, 5, 5], 2, float("inf")) == [(0, 2), (2, 3)]
