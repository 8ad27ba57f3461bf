"""PNG images, written and read with zlib alone. Pure."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TILES = 8
_COLOURS = 16
_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a PNG says of itself; `mode` as Pillow calls it: L, LA, RGB, RGBA or P."""

    width: int
    height: int
    mode: str


def read_header(data: bytes) -> Header:
    """Reads a PNG's header, and looks through its chunks; pixels are not unpacked.

    Raises:
        ValueError: it is no PNG, or a broken one.
    """
    if not data.startswith(SIGNATURE):
        raise ValueError("it does not begin as a PNG does")
    chunks = list(_chunks(data))
    names = [name for name, _ in chunks]
    if names[:1] != [b"IHDR"] or names[-1:] != [b"IEND"] or b"IDAT" not in names:
        raise ValueError("it lacks its header, its pixels or its end")
    if len(chunks[0][1]) != 13:
        raise ValueError("its header has another length")
    width, height, _, colours = struct.unpack_from(">IIBB", chunks[0][1])
    if colours not in _MODES or not width or not height:
        raise ValueError("its header cannot be")
    return Header(width=width, height=height, mode=_MODES[colours])


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(data):
        if len(data) < at + 12:
            raise ValueError("it is cut off")
        size, name = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + size]
        if len(data) < at + 12 + size:
            raise ValueError("it is cut off")
        if struct.unpack_from(">I", data, at + 8 + size)[0] != zlib.crc32(name + content):
            raise ValueError("a checksum is wrong")
        yield name, content
        at += 12 + size


def picture(seed: bytes, width: int, height: int, transparent: bool = False) -> bytes:
    """A PNG of flat tiles whose colours derive from `seed`: another seed, another picture.

    RGB; with `transparent` RGBA, and the tiles at its edge cannot be seen.
    """
    digest = hashlib.shake_128(seed).digest(3 * _COLOURS + _TILES * _TILES)
    colours = [digest[3 * at : 3 * at + 3] for at in range(_COLOURS)]
    picks = digest[3 * _COLOURS :]
    pixel = 4 if transparent else 3
    packer = zlib.compressobj(1)
    packed = []
    # Only a band's first row holds colours. Each other is the difference to the one above: nothing.
    same = b"\2" + bytes(pixel * width)
    for band, rows in enumerate(_shares(height)):
        if not rows:
            continue
        tiles = [colours[pick % _COLOURS] for pick in picks[band * _TILES : (band + 1) * _TILES]]
        if transparent:
            tiles = [tile + bytes([_alpha(band, at)]) for at, tile in enumerate(tiles)]
        row = b"".join([tile * size for tile, size in zip(tiles, _shares(width), strict=True)])
        packed.append(packer.compress(b"\0" + row))
        packed.append(packer.compress(same * (rows - 1)))
    packed.append(packer.flush())
    header = struct.pack(">IIBBBBB", width, height, 8, 6 if transparent else 2, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"".join(packed)) + _chunk(b"IEND", b"")


def _shares(size: int) -> list[int]:
    """`size` pixels, shared out to the tiles."""
    return [size * (at + 1) // _TILES - size * at // _TILES for at in range(_TILES)]


def _alpha(*places: int) -> int:
    return 0 if {0, _TILES - 1} & set(places) else 255


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
