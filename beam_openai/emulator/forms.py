"""The fields of a form as an operation's parameters: of the types that they stand for."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection
from typing import Any

from .multipart import Form, Upload
from .replies import Refusal


def values(
    form: Form,
    known: Collection[str],
    *,
    numbers: Collection[str] = (),
    flags: Collection[str] = (),
    lists: Collection[str] = (),
) -> dict[str, Any]:
    """The fields by their names, without brackets; the last of several, or all of `lists`.

    Those of `numbers` and `flags` become what they say. What cannot stays a text, which a check of its
    type refuses.

    Raises:
        Refusal: a name that is not `known`.
    """
    found: dict[str, Any] = {}
    for written in form.names():
        name = written.removesuffix("[]")
        if name not in known:
            raise Refusal(400, f"Unrecognized request argument supplied: {name}")
        given = form.fields.get(written)
        if given is None:
            continue
        if name in lists:
            found[name] = [*found.get(name, []), *given]
        else:
            found[name] = _typed(given[-1], name in numbers, name in flags)
    return found


def uploads(form: Form, name: str) -> list[Upload]:
    """The files of that name, with brackets behind it or without."""
    return [*form.files.get(name, []), *form.files.get(f"{name}[]", [])]


def _typed(text: str, number: bool, flag: bool) -> Any:
    if flag:
        return {"true": True, "false": False}.get(text, text)
    for kind in (int, float) if number else ():
        with contextlib.suppress(ValueError):
            value = kind(text)
            if math.isfinite(value):
                return value
    return text
