"""Audio that the server speaks and hears: a text as tones, in a container that keeps the text as its comment.

A WAV has a tone for each word. For MP3 and FLAC there is no encoder here: those are silence of the same
length, in valid frames. Whatever is made here is understood again, to the letter.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RATE = 24_000
"""Samples in a second."""

_CHARACTER_SECONDS = 0.01
_TAIL_SECONDS = 0.15  # so that no text is too short to be heard
_FRAME = 576
_MP3_FRAME = b"\xff\xf3\x44\xc0" + bytes(92)  # MPEG-2 layer III, 32 kbit/s, 24 kHz, mono: all of it silence
_GUESSED_BYTES_PER_SECOND = 16_000

Samples = npt.NDArray[np.int16]


def speak(text: str, voice: str, speed: float) -> Samples:
    """A tone for each word: its pitch is the word's and the voice's, its length that of its characters."""
    pieces = [_tone(run, voice, speed) for run in re.findall(r"\s+|\S+", text)]
    return np.concatenate([*pieces, np.zeros(round(_TAIL_SECONDS * RATE), np.int16)])


def _tone(run: str, voice: str, speed: float) -> Samples:
    times = np.arange(round(len(run) * _CHARACTER_SECONDS / speed * RATE)) / RATE
    if run.isspace():
        return np.zeros(len(times), np.int16)
    pitch = 120 + int.from_bytes(hashlib.blake2b(f"{voice} {run}".encode(), digest_size=2).digest(), "big") % 480
    edge = np.minimum(1.0, np.minimum(times, times[::-1]) * 500)  # no clicks
    return (8000 * edge * np.sin(2 * math.pi * pitch * times)).astype("<i2")


def pcm(samples: Samples, text: str) -> bytes:
    """The samples, little-endian, and nothing else."""
    return samples.tobytes()


def wav(samples: Samples, text: str) -> bytes:
    """A WAV of 16 bits, mono, with the text as the comment of its INFO list."""
    shape = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    comment = b"INFO" + _riff(b"ICMT", text.encode() + b"\0")
    chunks = _riff(b"fmt ", shape) + _riff(b"LIST", comment) + _riff(b"data", samples.tobytes())
    return _riff(b"RIFF", b"WAVE" + chunks)


def _riff(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def mp3(samples: Samples, text: str) -> bytes:
    """Frames of silence as long as `samples`, behind an ID3 tag with the text as its comment."""
    comment = b"\3eng\0" + text.encode()
    frame = b"COMM" + _syncsafe(len(comment)) + bytes(2) + comment
    return b"ID3\4\0\0" + _syncsafe(len(frame)) + frame + _MP3_FRAME * _frames(samples)


def _syncsafe(size: int) -> bytes:
    return bytes(size >> shift & 127 for shift in (21, 14, 7, 0))


def flac(samples: Samples, text: str) -> bytes:
    """Frames of silence as long as `samples`, behind the text as a Vorbis comment."""
    count = _frames(samples)
    total = count * _FRAME
    # Block and frame sizes; then 20 bits of rate, 3 of channels - 1, 5 of bits - 1, 36 of samples.
    packed = RATE << 44 | 15 << 36 | total
    silence = hashlib.md5(bytes(2 * total), usedforsecurity=False).digest()
    info = struct.pack(">HH", _FRAME, _FRAME) + bytes(6) + packed.to_bytes(8, "big") + silence
    comment = b"COMMENT=" + text.encode()
    comments = struct.pack("<III", 0, 1, len(comment)) + comment
    blocks = b"\0" + len(info).to_bytes(3, "big") + info + b"\x84" + len(comments).to_bytes(3, "big") + comments
    return b"fLaC" + blocks + b"".join([_flac_frame(number) for number in range(count)])


def _flac_frame(number: int) -> bytes:
    # 576 samples of 24 kHz, one channel of 16 bits, all of them the constant 0.
    head = b"\xff\xf8\x27\x08" + _frame_number(number)
    frame = head + bytes([_crc(head, 0x07, 8)]) + bytes(3)
    return frame + _crc(frame, 0x8005, 16).to_bytes(2, "big")


def _frame_number(number: int) -> bytes:
    """As UTF-8 would write that character, which may here be any number."""
    if number < 128:
        return bytes([number])
    size = next(size for size in range(2, 7) if number < 1 << (5 * size + 1))
    tail = [0x80 | number >> 6 * at & 63 for at in range(size - 2, -1, -1)]
    return bytes([(0xFF00 >> size & 0xFF) | number >> 6 * (size - 1), *tail])


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    crc = 0
    for byte in data:
        crc ^= byte << bits - 8
        for _ in range(8):
            crc = crc << 1 ^ (polynomial if crc >> bits - 1 else 0)
            crc &= (1 << bits) - 1
    return crc


def _frames(samples: Samples) -> int:
    return -(-len(samples) // _FRAME)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """`text`, where the audio says itself what was spoken; `measured`, whether its seconds are not a guess."""

    seconds: float
    text: str | None = None
    measured: bool = True


def listen(data: bytes) -> Heard:
    """What audio of any kind says. The length of what is neither WAV nor FLAC is guessed from its size."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return _heard_wav(data)
    if data[:4] == b"fLaC" and len(data) >= 26:
        return _heard_flac(data)
    if data[:3] == b"ID3" and data.endswith(_MP3_FRAME):
        frames = data.count(_MP3_FRAME)
        found = re.search(rb"COMM....\x00\x00\x03eng\x00(.*)\Z", data[: -frames * len(_MP3_FRAME)], re.DOTALL)
        return Heard(seconds=frames * _FRAME / RATE, text=found and found[1].decode(errors="replace"))
    return Heard(seconds=len(data) / _GUESSED_BYTES_PER_SECOND, measured=False)


def _heard_wav(data: bytes) -> Heard:
    chunks = dict(_riff_chunks(data, 12))
    if len(chunks.get(b"fmt ", b"")) < 16:
        return Heard(seconds=0.0)
    per_second = struct.unpack_from("<I", chunks[b"fmt "], 8)[0]
    comment = dict(_riff_chunks(chunks.get(b"LIST", b""), 4)).get(b"ICMT")
    return Heard(
        seconds=len(chunks.get(b"data", b"")) / max(1, per_second),
        text=None if comment is None else comment[:-1].decode(errors="replace"),
    )


def _riff_chunks(data: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _heard_flac(data: bytes) -> Heard:
    packed = int.from_bytes(data[18:26], "big")
    rate, total = packed >> 44, packed & (1 << 36) - 1
    text, at, last = None, 4, False
    while not last and at + 4 <= len(data):
        last, kind = bool(data[at] & 128), data[at] & 127
        block = data[at + 4 : at + 4 + int.from_bytes(data[at + 1 : at + 4], "big")]
        if kind == 4 and block[12:20] == b"COMMENT=":
            text = block[20:].decode(errors="replace")
        at += 4 + len(block)
    return Heard(seconds=total / max(1, rate), text=text)
