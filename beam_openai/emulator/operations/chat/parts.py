"""The parts of a message's content: texts, and what is counted in tokens of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ...attachments import PICTURE_TOKENS, check_picture, sound_tokens
from ...parameters import Parameters
from ...replies import Refusal
from ...wording import MODERN

_TYPES = {
    "user": ("text", "image_url", "input_audio", "file"),
    "assistant": ("text", "refusal"),
}
"""What each role may say; the others only text."""

_checks = Parameters(MODERN)
_IMAGE = _checks.members({"url": check_picture, "detail": _checks.one_of("auto", "low", "high")}, ("url",))
_AUDIO = _checks.members({"data": _checks.string(1), "format": _checks.one_of("wav", "mp3")}, ("data", "format"))
_FILE = _checks.members({each: _checks.string(1) for each in ("filename", "file_data", "file_id")})


class Part(NamedTuple):
    """One part: its text, or None; and the tokens of what is no text, sounds apart."""

    text: str | None
    tokens: int = 0
    audio_tokens: int = 0


def read(name: str, parts: list[Any], role: str) -> Iterator[Part]:
    """Checks and reads the parts of the content at `name`.

    Raises:
        Refusal: one cannot be, or not in a message of this role.
    """
    if not parts:
        raise MODERN.too_short(name, parts, 1)
    allowed = _TYPES.get(role, ("text",))
    for index, part in enumerate(parts):
        path = f"{name}[{index}]"
        _checks.object(path, part)
        kind = part.get("type")
        if kind is None:
            raise MODERN.missing(f"{path}.type")
        if kind == "image_url" and role != "user":
            raise _image_of(role, name.removesuffix(".content"))
        _checks.one_of(*allowed)(f"{path}.type", kind)
        if kind not in part:
            raise MODERN.missing(f"{path}.{kind}")
        for key in part:
            if key not in ("type", kind, "prompt_cache_breakpoint"):
                raise MODERN.unknown(f"{path}.{key}")
        yield _READ[kind](f"{path}.{kind}", part[kind])


def _image_of(role: str, name: str) -> Refusal:
    message = (
        f"Invalid '{name}'. Image URLs are only allowed for messages with role 'user', but this message with role "
        f"'{role}' contains an image URL."
    )
    return Refusal(400, message, param=name, code="invalid_value")


def _text(name: str, text: Any) -> Part:
    if type(text) is not str:
        raise MODERN.wrong_type(name, text, "string")
    return Part(text)


def _image(name: str, image: Any) -> Part:
    _IMAGE(name, image)
    return Part(None, PICTURE_TOKENS[image.get("detail") or "auto"])


def _audio(name: str, audio: Any) -> Part:
    _AUDIO(name, audio)
    return Part(None, 0, sound_tokens(f"{name}.data", audio["data"]))


def _file(name: str, file: Any) -> Part:
    _FILE(name, file)
    if not file.get("file_id") and not file.get("file_data"):
        raise MODERN.missing(f"{name}.file_id")
    return Part(None)


_READ: dict[str, Callable[[str, Any], Part]] = {
    "text": _text,
    "refusal": _text,
    "image_url": _image,
    "input_audio": _audio,
    "file": _file,
}
