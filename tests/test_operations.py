"""The README's table of operations: all are there, its commands run as they stand, and its Python is right."""

from __future__ import annotations

import ast
import json
import math
import os
import re
import shlex
import struct
import subprocess
import sys
import wave
import zlib
from pathlib import Path

import pytest
from conftest import Emulator

from beam_openai import API, manage

ROOT = Path(__file__).parent.parent
LINES = re.findall(r"^\| (`.*) \| `(.*)` \| `(beam-openai .*)` \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
OPERATIONS = """GET /engines|GET /engines/{engine_id}|POST /engines/{engine_id}/search|POST /answers|POST /classifications
POST /completions|POST /chat/completions|POST /edits|POST /images/generations|POST /images/edits|POST /images/variations
POST /embeddings|POST /audio/transcriptions|POST /audio/translations|GET /files|POST /files|GET /files/{file_id}
DELETE /files/{file_id}|GET /files/{file_id}/content|POST /fine-tunes|GET /fine-tunes|GET /fine-tunes/{fine_tune_id}
POST /fine-tunes/{fine_tune_id}/cancel|GET /fine-tunes/{fine_tune_id}/events|GET /models|GET /models/{model}
DELETE /models/{model}|POST /moderations"""


def test_every_operation_of_the_document_is_there():
    wanted = re.split(r"[|\n]", OPERATIONS)
    assert len(wanted) == 28
    assert {f"`{operation}`" for operation in wanted} <= {line[0] for line in LINES}


def png(size):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\x80\x40\x20\x00" * size) * size
    head = struct.pack(">IIBBBBB", size, size, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write_inputs(folder):
    rows = {
        "texts": [{"text": "one"}, {"text": "two"}],
        "queries": [{"query": "a"}],
        "questions": [{"question": "q?"}],
        "training": [{"prompt": f"p{n} ->", "completion": f" c{n}"} for n in range(12)],
        "chats": [
            {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}]}
            for n in range(12)
        ],
        "requests": [
            {
                "custom_id": "1",
                "method": "POST",
                "url": "/v1/embeddings",
                "body": {"model": "text-embedding-3-small", "input": "x"},
            }
        ],
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "photos").mkdir()
    (folder / "photos" / "a.png").write_bytes(png(256))
    (folder / "recordings").mkdir()
    with wave.open(str(folder / "recordings" / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 24000, 0, "NONE", ""))
        sound.writeframes(b"".join(struct.pack("<h", int(3000 * math.sin(n / 20))) for n in range(24000)))


class Ids:
    """Makes what a command names: a file, a fine-tune, a job, a model, a batch."""

    def __init__(self, server, folder):
        self._server, self._folder, self._api = server, folder, API(base_url=server.base_url)

    def put_in(self, command):
        made = {
            "file-abc": lambda: manage.files.upload(self._api, str(self._folder / "training.jsonl"), "fine-tune")["id"],
            "ft-abc": lambda: manage.fine_tunes.create(self._api, str(self._folder / "training.jsonl"), model="curie")[
                "id"
            ],
            "ftjob-abc": self._running_job,
            "ft:abc": self._model,
            "batch_abc": lambda: manage.batches.create(
                self._api, str(self._folder / "requests.jsonl"), "/v1/embeddings"
            )["id"],
        }
        for name, make in made.items():
            if re.search(rf"{re.escape(name)}\b", command):
                command = command.replace(name, make())
                if "--follow" in command:
                    self._server.turn_clock(1200)
        return command

    def _running_job(self):
        job = manage.fine_tuning.create(self._api, str(self._folder / "chats.jsonl"), "gpt-4o-mini")["id"]
        self._server.turn_clock(60)
        for _ in range(50):
            if manage.fine_tuning.get(self._api, job)["status"] == "running":
                break
            self._server.turn_clock(20)
        return job

    def _model(self):
        job = manage.fine_tuning.create(self._api, str(self._folder / "chats.jsonl"), "gpt-4o-mini")["id"]
        self._server.turn_clock(7200)
        return manage.fine_tuning.get(self._api, job)["fine_tuned_model"]


@pytest.mark.parametrize("line", LINES, ids=[line[2].split(" --")[0] for line in LINES])
def test_a_command_of_the_page_works(line, tmp_path):
    _, _, command = line
    write_inputs(tmp_path)
    with Emulator() as server:
        command = Ids(server, tmp_path).put_in(command)
        if " resume " in command:
            manage.fine_tuning.pause(API(base_url=server.base_url), command.split()[-1])
        arguments = shlex.split(command)[1:]
        environment = {**os.environ, "OPENAI_BASE_URL": server.base_url, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(
            [sys.executable, "-m", "beam_openai.cli", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    if "--output out" in command:
        assert list((tmp_path / "out").glob("part-*.parquet")) and ", 0 failed" in ended.stdout
    elif not any(part in command for part in ("--to", " list", " checkpoints")):
        assert json.loads(ended.stdout.splitlines()[-1]), ended.stdout
    if "--files-dir" in command:
        assert len(list((tmp_path / arguments[arguments.index("--files-dir") + 1]).iterdir())) == 2


@pytest.mark.parametrize("line", LINES, ids=[line[2].split(" --")[0] for line in LINES])
def test_the_python_of_the_page_is_right(line):
    """Names, options and functions are there; transforms can be made."""
    import beam_openai

    code = line[1].replace("\\|", "|")
    tree = ast.parse(code, mode="eval").body
    if isinstance(tree, ast.BinOp):
        made = eval(
            ast.unparse(tree.right),
            vars(beam_openai) | {name: getattr(beam_openai, name) for name in beam_openai.__all__},
        )
        assert made.path
    else:
        assert isinstance(tree, ast.Call) and isinstance(tree.func, ast.Attribute)
        function = getattr(getattr(manage, tree.func.value.id), tree.func.attr)
        import inspect

        inspect.signature(function).bind(*tree.args, **{keyword.arg: 0 for keyword in tree.keywords})
