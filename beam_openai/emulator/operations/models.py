"""GET and DELETE /models: the models that this server knows."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..calls import Answer, Call, Route
from ..models import Model
from ..replies import Refusal, Reply, reply_json
from ..state import State

_NOT_YOURS = (
    "You have insufficient permissions for this operation. Missing scopes: api.delete. Check that you have the "
    "correct role in your organization, and if you're using a restricted API key, that it has the necessary scopes."
)


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    return [
        Route("GET", "/models", partial(_list, state), clocked=True),
        Route("GET", "/models/{model}", partial(_get, state), clocked=True),
        Route("DELETE", "/models/{model}", partial(_delete, state), clocked=True),
    ]


def _list(state: State, call: Call) -> Answer:
    answer = {"object": "list", "data": [_shown(model) for model in state.models]}
    return Answer(write=lambda: reply_json(answer))


def _get(state: State, call: Call) -> Answer:
    model = state.models.find(call.ids["model"])
    return Answer(write=lambda: reply_json(_shown(model)))


def _delete(state: State, call: Call) -> Answer:
    """Only what was fine-tuned can be deleted: the others are not the caller's."""
    model = state.models.find(call.ids["model"])
    if model.base is None:
        raise Refusal(403, _NOT_YOURS)

    def write() -> Reply:
        state.models.remove(model.name)
        return reply_json({"id": model.name, "object": "model", "deleted": True})

    return Answer(write=write)


def _shown(model: Model) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": model.owned_by}
