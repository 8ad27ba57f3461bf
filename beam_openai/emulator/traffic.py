"""Who was admitted when, at what cost, and who was refused: what tells whether limits were kept, and shared fairly."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

_COUNTS = ("admitted", "refused", "tokens", "images")


class Decision(NamedTuple):
    """One request: `at` is monotonic seconds, `tokens` and `images` are what the limits were, or would be, charged."""

    at: float
    model: str
    client: str
    admitted: bool
    tokens: int
    images: int

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
        self._latest: deque[tuple[float, str, str, bool, int, int]] = deque(maxlen=self._keep)
        self._counts: dict[tuple[str, str], list[int]] = {}

    def note(self, at: float, model: str, client: str, costs: Mapping[str, int], admitted: bool) -> None:
        """Remembers a decision; each is at the time of the one before, or later."""
        tokens, images = costs.get("tokens", 0), costs.get("images", 0)
        self._noted += 1
        self._latest.append((at, model, client, admitted, tokens, images))
        _add(self._counts.setdefault((model, client), [0, 0, 0, 0]), admitted, tokens, images)

    def totals(self) -> dict[str, Any]:
        """`models`: `admitted`, `refused`, `tokens` and `images`, and the same for each of its `clients`.

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
            _add(counts[int(decision.at) - first], decision.admitted, decision.tokens, decision.images)
        return [{"second": first + at, **dict(zip(_COUNTS, each, strict=True))} for at, each in enumerate(counts)]

    def peak(self, seconds: float, model: str | None = None, client: str | None = None) -> dict[str, int]:
        """The most requests, tokens and images that were admitted within any `seconds`, their end excluded.

        Raises:
            ValueError: decisions were forgotten, so that nobody knows.
        """
        if self._noted > len(self._latest):
            raise ValueError(f"{self._noted} requests were decided on: keep_decisions ({self._keep}) must be as many")
        most, sums, window = [0, 0, 0], [0, 0, 0], deque[Decision]()
        for decision in self.decisions(model, client):
            if not decision.admitted:
                continue
            while window and window[0].at <= decision.at - seconds:
                sums = [before - cost for before, cost in zip(sums, _costs(window.popleft()), strict=True)]
            window.append(decision)
            sums = [before + cost for before, cost in zip(sums, _costs(decision), strict=True)]
            most = [max(pair) for pair in zip(most, sums, strict=True)]
        return dict(zip(("requests", "tokens", "images"), most, strict=True))


def _add(counts: list[int], admitted: bool, tokens: int, images: int) -> None:
    """Adds one decision to `_COUNTS`: who was refused cost nothing."""
    if admitted:
        counts[0] += 1
        counts[2] += tokens
        counts[3] += images
    else:
        counts[1] += 1


def _costs(decision: Decision) -> tuple[int, int, int]:
    return 1, decision.tokens, decision.images
