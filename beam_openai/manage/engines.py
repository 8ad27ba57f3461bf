"""/engines: what models were called before 2022; for servers that still have them."""

from __future__ import annotations

from collections.abc import Iterator

from beam_openai.client import API, segment
from beam_openai.manage import listing
from beam_openai.manage.server import Object, Server, connected


def list(api: API | Server) -> Iterator[Object]:
    """All engines."""
    with connected(api) as server:
        yield from listing.every(server, "/engines", paged=False)


def get(api: API | Server, engine: str) -> Object:
    with connected(api) as server:
        return server.get(f"/engines/{segment(engine)}")
