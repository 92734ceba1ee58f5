# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts as the numbers that a template draws: places across in percent of the width, places down in pixels.

So a chart is as wide as its page and its letters stay as large as the page's, on a telephone too. Paths are the exception: they
count `ACROSS` units from left to right, and the template stretches them. Every chart has a description in words and a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.plugin_utils._charts import Point, Scale, nice_ticks, runs, stack, thin, time_ticks
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_words import amount, moment, plural

ACROSS = 1000
TOP = 14
MOST_POINTS = 240
MOST_ROWS = 36
NO_HISTORY = "no history yet"


@dataclass(frozen=True)
class Limit:
    """A horizontal line to keep away from: `kind` is warning, critical or most."""

    label: str
    value: float
    kind: str


@dataclass(frozen=True)
class Ahead:
    """A forecast of one line: so much more each day; `until` is the moment to which it is drawn."""

    per_day: float
    until: float


Series = Sequence[Tuple[str, Sequence[Point]]]


def history(
    series: Series,
    *,
    unit: str | None = None,
    limits: Sequence[Limit] = (),
    stacked: bool = False,
    from_zero: bool = True,
    ahead: Ahead | None = None,
    height: int = 190,
    sparse: bool = False,
) -> Dict[str, Any]:
    """Return a chart of values over time, `stacked` on each other or as lines, each line broken where points are missing.

    With fewer than two moments there is nothing to draw: `enough` is false and `desc` says that there is no history yet. A limit far above
    everything is left out of the drawing, so that it does not flatten it, and is said in words. A `sparse` chart is a small one.
    """
    shown = [(name, list(values)) for name, values in series if values]
    times = sorted({time for _name, values in shown for time, _value in values})
    if len(times) < 2:
        return {"kind": "history", "enough": False, "desc": f"{NO_HISTORY}{_now(shown, unit)}", "table": _table(shown, unit)}
    columns = stack([values for _name, values in shown]) if stacked else []
    tops = [sum(values) for _time, values in columns] or [value for _name, values in shown for _time, value in values]
    bottoms = [0.0] if stacked else tops
    future = [shown[0][1][-1][1] + ahead.per_day * (ahead.until - times[-1]) / 86400] if ahead else []
    low, high = min([*bottoms, *future, *([0.0] if from_zero else [])]), max([*tops, *future, *([0.0] if from_zero else [])])
    reach = high + 0.6 * (high - min(low, 0.0)) if from_zero else high
    drawn = [limit for limit in limits if limit.kind == "most" or low <= limit.value <= reach]
    ticks = nice_ticks(
        min([low, *(limit.value for limit in drawn)]), max([high, *(limit.value for limit in drawn)]), 2 if sparse else 5, unit
    )
    if low >= 0:
        ticks = [tick for tick in ticks if tick >= 0]
    end = max(times[-1], ahead.until) if ahead else times[-1]
    across = Scale(times[0], end, 0, ACROSS)
    down = Scale(ticks[0], ticks[-1], height, TOP)
    return {
        "kind": "history",
        "enough": True,
        "stacked": stacked,
        "height": height,
        "grid": [{"y": down.at(tick), "label": amount(tick, unit)} for tick in ticks],
        "ticks": _time_labels(times[0], end, 3 if sparse else 6),
        "limits": _limit_lines(drawn, down, unit, sparse=sparse),
        "now": across.at(times[-1]) / 10 if ahead else None,
        "layers": _layers(shown, columns, across, down, unit) if stacked else _lines(shown, across, down, unit),
        "ahead": _ahead(shown[0][1][-1], ahead, across, down) if ahead else None,
        "desc": _described(shown, columns, unit, limits, times),
        "table": _table(shown, unit),
    }


def _limit_lines(drawn: Sequence[Limit], down: Scale, unit: str | None, *, sparse: bool) -> List[Dict[str, Any]]:
    """Return the lines of limits from the top down; a label that would touch the one above it goes below its line."""
    found: List[Dict[str, Any]] = []
    for limit in sorted(drawn, key=lambda one: down.at(one.value)):
        y = down.at(limit.value)
        touches = bool(found) and y - 4 - found[-1]["label_y"] < 13
        label = "" if sparse else f"{limit.label} {amount(limit.value, unit)}"
        found.append({"y": y, "label_y": y + 13 if touches else y - 4, "label": label, "kind": limit.kind})
    return found


def _time_labels(start: float, end: float, most: int = 6) -> List[Dict[str, Any]]:
    """Return the labels of the axis of time; those at the edges keep inside."""
    across = Scale(start, end, 0, 100)
    found = []
    for count, (time, label) in enumerate(time_ticks(start, end, most)):
        place = across.at(time)
        anchor = "start" if place < 8 else "end" if place > 92 else "middle"
        # Every other one goes on a narrow page.
        found.append({"x": place, "label": label, "anchor": anchor, "minor": most > 3 and count % 2 == 1})
    return found


