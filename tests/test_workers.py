"""Several processes at work at once, each the command line as a user starts it, and what of a quota they use together.

What is asserted stands in the server's own records: when each request came, whose it was, and what became of it. These
are real processes on a machine that others may keep busy, so that it is asserted what a wrong law would break, and not how
well the right one does: that is for the simulation, where time is nobody's (test_sharing.py, benchmarks/quota).
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import DIMENSIONS, MODEL, Emulator, embeddings, fn_api, run, texts_table
from redis_server import RedisServer

from beam_openai import Embeddings, Quota, Retry, column, service

ROOT = Path(__file__).parent.parent
CLI = [sys.executable, "-m", "beam_openai.cli"]
WORKERS = "0123"
PATIENCE = 120.0  # seconds until a test that hangs says so
LATENCY = 0.1
TEXT_TOKENS = 10


OVER = threading.Event()
"""Nobody asks any more what comes of a run."""


def until(condition: Callable[[], object]) -> None:
    """Waits until it holds."""
    gives_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < gives_up and not OVER.is_set()
        time.sleep(0.1)


# Four command lines at the same time


class Send(NamedTuple):
    """A request as the server saw it."""

    at: float
    worker: str
    admitted: bool


class Records:
    """What a server saw of a run.

    Args:
      rate: requests a second that the quota allows.
      rows: ids of all rows in the outputs of the workers that came to their end.
      killed_at: when one of them was.
    """

    def __init__(self, server: Emulator, rate: float, rows: list[int], killed_at: float = float("inf")) -> None:
        seen = server.requests(1_000_000)
        self.sends = [Send(each["at"], each["body"]["user"], each["status"] == 200) for each in seen]
        self.ledger, self.peak = server.ledger(), server.peak(60)
        self.rate, self.rows, self.killed_at = rate, rows, killed_at
        self.begin = self.sends[0].at
        self.end = min(max(send.at for send in self.sends if send.worker == worker) for worker in self.survivors)

    @property
    def survivors(self) -> str:
        """The workers that were not killed."""
        return WORKERS[: len(WORKERS) - (self.killed_at < float("inf"))]

    @property
    def refused(self) -> int:
        return sum(not send.admitted for send in self.sends)

    def admitted(self, begin: float, end: float) -> Counter[str]:
        """How many of each worker's requests were, in a time."""
        return Counter(send.worker for send in self.sends if send.admitted and begin <= send.at < end)

    def used(self, begin: float, end: float) -> float:
        """The share of the quota, in a time."""
        assert end - begin >= 5, "too short to tell"
        return self.admitted(begin, end).total() / (self.rate * (end - begin))

    def shares(self, begin: float, end: float) -> list[float]:
        """What each worker had of that."""
        counts = self.admitted(begin, end)
        return [counts[worker] / counts.total() for worker in WORKERS]


