# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of charts: scales, ticks that a person would choose, gaps in time, fewer points where there are too many.

Pure functions over numbers. Times are seconds since the epoch, in UTC.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Iterable, List, Sequence, Tuple

Point = Tuple[float, float]

# Beyond this a number is a fault of whoever sent it, and arithmetic over it would end in infinity.
LARGEST = 1e150
MINUTE, HOUR, DAY = 60, 3600, 86400
_TIME_STEPS = (
    *(MINUTE * count for count in (1, 5, 10, 15, 30)),
    *(HOUR * count for count in (1, 2, 3, 6, 12)),
    *(DAY * count for count in (1, 2, 3, 7, 14, 30, 60, 90, 180, 365)),
)
_DURATION_STEPS = (1, 2, 5, 10, 15, 30, *_TIME_STEPS)
_BYTE_STEPS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1024)
_NEIGHBOURS = 6
_LATE = 1.6
# Not those of the operator's language: the rest of a page is English.
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class Scale:
    """Maps `low` to `start` and `high` to `end`; what lies outside is kept at the nearer end."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the place of `value`, to a hundredth."""
        if self.high <= self.low:
            return round((self.start + self.end) / 2, 2)
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 2)


def number(value: Any) -> float | None:
    """Return `value` as a finite number, or None where it is none; truth values are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and abs(found) <= LARGEST else None


def points(series: Any) -> List[Point]:
    """Return the pairs of `series` that are numbers, ascending, one for each time (the last that was given)."""
    kept = {}
    for pair in series if isinstance(series, (list, tuple)) else ():
        if isinstance(pair, (list, tuple)) and len(pair) == 2:
            time, value = number(pair[0]), number(pair[1])
            if time is not None and value is not None and 0 <= time < 253370764800:  # the year 9999
                kept[time] = value
    return sorted(kept.items())


def nice_ticks(low: float, high: float, most: int = 5, unit: str | None = None) -> List[float]:
    """Return at most `most` + 1 round values, evenly spaced, of which the outer ones enclose `low` and `high`.

    `unit` says what is round: bytes go by 1024, seconds by minutes, hours and days, anything else by 1, 2, 2.5 and 5.
    """
    if high < low:
        low, high = high, low
    if (high - low) / max(1, most - 1) < sys.float_info.min:
        # One value, or so little between them that no number is small enough for a step.
        span = abs(high) * 0.1 if abs(high) > 1e-300 else 1.0
        low, high = (low - span, high + span) if low < 0 else (max(0.0, low - span), high + span)
    step = _step((high - low) / max(1, most - 1), unit)
    first, last = math.floor(low / step), math.ceil(high / step)
    while last - first > most:
        step = _step(step * 1.01, unit)
        first, last = math.floor(low / step), math.ceil(high / step)
    return [_tidy(count * step) for count in range(first, last + 1)]


def _step(rough: float, unit: str | None) -> float:
    """Return the round step that is `rough` or just above it."""
    if unit == "seconds" and 0.5 < rough <= _DURATION_STEPS[-1]:
        return float(_DURATION_STEPS[bisect_left(_DURATION_STEPS, rough)])
    if unit == "bytes" and rough >= 1:
        factor = 1024.0 ** math.floor(math.log(rough, 1024) + 1e-9)
        return factor * next((nice for nice in _BYTE_STEPS if rough / factor <= nice * (1 + 1e-9)), 1024)
    power = 10.0 ** math.floor(math.log10(rough))
    for nice in (1, 2, 2.5, 5, 10):
        if rough <= nice * power * (1 + 1e-9):
            return nice * power
    return 10 * power


def _tidy(value: float) -> float:
    return float(f"{value:.12g}") + 0.0  # not -0.0


def time_ticks(start: float, end: float, most: int = 6) -> List[Tuple[float, str]]:
    """Return at most `most` round moments between `start` and `end` with their labels, in UTC."""
    if end <= start:
        return [(start, _label(start, DAY if start % DAY == 0 else MINUTE))]
    for step in (*_TIME_STEPS, *(365 * DAY * count for count in (2, 5, 10, 20, 50, 100, 500, 1000, 5000))):
        first = math.ceil(start / step)
        last = math.floor(end / step)
        if last - first < most:
            found = [count * step for count in range(first, last + 1)]
            # At least one label says the day: hours alone would not tell which.
            return [(float(moment), _label(moment, step, alone=count == 0)) for count, moment in enumerate(found)]
    return []


def _label(moment: float, step: float, *, alone: bool = False) -> str:
    at = datetime.fromtimestamp(moment, timezone.utc)
    day = f"{at.day} {MONTHS[at.month - 1]}"
    if step >= 60 * DAY:
        return f"{MONTHS[at.month - 1]} {at.year}"
    if step >= DAY or (at.hour == 0 and at.minute == 0):
        return day
    return f"{day} {at:%H:%M}" if alone else f"{at:%H:%M}"


def runs(series: Sequence[Point]) -> List[List[Point]]:
    """Return the stretches of `series` without a gap.

    A gap is a distance in time that is well above what is usual on either side of it: one missing hour among hourly points is a
    gap, the daily points of the far past before hourly ones are none.
    """
    times = [time for time, _value in series]
    found: List[List[Point]] = []
    for index, point in enumerate(series):
        if index == 0 or _gap(times, index):
            found.append([])
        found[-1].append(point)
    return found


def _gap(times: Sequence[float], index: int) -> bool:
    """Tell whether `times[index]` comes late after the one before it."""
    before, after = _steps(times[max(0, index - 1 - _NEIGHBOURS) : index]), _steps(times[index : index + 1 + _NEIGHBOURS])
    usual = [_usual(near) for near in (before, after) if near]
    return bool(usual) and times[index] - times[index - 1] > _LATE * max(usual)


def _steps(times: Sequence[float]) -> List[float]:
    return [later - earlier for earlier, later in zip(times, times[1:])]


def _usual(steps: Iterable[float]) -> float:
    ordered = sorted(steps)
    return ordered[int(0.75 * (len(ordered) - 1))]


def thin(series: Sequence[Point], most: int) -> List[Point]:
    """Return at most `most` points (and never fewer than four) that keep the ends, and the highest and lowest of each part between."""
    if len(series) <= max(4, most):
        return list(series)
    inner = series[1:-1]
    parts = max(1, (most - 2) // 2)
    kept = {series[0], series[-1]}
    for part in range(parts):
        piece = inner[len(inner) * part // parts : len(inner) * (part + 1) // parts]
        kept |= {min(piece, key=_value), max(piece, key=_value)}
    return sorted(kept)


def _value(point: Point) -> float:
    return point[1]


def stack(series: Sequence[Sequence[Point]]) -> List[Tuple[float, List[float]]]:
    """Return each time of any of `series` with the value of each of them there; one without a point there counts as 0."""
    known = [dict(one) for one in series]
    times = sorted({time for one in known for time in one})
    return [(time, [max(0.0, one.get(time, 0.0)) for one in known]) for time in times]
