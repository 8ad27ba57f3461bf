"""Peak memory over recordings of 5 MB, eight requests in flight: ten times the files are to take no more of it.

Once with the recordings' bytes as a column, which come out again in the answered rows' Parquet; once with their paths,
from which they are read while they are sent.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from beam_openai.emulator import Emulator
from benchmarks.corpus import SEED
from benchmarks.figures import Figure, Plan
from benchmarks.process import apart, in_turns, peak_megabytes

_BYTES = 5_000_000
_DIFFERENT = 8
_IN_FLIGHT = 8
_CASES = {"their bytes as a column": [], "read from their paths": ["--paths=path"]}


def figures(plan: Plan) -> Iterator[Figure]:
    few, many = plan.either(100, 40), plan.either(1_000, 100)
    for files in (few, many):
        _record(_recordings(plan.folder, files), files)
    with Emulator() as server:
        run = partial(apart, megabytes, base_url=server.base_url, folder=plan.folder)
        turns = {
            f"{case} {files}": partial(run, files=files, options=options)
            for case, options in _CASES.items()
            for files in (few, many)
        }
        peak = in_turns(turns, plan.either(3, 1))
    for case in _CASES:
        ours, beside = peak[f"{case} {many}"], peak[f"{case} {few}"]
        what = f"peak memory, {many:,} recordings of 5 MB, {case}"
        yield Figure(what, f"{ours:.0f} MB", f"{few:,} recordings: {beside:.0f} MB", ours / beside, "<= 1.1")


def _recordings(folder: Path | str, files: int) -> Path:
    return Path(folder) / f"recordings-{files}"


def _record(folder: Path, files: int) -> None:
    """So many files, eight of which are different: the others are links to them, which are read as any file is."""
    folder.mkdir()
    noise = random.Random(SEED)
    for number in range(files):
        path = folder / f"{number:04}.wav"
        if number < _DIFFERENT:
            path.write_bytes(_wav(noise.randbytes(_BYTES)))
        else:
            os.link(folder / f"{number % _DIFFERENT:04}.wav", path)


def _wav(samples: bytes) -> bytes:
    """One channel of 16 bits, 16,000 samples a second."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16)
    data = struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(data), b"WAVE") + form + data


def megabytes(base_url: str, folder: str, files: int, options: list[str]) -> float:
    """As a user runs it, see memory.py."""
    from beam_openai import cli

    target = f"{folder}/out-media"
    data = [f"--input={_recordings(folder, files)}", f"--output={target}"]
    api = [f"--base-url={base_url}", "--model=whisper-1", f"--concurrency={_IN_FLIGHT}"]
    status = cli.main(["transcriptions", *data, *api, *options])
    if status:
        raise RuntimeError(f"the command ended with status {status}")
    shutil.rmtree(target)
    shutil.rmtree(f"{target}.failed", ignore_errors=True)
    return peak_megabytes()
