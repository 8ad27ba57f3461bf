"""Which rows go together in a request: packed up to what the server takes, divided when it takes less."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Hashable, Iterator

import numpy as np

from beam_openai import sources
from beam_openai.batching import spans
from beam_openai.contract import Contract
from beam_openai.learned import Learned
from beam_openai.sources import ANSWER_TOKENS, BYTES, TOKENS, Costs, Segment
from beam_openai.tokens import Estimate


class Packing:
    """The rows of a bundle that wait to be sent, those apart that cannot share a request.

    Args:
      endpoint: whose limits hold.
      learned: what is known of the server's own.
      largest: the most tokens that the quota has for a request of several rows; None where nothing limits it.
      places: how many requests may be in flight.
    """

    def __init__(
        self, endpoint: Contract, learned: Learned, largest: Callable[[], float | None], places: Callable[[], int]
    ) -> None:
        self._endpoint = endpoint
        self._learned = learned
        self._largest = largest
        self._places = places
        self._waiting: dict[Hashable, _Waiting] = {}
        self._grown: dict[Hashable, None] = {}
        self._rows = 0

    def put(self, segments: list[Segment], key: Hashable = None) -> Iterator[list[Segment]]:
        """Takes rows in; yields what must go before them: the inputs of one request are of one type."""
        waiting = self._waiting.setdefault(key, _Waiting())
        self._grown[key] = None
        if segments and waiting.segments and not waiting.is_like(segments[0]):
            yield from self._taken(waiting, everything=True)
        rows = sum(map(len, segments))
        waiting.segments += segments
        waiting.rows += rows
        self._rows += rows
        waiting.share += sum(float(self._shares(segment.costs).sum()) for segment in segments)

    def full(self, pressed: bool) -> Iterator[list[Segment]]:
        """Batches out of what waits; the last may stay, to be filled up by rows to come.

        Args:
          pressed: nothing may stay, for want of memory.
        """
        most_rows = self._learned.rows(self._endpoint.batch_size)
        grown, self._grown = self._grown, {}
        for key in grown:
            waiting = self._waiting[key]
            if waiting.rows >= most_rows or waiting.share > 1:
                yield from self._taken(waiting, everything=False)
            if not waiting.rows:
                del self._waiting[key]
        # Where hardly two rows may share a request, they are not kept until the bundle ends in the hope of others.
        most = 0 if pressed else 2 * self._places() * most_rows
        if self._rows > most:
            yield from self._thinned(most // 2)

    def _thinned(self, most: int) -> Iterator[list[Segment]]:
        """Batches of those that there are most of, until no more than so many rows wait."""
        for key, waiting in sorted(self._waiting.items(), key=lambda item: -item[1].rows):
            if self._rows <= most:
                return
            del self._waiting[key]
            yield from self._taken(waiting, everything=True)

    def rest(self) -> Iterator[list[Segment]]:
        """All that waits."""
        yield from self._thinned(0)

    def _taken(self, waiting: _Waiting, everything: bool) -> Iterator[list[Segment]]:
        if not waiting.segments:
            return
        most_rows = self._learned.rows(self._endpoint.batch_size)
        costs = np.concatenate([segment.costs for segment in waiting.segments])
        shares = self._shares(costs)
        pieces = spans(shares, most_rows, 1.0)
        if not everything and pieces[-1][1] - pieces[-1][0] < most_rows:
            pieces.pop()
        packed = pieces[-1][1] if pieces else 0
        self._rows -= packed
        waiting.rows, waiting.share = len(costs) - packed, float(shares[packed:].sum())
        for start, stop in pieces:
            yield sources.cut(waiting.segments, stop - start)

    def _shares(self, costs: Costs) -> Costs:
        """What part of the most that a request may hold each row takes."""
        endpoint, learned = self._endpoint, self._learned
        tokens = costs[:, TOKENS]
        shares: Costs = np.maximum(
            tokens / min(endpoint.most_tokens, learned.most_tokens),
            costs[:, BYTES] / min(endpoint.most_bytes, learned.most_bytes),
        )
        if largest := self._largest():
            shares = np.maximum(shares, (tokens + costs[:, ANSWER_TOKENS]) / largest)
        if endpoint.most_input_tokens is not None:
            # These will most likely be refused: alone, they take no good rows with them.
            shares[tokens > 1.25 * endpoint.most_input_tokens] = 2.0
        return shares

    def costs(self, segments: list[Segment]) -> Costs:
        """What each row counts, by today's estimate: the one at packing may have been corrected since."""
        costs = np.concatenate([segment.costs for segment in segments])
        if isinstance(self._learned.count, Estimate):
            costs[:, TOKENS] = self._endpoint.tokens(sources.inputs_of(segments), self._learned.count)
        return costs

    def tokens(self, segments: list[Segment]) -> float:
        """Tokens of their texts, by today's estimate."""
        if len(segments) == 1 and len(segments[0]) == 1 and isinstance(self._learned.count, Estimate):
            # Counting anew would cost as much again as the rest of a small answer.
            segment = segments[0]
            return float(segment.costs[0, TOKENS] * self._learned.count.ratio / segment.source.ratio)
        return float(self.costs(segments)[:, TOKENS].sum())

    def fits(self, segments: list[Segment]) -> bool:
        """Whether a batch, packed a while ago, is still what the server is known to take."""
        rows = sum(len(segment) for segment in segments)
        if rows == 1:
            return True
        if not self._learned.refused:
            tokens = sum(float(segment.costs[:, (TOKENS, ANSWER_TOKENS)].sum()) for segment in segments)
            if tokens > self.allowed(rows, tokens):
                tokens = float(self.costs(segments)[:, (TOKENS, ANSWER_TOKENS)].sum())
            return tokens <= self.allowed(rows, tokens)
        # An estimate that rises by a little does not divide all that was packed by the one before.
        within = self._shares(self.costs(segments)).sum() <= 1.1
        return bool(within and rows <= self._learned.rows(self._endpoint.batch_size))

    def allowed(self, rows: int, tokens: float) -> float:
        """For so many tokens the limiter is asked: what the first answers show to be too many is divided in its turn."""
        largest = self._largest() if rows > 1 else None
        return tokens if largest is None or tokens <= 1.1 * largest else largest

    def divided(self, segments: list[Segment]) -> Iterator[list[Segment]]:
        """A batch's rows in batches that the server is known to take; in halves, where it should have taken them all."""
        costs = self.costs(segments)
        pieces = spans(self._shares(costs), self._learned.rows(self._endpoint.batch_size), 1.0)
        if len(pieces) == 1:
            rows = len(costs)
            # At a power of two, and three at once: so k bad rows of n never take more than 2k(log2(n/k) + 1) requests.
            edges = range(rows + 1) if rows <= 3 else (0, 2 ** round(math.log2(rows / 2)), rows)
            pieces = list(itertools.pairwise(edges))
        rest = deque(segments)
        for start, stop in pieces:
            yield sources.cut(rest, stop - start)


class _Waiting:
    """Rows that may share a request, and how much of one they fill."""

    def __init__(self) -> None:
        self.segments: deque[Segment] = deque()
        self.rows = 0
        self.share = 0.0

    def is_like(self, segment: Segment) -> bool:
        return bool(self.segments[-1].source.inputs.schema == segment.source.inputs.schema)
