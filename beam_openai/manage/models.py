"""/models: what a key may use."""

from __future__ import annotations

from collections.abc import Iterator

from beam_openai.client import API, segment
from beam_openai.manage import listing
from beam_openai.manage.server import Object, Server, connected


def list(api: API | Server) -> Iterator[Object]:
    """All models."""
    with connected(api) as server:
        yield from listing.every(server, "/models", paged=False)


def get(api: API | Server, model: str) -> Object:
    with connected(api) as server:
        return server.get(f"/models/{segment(model)}")


def delete(api: API | Server, model: str) -> Object:
    """Deletes a fine-tuned model of one's own."""
    with connected(api) as server:
        return server.delete(f"/models/{segment(model)}", model)