class Run:
    """Four command lines of one kind against a server of their own.

    Args:
      folder: for inputs and outputs.
      command: after `beam-openai`; what is read, written and asked is added.
      rows: of each worker.
      row: the columns of one.
    """

    def __init__(self, folder: Path, command: list[str], rows: int, row: Callable[[int], dict[str, str]]) -> None:
        self._folder, self._command, self._rows, self._row = folder, command, rows, row
        self._workers: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Run:
        self._folder.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self._workers):
            self.kill(worker)

    def start(self, server: Emulator) -> None:
        for number, worker in enumerate(WORKERS):
            ids = range(number * self._rows, (number + 1) * self._rows)
            pq.write_table(pa.Table.from_pylist([{"id": id, **self._row(id)} for id in ids]), self._path(worker))
            own = ["--input", self._path(worker), "--output", self._path(f"out-{worker}"), "--user", worker]
            self._workers[worker] = subprocess.Popen(
                [*CLI, *self._command, *own, "--base-url", server.base_url],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def kill(self, worker: str) -> float:
        """By a signal that nobody hears; returns when that was."""
        process = self._workers.pop(worker)
        process.kill()
        process.communicate()
        return time.monotonic()

    def rows(self) -> list[int]:
        """Ids of all rows that came out, once all workers have ended."""
        ids: list[int] = []
        for worker, process in list(self._workers.items()):
            until(lambda process=process: process.poll() is not None)
            said, _ = process.communicate()
            del self._workers[worker]
            assert process.returncode == 0, said
            ids += pq.read_table(self._path(f"out-{worker}"))["id"].to_pylist()
        return ids

    def _path(self, name: str) -> str:
        return str(self._folder / (name if name.startswith("out") else f"{name}.parquet"))


@contextlib.contextmanager
def gate(server: Emulator, path: str, body: dict[str, Any], **limits: float) -> Iterator[Callable[[], None]]:
    """Who asks a server is kept waiting until what this gives is called; that lets all four begin at once.

    The buckets are then a tenth full: a full one would hide for a minute whether its refill is used.
    """
    server.change(**dict.fromkeys(limits, 20.0), tenant_share=1.0)
    with contextlib.closing(HTTPConnection(server.base_url.split("/")[2])) as connection:
        asked = ("POST", f"/v1{path}", json.dumps(body), {"Content-Type": "application/json"})
        for _ in range(17):
            connection.request(*asked)
            connection.getresponse().read()
        # This one holds the only slot for good.
        server.change(**limits, slots=1, latency=1e6)
        connection.request(*asked)
        until(lambda: server.traffic()["busy"])
        server.change(latency=LATENCY)
        server.clear()

        def open_gate() -> None:
            until(lambda: server.traffic()["waiting"] == len(WORKERS))
            server.change(slots=None, tenant_share=0.0)

        yield open_gate


def asked(server: Emulator) -> int:
    return int(server.ledger()["requests"])


CHAT = ["chat", "--model", "gpt-4o-mini", "--max-tokens", "2"]


def chat_row(id: int) -> dict[str, str]:
    return {"prompt": f"row {id}"}


def bound_by_requests(folder: Path) -> Records:
    """100 requests a second; after half a minute the last worker is killed."""
    limits = {"rpm": 6000.0}
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    with Emulator(keep_requests=100_000) as server, Run(folder, CHAT, 1400, chat_row) as run:
        with gate(server, "/chat/completions", body, **limits) as open_gate:
            run.start(server)
            open_gate()
        until(lambda: asked(server) >= 2600)
        killed_at = run.kill(WORKERS[-1])
        rows = run.rows()
        return Records(server, 100, rows, killed_at)


def bound_by_tokens(folder: Path) -> Records:
    """100 requests a second, of 100 tokens each."""
    limits = {"tpm": 60.0 * 100 * 100}
    command = ["embeddings", "--model", "text-embedding-3-small", "--dimensions", "8", "--max-batch-size", "10"]
    body = {"model": "text-embedding-3-small", "input": "x", "dimensions": 8}
    with Emulator(keep_requests=100_000) as server, Run(folder, command, 7500, text_row) as run:
        with gate(server, "/embeddings", body, **limits) as open_gate:
            run.start(server)
            open_gate()
        rows = run.rows()
        return Records(server, 100, rows)


def text_row(id: int) -> dict[str, str]:
    text = f"row {id:036}"
    assert len(text) == 4 * TEXT_TOKENS
    return {"text": text}


def bound_by_a_shared_ceiling(folder: Path) -> Records:
    """20 requests a second, of all of which Redis keeps account; the server would take any number."""
    with RedisServer() as redis_server, Emulator(keep_requests=100_000) as server:
        ceiling = ["--requests-per-minute", str(CEILING), "--shared-quota", redis_server.url]
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
        with Run(folder, [*CHAT, *ceiling], 320, chat_row) as run:
            with gate(server, "/chat/completions", body) as open_gate:
                run.start(server)
                open_gate()
            rows = run.rows()
            return Records(server, CEILING / 60, rows)


CEILING = 1200
"""Requests a minute."""


@pytest.fixture(scope="module", autouse=True)
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Records]]]:
    """All at once, and beside the other tests, for most of what they do is to wait; what came of them is asked last."""
    folder = tmp_path_factory.mktemp("runs")
    kinds = {"requests": bound_by_requests, "tokens": bound_by_tokens, "shared": bound_by_a_shared_ceiling}
    with ThreadPoolExecutor(len(kinds)) as threads:
        yield {name: threads.submit(kind, folder / name) for name, kind in kinds.items()}
        OVER.set()


# One process


def texts(count: int, name: str = "") -> pa.Table:
    return texts_table([f"{name}{number}" for number in range(count)])


def arrivals(server: Emulator) -> list[dict[str, Any]]:
    return [each for each in server.requests(100_000) if each["path"].endswith("/embeddings")]


def between(sends: list[dict[str, Any]], begin: float, end: float) -> int:
    """How many were admitted in a time."""
    return sum(begin <= send["at"] < end for send in sends if send["admitted"])


def test_a_server_that_tells_nothing_but_too_much_is_used_nearly_to_the_full(start_emulator):
    server = start_emulator(rpm=3000, bucket_seconds=1, ratelimit_headers="none", retry_after="message", latency=0.05)
    outcome = run([texts(500)], embeddings(server, max_batch_size=1, concurrency=None, retry=Retry()))
    assert len(outcome.rows()) == 500 and server.ledger()["billed_twice"] == 0
    sends = server.decisions()
    begin, end = sends[0]["at"] + 2, sends[-1]["at"]
    assert between(sends, begin, end) >= 0.6 * 50 * (end - begin)
    # It cannot know before the first refusal that there is a limit, and then has to find it.
    assert sum(not send["admitted"] for send in sends if send["at"] >= begin) <= 0.01 * len(sends) + 3
    assert outcome.counter("cumulativeThrottlingSeconds") > 0


