# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forecasts: a straight line through the days before, on which single days, one clean-up or one import have no hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from statistics import median
from typing import Any, Dict, List, Mapping, Sequence, Tuple

DAY = 86400.0
# So many days back are looked at: growth of half a year ago says little of next week.
WINDOW_DAYS = 30
LEAST_POINTS, LEAST_SECONDS = 3, DAY
# A step is what is so many times larger than an ordinary day's change; beyond so many days nothing runs out.
STEP, FOR_EVER = 5.0, 36500.0
# So many of all pairs of days must agree on the direction, or there is none.
AGREEMENT = 0.6
# What has begun these days is looked at by itself, in steps of some hours. The window has room for a timer that is not on the minute.
RECENT_SECONDS, RECENT_STEP = 3 * DAY + 7200.0, DAY / 4
# It counts where it has led so many times further away from the line of the weeks than an ordinary day is.
DEPARTURE = 4.5  # three standard deviations, where days scatter as chance does
# What runs out, by the name of its metric without the object: where, and in which unit. None: the limit is not known.
TARGETS: Mapping[str, Tuple[float | None, str]] = {
    "size.database": (None, "bytes"),
    "disk.free_bytes": (0.0, "bytes"),
    "disk.free_pct": (0.0, "percent"),
    "seq.exhaustion": (100.0, "percent"),
    "xid.age_pct": (100.0, "percent"),
    "mxid.age_pct": (100.0, "percent"),
}
TITLES: Mapping[str, str] = {
    "size.database": "Size of the database",
    "disk.free_bytes": "Free space of the disk",
    "disk.free_pct": "Free space of the disk",
    "seq.exhaustion": "Use of the sequence",
    "xid.age_pct": "Use of transaction ids",
    "mxid.age_pct": "Use of multixact ids",
}


@dataclass(frozen=True)
class Forecast:
    """When a number reaches `limit`: `days_left` is None where it does not move towards it. `per_day` is in the metric's unit.

    It is drawn from so many `points`, days or parts of the last days, the first of them at `since` (seconds since the epoch).
    """

    metric: str
    now: float
    per_day: float
    limit: float | None
    days_left: float | None
    points: int
    since: float


def forecast(metric: str, points: Sequence[Tuple[float, float]], limit: float | None) -> Forecast | None:
    """Return the forecast from `points`, ascending, of which the last is now; None where they are too few or too close together."""
    daily = _spaced(points, WINDOW_DAYS * DAY, DAY)
    if not _enough(daily):
        return None
    value = points[-1][1]
    levelled = _levelled(daily)
    per_day = _slope(levelled) if len(daily) > LEAST_POINTS else _steady(daily)
    days_left = _days_left(value, per_day, limit)
    recent = _spaced(points, RECENT_SECONDS, RECENT_STEP)
    if _enough(recent):
        fresh = _steady(recent)
        sooner = _days_left(value, fresh, limit)
        if sooner is not None and (days_left is None or sooner < days_left) and _departs(levelled, per_day, fresh):
            return Forecast(metric, value, fresh, limit, sooner, len(recent), recent[0][0])
    return Forecast(metric, value, per_day, limit, days_left, len(daily), daily[0][0])


def _enough(points: Sequence[Tuple[float, float]]) -> bool:
    return len(points) >= LEAST_POINTS and points[-1][0] - points[0][0] >= LEAST_SECONDS


def forecasts(metrics: Mapping[str, float | None], forecast_of: Any) -> List[Dict[str, Any]]:
    """Return a result's forecasts. `forecast_of` takes a metric, its value now and its limit."""
    found: List[Forecast] = []
    for metric, value in metrics.items():
        base = metric.split("[", 1)[0]
        if base in TARGETS and value is not None:
            limit = _room(metrics, value) if base == "size.database" else TARGETS[base][0]
            each = forecast_of(metric, value, limit)
            found += [each] if each else []
    found.sort(key=lambda each: (each.days_left is None, each.days_left or 0.0, each.metric))
    return [_said(each) for each in found]


def _said(each: Forecast) -> Dict[str, Any]:
    base = each.metric.split("[", 1)[0]
    return {
        "metric": each.metric,
        "title": TITLES[base],
        "unit": TARGETS[base][1],
        "now": each.now,
        "per_day": each.per_day,
        "limit": each.limit,
        "days_left": None if each.days_left is None else round(each.days_left, 1),
        "points": each.points,
        "since": datetime.fromtimestamp(each.since, timezone.utc).isoformat(),
    }


