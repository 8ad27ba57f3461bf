"""Images, sounds and moderations of the emulator, over real sockets, their bytes looked at by other means."""

import base64
import hashlib
import io
import json
import random
import struct
import wave
import zlib

import pytest
import requests

from beam_openai.emulator import Emulator
from beam_openai.emulator.media import sounds, transcripts
from beam_openai.emulator.media.pngs import picture, read_header

CATEGORIES = 13
SHOWN = (
    "Invalid file format. Supported formats: ['flac', 'm4a', 'mp3', 'mp4', 'mpeg', 'mpga', 'oga', 'ogg', 'wav', 'webm']"
)


@pytest.fixture(scope="module")
def shared():
    models = {"painter": "image", "gpt-image-2": "image", "scribe": "transcription", "talker": "speech"}
    with Emulator(models=models, more_categories="malware, spam/links", drip_seconds=0.2) as emulator:
        yield emulator


@pytest.fixture
def server(shared):
    shared.clear()
    return shared


def post(server, path, fields):
    return requests.post(server.base_url + path, json=fields, timeout=30)


def send(server, path, files, **fields):
    """A form: `files` are (name, (filename, bytes, content type)), or values of a dict."""
    return requests.post(server.base_url + path, files=files, data=fields, timeout=60)


def error(response, status=400):
    assert response.status_code == status, response.text
    return response.json()["error"]


