# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Earlier runs as checks read them: the run before, series of numbers, rates of counters, forecasts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, List, Mapping, Sequence, Tuple

# Nobody keeps a history; it is kept and nothing is in it yet; there are earlier runs.
OFF, EMPTY, THERE = "off", "empty", "there"

Point = Tuple[float, float]


@dataclass(frozen=True)
class Snapshot:
    """One earlier run.

    `findings` are those open then by key, also of checks that the run did not look at; `kept` is what checks keep for the next run.
    """

    time: datetime
    metrics: Mapping[str, float]
    findings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)

    def age(self, now: datetime) -> float:
        """Return the seconds between it and `now`."""
        return (now - self.time).total_seconds()


@dataclass(frozen=True)
class Forecast:
    """When a number reaches `limit`: `days_left` is None where it does not grow towards it. `per_day` is in the metric's unit."""

    metric: str
    now: float
    per_day: float
    limit: float
    days_left: float | None
    points: int
    since: float


@dataclass(frozen=True)
class History:
    """All that is known of earlier runs. `series` are points (seconds since the epoch, value) by metric, ascending and thinned."""

    state: str = OFF
    previous: Snapshot | None = None
    series: Mapping[str, Sequence[Point]] = field(default_factory=dict)

    def points(self, metric: str) -> List[Point]:
        """Return the earlier points of `metric`, oldest first."""
        return list(self.series.get(metric, ()))

    def rate(self, metric: str, value: float, now: datetime) -> Tuple[float, float] | None:
        """Return how much the counter `metric` has grown a second since the run before, and over how many seconds.

        None without an earlier value, and where the counter has been set back since.
        """
        if self.previous is None:
            return None
        before, seconds = self.previous.metrics.get(metric), self.previous.age(now)
        if before is None or seconds <= 0 or value < before:
            return None
        return (value - before) / seconds, seconds
