# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Series of numbers over time: which are kept, and how many points of each are read back."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

Point = Tuple[float, float]

HOUR, DAY = 3600.0, 86400.0
# A point an hour for two days, then one a day.
HOURLY_SECONDS, DAILY_SECONDS = 48 * HOUR, 400 * DAY
# A clock may be ahead of another by so much; a point from further ahead was written by a wrong one.
SKEW = 300.0
MOST_SERIES, MOST_OBJECTS = 40, 8
# What charts and checks look back on, by the name of the metric without its object, what matters most first.
CHARTED: Sequence[str] = (
    "conn.states",
    "conn.slots",
    "conn.active",
    "conn.used_pct",
    "size.database",
    "disk.free_bytes",
    "disk.free_pct",
    "xid.age_pct",
    "mxid.age_pct",
    "repl.lag_time",
    "seq.exhaustion",
    "db.transaction_rate",
    "db.rollback_pct",
    "cache.hit_pct",
    "slot.retained",
    "wal.dir_size",
    "xmin.horizon",
    "bloat.table",
    "bloat.index",
    "redis.memory",
)
_CHARTED = frozenset(CHARTED)


def base_of(metric: str) -> str:
    """Return the name of a metric without its object."""
    return metric.split("[", 1)[0]


def charted(metrics: Mapping[str, Any]) -> Dict[str, float]:
    """Return those of `metrics` whose course is kept: of one name the first few objects, which are the worst."""
    mine: Dict[str, List[Tuple[str, float]]] = {}
    for name, value in metrics.items():
        base = base_of(name)
        if base in _CHARTED and is_number(value):
            mine.setdefault(base, []).append((name, float(value)))
    found: Dict[str, float] = {}
    for base in CHARTED:
        found.update(mine.get(base, [])[: min(MOST_OBJECTS, MOST_SERIES - len(found))])
    return found


def is_number(value: Any) -> bool:
    """Return whether `value` is a number that can be compared and written."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def thin(points: Iterable[Point], now: float) -> List[Point]:
    """Return the last point of every hour of the last two days and of every day before, and the first of all; ascending."""
    known = sorted((at, value) for at, value in points if now - DAILY_SECONDS < at <= now + SKEW)
    kept: Dict[Tuple[bool, int], Point] = {}
    for at, value in known:
        recent = at > now - HOURLY_SECONDS
        kept[(recent, int(at // (HOUR if recent else DAY)))] = (at, value)
    first = [known[0]] if known and known[0] not in kept.values() else []
    return sorted([*first, *kept.values()])


def gathered(rows: Iterable[Tuple[float, Mapping[str, Any]]], now: float) -> Dict[str, List[Point]]:
    """Return the thinned series in `rows`, each the time of a run and its charted metrics."""
    every: Dict[str, List[Point]] = {}
    for at, metrics in rows:
        for metric, value in metrics.items():
            if is_number(value) and base_of(metric) in _CHARTED:
                every.setdefault(metric, []).append((at, float(value)))
    thinned = {metric: thin(points, now) for metric, points in every.items()}
    return bounded({metric: points for metric, points in thinned.items() if points})


def bounded(series: Mapping[str, List[Point]]) -> Dict[str, List[Point]]:
    """Return at most so many series: of one name those that are still measured, then those with most points."""
    found: Dict[str, List[Point]] = {}
    for base in CHARTED:
        mine = [metric for metric in series if base_of(metric) == base]
        mine.sort(key=lambda metric: (-series[metric][-1][0], -len(series[metric]), metric))
        found.update({metric: series[metric] for metric in mine[: min(MOST_OBJECTS, MOST_SERIES - len(found))]})
    return found


def as_written(points: Iterable[Point]) -> List[List[float]]:
    """Return points as a result has them: whole seconds, and numbers no longer than they need be."""
    return [[int(at), int(value) if value == int(value) else value] for at, value in points]


def as_read(series: Any) -> Dict[str, List[Point]]:
    """Return series that were handed over, without what is none."""
    found: Dict[str, List[Point]] = {}
    for metric, points in series.items() if isinstance(series, Mapping) else ():
        pairs = [point for point in points if isinstance(point, (list, tuple)) and len(point) == 2] if isinstance(points, list) else []
        good = [(float(at), float(value)) for at, value in pairs if is_number(at) and is_number(value)]
        found.update({str(metric): sorted(good)} if good else {})
    return bounded(found)
