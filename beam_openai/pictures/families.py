"""What each family of OpenAI's image models takes. Of a model that is none of them nothing is known, and little refused.

Source: the descriptions in OpenAI's OpenAPI document, version 2.3.0, of CreateImageRequest and CreateImageEditRequest.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_openai.options import Column, check, check_choice, of_each, sent
from beam_openai.tokens import Counts

_ANY = None
_LONGEST_EDGE, _MOST_PIXELS = 3840, 3840 * 2160
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_TOKENS = {"low": 272, "medium": 1056, "high": 4160}
"""Of an image of 1024x1024, by OpenAI's guide to image generation; others in proportion to their pixels."""

IMAGE_TOKENS = 323
"""Of an image that is sent along: about what one of two tiles counts."""


@dataclasses.dataclass(frozen=True)
class Family:
    """Models that take the same.

    Attributes:
      longest_prompt: in characters.
      most_images: that one request may ask for.
      options: those that it takes beside `n` and `user`, and their values; None for any.
      edits: whether it edits images.
      file_types: of images to edit, as `media.image_type` tells them.
      most_files: images to edit in one request.
      file_bytes: of an image to edit, all must be fewer.
      is_square: whether images to edit must be, and have an alpha channel where there is no mask.
    """

    longest_prompt: int
    most_images: int
    options: Mapping[str, Sequence[str] | None]
    edits: bool = True
    file_types: Sequence[str] = ("png",)
    most_files: int = 1
    file_bytes: int = 4 << 20
    is_square: bool = True


_RETURNED = {"response_format": ("url", "b64_json")}
_SQUARES = ("256x256", "512x512", "1024x1024")
DALL_E_2 = Family(1000, 10, {"size": _SQUARES, "quality": ("standard",), **_RETURNED})
DALL_E_3 = Family(
    4000,
    1,
    {
        "size": ("1024x1024", "1792x1024", "1024x1792"),
        "quality": ("standard", "hd"),
        "style": ("vivid", "natural"),
        **_RETURNED,
    },
    edits=False,
)
GPT_IMAGE = Family(
    32_000,
    10,
    {
        "size": ("auto", "1024x1024", "1536x1024", "1024x1536"),
        "quality": ("low", "medium", "high", "auto"),
        "background": ("transparent", "opaque", "auto"),
        "moderation": ("low", "auto"),
        "output_format": ("png", "jpeg", "webp"),
        "output_compression": _ANY,
        "input_fidelity": ("high", "low"),
    },
    file_types=("png", "webp", "jpeg"),
    most_files=16,
    file_bytes=50 << 20,
    is_square=False,
)
GPT_IMAGE_2 = dataclasses.replace(GPT_IMAGE, options={**GPT_IMAGE.options, "size": _ANY})


def family_of(model: object) -> Family | None:
    """The family of a model by its name; None for one that is not OpenAI's, or not known before it is looked up."""
    if not isinstance(model, str):
        return None
    if model.startswith("gpt-image-2"):
        return GPT_IMAGE_2
    if model.startswith(("gpt-image", "chatgpt-image")):
        return GPT_IMAGE
    return {"dall-e-2": DALL_E_2, "dall-e-3": DALL_E_3}.get(model)


def check_options(endpoint: Any) -> None:
    """Refuses what can never work of an endpoint's options; columns pass.

    Raises:
      ValueError: it holds the value.
    """
    options = sent(endpoint)
    model, n, _ = endpoint.model, options.pop("n", None), options.pop("user", None)
    family = family_of(model)
    check("n", n, 1, family.most_images if family else float("inf"), whole=True)
    check("output_compression", options.get("output_compression"), 0, 100, whole=True)
    check_choice("response_format", options.get("response_format"), _RETURNED["response_format"])
    if family is None:
        return
    for name, value in options.items():
        if name not in family.options:
            why = ", which answers with the images themselves" if name == "response_format" else ""
            raise ValueError(f"{name} is not to be sent to {model}{why}: leave it unset, not {value!r}")
        if (choices := family.options.get(name)) is not None:
            check_choice(name, value, tuple(choices))
    if family is GPT_IMAGE_2:
        _check_size(options.get("size"))
    if family in (GPT_IMAGE, GPT_IMAGE_2):
        _check_format(**{name: options.get(name) for name in ("background", "output_format", "output_compression")})


def _check_size(size: Any) -> None:
    """Refuses what is neither `auto` nor a width and a height that gpt-image-2 can draw."""
    if size is None or size == "auto" or isinstance(size, Column):
        return
    found = _SIZE.fullmatch(str(size))
    width, height = map(int, found.groups()) if found else (0, 0)
    is_drawn = width and not width % 16 and not height % 16 and max(width, height) <= 3 * min(width, height)
    if not is_drawn or max(width, height) > _LONGEST_EDGE or width * height > _MOST_PIXELS:
        raise ValueError(
            "size must be auto, or WIDTHxHEIGHT, both divisible by 16, at most three to one, at most 3840x2160, "
            f"not {size!r}"
        )


def _check_format(background: Any, output_format: Any, output_compression: Any) -> None:
    if background == "transparent" and output_format == "jpeg":
        raise ValueError("output_format must be png or webp where background='transparent', not 'jpeg'")
    if isinstance(output_compression, int) and output_compression < 100 and output_format in (None, "png"):
        raise ValueError(f"output_compression={output_compression} needs output_format 'jpeg' or 'webp'")


def default_format(model: object) -> dict[str, str]:
    """The `response_format` of a request that sets none: the images themselves, where the model may be asked for them."""
    family = family_of(model)
    return {"response_format": "b64_json"} if family and "response_format" in family.options else {}


def too_long(prompts: pa.ChunkedArray, models: Sequence[object]) -> dict[int, str]:
    """Rows whose prompt has more characters than their model takes."""
    found = {}
    for row, (length, model) in enumerate(zip(pc.utf8_length(prompts).to_pylist(), models, strict=True)):
        family = family_of(model)
        if family and (length or 0) > family.longest_prompt:
            found[row] = f"the prompt has {length:,} characters, more than the {family.longest_prompt:,} of {model}"
    return found


def answer_tokens(endpoint: Any, rows: pa.Table) -> Counts:
    """Tokens of each row's images."""
    given = [of_each(value, rows) for value in (endpoint.model, endpoint.n, endpoint.size, endpoint.quality)]
    return np.array([_answer_tokens(*row) for row in zip(*given, strict=True)])


def _answer_tokens(model: object, n: int | None, size: Any, quality: Any) -> float:
    """Tokens of the images of one answer; 0 where the model is not billed by them. What is `auto` counts as medium."""
    if family_of(model) not in (GPT_IMAGE, GPT_IMAGE_2):
        return 0.0
    # Of a size that is none, the server will say so.
    found = _SIZE.fullmatch(str(size))
    width, height = map(int, found.groups()) if found else (1024, 1024)
    medium = _TOKENS["medium"]
    tokens = _TOKENS.get(quality, medium) if isinstance(quality, str) else medium
    return float((n or 1) * tokens * width * height / 1024**2)
