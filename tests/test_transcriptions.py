"""What is said in recordings, and that in English: which are sent, what answers are taken for, and whole runs."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import QUICK, run
from test_cli import run as command
from test_contract import asked
from test_parquet import Bucket

from beam_openai import API, Quota, column
from beam_openai.client import Response, StoredFile
from beam_openai.emulator.media import sounds
from beam_openai.endpoints.transcriptions import Transcriptions
from beam_openai.endpoints.translations import Translations
from beam_openai.errors import BadAnswerError
from beam_openai.recordings.sent import MOST_BYTES

pytestmark = pytest.mark.usefixtures("clean")

TEXT = "The quick brown fox jumps over the lazy dog. It sleeps."


def wav(text):
    return sounds.wav(sounds.speak(text, "alloy", 1.0), text)


WAV = wav(TEXT)
MP3 = sounds.mp3(sounds.speak(TEXT, "alloy", 1.0), TEXT)


def made(model="whisper-1", kind=Transcriptions, **options):
    return kind(model=model, **options)


def recordings(*audio, **columns):
    return pa.table({"audio": pa.array(audio, pa.binary()), **columns})


def why(endpoint, audio=WAV, **columns):
    """Why a recording cannot be sent; None if it can."""
    return endpoint.invalid(recordings(audio, **{name: [value] for name, value in columns.items()})).get(0)


def form(endpoint, rows):
    body = endpoint.request(rows).body
    (file,) = body.files
    return body.fields, (file.field, file.name, file.content_type, file.data)


# Options


@pytest.mark.parametrize(
    "make",
    [
        lambda: made(temperature=1.1),
        lambda: made(temperature=-1),
        lambda: made(response_format="xml"),
        lambda: made(response_format="diarized_json"),
        lambda: made("gpt-4o-transcribe", response_format="srt"),
        lambda: made("gpt-4o-mini-transcribe", response_format="verbose_json"),
        lambda: made("gpt-4o-transcribe", response_format="diarized_json"),
        lambda: made(timestamp_granularities=["word"]),
        lambda: made(timestamp_granularities=["letter"], response_format="verbose_json"),
        lambda: made(timestamp_granularities="word", response_format="verbose_json"),
        lambda: made(timestamp_granularities=[], response_format="verbose_json"),
        lambda: made(include=["logprobs"]),
        lambda: made("gpt-4o-transcribe", include=["logprobs"], response_format="text"),
        lambda: made("gpt-4o-transcribe", include=["everything"]),
        lambda: made(prompt="{"),
        lambda: made(params={"file": "x"}),
        lambda: made(params={"anything": None}),
        lambda: made(kind=Translations, response_format="diarized_json"),
        lambda: made("gpt-4o-transcribe", kind=Translations),
        lambda: made(kind=Translations, temperature=2),
    ],
)
def test_options_that_can_never_work_are_refused(make):
    with pytest.raises(ValueError):
        make()


def test_another_servers_model_may_do_anything():
    made("parakeet", response_format="diarized_json")
    made("parakeet", response_format="json", include=["logprobs"])
    made("parakeet", kind=Translations, response_format="vtt")
    made(column("model"), response_format="srt")


# Which are sent


@pytest.mark.parametrize(
    ("name", "is_sent"),
    [
        *[
            (f"a.{extension}", True)
            for extension in ["flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm", "WAV", "Mp3"]
        ],
        ("a.b.c.mp3", True),
        ("a.txt", False),
        ("mp3", False),
        ("", False),
        ("a.", False),
        ("a.wav.zip", False),
    ],
)
def test_the_name_of_a_file_must_tell_a_format(name, is_sent):
    assert (why(made(), name=name) is None) == is_sent
    rows = pa.table({"path": [f"gs://bucket/folder.wav/{name}"]})
    assert (made(paths="path").invalid(rows) == {}) == is_sent


def test_a_name_that_is_null_or_not_there_is_told_by_the_bytes():
    assert why(made()) is why(made(), name=None) is None
    assert form(made(), recordings(MP3))[1][1:3] == ("audio.mp3", "audio/mpeg")
    assert form(made(), recordings(WAV, name=pa.array([None], pa.string())))[1][1:3] == ("audio.wav", "audio/wav")
    assert "give its file's name" in why(made(), b"who knows")
    assert why(made(), b"who knows", name="a.mp3") is None
    assert why(made(name=None), name="a.txt") is None
    assert "aac" not in (why(made(), b"\xff\xf1\x50\x80") or "aac")


@pytest.mark.parametrize(
    ("audio", "columns", "says"),
    [
        (None, {}, "audio is null"),
        (b"", {}, "audio is empty"),
        (WAV, {"name": "a.txt"}, "name does not end as a recording's does: flac"),
        (WAV, {"name": 5}, "name is int64, not the name of a file"),
    ],
)
def test_what_cannot_be_sent_is_told(audio, columns, says):
    assert says in why(made(), audio, **columns)


def test_a_recording_of_26_214_400_bytes_is_the_largest():
    audio = pa.array([bytes(MOST_BYTES), bytes(MOST_BYTES + 1)])
    reasons = made().invalid(pa.table({"audio": audio, "name": ["a.wav", "a.wav"]}))
    assert list(reasons) == [1] and "26,214,401 bytes, more than the 26,214,400" in reasons[1]


def test_text_in_place_of_bytes_is_told_where_it_belongs():
    reasons = made().invalid(pa.table({"audio": ["a.wav"]}))
    assert "paths= takes a column of paths" in reasons[0]
    assert made(paths="path").invalid(pa.table({"path": pa.array([None, "a.wav"])})) == {0: "path is null"}


def test_a_name_by_another_name_must_be_there():
    assert (made().inputs, made().optional_inputs) == (["audio"], ["name"])
    assert (made(name="file").inputs, made(name="file").optional_inputs) == (["audio", "file"], [])
    assert (made(paths="path").inputs, made(paths="path").optional_inputs) == (["path"], [])
    assert made(prompt="This is {name}").optional_inputs == []


# As which form


def test_what_is_set_is_in_the_form_and_nothing_else():
    rows = recordings(WAV, name=["a/b/cäfé.wav"], terms=["Ada"], said=["en"])
    assert form(made(), rows)[0] == [("model", "whisper-1")]
    fields, file = form(
        made(
            language=column("said"), prompt="Names: {terms}", temperature=0.5, response_format="verbose_json",
            timestamp_granularities=["word", "segment"], params={"vad": {"threshold": 1e-7}},
        ),
        rows,
    )  # fmt: skip
    assert fields == [
        ("model", "whisper-1"), ("response_format", "verbose_json"), ("language", "en"), ("prompt", "Names: Ada"),
        ("temperature", "0.5"), ("timestamp_granularities[]", "word"), ("timestamp_granularities[]", "segment"),
        ("vad[threshold]", "0.0000001"),
    ]  # fmt: skip
    assert file[:3] == ("file", "cäfé.wav", "audio/wav") and isinstance(file[3], memoryview) and bytes(file[3]) == WAV


def test_a_prompt_that_is_a_column_is_left_out_where_it_is_null():
    rows = recordings(WAV, WAV, terms=["Ada", None])
    endpoint = made(prompt=column("terms"))
    assert ("prompt", "Ada") in form(endpoint, rows[:1])[0]
    assert form(endpoint, rows[1:])[0] == [("model", "whisper-1")]
    assert made(prompt="{terms}").invalid(rows) == {1: "terms is null"}
    assert form(made(prompt="mine", params={"prompt": "theirs"}), rows)[0][1] == ("prompt", "theirs")


def test_a_file_at_a_path_is_only_named():
    rows = pa.table({"path": ["gs://bucket/deep/talk.mp3"]})
    file = form(made(paths="path"), rows)[1]
    assert file == ("file", "talk.mp3", "audio/mpeg", StoredFile("gs://bucket/deep/talk.mp3", 26_214_400))


# What answers are taken for


def read(body, endpoint=None, **headers):
    body = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    endpoint = endpoint or made()
    found = endpoint.columns(Response(200, headers, body, 0.1), recordings(WAV))
    arrays = [pa.array(values, field.type) for values, field in zip(found.columns, endpoint.fields, strict=True)]
    return {field.name: array[0].as_py() for field, array in zip(endpoint.fields, arrays)}, found


@pytest.mark.parametrize("response_format", ["text", "srt", "vtt"])
@pytest.mark.parametrize(
    "text", ["", "\n", " spoken \n", '{"text": "not parsed"}', "1\n00:00 --> 00:01\né\n\n", "null"]
)
def test_plain_formats_are_the_body_as_it_came(response_format, text):
    for kind in (Transcriptions, Translations):
        row, _ = read(text.encode(), made(kind=kind, response_format=response_format))
        assert list(row.values()) == [text]


@pytest.mark.parametrize(
    ("body", "response_format", "headers"),
    [
        (b"<html>sorry</html>", "text", {"content_type": "text/html; charset=utf-8"}),
        (b"\xff\xfe", "text", {}),
        (b"<html>sorry</html>", None, {}),
        (b"{}", "json", {}),
        (b'{"text": null}', "json", {}),
        (b'{"text": 5}', "verbose_json", {}),
        (b'["text"]', "json", {}),
        (b"spoken", "json", {}),
    ],
)
def test_what_holds_no_text_is_no_answer(body, response_format, headers):
    with pytest.raises(BadAnswerError):
        read(body, made(response_format=response_format), **headers)


SEGMENT = {"id": 0, "seek": 0, "start": 0, "end": 2.5, "text": " a", "tokens": [1, 2], "temperature": 0.0,
           "avg_logprob": -0.1, "compression_ratio": 1.5, "no_speech_prob": 0.01}  # fmt: skip


def test_a_verbose_answer_becomes_typed_columns():
    endpoint = made(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    words = [{"word": "a", "start": 0.0, "end": 2.5, "more": 1}]
    row, _ = read({"text": "a", "segments": [SEGMENT], "words": words, "language": "english", "duration": 3}, endpoint)
    del words[0]["more"]
    assert row == {"transcription": "a", "segments": [SEGMENT], "words": words, "language": "english", "duration": 3.0}
    names = [field.name for field in made(response_format="verbose_json").added]
    assert names == ["transcription", "segments", "language", "duration"]


def test_what_stands_beside_the_text_never_costs_it():
    endpoint = made(response_format="verbose_json", timestamp_granularities=["word"])
    odd = [{"id": "0", "start": "soon", "tokens": [1, "x", 2.5]}, None, 5, {}]
    row, _ = read({"text": "a", "segments": odd, "words": "a", "language": 7, "duration": None}, endpoint)
    assert row["transcription"] == "a" and row["words"] is row["language"] is row["duration"] is None
    assert row["segments"][0] == {**dict.fromkeys(SEGMENT), "id": 0, "tokens": [1, None, None]}
    assert row["segments"][1:] == [None, None, dict.fromkeys(SEGMENT)]
    assert read({"text": "a"}, endpoint)[0] == {**dict.fromkeys(row), "transcription": "a"}


def test_speakers_and_logprobs_become_columns():
    spoken = [{"type": "transcript.text.segment", "id": "seg_1", "start": 0.0, "end": 1.0, "text": "a", "speaker": "A"}]
    row, _ = read({"text": "a", "segments": spoken, "duration": 1.0}, made("diarizer", response_format="diarized_json"))
    del spoken[0]["type"]
    assert row == {"transcription": "a", "segments": spoken, "duration": 1.0}
    scores = [{"token": "a", "logprob": -0.5, "bytes": [97]}]
    row, _ = read({"text": "a", "logprobs": scores}, made("gpt-4o-transcribe", include=["logprobs"]))
    assert row == {"transcription": "a", "logprobs": scores}


def test_usage_is_counted_where_it_is_in_tokens():
    usage = {"type": "tokens", "input_tokens": 30, "output_tokens": 4, "total_tokens": 34}
    found = read({"text": "a", "usage": usage})[1]
    assert (found.prompt_tokens, found.completion_tokens) == (30, 4)
    assert read({"text": "a", "usage": {"type": "duration", "seconds": 3}})[1].prompt_tokens is None


# Whole runs


def endpoint(server, model="whisper-1", kind=Transcriptions, **options):
    return made(model, kind, **{"api": API(base_url=server.base_url), "retry": QUICK, **options})


def test_each_recording_has_its_own_text(emulator):
    texts = [f"This is number {n}, and \N{GREEK SMALL LETTER PI}." for n in range(12)]
    rows = recordings(*map(wav, texts), id=list(range(12)))
    for kind, name in ((Transcriptions, "transcription"), (Translations, "translation")):
        outcome = run([rows], endpoint(emulator, kind=kind))
        assert {row["id"]: row[name] for row in outcome.rows()} == dict(enumerate(texts))


@pytest.mark.parametrize("kind", [Transcriptions, Translations])
def test_every_format_comes_back_as_it_should(emulator, kind):
    rows = [recordings(WAV, name=["a.wav"])]
    name = "transcription" if kind is Transcriptions else "translation"
    found = {
        told: run(rows, endpoint(emulator, kind=kind, response_format=told)).rows()[0]
        for told in ("json", "text", "srt", "vtt", "verbose_json")
    }
    assert found["json"][name] == found["verbose_json"][name] == TEXT and found["text"][name] == TEXT + "\n"
    assert found["srt"][name].startswith("1\n00:00:00,000 --> ") and found["vtt"][name].startswith("WEBVTT\n\n")
    segments = found["verbose_json"]["segments"]
    assert "".join(segment["text"] for segment in segments).strip() == TEXT and segments[-1]["end"] > 0.5
    assert found["verbose_json"]["language"] == "english"


def test_speakers_are_told_apart(emulator):
    model = "gpt-4o-transcribe-diarize"
    options = {"response_format": "diarized_json", "chunking_strategy": {"type": "server_vad", "threshold": 0.5}}
    (row,) = run([recordings(WAV)], endpoint(emulator, model, **options)).rows()
    assert [segment["speaker"] for segment in row["segments"]] == ["A", "B"]
    assert asked(emulator)[0]["body"]["chunking_strategy[type]"] == "server_vad"


def test_an_error_under_200_is_no_text(emulator):
    error = {"error": {"message": "The server is tired", "type": "server_error"}}
    emulator.inject({"status": 200, "body": error}, path="/audio/transcriptions")
    outcome = run([recordings(WAV)], endpoint(emulator, response_format="text"))
    assert [row["transcription"] for row in outcome.rows()] == [TEXT + "\n"]
    assert outcome.counter("retries") == 1


def test_a_page_of_html_under_200_is_no_text_either(emulator):
    page = {"status": 200, "body": "<html>Maintenance</html>", "headers": {"content-type": "text/html"}}
    emulator.inject(page, times=9, path="/audio/transcriptions")
    (failed,) = run([recordings(WAV)], endpoint(emulator, response_format="srt")).rows("failed")
    assert failed["error"]["kind"] == "bad_answer" and "Maintenance" in failed["error"]["raw"]


def test_rows_beyond_the_limits_are_not_sent(emulator):
    audio = pa.array([WAV, bytes(MOST_BYTES + 1), WAV, WAV, None])
    rows = pa.table({"audio": audio, "name": ["a.wav", "b.wav", "c.txt", "noext", "e.wav"]})
    outcome = run([rows], endpoint(emulator))
    assert [row["name"] for row in outcome.rows()] == ["a.wav"]
    assert {row["name"]: row["error"]["kind"] for row in outcome.rows("failed")} == dict.fromkeys(
        ["b.wav", "c.txt", "noext", "e.wav"], "invalid_input"
    )
    assert emulator.ledger()["requests"] == 1


def test_what_the_server_finds_too_large_is_that_rows_trouble(emulator):
    rows = pa.table({"audio": pa.array([WAV, bytes(MOST_BYTES)]), "name": ["a.wav", "b.wav"]})
    outcome = run([rows], endpoint(emulator))
    (failed,) = outcome.rows("failed")
    assert failed["name"] == "b.wav" and failed["error"]["status"] == 413 and failed["error"]["kind"] == "rejected"
    assert len(outcome.rows()) == 1 and emulator.ledger()["requests"] == 2


def test_a_recording_longer_than_the_quota_of_a_minute_is_not_sent(emulator, tmp_path):
    quota = Quota(audio_megabytes_per_minute=0.002)
    outcome = run([recordings(WAV, MP3[:2000], name=["a.wav", "b.mp3"])], endpoint(emulator, quota=quota))
    (failed,) = outcome.rows("failed")
    assert failed["error"]["kind"] == "invalid_input"
    assert f"{len(WAV)} bytes of audio, more than the 0.002 megabytes a minute" in failed["error"]["message"]
    assert len(outcome.rows()) == 1 == emulator.ledger()["requests"]
    (tmp_path / "a.wav").write_bytes(WAV)
    outcome = run([pa.table({"path": [f"{tmp_path}/a.wav"]})], endpoint(emulator, quota=quota, paths="path"))
    assert f"{len(WAV)} bytes of audio, more than" in outcome.rows("failed")[0]["error"]["message"]
    assert emulator.ledger()["requests"] == 1


def test_a_recording_that_is_longer_than_those_before_it_waits_for_its_room(emulator, tmp_path):
    short, long = MP3[:2000], MP3[:2000] * 10
    paths = [str(tmp_path / f"{n}.mp3") for n in range(6)]
    for n, path in enumerate(paths):
        Path(path).write_bytes(long if n == 5 else short)
    quota = Quota(audio_megabytes_per_minute=60 * 10_000 / 1e6)
    outcome = run([pa.table({"path": paths})], endpoint(emulator, quota=quota, paths="path"))
    assert len(outcome.rows()) == 6 == emulator.ledger()["requests"]
    sends = emulator.decisions()
    assert [each["audio_bytes"] for each in sends] == [2000] * 5 + [20_000]


@pytest.mark.parametrize("at_paths", [False, True])
def test_a_ceiling_of_audio_is_kept(emulator, tmp_path, at_paths):
    count = 20
    paths = [str(tmp_path / f"{n}.wav") for n in range(count)]
    for path in paths:
        Path(path).write_bytes(WAV)
    rows = pa.table({"path": paths}) if at_paths else recordings(*[WAV] * count)
    quota = Quota(audio_megabytes_per_minute=5 * 60 * len(WAV) / 1e6)
    outcome = run([rows], endpoint(emulator, quota=quota, paths="path" if at_paths else None, concurrency=count))
    assert len(outcome.rows()) == count
    assert emulator.traffic()["models"]["whisper-1"]["audio_bytes"] == count * len(WAV)
    # Five a second; as many again for a second's worth that a late wake-up makes up for.
    assert emulator.peak(1)["audio_bytes"] <= 11 * len(WAV)


# From where they are


def test_files_are_sent_from_their_paths(emulator, tmp_path):
    paths = []
    for n in range(6):
        paths.append(str(tmp_path / f"talk {n}.wav"))
        (tmp_path / f"talk {n}.wav").write_bytes(wav(f"talk number {n}"))
    outcome = run([pa.table({"path": paths})], endpoint(emulator, paths="path"))
    assert {row["path"]: row["transcription"] for row in outcome.rows()} == {
        path: f"talk number {n}" for n, path in enumerate(paths)
    }
    assert sorted(request["body"]["file"] for request in asked(emulator)) == [f"talk {n}.wav" for n in range(6)]


def test_a_path_without_a_file_that_can_be_sent_is_that_rows_trouble(emulator, tmp_path):
    (tmp_path / "good.wav").write_bytes(WAV)
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "folder.wav").mkdir()
    with open(tmp_path / "large.wav", "wb") as file:
        file.truncate(MOST_BYTES + 1)
    names = ["good.wav", "empty.wav", "folder.wav", "large.wav", "none.wav"]
    paths = [str(tmp_path / name) for name in names] + ["nowhere://a.wav"]
    outcome = run([pa.table({"path": paths, "name": [*names, "nowhere"]})], endpoint(emulator, paths="path"))
    assert [row["name"] for row in outcome.rows()] == ["good.wav"]
    errors = {row["name"]: row["error"] for row in outcome.rows("failed")}
    assert {error["kind"] for error in errors.values()} == {"invalid_input"}
    assert {error["attempts"] for error in errors.values()} == {None}
    for name, says in [
        ("empty.wav", "has 0 bytes"),
        ("folder.wav", "is not a plain file"),
        ("large.wav", "has 26,214,401 bytes, more than the 26,214,400 that may be sent"),
        ("none.wav", "No such file"),
        ("nowhere", "Unable to get filesystem"),
    ]:
        assert says in errors[name]["message"], name
    assert emulator.ledger()["requests"] == outcome.counter("attempts") == outcome.counter("requests") == 1


def test_a_retry_reads_the_file_again(emulator, tmp_path):
    (tmp_path / "a.wav").write_bytes(WAV)
    emulator.inject("server_error", times=2, path="/audio/translations")
    emulator.inject("reset", path="/audio/translations")
    rows = [{"path": str(tmp_path / "a.wav")}]
    outcome = run(rows, endpoint(emulator, kind=Translations, paths="path"))
    assert [row["translation"] for row in outcome.rows()] == [TEXT]
    assert emulator.ledger()["requests"] == 4


def test_a_file_that_changes_while_it_is_sent_is_that_rows_trouble(emulator, tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(WAV)
    monkeypatch.setattr(Bucket, "size", lambda self, path: len(WAV) + 5)
    Bucket.objects["bucket://in/a.wav"] = WAV
    rows = pa.table({"path": ["bucket://in/a.wav", str(tmp_path / "a.wav")]})
    outcome = run([rows], endpoint(emulator, paths="path"))
    (failed,) = outcome.rows("failed")
    assert failed["error"]["kind"] == "invalid_input" and "changed while it was sent" in failed["error"]["message"]
    assert len(outcome.rows()) == 1


def test_files_of_any_filesystem_are_sent(emulator):
    Bucket.objects.clear()
    Bucket.objects["bucket://talks/a.wav"] = WAV
    rows = pa.table({"path": ["bucket://talks/a.wav", "bucket://talks/b.wav"]})
    outcome = run([rows], endpoint(emulator, paths="path"))
    assert [row["transcription"] for row in outcome.rows()] == [TEXT]
    assert [row["error"]["kind"] for row in outcome.rows("failed")] == ["invalid_input"]


# The command


@pytest.fixture
def talks(tmp_path):
    folder = tmp_path / "talks"
    folder.mkdir()
    for n in range(4):
        (folder / f"{n}.wav").write_bytes(wav(f"talk number {n}"))
    (folder / "README").write_text("not one of them")
    return folder


def transcribed(emulator, talks, tmp_path, *more):
    ended = command(
        "transcriptions", "--input", *more, "--output", tmp_path / "out", "--base-url", emulator.base_url,
        "--model", "whisper-1",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    rows = pq.read_table(tmp_path / "out")
    found = dict(zip(rows["name"].to_pylist(), rows["transcription"].to_pylist()))
    assert found == {f"{n}.wav": f"talk number {n}" for n in range(4)}
    return rows


def test_a_folder_of_recordings_is_read_with_their_bytes(emulator, talks, tmp_path):
    rows = transcribed(emulator, talks, tmp_path, talks, "--response-format", "verbose_json")
    assert rows.column_names[:4] == ["path", "name", "audio", "transcription"]
    assert set(rows["audio"].to_pylist()) == {wav(f"talk number {n}") for n in range(4)}
    assert rows.schema.field("segments").type.value_type.field("start").type == pa.float64()


def test_a_glob_of_recordings_is_sent_from_its_paths(emulator, talks, tmp_path):
    rows = transcribed(emulator, talks, tmp_path, f"{talks}/*.wav", "--paths", "path", "--language", "en")
    assert rows.column_names == ["path", "name", "transcription"]
    assert {request["body"]["language"] for request in asked(emulator)} == {"en"}
