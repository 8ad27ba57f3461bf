"""Images and sound by their bytes: what they are, and which cannot be sent."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_openai.texts import is_binary, is_text, written
from beam_openai.tokens import Counts, as_plain

FILES = {"images": frozenset({"gif", "jpeg", "jpg", "png", "webp"}), "audio": frozenset({"mp3", "wav"})}
"""What the names of files end with that may stand beside a prompt, or be judged: by the options that take them."""


def image_type(data: bytes) -> str | None:
    """`png`, `jpeg`, `gif` or `webp`, by the first bytes; None for anything else."""
    for kind, begins in (("png", b"\x89PNG\r\n\x1a\n"), ("jpeg", b"\xff\xd8\xff"), ("gif", b"GIF8")):
        if data.startswith(begins):
            return kind
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def audio_format(data: bytes) -> str | None:
    """`wav` or `mp3`, by the first bytes; None for anything else."""
    kind = sound_type(data)
    return kind if kind in ("wav", "mp3") else None


def sound_type(data: bytes) -> str | None:
    """`wav`, `mp3`, `aac`, `flac`, `ogg`, `m4a`, `mp4` or `webm`, by the first bytes; None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "wav"
    if data[4:8] == b"ftyp":
        return "m4a" if data[8:11] == b"M4A" else "mp4"
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        # Two bits tell the layer; those of AAC are none that MP3 has.
        return "mp3" if data[1] & 0x06 else "aac"
    begins = {b"ID3": "mp3", b"fLaC": "flac", b"OggS": "ogg", b"\x1aE\xdf\xa3": "webm"}
    return next((kind for first, kind in begins.items() if data.startswith(first)), None)


def extension(data: bytes) -> str:
    """What a file of these bytes should end with, without the point: `bin` where they tell nothing."""
    kind = image_type(data) or sound_type(data)
    return "jpg" if kind == "jpeg" else kind or "bin"


class Png(NamedTuple):
    """What a PNG says of itself; `has_alpha` is None where some take it for one that has, and some do not (grey)."""

    width: int
    height: int
    has_alpha: bool | None


def png(data: bytes) -> Png | None:
    """The header of a PNG; None for anything else."""
    if image_type(data) != "png" or data[12:16] != b"IHDR" or len(data) < 26:
        return None
    width, height, _, colours = struct.unpack_from(">IIBB", data, 16)
    return Png(width, height, None if colours == 0 else colours in (4, 6))


def bytes_in(value: pa.Scalar) -> list[memoryview | None]:
    """The bytes of a value of a column of binary, or of lists of it, where they lie: a copy would be held beside them."""
    if not value.is_valid:
        return []
    scalars = value.values if is_list(value.type) else [value]
    return [_view(scalar.as_buffer()) if scalar.is_valid else None for scalar in scalars]


def _view(buffer: pa.Buffer) -> memoryview:
    return memoryview(buffer).cast("B") if buffer.size else memoryview(b"")


def image_url(image: bytes | str) -> str:
    """A URL as it is, an image as a data URL."""
    if isinstance(image, str):
        return image
    return f"data:image/{image_type(image)};base64,{base64.b64encode(image).decode()}"


def several(value: Any) -> list[Any]:
    """A value of a column that holds one or a list: null is none."""
    return [] if value is None else value if isinstance(value, list) else [value]


def how_many(column: pa.ChunkedArray) -> Counts:
    """How many images each row has."""
    if is_list(column.type):
        return pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
    return pc.is_valid(column).to_numpy().astype(np.int64)


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a column of this type holds bytes, or lists of them."""
    return is_binary(kind.value_type if is_list(kind) else kind)


def is_all_null(column: pa.ChunkedArray) -> bool:
    """Whether no row has a value, nor one in its list: then the column's type tells nothing."""
    return bool(column.null_count == len(column) or (is_list(column.type) and pa.types.is_null(column.type.value_type)))


def is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def unusable_images(column: pa.ChunkedArray, name: str) -> dict[int, str]:
    """Rows whose value is no image, URL, or list of such; null means none."""
    kind = column.type.value_type if is_list(column.type) else column.type
    if not (is_binary(kind) or is_text(as_plain(pa.nulls(0, kind)).type)):
        return dict.fromkeys(range(len(column)), f"{name} is {written(column.type)}, not an image's bytes or URL")
    return _unusable(column, name, lambda value: _wrong_image(value, name))


def unusable_audio(column: pa.ChunkedArray, name: str) -> dict[int, str]:
    """Rows whose value is no sound; null means none."""
    if not (is_binary(column.type) or pa.types.is_null(column.type)):
        return dict.fromkeys(range(len(column)), f"{name} is {written(column.type)}, not sound's bytes")
    wrong = f"{name} is neither WAV nor MP3"
    return _unusable(column, name, lambda value: None if audio_format(value) else wrong)


def _unusable(column: pa.ChunkedArray, name: str, why: Callable[[Any], str | None]) -> dict[int, str]:
    found = {}
    for row, value in enumerate(column):
        try:
            values = several(value.as_py())
        except UnicodeDecodeError:
            found[row] = f"{name} is not valid UTF-8"
            continue
        reasons = (why(one) for one in values)
        if reason := next((reason for reason in reasons if reason), None):
            found[row] = reason
    return found


def _wrong_image(value: bytes | str | None, name: str) -> str | None:
    if value is None:
        return f"{name} has a null in its list"
    if isinstance(value, str):
        is_url = value.startswith(("https://", "http://", "data:image/"))
        return None if is_url else f"{name} is neither an image's bytes nor its URL"
    return None if image_type(value) else f"{name} is not PNG, JPEG, GIF or WebP"
