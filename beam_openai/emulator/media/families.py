"""What each family of image models takes: how long a prompt, which sizes, which parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..parameters import Check, Parameters
from ..replies import Refusal
from ..wording import MODERN, OLD, Words

GPT_ONLY = frozenset(
    ("background", "moderation", "output_format", "output_compression", "input_fidelity", "partial_images", "stream")
)
"""With one of these a request that names no model is for a gpt-image."""

_SQUARES = ("256x256", "512x512", "1024x1024")
_GPT_SIZES = ("1024x1024", "1024x1536", "1536x1024")
_TOKENS = {"low": 272, "medium": 1056, "high": 4160}
_EDGE, _FEWEST_PIXELS, _MOST_PIXELS = 3840, 655_360, 8_294_400
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of models. `checks` has a check for every parameter it takes beside prompt and model."""

    name: str
    words: Words
    longest_prompt: int
    checks: Mapping[str, Check]

    def check_prompt(self, prompt: Any) -> str:
        """The prompt, which must be there, and not too long.

        Raises:
            Refusal: 400.
        """
        if prompt is None:
            raise self.words.missing("prompt")
        if not isinstance(prompt, str):
            raise self.words.wrong_type("prompt", prompt, "string")
        if not prompt:
            raise self.words.too_short("prompt", prompt, 1)
        if len(prompt) > self.longest_prompt:
            raise self._too_long(prompt)
        return prompt

    def _too_long(self, prompt: str) -> Refusal:
        if self.words is MODERN:
            return MODERN.too_long("prompt", prompt, self.longest_prompt)
        message = (
            f"Prompt must be length {self.longest_prompt} or less. Your prompt length is {len(prompt)}. "
            "Please reduce your prompt length."
        )
        return Refusal(400, message)


def family(model: str) -> Family:
    """The family of a model; one that is not OpenAI's is as dall-e-2."""
    if model.startswith("gpt-image-2"):
        return _GPT_2
    if model.startswith(("gpt-image", "chatgpt-image")):
        return _GPT
    return _DALL_E_3 if model.startswith("dall-e-3") else _DALL_E_2


def measures(size: str) -> tuple[int, int]:
    """Width and height in pixels of a checked size; `auto` is a square."""
    width, _, height = ("1024x1024" if size == "auto" else size).partition("x")
    return int(width), int(height)


def output_tokens(size: str, quality: str) -> int:
    """Tokens of one image of a gpt-image: its quality's, in proportion to its pixels."""
    width, height = measures(size)
    return max(1, round(_TOKENS[quality] * width * height / 1024**2))


def _one_image(name: str, value: Any) -> None:
    Parameters(OLD).integer(1, 10)(name, value)
    if value != 1:
        raise Refusal(400, "You must provide n=1 for this model.")


def _any_size(name: str, value: Any) -> None:
    """`auto`, or a width and a height within the limits of gpt-image-2."""
    if value == "auto":
        return
    Parameters(MODERN).string(pattern=rf"^{_SIZE.pattern}$")(name, value)
    width, height = measures(value)
    reason = None
    if width % 16 or height % 16:
        reason = "width and height must both be divisible by 16"
    elif max(width, height) > 3 * min(width, height):
        reason = "the ratio of width and height must be between 1:3 and 3:1"
    elif max(width, height) > _EDGE:
        reason = f"neither width nor height may exceed {_EDGE} pixels"
    elif not _FEWEST_PIXELS <= width * height <= _MOST_PIXELS:
        reason = f"an image must have between {_FEWEST_PIXELS} and {_MOST_PIXELS} pixels"
    if reason:
        raise Refusal(400, f"Invalid size '{value}': {reason}.", param=name, code="invalid_value")


def _png_only(name: str, value: Any) -> None:
    Parameters(MODERN).one_of("png", "jpeg", "webp")(name, value)
    if value != "png":
        message = f"Invalid value: '{value}'. Supported values are: 'png'. (The emulator has no encoder for {value}.)"
        raise Refusal(400, message, param=name, code="invalid_value")


def _dall_e(name: str, sizes: tuple[str, ...], longest_prompt: int, more: Mapping[str, Check]) -> Family:
    old = Parameters(OLD)
    checks = {
        "n": old.integer(1, 10),
        "size": old.one_of(*sizes),
        "response_format": old.one_of("url", "b64_json"),
        "user": old.string(),
        **more,
    }
    return Family(name=name, words=OLD, longest_prompt=longest_prompt, checks=checks)


def _gpt(name: str, size: Check) -> Family:
    modern = Parameters(MODERN)
    checks = {
        "n": modern.integer(1, 10),
        "size": size,
        "user": modern.string(),
        "quality": modern.one_of("low", "medium", "high", "auto"),
        "background": modern.one_of("transparent", "opaque", "auto"),
        "moderation": modern.one_of("low", "auto"),
        "output_format": _png_only,
        "output_compression": modern.integer(0, 100),
        "input_fidelity": modern.one_of("high", "low"),
        "stream": modern.boolean,
        "partial_images": modern.integer(0, 3),
    }
    return Family(name=name, words=MODERN, longest_prompt=32_000, checks=checks)


_DALL_E_2 = _dall_e("dall-e-2", _SQUARES, 1000, {"quality": Parameters(OLD).one_of("standard")})
_DALL_E_3 = _dall_e(
    "dall-e-3",
    ("1024x1024", "1792x1024", "1024x1792"),
    4000,
    {
        "n": _one_image,
        "quality": Parameters(OLD).one_of("standard", "hd"),
        "style": Parameters(OLD).one_of("vivid", "natural"),
    },
)
_GPT = _gpt("gpt-image", Parameters(MODERN).one_of(*_GPT_SIZES, "auto"))
_GPT_2 = _gpt("gpt-image", _any_size)
