"""Images that are sent to be edited: which cannot be, and as the files of a form."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from beam_openai import media
from beam_openai.client import File, guess
from beam_openai.pictures.families import Family, family_of

_HEAD = 32
"""Bytes that tell what an image is."""
_MASK_BYTES = 4 << 20


def unusable(images: pa.ChunkedArray, name: str, models: Sequence[object]) -> dict[int, str]:
    """Rows whose images cannot be sent, and why.

    Args:
      images: bytes, or lists of bytes.
      name: of the column, for the reasons.
      models: of each row.
    """
    if not (media.is_bytes(images.type) or media.is_all_null(images)):
        return dict.fromkeys(range(len(images)), f"{name} is {images.type}, not an image's bytes")
    reasons = {
        row: _wrong(media.bytes_in(value), name, family_of(model), model)
        for row, (value, model) in enumerate(zip(images, models, strict=True))
    }
    return {row: reason for row, reason in reasons.items() if reason}


def unusable_masks(
    images: pa.ChunkedArray, masks: pa.ChunkedArray | None, names: tuple[str, str], models: Sequence[object]
) -> dict[int, str]:
    """Rows whose mask does not go with their image, or is missed, and why; of images that can be sent.

    Args:
      images: as of `unusable`.
      masks: bytes, null where a row has none; None where no row has one.
      names: of the two columns.
      models: of each row.
    """
    if not media.is_bytes(images.type):
        return {}
    name, mask_name = names
    if masks is not None and not (media.is_bytes(masks.type) or media.is_all_null(masks)):
        return dict.fromkeys(range(len(images)), f"{mask_name} is {masks.type}, not an image's bytes")
    found = {}
    for row, (value, model) in enumerate(zip(images, models, strict=True)):
        family, image = family_of(model), next(iter(media.bytes_in(value)), None)
        if masks is not None and masks[row].is_valid:
            reason = _wrong_mask(media.bytes_in(masks[row]), mask_name, image, family)
        else:
            reason = _opaque(image, name, family)
        if reason:
            found[row] = reason
    return found


def _wrong(images: Sequence[memoryview | None], name: str, family: Family | None, model: object) -> str | None:
    if not images:
        return f"{name} is null, or a list of none"
    if family and len(images) > family.most_files:
        return f"{name} has {len(images)} images, and {model} takes {family.most_files}"
    return next((reason for image in images if (reason := _wrong_image(image, name, family))), None)


def _wrong_image(image: memoryview | None, name: str, family: Family | None) -> str | None:
    if not image:
        return f"{name} is empty"
    if family is None:
        return None
    head = bytes(image[:_HEAD])
    if media.image_type(head) not in family.file_types:
        return f"{name} is not {' or '.join(kind.upper() for kind in family.file_types)}"
    if len(image) >= family.file_bytes:
        return f"{name} has {len(image):,} bytes, and must have fewer than {family.file_bytes >> 20} MB"
    if not family.is_square:
        return None
    header = _png(image)
    if header is None:
        return f"{name} is a PNG without its header"
    is_square = header.width == header.height
    return None if is_square else f"{name} is {header.width}x{header.height}, and must be square"


def _wrong_mask(
    masks: Sequence[memoryview | None], name: str, image: memoryview | None, family: Family | None
) -> str | None:
    mask = masks[0] if len(masks) == 1 else None
    if not mask:
        return f"{name} is empty, or a list of several"
    if family is None:
        return None
    header, of_image = _png(mask), _png(image)
    if header is None or len(mask) >= _MASK_BYTES:
        return f"{name} is not PNG of fewer than {_MASK_BYTES >> 20} MB"
    if header.has_alpha is False:
        return f"{name} has no alpha channel"
    if of_image and (header.width, header.height) != (of_image.width, of_image.height):
        return f"{name} is {header.width}x{header.height}, and the image {of_image.width}x{of_image.height}"
    return None


def _opaque(image: memoryview | None, name: str, family: Family | None) -> str | None:
    """Why an image cannot be edited without a mask."""
    header = _png(image) if family and family.is_square else None
    return f"{name} has no alpha channel, and there is no mask" if header and header.has_alpha is False else None


def _png(image: memoryview | None) -> media.Png | None:
    return media.png(bytes(image[:_HEAD])) if image else None


def files(images: pa.Scalar, mask: pa.Scalar | None = None) -> list[File]:
    """The images of one row that can be sent, and its mask, as files of a form."""
    found = [image for image in media.bytes_in(images) if image is not None]
    masks = [one for one in media.bytes_in(mask) if one is not None] if mask is not None else []
    field = "image[]" if len(found) > 1 else "image"
    return [_file(field, "image", image) for image in found] + [_file("mask", "mask", one) for one in masks]


def _file(field: str, name: str, image: memoryview) -> File:
    filename = f"{name}.{media.extension(bytes(image[:_HEAD]))}"
    return File(field, filename, guess(filename), image)
