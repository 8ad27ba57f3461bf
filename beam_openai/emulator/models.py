"""GET /models and /models/{model}: the models that this server knows."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from .calls import Answer, Call, Route
from .options import Options
from .replies import Refusal, reply_json

EMBEDDING_MODELS = {
    "text-embedding-ada-002": 1536,
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
}
"""Length of each model's vectors, as the real service has them."""


def embedding_models(options: Options) -> dict[str, int]:
    """Embedding models, those of `options.models` included: name -> length of a vector."""
    return {**EMBEDDING_MODELS, **options.dimensions_by_model()}


def unknown_model(model: str) -> Refusal:
    """The 404 for a model that is not there."""
    return Refusal(
        404,
        f"The model `{model}` does not exist or you do not have access to it.",
        code="model_not_found",
    )


def routes(options: Options) -> list[Route]:
    """The routes of this file."""
    names = list(embedding_models(options))
    return [
        Route("GET", "/models", partial(_list, names)),
        Route("GET", "/models/{model}", partial(_get, names)),
    ]


def _list(names: Iterable[str], call: Call) -> Answer:
    answer = {"object": "list", "data": [_model(name) for name in names]}
    return Answer(write=lambda: reply_json(answer))


def _get(names: Iterable[str], call: Call) -> Answer:
    name = call.ids["model"]
    if name not in names:
        raise unknown_model(name)
    return Answer(write=lambda: reply_json(_model(name)))


def _model(name: str) -> dict[str, Any]:
    owner = "openai-internal" if name == "text-embedding-ada-002" else "system"
    return {"id": name, "object": "model", "created": 1_705_948_997, "owned_by": owner}