def _room(metrics: Mapping[str, float | None], size: float) -> float | None:
    """Return how large the database can get: only one disk that is known can be the one it stands on."""
    free = [value for name, value in metrics.items() if name.split("[", 1)[0] == "disk.free_bytes" and value is not None]
    return size + free[0] if len(free) == 1 else None


def _spaced(points: Sequence[Tuple[float, float]], window: float, step: float) -> List[Tuple[float, float]]:
    """Return the last point of each `step` (counted back from now) in the window, oldest first."""
    now = points[-1][0] if points else 0.0
    steps: Dict[int, Tuple[float, float]] = {}
    for at, value in points:
        steps[int((now - at) // step)] = (at, value)
    return [steps[number] for number in sorted(steps, reverse=True) if 0 <= number <= window // step]


def _levelled(daily: Sequence[Tuple[float, float]]) -> List[Tuple[float, float]]:
    """Return the points without the one step that a clean-up or an import made. Steps that come again are how things go."""
    speeds = [(late[1] - early[1]) / ((late[0] - early[0]) / DAY or 1.0) for early, late in zip(daily, daily[1:])]
    if len(speeds) < LEAST_POINTS:
        return list(daily)
    usual = median(speeds)
    noise = median(abs(speed - usual) for speed in speeds)
    away = sorted(range(len(speeds)), key=lambda index: abs(speeds[index] - usual), reverse=True)
    largest, second = (abs(speeds[index] - usual) for index in away[:2])
    if largest <= STEP * max(noise, 1e-9 * abs(daily[-1][1])) or second > largest / 2:
        return list(daily)
    return _without(daily, away[0], speeds[away[0]] - usual)


def _without(points: Sequence[Tuple[float, float]], at: int, excess: float) -> List[Tuple[float, float]]:
    """Return the points without what the change after the one `at` exceeds the others by, a day."""
    jump = excess * (points[at + 1][0] - points[at][0]) / DAY
    return [(time, value if index > at else value + jump) for index, (time, value) in enumerate(points)]


def _steady(points: Sequence[Tuple[float, float]]) -> float:
    """Return the gentlest slope that is left when any one change is taken out, 0 where that turns the direction.

    Of so few points one that is off would be a third or a quarter.
    """
    speeds = [(late[1] - early[1]) / ((late[0] - early[0]) / DAY or 1.0) for early, late in zip(points, points[1:])]
    slopes = []
    for at, speed in enumerate(speeds):
        usual = median(speeds[:at] + speeds[at + 1 :])
        slopes.append(_slope(_without(points, at, speed - usual)))
    return min(slopes, key=abs) if min(slopes) * max(slopes) > 0 else 0.0


def _departs(daily: Sequence[Tuple[float, float]], per_day: float, fresh: float) -> bool:
    """Return whether the last point lies further from the line of all days, in the direction of `fresh`, than days usually do."""
    heights = [value - per_day * (at - daily[-1][0]) / DAY for at, value in daily]
    middle = median(heights)
    usual = median(abs(height - middle) for height in heights)
    away = (heights[-1] - middle) * (1.0 if fresh > 0 else -1.0)
    return away > max(DEPARTURE * usual, 1e-9 * abs(daily[-1][1]))


def _slope(daily: Sequence[Tuple[float, float]]) -> float:
    """Return the change a day: the median over all pairs of points (Theil and Sen), 0 where too few agree on its direction."""
    slopes = [
        (late[1] - early[1]) / ((late[0] - early[0]) / DAY)
        for index, early in enumerate(daily)
        for late in daily[index + 1 :]
        if late[0] > early[0]
    ]
    middle = median(slopes) if slopes else 0.0
    agreeing = sum(1 for slope in slopes if slope * middle > 0)
    return middle if agreeing >= AGREEMENT * len(slopes) else 0.0


def _days_left(value: float, per_day: float, limit: float | None) -> float | None:
    if limit is None:
        return None
    if value == limit:
        return 0.0
    days = (limit - value) / per_day if per_day else -1.0
    return days if 0.0 <= days <= FOR_EVER else None
