"""A contestant in a process of its own, and what is measured in there."""

from __future__ import annotations

import importlib
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

# No contestant is to look for a real key, or go through a proxy to a server next door.
_SETTINGS = {"OPENAI_API_KEY": "none-is-needed", "NO_PROXY": "127.0.0.1"}


def apart(function: Callable[..., Any], **arguments: Any) -> Any:
    """Calls a module's function in a new process; arguments and result are what JSON can say.

    Raises:
      RuntimeError: it failed; why stands on standard error.
    """
    command = [sys.executable, "-m", "benchmarks.process", function.__module__, function.__name__]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(),
        input=json.dumps(arguments, default=str),
        stdout=subprocess.PIPE,
        text=True,
    )
    if ended.returncode:
        raise RuntimeError(f"{function.__module__}.{function.__name__} ended with status {ended.returncode}")
    return json.loads(ended.stdout.splitlines()[-1])


def environment() -> dict[str, str]:
    return {**os.environ, **_SETTINGS}


def cpu_seconds() -> float:
    """CPU time of this process and of the children that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def cpu_of_each(run: Callable[[int], Any], few: int, many: int, times: int = 1) -> float:
    """CPU seconds that one thing more costs: see `cost_of_each`."""
    return cost_of_each(run, few, many, times)[0]


def cost_of_each(run: Callable[[int], Any], few: int, many: int, times: int = 1) -> tuple[float, float]:
    """Seconds of CPU and of time that one thing more costs: (those of `many` - those of `few`) / (many - few).

    So start-up is apart.

    Args:
      run: does the work for so many things. Called once before anything is measured, so that all is imported.
      times: how often each is measured; the medians count.
    """
    run(few)
    spent: dict[int, list[tuple[float, float]]] = {few: [], many: []}
    for _ in range(times):
        for size in (few, many):
            cpu, began = cpu_seconds(), time.monotonic()
            run(size)
            spent[size].append((cpu_seconds() - cpu, time.monotonic() - began))
    of_few, of_many = (medians(spent[size]) for size in (few, many))
    cpu, seconds = ((more - less) / (many - few) for more, less in zip(of_many, of_few))
    return cpu, seconds


def peak_megabytes(whose: int = resource.RUSAGE_SELF) -> float:
    """The most memory that this process, or one of its children, has had resident, in MB of 10^6 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(whose).ru_maxrss * unit / 1e6


def in_turns(
    contestants: dict[str, Callable[[], Any]], rounds: int, median: Callable[[list[Any]], Any] = statistics.median
) -> dict[str, Any]:
    """The median of each contestant's figures, A B A B: what a noisy machine does, it does to all.

    Where a contestant returns several figures at once, `median` is `medians`.
    """
    found: dict[str, list[Any]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            found[name].append(contestant())
    return {name: median(each) for name, each in found.items()}


def medians(found: Sequence[Sequence[float]]) -> list[float]:
    """Of the first figures, of the second ones, and so on."""
    return [statistics.median(each) for each in zip(*found)]


def main() -> None:
    module, function = sys.argv[1:]
    logging.disable(logging.WARNING)  # Beam warns of what it lacks, and of itself
    arguments = json.load(sys.stdin)
    print(json.dumps(getattr(importlib.import_module(module), function)(**arguments)))


if __name__ == "__main__":
    main()
