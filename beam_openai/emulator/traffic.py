"""Who was admitted when, at what cost, and who was refused: what tells whether limits were kept, and shared fairly."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

_AMOUNTS = ("tokens", "images", "audio_bytes")
_COUNTS = ("admitted", "refused", *_AMOUNTS)


class Decision(NamedTuple):
    """One request: `at` is monotonic seconds, the amounts are what the limits were, or would be, charged."""

    at: float
    model: str
    client: str
    admitted: bool
    tokens: int
    images: int
    audio_bytes: int

    @property
    def amounts(self) -> tuple[int, ...]:
        """As `_AMOUNTS` names them."""
        return self.tokens, self.images, self.audio_bytes

    def shown(self) -> dict[str, Any]:
        """The decision as JSON can say it."""
        return self._asdict()


class Traffic:
    """Counts of all decisions since the start, or since `clear`, and the latest `keep` one by one."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._noted = 0
        # Plain tuples, which the garbage collector has not to look through again and again.
        self._latest: deque[tuple[float, str, str, bool, int, int, int]] = deque(maxlen=self._keep)
        self._counts: dict[tuple[str, str], list[int]] = {}

    def note(self, at: float, model: str, client: str, costs: Mapping[str, int], admitted: bool) -> None:
        """Remembers a decision; each is at the time of the one before, or later."""
        amounts = costs.get("tokens", 0), costs.get("images", 0), costs.get("audio_bytes", 0)
        self._noted += 1
        self._latest.append((at, model, client, admitted, *amounts))
        _add(self._counts.setdefault((model, client), [0] * len(_COUNTS)), admitted, amounts)

    def totals(self) -> dict[str, Any]:
        """`models`: `admitted`, `refused`, `tokens`, `images` and `audio_bytes`, and the same for each of its `clients`.

        `forgotten` is how many decisions are counted, but no longer known one by one.
        """
        models: dict[str, dict[str, Any]] = {}
        for (model, client), counts in self._counts.items():
            entry = models.setdefault(model, {**dict.fromkeys(_COUNTS, 0), "clients": {}})
            entry["clients"][client] = dict(zip(_COUNTS, counts, strict=True))
            for name, count in zip(_COUNTS, counts, strict=True):
                entry[name] += count
        return {"models": models, "forgotten": self._noted - len(self._latest)}

    def decisions(self, model: str | None = None, client: str | None = None) -> list[Decision]:
        """The decisions that are remembered, oldest first: of one model, of one client, or of all."""
        found = map(Decision._make, self._latest)
        return [each for each in found if model in (None, each.model) and client in (None, each.client)]

    def seconds(self, model: str | None = None, client: str | None = None) -> list[dict[str, int]]:
        """The same, counted in each second from the first to the last."""
        decisions = self.decisions(model, client)
        if not decisions:
            return []
        first, last = int(decisions[0].at), int(decisions[-1].at)
        counts = [[0] * len(_COUNTS) for _ in range(first, last + 1)]
        for decision in decisions:
            _add(counts[int(decision.at) - first], decision.admitted, decision.amounts)
        return [{"second": first + at, **dict(zip(_COUNTS, each, strict=True))} for at, each in enumerate(counts)]

    def peak(self, seconds: float, model: str | None = None, client: str | None = None) -> dict[str, int]:
        """The most requests, tokens, images and bytes of audio that were admitted within any `seconds`, their end excluded.

        Raises:
            ValueError: decisions were forgotten, so that nobody knows.
        """
        if self._noted > len(self._latest):
            raise ValueError(f"{self._noted} requests were decided on: keep_decisions ({self._keep}) must be as many")
        names = ("requests", *_AMOUNTS)
        most, sums, window = [0] * len(names), [0] * len(names), deque[Decision]()
        for decision in self.decisions(model, client):
            if not decision.admitted:
                continue
            while window and window[0].at <= decision.at - seconds:
                sums = [before - cost for before, cost in zip(sums, _costs(window.popleft()), strict=True)]
            window.append(decision)
            sums = [before + cost for before, cost in zip(sums, _costs(decision), strict=True)]
            most = [max(pair) for pair in zip(most, sums, strict=True)]
        return dict(zip(names, most, strict=True))


def _add(counts: list[int], admitted: bool, amounts: tuple[int, ...]) -> None:
    """Adds one decision to `_COUNTS`: who was refused cost nothing."""
    if admitted:
        counts[0] += 1
        for place, amount in enumerate(amounts, 2):
            counts[place] += amount
    else:
        counts[1] += 1


def _costs(decision: Decision) -> tuple[int, ...]:
    return 1, *decision.amounts
