"""What the benchmarks find, and the table that shows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to run.

    Attributes:
      folder: for data, removed in the end.
      quick: smaller and shorter.
    """

    folder: Path
    quick: bool = False

    def either(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
      what: what was measured, and in which unit.
      ours: this library's figure.
      beside: what it stands beside, and its figure.
      ratio: how the two compare, as `goal` counts; None where there is nothing to compare with.
      goal: "<= 1.1" or ">= 12": what the ratio is to be. Empty for none.
    """

    what: str
    ours: str
    beside: str = ""
    ratio: float | None = None
    goal: str = ""

    def is_met(self) -> bool | None:
        """None where there is no goal."""
        if not self.goal or self.ratio is None:
            return None
        sign, number = self.goal.split()
        return self.ratio <= float(number) if sign == "<=" else self.ratio >= float(number)


_VERDICTS = {True: "yes", False: "**no**", None: ""}


def table(figures: Iterable[Figure]) -> str:
    """The figures as a table in Markdown."""
    lines = ["| ratio | goal | met | what | ours | beside |", "|--:|:--|:--|:--|--:|:--|"]
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.3g}"
        cells = (ratio, figure.goal, _VERDICTS[figure.is_met()], figure.what, figure.ours, figure.beside)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
