# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Earlier runs as checks read them: the run before, series of numbers, rates of counters, forecasts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._health.history.forecast import Forecast, forecast

# Nobody keeps a history; it is kept and nothing is in it yet; there are earlier runs.
OFF, EMPTY, THERE = "off", "empty", "there"

Point = Tuple[float, float]
# When a counter was read, what it said, and the mark of the counters it belongs to.
Counted = Tuple[float, float, str]


@dataclass(frozen=True)
class Snapshot:
    """The run before.

    `findings` are those open then by key, also of checks that the run did not look at; `kept` is what checks keep for the next run,
    `kept_at` when (seconds since the epoch). Both, and `metrics`, are of this very server: after a failover there are none.
    """

    time: datetime
    metrics: Mapping[str, float]
    findings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)
    kept_at: Mapping[str, float] = field(default_factory=dict)

    def age(self, now: datetime) -> float:
        """Return the seconds between it and `now`."""
        return (now - self.time).total_seconds()


@dataclass(frozen=True)
class History:
    """All that is known of earlier runs. `series` are points (seconds since the epoch, value) by metric, ascending and thinned.

    `counters` are the last values of metrics that end in `_total`, whichever run read them. `mark` changes whenever the server's
    counters may have been set back: by a reset, a crash, a restart, another server.
    """

    state: str = OFF
    previous: Snapshot | None = None
    series: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    counters: Mapping[str, Counted] = field(default_factory=dict)
    mark: str = ""
    now: float = 0.0

    @property
    def absence(self) -> str:
        """Why there is nothing to compare with, in words."""
        return "no history is kept (see history_schema)" if self.state == OFF else "no history yet"

    def points(self, metric: str) -> List[Point]:
        """Return the earlier points of `metric`, oldest first."""
        return list(self.series.get(metric, ()))

    def rate(self, metric: str, value: float, now: datetime | None = None) -> Tuple[float, float] | None:
        """Return how much the counter `metric` has grown a second since it was last read, and over how many seconds.

        None without an earlier value, and where the counter has or may have been set back since.
        """
        before = self.counters.get(metric)
        seconds = (now.timestamp() if now else self.now) - before[0] if before else 0.0
        if before is None or seconds <= 0 or value < before[1] or before[2] != self.mark:
            return None
        return (value - before[1]) / seconds, seconds

    def forecast(self, metric: str, value: float, limit: float | None) -> Forecast | None:
        """Return when `metric`, now `value`, reaches `limit` if it goes on as before; None where that is too short to tell."""
        return forecast(metric, [*self.points(metric), (self.now, value)], limit)
