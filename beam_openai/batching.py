"""Cuts a list of rows into request-sized pieces."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def spans(costs: ArrayLike, max_rows: int, max_cost: float) -> list[tuple[int, int]]:
    """Consecutive half-open ranges that cover all rows in order, each as long as it may be.

    A range holds at most `max_rows` rows, and costs at most `max_cost` unless it is a single row.

    Args:
      costs: one number >= 0 for each row.
      max_rows: at least 1.
      max_cost: in the unit of `costs`.
    """
    ends = np.cumsum(np.asarray(costs, dtype=np.float64))
    pieces, start, spent = [], 0, 0.0
    while start < len(ends):
        fits = int(np.searchsorted(ends, spent + max_cost * (1 + 1e-12), side="right"))
        stop = min(max(fits, start + 1), start + max_rows)
        pieces.append((start, stop))
        start, spent = stop, float(ends[stop - 1])
    return pieces