def test_while_the_server_s_quota_binds_the_runner_is_told_of_throttled_seconds(start_emulator):
    server = start_emulator(rpm=1200, latency=0.05)
    outcome = run([texts(60)], embeddings(server, max_batch_size=1))
    sends = server.decisions()
    seconds = sends[-1]["at"] - sends[0]["at"]
    throttled = outcome.counter("cumulativeThrottlingSeconds")
    assert 1 <= throttled <= seconds + 1


def two(first: Embeddings, second: Embeddings, rows: int) -> None:
    """Both in one pipeline, over the same rows."""
    with fn_api() as p:
        tables = p | beam.Create([texts(rows)], reshuffle=False)
        for name, endpoint in {"First": first, "Second": second}.items():
            tables | name >> endpoint


def test_transforms_with_different_models_have_each_a_quota_of_its_own(start_emulator):
    server = start_emulator(models={"one": DIMENSIONS, "two": DIMENSIONS})
    options = {"max_batch_size": 1, "quota": Quota(requests_per_minute=600)}
    two(embeddings(server, model="one", **options), embeddings(server, model="two", **options), 40)
    times = {model: [send["at"] for send in server.decisions(model)] for model in ("one", "two")}
    begin, end = max(at[0] for at in times.values()), min(at[-1] for at in times.values())
    for model, at in times.items():
        assert len(at) == 40
        # One limiter for both would let each have half.
        assert between(server.decisions(model), begin, end) >= 0.6 * 10 * (end - begin) and end - begin >= 2


def test_transforms_with_the_same_model_share_a_quota(start_emulator):
    server = start_emulator()
    options = {"max_batch_size": 1, "quota": Quota(requests_per_minute=600)}
    two(embeddings(server, **options), embeddings(server, dimensions=4, **options), 30)
    assert server.traffic()["models"][MODEL]["admitted"] == 60
    # Evenly, and for a second's worth that a late wake-up makes up for; two limiters would let all pass in half the time.
    sends = server.decisions()
    assert sends[-1]["at"] - sends[0]["at"] >= 59 * 0.1 - 1.5


def test_where_each_row_has_its_model_the_empty_bucket_of_one_does_not_hold_the_others(start_emulator):
    server = start_emulator(models={"busy": DIMENSIONS, "free": DIMENSIONS}, rpm=600)
    with contextlib.closing(HTTPConnection(server.base_url.split("/")[2])) as connection:
        status = 200
        while status == 200:
            connection.request("POST", "/v1/embeddings", json.dumps({"model": "busy", "input": "x"}))
            answer = connection.getresponse()
            answer.read()
            status = answer.status
    server.clear()
    models = ["busy"] * 20 + ["free"] * 10
    rows = texts_table([f"{number}" for number in range(30)], model=models)
    outcome = run([rows], embeddings(server, model=column("model"), max_batch_size=1, retry=Retry()))
    assert len(outcome.rows()) == 30
    busy, free = ([send["at"] for send in server.decisions(model) if send["admitted"]] for model in ("busy", "free"))
    assert (len(busy), len(free)) == (20, 10)
    assert free[-1] < busy[10]


def test_a_row_that_was_refused_goes_before_fresh_ones(start_emulator):
    server = start_emulator(latency=0.02)
    limited = {"status": 429, "headers": {"retry-after-ms": "300"}, "body": {"error": {"message": "slow down"}}}
    fine = {"delay": 0.02}
    for answer in ([fine] * 5 + [limited]) * 3:
        server.inject(answer, path="/embeddings")
    concurrency = 3
    outcome = run([texts(40)], embeddings(server, max_batch_size=1, concurrency=concurrency, retry=Retry()))
    assert len(outcome.rows()) == 40
    seen = [(each["body"]["input"][0], each["status"]) for each in arrivals(server)]
    refused = [place for place, (_, status) in enumerate(seen) if status == 429]
    assert len(refused) == 3
    for place in refused:
        again = next(later for later in range(place + 1, len(seen)) if seen[later][0] == seen[place][0])
        # Only those can come between that were under way when it was refused, or are sent at the same moment.
        assert again - place <= 2 * concurrency, seen


