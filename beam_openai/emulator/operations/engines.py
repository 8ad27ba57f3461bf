"""GET /engines: the models that nobody fine-tuned, as they were listed until 2022."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..calls import Answer, Call, Route
from ..models import Model, unknown_model
from ..replies import reply_json
from ..state import State


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    return [
        Route("GET", "/engines", partial(_list, state)),
        Route("GET", "/engines/{engine_id}", partial(_get, state)),
    ]


def _list(state: State, call: Call) -> Answer:
    answer = {"object": "list", "data": [_shown(model) for model in state.models if model.base is None]}
    return Answer(write=lambda: reply_json(answer))


def _get(state: State, call: Call) -> Answer:
    model = state.models.find(call.ids["engine_id"])
    if model.base is not None:
        raise unknown_model(model.name)
    return Answer(write=lambda: reply_json(_shown(model)))


def _shown(model: Model) -> dict[str, Any]:
    owner = "openai" if model.owned_by == "system" else model.owned_by
    return {
        "object": "engine",
        "id": model.name,
        "ready": True,
        "owner": owner,
        "created": None,
        "permissions": None,
    }
