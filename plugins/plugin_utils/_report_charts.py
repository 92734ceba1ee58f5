# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which charts a page has, and what of a result goes into each."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.plugin_utils._charts import DAY, Point, number
from ansible_collections.pgops.runbook.plugins.plugin_utils._charts_drawing import Ahead, Limit, bars, events, history
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_result import Result, split_key
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_words import MOST_NAME, amount, day, epoch, moment, plural, tidy

# From the bottom of the stack up: what works, what waits for work, what stands in the way of others.
STATES = ("active", "fastpath function call", "idle", "idle in transaction", "idle in transaction (aborted)", "disabled")
MOST_LINES = 6
MOST_BARS = 12
MOST_OTHERS = 16
# What has a chart of its own, or is a part of one.
_SHOWN = (
    "conn.states",
    "conn.slots",
    "conn.active",
    "conn.slots_left",
    "size.database",
    "disk.free_pct",
    "repl.lag_time",
    "repl.lag_bytes",
)
# The others in this order, then by name.
_FIRST = (
    *("conn.used_pct", "transaction.longest", "query.longest", "lock.blocked", "xmin.horizon", "db.transaction_rate", "db.rollback_pct"),
    *("cache.hit_pct", "token.revocation_rate", "wal.dir_size", "slot.retained", "host.load", "host.memory_pct", "xid.age_pct"),
)


def charts(result: Result) -> List[Dict[str, Any]]:
    """Return every chart of a page in its order; one that has nothing to show says why."""
    made = [
        _connections(result),
        _size(result),
        *_disks(result),
        _headroom(result),
        _bloat(result),
        _statements(result),
        _backups(result),
        *_replication(result),
    ]
    return [{**chart, "id": f"chart-{place}"} for place, chart in enumerate(made, 1)]


def others(result: Result) -> List[Dict[str, Any]]:
    """Return small charts of what else has a history, those that matter most first."""
    names = {split_key(key)[0] for key, values in result.series.items() if len(values) > 1} - set(_SHOWN)
    ordered = [name for name in _FIRST if name in names] + sorted(names - set(_FIRST))
    titles = {str(check.get("id")): tidy(check.get("title"), 80) for check in result.checks}
    made: List[Dict[str, Any]] = []
    for name in ordered[:MOST_OTHERS]:
        chart = _lines(result, name, titles.get(name) or name, "", height=84, sparse=True)
        made.append({**chart, "id": f"small-{len(made) + 1}", "small": True})
    return made


def _lines(result: Result, name: str, title: str, nothing: str, **options: Any) -> Dict[str, Any]:
    """Return the chart of the metric `name` with a line for each object, the worst ones where there are too many."""
    unit = result.unit_of(name)
    below = result.worse_below(name)
    lines = sorted(result.family(name), key=lambda one: one[1][-1][1], reverse=not below)
    shown = [(tidy(item, 60) or name, values) for item, values in lines[:MOST_LINES]]
    chart = history(shown, unit=unit, limits=_limits(result, name), **options)
    left_out = len(lines) - len(shown)
    note = f"the {MOST_LINES} worst of {len(lines)} are shown" if left_out > 0 else ""
    if not shown:
        chart["desc"] = nothing or chart["desc"]
    return {**chart, "title": title, "name": name, "note": note, "unit": unit}


def _limits(result: Result, check_id: str) -> List[Limit]:
    warning, critical = result.limits_of(check_id)
    words = "under" if result.worse_below(check_id) else "over"
    found = [("warning", warning), ("critical", critical)]
    return [Limit(f"{kind} {words}", value, kind) for kind, value in found if value is not None]


def _connections(result: Result) -> Dict[str, Any]:
    title = "Connections by state"
    by_state = dict(result.family("conn.states"))
    ordered = [state for state in STATES if state in by_state] + sorted(set(by_state) - set(STATES))[:2]
    # A state that never held a session is no layer.
    shown = [(tidy(state, 60) or "all", by_state[state]) for state in ordered if any(value > 0 for _time, value in by_state[state])]
    slots = result.family("conn.slots")
    most = [Limit("most", slots[0][1][-1][1], "most")] if slots else []
    unseen = any(check.get("id") == "conn.states" and check.get("status") == "unknown" for check in result.checks)
    chart = history(shown, unit="count", limits=most, stacked=True, height=220)
    if not shown:
        chart["desc"] = "the role may not see the states of other sessions" if unseen else "no sessions were counted"
    for layer in chart.get("layers", ()):
        # A state looks the same on every page, whichever others are there.
        layer["look"] = STATES.index(layer["name"]) if layer["name"] in STATES else len(STATES) - 1
    return {**chart, "title": title, "name": "conn.states", "wide": True, "note": ""}


