"""One line that tells how a run goes, and the lines that tell how it went."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from typing import TextIO

_LOOK_SECONDS = 2.0
"""How long the run is looked at before it is said what limits it."""


class Progress:
    """Draws the line over itself on a terminal, and nothing elsewhere.

    Args:
      stream: where to.
      clock: seconds.
    """

    def __init__(self, stream: TextIO, clock: float) -> None:
        self._stream = stream
        self._began = clock
        self._shown = False
        self._rate = 0.0
        self._last = (clock, 0.0)
        self._looked_at, self._before = clock, dict[str, float]()
        self._limit = ""
        self.rows_known: int | None = None

    def show(self, counts: Mapping[str, float], now: float) -> None:
        """Counts as `service.progress` gives them."""
        if not self._stream.isatty():
            return
        done = counts.get("rows_answered", 0) + counts.get("rows_failed", 0)
        line = progress_line(
            counts, self.rows_known, now - self._began, self._smoothed(done, now), self._looked(counts, now)
        )
        self._stream.write(f"\r\x1b[K{fitted(line, self._stream)}")
        self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False

    def _looked(self, counts: Mapping[str, float], now: float) -> str:
        """What limits the run, by the last seconds."""
        seconds = now - self._looked_at
        if seconds >= _LOOK_SECONDS:
            throttled, requests, retries = (
                counts.get(name, 0.0) - self._before.get(name, 0.0) for name in ("throttled", "requests", "retries")
            )
            in_flight = counts.get("in_flight", 0)
            # Before the first answer only one is sent; and while all wait to be tried again, nothing happens.
            is_first = in_flight and not counts.get("requests", 0)
            is_waiting = not (requests or retries or in_flight) and self._limit == "server"
            self._limit = limit_of(
                throttled / seconds,
                in_flight,
                counts.get("places", 0),
                bool(counts.get("cut_off")),
                bool(retries >= max(1, requests) or is_first or is_waiting),
            )
            self._looked_at, self._before = now, dict(counts)
        return self._limit

    def _smoothed(self, done: float, now: float) -> float:
        """Rows a second over the last ten seconds or so."""
        then, before = self._last
        if now > then:
            weight = min(1.0, (now - then) / 10) if self._rate else 1.0
            self._rate += weight * ((done - before) / (now - then) - self._rate)
            self._last = (now, done)
        return self._rate


def fitted(line: str, stream: TextIO) -> str:
    """So much of a line as the terminal has room for: a longer one would break, and not be drawn over."""
    columns = 0
    with contextlib.suppress(OSError, ValueError):
        columns = os.get_terminal_size(stream.fileno()).columns
    return line[: columns - 1] if columns else line


def limit_of(
    throttled: float, in_flight: float, places: float, is_cut_off: bool = False, is_unanswered: bool = False
) -> str:
    """What keeps a run from being faster: `quota`, `server` or `client`; empty where that cannot be told.

    Args:
      throttled: the share of the time in which a request was ready and the quota held it back.
      in_flight: requests that the server has at the moment.
      places: how many it may have.
      is_cut_off: whether the Redis of the quota cannot be reached.
      is_unanswered: whether most attempts come to nothing, or none has come to anything yet.
    """
    if is_cut_off:
        return "the quota's Redis, which cannot be reached"
    if throttled >= 0.5:
        return "quota"
    if not places:
        return ""
    if is_unanswered:
        return "server"
    # As many as may be are at the server, and the next wait for those; else there are no rows, or no time to send them.
    return "server" if in_flight >= 0.8 * places else "client"


def progress_line(
    counts: Mapping[str, float], known: int | None, seconds: float, rate: float, limited_by: str = ""
) -> str:
    """For a terminal of 80 columns and more.

    Args:
      counts: `rows_answered`, `rows_failed`, `requests`, `retries`, `in_flight`, `throttled` in seconds, and `quota_used`,
        the share of the quota that is in use.
      known: rows of the input, if that is known.
      seconds: since the run began.
      rate: rows a second.
      limited_by: as `limit_of` says it.
    """
    failed = counts.get("rows_failed", 0)
    done = counts.get("rows_answered", 0) + failed
    parts = [f"{done:,.0f} of {known:,} rows" if known else f"{done:,.0f} rows", f"{rate:,.0f}/s"]
    if failed:
        parts.append(f"{failed:,.0f} failed")
    parts.append(f"{counts.get('requests', 0):,.0f} requests")
    parts.append(f"{counts.get('in_flight', 0):.0f} in flight")
    if counts.get("quota_used", 0):
        parts.append(f"quota {counts['quota_used']:.0%}")
    if limited_by:
        parts.append(f"limited by {limited_by}")
    for name, unit in (("retries", ""), ("throttled", " s")):
        if counts.get(name, 0) >= 1:
            parts.append(f"{name} {counts[name]:,.0f}{unit}")
    if known and rate > 0 and done < known:
        parts.append(f"{duration((known - done) / rate)} left")
    else:
        parts.append(duration(seconds))
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """`8s`, `2m05s`, `3h04m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def summary(counts: Mapping[str, float], seconds: float) -> str:
    """What a run did, in two lines."""
    rows = counts.get("rows_answered", 0)
    rate = f", {rows / seconds:,.0f} rows/s" if rows and seconds > 0 else ""
    tokens = counts.get("prompt_tokens", 0) + counts.get("completion_tokens", 0)
    return (
        f"{rows:,.0f} rows answered, {counts.get('rows_failed', 0):,.0f} failed, in {seconds:,.1f} s{rate}\n"
        f"{counts.get('requests', 0):,.0f} requests, {counts.get('retries', 0):,.0f} retries, "
        f"{counts.get('throttled', 0):,.0f} s throttled, {tokens:,.0f} tokens"
    )


def now() -> float:
    return time.monotonic()
