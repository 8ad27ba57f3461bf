"""What POST /answers and POST /classifications have in common: they search first, and then complete a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .files import File
from .parameters import Check, Parameters
from .similarity import ranked
from .wording import OLD

checks = Parameters(OLD)
PAIR = checks.array(2, 2, checks.string(1))
COMMON: dict[str, Check] = {
    "file": checks.string(),
    "search_model": checks.string(),
    "temperature": checks.number(0, 2),
    "logprobs": checks.integer(0, 5),
    "logit_bias": checks.logit_bias,
    "return_metadata": checks.boolean,
    "return_prompt": checks.boolean,
    "expand": checks.array(0, None, checks.one_of("completion", "file")),
    "user": checks.string(),
}
"""Parameters of both."""


def nearest(query: str, found: Sequence[Mapping[str, Any]], most: int) -> list[tuple[int, Mapping[str, Any]]]:
    """The `most` records whose texts are the nearest to a query, with their places, the nearest first."""
    places = ranked(query, [record["text"] for record in found])[:most]
    return [(index, found[index]) for index, _ in places]


def selected(
    places: Sequence[tuple[int, Mapping[str, Any]]], keys: Sequence[str], metadata: bool
) -> list[dict[str, Any]]:
    """The records as an answer shows them."""
    more = [("metadata", "")] if metadata else []
    return [
        {"document": index, **{key: record[key] for key in keys}, **{key: record.get(key, none) for key, none in more}}
        for index, record in places
    ]


def ending(fields: Mapping[str, Any], completion: Mapping[str, Any], prompt: str, file: File | None) -> dict[str, Any]:
    """The members of an answer that are about how it came to be: expanded, or as an id."""
    expand = fields.get("expand") or []
    whole = "completion" in expand or fields.get("logprobs") is not None
    shown: dict[str, Any] = {"completion": completion if whole else completion["id"]}
    if fields.get("return_prompt"):
        shown["prompt"] = prompt
    if file is not None:
        shown["file"] = file.shown() if "file" in expand else file.id
    return shown
