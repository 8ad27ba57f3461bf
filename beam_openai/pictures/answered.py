"""The images in an answer: in base64, or at URLs that are good for an hour."""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pybase64

from beam_openai import answers, errors, media
from beam_openai.answers import Answer, Bad
from beam_openai.client import Body, Response

_DIES = "an image's URL dies 60 minutes after the image was made"
_NONE = msgspec.Raw(b"null")


class _Image(msgspec.Struct):
    url: Any = None
    b64_json: msgspec.Raw = _NONE
    revised_prompt: Any = None


class _Images(msgspec.Struct):
    data: list[_Image]
    usage: Any = None


_decoder = msgspec.json.Decoder(_Images)


def fields(name: str, n: int | None, more: Sequence[str] = ()) -> list[pa.Field]:
    """`name: binary`, and of `more` strings; lists of them where `n` is set."""
    kinds = {name: pa.binary(), **dict.fromkeys(more, pa.string())}
    return [pa.field(name, pa.list_(kind) if n is not None else kind) for name, kind in kinds.items()]


def links(body: Body, what: str) -> list[str]:
    """The URLs of images that are not in the answer itself; none in what is no answer."""
    try:
        images = answers.decode(body, _decoder, what).data
    except errors.BadAnswerError:
        return []
    return [image.url for image in images if isinstance(image.url, str) and image.b64_json == _NONE]


def columns(response: Response, added: Sequence[pa.Field], n: int | None, what: str) -> Answer:
    """The images of one row, and what stands beside each.

    Args:
      response: with what was found at its `links`.
      added: as `fields` gives them.
      n: how many were asked for; None for one.
      what: the path, for messages.

    Raises:
      BadAnswerError: there are more or fewer.
    """
    said = answers.decode(response.body, _decoder, what)
    images = answers.in_order(said.data, [None] * len(said.data), n or 1, what)
    usage: Any = answers.usage_of(said.usage)
    drawn = [_bytes(image, response.fetched) for image in images]
    if bad := next((one for one in drawn if isinstance(one, Bad)), None):
        return Answer([], {0: bad}, **usage)
    values = [drawn] + [[_text(getattr(image, field.name)) for image in images] for field in added[1:]]
    arrays = [pa.array([found if n is not None else found[0]], field.type) for found, field in zip(values, added)]
    return Answer(arrays, **usage)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _bytes(image: _Image, fetched: Mapping[str, Body | errors.APIError]) -> bytes | Bad:
    if image.b64_json != _NONE:
        return _from_base64(image.b64_json) or Bad("the image is not base64", bytes(image.b64_json))
    found = fetched.get(image.url) if isinstance(image.url, str) else None
    if found is None:
        return Bad("the answer has neither an image nor its URL", b"")
    if isinstance(found, errors.APIError):
        return _not_fetched(found, image.url)
    data = bytes(found)
    if media.image_type(data) is None:
        return Bad("what is at the image's URL is not PNG, JPEG, GIF or WebP", data)
    return data


def _not_fetched(error: errors.APIError, url: str) -> Bad:
    """The image was paid for. Where not even a connection came about, none will for the next one."""
    unreachable = isinstance(error, errors.APIConnectionError) and not isinstance(error, errors.BadAnswerError)
    hint = '. response_format="b64_json" needs no other host' if unreachable else ""
    return Bad(f"the image cannot be fetched ({_DIES}): {error}{hint}", url.encode(), systematic=unreachable)


def _from_base64(quoted: msgspec.Raw) -> bytes:
    """The bytes; none where it is something else."""
    view = memoryview(quoted)
    try:
        if view[0] != 0x22:
            return b""
        return pybase64.b64decode(view[1:-1], validate=True)
    except binascii.Error:
        # Some JSON writers escape the slashes of base64, some encoders break it into lines, some write a data URL.
        text = "".join(msgspec.json.decode(quoted, type=str).split())
        try:
            return pybase64.b64decode(text.rpartition(";base64,")[2], validate=True)
        except (binascii.Error, ValueError):
            return b""
