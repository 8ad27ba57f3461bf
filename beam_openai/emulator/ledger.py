"""What was billed: every input, how often; and what the server saw meanwhile.

An input is kept as 64 bits, so that a million of them stay small: Python's own hash of the scope
and the input, which differs from run to run.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

_ABBREVIATED = 1_000_000


@dataclass
class Seen:
    """One request as it arrived: `at` is monotonic seconds, `status` 0 until it is answered."""

    method: str
    path: str
    at: float
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    size: int = 0
    status: int = 0
    fault: str | None = None

    def keep(self, body: bytes | bytearray) -> None:
        """Remembers the body, or of one of more than a megabyte the beginning."""
        self.size = len(body)
        self.body = bytes(body if self.size <= _ABBREVIATED else body[:1000])

    def shown(self) -> dict[str, Any]:
        """The request as JSON can say it: `body` decoded if it is JSON, else as text.

        Of a body of more than a megabyte only the beginning was kept, as text.
        """
        body: Any = self.body.decode(errors="replace")
        if self.size > _ABBREVIATED:
            body = {"abbreviated": body}
        else:
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                body = msgspec.json.decode(self.body)
        names = ("method", "path", "headers", "size", "at", "status", "fault")
        return {**{name: getattr(self, name) for name in names}, "body": body}


@dataclass
class Ledger:
    """Counts since the start, or since `clear`. `recent` holds the latest requests.

    `leaked_keys` came with requests outside /v1, where a key is none of the server's business.
    """

    recent: deque[Seen]
    connections: int = 0
    requests: int = 0
    tokens: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    leaked_keys: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    _billed: Counter[int] = field(default_factory=Counter)
    _scopes: dict[tuple[str, ...], None] = field(default_factory=dict)
    _first: float | None = None
    _last: float = 0.0
    _in_flight_seconds: float = 0.0

    def arrived(self, now: float) -> None:
        """A request came in."""
        self._pass(now)
        self.requests += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def left(self, status: int | str, now: float) -> None:
        """A request was answered with `status`, or ended as a fault says ("reset", "stall")."""
        self._pass(now)
        self.in_flight -= 1
        self.by_status[str(status)] += 1

    def _pass(self, now: float) -> None:
        if self._first is None:
            self._first = self._last = now
        self._in_flight_seconds += self.in_flight * (now - self._last)
        self._last = now

    def bill(self, scope: tuple[str, ...], inputs: Sequence[Hashable], tokens: int) -> None:
        """Bills each of `inputs` once, and the tokens used. `scope`: path, model, and what else changes the answer."""
        self._scopes[scope] = None
        self._billed.update([hash((scope, item)) for item in inputs])
        self.tokens += tokens

    def billed(self, inputs: Sequence[Hashable], model: str | None = None) -> list[int]:
        """How often each input was billed: to `model`, or to all models together."""
        scopes = [scope for scope in self._scopes if model is None or scope[1] == model]
        return [sum(self._billed[hash((scope, item))] for scope in scopes) for item in inputs]

    def totals(self) -> dict[str, Any]:
        """All counts. `answered` is those with status 200; seconds run from first to last."""
        seconds = self._last - (self._first or 0.0) if self._first is not None else 0.0
        return {
            "requests": self.requests,
            "answered": self.by_status["200"],
            "by_status": dict(sorted(self.by_status.items())),
            "faults": dict(sorted(self.faults.items())),
            "billed_inputs": self._billed.total(),
            "distinct_inputs": len(self._billed),
            "billed_twice": sum(1 for times in self._billed.values() if times > 1),
            "tokens": self.tokens,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
            "mean_in_flight": round(self._in_flight_seconds / seconds, 3) if seconds else 0.0,
            "connections": self.connections,
            "leaked_keys": self.leaked_keys,
            "seconds": round(seconds, 3),
        }

    def summary(self) -> str:
        """The totals in one line."""
        return summary(self.totals())

    def clear(self) -> None:
        """Forgets everything but what is in flight."""
        fresh = Ledger(deque(maxlen=self.recent.maxlen), in_flight=self.in_flight)
        fresh.peak_in_flight = fresh.in_flight
        self.__dict__.update(fresh.__dict__)


def summary(totals: dict[str, Any]) -> str:
    """A ledger's totals in one line, for people."""
    statuses = ", ".join(f"{status}: {count}" for status, count in totals["by_status"].items())
    return (
        f"{totals['requests']} requests ({statuses or 'none answered'}), "
        f"{totals['billed_inputs']} inputs billed, {totals['billed_twice']} of them more than "
        f"once, {totals['tokens']} tokens, at most {totals['peak_in_flight']} at a time, "
        f"{totals['seconds']:.1f} s"
    )
