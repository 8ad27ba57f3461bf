"""What messages carry beside texts: pictures and sounds, checked, and counted in tokens."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from .replies import Refusal
from .wording import MODERN

PICTURE_TOKENS = {"low": 85, "high": 765, "auto": 255, "original": 765}
"""By the `detail` that is asked for."""
_SOUND_BYTES_PER_TOKEN = 3200


def check_picture(name: str, url: Any) -> None:
    """Checks a picture's URL, which may be the picture itself.

    Raises:
        Refusal: it is neither http(s) nor base64 data of an image.
    """
    if type(url) is not str:
        raise MODERN.wrong_type(name, url, "string")
    if url.startswith(("http://", "https://")):
        return
    head, _, data = url.partition(",")
    if not url.startswith("data:") or not (head.startswith("data:image/") and head.endswith(";base64")):
        got = "a value of another kind" if url.startswith("data:") else "a value without the 'data:' prefix"
        message = (
            f"Invalid '{name}'. Expected a base64-encoded data URL with an image MIME type (e.g. "
            f"'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU='), but got {got}."
        )
        raise Refusal(400, message, param=name, code="invalid_value")
    _decoded(name, data)


def sound_tokens(name: str, data: str) -> int:
    """The tokens of a sound, which is sent as base64.

    Raises:
        Refusal: it is not.
    """
    return -(-len(_decoded(name, data)) // _SOUND_BYTES_PER_TOKEN)


def _decoded(name: str, data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        message = f"Invalid '{name}'. Expected a base64-encoded value, but got one that is not."
        raise Refusal(400, message, param=name, code="invalid_value") from None