def test_as_many_are_in_flight_as_a_server_of_few_slots_needs(start_emulator):
    slots = 12
    server = start_emulator(slots=slots, latency=0.1)
    looks: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            looks.extend(held.thing.pool.places for held in list(service._services.values()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        outcome = run([texts(1000)], embeddings(server, max_batch_size=1, concurrency=None))
    finally:
        ended.set()
        thread.join()
    assert len(outcome.rows()) == 1000
    # How many more than that there are at most is for the simulation.
    assert slots <= statistics.median(looks[len(looks) // 3 :]) <= 8 * slots


# A Redis that is away


def test_while_redis_is_away_nothing_is_sent_and_all_is_when_it_is_back(start_emulator):
    server = start_emulator(latency=0.02)
    with RedisServer() as redis_server:
        quota = Quota(requests_per_minute=2400, shared=redis_server.url)
        gone: list[float] = []

        def interrupt() -> None:
            until(lambda: asked(server) >= 40)
            redis_server.admin.save()
            redis_server.kill()
            gone.append(time.monotonic())
            until(lambda: service.progress()["cut_off"])
            time.sleep(1)
            gone.append(time.monotonic())
            redis_server.start()

        thread = threading.Thread(target=interrupt)
        thread.start()
        outcome = run([texts(160)], embeddings(server, max_batch_size=1, quota=quota))
        thread.join()
    assert len(outcome.rows()) == 160 and server.ledger()["billed_twice"] == 0
    sends = server.decisions()
    # What had its place in the line then may still go.
    assert between(sends, gone[0] + 0.5, gone[1]) == 0 == service.progress()["cut_off"]
    assert between(sends, gone[1], sends[-1]["at"] + 1) >= 100


IMPATIENT = "import sys; from beam_openai import cli, quota; quota._PATIENCE = 2.0; sys.exit(cli.main())"


@pytest.mark.parametrize(
    ("shared", "says"),
    [
        ("redis://127.0.0.1:1", "the Redis of the shared quota, 127.0.0.1:1, cannot be used now"),
        ("NO_SUCH_VARIABLE", "the environment variable NO_SUCH_VARIABLE is not set"),
    ],
)
def test_without_a_redis_the_job_stops_with_one_line(start_emulator, tmp_path, shared, says):
    server = start_emulator()
    pq.write_table(texts(10), tmp_path / "in.parquet")
    command = ["embeddings", "--input", f"{tmp_path}/in.parquet", "--output", f"{tmp_path}/out", "--model", MODEL]
    quota = ["--base-url", server.base_url, "--requests-per-minute", "60", "--shared-quota", shared]
    ended = subprocess.run(
        [sys.executable, "-c", IMPATIENT, *command, *quota], capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT
    )
    assert ended.returncode == 1
    first, *others = ended.stderr.splitlines()
    assert first.startswith("beam-openai embeddings: ") and says in first
    assert len(others) == 3 and "Traceback" not in ended.stderr
    assert asked(server) == 0


# What came of the runs


@pytest.mark.parametrize("name", ["requests", "tokens", "shared"])
def test_each_row_of_all_workers_is_answered_once(runs, name):
    records = runs[name].result()
    workers = len(records.survivors)
    rows = len(records.rows) // workers
    assert sorted(records.rows) == list(range(workers * rows))
    assert records.ledger["billed_twice"] == 0
    assert records.ledger["by_status"].keys() <= {"200", "429"}


@pytest.mark.parametrize("name", ["requests", "tokens"])
def test_a_server_s_quota_is_used_by_all_together_and_hardly_ever_hit(runs, name):
    records = runs[name].result()
    begin, end = records.begin + 6, min(records.end, records.killed_at)
    assert records.used(begin, end) >= 0.75
    assert records.refused <= 0.01 * len(records.sends) + 8


@pytest.mark.parametrize("name", ["requests", "tokens", "shared"])
def test_no_worker_is_pushed_aside(runs, name):
    records = runs[name].result()
    shares = records.shares(records.begin + 6, min(records.end, records.killed_at))
    assert min(shares) >= 0.08, shares


def test_where_one_is_killed_the_others_take_over_its_share(runs):
    records = runs["requests"].result()
    begin = records.killed_at + 3
    # Without it there would be three quarters at most.
    assert records.used(begin, records.end) >= 0.8
    counts = records.admitted(begin, records.end)
    assert counts.keys() == set(records.survivors)
    assert min(counts.values()) >= 0.08 * counts.total()
    assert records.ledger["billed_inputs"] >= len(records.rows) + 300, "it had nothing to do with it"


def test_a_ceiling_in_redis_is_used_to_the_full_and_never_passed(runs):
    records = runs["shared"].result()
    # Redis knows to the tenth of a second when each may be sent, and not how long it is on its way on a busy machine.
    assert 0.85 * CEILING <= records.peak["requests"] <= CEILING + CEILING / 60
    assert records.used(records.begin + 2, records.end) >= 0.85
    assert records.refused == 0
