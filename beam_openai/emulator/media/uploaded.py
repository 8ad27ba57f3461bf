"""Images that were uploaded, checked as the real service checks them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from ..forms import uploads
from ..multipart import Form, Upload
from ..replies import Refusal
from ..wording import MODERN, listed
from .pngs import SIGNATURE, Header, read_header

MOST_BYTES = 16 * 50 * 2**20 + 2**20
"""A form with as many images as a gpt-image takes, and what stands around them."""

_SMALL, _LARGE = 4 * 2**20, 50 * 2**20
_MOST = 16
_WITH_ALPHA = ("RGBA", "LA", "L")
_KINDS = ("image/jpeg", "image/png", "image/webp")


def one_png(form: Form, name: str = "image") -> tuple[Upload, Header]:
    """The one square PNG that dall-e-2 takes.

    A part that names no better content type than application/octet-stream is judged by its bytes: the
    clients of 2022 knew no other.

    Raises:
        Refusal: 400, it is not there, or not as it must be.
    """
    found = uploads(form, name)
    if not found:
        raise Refusal(400, f"'{name}' is a required property")
    if len(found) > 1:
        raise Refusal(400, f"Invalid '{name}': this model takes one image, but got {len(found)}.", param=name)
    upload = found[0]
    if upload.content_type != "application/octet-stream":
        _check_kind(name, upload, ("image/png",))
    header = _header(name, upload)
    if header.width != header.height:
        raise Refusal(
            400,
            f"Invalid input {name} - expected an image with equal width and height, got "
            f"{header.width}x{header.height} instead.",
        )
    return upload, header


def png_and_mask(form: Form) -> list[Upload]:
    """What dall-e-2 edits: a square PNG, and its mask; without one it must have an alpha channel.

    Raises:
        Refusal: 400.
    """
    image, header = one_png(form)
    if not uploads(form, "mask"):
        _check_alpha("image", header)
        return [image]
    mask, of_mask = one_png(form, "mask")
    _check_alpha("mask", of_mask)
    if of_mask.width != header.width:
        raise Refusal(
            400,
            f"Invalid input mask - expected the dimensions of the image, {header.width}x{header.height}, got "
            f"{of_mask.width}x{of_mask.height} instead.",
        )
    return [image, mask]


def many(form: Form) -> list[Upload]:
    """What a gpt-image edits: up to 16 images, and a mask for the first.

    Raises:
        Refusal: 400.
    """
    images = uploads(form, "image")
    if not images:
        if {"image", "image[]"} & set(form.fields):
            message = "Invalid type for 'image': expected one of an array of files or file, but got a string instead."
            raise Refusal(400, message, param="image", code="invalid_type")
        raise MODERN.missing("image")
    if len(images) > _MOST:
        raise MODERN.too_long("image", images, _MOST)
    for number, image in enumerate(images, 1):
        _check_kind("image", image, _KINDS)
        _check_image(number, image)
    masks = uploads(form, "mask")
    for mask in masks:
        _check_mask(mask, images[0])
    return [*images, *masks]


def _check_kind(name: str, upload: Upload, kinds: Sequence[str]) -> None:
    if upload.content_type in kinds:
        return
    formats = listed(kinds)
    message = (
        f"Invalid file '{name}': unsupported mimetype ('{upload.content_type}'). Supported file formats are {formats}."
    )
    raise Refusal(400, message, param=name, code="unsupported_file_mimetype")


def _header(name: str, upload: Upload) -> Header:
    try:
        if len(upload.view) >= _SMALL:
            raise ValueError("it is too large")
        return read_header(upload.data)
    except ValueError:
        raise Refusal(400, f"Uploaded {name} must be a PNG and less than 4 MB.") from None


def _check_alpha(name: str, header: Header) -> None:
    if header.mode not in _WITH_ALPHA:
        formats = list(_WITH_ALPHA)
        raise Refusal(400, f"Invalid input {name} - format must be in {formats}, got {header.mode}.")


def _check_image(number: int, image: Upload) -> None:
    if len(image.view) >= _LARGE:
        message = f"Invalid file 'image': image {number} is too large. Each image must be less than 50 MB."
        raise Refusal(400, message, param="image", code="file_too_large")
    if not _is_image(image):
        message = f"Invalid image file or mode for image {number}, please check your image file."
        raise Refusal(400, message, type="image_generation_user_error", param="image", code="invalid_image_file")


def _is_image(image: Upload) -> bool:
    """Whether it begins as an image of the three kinds does, and, if it is a PNG, is all there."""
    start = bytes(image.view[:12])
    if not start.startswith(SIGNATURE):
        return start.startswith(b"\xff\xd8\xff") or (start[:4] == b"RIFF" and start[8:] == b"WEBP")
    with contextlib.suppress(ValueError):
        return bool(read_header(image.data))
    return False


def _check_mask(mask: Upload, image: Upload) -> None:
    _check_kind("mask", mask, ("image/png",))
    header = _header("mask", mask)
    wrong = None
    if header.mode not in ("RGBA", "LA"):
        wrong = "mask image missing alpha channel"
    elif bytes(image.view[:8]) == SIGNATURE:
        size = read_header(image.data)
        if (size.width, size.height) != (header.width, header.height):
            wrong = "mask size does not match image size"
    if wrong:
        message = f"Invalid mask image format - {wrong}"
        raise Refusal(400, message, type="image_generation_user_error", code="invalid_mask_image_format")
