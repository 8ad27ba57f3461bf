"""The elements of one bundle from when they come in until they are handed out."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from beam_openai import sources, values
from beam_openai.contract import Contract
from beam_openai.packing import Packing
from beam_openai.service import Service
from beam_openai.sources import ANSWER_TOKENS, AUDIO_BYTES, BYTES, MEGABYTE, TOKENS, Costs, Place, Segment, Source
from beam_openai.tokens import Estimate

_HELD_BYTES = 64 << 20
_GATHERED_BYTES = 4 << 20
# At least so many rows tell together whether a field is missing, or of the wrong type, in all of them or in some.
_GATHERED_ROWS = 64
_HAND_OUT_ROWS = 1024
_HAND_OUT_BYTES = 4 << 20
_MANY_NEWS = 32
_NEWS_SECONDS = 0.05


class _News(NamedTuple):
    """What a thread of the pool has to tell: parts that came of rows, batches more or fewer under way, and counts."""

    parts: Sequence[tuple[Source, sources.Part]] = ()
    batches: int = 0
    latency: float | None = None
    numbers: Mapping[str, float] = {}


class Bundle:
    """Takes elements in, keeps account of what is away, and hands out what is done.

    `add`, `flush` and `finished` are called by the bundle's thread, which alone keeps the account; the rest by any. The
    pool's threads leave news in a queue, without a lock: with one, dozens of them would stand in line for it after every
    answer. The bundle's thread reads them when it is told that there is need, and every twentieth of a second.

    Attributes:
      packing: which rows go together.
      thread: the one that hands out what is done.
      is_listening: whether that thread waits for answers.
    """

    def __init__(self, endpoint: Contract, service: Service) -> None:
        self.endpoint = endpoint
        self.service = service
        self.learned = service.learned_of(endpoint)
        self.packing = Packing(endpoint, self.learned, lambda: service.largest, lambda: service.pool.places)
        self._wanted = sources.Wanted(endpoint.columns_read, endpoint.optional_inputs, endpoint.fields)
        self._changed = threading.Condition()
        self._news: deque[_News] = deque()
        self.is_listening = False
        self.thread: int | None = None
        self._rows: list[Any] = []
        self._places: list[Place] = []
        self._gathered_bytes = 0
        self._batches = 0
        self._held = 0
        self._partial: dict[Source, None] = {}
        self._complete: list[Source] = []
        self._done_rows = 0
        self._done_bytes = 0
        self._kept = 0
        self._error: BaseException | None = None
        self._stopped = threading.Event()
        self._tally = Tally()

    # In: an element becomes batches.

    def add(self, element: Any, place: Place) -> Iterator[list[Segment]]:
        """Takes an element in; yields the batches that are full."""
        if isinstance(element, pa.Table):
            for source in sources.from_table(element, place, self._wanted):
                yield from self._take_in(source)
            return
        self._rows.append(element)
        self._places.append(place)
        self._gathered_bytes += sources.input_length(element, self._wanted)
        is_full = len(self._rows) >= max(_GATHERED_ROWS, self.learned.rows(self.endpoint.batch_size))
        if is_full or self._gathered_bytes >= _GATHERED_BYTES:
            yield from self._take_in_rows()

    def flush(self) -> Iterator[list[Segment]]:
        """The batches that would still wait for more rows."""
        if self._rows:
            yield from self._take_in_rows()
        yield from self._counted(self.packing.rest())

    def _take_in_rows(self) -> Iterator[list[Segment]]:
        rows, self._rows = self._rows, []
        places, self._places = self._places, []
        self._gathered_bytes = 0
        for source in sources.from_rows(rows, places, self._wanted):
            yield from self._take_in(source)

    def _take_in(self, source: Source) -> Iterator[list[Segment]]:
        """Fails the rows that no request could carry, and packs the others."""
        rows = source.inputs
        options, wrong = self._options(rows)
        reasons = {**wrong, **self.endpoint.invalid(rows), **source.invalid}
        source.inputs = self._prepared(rows)
        if isinstance(self.learned.count, Estimate):
            source.ratio = self.learned.count.ratio
        costs = self._costs(source.inputs)
        reasons = {**self._too_long(costs), **reasons}
        self._held += source.nbytes
        for row, reason in reasons.items():
            self.failed([Segment(source, row, row + 1, costs)], "invalid_input", reason, batches=0)
        bounds = [-1, *sorted(reasons), rows.num_rows]
        good = [(before + 1, after) for before, after in itertools.pairwise(bounds) if after - before > 1]
        for key, runs in self._apart(options, good).items():
            segments = [Segment(source, start, stop, costs[start:stop]) for start, stop in runs]
            yield from self._counted(self.packing.put(segments, key))
        # Where much is held, nothing may wait for an element that will not come in before something is handed out.
        yield from self._counted(self.packing.full(pressed=self._held > _HELD_BYTES))

    def _options(self, rows: pa.Table) -> tuple[list[list[Any]], dict[int, str]]:
        """What each option that is a column is in each row; and why some rows have none that can be sent."""
        read, reasons = [], {}
        for option, name in self.endpoint.columns_of_options.items():
            column, unreadable = values.of_column(rows[name])
            read.append(column)
            if option in self.endpoint.whole_numbers:
                unreadable.update(values.fractions(column))
            reasons.update({row: f"{name} {reason}" for row, reason in unreadable.items()})
            if option == "model":
                missing = (row for row, value in enumerate(column) if value is None)
                reasons.update({row: f"{name} is null, and no request goes without a model" for row in missing})
        return read, reasons

    def _prepared(self, rows: pa.Table) -> pa.Table:
        prepared = self.endpoint.prepared(rows)
        if prepared is rows:
            return rows
        for name in set(self.endpoint.columns_of_options.values()):
            if name not in prepared.column_names:
                prepared = prepared.append_column(name, rows[name])
            elif not _is_same(prepared[name], rows[name]):
                raise ValueError(f"an option is taken from a column {name!r}, which is also asked: rename one of them")
        return prepared

    def _costs(self, rows: pa.Table) -> Costs:
        costs = np.empty((rows.num_rows, 4))
        costs[:, TOKENS] = self.endpoint.tokens(rows, self.learned.count)
        costs[:, BYTES] = sources.row_bytes(rows)
        costs[:, ANSWER_TOKENS] = self.endpoint.answer_tokens(rows)
        costs[:, AUDIO_BYTES] = self.endpoint.audio_bytes(rows)
        return costs

    def _apart(self, options: list[list[Any]], runs: list[tuple[int, int]]) -> dict[Hashable, list[tuple[int, int]]]:
        """The runs by the values of the options that are columns: one request has one of each."""
        if not options or self.endpoint.batch_size == 1:
            return {None: runs}
        keys = [repr(given) for given in zip(*options, strict=True)]
        found: dict[Hashable, list[tuple[int, int]]] = {}
        for start, stop in runs:
            for key, group in itertools.groupby(range(start, stop), key=lambda row: keys[row]):
                alike = list(group)
                found.setdefault(key, []).append((alike[0], alike[-1] + 1))
        return found

    def _counted(self, batches: Iterable[list[Segment]]) -> Iterator[list[Segment]]:
        for batch in batches:
            self._batches += 1
            yield batch

    def _too_long(self, costs: Costs) -> dict[int, str]:
        """Rows that the model or the quota could never take. An estimate alone refuses nothing for the model's sake."""
        reasons = {}
        quota = self.endpoint.quota
        most, largest, loudest = (
            self.endpoint.most_input_tokens,
            quota.tokens_per_minute,
            quota.audio_megabytes_per_minute,
        )
        tokens = costs[:, TOKENS]
        if most is not None:
            surely = self.learned.count.at_least(tokens, costs[:, BYTES])
            for row in np.flatnonzero(surely > most):
                reasons[int(row)] = f"longer than the {most} tokens that {self.endpoint.model} takes"
        if largest is not None:
            # An estimate may be wrong by half; what is not surely too much is sent when the minute is free.
            surely = (tokens / 2 if isinstance(self.learned.count, Estimate) else tokens) + costs[:, ANSWER_TOKENS]
            for row in np.flatnonzero(surely > largest):
                reasons[int(row)] = (
                    f"about {costs[row, (TOKENS, ANSWER_TOKENS)].sum():.0f} tokens, more than the {largest:.0f} a minute "
                    "that the quota allows: shorten it, or raise the quota"
                )
        if loudest is not None:
            for row in np.flatnonzero(costs[:, AUDIO_BYTES] > loudest * MEGABYTE):
                reasons[int(row)] = too_much_audio(costs[row, AUDIO_BYTES], loudest)
        return reasons

    # Away: what becomes of batches.

    def note(self, latency: float | None = None, **numbers: float) -> None:
        """Counts for the metrics; `latency` in seconds."""
        self._tell(_News(latency=latency, numbers=numbers))

    def answered(
        self,
        segments: list[Segment],
        columns: Sequence[Any],
        failures: Mapping[int, sources.Failure],
        size: int,
        numbers: Mapping[str, float],
    ) -> None:
        """A batch has come to its end, its answer in `columns`.

        Args:
          segments: its rows.
          columns: an array or a list for each added column; values of failed rows are ignored.
          failures: by position, the rows that failed all the same.
          size: bytes that the columns take up, of the service's memory.
          numbers: further counts.
        """
        parts, offset, total = [], 0, sum(len(segment) for segment in segments)
        for segment in segments:
            rows = len(segment)
            mine = columns if rows == total else [column[offset : offset + rows] for column in columns]
            failed = failures and {row - offset: why for row, why in failures.items() if 0 <= row - offset < rows}
            # Not rounded part by part: what is taken and not given back, if only a byte a time, is missing in the end.
            share = size * (offset + rows) // total - size * offset // total
            parts.append((segment.source, sources.Part(segment.start, segment.stop, mine, failed, share)))
            offset += rows
        counts = {**numbers, "rows_answered": total - len(failures), "rows_failed": len(failures)}
        self._tell(_News(parts, -1, None, counts))

    def failed(self, segments: list[Segment], kind: str, message: str, batches: int = -1, **error: Any) -> None:
        """All rows of a batch fail for the same reason, and it has come to its end."""
        failure = sources.failure(kind, message, **error)
        parts = []
        for segment in segments:
            failures = dict.fromkeys(range(len(segment)), failure)
            parts.append((segment.source, sources.Part(segment.start, segment.stop, [], failures)))
        self._tell(_News(parts, batches, None, {"rows_failed": sum(map(len, segments))}))

    def replaced(self, batches: int) -> None:
        """A batch gives way to so many others: said before they begin."""
        self._tell(_News(batches=batches - 1))

    def _tell(self, news: _News) -> None:
        self._news.append(news)
        if self._error:
            self._drop_news()
        elif self.is_listening and self._is_urgent():
            with self._changed:
                self._changed.notify()

    def _is_urgent(self) -> bool:
        service = self.service
        return len(self._news) >= _MANY_NEWS or service.pool.is_hungry or service.memory.is_short

    def stop(self, error: BaseException) -> None:
        """The bundle ends with this error, and what it has queued is dropped."""
        with self._changed:
            self._error = self._error or error
            kept, self._kept = self._kept, 0
            self._changed.notify()
        self._stopped.set()
        self._drop_news()
        self.service.memory.release(kept)
        self.service.pool.cancel(self)

    def _drop_news(self) -> None:
        """Nobody will hand out what they bring: gives back its memory. What was sent is counted all the same."""
        while True:
            try:
                news = self._news.popleft()
            except IndexError:
                return
            self.service.memory.release(sum(part.memory for _, part in news.parts))
            self.service.note(**{name: number for name, number in news.numbers.items() if not name.startswith("rows_")})

    def hurry(self) -> None:
        """Memory is short: what is done is to be handed out, however little it is."""
        with self._changed:
            self._changed.notify()

    @property
    def is_stopped(self) -> bool:
        return self._error is not None

    @property
    def has_others(self) -> bool:
        """Whether another batch than one is under way."""
        return self._batches > 1

    def sleep(self, seconds: float) -> None:
        """So long, or until it is stopped."""
        self._stopped.wait(seconds)

    # Out: what is done is handed out.

    def has_room(self) -> bool:
        """Whether another element may come in: the pool is to have a next batch at hand, and no more."""
        return self._batches <= 2 * self.service.pool.places and self._held <= _HELD_BYTES

    def is_done(self) -> bool:
        return not self._batches

    def finished(self, until: Callable[[], bool]) -> Iterator[sources.Output]:
        """Waits until the condition holds, and yields what is finished meanwhile, in whatever order it is."""
        enough = False
        while not enough:
            with self._changed:
                self._listen(until)
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

    def _listen(self, until: Callable[[], bool]) -> None:
        """Reads news until there is something to do; holds the lock but while it sleeps."""
        began, throttled = time.monotonic(), self.service.pool.throttled
        self.thread, self.is_listening = threading.get_ident(), True
        while True:
            self._read_news()
            if self._error or until() or self._complete or self._is_much():
                break
            self._changed.wait(_NEWS_SECONDS)
        self.is_listening = False
        waited = time.monotonic() - began
        self._tally.throttled += min(waited, self.service.pool.throttled - throttled)

    def _read_news(self) -> None:
        counts: Counter[str] = Counter()
        while self._news and not self._error:
            parts, batches, latency, numbers = self._news.popleft()
            self._batches += batches
            for source, part in parts:
                self._put(source, part)
            counts.update(numbers)
            if latency is not None:
                self._tally.latencies.append(int(latency * 1000))
        if counts:
            self._tally.numbers.update(counts)
            self.service.note(**counts)

    def _put(self, source: Source, part: sources.Part) -> None:
        source.put(part)
        self._kept += part.memory
        self._done_rows += part.stop - part.start
        self._done_bytes += part.memory
        self._partial[source] = None
        if source.is_finished:
            del self._partial[source]
            self._complete.append(source)

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
        """What was counted since it was last taken."""
        with self._changed:
            self._read_news()
            tally, self._tally = self._tally, Tally()
        return tally


def _is_same(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    """Whether two columns hold the same, however text is held."""
    if pa.types.is_large_string(one.type) and pa.types.is_string(other.type):
        other = other.cast(one.type)
    return bool(one.type == other.type and one.equals(other))


class Tally:
    """Counts on their way to Beam's metrics; `latencies` in milliseconds, `throttled` in seconds."""

    def __init__(self) -> None:
        self.numbers: Counter[str] = Counter()
        self.latencies: list[int] = []
        self.throttled = 0.0


def too_much_audio(size: float, most: float) -> str:
    """Why a recording of so many bytes is not sent, where a minute's quota are so many megabytes."""
    allowed = f"the {most:g} megabytes a minute that the quota allows"
    return f"{size:.0f} bytes of audio, more than {allowed}: cut it, or raise the quota"
