"""The use of a quota over time, in small multiples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.quota.record import Record
from benchmarks.quota.server import Rules
from benchmarks.quota.simulation import Scenario, simulate

_TENANT = {120: {"tenant": 0.3}, 300: {"tenant": 0.0}}
_HALVED = {200: {"rpm": 15_000, "tpm": 5e6}}
_SHOWN = (
    Scenario(name="1 worker begins", workers=1, seconds=400),
    Scenario(name="64 workers begin", workers=64, seconds=400),
    Scenario(name="1,000 workers begin", workers=1000, seconds=400),
    Scenario(name="a second's bucket, 64 workers", workers=64, seconds=400, rules=Rules(bucket=1.0)),
    Scenario(name="another tenant takes 30 %, 64 workers", workers=64, seconds=400, changes=_TENANT),
    Scenario(name="the limits are halved, 64 workers", workers=64, seconds=400, changes=_HALVED),
)
_TAKEN, _ALLOWED, _LEVEL, _REFUSED, _INK = "#1f5fa8", "#222222", "#9db8d6", "#c2362b", "#444444"


def plot(target: Path) -> None:
    """Draws them into a file, whose name says the format.

    Raises:
      ImportError: matplotlib is not installed; it is part of the extra `bench`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {"font.size": 9, "axes.edgecolor": _INK, "axes.spines.top": False, "axes.spines.right": False}
    )
    figure, axes = pyplot.subplots(2, 3, figsize=(11, 5), sharex=True, sharey=True, layout="constrained")
    for scenario, axis in zip(_SHOWN, axes.flat):
        _draw(axis, scenario, simulate(scenario))
    for axis in axes[:, 0]:
        axis.set_ylabel("share of 500 requests/s")
    for axis in axes[-1]:
        axis.set_xlabel("seconds")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncol=4, frameon=False)
    figure.savefig(target, dpi=150)


def _draw(axis: Any, scenario: Scenario, record: Record) -> None:
    seconds, rate = range(record.seconds), scenario.rules.rates[0]
    axis.fill_between(seconds, record.levels, color=_LEVEL, alpha=0.5, linewidth=0, label="level of the bucket")
    axis.plot(
        seconds, [allowed[0] / rate for allowed in record.allowed], "--", color=_ALLOWED, lw=1, label="refill, for us"
    )
    axis.plot(
        seconds, [taken[0] / rate for taken in record.taken], color=_TAKEN, lw=1.2, label="used, all workers together"
    )
    axis.plot(seconds, [count / rate for count in record.refused_in], color=_REFUSED, lw=1, label="429s")
    axis.set_title(f"{scenario.name}: {100 * record.refused:.2f} % 429s", fontsize=9, loc="left")
    axis.set_ylim(0, 1.6)
    axis.set_xlim(0, record.seconds)
