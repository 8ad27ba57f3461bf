"""The elements of one bundle from when they come in until they are handed out."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from beam_openai import sources
from beam_openai.batching import spans
from beam_openai.service import Service
from beam_openai.sources import Costs, Place, Segment, Source
from beam_openai.tokens import Estimate

if TYPE_CHECKING:
    from beam_openai.call import Endpoint

_HELD_BYTES = 64 << 20
_GATHERED_BYTES = 4 << 20
# At least so many rows tell together whether a field is missing, or of the wrong type, in all of them or in some.
_GATHERED_ROWS = 64
_HAND_OUT_ROWS = 1024
_HAND_OUT_BYTES = 4 << 20


class Bundle:
    """Packs rows into batches, keeps account of what is away, and hands out what is done.

    `add`, `flush` and `finished` are called by the bundle's thread, the rest by any.

    Attributes:
      tally: what was counted since it was last taken.
    """

    def __init__(self, endpoint: Endpoint, service: Service) -> None:
        self.endpoint = endpoint
        self.service = service
        self.learned = service.learned_of(endpoint)
        self._changed = threading.Condition()
        self._rows: list[Any] = []
        self._places: list[Place] = []
        self._gathered_bytes = 0
        self._packing: deque[Segment] = deque()
        self._packing_rows = 0
        self._packing_share = 0.0
        self._batches = 0
        self._held = 0
        self._partial: dict[Source, None] = {}
        self._complete: list[Source] = []
        self._done_rows = 0
        self._done_bytes = 0
        self._kept = 0
        self._error: BaseException | None = None
        self._tally = Tally()

    # In: an element becomes batches.

    def add(self, element: Any, place: Place) -> Iterator[list[Segment]]:
        """Takes an element in; yields the batches that are full."""
        if isinstance(element, pa.Table):
            for source in sources.from_table(element, place, self.endpoint.inputs, self.endpoint.outputs):
                yield from self._take_in(source)
            return
        self._rows.append(element)
        self._places.append(place)
        self._gathered_bytes += sources.input_length(element, self.endpoint.inputs)
        is_full = len(self._rows) >= max(_GATHERED_ROWS, self.learned.rows(self.endpoint.batch_size))
        if is_full or self._gathered_bytes >= _GATHERED_BYTES:
            yield from self._take_in(self._gathered())

    def flush(self) -> Iterator[list[Segment]]:
        """The batches that would still wait for more rows."""
        if self._rows:
            yield from self._take_in(self._gathered())
        yield from self._pack(everything=True)

    def _gathered(self) -> Source:
        rows, self._rows = self._rows, []
        places, self._places = self._places, []
        self._gathered_bytes = 0
        return sources.RowsSource(rows, places, self.endpoint.inputs, self.endpoint.outputs)

    def _take_in(self, source: Source) -> Iterator[list[Segment]]:
        """Fails the rows that no request could carry, and packs the others."""
        rows = source.inputs
        tokens = self.endpoint.tokens(rows, self.learned.count)
        lengths = sources.row_bytes(rows)
        reasons = {**self._too_long(tokens, lengths), **self.endpoint.invalid(rows), **source.invalid}
        costs = np.stack([tokens, lengths], axis=1).astype(np.float64)
        with self._changed:
            self._held += source.nbytes
        for row, reason in reasons.items():
            self.failed([Segment(source, row, row + 1, costs)], "invalid_input", reason)
        bounds = [-1, *sorted(reasons), rows.num_rows]
        good = [
            Segment(source, before + 1, after, costs[before + 1 : after])
            for before, after in itertools.pairwise(bounds)
            if after - before > 1
        ]
        if good and self._packing and self._packing[-1].source.inputs.schema != rows.schema:
            # The inputs of one request are of one type.
            yield from self._pack(everything=True)
        self._packing += good
        self._packing_rows += sum(map(len, good))
        self._packing_share += sum(float(self._shares(segment.costs).sum()) for segment in good)
        yield from self._pack(everything=False)

    def _too_long(self, tokens: Any, lengths: Costs) -> dict[int, str]:
        """Rows that the model or the quota could never take. An estimate alone refuses nothing for the model's sake."""
        reasons = {}
        most, largest = self.endpoint.most_input_tokens, self.endpoint.quota.tokens_per_minute
        if most is not None:
            surely = self.learned.count.at_least(tokens, lengths)
            for row in np.flatnonzero(surely > most):
                reasons[int(row)] = f"longer than the {most} tokens that {self.endpoint.model} takes"
        if largest is not None:
            # An estimate may be wrong by half; what is not surely too much is sent when the minute is free.
            surely = tokens / 2 if isinstance(self.learned.count, Estimate) else tokens
            for row in np.flatnonzero(surely > largest):
                reasons[int(row)] = (
                    f"about {tokens[row]:.0f} tokens, more than the {largest:.0f} a minute that the quota allows: "
                    "shorten it, or raise the quota"
                )
        return reasons

    def _pack(self, everything: bool) -> Iterator[list[Segment]]:
        """Batches out of what waits; the last one may stay, to be filled up by the next element's rows."""
        most_rows = self.learned.rows(self.endpoint.batch_size)
        is_little = self._packing_rows < most_rows and self._packing_share <= 1 and self._held <= _HELD_BYTES
        if not self._packing or (is_little and not everything):
            return
        costs = np.concatenate([segment.costs for segment in self._packing])
        shares = self._shares(costs)
        pieces = spans(shares, most_rows, 1.0)
        last_rows = pieces[-1][1] - pieces[-1][0]
        # Where much is held, nothing may wait for an element that will not come in before something is handed out.
        if not everything and last_rows < most_rows and self._held <= _HELD_BYTES:
            pieces.pop()
        packed = pieces[-1][1] if pieces else 0
        self._packing_rows, self._packing_share = len(costs) - packed, float(shares[packed:].sum())
        for start, stop in pieces:
            with self._changed:
                self._batches += 1
            yield sources.cut(self._packing, stop - start)

    def _shares(self, costs: Costs) -> Costs:
        """What part of the most that a request may hold each row takes."""
        largest = self.service.limiter.largest or float("inf")
        most_tokens = min(self.endpoint.most_tokens, self.learned.most_tokens, largest)
        most_bytes = min(self.endpoint.most_bytes, self.learned.most_bytes)
        shares: Costs = np.maximum(costs[:, 0] / most_tokens, costs[:, 1] / most_bytes)
        if self.endpoint.most_input_tokens is not None:
            # These will most likely be refused: alone, they take no good rows with them.
            shares[costs[:, 0] > 1.25 * self.endpoint.most_input_tokens] = 2.0
        return shares

    # Away: what becomes of batches.

    def costs(self, segments: list[Segment]) -> Costs:
        """Tokens and bytes of each row, by today's estimate: the one at packing may have been corrected since."""
        costs = np.concatenate([segment.costs for segment in segments])
        if isinstance(self.learned.count, Estimate):
            costs[:, 0] = self.endpoint.tokens(sources.inputs_of(segments), self.learned.count)
        return costs

    def fits(self, segments: list[Segment]) -> bool:
        """Whether a batch, packed a while ago, is still what the server is known to take."""
        rows = sum(len(segment) for segment in segments)
        if rows == 1 or not self.learned.refused:
            return True
        # An estimate that rises by a little does not divide all that was packed by the one before.
        within = self._shares(self.costs(segments)).sum() <= 1.1
        return bool(within and rows <= self.learned.rows(self.endpoint.batch_size))

    def divided(self, segments: list[Segment]) -> Iterator[list[Segment]]:
        """A batch's rows in batches that the server is known to take; in halves, where it should have taken them all."""
        costs = self.costs(segments)
        pieces = spans(self._shares(costs), self.learned.rows(self.endpoint.batch_size), 1.0)
        if len(pieces) == 1:
            rows = len(costs)
            # At a power of two, and three at once: so k bad rows of n never take more than 2k(log2(n/k) + 1) requests.
            edges = range(rows + 1) if rows <= 3 else (0, 2 ** round(math.log2(rows / 2)), rows)
            pieces = list(itertools.pairwise(edges))
        rest = deque(segments)
        for start, stop in pieces:
            yield sources.cut(rest, stop - start)

    def added(self) -> None:
        """One batch more is under way than `add` gave out: a half of one that was split."""
        with self._changed:
            self._batches += 1

    def ended(self) -> None:
        """A batch has come to its end: answered, failed, or replaced by its halves."""
        with self._changed:
            self._batches -= 1
            self._changed.notify()

    def answered(
        self,
        segments: list[Segment],
        columns: list[pa.Array],
        failures: Mapping[int, sources.Failure],
    ) -> int:
        """Gives each element its rows' columns (values of failed rows are ignored); returns the bytes now held."""
        offset, size = 0, 0
        for segment in segments:
            rows = len(segment)
            part = sources.Part(
                segment.start,
                segment.stop,
                [column.slice(offset, rows) for column in columns],
                {row - offset: why for row, why in failures.items() if 0 <= row - offset < rows},
                sum(column.nbytes for column in columns) * rows // max(1, len(columns[0])),
            )
            size += self._deliver(segment.source, part)
            offset += rows
        bad = len(failures)
        self.note(rows_answered=offset - bad, rows_failed=bad)
        return size

    def failed(self, segments: list[Segment], kind: str, message: str, **error: Any) -> None:
        """All rows of a batch fail for the same reason."""
        failure = {**dict.fromkeys(sources.ERROR.names), "kind": kind, "message": message, **error}
        for segment in segments:
            failures = dict.fromkeys(range(len(segment)), failure)
            self._deliver(segment.source, sources.Part(segment.start, segment.stop, [], failures))
            self.note(rows_failed=len(segment))

    def _deliver(self, source: Source, part: sources.Part) -> int:
        with self._changed:
            if self._error:
                return 0
            source.put(part)
            self._kept += part.memory
            self._done_rows += part.stop - part.start
            self._done_bytes += part.memory
            self._partial[source] = None
            if source.is_finished:
                del self._partial[source]
                self._complete.append(source)
            self._changed.notify()
        return part.memory

    def stop(self, error: BaseException) -> None:
        """The bundle ends with this error, and what it has queued is dropped."""
        with self._changed:
            self._error = self._error or error
            kept, self._kept = self._kept, 0
            self._changed.notify()
        self.service.memory.release(kept)
        self.service.pool.cancel(self)

    def hurry(self) -> None:
        """Memory is short: what is done is to be handed out, however little it is."""
        with self._changed:
            self._changed.notify()

    @property
    def is_stopped(self) -> bool:
        return self._error is not None

    def note(self, latency: float | None = None, **numbers: float) -> None:
        with self._changed:
            self._tally.add(latency, numbers)
        self.service.note(**numbers)

    # Out: what is done is handed out.

    def has_room(self) -> bool:
        """Whether another element may come in: the pool is to have a next batch at hand, and no more."""
        return self._batches <= 2 * self.endpoint.concurrency and self._held <= _HELD_BYTES

    def is_done(self) -> bool:
        return not self._batches

    def finished(self, until: Callable[[], bool]) -> Iterator[sources.Output]:
        """Waits until the condition holds, and yields what is finished meanwhile, in whatever order it is."""
        enough = False
        while not enough:
            with self._changed:
                self._wait(until)
                if self._error:
                    raise self._error
                enough = until()
                ready = [(source, source.take()) for source in self._ready()]
            for source, parts in ready:
                yield from source.outputs(parts)
                self._release(sum(part.memory for part in parts))

    def _release(self, size: int) -> None:
        with self._changed:
            size = min(size, self._kept)  # a bundle that was stopped has given all of it back
            self._kept -= size
        self.service.memory.release(size)

    def _wait(self, until: Callable[[], bool]) -> None:
        began, throttled = time.monotonic(), self.service.pool.throttled
        self._changed.wait_for(lambda: bool(self._error or until() or self._complete or self._is_much()))
        waited = time.monotonic() - began
        self._tally.throttled += min(waited, self.service.pool.throttled - throttled)

    def _is_much(self) -> bool:
        enough = 1 if self.service.memory.is_short else _HAND_OUT_BYTES
        return self._done_rows >= _HAND_OUT_ROWS or self._done_bytes >= enough

    def _ready(self) -> list[Source]:
        """Elements that are complete; where there is much, also what is finished of the others."""
        ready, self._complete = self._complete, []
        self._held -= sum(source.nbytes for source in ready)
        if self._is_much():
            ready += self._partial
            self._partial = {}
            self._done_rows = self._done_bytes = 0
        return ready

    def take_tally(self) -> Tally:
        with self._changed:
            tally, self._tally = self._tally, Tally()
        return tally


class Tally:
    """Counts on their way to Beam's metrics; `latencies` in milliseconds, `throttled` in seconds."""

    def __init__(self) -> None:
        self.numbers: dict[str, float] = {}
        self.latencies: list[int] = []
        self.throttled = 0.0

    def add(self, latency: float | None, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            self.numbers[name] = self.numbers.get(name, 0) + number
        if latency is not None:
            self.latencies.append(int(latency * 1000))
