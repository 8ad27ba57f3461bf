"""Runs the benchmarks and prints one table in Markdown: how much better or worse, before how much.

python -m benchmarks                two cores, 7 GB of disk, 20 minutes
python -m benchmarks --quick        smaller and shorter, to see whether anything is far off
python -m benchmarks --only cpu     one of them; may be given several times
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import tempfile
import time
import traceback
from importlib import metadata
from pathlib import Path

from benchmarks.figures import Plan, table

NAMES = (
    "cpu",
    "endpoint_overhead",
    "chat",
    "short_rows",
    "latency",
    "memory",
    "media",
    "scale",
    "startup",
    "workers",
    "server",
    "quota",
)


def main() -> int:
    """Returns the exit status: 1 if a benchmark could not be run. A goal that is not met stands in the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Prints one table, in Markdown.")
    parser.add_argument("--quick", action="store_true", help="smaller and shorter, a few minutes in all")
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--folder", help="where to keep data meanwhile (default: the system's folder for that)")
    chosen = parser.parse_args()
    found, failed = [], False
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=chosen.folder) as folder:
        plan = Plan(Path(folder), chosen.quick)
        for name in chosen.only or NAMES:
            began = time.monotonic()
            print(f"{name} ...", file=sys.stderr, end="", flush=True)
            try:
                found += importlib.import_module(f"benchmarks.{name}").figures(plan)
            except Exception:
                # What the others found, in minutes, is still to be shown.
                failed = True
                traceback.print_exc()
            print(f" {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(table(found))
    print(f"\n{_setting()}{' A quick run.' if chosen.quick else ''}")
    return int(failed)


def _setting() -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("apache-beam", "pyarrow", "openai"))
    return f"Python {platform.python_version()}, {versions}; {os.cpu_count()} cores, {platform.machine()}."


if __name__ == "__main__":
    sys.exit(main())
