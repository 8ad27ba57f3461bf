"""The life of a request.

    Endpoint.expand       one ParDo, two outputs: answered and failed
    _Call.process         takes an element in: a table, or a row of another kind
      Bundle.add          rows that no request could carry fail here; the others are packed into batches
      _Call._hand_out     each batch goes to the process's pool, which waits for quota and for a place in flight
    _Batch.send           in a thread of the pool: build the request, send it once, read the answer
    _Batch.receive        in the same thread, its place in flight given up (after the first success):
      _Batch._read          columns back to the elements that the rows came from; or an error, which may stop the job, or
      _Batch._recover       wait, split, fail the rows
    Bundle.finished       what is done, with its own timestamp, window and pane
    _Call.finish_bundle   sends and hands out the rest

bundle.py keeps account of a bundle's elements; service.py holds what lives as long as
the process: pool, connections, limiter, and what was learned of the server.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import apache_beam as beam
import msgspec
import pyarrow as pa
from apache_beam import pvalue
from apache_beam.metrics import Metrics
from apache_beam.utils.windowed_value import WindowedValue

from beam_openai import errors, service, sources, stored, structs
from beam_openai.answers import Answer, Bad
from beam_openai.bundle import Bundle, Tally
from beam_openai.client import API, Body, Request, Response
from beam_openai.durations import retry_after
from beam_openai.options import Column, check, constant, of_row, option, sent
from beam_openai.quota import Grant, Quota
from beam_openai.retry import Retry
from beam_openai.sources import ANSWER_TOKENS, TOKENS, Segment
from beam_openai.tokens import Counts, of_texts

__all__ = ["Answer", "Bad", "Column", "Endpoint", "Response", "option"]

RAW_BYTES = 65_536
"""How much of an unusable answer `error.raw` keeps."""

_MUCH_BYTES = 65_536
"""An answer that is so long to read that the next request need not wait for it."""

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
class Endpoint(beam.PTransform):
    """Calls the API for every row; the base of all endpoints.

    A PCollection of `pa.Table` becomes two of them: `.answered`, the input's columns and the endpoint's; `.failed`, the
    input's columns and `error: struct<kind, status, code, type, message, request_id, attempts, raw>`. A PCollection of
    dicts, `beam.Row`s or NamedTuples becomes two of the same kind. Every row comes out once, in one of the two, with its
    own timestamp, window and pane.

    `error.kind` is `invalid_input` (never sent, or broken off because a file could not be read), `rejected` (by the server),
    `exhausted` (attempts spent), `bad_answer` (paid for, unusable; its text, up to 64 KiB, in `error.raw`).

    Attributes:
      model: the model's name, as the server knows it; or a column that holds each row's, `column("model")`.
      api: where the server is, and where its key is.
      retry: how often and how long to try.
      quota: a ceiling for this model in each worker process, beside what the server's headers say.
      concurrency: requests in flight at most, for all transforms of a process with the same api, model and quota; of
        several such, the largest counts.
      journal: reserved for a folder that keeps answers for a re-run; not supported by this version, so it must be None.
      params: sent verbatim in every request's body: what the server knows and this library does not.

    Raises:
      ValueError: an option that can never work, when the transform is built.
      APIError: while running, what no retry can mend: see errors.py for what stops a job.
    """

    path: ClassVar[str]
    main_input: ClassVar[str] = "input"
    """The field that says what is read first of all: the one that a command line's --column sets."""
    most_rows: ClassVar[int] = 1
    """Rows of one request, by the server's documentation."""
    most_tokens: ClassVar[float] = float("inf")
    """Tokens of one request."""
    most_bytes: ClassVar[int] = 32 << 20
    """Bytes of one request's input."""
    advice: ClassVar[Mapping[str, str]] = {}
    """For options that some servers do not know: what to set then."""
    row_fields: ClassVar[frozenset[str]] = frozenset()
    """Names in the body that hold the rows, which `params` cannot set."""
    other_names: ClassVar[Mapping[str, str]] = {}
    """Names in the body that some servers know by another: where one is refused, the other is sent from then on."""
    takes_files: ClassVar[frozenset[str]] = frozenset()
    """What the names of files end with whose bytes the main input may be: a command line reads folders of them."""
    gives_files: ClassVar[bool] = False
    """Whether the first column added holds the bytes of files, which a command line can write as such."""

    model: str | Column
    api: API = dataclasses.field(default_factory=API)
    retry: Retry = dataclasses.field(default_factory=Retry)
    quota: Quota = dataclasses.field(default_factory=Quota)
    concurrency: int = 32
    journal: str | None = None
    params: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        if not (isinstance(self.model, Column) or (isinstance(self.model, str) and self.model.strip())):
            raise ValueError(f"model must be a model's name, not {self.model!r}")
        check("concurrency", self.concurrency, 1, float("inf"), whole=True)
        if self.concurrency is None:
            raise ValueError("concurrency must be a whole number 1 or more, not None")
        if self.journal is not None:
            raise ValueError("journal is not supported by this version")
        for name, kind in (("api", API), ("retry", Retry), ("quota", Quota), ("params", Mapping)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name} must be a {kind.__name__}, not a {type(getattr(self, name)).__name__}")
        check("max_batch_size", getattr(self, "max_batch_size", None), 1, self.most_rows, whole=True)
        if taken := self.row_fields & self.params.keys():
            raise ValueError(f"params must not hold {min(taken)!r}: the rows go there")
        if "n" in self.params and hasattr(self, "n"):
            raise ValueError("params must not hold 'n': answers are read by it, so set the option n")
        try:
            msgspec.json.encode(constant({**sent(self), **self.params}))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"an option, or something in params, cannot be written as JSON: {error}") from error
        names = self.outputs
        if "error" in names:
            raise ValueError("a column named 'error' is what failed rows have: name the output otherwise")
        if len(set(names)) < len(names) or not all(names):
            raise ValueError(
                f"output: the added columns need a name each, and they have {', '.join(map(repr, names))}: "
                "name one otherwise, output={...}"
            )

    # What an endpoint says of itself. Pure: no Beam, no HTTP, no threads, no time.

    @property
    def inputs(self) -> list[str]:
        """Names of the columns that are read."""
        raise NotImplementedError

    @property
    def optional_inputs(self) -> list[str]:
        """Names of columns that are read where the rows have them."""
        return []

    @property
    def added(self) -> list[pa.Field]:
        """The columns that are added, by their own names; of type null where only the first answer can tell."""
        raise NotImplementedError

    @property
    def is_text(self) -> bool:
        """Whether all that a request's tokens come from is text, so that an answer's usage corrects the estimate."""
        return True

    @property
    def most_input_tokens(self) -> int | None:
        """Tokens that one row may have, where the model's documentation says so."""
        return None

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        """Why rows, by their position, could never be carried by a request."""
        raise NotImplementedError

    def prepared(self, rows: pa.Table) -> pa.Table:
        """The rows as the methods below take them: done once for a table, so that it need not be for each request.

        Rows that are `invalid` come too, and must not make it raise.
        """
        return rows

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        """Tokens of each row's input; `count` counts texts."""
        return of_texts(rows, count)

    def answer_tokens(self, rows: pa.Table) -> Counts | float:
        """Tokens of each row's answer that count against tokens per minute before it is known."""
        return 0.0

    def request(self, rows: pa.Table) -> Request:
        """The request for some rows."""
        raise NotImplementedError

    def links(self, response: Response) -> Sequence[str]:
        """URLs in an answer, whose contents `columns` finds in `response.fetched`; none in what is no answer."""
        return ()

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        """What the answer holds for these rows.

        Raises:
          BadAnswerError: it is not an answer to them; nothing of it can be trusted.
        """
        raise NotImplementedError

    # What follows from that.

    @property
    def fields(self) -> list[pa.Field]:
        """The columns that are added, by the names that `output` gives them."""
        names: Any = getattr(self, "output", {})
        if isinstance(names, str):
            main = type(self).__dataclass_fields__["output"].default
            names = {main: names} if names != main else {}
        if unknown := names.keys() - {field.name for field in self.added}:
            raise ValueError(f"output: a column {min(unknown)!r} is not added, so it cannot have another name")
        # Where a property of a schema has the name of a column of the endpoint's own, that column is what is named.
        own = {field.name: at for at, field in enumerate(self.added)}
        return [
            field.with_name(names.get(field.name, field.name)) if own[field.name] == at else field
            for at, field in enumerate(self.added)
        ]

    @property
    def outputs(self) -> list[str]:
        """Names of the columns that are added."""
        return [field.name for field in self.fields]

    @property
    def batch_size(self) -> int:
        """Rows of one request at most."""
        return getattr(self, "max_batch_size", None) or self.most_rows

    @property
    def columns_read(self) -> list[str]:
        """Names of all columns that the rows must have."""
        return list(dict.fromkeys([*self.inputs, *self.columns_of_options.values()]))

    @property
    def columns_of_options(self) -> dict[str, str]:
        """The columns that stand for options, by the options' names."""
        given = {"model": self.model, **sent(self)}
        return {name: value.name for name, value in given.items() if isinstance(value, Column)}

    def options(self, rows: pa.Table | None = None) -> dict[str, Any]:
        """What a request's body holds beside the rows: the options that are set, and `params`.

        Args:
          rows: those of the request, where options are columns; they have the same values in each.
        """
        given = {"model": self.model, **sent(self)}
        if rows is not None:
            given = of_row(given, rows)
        return {**given, **self.params}

    def learns_for(self) -> tuple[object, ...]:
        """What two transforms must have in common to learn from each other's answers."""
        return (type(self).__name__, self.options(), self.fields)

    # The transform.

    def expand(self, pcoll: pvalue.PCollection) -> pvalue.DoOutputsTuple:
        outputs = pcoll | "Call" >> beam.ParDo(_Call(self)).with_outputs("failed", main="answered")
        kind = pa.Table if pcoll.element_type is pa.Table else Any
        outputs.answered.element_type = kind
        outputs.failed.element_type = kind
        return outputs


