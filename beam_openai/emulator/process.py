"""An emulator in a process of its own, as a context manager."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast, final
from urllib.parse import urlencode

from .ledger import summary
from .options import Options


@final
class Emulator:
    """A local OpenAI server in a process of its own, so that neither its work nor its GIL is ours.

    `with Emulator(rpm=3000, latency=0.2) as server:` starts it and waits until it listens; it ends
    with the block, or with this process, however that ends.

    Args:
        faults: `{"reset": 0.01}`, or `"reset=0.01"`: probability of each kind, for each request.
        models: `{"name": dimensions}`, or `"name:dimensions"`: more embedding models; with
            `"chat+completion"` in place of the dimensions one that does such work.
        options: every field of `Options`, by its name.

    Raises:
        ValueError, TypeError: options that cannot be.
    """

    base_url: str
    """`http://127.0.0.1:PORT/v1`, once started."""

    def __init__(
        self,
        *,
        faults: str | Mapping[str, float] = "",
        models: str | Mapping[str, int | str] = "",
        **options: Any,
    ) -> None:
        if not isinstance(faults, str):
            faults = ",".join(f"{kind}={chance}" for kind, chance in faults.items())
        if not isinstance(models, str):
            models = ",".join(f"{name}:{dimensions}" for name, dimensions in models.items())
        self.options = Options(faults=faults, models=models, **options)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the server; returns when it listens.

        Raises:
            RuntimeError: it ended at once. Why stands on standard error.
        """
        command = [sys.executable, "-m", "beam_openai.emulator", *self.options.arguments()]
        self._process = subprocess.Popen(
            [*command, "--until-stdin-closes"],
            cwd=Path(__file__).parents[2],  # so that it is this package, wherever we were started
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = cast("IO[str]", self._process.stdout).readline()
        if not line:
            status = self._process.wait()
            self.stop()
            raise RuntimeError(f"the emulator ended at once, with status {status}")
        self.base_url = line.split()[-1]
        self._address = self.base_url.removeprefix("http://").removesuffix("/v1")

    def stop(self) -> None:
        """Ends the server, and returns when it has ended. Once is enough; twice does no harm."""
        process, self._process = self._process, None
        if process is None:
            return
        # Not by closing its input: a process that was forked meanwhile may hold that open.
        process.terminate()
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    @property
    def pid(self) -> int | None:
        """The process's id, or None where there is none."""
        return self._process.pid if self._process else None

    def ledger(self) -> dict[str, Any]:
        """What was billed and seen so far.

        `requests`, `answered` (with 200), `by_status`, `faults`, `billed_inputs`,
        `distinct_inputs`, `billed_twice` (distinct inputs billed more than once), `tokens`,
        `in_flight`, `peak_in_flight`, `mean_in_flight`, `connections` (accepted, ours included),
        `leaked_keys` (fetches of an image that carried a key), `seconds` (from the first request to the
        last).
        """
        totals: dict[str, Any] = self._ask("GET", "/ledger")
        return totals

    def summary(self) -> str:
        """The ledger in one line."""
        return summary(self.ledger())

    def billed(self, inputs: Sequence[str | Sequence[int]], model: str | None = None) -> list[int]:
        """How often each input was billed: to `model`, or to all models, with any options."""
        asked = {"inputs": list(inputs), "model": model}
        times: list[int] = self._ask("POST", "/emulator/billed", asked)["billed"]
        return times

    def requests(self, last: int = 100) -> list[dict[str, Any]]:
        """Recent requests as they arrived, oldest first; at most `keep_requests` are remembered.

        Each has `method`, `path` (with /v1 and its query), `headers` (lower-case names), `body`
        (decoded JSON, or text), `size` (bytes of the body), `at` (the server's monotonic seconds),
        `status` (0: in flight, or reset), `fault` (the kind it met, or None).
        """
        recent: list[dict[str, Any]] = self._ask("GET", f"/emulator/requests?last={last}")
        return recent

    def inject(self, answer: str | Mapping[str, Any], times: int = 1, path: str | None = None) -> None:
        """Says what the next requests meet, before any planned fault.

        Args:
            answer: the kind of a fault; or `{"status": 429, "headers": {...}, "body": ...}`, sent as
                it is, unchecked and unbilled (a body is str, bytes or JSON); or `{"delay":
                seconds}`, alone or with `fault`, `status`, `headers`, `body`.
            times: how many requests.
            path: only requests to this path, `/embeddings`; any by default. `/files/images` is fetches
                of images, which meet nothing else.
        """
        described: dict[str, Any] = {"fault": answer} if isinstance(answer, str) else dict(answer)
        body = described.get("body")
        if isinstance(body, bytes):
            described["body"] = {"base64": base64.b64encode(body).decode()}
        if path is not None:
            described["path"] = path
        self._ask("POST", "/emulator/inject", {"answer": described, "times": times})

    def turn_clock(self, seconds: float) -> float:
        """Turns the time of day forward, which fine-tunes, batches and files' ends go by; returns it."""
        now: float = self._ask("POST", "/emulator/clock", {"forward": seconds})["now"]
        return now

    def change(self, **options: Any) -> dict[str, Any]:
        """Changes options of the running server, those of `options.CHANGEABLE`; returns all of these as they are.

        `change(tenant_share=0.5)` has another tenant use half of the quota from now on, `change(rpm=60,
        tpm=None)` sets other limits. Buckets stay as full as they are, in proportion. With fewer `slots`
        those who are served are served to the end.

        Raises:
            ValueError: an option that cannot be changed while it runs, or be at all; none is changed.
        """
        changed: dict[str, Any] = self._ask("POST", "/emulator/options", options)
        return changed

    def traffic(self) -> dict[str, Any]:
        """What was admitted and refused so far, of requests to models; a client is who sent the header X-Client.

        `models`: for each `admitted`, `refused` (429, or 503 for a full queue), `tokens`, `images` and
        `audio_bytes` (that the admitted ones cost), and the same for each of its `clients` ("": who did not say).
        `busy` slots, `waiting` requests, `peak_waiting`. `forgotten`: decisions that are no longer in `decisions()`.
        """
        totals: dict[str, Any] = self._ask("GET", "/emulator/traffic")
        return totals

    def decisions(self, model: str | None = None, client: str | None = None) -> list[dict[str, Any]]:
        """Each request that was admitted or refused, oldest first; at most `keep_decisions` are remembered.

        Each has `at` (the server's monotonic seconds), `model`, `client`, `admitted`, `tokens`, `images`,
        `audio_bytes`.
        """
        decisions: list[dict[str, Any]] = self._ask("GET", _about("decisions", model, client))
        return decisions

    def seconds(self, model: str | None = None, client: str | None = None) -> list[dict[str, int]]:
        """What was admitted and refused in each second, from the first of `decisions()` to the last.

        Each has `second` (`at`, rounded down), `admitted`, `refused`, `tokens`, `images`, `audio_bytes`; idle ones
        are there too.
        """
        seconds: list[dict[str, int]] = self._ask("GET", _about("seconds", model, client))
        return seconds

    def peak(self, seconds: float = 60.0, model: str | None = None, client: str | None = None) -> dict[str, int]:
        """The most `requests`, `tokens`, `images` and `audio_bytes` admitted within any so many seconds.

        Limits are for each model: without `model` those of all are counted together.

        Raises:
            ValueError: more was decided than `keep_decisions`, so that nobody knows.
        """
        most: dict[str, int] = self._ask("GET", _about("peak", model, client, seconds=seconds))
        return most

    def clear(self) -> None:
        """Forgets the ledger, recent requests, traffic and injections. Buckets stay as they are."""
        self._ask("POST", "/emulator/clear", {})

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        # http.client knows no proxies: what is said here never leaves the machine.
        connection = HTTPConnection(self._address, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer = json.load(response)
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(answer["error"])
        return answer


def _about(what: str, model: str | None, client: str | None, **query: Any) -> str:
    given = {**query, "model": model, "client": client}
    return f"/emulator/{what}?" + urlencode({name: value for name, value in given.items() if value is not None})