def _lines(shown: Series, across: Scale, down: Scale, unit: str | None) -> List[Dict[str, Any]]:
    found = []
    for name, values in shown:
        stretches = runs(values)
        room = max(8, MOST_POINTS // max(1, len(stretches)))
        lines = [thin(stretch, room) for stretch in stretches]
        last = values[-1]
        found.append(
            {
                "name": name,
                "now": amount(last[1], unit),
                "paths": [_path([(across.at(time), down.at(value)) for time, value in line]) for line in lines if len(line) > 1],
                "dots": [_dot(line[0], across, down) for line in lines if len(line) == 1][:MOST_POINTS],
                "end": _dot(last, across, down),
            }
        )
    return found


def _layers(
    shown: Series, columns: Sequence[Tuple[float, List[float]]], across: Scale, down: Scale, unit: str | None
) -> List[Dict[str, Any]]:
    totals = [(time, sum(values)) for time, values in columns]
    by_time = dict(columns)
    stretches = [thin(stretch, max(8, MOST_POINTS // 2)) for stretch in runs(totals)]
    found = []
    for place, (name, values) in enumerate(shown):
        paths = []
        for stretch in stretches:
            lower = [(across.at(time), down.at(sum(by_time[time][:place]))) for time, _total in stretch]
            upper = [(across.at(time), down.at(sum(by_time[time][: place + 1]))) for time, _total in stretch]
            if len(stretch) == 1:  # a moment by itself still shows, as a bar
                lower = [(lower[0][0] - 2, lower[0][1]), (lower[0][0] + 2, lower[0][1])]
                upper = [(upper[0][0] - 2, upper[0][1]), (upper[0][0] + 2, upper[0][1])]
            paths.append(f"{_path([*upper, *reversed(lower)])}Z")
        found.append({"name": name, "now": amount(values[-1][1], unit), "paths": paths, "dots": [], "end": None})
    return found


def _path(places: Sequence[Tuple[float, float]]) -> str:
    return "M" + "L".join(f"{across:g},{down:g}" for across, down in places)


def _dot(point: Point, across: Scale, down: Scale) -> Dict[str, float]:
    return {"x": round(across.at(point[0]) / 10, 2), "y": down.at(point[1])}


def _ahead(last: Point, ahead: Ahead, across: Scale, down: Scale) -> str:
    end = last[1] + ahead.per_day * (ahead.until - last[0]) / 86400
    return _path([(across.at(last[0]), down.at(last[1])), (across.at(ahead.until), down.at(end))])


def _now(shown: Series, unit: str | None) -> str:
    said = ", ".join(f"{name} {amount(values[-1][1], unit)}" for name, values in shown[:8])
    return f"; now {said}" if said else ""


def _described(
    shown: Series, columns: Sequence[Tuple[float, List[float]]], unit: str | None, limits: Sequence[Limit], times: Sequence[float]
) -> str:
    said = [f"From {moment(times[0])} to {moment(times[-1])}{_now(shown, unit)}"]
    if columns:
        time, values = max(columns, key=lambda column: sum(column[1]))
        said.append(f"most {amount(sum(values), unit)} on {moment(time)}")
    elif len(shown) == 1:
        time, value = max(shown[0][1], key=lambda point: point[1])
        said.append(f"highest {amount(value, unit)} on {moment(time)}")
    said += [f"{limit.label} {amount(limit.value, unit)}" for limit in limits]
    gaps = max(len(runs(values)) for _name, values in shown) - 1
    return "; ".join([*said, *([f"{plural(gaps, 'gap')} without a look"] if gaps else [])])


def _table(shown: Series, unit: str | None) -> Dict[str, Any]:
    """Return the newest moments as rows, newest first, evenly thinned where there are too many."""
    by_name = [dict(values) for _name, values in shown]
    times = sorted({time for one in by_name for time in one}, reverse=True)
    every = -(-len(times) // MOST_ROWS)
    kept = times[:: max(1, every)]
    return {
        "head": ["when", *(name for name, _values in shown)],
        "rows": [[moment(time), *(amount(one.get(time), unit) for one in by_name)] for time in kept],
        "note": f"every {every}th of {plural(len(times), 'moment')}" if every > 1 else "",
    }


def bars(rows: Sequence[Dict[str, Any]], *, most: float | None = None) -> Dict[str, Any]:
    """Return horizontal bars. A row has `name`, `value` and `text`, and may have `part` (a share of
    it, drawn apart), `warning`, `critical` and `kind`.

    `most` is the value of a full bar; without it the longest bar is full.
    """
    top = most or max([abs(row["value"]) for row in rows] or [0]) or 1.0
    across = Scale(0, top, 0, 100)
    drawn = []
    for row in rows:
        marks = [{"x": across.at(row[kind]), "kind": kind} for kind in ("warning", "critical") if row.get(kind) is not None]
        part = across.at(row["part"]) if row.get("part") is not None else None
        drawn.append({**row, "width": across.at(row["value"]), "part": part, "marks": marks})
    said = "; ".join(f"{row['name']}: {row['text']}" for row in rows[:10])
    return {"kind": "bars", "enough": bool(rows), "rows": drawn, "desc": said or "nothing to show"}


def events(rows: Sequence[Dict[str, Any]], start: float, end: float, *, height: int = 130) -> Dict[str, Any]:
    """Return moments on a line of time, each as high as its `value`. A row has `time`, `value`, `kind`, `name` and `text`."""
    across = Scale(start, end, 2, 98)
    top = max([row["value"] for row in rows] or [0]) or 1.0
    down = Scale(0, top, height, TOP + 14)
    drawn = [{**row, "x": across.at(row["time"]), "y": down.at(row["value"])} for row in rows]
    labels = [{**one, "x": round(2 + one["x"] * 0.96, 2)} for one in _time_labels(start, end)]
    said = "; ".join(f"{row['name']}: {row['text']}" for row in rows[-6:])
    return {
        "kind": "events",
        "enough": bool(rows),
        "height": height,
        "rows": drawn,
        "ticks": labels,
        "grid": [{"y": height, "label": ""}],
        "desc": said,
    }
