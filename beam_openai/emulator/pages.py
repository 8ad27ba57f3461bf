"""Lists, a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from .parameters import Parameters
from .replies import Refusal
from .wording import MODERN

Item = TypeVar("Item")

_checks = Parameters(MODERN)


def page(
    items: Iterable[Item],
    query: Mapping[str, str],
    shown: Callable[[Item], dict[str, Any]],
    *,
    default: int,
    most: int,
    order: str = "desc",
    ids: bool = True,
) -> dict[str, Any]:
    """The page of `items` that `query` asks for with `limit`, `after` and `order`.

    Args:
        items: the oldest first.
        query: of the request.
        shown: an item as the API shows it, with its `id`.
        default: items on a page, if `limit` is not said.
        most: what it may be.
        order: `asc` or `desc`, if it is not said.
        ids: whether the page tells `first_id` and `last_id`.

    Raises:
        Refusal: 400 for what cannot be, 404 for an `after` that is not among the items.
    """
    limit = _limit(query.get("limit"), default, most)
    order = query.get("order", order)
    _checks.one_of("asc", "desc")("order", order)
    listed = [shown(item) for item in items]
    if order == "desc":
        listed.reverse()
    start = _start(listed, query.get("after"))
    data = listed[start : start + limit]
    answer: dict[str, Any] = {"object": "list", "data": data}
    if ids:
        answer |= {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {**answer, "has_more": len(listed) > start + limit}


def _limit(text: str | None, default: int, most: int) -> int:
    if text is None:
        return default
    try:
        limit = int(text)
    except ValueError:
        raise MODERN.wrong_type("limit", text, "integer") from None
    _checks.integer(1, most)("limit", limit)
    return limit


def _start(listed: list[dict[str, Any]], after: str | None) -> int:
    if after is None:
        return 0
    for index, item in enumerate(listed):
        if item["id"] == after:
            return index + 1
    raise Refusal(404, f"There is no '{after}' in this list to go on after.", param="after")