def _size(result: Result) -> Dict[str, Any]:
    values = (result.family("size.database") or [("", [])])[0][1]
    forecast = _forecast(result, "size.database")
    ahead, said = _ahead(forecast, values, "bytes")
    chart = history([("database", values)], unit="bytes", from_zero=False, ahead=ahead, limits=_limits(result, "size.database"))
    if not values:
        chart["desc"] = "the size of the database was not looked at"
    return {**chart, "title": "Growth of the database", "name": "size.database", "note": said}


def _disks(result: Result) -> List[Dict[str, Any]]:
    """Return a chart for each file system, since each runs full by itself."""
    made = []
    for item, values in result.family("disk.free_pct")[:3]:
        key = f"disk.free_pct[{item}]" if item else "disk.free_pct"
        ahead, said = _ahead(_forecast(result, key), values, "percent")
        chart = history([("free", values)], unit="percent", ahead=ahead, limits=_limits(result, "disk.free_pct"))
        made.append({**chart, "title": f"Free space on {tidy(item, 60) or 'the disk'}", "name": key, "note": said})
    return made


def _forecast(result: Result, metric: str) -> Mapping[str, Any]:
    return next((one for one in result.forecasts if one.get("metric") == metric), {})


def _ahead(forecast: Mapping[str, Any], values: List[Point], unit: str) -> Tuple[Ahead | None, str]:
    """Return how a line goes on, drawn for half as long again as it is, and the words about it."""
    per_day = number(forecast.get("per_day"))
    if per_day is None:
        return None, "no forecast: the history is too short, or too uneven" if len(values) > 1 else ""
    left = number(forecast.get("days_left"))
    change = f"{'+' if per_day > 0 else ''}{amount(per_day, unit)} a day"
    limit = f" to {amount(forecast.get('limit'), unit)}" if number(forecast.get("limit")) is not None else ""
    # To the second, a forecast would pretend to know.
    whole = plural(int(left), "day") if left is not None and left < 3650 else "more than ten years"
    said = f"{change}; {whole} left{limit}" if left is not None else f"{change}; does not run out"
    basis = f"from {plural(int(number(forecast.get('points')) or 0), 'point')} since {day(forecast.get('since'))}"
    if len(values) < 2:
        return None, f"{said}, {basis}"
    span = (values[-1][0] - values[0][0]) / 2
    until = values[-1][0] + (min(span, left * DAY) if left is not None and left > 0 else span)
    return Ahead(per_day, until), f"{said}, {basis}"


def _headroom(result: Result) -> Dict[str, Any]:
    rows = []
    for check_id, word in (("xid.age_pct", "transaction ids"), ("mxid.age_pct", "multixact ids"), ("seq.exhaustion", "sequence")):
        warning, critical = result.limits_of(check_id)
        found = sorted(result.values_of(check_id), key=lambda one: -one[1])
        for item, value in found[: 2 if check_id != "seq.exhaustion" else MOST_BARS]:
            key = f"{check_id}[{item}]" if item else check_id
            left = number(_forecast(result, key).get("days_left"))
            text = f"{amount(value, 'percent')} used" + (f", {plural(int(left), 'day')} left" if left is not None else "")
            name = f"{word} {tidy(item, MOST_NAME)}".strip()
            bounds = {"warning": warning, "critical": critical, "kind": _kind(value, warning, critical)}
            rows.append({"name": name, "value": max(0.0, min(value, 100.0)), "text": text, **bounds})
    chart = bars(rows[:MOST_BARS], most=100.0)
    if not rows:
        chart["desc"] = "not looked at in this run, or not seen"
    return {
        **chart,
        "title": "Headroom before wraparound",
        "name": "xid.age_pct",
        "note": "a full bar is the end: the server stops taking writes",
    }


def _kind(value: float, warning: float | None, critical: float | None) -> str:
    return "critical" if critical is not None and value > critical else "warning" if warning is not None and value > warning else "ok"


