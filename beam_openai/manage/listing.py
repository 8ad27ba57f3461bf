"""What a server lists, page by page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from beam_openai import errors
from beam_openai.manage.server import Object, Server


def every(server: Server, path: str, query: Mapping[str, str] | None = None, *, paged: bool = True) -> Iterator[Object]:
    """All objects, each once, over all pages; not `paged`: the server is known to give all at once.

    Raises:
      BadAnswerError: no listing; or one that says there is more, and gives the same again.
    """
    for page in _pages(server, path, query or {}, paged):
        yield from page


def since(server: Server, path: str, query: Mapping[str, str], began: float) -> Iterator[Object]:
    """Those objects of a listing, newest first, that were made since `began`, by no other call of this `server`.

    Args:
      server: whom to ask.
      path, query: of the listing.
      began: `time.time()`.
    """
    for page in _pages(server, path, query):
        # In the server's time, which came with the page.
        made = [one for one in page if _time(one) >= math.floor(began + server.ahead)]
        yield from (one for one in made if str(one.get("id")) not in server.made)
        if len(made) < len(page):
            return


def _pages(server: Server, path: str, query: Mapping[str, str], paged: bool = True) -> Iterator[list[Object]]:
    """What is new on each page."""
    query, seen = dict(query), set[str]()
    while True:
        page = server.get(path, query)
        objects = page.get("data")
        if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
            raise errors.BadAnswerError(f"GET {path}: the answer is no list of objects. Check base_url")
        new = [*_unseen(objects, seen)]
        yield new
        # Older servers do not say whether there is more, and give all at once: asked for more, the same again.
        more = page.get("has_more", paged)
        if not objects or not more or "id" not in objects[-1]:
            return
        if not new:
            if "has_more" in page:
                raise errors.BadAnswerError(f"GET {path}: there is more after {query['after']}, but it is not given")
            return
        query["after"] = str(objects[-1]["id"])


def _unseen(objects: list[Object], seen: set[str]) -> Iterator[Object]:
    for one in objects:
        id = str(one.get("id"))
        if "id" not in one or id not in seen:
            seen.add(id)
            yield one


def _time(made: Object) -> float:
    seconds = made.get("created_at", made.get("created"))
    return float(seconds) if isinstance(seconds, (int, float)) else -math.inf
