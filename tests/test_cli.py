"""The command line, as a user meets it: in a process of its own, against the emulator."""

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from beam_openai.cli import progress
from beam_openai.cli.failing import in_flags, one_line
from beam_openai.cli.progress import Progress
from beam_openai.emulator import Emulator
from beam_openai.emulator.media.pngs import picture
from beam_openai.emulator.vectors import embed

ROOT = str(Path(__file__).parent.parent)
CLI = [sys.executable, "-m", "beam_openai.cli"]
PNG, WEBP = picture(b"one", 8, 8), b"RIFF\0\0\0\0WEBPVP8 "
MODEL = ["--model", "text-embedding-3-small", "--dimensions", "8"]


@pytest.fixture(scope="module")
def server():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def corpus(tmp_path):
    pq.write_table(pa.table({"id": range(100), "text": [f"text {i}" for i in range(100)]}), tmp_path / "corpus.parquet")
    return str(tmp_path / "corpus.parquet")


def run(*arguments, **environment):
    ended = subprocess.run(
        [*CLI, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in ended.stderr
    return ended


def embeddings(server, input, output, *more, **environment):
    return run(
        "embeddings", "--input", input, "--output", output, "--base-url", server.base_url, *MODEL, *more, **environment
    )


def test_all_rows_answered_is_0_and_the_parts_hold_every_row_with_its_vector(server, corpus, tmp_path):
    ended = embeddings(server, corpus, tmp_path / "out")
    assert ended.returncode == 0, ended.stderr
    assert "100 rows answered, 0 failed" in ended.stdout
    assert str(tmp_path / "out") in ended.stdout
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert sorted(row["id"] for row in rows) == list(range(100))
    expected = embed([row["text"] for row in rows], 8)
    assert [row["embedding"] for row in rows] == expected.tolist()
    assert ended.stderr == ""


def test_some_rows_failed_is_3_with_their_number_and_reasons(server, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "n": 1}\n{"text": "", "n": 2}\n{"text": null, "n": 3}\n')
    ended = embeddings(server, tmp_path / "rows.jsonl", tmp_path / "out")
    assert ended.returncode == 3
    assert "1 rows answered, 2 failed" in ended.stdout
    assert "text is empty" in ended.stdout
    failed = pq.read_table(tmp_path / "out.failed").to_pylist()
    assert sorted(row["n"] for row in failed) == [2, 3]
    assert {row["error"]["kind"] for row in failed} == {"invalid_input"}


def test_a_job_that_stops_is_1_in_one_line_and_leaves_nothing(server, corpus, tmp_path):
    ended = run(
        "embeddings",
        "--input",
        corpus,
        "--output",
        tmp_path / "out",
        "--base-url",
        server.base_url,
        "--model",
        "unknown",
    )
    assert ended.returncode == 1
    first = ended.stderr.splitlines()[0]
    assert first.startswith("beam-openai embeddings: ")
    assert "unknown" in first
    assert "Check --model and --base-url" in first
    assert [name for _, _, names in os.walk(tmp_path / "out") for name in names] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dimension", "8"], "did you mean --dimensions"),
        (["--no-such-option"], "unknown option"),
        (["--dimensions", "0"], "--dimensions must be a whole number from 1 to 1536, not 0"),
        (["--dimensions", "x"], "not a whole number"),
        (["--params", "{"], "not JSON"),
        (["--encoding-format", "binary"], "not one of base64, float, none"),
        (["--key", "sk-0123456789"], "never the key itself"),
        (["--attempts", "0"], "--attempts must be at least 1"),
        (["--base-url", "localhost:8080"], "--base-url must be"),
        (["--failed", "{out}"], "two folders"),
        (["--failed", ""], "names no folder"),
        (["--input", "/nowhere/*.parquet"], "/nowhere/*.parquet"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_wrong(server, corpus, tmp_path, arguments, says):
    arguments = [argument.replace("{out}", str(tmp_path / "out")) for argument in arguments]
    before = server.ledger()["requests"]
    ended = embeddings(server, corpus, tmp_path / "out", *arguments)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "sk-0123456789" not in ended.stderr + ended.stdout
    assert server.ledger()["requests"] == before


def test_a_folder_with_parts_is_refused_before_any_call_unless_overwrite(server, corpus, tmp_path):
    assert embeddings(server, corpus, tmp_path / "out").returncode == 0
    before = server.ledger()["requests"]
    ended = embeddings(server, corpus, tmp_path / "out")
    assert ended.returncode == 2
    assert "--overwrite" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert server.ledger()["requests"] == before
    assert embeddings(server, corpus, tmp_path / "out", "--overwrite").returncode == 0
    assert pq.read_table(tmp_path / "out").num_rows == 100


def test_every_flag_reaches_the_wire(server, corpus, tmp_path):
    server.clear()
    ended = embeddings(
        server, corpus, tmp_path / "out", "--column", "text", "--output-column", "vector", "--user", "me",
        "--encoding-format", "float", "--max-batch-size", "50", "--organization", "org-1", "--project", "proj_1",
        "--key", "MY_KEY", MY_KEY="k-123",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    requests = server.requests()[-2:]
    assert [len(request["body"]["input"]) for request in requests] == [50, 50]
    for request in requests:
        del request["body"]["input"]
        assert request["body"] == {
            "model": "text-embedding-3-small",
            "dimensions": 8,
            "encoding_format": "float",
            "user": "me",
        }
        headers = {name.lower(): value for name, value in request["headers"].items()}
        assert headers["authorization"] == "Bearer k-123"
        assert headers["openai-organization"] == "org-1"
        assert headers["openai-project"] == "proj_1"
    assert "vector" in pq.read_table(tmp_path / "out").column_names


def test_an_option_that_none_is_said_for_is_not_sent(server, corpus, tmp_path):
    server.clear()
    assert embeddings(server, corpus, tmp_path / "out", "--encoding-format", "none").returncode == 0
    assert "encoding_format" not in server.requests()[-1]["body"]


def test_csv_and_compressed_json_lines_are_read_by_their_names(server, tmp_path):
    import gzip

    (tmp_path / "a.csv").write_text("id,text\n1,one\n2,two\n")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write('{"id": 3, "text": "three"}\n')
    ended = embeddings(
        server, tmp_path / "a.csv", tmp_path / "out", "--input", tmp_path / "a.csv", tmp_path / "b.jsonl.gz"
    )
    assert ended.returncode == 0, ended.stderr
    assert sorted(pq.read_table(tmp_path / "out")["id"].to_pylist()) == [1, 2, 3]


def test_whole_numbers_in_csv_are_text_where_that_is_said(server, tmp_path):
    (tmp_path / "in.csv").write_text("id,text\n1,10115\n2,80331\n")
    ended = embeddings(server, tmp_path / "in.csv", tmp_path / "out")
    assert ended.returncode == 3
    assert ended.stdout.splitlines()[-2:] == [
        "  2 invalid_input: text is int64, not text",
        "  (--csv-text reads whole numbers in CSV as text)",
    ]
    ended = embeddings(server, tmp_path / "in.csv", tmp_path / "out", "--csv-text", "--overwrite")
    assert ended.returncode == 0, ended.stderr
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert sorted((row["id"], row["text"]) for row in rows) == [("1", "10115"), ("2", "80331")]
    (tmp_path / "in.jsonl").write_text('{"text": 10115}\n')
    assert "--csv-text" not in embeddings(server, tmp_path / "in.jsonl", tmp_path / "again").stdout


def test_help_lists_the_commands_and_imports_no_beam():
    ended = run("--help")
    assert ended.returncode == 0
    assert "embeddings" in ended.stdout
    assert "emulator" in ended.stdout
    code = (
        "import sys, beam_openai.cli as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('apache_beam', 'pyarrow', 'aiohttp', 'requests') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_the_help_of_an_endpoint_explains_each_flag():
    ended = run("embeddings", "--help", COLUMNS="200")
    assert ended.returncode == 0
    for flag in ("--input", "--output", "--failed", "--overwrite", "--column", "--model", "--dimensions", "--base-url",
                 "--key", "--concurrency", "--max-batch-size", "--attempts", "--requests-per-minute",
                 "--tokens-per-minute", "--params", "--timeout", "--api-version"):  # fmt: skip
        line = re.search(rf"^  {flag}\b.*(?:\n {{10,}}.*)*", ended.stdout, re.MULTILINE)
        assert line, flag
        assert len(line.group().split()) > 4, line.group()


@pytest.mark.parametrize(
    ("command", "options", "files", "more"),
    [
        ("moderations", ["--model", "omni-moderation-latest", "--images", "image"], {"a.png": PNG, "b.WEBP": WEBP}, {}),
        (
            "chat",
            ["--model", "gpt-4o-mini", "--prompt", "What is {name}?", "--images", "picture"],
            {"a.png": PNG},
            {"sound.mp3": b"ID3"},
        ),
        (
            "chat",
            ["--model", "gpt-4o-mini", "--prompt", "Who?", "--audio", "sound"],
            {"a.mp3": b"ID3" + b"0" * 99},
            {"a.flac": b"fLaC"},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_folder_of_files_is_an_input_where_an_option_takes_them(server, tmp_path, command, options, files, more):
    (tmp_path / "in").mkdir()
    for name, data in {**files, **more}.items():
        (tmp_path / "in" / name).write_bytes(data)
    ended = run(
        command, "--input", tmp_path / "in", "--output", tmp_path / "out", "--base-url", server.base_url, *options
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert {row["name"]: row[options[-1]] for row in rows} == files


def test_without_an_option_that_takes_them_files_are_no_input(server, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    ended = run("chat", "--input", tmp_path, "--output", tmp_path / "out", "--model", "m", "--prompt", "p")
    assert ended.returncode == 2 and "no files match" in ended.stderr


def test_the_help_says_where_files_are_an_input_and_what_overwrite_replaces():
    told = {
        name: " ".join(run(name, "--help", COLUMNS="200").stdout.split()) for name in ("chat", "images", "embeddings")
    }
    files = "where --images or --audio names the column of their bytes, a folder or glob of files"
    assert files in told["chat"] and "glob of files" not in told["embeddings"]
    replaced = "replace what earlier runs left in the folders of rows"
    assert f"{replaced}; in --files-dir, replace files of the same names and leave others" in told["images"]
    assert replaced in told["chat"] and "--files-dir" not in told["chat"]


def test_the_version_is_told_also_where_nothing_is_installed():
    ended = run("--version")
    assert ended.returncode == 0 and ended.stdout.startswith("beam-openai ")


def test_no_command_prints_the_help_and_is_wrong_usage():
    ended = run()
    assert ended.returncode == 2
    assert "embeddings" in ended.stdout


def terminal(*arguments):
    """The command on a terminal of its own: the process, and where to read what it shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*CLI, *map(str, arguments)], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    return process, ours


def shown(ours, until, seconds=60):
    text, end = "", time.monotonic() + seconds
    while not re.search(until, text) and time.monotonic() < end:
        if select.select([ours], [], [], 0.5)[0]:
            with contextlib.suppress(OSError):
                piece = os.read(ours, 65536).decode()
                text += piece
                if not piece:
                    break
    return text


def test_progress_is_shown_on_a_terminal_and_ctrl_c_ends_it_with_a_summary(corpus, tmp_path):
    with Emulator(latency=0.3) as slow:
        process, ours = terminal(
            "embeddings", "--input", corpus, "--output", tmp_path / "out", "--base-url", slow.base_url, *MODEL,
            "--max-batch-size", "1", "--concurrency", "2", "--requests-per-minute", "120",
        )  # fmt: skip
        text = shown(ours, r"[1-9]\d* of 100 rows, \d+/s, .*requests, .*in flight.* left")
        assert re.search(r"of 100 rows", text), text
        process.send_signal(signal.SIGINT)
        text = shown(ours, "stopped by you")
        assert re.search(r"\d+ rows answered, 0 failed, in", text), text
        assert "Traceback" not in text
        assert process.wait(timeout=30) == 1
        os.close(ours)
    assert [name for _, _, names in os.walk(tmp_path) for name in names] == ["corpus.parquet"]


def test_a_line_of_progress_is_no_wider_than_the_terminal():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 20, 0, 0))
    with os.fdopen(theirs, "w") as stream:
        assert progress.fitted("x" * 100, stream) == "x" * 19
        Progress(stream, 0.0).show({"rows_answered": 1e9, "requests": 1e6}, 1.0)
        text = shown(ours, "rows", 5)
    os.close(ours)
    assert len(text.removeprefix("\r\x1b[K")) == 19
    assert progress.fitted("x" * 100, sys.stdin) == "x" * 100


@pytest.mark.parametrize("rows, status", [(["a"], 0), (["a", ""], 3)])
def test_a_reader_that_goes_away_does_not_change_how_the_run_ended(server, tmp_path, rows, status):
    pq.write_table(pa.table({"text": rows}), tmp_path / "in.parquet")
    process = subprocess.Popen(
        [*CLI, "embeddings", "--input", tmp_path / "in.parquet", "--output", tmp_path / "out", "--base-url",
         server.base_url, *MODEL], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(timeout=60) == status
    assert pq.read_table(tmp_path / "out").num_rows == 1


def test_a_stream_that_the_shell_closed_is_no_traceback_and_errors_do_not_go_to_the_output(server):
    command = f"{' '.join(CLI)} files {{}} --base-url {server.base_url}"
    ended = subprocess.run(f"{command.format('list')} >&-", shell=True, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    ended = subprocess.run(f"{command.format('get none')} 2>&-", shell=True, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")


SLOW_NAMES = """
import sys, time
from apache_beam.io.localfilesystem import LocalFileSystem
rename = LocalFileSystem.rename
def slowly(*arguments):
    print("naming", file=sys.__stderr__, flush=True)
    time.sleep(float(sys.argv[1]))
    rename(*arguments)
LocalFileSystem.rename = slowly
from beam_openai.cli import main
sys.exit(main(sys.argv[2:]))
"""


def interrupted_while_naming(server, corpus, output, seconds):
    """A run on a disk that takes its time, with one Ctrl-C."""
    where = ["--input", corpus, "--output", str(output), "--base-url", server.base_url, *MODEL]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_NAMES, str(seconds), "embeddings", *where],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ROOT},
    )  # fmt: skip
    while (line := process.stderr.readline()) and line != "naming\n":
        pass
    process.send_signal(signal.SIGINT)
    return process


def test_ctrl_c_while_parts_are_named_waits_for_them(server, corpus, tmp_path):
    process = interrupted_while_naming(server, corpus, tmp_path / "out", 5)
    out, err = process.communicate(timeout=60)
    assert "waiting until the parts have their names" in err and "100 rows answered" in out
    assert process.returncode == 0 and pq.read_table(tmp_path / "out").num_rows == 100
    assert [name.startswith("part-") for name in os.listdir(tmp_path / "out")] == [True]


def test_another_ctrl_c_leaves_them_and_says_where_until_they_are_replaced(server, corpus, tmp_path):
    process = interrupted_while_naming(server, corpus, tmp_path / "out", 300)
    assert "waiting until the parts have their names" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    (left,) = (tmp_path / "out").iterdir()
    assert process.returncode == 1 and f"stopped by you; there are parts in {left}\n" in err
    assert embeddings(server, corpus, tmp_path / "out", "--overwrite").returncode == 0
    assert [name.startswith("part-") for name in os.listdir(tmp_path / "out")] == [True]


def test_a_terminal_that_is_closed_ends_the_run_and_leaves_no_file(corpus, tmp_path):
    with Emulator(latency=60) as slow:
        process = subprocess.Popen(
            [*CLI, "embeddings", "--input", corpus, "--output", tmp_path / "out", "--base-url", slow.base_url, *MODEL],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        until = time.monotonic() + 30
        while not slow.ledger()["in_flight"] and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(signal.SIGHUP)
        assert "stopped by you" in process.communicate(timeout=30)[1].decode()
    assert process.returncode == 1 and os.listdir(tmp_path / "out") == []


def test_one_folder_in_two_spellings_is_one_folder(server, corpus, tmp_path):
    ended = embeddings(server, corpus, tmp_path / "out", "--failed", tmp_path / "in" / ".." / "out")
    assert ended.returncode == 2 and "two folders" in ended.stderr
    ended = embeddings(server, corpus, ".")
    assert ended.returncode == 2 and "--failed" in ended.stderr


def test_ctrl_c_ends_it_also_while_a_request_hangs(corpus, tmp_path):
    with Emulator(stall_seconds=300) as stalled:
        stalled.inject("stall", times=50)
        process, ours = terminal(
            "embeddings", "--input", corpus, "--output", tmp_path / "out", "--base-url", stalled.base_url, *MODEL
        )
        shown(ours, "1 in flight")
        process.send_signal(signal.SIGINT)
        text = shown(ours, "stopped by you")
        assert "stopped by you" in text
        assert process.wait(timeout=30) == 1
        os.close(ours)


def test_an_output_that_cannot_be_written_is_one_clear_line(server, corpus, tmp_path):
    (tmp_path / "file").write_text("")
    before = server.ledger()["requests"]
    ended = embeddings(server, corpus, tmp_path / "file" / "out")
    assert ended.returncode == 2
    assert "file/out" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert server.ledger()["requests"] == before


def test_a_corrupt_file_is_named(server, corpus, tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and then nothing of use PAR1")
    ended = embeddings(server, tmp_path / "*.parquet", tmp_path / "out")
    assert ended.returncode == 1
    assert "bad.parquet" in ended.stderr.splitlines()[0]


def test_a_column_that_is_not_there_is_an_error_that_names_those_that_are(server, corpus, tmp_path):
    ended = embeddings(server, corpus, tmp_path / "out", "--column", "body")
    assert ended.returncode == 1
    assert "no column 'body'; they have: id, text" in ended.stderr


@pytest.mark.parametrize(
    "error, line",
    [
        (ValueError("a\n b"), "a b"),
        (KeyError("no 'x' [while running 'Y/Z']"), "no 'x'"),
        (ValueError(), "ValueError"),
        (RuntimeError("Traceback (most recent call last):\n  File\na.b.SomeError: it\nis so"), "it is so"),
        (OSError("\x1b[2J"), "\N{REPLACEMENT CHARACTER}[2J"),
    ],
)
def test_an_error_is_one_line_in_words(error, line):
    assert one_line(error) == line


FLAGS = {
    **{
        name: f"--{name.replace('_', '-')}"
        for name in ("attempts", "base_url", "key", "logprobs", "max_wait", "model", "n", "prompt")
    },
    **{name: f"--{name.replace('_', '-')}" for name in ("max_batch_size", "overwrite", "top_logprobs")},
    "output": "--output-column",
}


@pytest.mark.parametrize(
    "said, shown",
    [
        ("name the added one with output=", "name the added one with --output-column"),
        ("output: 'a' twice: output={...}", "--output-column: 'a' twice: --output-column {...}"),
        ("top_logprobs needs logprobs=True", "--top-logprobs needs --logprobs"),
        ("API(key=...) says where", "--key says where"),
        ("Retry.attempts must be 1", "--attempts must be 1"),
        ("longer than Retry(max_wait=2.5).", "longer than --max-wait 2.5."),
        ("404. Check `model` and `base_url`", "404. Check --model and --base-url"),
        ("pass overwrite=True (--overwrite) to replace", "pass --overwrite to replace"),
        ("asked with max_batch_size=1)", "asked with --max-batch-size 1)"),
        ("302: set base_url (request 1). Check base_url", "302: set --base-url (request 1). Check --base-url"),
        ("404. Check the id, and base_url", "404. Check the id, and --base-url"),
        ("Unknown: max_batch_size", "Unknown: max_batch_size"),
        ("/data/model=x/a.parquet: no file", "/data/model=x/a.parquet: no file"),
        ("the column 'model' holds the n of a prompt", "the column 'model' holds the n of a prompt"),
    ],
)
def test_options_that_a_message_names_are_flags_on_the_command_line(said, shown):
    assert in_flags(said, FLAGS) == shown
    assert in_flags(said, {}) == said


def test_a_column_that_is_there_already_is_an_error_that_names_the_flag(server, tmp_path):
    pq.write_table(pa.table({"text": ["a"], "embedding": [1]}), tmp_path / "in.parquet")
    ended = embeddings(server, tmp_path / "in.parquet", tmp_path / "out")
    assert ended.returncode == 1
    assert "a column 'embedding' already: name the added one with --output-column\n" in ended.stderr
    ended = embeddings(server, tmp_path / "in.parquet", tmp_path / "out", "--output-column", "vector")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    "command, options, says",
    [
        (
            "moderations",
            ["--images", "text"],
            "--images 'text' is the column of the texts, too: name the one that holds",
        ),
        ("chat", ["--column", "a{b"], "--column '{a{b}': '{' at 0 is no column in braces"),
        ("chat", ["--prompt", "a {b"], "--prompt 'a {b': '{' at 2 is no column in braces"),
        ("chat", ["--top-logprobs", "2"], "--top-logprobs needs --logprobs"),
        ("chat", ["--column", "text", "--prompt", "Say {text}"], "--column and --prompt"),
    ],
)
def test_what_can_never_work_is_2_in_one_line_of_flags(server, corpus, tmp_path, command, options, says):
    before = server.ledger()["requests"]
    ended = run(
        command,
        "--input",
        corpus,
        "--output",
        tmp_path / "out",
        "--model",
        "m",
        "--base-url",
        server.base_url,
        *options,
    )
    assert ended.returncode == 2 and server.ledger()["requests"] == before
    assert ended.stderr.startswith(f"beam-openai {command}: {says}") and len(ended.stderr.splitlines()) == 1


def test_the_options_of_all_commands_may_stand_before_the_command(server, corpus, tmp_path):
    where = ["--base-url", server.base_url, "--timeout=9", "--debug"]
    ended = run(*where, "embeddings", "--input", corpus, "--output", tmp_path / "out", *MODEL)
    assert ended.returncode == 0, ended.stderr
    ended = run(*where, "models", "get", "text-embedding-3-small", "--json")
    assert json.loads(ended.stdout)["id"] == "text-embedding-3-small"


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--model", "search", "embeddings"], "--model must stand behind the command: beam-openai COMMAND --model ..."),
        (["--base-url", "http://localhost:1/v1"], "name a command"),
        (["--base-url", "http://localhost:1/v1", "embed"], "invalid choice: 'embed'"),
    ],
)
def test_what_else_stands_before_the_command_is_wrong_usage(arguments, says):
    ended = run(*arguments)
    assert ended.returncode == 2 and says in ended.stderr.splitlines()[-1]


def test_zero_rows_are_answered_by_nothing(server, tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    ended = embeddings(server, tmp_path / "none.parquet", tmp_path / "out")
    assert ended.returncode == 0, ended.stderr
    assert "0 rows answered, 0 failed" in ended.stdout


def test_debug_shows_the_traceback(server, corpus, tmp_path):
    ended = subprocess.run(
        [*CLI, "embeddings", "--input", corpus, "--output", str(tmp_path / "out"), "--base-url", server.base_url,
         "--model", "unknown", "--debug"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


def test_an_emulator_whose_port_is_taken_says_so_in_one_line(server):
    port = server.base_url.split(":")[2].removesuffix("/v1")
    ended = run("emulator", "--port", port)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"emulator: cannot listen on 127.0.0.1:{port}: Address already in use; --port 0")


def test_an_emulator_says_nothing_of_a_client_that_goes_away():
    process = subprocess.Popen(
        [*CLI, "emulator", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    url = process.stdout.readline().split()[-1]
    line = json.dumps(
        {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": "x" * 20_000_000}}
    )
    file = requests.post(f"{url}/files", files={"file": ("a.jsonl", line)}, data={"purpose": "batch"}).json()
    with requests.get(f"{url}/files/{file['id']}/content", stream=True) as answer:
        assert answer.raw.read(10) == b'{"custom_i'
        time.sleep(0.3)  # until the server can write no more
    ledger = f"{url.removesuffix('/v1')}/ledger"
    until = time.monotonic() + 20
    while requests.get(ledger).json()["in_flight"] and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == ""


def test_the_emulator_command_serves_until_ctrl_c_and_closes_with_its_ledger():
    process = subprocess.Popen(
        [*CLI, "emulator", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    url = process.stdout.readline().split()[-1]
    body = json.dumps({"model": "text-embedding-3-small", "input": "a"}).encode()
    import urllib.request

    request = urllib.request.Request(f"{url}/embeddings", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert "1 requests" in out + err
    assert "Traceback" not in err
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("throttled", "in_flight", "places", "limit"),
    [
        (0.9, 3, 64, "quota"),
        (0.1, 60, 64, "server"),
        (0.0, 64, 64, "server"),
        (0.1, 5, 64, "client"),
        (0.0, 0, 0, ""),
    ],
)
def test_what_limits_a_run_is_told(throttled, in_flight, places, limit):
    assert progress.limit_of(throttled, in_flight, places) == limit


@pytest.mark.parametrize(
    ("counts", "limit"),
    [
        (lambda second: {"in_flight": 1}, "server"),  # which has not answered yet
        (lambda second: {"requests": 16, "retries": 10 * second, "in_flight": 1}, "server"),  # which fails
        (lambda second: {"requests": 10 * second, "retries": second, "in_flight": 1}, "client"),
        (lambda second: {"requests": 10, "retries": 10 * min(second, 3)}, "server"),  # and the next attempts wait
        (lambda second: {"requests": 10 * min(second, 3)}, "client"),
    ],
)
def test_a_server_that_does_not_answer_is_what_limits_a_run(counts, limit):
    stream = io.StringIO()
    stream.isatty, stream.fileno = lambda: True, sys.stdin.fileno
    line = Progress(stream, 0.0)
    for second in range(10):
        line.show({"places": 16, **counts(second)}, float(second))
    assert f"limited by {limit}" in stream.getvalue().rpartition("\r")[2]


def test_the_progress_line_says_what_of_the_quota_is_used_and_what_limits_the_run():
    counts = {"rows_answered": 500, "requests": 500, "in_flight": 12, "places": 64, "quota_used": 0.973}
    line = progress.progress_line(counts, 1000, 10.0, 50.0, "quota")
    assert "quota 97%" in line and "limited by quota" in line
    stream = io.StringIO()
    stream.isatty, stream.fileno = lambda: True, sys.stdin.fileno
    line = Progress(stream, 0.0)
    for second in range(5):
        line.show({**counts, "throttled": 0.95 * second}, float(second))
    assert "limited by quota" in stream.getvalue()
    for second in range(5, 10):
        line.show({**counts, "throttled": 3.8, "in_flight": 64}, float(second))
    assert "limited by server" in stream.getvalue()
    for second in range(10, 15):
        line.show({**counts, "throttled": 3.8, "cut_off": 1}, float(second))
    assert "limited by the quota's Redis, which cannot be reached" in stream.getvalue()
