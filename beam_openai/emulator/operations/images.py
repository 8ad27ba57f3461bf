"""POST /images/generations, /images/edits, /images/variations: real PNGs, of flat tiles whose colours are the prompt's.

A prompt with the marker FORBIDDEN is refused for its content; those of `texts` work as well. Billed is
the prompt; for a variation the SHA-256 of the image, in hexadecimal digits.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pybase64

from .. import sse
from ..calls import Answer, Call, Route
from ..forms import values
from ..media.families import GPT_ONLY, Family, family, measures, output_tokens
from ..media.pngs import picture
from ..media.uploaded import MOST_BYTES, many, one_png, png_and_mask
from ..multipart import Form, Upload
from ..parameters import check, given
from ..replies import Refusal, Reply, reply_json
from ..state import State
from ..texts import check_poison, count_tokens
from ..wording import MODERN

_FIELDS = ("prompt", "model", "n", "size", "response_format", "user", "quality", "style", *sorted(GPT_ONLY))
_NUMBERS = ("n", "output_compression", "partial_images")
_INPUT_IMAGE_TOKENS = 323


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    return [
        Route("POST", "/images/generations", partial(_generations, state)),
        Route("POST", "/images/edits", partial(_edits, state), MOST_BYTES),
        Route("POST", "/images/variations", partial(_variations, state), MOST_BYTES),
    ]


@dataclass(frozen=True, kw_only=True)
class _Order:
    """A checked request: what is to be drawn. `billed` is the prompt, or of a variation the image."""

    call: Call
    model: str
    family: Family
    fields: Mapping[str, Any]
    billed: str
    images: Sequence[str] = ()

    @property
    def size(self) -> str:
        size = given(self.fields, "size", "1024x1024")
        return "1024x1024" if size == "auto" else str(size)

    @property
    def quality(self) -> str:
        quality = given(self.fields, "quality", "auto")
        return "medium" if quality == "auto" else str(quality)

    def digest(self, number: int) -> bytes:
        """16 bytes that stand for one image: they come from all that may change it."""
        names = ("size", "quality", "style", "background", "input_fidelity")
        chosen = [self.model, self.billed, *self.images, number, *(self.fields.get(name) for name in names)]
        return hashlib.blake2b(repr(chosen).encode(), digest_size=16).digest()


def _generations(state: State, call: Call) -> Answer:
    fields = call.fields([name for name in _FIELDS if name != "input_fidelity"])
    model = _model(state, fields)
    rules = family(model)
    prompt = _prompt(rules, fields)
    order = _Order(call=call, model=model, family=rules, fields=fields, billed=prompt)
    return _answer(state, order)


def _edits(state: State, call: Call) -> Answer:
    form = call.form()
    fields = _form_fields(call, form, _FIELDS, ("image", "mask"))
    model = _model(state, fields)
    rules = family(model)
    if rules.name == "dall-e-3":
        raise MODERN.not_one_of("model", model, ("gpt-image-1", "gpt-image-1-mini", "dall-e-2"))
    prompt = _prompt(rules, fields)
    uploaded = many(form) if rules.name == "gpt-image" else png_and_mask(form)
    images = [_sha256(upload) for upload in uploaded]
    order = _Order(call=call, model=model, family=rules, fields=fields, billed=prompt, images=images)
    return _answer(state, order)


def _variations(state: State, call: Call) -> Answer:
    form = call.form()
    fields = _form_fields(call, form, ("model", "n", "size", "response_format", "user"), ("image",))
    model = _model(state, fields)
    rules = family(model)
    if rules.name != "dall-e-2":
        raise MODERN.not_one_of("model", model, ("dall-e-2",))
    _check(rules, fields)
    image, _ = one_png(form)
    order = _Order(call=call, model=model, family=rules, fields=fields, billed=_sha256(image))
    return _answer(state, order)


def _form_fields(call: Call, form: Form, known: Sequence[str], files: Sequence[str]) -> dict[str, Any]:
    fields = values(form, [*known, *files], numbers=_NUMBERS, flags=("stream",))
    if call.deployment is not None:
        fields["model"] = call.deployment
    return {name: value for name, value in fields.items() if name not in files}


def _model(state: State, fields: Mapping[str, Any]) -> str:
    default = "gpt-image-1" if GPT_ONLY & set(fields) else "dall-e-2"
    return state.models.serving(given(fields, "model", default), "image").name


def _prompt(rules: Family, fields: Mapping[str, Any]) -> str:
    """The prompt, once all fields are checked."""
    prompt = rules.check_prompt(fields.get("prompt"))
    _check(rules, fields)
    check_poison([prompt])
    if "FORBIDDEN" in prompt:
        raise _forbidden(rules, prompt)
    return prompt


def _check(rules: Family, fields: Mapping[str, Any]) -> None:
    for name in fields:
        if name not in rules.checks and name not in ("prompt", "model"):
            raise MODERN.unknown(name)
    check(fields, rules.checks)


def _forbidden(rules: Family, prompt: str) -> Refusal:
    if rules.name != "gpt-image":
        message = (
            "Your request was rejected as a result of our safety system. Your prompt may contain text that is not "
            "allowed by our safety system."
        )
        return Refusal(400, message, code="content_policy_violation")
    request = uuid.UUID(bytes=hashlib.blake2b(prompt.encode(), digest_size=16).digest())
    message = (
        "Your request was rejected by the safety system. If you believe this is an error, contact us at "
        f"help.openai.com and include the request ID {request}. safety_violations=[violence]."
    )
    details = {"moderation_stage": "input", "categories": ["violence"]}
    return Refusal(
        400,
        message,
        type="image_generation_user_error",
        code="moderation_blocked",
        more={"moderation_details": details},
    )


def _sha256(upload: Upload) -> str:
    return hashlib.sha256(upload.view).hexdigest()


def _answer(state: State, order: _Order) -> Answer:
    scope = (order.call.path, order.model, order.size, order.quality, *order.images)
    tokens, write = 0, partial(_write_dall_e, state, order)
    costs = {"requests": 1, "images": given(order.fields, "n", 1)}
    if order.family.name == "gpt-image":
        tokens, write = _usage(state, order)["total_tokens"], partial(_write_gpt, state, order)
        costs["tokens"] = tokens
    return Answer(model=order.model, tokens=tokens, inputs=[order.billed], scope=scope, write=write, costs=costs)


def _usage(state: State, order: _Order) -> dict[str, Any]:
    text = count_tokens(order.billed, state.options.bytes_per_token)
    images = _INPUT_IMAGE_TOKENS * len(order.images)
    drawn = given(order.fields, "n", 1) * output_tokens(order.size, order.quality)
    return {
        "total_tokens": text + images + drawn,
        "input_tokens": text + images,
        "output_tokens": drawn,
        "input_tokens_details": {"text_tokens": text, "image_tokens": images},
    }


def _write_dall_e(state: State, order: _Order) -> Reply:
    data = []
    width, height = measures(order.size)
    for number in range(given(order.fields, "n", 1)):
        digest = order.digest(number)
        if given(order.fields, "response_format", "url") == "url":
            host = order.call.headers.get("host", "localhost")
            shown = {"url": state.pictures.address(host, digest, width, height)}
        else:
            shown = {"b64_json": _base64(picture(digest, width, height))}
        if order.family.name == "dall-e-3":
            style = given(order.fields, "style", "vivid")
            shown["revised_prompt"] = f"A {style} image of flat colours, in memory of: {order.billed}"
        data.append(shown)
    return reply_json({"created": int(state.clock.now()), "data": data})


def _write_gpt(state: State, order: _Order) -> Reply:
    transparent = order.fields.get("background") == "transparent"
    width, height = measures(order.size)
    drawn = [
        _base64(picture(order.digest(number), width, height, transparent))
        for number in range(given(order.fields, "n", 1))
    ]
    created = int(state.clock.now())
    about = {
        "background": "transparent" if transparent else "opaque",
        "output_format": "png",
        "quality": order.quality,
        "size": order.size,
    }
    usage = _usage(state, order)
    if order.fields.get("stream"):
        return _streamed(state, order, drawn, {"created_at": created, **about}, usage)
    return reply_json({"created": created, **about, "data": [{"b64_json": each} for each in drawn], "usage": usage})


def _streamed(
    state: State, order: _Order, drawn: Sequence[str], about: Mapping[str, Any], usage: Mapping[str, Any]
) -> Reply:
    """Events: as many partial images as were asked for, which are the final ones at once; then those."""
    name = "image_edit" if order.call.path == "/images/edits" else "image_generation"
    events = []
    for image in drawn:
        for index in range(given(order.fields, "partial_images", 0)):
            partly = {"type": f"{name}.partial_image", "b64_json": image, "partial_image_index": index}
            events.append(sse.named({**partly, **about}))
        events.append(sse.named({"type": f"{name}.completed", "b64_json": image, **about, "usage": usage}))
    return sse.reply(events, state.options.stream_style, int.from_bytes(order.digest(0), "big"))


def _base64(data: bytes) -> str:
    return pybase64.b64encode(data).decode()
