"""All that the old `openai` client asks of a server: `check_legacy.py BASE_URL`, with openai 0.28.1.

Ends with status 0 if the client understood every answer, and each was what it should be. The server is
an emulator: its clock is turned.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
import struct
import sys
import threading
import time
import urllib.request
import wave
import zlib

import openai

EXAMPLE = {"prompt": "a", "completion": "b"}
CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


def main() -> None:
    openai.api_base, openai.api_key = sys.argv[1], "sk-of-nobody"
    for check in (
        *(engines, files, fine_tunes, stream_events, failed_fine_tune, fine_tuning),
        *(completions, chat, edits, embeddings, moderations, images, audio),
    ):
        check()
        print(f"{check.__name__}: as it should be")


def turn_clock(seconds: float) -> None:
    """Makes it later for the server."""
    url = openai.api_base.removesuffix("/v1") + "/emulator/clock"
    urllib.request.urlopen(url, json.dumps({"forward": seconds}).encode(), timeout=30).close()


def refused(kind: type[openai.error.OpenAIError], call: object, *args: object, **fields: object) -> dict[str, object]:
    """The error that a call must end with, as the server wrote it."""
    try:
        call(*args, **fields)
    except kind as error:
        return error.json_body["error"]
    raise AssertionError(f"{fields} was not refused")


def upload(rows: list[object], purpose: str = "fine-tune") -> str:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return openai.File.create(file=io.BytesIO(text.encode()), purpose=purpose).id


def engines() -> None:
    listed = openai.Engine.list()
    assert {"ada", "davinci"} <= {engine.id for engine in listed.data}
    engine = openai.Engine.retrieve("ada")
    assert (engine.object, engine.owner, engine.ready) == ("engine", "openai", True)
    model = openai.Model.retrieve("ada")
    assert model.object == "model" and "ada" in [each.id for each in openai.Model.list().data]
    assert refused(openai.error.InvalidRequestError, openai.Model.retrieve, "none")["code"] == "model_not_found"
    assert "api.delete" in refused(openai.error.PermissionError, openai.Model.delete, "ada")["message"]


def files() -> None:
    data = '{"prompt": "é\u2028", "completion": "b"}\n'.encode()
    made = openai.File.create(file=io.BytesIO(data), purpose="fine-tune", user_provided_filename="été.jsonl")
    assert (made.object, made.filename, made.bytes, made.status) == ("file", "été.jsonl", len(data), "uploaded")
    turn_clock(1)
    assert openai.File.retrieve(made.id).status == "processed"
    assert openai.File.download(made.id) == data
    assert openai.File.list().data[0].id == made.id
    found = openai.File.find_matching_files("été.jsonl", len(data), purpose="fine-tune")
    assert [file["id"] for file in found] == [made.id]
    for purpose, row in (
        ("search", {"text": "a"}),
        ("answers", {"text": "a", "metadata": "b"}),
        ("classifications", {"text": "a", "label": "b"}),
    ):
        assert openai.File.retrieve(upload([row], purpose)).purpose == purpose
        error = refused(openai.error.InvalidRequestError, upload, [{}], purpose)
        assert "Expected file to have JSONL format" in error["message"]
    assert openai.File.delete(made.id).deleted
    error = refused(openai.error.InvalidRequestError, openai.File.retrieve, made.id)
    assert error["message"] == f"No such File object: {made.id}"


def fine_tunes() -> None:
    rows = upload([EXAMPLE] * 20)
    made = openai.FineTune.create(training_file=rows, validation_file=rows, model="ada", n_epochs=2, suffix="mine")
    assert made.status == "pending" and made.training_files[0].id == rows and made.hyperparams.n_epochs == 2
    assert made.id in [tune.id for tune in openai.FineTune.list().data]
    turn_clock(600)
    done = openai.FineTune.retrieve(made.id)
    assert done.status == "succeeded" and done.fine_tuned_model.startswith("ada:ft-emulator:mine-")
    events = openai.FineTune.list_events(made.id).data
    assert events == done.events and events[-1].message == "Fine-tune succeeded"
    table = openai.File.download(done.result_files[0].id).decode()
    assert float(next(csv.DictReader(table.splitlines()))["training_loss"]) > 0
    answer = openai.Completion.create(model=done.fine_tuned_model, prompt="a", max_tokens=4)
    assert answer.model == done.fine_tuned_model and answer.choices[0].text
    assert openai.Model.delete(done.fine_tuned_model).deleted
    error = refused(openai.error.InvalidRequestError, openai.FineTune.cancel, made.id)
    assert 'already has status "succeeded"' in error["message"]
    error = refused(openai.error.InvalidRequestError, openai.FineTune.create, training_file=rows, n_epochs=0)
    assert error["message"] == "0 is less than the minimum of 1 - 'n_epochs'"
    made = openai.FineTune.create(training_file=rows)
    assert made.model == "curie" and openai.FineTune.cancel(made.id).status == "cancelled"


def stream_events() -> None:
    made = openai.FineTune.create(training_file=upload([EXAMPLE] * 20)).id

    def pass_time() -> None:
        for _ in range(7):
            time.sleep(0.1)
            turn_clock(100)

    passing = threading.Thread(target=pass_time)
    passing.start()
    streamed = list(openai.FineTune.stream_events(made))
    passing.join()
    assert streamed == openai.FineTune.list_events(made).data
    assert [event.message for event in streamed if event.message.startswith("Completed")] == [
        f"Completed epoch {epoch}/4" for epoch in range(1, 5)
    ]

    async def again() -> list[object]:
        return [event async for event in await openai.FineTune.astream_events(made)]

    assert asyncio.run(again()) == streamed


def failed_fine_tune() -> None:
    made = openai.FineTune.create(training_file=upload([EXAMPLE, {"prompt": "FAIL-TRAINING", "completion": "b"}]))
    turn_clock(600)
    events = list(openai.FineTune.stream_events(made.id))
    assert openai.FineTune.retrieve(made.id).status == "failed" and events[-1].level == "error"


def fine_tuning() -> None:
    made = openai.FineTuningJob.create(training_file=upload([CHAT] * 10), model="gpt-3.5-turbo", suffix="mine")
    turn_clock(600)
    done = openai.FineTuningJob.retrieve(made.id)
    assert done.status == "succeeded" and done.fine_tuned_model.startswith("ft:gpt-3.5-turbo-0125:emulator:mine:")
    assert openai.FineTuningJob.list(limit=1).data[0].id == made.id
    events = openai.FineTuningJob.list_events(id=made.id, limit=3).data
    assert len(events) == 3 and events[0].message == "The job has successfully completed"
    refused(openai.error.InvalidRequestError, openai.FineTuningJob.cancel, made.id)


def completions() -> None:
    answer = openai.Completion.create(
        model="text-davinci-003", prompt=["one", "two"], n=2, max_tokens=5, logprobs=2, echo=True, best_of=3
    )
    assert answer.object == "text_completion" and answer.usage.total_tokens > answer.usage.prompt_tokens > 0
    assert sorted(choice.index for choice in answer.choices) == [0, 1, 2, 3]
    by_index = {choice.index: choice for choice in answer.choices}
    assert by_index[0].text.startswith("one") and by_index[2].text.startswith("two")
    assert len(by_index[0].logprobs.tokens) == len(by_index[0].logprobs.token_logprobs)
    asked = {"model": "text-davinci-003", "prompt": "one", "max_tokens": 8}
    whole = openai.Completion.create(**asked).choices[0]
    pieces = [piece.choices[0] for piece in openai.Completion.create(**asked, stream=True)]
    assert "".join(piece.text for piece in pieces) == whole.text
    assert pieces[-1].finish_reason == whole.finish_reason == "length"
    error = refused(openai.error.InvalidRequestError, openai.Completion.create, **{**asked, "temperature": 2.1})
    assert "2.1 is greater than the maximum of 2" in error["message"] or "temperature" in error["message"]


def chat() -> None:
    asked = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 30}
    whole = openai.ChatCompletion.create(**asked, n=2)
    assert whole.object == "chat.completion" and len(whole.choices) == 2
    assert whole.choices[0].message.role == "assistant" and whole.choices[0].message.content
    pieces = list(openai.ChatCompletion.create(**asked, stream=True))
    assert pieces[0].object == "chat.completion.chunk" and pieces[0].choices[0].delta.role == "assistant"
    text = "".join(piece.choices[0].delta.get("content") or "" for piece in pieces)
    assert text == openai.ChatCompletion.create(**asked).choices[0].message.content
    assert pieces[-1].choices[0].finish_reason in ("stop", "length")
    function = {"name": "look_up", "parameters": {"type": "object", "properties": {"word": {"type": "string"}}}}
    called = openai.ChatCompletion.create(**asked, functions=[function], function_call={"name": "look_up"})
    assert called.choices[0].message.function_call.name == "look_up"
    json.loads(called.choices[0].message.function_call.arguments)

    async def streamed() -> str:
        answer = await openai.ChatCompletion.acreate(**asked, stream=True)
        return "".join([piece.choices[0].delta.get("content") or "" async for piece in answer])

    assert asyncio.run(streamed()) == text


def edits() -> None:
    answer = openai.Edit.create(model="text-davinci-edit-001", input="teh cat", instruction="Mend the spelling", n=2)
    assert answer.object == "edit" and [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].text and answer.usage.total_tokens > 0
    error = refused(openai.error.InvalidRequestError, openai.Edit.create, model="text-davinci-edit-001", input="a")
    assert error["message"] == "'instruction' is a required property"


def embeddings() -> None:
    # Without a format the client asks for base64, and for numpy to unpack it with.
    asked = {"model": "text-embedding-ada-002", "input": ["one", "two"]}
    answer = openai.Embedding.create(**asked, encoding_format="float")
    assert [row.index for row in answer.data] == [0, 1] and len(answer.data[0].embedding) == 1536
    assert abs(sum(number * number for number in answer.data[0].embedding) - 1) < 1e-3
    packed = openai.Embedding.create(**asked, encoding_format="base64").data[0].embedding
    numbers = struct.unpack("<1536f", base64.b64decode(packed))
    assert all(abs(one - other) < 1e-6 for one, other in zip(numbers, answer.data[0].embedding))
    refused(openai.error.InvalidRequestError, openai.Embedding.create, **{**asked, "input": [""]})


def moderations() -> None:
    answer = openai.Moderation.create(input=["a nice day", "a nice cat"])
    assert answer.id.startswith("modr-") and len(answer.results) == 2
    result = answer.results[0]
    assert result.flagged is False and result.categories["hate"] is False and 0 <= result.category_scores["hate"] < 1
    assert openai.Moderation.create(input="a", model="text-moderation-stable").results


def images() -> None:
    made = openai.Image.create(prompt="a cat", n=2, size="256x256")
    for image in made.data:
        with urllib.request.urlopen(image.url, timeout=30) as fetched:
            assert size(fetched.read()) == (256, 256)
    packed = openai.Image.create(prompt="a cat", size="512x512", response_format="b64_json")
    assert size(base64.b64decode(packed.data[0].b64_json)) == (512, 512)
    square = png(64, 64)
    edited = openai.Image.create_edit(image=square, mask=square, prompt="a hat", n=1, size="256x256")
    varied = openai.Image.create_variation(image=square, n=2, size="256x256")
    assert len(edited.data) == 1 and len(varied.data) == 2
    refused(openai.error.InvalidRequestError, openai.Image.create, prompt="a cat", size="300x300")


def png(width: int, height: int) -> bytes:
    """A PNG of see-through pixels, by its specification."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    pixels = zlib.compress(bytes(height * (1 + 4 * width)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def size(image: bytes) -> tuple[int, ...]:
    """Width and height of a PNG."""
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack_from(">II", image, 16)


def audio() -> None:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(32_000))
    sound.name = "a.wav"
    for call in (openai.Audio.transcribe, openai.Audio.translate):
        sound.seek(0)
        assert call("whisper-1", sound).text is not None
        sound.seek(0)
        assert "-->" in call("whisper-1", sound, response_format="vtt")
    sound.seek(0)
    sound.name = "a.txt"
    refused(openai.error.InvalidRequestError, openai.Audio.transcribe, "whisper-1", sound)


if __name__ == "__main__":
    main()
