"""Simulates workers that share a quota, and prints tables in Markdown.

python -m benchmarks.quota                     one core, ten minutes
python -m benchmarks.quota --quick             a few scenarios, half a minute
python -m benchmarks.quota --plot quota.png    draws how a few of them go, and simulates no others
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.quota import scenarios
from benchmarks.quota.cost import micros_of_a_request
from benchmarks.quota.record import Record
from benchmarks.quota.simulation import Scenario, simulate

_HEADS = ("used, %", "429s, %", "429s later, %", "fairness", "seconds to 95 %")
_MEANS = """\
used: of the quota that binds, in the second half; a bucket that is full at first makes it more than 100 %.
429s: of all sends; later: of those of the second half.
fairness: Jain's index of the workers that live throughout the second half; 1 where all are admitted as often.
seconds to 95 %: when the first 10 s begin that use so much."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quota", description="Prints tables, in Markdown.")
    parser.add_argument("--quick", action="store_true", help="a few scenarios only, half a minute")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw into this file; needs matplotlib")
    chosen = parser.parse_args()
    if chosen.plot:
        from benchmarks.quota.plot import plot

        plot(chosen.plot)
        return 0
    for heading, found in [("A quick run", scenarios.quick())] if chosen.quick else scenarios.full():
        print(f"{_row(heading, *_HEADS)}\n{_row(':--', *['--:'] * len(_HEADS))}", flush=True)
        for scenario in found:
            print(_line(scenario, simulate(scenario)), flush=True)
        print()
    print(_MEANS)
    print(f"\nThe limiter takes {micros_of_a_request():.1f} us of CPU a request.")
    return 0


def _line(scenario: Scenario, record: Record) -> str:
    begins = record.seconds_to_all
    return _row(
        scenario.name,
        f"{100 * record.used:.1f}",
        f"{100 * record.refused:.2f}",
        f"{100 * record.refused_later:.2f}",
        f"{record.fairness:.2f}",
        "never" if begins is None else str(begins),
    )


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
