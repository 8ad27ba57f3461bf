"""What all operations on texts have in common: how many tokens one is, and the markers that poison it.

POISON-400 anywhere in a text has its whole request refused with a 400 that names no row; with
POISON-500 it is answered with a 500 each time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from .replies import Refusal

INVALID_INPUT = "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."


def count_tokens(text: str, bytes_per_token: float) -> int:
    """A text's tokens: `max(1, ceil(UTF-8 bytes / bytes_per_token))`."""
    size = len(text) if text.isascii() else len(text.encode())
    return max(1, math.ceil(size / bytes_per_token))


def check_poison(texts: Iterable[object]) -> None:
    """Looks for the markers in what is text.

    Raises:
        Refusal: 400 or 500, as the first marker that is found says.
    """
    for text in texts:
        if isinstance(text, str) and "POISON-" in text:
            if "POISON-400" in text:
                raise Refusal(400, INVALID_INPUT)
            if "POISON-500" in text:
                message = "The server had an error while processing your request. Sorry about that!"
                raise Refusal(500, message, type="server_error")
