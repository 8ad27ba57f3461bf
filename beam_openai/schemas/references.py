"""What a reference in a JSON schema names: `{"$ref": "#/$defs/name"}`.

A JSON pointer (RFC 6901) stands behind the `#`: in its names `~1` means a slash and `~0` a tilde.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def target(reference: str, root: Mapping[str, Any]) -> Any:
    """What it names in a schema.

    Raises:
      LookupError: nothing in there.
    """
    first, *names = reference.split("/")
    if first != "#":
        raise LookupError(reference)
    found: Any = root
    for name in names:
        found = _inside(found, name.replace("~1", "/").replace("~0", "~"))
    return found


def _inside(found: Any, name: str) -> Any:
    if isinstance(found, list | tuple) and name.isdecimal():
        return found[int(name)]
    if isinstance(found, Mapping):
        return found[name]
    raise LookupError(name)


def is_endless(reference: str, root: Mapping[str, Any]) -> bool:
    """Whether it names a reference, which names a reference, and so on back to itself.

    Raises:
      LookupError: one of them names nothing.
    """
    seen: set[str] = set()
    named: Any = {"$ref": reference}
    while isinstance(named, Mapping) and isinstance(named.get("$ref"), str):
        if named["$ref"] in seen:
            return True
        seen.add(named["$ref"])
        named = target(named["$ref"], root)
    return False