def _bloat(result: Result) -> Dict[str, Any]:
    found: List[Dict[str, Any]] = []
    for row in result.detail("bloat"):
        size, waste = number(row.get("bytes")), number(row.get("bloat_bytes"))
        if size is None or waste is None or size <= 0:
            continue
        percent = number(row.get("bloat_pct"))
        said = [f"{amount(waste, 'bytes')} of {amount(size, 'bytes')}"]
        said += [f"{amount(percent, 'percent')}"] if percent is not None else []
        said += ["an estimate"] if row.get("is_estimate", True) else []
        said += [tidy(row.get("why"), 120) or "not reliable"] if row.get("reliable") is False else []
        name = f"{tidy(row.get('object'), MOST_NAME)}"
        found.append({"name": name, "value": size, "part": min(max(waste, 0.0), size), "text": ", ".join(said)})
    found.sort(key=lambda row: -float(row["part"]))
    chart = bars(found[:MOST_BARS])
    if not found:
        chart["desc"] = "not looked at in this run: the weekly checks look at bloat"
    note = f"the {MOST_BARS} with most to win of {len(found)}" if len(found) > MOST_BARS else ""
    return {**chart, "title": "Bloat", "name": "bloat", "note": note or ("hatched: what a rewrite would give back" if found else "")}


def _statements(result: Result) -> Dict[str, Any]:
    found: List[Dict[str, Any]] = []
    for row in sorted(result.detail("statements"), key=lambda one: -(number(one.get("share_pct")) or 0.0)):
        share = number(row.get("share_pct"))
        if share is None:
            continue
        mean = amount((number(row.get("mean_ms")) or 0) / 1000, "seconds")
        said = f"{amount(share, 'percent')} of the time; {amount(row.get('calls'))} calls, {mean} each"
        found.append(
            {"name": tidy(row.get("text"), 160) or f"statement {tidy(row.get('queryid'), 24)}", "value": share, "text": said, "code": True}
        )
    since = next((row.get("since") for row in result.detail("statements") if row.get("since")), None)
    chart = bars(
        found[:MOST_BARS], most=max([100.0 if found and found[0]["value"] > 60 else 0.0, *(row["value"] for row in found[:1])]) or None
    )
    if not found:
        chart["desc"] = "no statements: pg_stat_statements is not there, not seen, or was not looked at in this run"
    return {**chart, "title": "Top statements", "name": "statements", "note": f"counted since {moment(since)}" if since else ""}


def _backups(result: Result) -> Dict[str, Any]:
    found: List[Dict[str, Any]] = []
    for row in result.detail("backups"):
        time = epoch(row.get("finished_at"))
        if time is None:
            continue
        kind = tidy(row.get("kind"), 30) or "backup"
        verified = bool(row.get("verified"))
        said = [f"{kind}", amount(row.get("bytes"), "bytes"), f"took {amount(row.get('seconds'), 'seconds')}"]
        said += [f"verified {moment(row.get('verified_at'))}" if row.get("verified_at") else "verified" if verified else "not verified"]
        text = ", ".join(said)
        found.append(
            {
                "time": time,
                "value": number(row.get("bytes")) or 0.0,
                "kind": "verified" if verified else "plain",
                "name": moment(time),
                "text": text,
            }
        )
    found.sort(key=lambda row: float(row["time"]))
    found = found[-50:]
    title = {"title": "Backups", "name": "backups", "note": "as high as the backup is large" if found else ""}
    if not found:
        return {**events([], 0, 1), **title, "desc": "no backup is known: none was looked for in this run, or none was found"}
    end = max(result.time or 0.0, found[-1]["time"])
    chart = events(found, min(found[0]["time"], end - DAY), end)
    last = found[-1]
    chart["desc"] = (
        f"{plural(len(found), 'backup')}; the last one {amount(max(0.0, end - last['time']), 'seconds')} before this look: {last['text']}"
    )
    rows = [[row["name"], row["text"]] for row in reversed(found)]
    return {**chart, **title, "table": {"head": ["finished", "backup"], "rows": rows, "note": ""}}


def _replication(result: Result) -> List[Dict[str, Any]]:
    """Return lag in time and in bytes, each only where there is some; without either, one chart that says so."""
    made = [
        _lines(result, name, title, "")
        for name, title in (("repl.lag_time", "Replication lag"), ("repl.lag_bytes", "Replication lag in bytes"))
        if result.family(name)
    ]
    if made:
        return made
    return [{**history([]), "desc": "no standby was seen", "title": "Replication lag", "name": "repl.lag_time", "note": ""}]
