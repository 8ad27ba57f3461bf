"""Speech: what is asked, and that what comes back is sound."""

from __future__ import annotations

import io
import wave

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import QUICK, run
from pure import answer, asked, invalid, prepared
from test_cli import run as command

from beam_openai import API, Speech, column
from beam_openai.errors import BadAnswerError, ConfigurationError
from beam_openai.tokens import Estimate

pytestmark = pytest.mark.usefixtures("clean")
MODEL = "gpt-4o-mini-tts"
AUDIO = {"content-type": "audio/mpeg"}


def made(server=None, **options):
    given = {"model": MODEL, "retry": QUICK, "voice": "alloy", **options}
    return Speech(**given, **({"api": API(base_url=server.base_url)} if server else {}))


def seconds(sound):
    with wave.open(io.BytesIO(sound)) as file:
        return file.getnframes() / file.getframerate()


def test_the_instructions_are_a_template():
    endpoint = made(instructions="Like a {what}.", speed=2, response_format="flac")
    assert endpoint.inputs == ["text", "what"]
    assert asked(endpoint, {"text": "hi", "what": "pirate"}) == {
        "model": MODEL,
        "voice": "alloy",
        "speed": 2,
        "response_format": "flac",
        "input": "hi",
        "instructions": "Like a pirate.",
    }
    assert "instructions" not in asked(made(), {"text": "hi"})


def test_a_voice_may_be_one_s_own_or_each_row_s():
    assert asked(made(voice={"id": "voice_1"}), {"text": "a"})["voice"] == {"id": "voice_1"}
    endpoint = made(voice=column("who"), speed=column("pace"))
    assert asked(endpoint, {"text": "a", "who": "echo", "pace": None}) == {
        "model": MODEL,
        "voice": "echo",
        "input": "a",
    }


def test_a_text_has_4096_characters_however_many_bytes_they_are():
    rows = [{"text": "é" * 4096}, {"text": "é" * 4097}, {"text": ""}, {"text": None}, {"text": "x" * 5000}]
    assert invalid(made(), *rows) == {
        1: "text has 4097 characters, more than the 4096 that can be sent",
        2: "text is empty",
        3: "text is null",
        4: "text has 5000 characters, more than the 4096 that can be sent",
    }
    assert invalid(made(), pa.table({"text": [1]})) == {0: "text is int64, not text"}
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff" * 5000]).buffers())
    assert invalid(made(), pa.table({"text": broken})) == {0: "text is not valid UTF-8"}


def test_instructions_have_as_many():
    endpoint = made(instructions="{how}")
    rows = [{"text": "a", "how": "x" * 4096}, {"text": "a", "how": "x" * 4097}, {"text": "a", "how": None}]
    assert invalid(endpoint, *rows) == {
        1: "instructions has 4097 characters, more than the 4096 that can be sent",
        2: "how is null",
    }


@pytest.mark.parametrize(
    "options",
    [
        {"voice": ""},
        {"voice": None},
        {"voice": 3},
        {"speed": 0.2},
        {"speed": 4.1},
        {"response_format": "ogg"},
        {"instructions": "{"},
        {"params": {"stream_format": "sse"}},
        {"instructions": "x", "params": {"instructions": "y"}},
    ],
    ids=str,
)
def test_options_that_can_never_work_are_refused(options):
    with pytest.raises(ValueError):
        made(**options)


def test_a_voice_is_needed():
    with pytest.raises(TypeError, match="voice"):
        Speech(model=MODEL)


def test_text_and_instructions_are_counted():
    endpoint = made(instructions="x" * 30)
    assert endpoint.tokens(prepared(endpoint, [{"text": "y" * 30}]), Estimate()).tolist() == [20]


