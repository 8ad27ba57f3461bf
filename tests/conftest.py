"""Emulators and runners for tests of the whole path, and what comes out of a pipeline as plain lists."""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult

from beam_openai import API, Embeddings, Retry, service
from beam_openai.emulator import Emulator
from beam_openai.emulator.vectors import embed

MODEL, DIMENSIONS = "tiny", 8
PRISM = os.environ.get("PRISM_BIN") or shutil.which("prism")
needs_prism = pytest.mark.skipif(not PRISM, reason="no Prism binary: set PRISM_BIN or put prism on the PATH")
QUICK = Retry(attempts=4, max_wait=0.05)
"""Waits hardly at all where the server does not say how long."""


def pytest_unconfigure() -> None:
    # Beam ends its job servers, and says so, when what pytest captured logs with is closed.
    logging.raiseExceptions = False


# Servers


@pytest.fixture
def start_emulator() -> Iterator[Callable[..., Emulator]]:
    """Starts emulators with options of their own; they end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(Emulator(**{"models": {MODEL: DIMENSIONS}, **options}))


@pytest.fixture(scope="session")
def plain_emulator() -> Iterator[Emulator]:
    with Emulator(models={MODEL: DIMENSIONS, "painter": "image"}, keep_requests=5000) as emulator:
        yield emulator


@pytest.fixture
def emulator(plain_emulator: Emulator) -> Emulator:
    """One without faults or limits, its ledger empty."""
    plain_emulator.clear()
    return plain_emulator


def pytest_configure() -> None:
    """Programs that tests start hear signals, also where the tests are started by something that does not (nohup, `&`)."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # which another program does not inherit


def embeddings(emulator: Emulator, **options: Any) -> Embeddings:
    return Embeddings(**{"model": MODEL, "api": API(base_url=emulator.base_url), "retry": QUICK, **options})


def vectors(texts: list[str], dimensions: int = DIMENSIONS) -> list[list[float]]:
    """What the emulator answers to them."""
    return embed(texts, dimensions).tolist()


# Runners


def fn_api(**options: Any) -> beam.Pipeline:
    """Beam's in-process runner; options are flags by their names."""
    return beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(flags=[], **options))


def threads() -> beam.Pipeline:
    """The same with four workers, each a thread, and more bundles than workers."""
    runner = FnApiRunner(bundle_repeat=0)
    options = {"direct_num_workers": 4, "direct_running_mode": "multi_threading"}
    return beam.Pipeline(runner=runner, options=PipelineOptions(flags=[], **options))


def direct(**options: Any) -> beam.Pipeline:
    """Beam's older in-process runner, which knows TestStream."""
    return beam.Pipeline(runner=BundleBasedDirectRunner(), options=PipelineOptions(flags=[], **options))


def prism(**options: Any) -> beam.Pipeline:
    flags = [f"--prism_location={PRISM}", "--environment_type=LOOPBACK"]
    return beam.Pipeline("PrismRunner", options=PipelineOptions(flags, **options))


RUNNERS = [
    pytest.param(fn_api, id="fn_api"),
    pytest.param(threads, id="threads"),
    pytest.param(prism, id="prism", marks=needs_prism),
]


# Out of a pipeline


class Out(NamedTuple):
    """An element as it came out."""

    value: Any
    timestamp: float
    window: Any
    pane: Any


class Outcome(NamedTuple):
    answered: list[Out]
    failed: list[Out]
    result: PipelineResult

    def rows(self, tag: str = "answered") -> list[Any]:
        """Its rows, those of tables as dicts."""
        return rows_of([out.value for out in getattr(self, tag)])

    def counter(self, name: str) -> int:
        return metric(self.result, name)


def rows_of(elements: list[Any]) -> list[Any]:
    rows: list[Any] = []
    for element in elements:
        rows += element.to_pylist() if isinstance(element, pa.Table) else [element]
    return rows


def metric(result: PipelineResult, name: str, kind: str = "counters") -> Any:
    """The sum of a counter, or the one distribution, of that name; None where there is none."""
    found = [
        metric.committed if metric.committed is not None else metric.attempted
        for metric in result.metrics().query()[kind]
        if metric.key.metric.name == name
    ]
    if kind == "counters":
        return sum(found) if found else None
    return found[0] if found else None


# All workers of the tests are threads of this process: what they collect is found here.
_collected: dict[int, dict[str, list[Out]]] = collections.defaultdict(lambda: {"answered": [], "failed": []})
_numbers = itertools.count()


class Collect(beam.DoFn):
    def __init__(self, number: int, tag: str) -> None:
        self._number = number
        self._tag = tag

    def process(
        self,
        element: Any,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        pane: Any = beam.DoFn.PaneInfoParam,
    ) -> None:
        _collected[self._number][self._tag].append(Out(element, float(timestamp), window, pane))


def run(elements: Any, transform: Any, pipeline: Callable[[], beam.Pipeline] = fn_api) -> Outcome:
    """What the transform makes of elements: of a list, or of what a transform begins with."""
    number = next(_numbers)
    source = beam.Create(elements, reshuffle=False) if isinstance(elements, list) else elements
    p = pipeline()
    outputs = p | "Rows" >> source | transform
    outputs.answered | "Answered" >> beam.ParDo(Collect(number, "answered"))
    outputs.failed | "Failed" >> beam.ParDo(Collect(number, "failed"))
    result = p.run()
    result.wait_until_finish()
    return Outcome(**_collected.pop(number, {"answered": [], "failed": []}), result=result)


def texts_table(texts: list[Any], **columns: Any) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.string()), **columns})


# What must be left behind: nothing


def open_sockets() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith("socket:"):
                found.add(target)
    return found


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("beam_openai")]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key of the machine's; and after the test no service, and no thread of one."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    yield
    for _ in range(100):
        if not (service._services or our_threads()):
            return
        time.sleep(0.1)
    left = [shared.users for shared in service._services.values()], our_threads()
    while service._services:
        service._services.popitem()[1].service.close()
    pytest.fail(f"left behind: users of services and threads {left}")
