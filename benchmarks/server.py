"""What the server of these benchmarks can do by itself, so that a reader sees that it is not what is measured."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

from beam_openai.emulator import Emulator
from benchmarks.contestants import API_ROWS, DIMENSIONS, MODEL
from benchmarks.figures import Figure, Plan
from benchmarks.process import apart


def figures(plan: Plan) -> Iterator[Figure]:
    with Emulator(vectors="cheap", models={MODEL: DIMENSIONS}) as server:
        sends = plan.either(20, 10)
        ask = {"base_url": server.base_url, "path": "/v1/embeddings"}
        small = apart(rate, **ask, body=_embeddings(1, 8), threads=8, sends=50 * sends)
        large = apart(rate, **ask, body=_embeddings(API_ROWS, DIMENSIONS), threads=4, sends=sends)
    yield Figure("the server itself, requests of one row", f"{small:,.0f} requests/s")
    yield Figure("the server itself, requests of 2,048 rows", f"{large * API_ROWS:,.0f} rows/s")


def _embeddings(rows: int, dimensions: int) -> dict[str, Any]:
    texts = [f"{row} {'word ' * 28}" for row in range(rows)]
    return {"model": MODEL, "input": texts, "encoding_format": "base64", "dimensions": dimensions}


def rate(base_url: str, path: str, body: dict[str, Any], threads: int, sends: int) -> float:
    """Requests a second to a client that does nothing with the answers but read them."""
    asked = json.dumps(body).encode()

    def send(times: int) -> None:
        connection, room = HTTPConnection(base_url.split("/")[2]), bytearray(1 << 20)
        for _ in range(times):
            connection.request("POST", path, asked, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise RuntimeError(f"status {answer.status}: {answer.read()[:500]!r}")
            while answer.readinto(room):
                pass
        connection.close()

    send(2)
    workers = [threading.Thread(target=send, args=[sends]) for _ in range(threads)]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return threads * sends / (time.monotonic() - began)
