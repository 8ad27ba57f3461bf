"""What bytes are, by their beginnings."""

import io
import struct
import wave

import pyarrow as pa
import pytest

from beam_openai import media
from beam_openai.emulator.media import sounds
from beam_openai.emulator.media.pngs import picture

RIFF = b"RIFF\x00\x00\x00\x00"


def wave_file():
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0" * 100)
    return written.getvalue()


@pytest.mark.parametrize(
    ("data", "extension"),
    [
        (picture(b"seed", 8, 8), "png"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "jpg"),
        (b"GIF89a", "gif"),
        (RIFF + b"WEBPVP8 ", "webp"),
        (wave_file(), "wav"),
        (sounds.mp3(sounds.speak("a", "alloy", 1.0), "a"), "mp3"),
        (b"\xff\xfb\x90\x00", "mp3"),
        (b"\xff\xf1\x50\x80", "aac"),
        (sounds.flac(sounds.speak("a", "alloy", 1.0), "a"), "flac"),
        (b"OggS\x00\x02", "ogg"),
        (b"\x00\x00\x00\x20ftypM4A \x00", "m4a"),
        (b"\x00\x00\x00\x18ftypisom\x00", "mp4"),
        (b"\x1aE\xdf\xa3\x9fB\x86", "webm"),
        (b"", "bin"),
        (b"\xff", "bin"),
        (b"%PDF-1.7", "bin"),
        (RIFF + b"AVI ", "bin"),
    ],
)
def test_a_file_is_told_by_its_first_bytes(data, extension):
    assert media.extension(data) == extension


def test_chat_hears_wav_and_mp3_only():
    assert media.audio_format(wave_file()) == "wav"
    assert media.audio_format(b"ID3\x04") == "mp3"
    assert media.audio_format(b"\xff\xf1\x50\x80") is None
    assert media.audio_format(b"fLaC") is None


@pytest.mark.parametrize(
    ("width", "height", "transparent", "has_alpha"), [(33, 7, False, False), (8, 8, True, True)], ids=str
)
def test_a_png_says_what_it_is(width, height, transparent, has_alpha):
    found = media.png(picture(b"seed", width, height, transparent))
    assert found == (width, height, has_alpha)


def test_of_grey_nobody_knows_and_a_palette_has_none():
    def header(colours):
        return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 5, 6, 8, colours, 0, 0, 0)

    assert media.png(header(0)) == (5, 6, None)
    assert media.png(header(3)) == (5, 6, False)
    assert media.png(header(4)) == (5, 6, True)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", picture(b"a", 8, 8)[:25]])
def test_what_is_no_whole_header_is_no_png(data):
    assert media.png(data) is None


def test_bytes_are_looked_at_where_they_lie():
    column = pa.chunked_array([pa.array([b"abc", b"", None])])
    found = [media.bytes_in(value) for value in column]
    assert [[bytes(one) for one in row] for row in found] == [[b"abc"], [b""], []]
    lists = pa.array([[b"ab", None], [], None], pa.list_(pa.large_binary()))
    found = [media.bytes_in(value) for value in lists]
    assert bytes(found[0][0]) == b"ab" and found[0][1] is None and found[1:] == [[], []]
    before = pa.total_allocated_bytes()
    large = pa.array([b"x" * (1 << 20)])
    held = pa.total_allocated_bytes() - before
    assert media.bytes_in(large[0])[0].nbytes == 1 << 20
    assert pa.total_allocated_bytes() - before == held
