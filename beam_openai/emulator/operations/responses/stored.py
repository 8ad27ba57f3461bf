"""Responses that were stored, to be fetched, deleted, or gone on from: the latest ten thousand of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...clock import Clock
from ...replies import Refusal
from .items import Input

BACKGROUND_SECONDS = 1.0
"""How long a response takes in the background, by the server's clock."""
_MOST = 10_000


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One response: before there was any output, and in the end; and what was said until then."""

    begun: Mapping[str, Any]
    done: Mapping[str, Any]
    said: Input
    ready_at: float = 0.0

    def shown(self, now: float) -> Mapping[str, Any]:
        """As it stands at this time."""
        return self.done if now >= self.ready_at else {**self.begun, "status": "in_progress"}


class Stored:
    """All of them, by their ids.

    Attributes:
        items: their output items, by the items' ids.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_id: dict[str, Kept] = {}
        self.items: dict[str, Mapping[str, Any]] = {}

    def keep(self, kept: Kept) -> None:
        """From now on it is there; the oldest is not, where there are too many."""
        self._by_id[kept.done["id"]] = kept
        for item in kept.done["output"]:
            self.items[item["id"]] = item
        if len(self._by_id) > _MOST:
            self.remove(next(iter(self._by_id)))

    def remove(self, response_id: str) -> None:
        """From now on it is not there."""
        for item in self.get(response_id).done["output"]:
            self.items.pop(item["id"], None)
        del self._by_id[response_id]

    def get(self, response_id: str) -> Kept:
        """The response of that id.

        Raises:
            Refusal: 404, there is none.
        """
        if response_id not in self._by_id:
            raise Refusal(404, f"Response with id '{response_id}' not found.")
        return self._by_id[response_id]

    def previous(self, response_id: str) -> Input:
        """What was said until the end of a response, to go on from.

        Raises:
            Refusal: 400, there is no such response.
        """
        if response_id not in self._by_id:
            message = f"Previous response with id '{response_id}' not found."
            raise Refusal(400, message, param="previous_response_id", code="previous_response_not_found")
        return self._by_id[response_id].said.copy()

    def cancel(self, response_id: str) -> Kept:
        """Ends what is still going on in the background.

        Raises:
            Refusal: 404, there is none; 400, it is not one in the background.
        """
        kept = self.get(response_id)
        if not kept.begun["background"]:
            raise Refusal(400, "Cannot cancel a synchronous response.")
        if self._clock.now() < kept.ready_at:
            kept = replace(kept, done={**kept.begun, "status": "cancelled"}, ready_at=0.0)
            self._by_id[response_id] = kept
        return kept
