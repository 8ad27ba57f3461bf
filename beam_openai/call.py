"""The life of a request.

    call.py       Endpoint.expand       one ParDo, two outputs: answered and failed
    call.py       _Call.process         takes an element in: a table, or a row of another kind
    bundle.py       Bundle.add          rows that no request could carry fail here,
    packing.py      Packing.put         and the others are packed into batches
    call.py       _Call._hand_out       each batch goes to the process's pool,
    lanes.py        Lane.put            where it stands in the line of its model: retries before what was never sent,
    pool.py         Pool._take          until a place in flight is free (places.py says how many there are)
    quota.py        Limiter.take        and the quota lets it pass: buckets.py, refusals.py, ceilings.py, shared/
    batch.py          Batch.send        in a thread of the pool: build the request, send it once, read the answer
    batch.py          Batch.receive     in the same thread, its place in flight given up (after the first success):
    batch.py            Batch._read       columns back to the elements that the rows came from; or an error,
    recovery.py           explained       which may be an option's fault, and may stop the job, or
    batch.py            Batch._recover    wait, split, fail the rows
    bundle.py       Bundle.finished     what is done, with its own timestamp, window and pane
    call.py       _Call.finish_bundle   sends and hands out the rest

contract.py is what an endpoint says of itself, which all of these go by; service.py holds what lives as long as the
process: pool, connections, limiters, and what was learned of the server.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam import pvalue
from apache_beam.metrics import Metrics
from apache_beam.utils.windowed_value import WindowedValue

from beam_openai import service, sources
from beam_openai.answers import Answer, Bad
from beam_openai.batch import Batch
from beam_openai.bundle import Bundle, Tally
from beam_openai.client import Response
from beam_openai.contract import Contract
from beam_openai.options import Column, option
from beam_openai.sources import Segment

__all__ = ["Answer", "Bad", "Column", "Endpoint", "Response", "option"]

_COUNTERS = (
    "requests",
    "attempts",
    "retries",
    "rows_answered",
    "rows_failed",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "throttled",
)


@dataclasses.dataclass(kw_only=True, eq=False)
class Endpoint(Contract, beam.PTransform):
    """Calls the API for every row; the base of all endpoints.

    A PCollection of `pa.Table` becomes two of them: `.answered`, the input's columns and the endpoint's; `.failed`, the
    input's columns and `error: struct<kind, status, code, type, message, request_id, attempts, raw>`. A PCollection of
    dicts, `beam.Row`s or NamedTuples becomes two of the same kind. Every row comes out once, in one of the two, with its
    own timestamp, window and pane.

    `error.kind` is `invalid_input` (never sent, or broken off because a file could not be read), `rejected` (by the server),
    `exhausted` (attempts spent), `bad_answer` (paid for, unusable; its text, up to 64 KiB, in `error.raw`).

    The options that every endpoint has are those of `Contract`.

    Raises:
      APIError: while running, what no retry can mend: see errors.py for what stops a job.
    """

    def __post_init__(self) -> None:
        beam.PTransform.__init__(self)
        super().__post_init__()

    def expand(self, pcoll: pvalue.PCollection) -> pvalue.DoOutputsTuple:
        outputs = pcoll | "Call" >> beam.ParDo(_Call(self)).with_outputs("failed", main="answered")
        kind = pa.Table if pcoll.element_type is pa.Table else Any
        outputs.answered.element_type = kind
        outputs.failed.element_type = kind
        return outputs


class _Call(beam.DoFn):
    """Takes elements in, hands finished ones out, and counts; the work is done in the service's threads."""

    def __init__(self, endpoint: Contract) -> None:
        self._endpoint = endpoint
        namespace = type(endpoint).__name__
        self._counters = {name: Metrics.counter(namespace, name) for name in _COUNTERS}
        self._latency = Metrics.distribution(namespace, "latency_ms")
        self._throttling = Metrics.counter(namespace, "cumulativeThrottlingSeconds")
        self._throttled = 0.0
        self._service: service.Service = None  # type: ignore[assignment]  # from setup to teardown
        self._bundle: Bundle = None  # type: ignore[assignment]  # from start_bundle to finish_bundle

    def setup(self) -> None:
        self._service = service.acquire(self._endpoint)

    def start_bundle(self) -> None:
        self._abandon()
        self._bundle = Bundle(self._endpoint, self._service)
        self._service.begin(self._bundle)

    # Not the window parameter: with it, Beam calls once for every window of a row, and every call would be paid for.
    def process(self, element: Any, windowed: Any = beam.DoFn.WindowedValueParam) -> Iterator[Any]:
        place = sources.Place(windowed.timestamp, _Windows(windowed.windows), windowed.pane_info)
        yield from self._hand_out(self._bundle.add(element, place), until=self._bundle.has_room)

    def _hand_out(self, batches: Iterable[list[Segment]], until: Callable[[], bool]) -> Iterator[Any]:
        try:
            for segments in batches:
                self._service.pool.submit(Batch(self._bundle, segments))
            for tag, value, place in self._bundle.finished(until):
                windowed = WindowedValue(value, *place)
                yield windowed if tag == "answered" else pvalue.TaggedOutput(tag, windowed)
        except BaseException as error:
            # Also when what follows fails to take an output: nothing more is to be paid for.
            self._bundle.stop(error)
            self._service.end(self._bundle)
            raise
        finally:
            self._count(self._bundle.take_tally())

    def _count(self, tally: Tally) -> None:
        # Here and not where it happened: what another thread adds to a counter is lost (beam#21217).
        for name, number in tally.numbers.items():
            self._counters[name].inc(int(number))
        for milliseconds in tally.latencies:
            self._latency.update(milliseconds)
        self._throttled += tally.throttled
        if seconds := int(self._throttled):
            self._throttled -= seconds
            self._counters["throttled"].inc(seconds)
            self._throttling.inc(seconds)

    def finish_bundle(self) -> Iterator[Any]:
        yield from self._hand_out(self._bundle.flush(), until=self._bundle.is_done)
        self._service.end(self._bundle)
        self._bundle = None  # type: ignore[assignment]

    def teardown(self) -> None:
        # Runners call it after a setup that failed, too, and some of them twice.
        if self._service:
            self._abandon()
            service.release(self._service)
            self._service = None  # type: ignore[assignment]

    def _abandon(self) -> None:
        """Ends a bundle that the runner never finished, because something else in it failed."""
        if self._bundle:
            self._bundle.stop(RuntimeError("the runner has given the bundle up"))
            self._service.end(self._bundle)
            self._bundle = None  # type: ignore[assignment]


class _Windows(tuple):  # type: ignore[type-arg]
    """The windows of an output, which Beam must leave alone.

    It multiplies the windows of what `process` yields by the number of windows of the element at hand, which need not be
    the one that the output came from.
    """

    def __mul__(self, times: object) -> _Windows:
        return self