@pytest.mark.parametrize(
    "kind", ["audio/mpeg", "audio/wav; rate=24000", "application/octet-stream", "", "binary/octet-stream"]
)
def test_sound_is_what_came(kind):
    (sound,) = answer(made(), 1, b"\x00\xff\x01", {"content-type": kind}).columns[0]
    assert sound == b"\x00\xff\x01"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"status": "queued"}'),
        ("application/problem+json", b"{}"),
        ("text/plain; charset=utf-8", b"sorry"),
        ("TEXT/HTML", b"<html>"),
        ("text/event-stream", b"data: {}"),
        ("audio/mpeg", b""),
    ],
)
def test_anything_else_is_no_answer(kind, body):
    with pytest.raises(BadAnswerError):
        answer(made(), 1, body, {"content-type": kind})


def test_each_row_is_spoken_with_its_own_voice(emulator):
    rows = [{"id": n, "text": "one two three " * (n + 1), "who": ["alloy", "echo"][n % 2]} for n in range(6)]
    rows.append({"id": 6, "text": "x" * 4097, "who": "alloy"})
    outcome = run([pa.Table.from_pylist(rows)], made(emulator, voice=column("who"), response_format="wav"))
    found = sorted(outcome.rows(), key=lambda row: row["id"])
    assert [row["id"] for row in found] == list(range(6))
    lengths = [seconds(row["speech"]) for row in found]
    assert lengths == sorted(lengths) and len(set(lengths)) == 6
    assert emulator.billed([row["text"] for row in rows]) == [1] * 6 + [0]
    assert {request["body"]["input"]: request["body"]["voice"] for request in emulator.requests()} == {
        row["text"]: row["who"] for row in rows[:6]
    }
    (failed,) = outcome.rows("failed")
    assert failed["id"] == 6 and failed["error"]["kind"] == "invalid_input"


def test_json_in_place_of_sound_is_asked_for_again_and_then_fails_its_row(emulator):
    emulator.inject({"status": 200, "body": {"status": "busy"}})
    assert run([{"text": "a"}], made(emulator)).rows()[0]["speech"]
    emulator.inject({"status": 200, "body": {"status": "busy"}}, times=9)
    (failed,) = run([{"text": "a"}], made(emulator)).rows("failed")
    assert failed["error"]["kind"] == "bad_answer" and failed["error"]["raw"] == '{"status":"busy"}'
    assert "application/json, not sound" in failed["error"]["message"]


def test_a_model_that_takes_no_instructions_stops_the_job(emulator):
    with pytest.raises(ConfigurationError, match="instructions"):
        run([{"text": f"text {n}"} for n in range(5)], made(emulator, model="tts-1", instructions="Slowly."))
    assert emulator.ledger()["requests"] == 1


def test_from_the_command_line_to_parquet(emulator, tmp_path):
    pq.write_table(pa.table({"id": [1, 2], "line": ["hello", "good bye"]}), tmp_path / "in.parquet")
    where = ["--input", tmp_path / "in.parquet", "--output", tmp_path / "out", "--base-url", emulator.base_url]
    options = ["--column", "line", "--voice", "echo", "--response-format", "wav", "--instructions", "Number {id}."]
    ended = command("speech", *where, "--model", MODEL, *options)
    assert ended.returncode == 0, ended.stderr
    table = pq.read_table(tmp_path / "out")
    assert table.schema.field("speech").type == pa.binary() and sorted(table["id"].to_pylist()) == [1, 2]
    assert all(seconds(sound) > 0 for sound in table["speech"].to_pylist())
    bodies = [request["body"] for request in emulator.requests()]
    assert sorted(body["instructions"] for body in bodies) == ["Number 1.", "Number 2."]
    assert {body["voice"] for body in bodies} == {"echo"}


def test_a_voice_that_is_not_there_stops_the_job_after_one_request(emulator):
    with pytest.raises(ConfigurationError, match="check the option 'voice'"):
        run([{"text": f"text {n}"} for n in range(5)], made(emulator, voice="nope"))
    assert emulator.ledger()["requests"] == 1