def decoded(png):
    """Width, height, channels and rows of a PNG, by nothing but its specification."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, found = 8, {}
    while at < len(png):
        size, name = struct.unpack_from(">I4s", png, at)
        content = png[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", png, at + 8 + size)[0] == zlib.crc32(name + content)
        found[name] = found.get(name, b"") + content
        at += 12 + size
    assert name == b"IEND" and found[b"IEND"] == b""
    width, height, depth, colours, packing, filters, interlaced = struct.unpack(">IIBBBBB", found[b"IHDR"])
    assert (depth, packing, filters, interlaced) == (8, 0, 0, 0)
    channels = {2: 3, 6: 4}[colours]
    raw = zlib.decompress(found[b"IDAT"])
    assert len(raw) == height * (1 + channels * width)
    rows, above = [], bytes(channels * width)
    for start in range(0, len(raw), 1 + channels * width):
        row = raw[start + 1 : start + 1 + channels * width]
        assert raw[start] in (0, 2)
        above = row if raw[start] == 0 else bytes((a + b) % 256 for a, b in zip(row, above, strict=True))
        rows.append(above)
    return width, height, channels, rows


def png(width=64, height=None, transparent=True, seed=b"a picture"):
    return picture(seed, width, height or width, transparent)


def upload(data, name="image", filename="picture.png", kind="image/png"):
    return (name, (filename, data, kind))


def drawn(response):
    assert response.status_code == 200, response.text
    return [base64.b64decode(row["b64_json"]) for row in response.json()["data"]]


# Pictures


@pytest.mark.parametrize("width, height, transparent", [(1, 1, False), (8, 8, True), (33, 7, False), (256, 256, True)])
def test_a_picture_is_a_png_of_its_size(width, height, transparent):
    found = decoded(picture(b"seed", width, height, transparent))
    assert found[:3] == (width, height, 4 if transparent else 3)
    assert read_header(picture(b"seed", width, height, transparent)).mode == ("RGBA" if transparent else "RGB")


def test_a_picture_is_its_seeds_alone():
    assert picture(b"one", 64, 64) == picture(b"one", 64, 64) != picture(b"two", 64, 64)


def test_the_edge_of_a_transparent_picture_cannot_be_seen_and_its_middle_can():
    width, height, _, rows = decoded(png(64))
    assert rows[0][3::4] == bytes(64) and rows[height // 2][4 * (width // 2) + 3] == 255


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"GIF89a" + data,
        lambda data: data[:-1],
        lambda data: data[:30],
        lambda data: data[:20] + b"\xff" + data[21:],
        lambda data: data[:8],
    ],
)
def test_a_broken_png_is_none(spoil):
    with pytest.raises(ValueError):
        read_header(spoil(png()))


# POST /images/generations


@pytest.mark.parametrize("size", [256, 512, 1024])
def test_dall_e_2_draws_what_was_ordered(server, size):
    fields = {"prompt": "a cat", "n": 2, "size": f"{size}x{size}", "response_format": "b64_json"}
    first, second = drawn(post(server, "/images/generations", fields))
    assert decoded(first)[:3] == decoded(second)[:3] == (size, size, 3)
    assert first != second
    assert drawn(post(server, "/images/generations", fields)) == [first, second]
    assert server.billed(["a cat"], "dall-e-2") == [2]


def test_an_image_at_an_address_is_fetched_without_a_key(server):
    answer = post(server, "/images/generations", {"prompt": "a cat", "size": "256x256"}).json()
    address = answer["data"][0]["url"]
    assert not address.startswith(server.base_url) and set(answer) == {"created", "data"}
    fetched = requests.get(address)
    assert fetched.headers["content-type"] == "image/png" and decoded(fetched.content)[:2] == (256, 256)
    fields = {"prompt": "a cat", "size": "256x256", "response_format": "b64_json"}
    assert drawn(post(server, "/images/generations", fields)) == [fetched.content]


@pytest.mark.parametrize("header", ["Authorization", "api-key"])
def test_a_key_that_leaks_to_an_address_is_refused_and_counted(server, header):
    address = post(server, "/images/generations", {"prompt": "a cat"}).json()["data"][0]["url"]
    assert server.ledger()["leaked_keys"] == 0
    refused = requests.get(address, headers={header: "Bearer sk-secret"})
    assert refused.status_code == 400 and "InvalidAuthenticationInfo" in refused.text
    assert "sk-secret" not in refused.text
    assert server.ledger()["leaked_keys"] == 1
    assert requests.get(address).status_code == 200


def test_an_address_expires_after_an_hour_and_cannot_be_made_up():
    with Emulator() as server:
        address = post(server, "/images/generations", {"prompt": "a cat"}).json()["data"][0]["url"]
        for wrong in (
            address.replace("1024x1024", "512x512"),
            address.replace("se=20", "se=21"),
            address.split("&sig")[0],
        ):
            assert requests.get(wrong).status_code == 403
        server.turn_clock(3599)
        assert requests.get(address).status_code == 200
        server.turn_clock(2)
        expired = requests.get(address)
        assert expired.status_code == 403 and expired.headers["content-type"] == "application/xml"
        assert "<Code>AuthenticationFailed</Code>" in expired.text and "not valid in the specified time" in expired.text
        root = server.base_url.removesuffix("/v1")
        assert requests.get(root + "/files/images/none.png").status_code == 404


def test_a_fetch_meets_what_was_injected_for_it_and_nothing_else(server):
    address = post(server, "/images/generations", {"prompt": "a cat"}).json()["data"][0]["url"]
    server.inject("server_error")
    assert requests.get(address).status_code == 200
    server.inject("unavailable", path="/files/images")
    server.inject("reset", path="/files/images")
    server.inject("short_body", path="/files/images")
    server.inject({"status": 200, "body": "not a picture"}, path="/files/images")
    assert requests.get(address).status_code == 503
    for _ in range(2):
        with pytest.raises(requests.RequestException):
            requests.get(address)
    assert requests.get(address).text == "not a picture"
    assert requests.get(address).status_code == 200


def test_dall_e_3_draws_one_image_and_says_what_it_made_of_the_prompt(server):
    fields = {"model": "dall-e-3", "prompt": "a cat", "size": "1792x1024", "quality": "hd", "style": "natural"}
    row = post(server, "/images/generations", fields).json()["data"][0]
    assert "a cat" in row["revised_prompt"] and decoded(requests.get(row["url"]).content)[:2] == (1792, 1024)
    other = post(server, "/images/generations", {**fields, "style": "vivid", "response_format": "b64_json"})
    assert drawn(other)[0] != requests.get(row["url"]).content


def test_a_gpt_image_answers_with_bytes_and_usage(server):
    fields = {"model": "gpt-image-1", "prompt": "a grey cat", "n": 2, "size": "1536x1024", "quality": "low"}
    response = post(server, "/images/generations", {**fields, "background": "transparent"})
    answer = response.json()
    assert [decoded(each)[:3] for each in drawn(response)] == [(1536, 1024, 4)] * 2
    assert (answer["background"], answer["output_format"], answer["size"], answer["quality"]) == (
        "transparent",
        "png",
        "1536x1024",
        "low",
    )
    assert answer["usage"] == {
        "total_tokens": 3 + 2 * 408,
        "input_tokens": 3,
        "output_tokens": 2 * 408,
        "input_tokens_details": {"text_tokens": 3, "image_tokens": 0},
    }
    assert server.ledger()["tokens"] == 3 + 2 * 408


def test_a_parameter_of_gpt_images_alone_chooses_one(server):
    fields = {"prompt": "a cat", "background": "opaque"}
    assert "usage" in post(server, "/images/generations", fields).json()


def test_a_gpt_image_2_draws_any_size_that_can_be(server):
    fields = {"model": "gpt-image-2", "prompt": "a cat", "size": "1280x640"}
    assert decoded(drawn(post(server, "/images/generations", fields))[0])[:2] == (1280, 640)
    for size in ("1281x640", "4096x2048", "3200x1024", "640x640", "big", "1280x0640"):
        refused = error(post(server, "/images/generations", {**fields, "size": size}))
        assert refused["param"] == "size" and refused["code"] == "invalid_value"


def test_a_stream_of_images_ends_with_the_image(server):
    fields = {"model": "gpt-image-1", "prompt": "a cat", "stream": True, "partial_images": 2}
    response = post(server, "/images/generations", fields)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    assert [event["type"].partition(".")[2] for event in events] == ["partial_image", "partial_image", "completed"]
    del fields["stream"], fields["partial_images"]
    assert base64.b64decode(events[-1]["b64_json"]) == drawn(post(server, "/images/generations", fields))[0]
    assert events[-1]["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"prompt": None}, {"message": "'prompt' is a required property", "code": None, "param": None}),
        ({"prompt": ""}, {"message": "'' is too short - 'prompt'"}),
        ({"prompt": 7}, {"message": "7 is not of type 'string' - 'prompt'"}),
        (
            {"prompt": "x" * 1001},
            {
                "message": "Prompt must be length 1000 or less. Your prompt length is 1001. "
                "Please reduce your prompt length."
            },
        ),
        ({"n": 11}, {"message": "11 is greater than the maximum of 10 - 'n'"}),
        ({"n": 0}, {"message": "0 is less than the minimum of 1 - 'n'"}),
        ({"n": "2"}, {"message": "'2' is not of type 'integer' - 'n'"}),
        ({"size": "300x300"}, {"message": "'300x300' is not one of ['256x256', '512x512', '1024x1024'] - 'size'"}),
        ({"size": "1792x1024"}, {"message": "'1792x1024' is not one of ['256x256', '512x512', '1024x1024'] - 'size'"}),
        ({"response_format": "png"}, {"message": "'png' is not one of ['url', 'b64_json'] - 'response_format'"}),
        ({"user": 1}, {"message": "1 is not of type 'string' - 'user'"}),
        ({"seed": 1}, {"message": "Unrecognized request argument supplied: seed"}),
        ({"style": "vivid"}, {"message": "Unknown parameter: 'style'.", "code": "unknown_parameter"}),
        ({"model": "dall-e-3", "n": 2}, {"message": "You must provide n=1 for this model.", "code": None}),
        (
            {"model": "dall-e-3", "size": "512x512"},
            {"message": "'512x512' is not one of ['1024x1024', '1792x1024', '1024x1792'] - 'size'"},
        ),
        ({"model": "dall-e-3", "quality": "low"}, {"message": "'low' is not one of ['standard', 'hd'] - 'quality'"}),
        (
            {"model": "gpt-image-1", "response_format": "b64_json"},
            {
                "message": "Unknown parameter: 'response_format'.",
                "param": "response_format",
                "code": "unknown_parameter",
                "type": "invalid_request_error",
            },
        ),
        (
            {"model": "gpt-image-1", "size": "512x512"},
            {
                "message": "Invalid value: '512x512'. Supported values are: '1024x1024', '1024x1536', '1536x1024', "
                "and 'auto'.",
                "code": "invalid_value",
            },
        ),
        (
            {"model": "gpt-image-1", "prompt": "x" * 32_001},
            {
                "message": "Invalid 'prompt': string too long. Expected a string with maximum length 32000, but got a "
                "string with length 32001 instead.",
                "param": "prompt",
                "code": "string_above_max_length",
            },
        ),
        ({"model": "gpt-image-1", "n": 11}, {"code": "integer_above_max_value", "param": "n"}),
        ({"model": "gpt-image-1", "output_format": "webp"}, {"code": "invalid_value", "param": "output_format"}),
        ({"model": "gpt-image-1", "output_format": "bmp"}, {"code": "invalid_value", "param": "output_format"}),
        ({"model": "gpt-image-1", "output_compression": 101}, {"code": "integer_above_max_value"}),
        ({"model": "gpt-image-1", "partial_images": 4}, {"code": "integer_above_max_value"}),
        ({"prompt": "FORBIDDEN"}, {"code": "content_policy_violation", "type": "invalid_request_error"}),
        ({"prompt": "POISON-400"}, {"type": "invalid_request_error"}),
    ],
    ids=lambda value: "" if len(value) > 2 else str(value)[:40],
)
def test_an_order_that_cannot_be_is_refused_in_the_services_words(server, fields, expected):
    fields = {"prompt": "a cat", **fields}
    refused = error(post(server, "/images/generations", {k: v for k, v in fields.items() if v is not None}))
    assert {name: refused[name] for name in expected} == expected
    assert server.ledger()["billed_inputs"] == 0


def test_a_gpt_image_says_what_of_a_prompt_is_forbidden(server):
    refused = error(post(server, "/images/generations", {"model": "gpt-image-1", "prompt": "FORBIDDEN things"}))
    assert (refused["type"], refused["code"]) == ("image_generation_user_error", "moderation_blocked")
    assert refused["moderation_details"] == {"moderation_stage": "input", "categories": ["violence"]}


def test_a_model_that_draws_nothing_or_is_not_there_is_a_404(server):
    assert error(post(server, "/images/generations", {"prompt": "a", "model": "tts-1"}), 404)["param"] == "model"
    assert error(post(server, "/images/generations", {"prompt": "a", "model": "no"}), 404)["code"] == "model_not_found"
    assert post(server, "/images/generations", {"prompt": "a", "model": "painter"}).status_code == 200


# POST /images/edits and /images/variations


def test_an_edit_of_dall_e_2_takes_one_png_or_a_png_and_its_mask(server):
    fields = {"prompt": "a hat", "size": "256x256", "response_format": "b64_json"}
    alone = drawn(send(server, "/images/edits", [upload(png())], **fields, n="2"))
    assert [decoded(each)[:2] for each in alone] == [(256, 256)] * 2
    masked = [upload(png(transparent=False)), upload(png(), "mask")]
    assert drawn(send(server, "/images/edits", masked, **fields))[0] not in alone
    assert server.billed(["a hat"]) == [2]


def test_a_part_of_no_kind_is_judged_by_its_bytes_for_dall_e_2_alone(server):
    part = upload(png(), kind="application/octet-stream")
    assert send(server, "/images/edits", [part], prompt="a").status_code == 200
    refused = error(send(server, "/images/edits", [part], prompt="a", model="gpt-image-1"))
    assert refused["message"] == (
        "Invalid file 'image': unsupported mimetype ('application/octet-stream'). Supported file formats are "
        "'image/jpeg', 'image/png', and 'image/webp'."
    )


def large_png():
    """A PNG of four megabytes and more, by a chunk of text that no reader needs."""
    whole, text = png(), bytes(4 * 2**20)
    chunk = struct.pack(">I", len(text)) + b"tEXt" + text + struct.pack(">I", zlib.crc32(b"tEXt" + text))
    return whole[:33] + chunk + whole[33:]


@pytest.mark.parametrize(
    "files, message",
    [
        ([], "'image' is a required property"),
        ([upload(b"\xff\xd8\xff\xe0")], "Uploaded image must be a PNG and less than 4 MB."),
        ([upload(large_png())], "Uploaded image must be a PNG and less than 4 MB."),
        ([upload(png()[:-5])], "Uploaded image must be a PNG and less than 4 MB."),
        (
            [upload(png(), kind="image/jpeg")],
            "Invalid file 'image': unsupported mimetype ('image/jpeg'). Supported file formats are 'image/png'.",
        ),
        (
            [upload(png(10, 20))],
            "Invalid input image - expected an image with equal width and height, got 10x20 instead.",
        ),
        (
            [upload(png(transparent=False))],
            "Invalid input image - format must be in ['RGBA', 'LA', 'L'], got RGB.",
        ),
        (
            [upload(png()), upload(png(transparent=False), "mask")],
            "Invalid input mask - format must be in ['RGBA', 'LA', 'L'], got RGB.",
        ),
        ([upload(png(64)), upload(png(32), "mask")], "64x64, got 32x32"),
        ([upload(png()), upload(png())], "takes one image"),
    ],
)
def test_an_image_that_dall_e_2_cannot_edit_is_refused(server, files, message):
    refused = error(send(server, "/images/edits", [*files, ("prompt", (None, "a hat"))]))
    assert message in refused["message"] and refused["type"] == "invalid_request_error"
    assert server.ledger()["billed_inputs"] == 0


@pytest.mark.parametrize("name", ["image", "image[]"])
def test_a_gpt_image_edits_up_to_sixteen_images_of_three_kinds(server, name):
    jpeg, webp = b"\xff\xd8\xff\xe0 a photo", b"RIFF\0\0\0\0WEBP a photo"
    kinds = [(png(), "a.png", "image/png"), (jpeg, "a.jpg", "image/jpeg"), (webp, "a.webp", "image/webp")]
    parts = [upload(data, name, filename, kind) for data, filename, kind in kinds]
    fields = {"prompt": "a hat", "model": "gpt-image-1", "size": "1024x1024", "input_fidelity": "high"}
    answer = send(server, "/images/edits", [*parts, upload(png(), "mask")], **fields).json()
    assert answer["usage"]["input_tokens_details"]["image_tokens"] > 0
    assert send(server, "/images/edits", [upload(png(), name)] * 16, **fields).status_code == 200
    refused = error(send(server, "/images/edits", [upload(png(), name)] * 17, **fields))
    assert refused["code"] == "array_above_max_length" and "maximum length 16" in refused["message"]


@pytest.mark.parametrize(
    "files, expected",
    [
        ([("image", (None, "data:image/png;base64,AAAA"))], {"code": "invalid_type", "param": "image"}),
        ([("user", (None, "me"))], {"code": "missing_required_parameter", "param": "image"}),
        ([upload(png()[:-5])], {"code": "invalid_image_file"}),
        ([upload(b"not a picture")], {"code": "invalid_image_file", "type": "image_generation_user_error"}),
        ([upload(png()), upload(png(transparent=False), "mask")], {"code": "invalid_mask_image_format"}),
        ([upload(png(64)), upload(png(32), "mask")], {"code": "invalid_mask_image_format"}),
    ],
)
def test_an_image_that_a_gpt_image_cannot_edit_is_refused(server, files, expected):
    parts = [*files, ("prompt", (None, "a hat")), ("model", (None, "gpt-image-1"))]
    refused = error(send(server, "/images/edits", parts))
    assert {name: refused[name] for name in expected} == expected


def test_a_form_larger_than_other_bodies_may_be_is_read_where_images_are_uploaded(server):
    big = [upload(png() + bytes(30_000_000))]
    refused = error(send(server, "/images/edits", big, prompt="a"))
    assert refused["message"] == "Uploaded image must be a PNG and less than 4 MB."
    fields = {"prompt": "a", "model": "gpt-image-1"}
    assert send(server, "/images/edits", [upload(b"\xff\xd8\xff" + bytes(30_000_000))], **fields).status_code == 200
    too_large = [upload(b"\xff\xd8\xff" + bytes(50 * 2**20))]
    assert error(send(server, "/images/edits", too_large, **fields))["code"] == "file_too_large"


def test_a_variation_is_billed_by_its_image(server):
    image = png(transparent=False)
    fields = {"n": "2", "size": "512x512", "response_format": "b64_json"}
    first, second = drawn(send(server, "/images/variations", [upload(image)], **fields))
    assert decoded(first)[:2] == (512, 512) and first != second
    assert server.billed([hashlib.sha256(image).hexdigest()], "dall-e-2") == [1]
    assert drawn(send(server, "/images/variations", [upload(png(seed=b"another"))], **fields))[0] != first


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"n": "11"}, "11 is greater than the maximum of 10 - 'n'"),
        ({"n": "two"}, "'two' is not of type 'integer' - 'n'"),
        ({"size": "1024x1536"}, "'1024x1536' is not one of ['256x256', '512x512', '1024x1024'] - 'size'"),
        ({"prompt": "a"}, "Unrecognized request argument supplied: prompt"),
        ({"model": "gpt-image-1"}, "Invalid value: 'gpt-image-1'. Supported values are: 'dall-e-2'."),
    ],
)
def test_a_variation_that_cannot_be_is_refused(server, fields, message):
    assert error(send(server, "/images/variations", [upload(png())], **fields))["message"] == message


def test_json_is_no_form(server):
    assert error(post(server, "/images/variations", {}), 415)


# POST /audio/speech


def speech(server, input="Hello, is it me?", **fields):
    return post(server, "/audio/speech", {"model": "tts-1", "voice": "alloy", "input": input, **fields})


def test_speech_is_a_real_wav_with_a_tone_for_each_word(server):
    response = speech(server, response_format="wav")
    assert response.headers["content-type"] == "audio/wav"
    with wave.open(io.BytesIO(response.content)) as audio:
        assert (audio.getnchannels(), audio.getsampwidth(), audio.getframerate()) == (1, 2, 24_000)
        assert audio.getnframes() == 24_000 * 0.15 + 16 * 240
        samples = struct.unpack(f"<{audio.getnframes()}h", audio.readframes(audio.getnframes()))
    assert max(samples) > 7000 and min(samples) < -7000 and not any(samples[6 * 240 : 7 * 240])
    assert server.billed(["Hello, is it me?"], "tts-1") == [1]
    assert speech(server, response_format="wav", voice="nova").content != response.content


def test_raw_samples_are_those_of_the_wav(server):
    raw, whole = speech(server, response_format="pcm"), speech(server, response_format="wav").content
    assert raw.headers["content-type"] == "audio/pcm" and whole.endswith(raw.content) and len(raw.content) > 1000


@pytest.mark.parametrize("speed", [0.25, 1, 4])
def test_speech_is_as_long_as_its_text_at_its_speed(server, speed):
    audio = speech(server, "x" * 100, response_format="wav", speed=speed).content
    assert sounds.listen(audio).seconds == pytest.approx(0.15 + 1 / speed)


def test_an_mp3_is_frames_of_the_right_length(server):
    response = speech(server, "x" * 200)
    assert response.headers["content-type"] == "audio/mpeg" and response.content[:3] == b"ID3"
    size = 0
    for byte in response.content[6:10]:
        size = size << 7 | byte
    frames = response.content[10 + size :]
    bits = int.from_bytes(frames[:4], "big")
    # MPEG 2, layer III, no checksum; 32 kbit/s, 24 kHz, no padding; mono: 72 * 32000 / 24000 bytes a frame.
    assert (
        bits >> 16 == 0b11111111_11110011 and bits >> 10 & 63 == 0b010001 and bits >> 9 & 1 == 0 and bits >> 6 & 3 == 3
    )
    assert len(frames) % 96 == 0 and all(frames[at : at + 4] == frames[:4] for at in range(0, len(frames), 96))
    assert len(frames) // 96 * 0.024 == pytest.approx(2.15, abs=0.024)


def test_a_flac_says_its_length_and_has_a_frame_for_each_block(server):
    audio = speech(server, "x" * 400, response_format="flac").content
    assert audio[:4] == b"fLaC" and sounds.listen(audio).seconds == pytest.approx(4.15, abs=0.024)
    frames = audio[audio.index(b"\xff\xf8") :]
    # Past frame 127 its number takes two bytes.
    assert len(frames) == 128 * 11 + (int(4.15 * 24_000) // 576 + 1 - 128) * 12


def crc(data, polynomial, bits):
    value = int.from_bytes(data, "big") << bits
    for at in range(value.bit_length() - 1, bits - 1, -1):
        if value >> at & 1:
            value ^= (1 << bits | polynomial) << at - bits
    return value


def test_the_checksums_of_a_flac_are_right():
    audio = sounds.flac(sounds.speak("x" * 4000, "alloy", 0.25), "")
    frames = audio[audio.index(b"\xff\xf8") :]
    last = frames[frames.rindex(b"\xff\xf8") :]
    assert len(last) == 13, "a number of three bytes"
    for frame in (frames[:11], last):
        assert crc(frame[:-6], 0x07, 8) == frame[-6] and crc(frame[:-2], 0x8005, 16) == int.from_bytes(
            frame[-2:], "big"
        )
    assert ord(last[4:7].decode()) == round(sounds.listen(audio).seconds * 24_000 / 576) - 1


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"input": "x" * 4097}, "String should have at most 4096 characters"),
        ({"input": ""}, "String should have at least 1 character"),
        ({"input": None}, "'loc': ('body', 'input'), 'msg': 'Field required'"),
        ({"voice": None}, "'loc': ('body', 'voice'), 'msg': 'Field required'"),
        (
            {"voice": "marin"},
            "Input should be 'nova', 'shimmer', 'echo', 'onyx', 'fable', 'alloy', 'ash', 'sage' or 'coral'",
        ),
        ({"speed": 0.2}, "Input should be greater than or equal to 0.25"),
        ({"speed": 4.1}, "Input should be less than or equal to 4"),
        ({"speed": "fast"}, "Input should be a valid number"),
        ({"response_format": "midi"}, "Input should be 'mp3', 'opus', 'aac', 'flac', 'wav' or 'pcm'"),
        ({"response_format": "opus"}, "The emulator has no encoder for 'opus'"),
        ({"response_format": "aac"}, "The emulator has no encoder for 'aac'"),
        ({"instructions": "softly"}, "Unsupported parameter: 'instructions' is not supported with this model."),
        ({"stream_format": "sse"}, "stream_format 'sse' is not compatible with model 'tts-1'"),
        ({"language": "en"}, "Unrecognized request argument supplied: language"),
    ],
)
def test_speech_that_cannot_be_is_refused(server, fields, expected):
    fields = {"model": "tts-1", "voice": "alloy", "input": "a", **fields}
    refused = error(post(server, "/audio/speech", {k: v for k, v in fields.items() if v is not None}))
    assert expected in refused["message"] and refused["type"] == "invalid_request_error"


def test_newer_voices_and_instructions_are_for_newer_models(server):
    newer = {"model": "gpt-4o-mini-tts", "instructions": "softly"}
    for voice in ("marin", {"id": "voice_1234"}):
        assert speech(server, **newer, voice=voice).status_code == 200
    assert speech(server, model="talker", voice="af_bella").status_code == 200
    assert "Input should be" in error(speech(server, **newer, voice="af_bella"))["message"]


def test_streamed_speech_is_the_same_audio(server):
    fields = {"model": "gpt-4o-mini-tts", "response_format": "wav"}
    lines = speech(server, "x" * 300, **fields, stream_format="sse").text.splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert len(events) > 2 and audio == speech(server, "x" * 300, **fields).content
    assert events[-1]["type"] == "speech.audio.done" and events[-1]["usage"]["total_tokens"] > 0


# POST /audio/transcriptions and /audio/translations


def transcribe(server, audio, filename="a.wav", path="/audio/transcriptions", model="whisper-1", **fields):
    parts = [
        (name, (None, each))
        for name, value in fields.items()
        for each in ([value] if isinstance(value, str) else value)
    ]
    return send(server, path, [upload(audio, "file", filename, "audio/wav"), *parts], model=model)


def noise(seconds, seed=0):
    """A WAV that nobody spoke."""
    written = io.BytesIO()
    with wave.open(written, "wb") as audio:
        audio.setparams((2, 2, 8000, 0, "NONE", ""))
        audio.writeframes(random.Random(seed).randbytes(int(seconds * 32_000)))
    return written.getvalue()


@pytest.mark.parametrize("spoken", ["Hello, is it me?", "  été 東京 🦊\n\nnext ", "x", "odd"])
@pytest.mark.parametrize("kind", ["wav", "mp3", "flac"])
def test_what_was_spoken_here_is_heard_to_the_letter(server, spoken, kind):
    audio = speech(server, spoken, response_format=kind).content
    assert transcribe(server, audio, f"a.{kind}").json()["text"] == spoken
    assert server.billed([hashlib.sha256(audio).hexdigest()], "whisper-1") == [1]


def test_other_audio_says_words_by_its_bytes_for_as_long_as_it_lasts(server):
    short, long = transcribe(server, noise(2)).json(), transcribe(server, noise(20)).json()
    assert short["usage"] == {"type": "duration", "seconds": 2} and long["usage"]["seconds"] == 20
    assert (len(short["text"].split()), len(long["text"].split())) == (5, 50)
    assert transcribe(server, noise(2)).json() == short != transcribe(server, noise(2, seed=1)).json()
    assert transcribe(server, b"no audio at all", "a.MP3").json()["text"]


def test_plain_formats_come_as_plain_text(server):
    audio = speech(server, "One sentence. Another one.", response_format="wav").content
    answers = {name: transcribe(server, audio, response_format=name) for name in ("text", "srt", "vtt")}
    assert all(each.headers["content-type"].startswith("text/plain") for each in answers.values())
    assert answers["text"].text == "One sentence. Another one.\n"
    assert answers["srt"].text == (
        "1\n00:00:00,000 --> 00:00:00,213\nOne sentence.\n\n2\n00:00:00,213 --> 00:00:00,410\nAnother one.\n\n"
    )
    assert answers["vtt"].text == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:00.213\nOne sentence.\n\n00:00:00.213 --> 00:00:00.410\nAnother one.\n\n"
    )


def test_a_verbose_answer_has_segments_and_words_where_they_were_asked_for(server):
    audio = noise(30)
    answer = transcribe(server, audio, response_format="verbose_json", language="de", temperature="0.5").json()
    assert (answer["task"], answer["language"], answer["duration"]) == ("transcribe", "german", 30.0)
    assert "".join(segment["text"] for segment in answer["segments"]) == f" {answer['text']}"
    assert answer["segments"][0]["start"] == 0 and answer["segments"][-1]["end"] == 30
    assert [segment["id"] for segment in answer["segments"]] == list(range(len(answer["segments"])))
    assert answer["segments"][0]["temperature"] == 0.5 and "words" not in answer
    fields = {"response_format": "verbose_json", "timestamp_granularities[]": ["word"]}
    words = transcribe(server, audio, **fields).json()
    assert [word["word"] for word in words["words"]] == answer["text"].replace(".", "").split()
    assert "segments" not in words and words["words"][-1]["end"] == 30
    both = transcribe(server, audio, **{**fields, "timestamp_granularities[]": ["word", "segment"]}).json()
    assert both["words"] == words["words"] and len(both["segments"]) == len(answer["segments"])


def test_a_gpt_model_counts_tokens_and_gives_log_probabilities(server):
    audio = speech(server, "Hello, is it me?", response_format="wav").content
    fields = {"model": "gpt-4o-transcribe", "prompt": "songs"}
    answer = transcribe(server, audio, **fields, **{"include[]": "logprobs"}).json()
    assert answer["usage"] == {
        "type": "tokens",
        "total_tokens": 2 + 4 + 4,
        "input_tokens": 2 + 4,
        "input_token_details": {"text_tokens": 2, "audio_tokens": 4},
        "output_tokens": 4,
    }
    assert "".join(each["token"] for each in answer["logprobs"]) == "Hello, is it me?"
    assert all(each["logprob"] <= 0 and bytes(each["bytes"]).decode() == each["token"] for each in answer["logprobs"])
    assert "logprobs" not in transcribe(server, audio, **fields).json()


def test_a_stream_of_a_transcript_is_its_text_and_whisper_does_not_stream(server):
    audio = noise(4)
    whole = transcribe(server, audio, model="gpt-4o-transcribe").json()
    streamed = transcribe(server, audio, model="gpt-4o-transcribe", stream="true")
    events = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: ")]
    assert "".join(event["delta"] for event in events[:-1]) == events[-1]["text"] == whole["text"]
    assert events[-1]["usage"] == whole["usage"]
    assert transcribe(server, audio, stream="true").json()["text"] == whole["text"]


def test_the_diarizing_model_says_who_speaks_and_wants_long_audio_cut(server):
    fields = {"model": "gpt-4o-transcribe-diarize", "response_format": "diarized_json"}
    answer = transcribe(server, noise(30), **fields, **{"known_speaker_names[]": ["agent"]}).json()
    assert [segment["speaker"] for segment in answer["segments"][:3]] == ["agent", "A", "agent"]
    assert answer["segments"][-1]["end"] == answer["duration"] == 30
    refused = error(transcribe(server, noise(31), **fields))
    assert (refused["param"], refused["code"]) == ("chunking_strategy", "invalid_value")
    for strategy in ({"chunking_strategy": "auto"}, {"chunking_strategy[type]": "server_vad"}):
        assert transcribe(server, noise(31), **fields, **strategy).status_code == 200


def test_a_translation_is_in_english_and_has_no_usage(server):
    audio = speech(server, "Guten Tag.", response_format="wav").content
    path = "/audio/translations"
    assert transcribe(server, audio, path=path).json() == {"text": "Guten Tag."}
    verbose = transcribe(server, audio, path=path, response_format="verbose_json").json()
    assert (verbose["task"], verbose["language"]) == ("translate", "english")
    refused = error(transcribe(server, audio, path=path, language="de"))
    assert refused["message"] == "Unrecognized request argument supplied: language"
    assert error(transcribe(server, audio, path=path, model="gpt-4o-transcribe"), 404)


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"filename": "a.txt"}, {"message": SHOWN, "code": None}),
        ({"filename": "wav"}, {"message": SHOWN}),
        ({"audio": b""}, {"code": "audio_too_short", "param": "file"}),
        ({"audio": noise(0.05)}, {"code": "audio_too_short"}),
        ({"model": ""}, {"message": "you must provide a model parameter"}),
        ({"language": "german"}, {"code": "invalid_language_format"}),
        ({"language": "la"}, {"code": "unsupported_language", "message": "Language 'la' is not supported."}),
        ({"response_format": "diarized_json"}, {"code": "unsupported_value", "param": "response_format"}),
        (
            {"model": "gpt-4o-transcribe", "response_format": "verbose_json"},
            {
                "message": "response_format 'verbose_json' is not compatible with model 'gpt-4o-transcribe'. "
                "Use 'json' or 'text' instead.",
                "code": "unsupported_value",
            },
        ),
        ({"include[]": "logprobs"}, {"code": "unsupported_parameter"}),
        ({"timestamp_granularities[]": "word"}, {"param": "timestamp_granularities"}),
        ({"model": "gpt-4o-transcribe-diarize", "prompt": "a"}, {"code": "unsupported_parameter"}),
        ({"seed": "1"}, {"message": "Unrecognized request argument supplied: seed"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) and len(str(value)) < 60 else "",
)
def test_audio_that_cannot_be_transcribed_is_refused(server, fields, expected):
    refused = error(transcribe(server, **{"audio": noise(1), **fields}))
    assert {name: refused[name] for name in expected} == expected
    assert server.ledger()["billed_inputs"] == 0


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"temperature": "1.1"}, "Input should be less than or equal to 1"),
        ({"temperature": "-0.1"}, "Input should be greater than or equal to 0"),
        ({"temperature": "warm"}, "Input should be a valid number"),
        ({"temperature": "nan"}, "Input should be a valid number"),
        ({"response_format": "xml"}, "Input should be 'json', 'text', 'srt', 'verbose_json', 'vtt' or 'diarized_json'"),
        (
            {"response_format": "verbose_json", "timestamp_granularities[]": "line"},
            "Input should be 'word' or 'segment'",
        ),
        ({"stream": "maybe"}, "Input should be a valid boolean"),
    ],
)
def test_a_parameter_for_audio_is_refused_in_its_validators_words(server, fields, expected):
    assert expected in error(transcribe(server, noise(1), **fields))["message"]


def test_a_file_must_be_there(server):
    refused = error(send(server, "/audio/transcriptions", [("model", (None, "whisper-1"))]))
    assert "'loc': ('body', 'file'), 'msg': 'Field required'" in refused["message"]


def test_audio_of_more_than_25_megabytes_is_a_413_that_says_server_error(server):
    refused = error(transcribe(server, bytes(26_214_401)), 413)
    assert refused["type"] == "server_error" and refused["message"].startswith(
        "Maximum content size limit (26214400) exceeded ("
    )
    assert transcribe(server, bytes(26_000_000), "a.mp3").status_code == 200


def test_a_custom_model_transcribes_as_whisper_does(server):
    assert transcribe(server, noise(1), model="scribe", response_format="srt").text.startswith("1\n00:00:00,000")


def test_a_span_of_more_than_an_hour_is_written_as_such():
    assert "01:01:01.500 --> " in transcripts.vtt([transcripts.Span("a", 3661.5, 3662)])


def test_tokens_of_a_transcript_are_all_of_it():
    for text in ("", " ", "a  b\nc ", "word"):
        assert "".join(transcripts.TOKEN.findall(text)) == text


# POST /moderations


def moderate(server, input, **fields):
    return post(server, "/moderations", {"input": input, **fields})


def test_a_moderation_has_a_result_for_each_text_in_order(server):
    answer = moderate(server, ["I will kill you", "a nice day", "", "you idiot"]).json()
    assert answer["id"].startswith("modr-") and answer["model"] == "omni-moderation-latest"
    assert [result["flagged"] for result in answer["results"]] == [True, False, False, True]
    first, second = answer["results"][:2]
    assert first["categories"]["violence"] and first["category_scores"]["violence"] > 0.9
    assert set(first) == {"flagged", "categories", "category_scores", "category_applied_input_types"}
    assert all(0 < score < 0.01 for score in second["category_scores"].values())
    for result in answer["results"]:
        flags = {name: score >= 0.5 for name, score in result["category_scores"].items()}
        assert result["categories"] == flags and result["flagged"] == any(flags.values())
    assert server.billed(["I will kill you", "a nice day", "", "you idiot"]) == [1, 1, 1, 1]
    assert moderate(server, "a nice day").json()["results"] == [second]


@pytest.mark.parametrize(
    "model, count, named",
    [
        ("omni-moderation-latest", CATEGORIES, "omni-moderation-latest"),
        ("text-moderation-latest", 11, "text-moderation-007"),
        ("text-moderation-stable", 7, "text-moderation-007"),
    ],
)
def test_each_model_knows_its_own_categories(server, model, count, named):
    answer = moderate(server, "steal a bomb", model=model).json()
    result = answer["results"][0]
    assert answer["model"] == named and len(result["categories"]) == count + 2
    assert ("illicit" in result["categories"]) == ("category_applied_input_types" in result) == (count == CATEGORIES)


def test_categories_that_nobody_knows_are_flagged_by_their_names(server):
    flagged, clean = moderate(server, ["links to SPAM", "a link"]).json()["results"]
    assert flagged["categories"]["spam/links"] and not flagged["categories"]["malware"]
    assert not clean["flagged"] and "spam/links" in clean["categories"]


def test_a_text_and_an_image_are_judged_together(server):
    image = {"type": "image_url", "image_url": {"url": "https://example.com/blood.png"}}
    answer = moderate(server, [{"type": "text", "text": "you idiot"}, image]).json()
    result = answer["results"][0]
    assert len(answer["results"]) == 1
    assert result["categories"]["violence/graphic"] and result["categories"]["harassment"]
    kinds = result["category_applied_input_types"]
    assert kinds["violence"] == ["text", "image"] and kinds["harassment"] == ["text"]
    address = hashlib.sha256(b"https://example.com/blood.png").hexdigest()
    assert server.billed(["you idiot", address]) == [1, 1]
    alone = moderate(server, [image]).json()["results"][0]
    assert alone["category_applied_input_types"]["harassment"] == [] and alone["category_scores"]["harassment"] == 0
    packed = {"type": "image_url", "image_url": {"url": "data:image/png;base64,kill"}}
    assert not moderate(server, [packed]).json()["results"][0]["flagged"]


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({}, {"message": "'input' is a required property"}),
        ({"input": []}, {"type": "invalid_request_error"}),
        ({"input": 7}, {"type": "invalid_request_error"}),
        ({"input": ["a", None]}, {"type": "invalid_request_error"}),
        ({"input": ["a", {"type": "text", "text": "a"}]}, {"type": "invalid_request_error"}),
        ({"input": [{"type": "sound"}]}, {"type": "invalid_request_error"}),
        (
            {"input": [{"type": "image_url", "image_url": {"url": "https://x/y"}}] * 2},
            {"message": "Number of images (2) exceeds maximum of 1", "param": "input", "code": "too_many_images"},
        ),
        ({"input": [{"type": "image_url", "image_url": {"url": "y.png"}}]}, {"code": "invalid_image_url"}),
        ({"input": [{"type": "image_url"}]}, {"code": "missing_required_parameter"}),
        ({"input": [{"type": "text", "text": "a"}], "model": "text-moderation-latest"}, {"code": None}),
        ({"input": ["a"] * 2049}, {"code": "array_above_max_length", "param": "input"}),
        ({"input": "POISON-400"}, {"type": "invalid_request_error"}),
        ({"input": "a", "user": "me"}, {"message": "Unrecognized request argument supplied: user"}),
    ],
)
def test_what_cannot_be_moderated_is_refused(server, fields, expected):
    refused = error(post(server, "/moderations", fields))
    assert {name: refused[name] for name in expected} == expected


def test_a_poisoned_text_is_a_500(server):
    assert error(moderate(server, ["a", "POISON-500"]), 500)["type"] == "server_error"
    assert error(speech(server, "POISON-500"), 500)["type"] == "server_error"


# Faults


@pytest.mark.parametrize("fault", ["shuffled", "missing", "truncated", "no_usage", "nan"])
def test_a_fault_that_spoils_json_leaves_other_bodies_alone(server, fault):
    whole = speech(server, response_format="wav").content
    server.inject(fault, path="/audio/speech")
    assert speech(server, response_format="wav").content == whole
    server.inject(fault, path="/audio/transcriptions")
    assert transcribe(server, whole, response_format="text").text == "Hello, is it me?\n"


def test_a_broken_connection_cuts_audio_short(server):
    server.inject("short_body", path="/audio/speech")
    with pytest.raises(requests.RequestException):
        speech(server, response_format="wav")


def test_moderations_lose_rows_to_faults(server):
    server.inject("missing", path="/moderations")
    assert len(moderate(server, ["a", "b", "c"]).json()["results"]) == 2