class _Call(beam.DoFn):
    """Takes elements in, hands finished ones out, and counts; the work is done in the service's threads."""

    def __init__(self, endpoint: Endpoint) -> None:
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

    def _hand_out(self, batches: Iterable[list[Segment]], until: Callable[[], bool]) -> Iterator[Any]:
        try:
            for segments in batches:
                self._service.pool.submit(_Batch(self._bundle, segments))
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


class _Windows(tuple):  # type: ignore[type-arg]
    """The windows of an output, which Beam must leave alone.

    It multiplies the windows of what `process` yields by the number of windows of the element at hand, which need not be
    the one that the output came from.
    """

    def __mul__(self, times: object) -> _Windows:
        return self


class _Batch:
    """The rows of one request, and its attempts: a task of the pool."""

    def __init__(self, bundle: Bundle, segments: list[Segment], attempts: int = 0) -> None:
        self.owner = bundle
        self._bundle = bundle
        self.tokens = float(sum(segment.costs[:, (TOKENS, ANSWER_TOKENS)].sum() for segment in segments))
        self._segments = segments
        self._rows = sum(len(segment) for segment in segments)
        self._endpoint = bundle.endpoint
        self._service = bundle.service
        self._attempts = attempts
        self._is_new = True
        self._began = 0.0
        self._memory = 0
        self._outcome: Response | BaseException | None = None

    def send(self, grant: Grant) -> bool:
        """One attempt; its outcome is kept for `receive`. Whether that will take long."""
        self._outcome, self._memory = None, 0
        try:
            self._attempt(grant)
        except BaseException as error:
            self._outcome = error
        outcome: Any = self._outcome
        return isinstance(outcome, Response) and (
            len(outcome.body) > _MUCH_BYTES or bool(self._endpoint.links(outcome))
        )

    def _attempt(self, grant: Grant) -> None:
        if self._bundle.is_stopped or not self._bundle.packing.fits(self._segments):
            self._service.limiter.cancel(grant)
            self._divide()
            return
        now = time.monotonic()
        self._began = self._began or now
        try:
            self._inputs = sources.inputs_of(self._segments)
            self._request = stored.found(self._named(self._endpoint.request(self._inputs)))
        except errors.InvalidInputError as error:
            # Nothing is sent, and nothing counted.
            self._service.limiter.cancel(grant)
            self._outcome = error
            return
        self._attempts += 1
        try:
            self._outcome = self._service.client.send(self._request, self._reserve)
        except errors.APIError as error:
            self._outcome = error
        self._observe(grant, time.monotonic() - now)

    def _named(self, request: Request) -> Request:
        """The request with the names that this server turned out to know."""
        names = self._bundle.learned.names
        if not names or not isinstance(request.body, Mapping):
            return request
        return dataclasses.replace(request, body={names.get(name, name): value for name, value in request.body.items()})

    def _reserve(self, length: int) -> None:
        """Waits until there is memory for an answer of so many bytes, and its columns."""
        self._memory = 2 * length
        self._service.memory.take(self._memory)

    def _observe(self, grant: Grant, latency: float) -> None:
        outcome = self._outcome
        self._bundle.note(latency, attempts=1, **({"requests": 1} if self._is_new else {"retries": 1}))
        self._is_new = False
        if isinstance(outcome, Response | errors.APIError) and outcome.headers:
            self._service.reached = True
            self._service.limiter.observe(grant, outcome.headers, time.monotonic())
        if isinstance(outcome, errors.APIError) and (outcome.status is not None or not outcome.reached):
            # Refused, or never arrived. What was cut off may have been billed, and stays counted.
            self._service.limiter.settle(grant, 0)
        self._grant = grant

    def receive(self) -> None:
        """What follows from the outcome."""
        try:
            error = self._read()
            if error is not None and not self._bundle.is_stopped:
                self._recover(error)
        except BaseException as error:
            self._service.stop(error, self._bundle.learned)

    def _read(self) -> errors.APIError | None:
        """Decodes the answer; returns an error that something can be done about, and raises what stops the job."""
        outcome, self._outcome = self._outcome, None
        try:
            if isinstance(outcome, Response):
                outcome = self._answered(outcome)
        finally:
            # Before another attempt may begin, in another thread.
            memory, self._memory = self._memory, 0
            self._service.memory.release(memory)
        if outcome is None:
            return None
        if not isinstance(outcome, errors.APIError):
            raise outcome
        outcome = self._explained(outcome)
        if outcome.action == "stop":
            raise outcome
        return outcome

    def _answered(self, response: Response) -> errors.APIError | None:
        """Columns back to where the rows came from; or the error that the answer turns out to be."""
        if errors.is_error(response.body):
            return self._service.client.error_in(response, self._request)
        if links := self._endpoint.links(response):
            response = dataclasses.replace(response, fetched={link: self._fetched(link) for link in links})
        try:
            answer = self._endpoint.columns(response, self._inputs)
        except errors.BadAnswerError as error:
            error.raw = self._raw(response.body)
            error.status, error.request_id = response.status, response.headers.get("x-request-id")
            return self._service.client.scrubbed(error)
        used = self._learn(answer)
        columns, misfits = self._settled(answer)
        bad = {**answer.bad, **misfits}
        hopeless = len(bad) == self._rows and all(why.systematic for why in bad.values())
        if hopeless and not self._bundle.learned.answered:
            return errors.ConfigurationError(self._message(bad[0]))
        self._bundle.learned.answered |= len(bad) < self._rows
        if not hopeless:
            self._service.succeeded()
        elif down := self._service.exhausted(errors.BadAnswerError(self._message(bad[0]))):
            return down
        failures = {row: self._failure(why, response) for row, why in bad.items()}
        size = sum(len(response.body) if isinstance(column, list) else column.nbytes for column in columns)
        self._memory -= size
        self._bundle.answered(self._segments, columns, failures, size, used)
        return None

    def _fetched(self, link: str) -> Body | errors.APIError:
        """What is at a URL that the answer gave: tried again by itself, for the answer was paid for."""
        began, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            try:
                body = self._service.client.fetch(link).body
                # Taken without a wait, for others may hold what they fetched: until it is given back no answer is begun.
                self._memory += len(body)
                self._service.memory.release(-len(body))
                return body
            except errors.APIError as error:
                wait = None
                if error.action == "wait" and not self._bundle.is_stopped:
                    wait = self._endpoint.retry.wait(attempt, time.monotonic() - began, self._asked(error))
                if wait is None:
                    return error
                time.sleep(wait)

    def _learn(self, answer: Answer) -> dict[str, float]:
        """What the answer cost, for the estimate, for the limiter, and for the metrics."""
        names = ("prompt_tokens", "completion_tokens", "cached_tokens")
        used = {name: number for name in names if (number := getattr(answer, name)) is not None}
        if answer.prompt_tokens:
            if self._endpoint.is_text:
                self._bundle.learned.count.learn(self._bundle.packing.tokens(self._segments), answer.prompt_tokens)
            self._service.limiter.settle(self._grant, answer.prompt_tokens + (answer.completion_tokens or 0))
        return used

    def _settled(self, answer: Answer) -> tuple[Sequence[pa.Array | list[Any]], dict[int, Bad]]:
        """The columns with the types that are declared, or that earlier answers had; all good rows, if they cannot."""
        known = self._bundle.learned.types
        if len(answer.bad) == self._rows:
            return [], {}
        pairs = zip(answer.columns, known, strict=True)
        types = [type if isinstance(column, list) else column.type for column, type in pairs]
        if types == known:
            return answer.columns, {}
        wanted = self._bundle.learned.settle(types)
        columns = [
            column if isinstance(column, list) else structs.widened(column, wants)
            for column, wants in zip(answer.columns, wanted, strict=True)
        ]
        misfits = [
            (column.type, wants)
            for column, wants in zip(columns, wanted)
            if not isinstance(column, list) and column.type != wants
        ]
        if not misfits:
            return columns, {}
        why = Bad(f"the answer is {misfits[0][0]}, where {misfits[0][1]} was expected", b"", systematic=True)
        return columns, {row: why for row in range(self._rows) if row not in answer.bad}

    def _failure(self, why: Bad, response: Response) -> sources.Failure:
        return sources.failure(
            "bad_answer",
            self._message(why),
            status=response.status,
            request_id=self._service.client.scrub(response.headers.get("x-request-id")),
            attempts=self._attempts,
            raw=self._raw(why.raw).decode("utf-8", "replace"),
        )

    def _message(self, why: Bad) -> str:
        # It may quote the answer, and that what the server was sent.
        return str(self._service.client.scrub(f"{self._endpoint.path}: {why.message}"))

    def _raw(self, body: Body) -> bytes:
        # Scrubbed before it is cut: half a key would not be found.
        scrubbed: bytes = self._service.client.scrub(bytes(body))
        return scrubbed[:RAW_BYTES]

    def _recover(self, error: errors.APIError) -> None:
        """One of three: see the table in errors.py."""
        if error.action == "again":
            self._service.pool.submit(self, wait=0.0)
        elif error.action == "wait":
            self._try_again(error)
        elif error.action == "split" and self._rows > 1:
            self._split(error)
        elif type(error).action == "wait" and (down := self._service.exhausted(error)) is not None:
            self._service.stop(down)
        else:
            self._fail("invalid_input" if isinstance(error, errors.InvalidInputError) else "rejected", error)

    def _explained(self, error: errors.APIError) -> errors.APIError:
        """The same error; or, where an option is the cause and not a row, one that stops the job and says what to set."""
        is_model = isinstance(error, errors.NotFoundError) or error.code == "model_not_found"
        if is_model and "model" in self._endpoint.columns_of_options:
            error.action = "fail"  # it is this row's model that is not there
            return error
        asked = self._asked(error)
        if error.action == "wait" and asked is not None and asked > self._endpoint.retry.max_wait:
            most = f"Retry(max_wait={self._endpoint.retry.max_wait:g})"
            error.args = (f"{error}. The server asks to wait {asked:.0f} s, longer than {most}",)
            error.action = "stop"
        if self._has_other_name(error):
            error.action = "again"
            return error
        if isinstance(error, (errors.BadRequestError, errors.ConfigurationError)) and error.status in (400, 422):
            if self._bundle.learned.answered:
                # With these options rows were answered: it is the row that does not go with them.
                error.action = "split"
                return error
            options = self._endpoint.options().keys() - {"model"} - self._endpoint.columns_of_options.keys()
            words = set(re.findall(r"\w+", error.detail))
            param = re.split(r"[.\[]", error.param or "")[0]  # "tools[0].parameters"
            named = [param] if param in options else []
            named += [name for name in self._endpoint.advice if name in options and name in words]
            if named:
                hint = self._endpoint.advice.get(named[0], f"check the option {named[0]!r}")
                return errors.ConfigurationError(f"{error}. {hint}")
        return error

    def _has_other_name(self, error: errors.APIError) -> bool:
        """Whether the server refuses a name in the body that has another, not tried yet: that is sent from now on."""
        if error.status not in (400, 422):
            return False
        words = {error.param, *re.findall(r"\w+", error.detail)}
        sent = self._request.body if isinstance(self._request.body, Mapping) else {}
        for name, other in self._endpoint.other_names.items():
            is_unknown = name in words and (isinstance(error, errors.ConfigurationError) or other in words)
            if is_unknown and name in sent and self._bundle.learned.rename(name, other):
                return True
        return False

    def _asked(self, error: errors.APIError) -> float | None:
        return retry_after(error.headers, error.detail, time.time())

    def _try_again(self, error: errors.APIError) -> None:
        """Queues the batch again, to go after the wait and before what was never sent; or gives up."""
        retry = self._endpoint.retry
        wait = retry.wait(self._attempts, time.monotonic() - self._began, self._asked(error))
        if wait is not None:
            if isinstance(error, errors.RateLimitError):
                self._service.limiter.pause(wait, time.monotonic())
                self._service.pool.slow_down()
            self._service.pool.submit(self, wait)
        elif (down := self._service.exhausted(error)) is not None:
            self._service.stop(down)
        elif isinstance(error, errors.InternalServerError) and self._rows > 1 and self._bundle.learned.answered:
            # Others are answered, so it may be one row that the server cannot stand. Errors like this are not billed.
            self._divide(attempts=max(0, retry.attempts - 2))
        else:
            self._fail("bad_answer" if isinstance(error, errors.BadAnswerError) else "exhausted", error)

    def _split(self, error: errors.APIError) -> None:
        """Several requests in place of this one, until the rows that were the cause stand alone."""
        if isinstance(error, errors.RequestTooLargeError):
            tokens, size, _ = self._bundle.packing.costs(self._segments).sum(axis=0)
            self._bundle.learned.too_large(error, self._rows, tokens, size)
        self._divide()

    def _divide(self, attempts: int = 0) -> None:
        """Others in place of this batch, so many of their attempts counted as made."""
        if self._bundle.is_stopped:
            return
        pieces = list(self._bundle.packing.divided(self._segments))
        self._bundle.replaced(len(pieces))
        for segments in pieces:
            self._service.pool.submit(_Batch(self._bundle, segments, attempts), wait=0.0)

    def _fail(self, kind: str, error: errors.APIError) -> None:
        raw = error.raw.decode("utf-8", "replace") if error.raw is not None else None
        self._bundle.failed(
            self._segments,
            kind,
            str(error),
            status=error.status,
            code=error.code,
            type=error.type,
            request_id=error.request_id,
            attempts=self._attempts or None,
            raw=raw,
        )
