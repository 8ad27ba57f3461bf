"""`beam-openai files`, `fine-tunes` and the like, as a user meets them: in processes of their own, on the emulator."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from beam_openai.emulator import Emulator

CLI = [sys.executable, "-m", "beam_openai.cli"]
TRAINING = b"".join(b'{"prompt": "question %d ->", "completion": " answer\\n"}\n' % n for n in range(20))
CHAT = b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n' * 20
REQUEST = {"method": "POST", "url": "/v1/embeddings", "body": {"model": "text-embedding-3-small", "input": "a"}}
REQUESTS = b"".join(json.dumps({"custom_id": str(n), **REQUEST}).encode() + b"\n" for n in range(3))


@pytest.fixture(scope="module")
def server():
    with Emulator(keep_requests=2000) as emulator:
        yield emulator


@pytest.fixture
def own(start_emulator):
    return start_emulator()


@pytest.fixture
def path(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(TRAINING)
    return str(tmp_path / "train.jsonl")


def run(server, *arguments, **environment):
    environment = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-hunter2", **environment}
    ended = subprocess.run(
        [*CLI, *map(str, arguments)], capture_output=True, timeout=60, stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert b"Traceback" not in ended.stderr and b"hunter2" not in ended.stderr + ended.stdout
    return ended


def said(server, *arguments, **environment):
    """What a command that succeeds prints: an object for each line."""
    ended = run(server, *arguments, **environment)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def ids(objects):
    # Not whole objects: the status of a file changes by itself.
    return [one["id"] for one in objects]


def told(server, *arguments, status=1):
    """The one line of a command that fails."""
    ended = run(server, *arguments)
    assert (ended.returncode, ended.stdout) == (status, b""), ended
    *usage, line = ended.stderr.decode().splitlines()
    assert status == 2 or not usage, usage
    return line


# What each verb does


def test_files_go_up_are_listed_shown_downloaded_and_deleted(own, path, tmp_path):
    [file] = said(own, "files", "upload", path, "--purpose", "fine-tune")
    [other] = said(own, "files", "upload", path, "--purpose", "user_data", "--expires-after", "7200")
    assert (file["filename"], file["bytes"]) == ("train.jsonl", len(TRAINING)) and other["expires_at"]
    assert ids(said(own, "files", "list")) == ids([other, file])
    assert ids(said(own, "files", "list", "--purpose", "fine-tune")) == ids([file])
    assert ids(said(own, "files", "get", file["id"])) == ids([file])
    assert run(own, "files", "content", file["id"]).stdout == TRAINING
    assert run(own, "files", "content", file["id"], "--to", tmp_path / "down").stdout == b""
    assert (tmp_path / "down").read_bytes() == TRAINING
    assert said(own, "files", "delete", file["id"])[0]["deleted"] is True
    assert "No such File object" in told(own, "files", "get", file["id"])


def test_uploads_are_made_shown_and_cancelled(server, path):
    [upload] = said(server, "uploads", "create", path, "--purpose", "fine-tune", "--concurrency", "2")
    assert upload["status"] == "completed" and upload["file"]["bytes"] == len(TRAINING)
    assert ids(said(server, "uploads", "get", upload["id"])) == ids([upload])
    assert "not pending" in told(server, "uploads", "cancel", upload["id"])


def test_models_and_engines_are_listed_and_shown(server):
    assert "text-embedding-3-small" in [model["id"] for model in said(server, "models", "list")]
    assert said(server, "models", "get", "text-embedding-3-small")[0]["object"] == "model"
    engine = said(server, "engines", "list")[0]["id"]
    assert said(server, "engines", "get", engine)[0]["object"] == "engine"
    assert "does not exist" in told(server, "models", "get", "org/none")
    told(server, "models", "delete", "text-embedding-3-small")


@pytest.mark.parametrize("how", [[], ["--training-file"]])
def test_a_fine_tune_of_a_local_file_is_made_followed_and_its_model_deleted(own, path, how):
    ended = run(own, "fine-tunes", "create", *how, path, "--model", "ada", "--n-epochs", "2", "--suffix", "mine")
    tune = json.loads(ended.stdout)
    file = tune["training_files"][0]["id"]
    assert ended.stderr.decode() == f"{path} is {file}\n"
    assert tune["hyperparams"]["n_epochs"] == 2
    assert [one["id"] for one in said(own, "fine-tunes", "list")] == [tune["id"]]
    own.turn_clock(86_400)
    followed = said(own, "fine-tunes", "events", tune["id"], "--follow")
    assert followed == said(own, "fine-tunes", "events", tune["id"]) and len(followed) > 3
    [done] = said(own, "fine-tunes", "get", tune["id"])
    assert done["status"] == "succeeded"
    assert said(own, "models", "delete", done["fine_tuned_model"])[0]["deleted"] is True
    [again] = said(own, "fine-tunes", "create", file)
    assert said(own, "fine-tunes", "cancel", again["id"])[0]["status"] == "cancelled"
    assert run(own, "fine-tunes", "events", again["id"], "--follow").returncode == 1


def test_a_fine_tuning_job_is_made_paused_resumed_and_cancelled(own, tmp_path):
    (tmp_path / "chat.jsonl").write_bytes(CHAT)
    job = json.loads(
        run(own, "fine-tuning", "create", tmp_path / "chat.jsonl", "--model", "gpt-4o-mini-2024-07-18", "--seed", "3",
            "--metadata", '{"run": "1"}', "--params", '{"suffix": "mine"}', "--validation-file", tmp_path / "chat.jsonl",
        ).stdout
    )  # fmt: skip
    assert (job["seed"], job["metadata"]) == (3, {"run": "1"}) and job["training_file"] == job["validation_file"]
    own.turn_clock(60)
    for verb, status in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled"), ("get", "cancelled")):
        assert said(own, "fine-tuning", verb, job["id"])[0]["status"] in (status, "queued")
    assert said(own, "fine-tuning", "events", job["id"])
    assert said(own, "fine-tuning", "checkpoints", job["id"]) == []
    assert [one["id"] for one in said(own, "fine-tuning", "list")] == [job["id"]]
    assert f"{job['id']} is cancelled" in run(own, "fine-tuning", "events", job["id"], "--follow").stderr.decode()


def test_a_batch_of_a_local_file_is_made_shown_and_cancelled(own, tmp_path):
    (tmp_path / "batch.jsonl").write_bytes(REQUESTS)
    arguments = ["--endpoint", "/v1/embeddings", "--metadata", '{"run": "1"}']
    batch = json.loads(run(own, "batches", "create", tmp_path / "batch.jsonl", *arguments).stdout)
    assert said(own, "batches", "get", batch["id"])[0]["metadata"] == {"run": "1"}
    assert [one["id"] for one in said(own, "batches", "list")] == [batch["id"]]
    assert said(own, "batches", "cancel", batch["id"])[0]["status"] in ("cancelling", "cancelled")


def test_the_server_s_flags_reach_the_wire(server, monkeypatch):
    server.clear()
    said(
        server, "models", "list", "--base-url", f"{server.base_url}?a=b", "--key", "MY_KEY", "--organization", "org-1",
        "--project", "proj_1", "--timeout", "5", "--attempts", "1", MY_KEY="k-123", OPENAI_BASE_URL="http://none.invalid",
    )  # fmt: skip
    request = server.requests()[-1]
    headers = request["headers"]
    assert request["path"] == "/v1/models?a=b" and headers["authorization"] == "Bearer k-123"
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj_1")
    server.inject("server_error")
    assert "500" in told(server, "models", "list", "--attempts", "1")


# What goes wrong


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["files"], "required: VERB"),
        (["files", "no-such-verb"], "invalid choice"),
        (["files", "upload", "nowhere.jsonl", "--purpose", "batch"], "nowhere.jsonl"),
        (["files", "upload", "/", "--purpose", "batch"], "not a plain file"),
        (["files", "upload", __file__], "--purpose"),
        (["files", "get", ".."], "not an id"),
        (
            ["uploads", "create", __file__, "--purpose", "batch", "--concurrency", "0"],
            "create: --concurrency must be at least 1, not 0",
        ),
        (["fine-tunes", "create"], "FILE"),
        (["fine-tunes", "create", "file-1", "--training-file", "file-2"], "name one file"),
        (["fine-tunes", "create", "nowhere.jsonl"], "nowhere.jsonl"),
        (["fine-tunes", "create", __file__, "--validation-file", "nowhere.jsonl"], "nowhere.jsonl"),
        (["fine-tunes", "create", "file-1", "--n-epochs", "x"], "not a whole number"),
        (["fine-tunes", "create", ""], "empty"),
        (["fine-tunes", "create", __file__, "--params", '{"training_file": "file-1"}'], "training_file"),
        (["fine-tunes", "create", __file__, "--params", '{"on_progress": 1}'], "on_progress"),
        (["batches", "create", __file__, "--endpoint", "/v1/x", "--params", '{"input_file": "a"}'], "input_file"),
        (["models", "list", "--base-url", ""], "--base-url must be"),
        (["fine-tuning", "create", "file-1"], "--model"),
        (["batches", "create", "file-1", "--endpoint", "/v1/x", "--params", '{"endpoint": "y"}'], "endpoint"),
        (["batches", "create", "file-1", "--endpoint", "/v1/x", "--metadata", "{"], "not JSON"),
        (["models", "list", "--base-url", "localhost:8080"], "--base-url must be"),
        (["models", "list", "--key", "sk-hunter2"], "never the key itself"),
        (["models", "list", "--attempts", "0"], "at least 1"),
        (["models", "list", "--purpos", "x"], "unrecognized"),
    ],
)
def test_wrong_usage_is_2_says_what_is_wrong_and_sends_nothing(server, arguments, says):
    before = server.ledger()["requests"]
    assert says in told(server, *arguments, status=2)
    assert server.ledger()["requests"] == before


def test_what_the_server_refuses_is_1_in_one_line_that_says_what_to_do(server, path):
    line = told(server, "files", "content", "file-none")
    assert line.startswith("beam-openai files content: GET /files/file-none/content: 404 No such File object")
    assert "Check the id" in line
    assert "purpose" in told(server, "files", "upload", path, "--purpose", "nothing")
    assert "no answer from 127.0.0.1:1" in told(
        server, "models", "list", "--base-url", "http://127.0.0.1:1", "--attempts", "1"
    )
    server.inject({"status": 302, "headers": {"location": "http://127.0.0.1:1/"}, "body": ""})
    assert told(server, "models", "list").endswith("Check --base-url")
    server.inject({"status": 200, "body": "<html>Sign in</html>"})
    assert told(server, "models", "list", "--attempts", "1").endswith("no JSON object. Check --base-url")
    server.inject({"status": 400, "body": {"error": {"message": "bad\x1b[2J"}}})
    assert told(server, "models", "list").count("400 bad\N{REPLACEMENT CHARACTER}[2J")
    assert "NOT_SET" in told(server, "models", "list", "--key", "NOT_SET")


def test_a_file_that_cannot_be_written_is_1_and_nothing_is_left(server, path, tmp_path):
    [file] = said(server, "files", "upload", path, "--purpose", "fine-tune")
    line = told(server, "files", "content", file["id"], "--to", tmp_path / "nowhere" / "x")
    assert line.endswith(f"'{tmp_path}/nowhere/x'")
    assert "Is a directory" in told(server, "files", "content", file["id"], "--to", tmp_path)
    assert os.listdir(tmp_path) == ["train.jsonl"]


def test_a_file_goes_to_what_is_behind_a_pipe(server, path):
    [file] = said(server, "files", "upload", path, "--purpose", "fine-tune")
    assert run(server, "files", "content", file["id"], "--to", "/dev/stdout").stdout == TRAINING


def test_a_job_that_cannot_begin_leaves_word_of_the_file_that_was_uploaded(server, path):
    ended = run(server, "fine-tunes", "create", path, "--model", "no-such-model")
    assert ended.returncode == 1
    first, second = ended.stderr.decode().splitlines()
    assert re.fullmatch(rf"{re.escape(path)} is file-\w+", first) and "no-such-model" in second


def test_a_reader_that_goes_away_is_no_traceback(server):
    process = subprocess.Popen(
        [*CLI, "models", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OPENAI_BASE_URL": server.base_url},
    )  # fmt: skip
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.wait(timeout=30)


def test_a_traceback_is_shown_only_with_debug(server):
    ended = subprocess.run(
        [*CLI, "files", "get", "file-none", "--debug"], capture_output=True, timeout=60,
        env={**os.environ, "OPENAI_BASE_URL": server.base_url},
    )  # fmt: skip
    assert ended.returncode == 1 and b"Traceback" in ended.stderr


# On a terminal


class Terminal:
    def __init__(self, server, *arguments):
        self._ours, theirs = pty.openpty()
        self.text = ""
        self.process = subprocess.Popen(
            [*CLI, *map(str, arguments)], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url},
        )  # fmt: skip
        os.close(theirs)

    def wait_for(self, pattern=r"(?!)", seconds=30):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text) and time.monotonic() < end:
            if select.select([self._ours], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self._ours, 65_536).decode().replace("\r\n", "\n")
                except OSError:
                    return self.text
        return self.text

    def all(self):
        """Everything it shows until it ends, and its status."""
        text = self.wait_for()
        status = self.process.wait(timeout=30)
        os.close(self._ours)
        return text, status


def test_a_terminal_is_shown_a_table_and_json_where_it_asks_for_it(own, path):
    [file] = said(own, "files", "upload", path, "--purpose", "fine-tune")
    text, status = Terminal(own, "files", "list").all()
    head, row = text.splitlines()
    assert status == 0 and head.split() == ["id", "bytes", "created_at", "purpose", "status", "filename"]
    assert row.startswith(file["id"]) and f"{len(TRAINING):,}" in row and re.search(r"\d\d:\d\d:\d\dZ  fine-tune", row)
    assert ids([json.loads(Terminal(own, "files", "list", "--json").all()[0])]) == ids([file])
    text, _ = Terminal(own, "files", "get", file["id"]).all()
    assert re.search(r"^filename +train.jsonl$", text, re.MULTILINE)
    assert Terminal(own, "batches", "list").all() == ("none\n", 0)


def test_a_file_s_name_cannot_write_on_the_terminal(own, tmp_path):
    (tmp_path / "a\x1b[31m\x07.txt").write_bytes(b"x")
    said(own, "files", "upload", tmp_path / "a\x1b[31m\x07.txt", "--purpose", "vision")
    text, _ = Terminal(own, "files", "list").all()
    assert "\x1b" not in text and "\x07" not in text and "[31m" in text


def test_an_upload_s_progress_is_shown_and_wiped_away(own, tmp_path):
    with open(tmp_path / "big.bin", "wb") as file:
        file.truncate(150_000_000)
    text, status = Terminal(own, "uploads", "create", tmp_path / "big.bin", "--purpose", "vision").all()
    assert re.search(r"big.bin: [\d.]+ of 150.0 MB, [\d.,]+ MB/s", text) and status == 0
    assert re.search(r"^status +completed$", text.split("\x1b[K")[-1], re.MULTILINE)


def test_ctrl_c_ends_an_upload_in_one_line_and_cancels_it(own, path):
    own.inject({"delay": 0})
    own.inject({"delay": 60})
    terminal = Terminal(own, "uploads", "create", path, "--purpose", "fine-tune")
    while not (requests := own.requests()) or not requests[-1]["path"].endswith("/parts"):
        time.sleep(0.05)
    time.sleep(0.5)  # until it waits for the answer
    began = time.monotonic()
    terminal.process.send_signal(signal.SIGINT)
    text, status = terminal.all()
    assert status == 1 and text.rstrip().endswith("beam-openai uploads create: stopped by you")
    assert "Traceback" not in text and time.monotonic() - began < 30
    assert own.requests()[-1]["path"].endswith("/cancel")


def test_events_are_shown_as_they_come_and_ctrl_c_ends_the_following(own, path):
    tune = json.loads(run(own, "fine-tunes", "create", path).stdout)
    terminal = Terminal(own, "fine-tunes", "events", tune["id"], "--follow")
    terminal.wait_for(r"Z  info  \w+")
    terminal.process.send_signal(signal.SIGINT)
    text, status = terminal.all()
    assert status == 1 and "stopped by you" in text and "Traceback" not in text


# Help, and what is imported


@pytest.mark.parametrize("family", ["files", "uploads", "models", "engines", "fine-tunes", "fine-tuning", "batches"])
def test_every_verb_explains_itself(server, family):
    verbs = re.findall(r"^    ([a-z]+) ", run(server, family, "--help", COLUMNS="200").stdout.decode(), re.MULTILINE)
    assert verbs
    for verb in verbs:
        text = run(server, family, verb, "--help", COLUMNS="200").stdout.decode()
        assert "JSON" in text and "Exit status: 0" in text
        for flag in ("--base-url", "--key", "--organization", "--project", "--api-version", "--timeout", "--attempts"):
            line = re.search(rf"^  {flag}\b.*(?:\n {{10,}}.*)*", text, re.MULTILINE)
            assert line and len(line.group().split()) > 4, flag


def test_no_management_command_imports_beam_or_arrow(server, path):
    code = (
        "import sys, beam_openai.cli as cli\n"
        "status = cli.main(sys.argv[1:])\n"
        "print([name for name in ('apache_beam', 'numpy', 'pyarrow', 'aiohttp') if name in sys.modules], status)"
    )
    [file] = said(server, "files", "upload", path, "--purpose", "fine-tune")
    for arguments in (["files", "list"], ["files", "content", file["id"], "--to", f"{path}.down"], ["models", "list"]):
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments, "--base-url", server.base_url], capture_output=True, text=True
        )
        assert ended.stdout.splitlines()[-1] == "[] 0", ended.stderr


def test_a_long_listing_imports_no_arrow_either(own):
    data = [{"id": f"file-{n}", "object": "file", "filename": "x" * 200} for n in range(3000)]
    own.inject({"status": 200, "body": {"object": "list", "data": data, "has_more": False}})
    code = "import sys, beam_openai.cli as cli; cli.main(['files', 'list']); print('pyarrow' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENAI_BASE_URL": own.base_url},
    )
    first, *rest, last = ended.stdout.splitlines()
    assert json.loads(first) == data[0] and len(rest) == 2999 and last == "False"
