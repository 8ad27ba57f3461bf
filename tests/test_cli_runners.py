"""The command line on portable runners: the same rows, counts, errors and ends as in its own process.

Flink is tried where the variable FLINK_JOB_SERVER_JAR says where Beam's job server for Flink 1.19 is.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PRISM, needs_prism

from beam_openai.emulator import Emulator
from beam_openai.emulator.vectors import embed

JAR = os.environ.get("FLINK_JOB_SERVER_JAR")
PORTABLE = [
    pytest.param(["PrismRunner", f"--prism_location={PRISM}"], id="prism", marks=needs_prism),
    pytest.param(
        ["FlinkRunner", "--flink_version=1.19", "--flink_master=[local]", f"--flink_job_server_jar={JAR}"],
        id="flink",
        marks=pytest.mark.skipif(not JAR, reason="no job server: set FLINK_JOB_SERVER_JAR"),
    ),
]


@pytest.fixture
def command(tmp_path):
    """A command over 100 rows, in two files; the runner is still to be named."""
    for part in range(2):
        ids = range(50 * part, 50 * part + 50)
        pq.write_table(pa.table({"id": ids, "text": [f"text {i}" for i in ids]}), tmp_path / f"in-{part}.parquet")
    return [
        *(sys.executable, "-m", "beam_openai.cli", "embeddings"),
        *("--input", f"{tmp_path}/in-*.parquet", "--output", f"{tmp_path}/out"),
        *("--model", "text-embedding-3-small", "--dimensions", "8", "--environment_type=LOOPBACK", "--runner"),
    ]


def run(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL)


def files_in(*folders):
    return [name for folder in folders if folder.exists() for name in os.listdir(folder)]


@pytest.mark.parametrize("runner", PORTABLE)
def test_every_row_comes_out_and_is_counted(command, runner, tmp_path):
    with Emulator() as server:
        ended = run(*command, *runner, "--base-url", server.base_url)
        requests = server.ledger()["requests"]
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert sorted(row["id"] for row in rows) == list(range(100))
    assert [row["embedding"] for row in rows] == embed([row["text"] for row in rows], 8).tolist()
    assert "100 rows answered, 0 failed" in ended.stdout and f"\n{requests} requests, 0 retries" in ended.stdout


@pytest.mark.parametrize("runner", PORTABLE)
def test_what_stops_the_job_is_one_line(command, runner, tmp_path):
    with Emulator() as server:
        ended = run(*command, *runner, "--base-url", server.base_url, "--key", "NO_SUCH_VARIABLE")
    assert ended.returncode == 1 and "NO_SUCH_VARIABLE is not set" in ended.stderr.splitlines()[0]
    assert "Traceback" not in ended.stderr and "stopped; nothing was written" in ended.stderr
    assert files_in(tmp_path / "out", tmp_path / "out.failed") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("runner", PORTABLE)
def test_a_signal_cancels_the_job_and_leaves_neither_files_nor_programs(command, runner, number, tmp_path):
    with Emulator(latency=0.2) as server:
        slowly = ["--max-batch-size", "1", "--concurrency", "1", "--base-url", server.base_url]
        process = subprocess.Popen([*command, *runner, *slowly], stderr=subprocess.PIPE, text=True)
        while server.ledger()["requests"] < 5:
            assert process.poll() is None
            time.sleep(0.1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert children
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
        sent = server.ledger()["requests"]
        time.sleep(1.0)
        assert server.ledger()["requests"] == sent < 100
    assert process.returncode == 1 and "stopped by you; nothing was written" in said and "Traceback" not in said
    assert 0 < int(re.match(r"\d+", said)[0]) <= sent
    assert files_in(tmp_path / "out", tmp_path / "out.failed") == []
    assert [child for child in children if is_alive(child)] == []


def is_alive(process):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False
