"""Images, audio and moderations of a server, by the current `openai` client: `check_modern_media.py BASE_URL`.

Ends with status 0 if the client understood every answer, and each was what it should be.
"""

from __future__ import annotations

import base64
import io
import struct
import sys
import tempfile
import urllib.request
import wave
import zlib
from pathlib import Path

import openai

TEXT = "The harbour is quiet. Who turned off the light?"


def main() -> None:
    client = openai.OpenAI(base_url=sys.argv[1], api_key="sk-of-nobody", max_retries=0)
    for check in (generate, edit, vary, speak, transcribe, stream_transcript, diarize, translate, moderate):
        check(client)
        print(f"{check.__name__}: as it should be")


def png(width: int, height: int) -> bytes:
    """A PNG of see-through pixels, by its specification."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    pixels = zlib.compress(bytes(height * (1 + 4 * width)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def size(image: bytes) -> tuple[int, int]:
    """Width and height of a PNG whose pixels can be unpacked."""
    assert image[:8] == b"\x89PNG\r\n\x1a\n" and image.endswith(b"IEND\xaeB\x60\x82")
    start = image.index(b"IDAT")
    zlib.decompress(image[start + 4 : start + 4 + int.from_bytes(image[start - 4 : start], "big")])
    return struct.unpack_from(">II", image, 16)


def sizes(answer: openai.types.ImagesResponse) -> list[tuple[int, int]]:
    """Those of all images of an answer, fetched where it has addresses."""
    found = []
    for image in answer.data:
        if image.url is None:
            found.append(size(base64.b64decode(image.b64_json, validate=True)))
        else:
            assert image.b64_json is None
            with urllib.request.urlopen(image.url, timeout=30) as fetched:
                found.append(size(fetched.read()))
    return found


def refused(kind: type[openai.APIStatusError], call: object, *args: object, **fields: object) -> openai.APIStatusError:
    """The error that a call must end with."""
    try:
        call(*args, **fields)
    except kind as error:
        return error
    raise AssertionError(f"{fields} was not refused")


def generate(client: openai.OpenAI) -> None:
    draw = client.images.generate
    assert sizes(draw(model="dall-e-2", prompt="a cat", n=3, size="256x256")) == [(256, 256)] * 3
    packed = draw(model="dall-e-2", prompt="a cat", size="512x512", response_format="b64_json")
    assert sizes(packed) == [(512, 512)] and packed.data[0].url is None
    one = draw(model="dall-e-3", prompt="a cat", size="1024x1792", quality="hd", style="natural")
    assert sizes(one) == [(1024, 1792)] and one.data[0].revised_prompt
    answer = draw(model="gpt-image-1", prompt="a cat", size="1536x1024", quality="low", background="transparent")
    assert sizes(answer) == [(1536, 1024)] and answer.usage.total_tokens == (
        answer.usage.input_tokens + answer.usage.output_tokens
    )
    assert (answer.size, answer.quality, answer.background) == ("1536x1024", "low", "transparent")
    events = list(draw(model="gpt-image-1", prompt="a cat", stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert size(base64.b64decode(events[-1].b64_json)) == (1024, 1024)
    error = refused(openai.BadRequestError, draw, model="gpt-image-1", prompt="a cat", response_format="url")
    assert (error.code, error.param) == ("unknown_parameter", "response_format")
    assert refused(openai.BadRequestError, draw, model="dall-e-3", prompt="a cat", n=2).code is None


def edit(client: openai.OpenAI) -> None:
    image, mask = ("image.png", png(64, 64)), ("mask.png", png(64, 64))
    change = client.images.edit
    assert sizes(change(model="dall-e-2", image=image, prompt="a hat", n=2, size="256x256")) == [(256, 256)] * 2
    masked = change(model="dall-e-2", image=image, mask=mask, prompt="a hat", response_format="b64_json")
    assert sizes(masked) == [(1024, 1024)]
    several = change(model="gpt-image-1", image=[image, mask], mask=mask, prompt="a hat", size="1024x1536")
    assert sizes(several) == [(1024, 1536)] and several.usage.input_tokens_details.image_tokens > 0
    oblong = ("image.png", png(64, 32))
    error = refused(openai.BadRequestError, change, model="dall-e-2", image=oblong, prompt="a hat")
    assert "equal width and height" in error.message


def vary(client: openai.OpenAI) -> None:
    answer = client.images.create_variation(model="dall-e-2", image=("image.png", png(64, 64)), n=2, size="512x512")
    assert sizes(answer) == [(512, 512)] * 2


def speak(client: openai.OpenAI) -> None:
    say = client.audio.speech.with_streaming_response.create
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        with say(model="tts-1", voice="alloy", input=TEXT, response_format="wav", speed=1.5) as response:
            response.stream_to_file(path)
        with wave.open(str(path)) as audio:
            assert audio.getframerate() == 24_000 and audio.getnframes() > 0
        with say(model="gpt-4o-mini-tts", voice="marin", input=TEXT, instructions="softly") as response:
            assert response.headers["content-type"] == "audio/mpeg"
            response.stream_to_file(path.with_suffix(".mp3"))
        assert path.with_suffix(".mp3").read_bytes()[:3] == b"ID3"
    error = refused(openai.BadRequestError, client.audio.speech.create, model="tts-1", voice="alloy", input="x" * 4097)
    assert "4096" in error.message


def spoken(client: openai.OpenAI) -> tuple[str, bytes]:
    """A file of speech, by its name and bytes."""
    answer = client.audio.speech.create(model="tts-1", voice="nova", input=TEXT, response_format="wav")
    return "speech.wav", answer.content


def transcribe(client: openai.OpenAI) -> None:
    file, write = spoken(client), client.audio.transcriptions.create
    with wave.open(io.BytesIO(file[1])) as audio:
        seconds = audio.getnframes() / audio.getframerate()
    plain = write(model="whisper-1", file=file, language="en", prompt="A harbour.", temperature=0.2)
    assert plain.text == TEXT and plain.usage.type == "duration"
    assert write(model="whisper-1", file=file, response_format="text").strip() == TEXT
    srt = write(model="whisper-1", file=file, response_format="srt")
    assert srt.startswith("1\n00:00:00,000 --> ") and "\n2\n" in srt
    assert write(model="whisper-1", file=file, response_format="vtt").startswith("WEBVTT\n\n00:00:00.000 --> ")
    verbose = write(model="whisper-1", file=file, response_format="verbose_json")
    assert abs(verbose.duration - seconds) < 0.01 and verbose.language == "english" and verbose.words is None
    assert "".join(segment.text for segment in verbose.segments).strip() == TEXT
    both = ["word", "segment"]
    timed = write(model="whisper-1", file=file, response_format="verbose_json", timestamp_granularities=both)
    assert [word.word for word in timed.words] == TEXT.replace(".", "").replace("?", "").split()
    assert all(word.start <= word.end <= seconds + 0.01 for word in timed.words) and timed.segments
    scored = write(model="gpt-4o-mini-transcribe", file=file, include=["logprobs"])
    assert "".join(each.token for each in scored.logprobs) == TEXT and scored.usage.type == "tokens"
    error = refused(openai.BadRequestError, write, model="gpt-4o-transcribe", file=file, response_format="srt")
    assert (error.code, error.param) == ("unsupported_value", "response_format")
    assert (
        "Supported formats" in refused(openai.BadRequestError, write, model="whisper-1", file=("a.txt", b"a")).message
    )
    error = refused(openai.APIStatusError, write, model="whisper-1", file=("a.mp3", bytes(26_214_401)))
    assert (error.status_code, error.type) == (413, "server_error")


def stream_transcript(client: openai.OpenAI) -> None:
    events = list(client.audio.transcriptions.create(model="gpt-4o-transcribe", file=spoken(client), stream=True))
    assert "".join(event.delta for event in events[:-1]) == TEXT
    assert events[-1].type == "transcript.text.done" and events[-1].text == TEXT and events[-1].usage.total_tokens > 0


def diarize(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        model="gpt-4o-transcribe-diarize",
        file=spoken(client),
        response_format="diarized_json",
        chunking_strategy={"type": "server_vad", "threshold": 0.4},
    )
    assert answer.text == TEXT and [segment.speaker for segment in answer.segments] == ["A", "B"]


def translate(client: openai.OpenAI) -> None:
    file, write = spoken(client), client.audio.translations.create
    assert write(model="whisper-1", file=file).text == TEXT
    assert write(model="whisper-1", file=file, response_format="text").strip() == TEXT
    assert write(model="whisper-1", file=file, response_format="verbose_json").segments


def moderate(client: openai.OpenAI) -> None:
    judge = client.moderations.create
    assert judge(input="I want to kill them.").results[0].flagged
    many = judge(input=["a nice day", "I want to kill them."], model="omni-moderation-latest")
    assert [result.flagged for result in many.results] == [False, True]
    worst = many.results[1]
    assert worst.categories.violence and worst.category_scores.violence > 0.5
    assert worst.category_applied_input_types.violence == ["text"]
    image = {"type": "image_url", "image_url": {"url": "https://example.com/meadow.png"}}
    mixed = judge(input=[{"type": "text", "text": "a nice day"}, image])
    assert len(mixed.results) == 1
    assert mixed.results[0].category_applied_input_types.violence == ["text", "image"]
    assert refused(openai.BadRequestError, judge, input=[image, image]).code == "too_many_images"
    old = judge(input="a nice day", model="text-moderation-latest").results[0]
    assert not old.flagged and old.categories.harassment is False


if __name__ == "__main__":
    main()
