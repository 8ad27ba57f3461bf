"""POST /moderations: scores by a small lexicon, see `lexicon`.

Billed is each text; of a list of texts and an image each of these, and of the image the SHA-256 of its
address, in hexadecimal digits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .. import lexicon
from ..calls import Answer, Call, Route
from ..options import Options
from ..replies import Refusal, Reply, reply_json
from ..state import State
from ..texts import INVALID_INPUT, check_poison, count_tokens
from ..wording import MODERN

_DEFAULT = "omni-moderation-latest"
_STABLE = "text-moderation-stable"
_OF_STABLE = ("hate", "hate/threatening", "self-harm", "sexual", "sexual/minors", "violence", "violence/graphic")
_OLD = "text-moderation"


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    return [Route("POST", "/moderations", partial(_moderations, state))]


@dataclass(frozen=True)
class _Input:
    """One thing to judge: its texts, and the address of its image."""

    texts: tuple[str, ...]
    image: str | None = None

    def billed(self) -> list[str]:
        image = [] if self.image is None else [hashlib.sha256(self.image.encode()).hexdigest()]
        return [*self.texts, *image]


def _moderations(state: State, call: Call) -> Answer:
    fields = call.fields(("input", "model"))
    model = state.models.serving(fields.get("model", _DEFAULT), "moderation").name
    inputs = _inputs(fields, model, state.options)
    texts = [text for each in inputs for text in each.texts]
    check_poison(texts)
    tokens = sum(count_tokens(text, state.options.bytes_per_token) for text in texts)
    billed = [item for each in inputs for item in each.billed()]
    write = partial(_write, state, inputs, model)
    return Answer(model=model, tokens=tokens, inputs=billed, scope=(call.path, model), write=write)


def _inputs(fields: dict[str, Any], model: str, options: Options) -> list[_Input]:
    """One text, several, or one that is put together from objects."""
    if "input" not in fields:
        raise Refusal(400, "'input' is a required property")
    given = fields["input"]
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list) or not given:
        raise Refusal(400, INVALID_INPUT)
    if len(given) > options.max_inputs:
        raise MODERN.too_long("input", given, options.max_inputs)
    if all(isinstance(item, str) for item in given):
        return [_Input((text,)) for text in given]
    if model.startswith(_OLD) or not all(isinstance(item, dict) for item in given):
        raise Refusal(400, INVALID_INPUT)
    return [_put_together(given)]


def _put_together(objects: Sequence[dict[str, Any]]) -> _Input:
    texts, images = [], []
    for index, item in enumerate(objects):
        if item.get("type") == "text" and isinstance(item.get("text"), str):
            texts.append(item["text"])
        elif item.get("type") == "image_url":
            images.append(_address(item.get("image_url"), f"input[{index}].image_url"))
        else:
            raise Refusal(400, INVALID_INPUT)
    if len(images) > 1:
        message = f"Number of images ({len(images)}) exceeds maximum of 1"
        raise Refusal(400, message, param="input", code="too_many_images")
    return _Input(tuple(texts), images[0] if images else None)


def _address(image_url: Any, path: str) -> str:
    address = image_url.get("url") if isinstance(image_url, dict) else None
    if not isinstance(address, str):
        raise MODERN.missing(f"{path}.url")
    if not address.startswith(("https://", "http://", "data:image/")):
        message = f"Invalid '{path}.url'. Expected a URL, or a data URL of an image in base64."
        raise Refusal(400, message, param="input", code="invalid_image_url")
    return address


def _write(state: State, inputs: Sequence[_Input], model: str) -> Reply:
    categories = [*_categories(model), *state.options.category_names()]
    results = [_result(each, model, categories) for each in inputs]
    named = "text-moderation-007" if model.startswith(_OLD) else model
    return reply_json({"id": state.new_id("modr-"), "model": named, "results": results})


def _categories(model: str) -> Sequence[str]:
    """An older model knows fewer, and says nothing of the others."""
    if model == _STABLE:
        return _OF_STABLE
    if model.startswith(_OLD):
        return [category for category in lexicon.CATEGORIES if not category.startswith("illicit")]
    return lexicon.CATEGORIES


def _result(each: _Input, model: str, categories: Sequence[str]) -> dict[str, Any]:
    found = [lexicon.scores(text, categories) for text in each.texts]
    if each.image is not None:
        seen = lexicon.scores(_readable(each.image), categories)
        found.append({category: score for category, score in seen.items() if category in lexicon.OF_IMAGES})
    scores = {**dict.fromkeys(categories, 0.0), **lexicon.worst(found)}
    flags = {category: score >= lexicon.FLAGGED for category, score in scores.items()}
    result: dict[str, Any] = {"flagged": any(flags.values()), "categories": flags, "category_scores": scores}
    if not model.startswith(_OLD):
        result["category_applied_input_types"] = {category: _applied(each, category) for category in categories}
    return result


def _readable(address: str) -> str:
    """What an image is judged by: its address, or the hash of the bytes that stand for one."""
    return hashlib.sha256(address.encode()).hexdigest() if address.startswith("data:") else address


def _applied(each: _Input, category: str) -> list[str]:
    kinds = ["text"] if each.texts else []
    if each.image is not None and category in lexicon.OF_IMAGES:
        kinds.append("image")
    return kinds
