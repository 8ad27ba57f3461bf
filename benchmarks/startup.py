"""How long the command line takes: to its first request, beside what Beam alone takes, and to its help."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

from beam_openai.emulator import Emulator
from benchmarks.contestants import MODEL, RUNNER
from benchmarks.corpus import corpus
from benchmarks.figures import Figure, Plan
from benchmarks.process import ROOT, environment, in_turns

_BEAM_ALONE = f"""
import apache_beam as beam
with beam.Pipeline({RUNNER!r}) as pipeline:
    pipeline | beam.Create([0])
"""
_HELP = """
import json, sys
from beam_openai.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print(json.dumps("apache_beam" in sys.modules))
"""


def figures(plan: Plan) -> Iterator[Figure]:
    rounds = plan.either(7, 3)
    source, target = corpus(plan.folder, 2_000), plan.folder / "out-startup"
    with Emulator(vectors="cheap", models={MODEL: 8}) as server:

        def first_request() -> float:
            shutil.rmtree(target, ignore_errors=True)
            server.clear()
            data = ["--input", f"{source}/*.parquet", "--output", str(target)]
            api = ["--model", MODEL, "--base-url", server.base_url, "--dimensions", "8"]
            began = time.monotonic()
            _python("-m", "beam_openai.cli", "embeddings", *data, *api)
            # One clock for all processes of a machine, where it is Linux or macOS.
            return float(server.requests()[0]["at"]) - began

        waited = in_turns({"ours": first_request, "beam": partial(_seconds, "-c", _BEAM_ALONE)}, rounds)
    help_ = partial(_seconds, "-m", "beam_openai.cli", "--help")
    helped = in_turns({"help": help_, "python": partial(_seconds, "-c", "")}, rounds)
    beside = f"import Beam, run an empty pipeline: {waited['beam']:.2f} s"
    yield Figure("start to first request", f"{waited['ours']:.2f} s", beside, waited["ours"] / waited["beam"], "<= 1.3")
    imported = json.loads(_python("-c", _HELP).splitlines()[-1])
    beside = f"an empty Python: {helped['python']:.2f} s; Beam is {'' if imported else 'not '}imported"
    yield Figure("beam-openai --help", f"{helped['help']:.2f} s", beside)


def _seconds(*arguments: str) -> float:
    began = time.monotonic()
    _python(*arguments)
    return time.monotonic() - began


def _python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    ended = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} ended with status {ended.returncode}:\n{ended.stderr}")
    return ended.stdout
