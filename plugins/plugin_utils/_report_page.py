# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a page about one host says, part by part, as plain words; how it looks is the templates' business."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from ansible_collections.pgops.runbook.plugins.plugin_utils._charts import Scale, number
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_charts import charts, others
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_result import SEVERITIES, Result, rank
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_tables import tables
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_words import (
    MOST_NAME,
    amount,
    day,
    everywhere,
    file_name,
    for_html,
    for_markdown,
    moment,
    plural,
    statements,
    tidy,
)

MOST_FINDINGS = 100
MOST_CHECKS = 300
MOST_LISTED = 100
VERDICTS = {
    "failed": "Could not be looked at",
    "critical": "Critical",
    "warning": "Warning",
    "unknown": "Not fully seen",
    "ok": "All is well",
}
_CHANGES = (("new", "New"), ("worse", "Worse"), ("better", "Better"), ("same", "Still there"))
_ESCAPES = {"html": for_html, "markdown": for_markdown}
# What a fence of code holds is not escaped in Markdown.
_CODE = frozenset({"statements", "fence"})


def page(
    raw: Any, *, host: str, title: str = "", targets: Any = None, system: str = "", failure: str = "", form: str = "html"
) -> Dict[str, Any]:
    """Return what a page about the result `raw` of `host` says. Every text is escaped for `form`: html or markdown."""
    result = Result(raw)
    name = tidy(result.raw.get("system") or system or result.server.get("database") or "", MOST_NAME)
    model: Dict[str, Any] = {
        "title": tidy(title, MOST_NAME) or f"{name or 'Database'} on {tidy(host, MOST_NAME)}",
        "host": tidy(host, MOST_NAME),
        "file": file_name(host),
        "system": name,
        **verdict(result, failure),
        "counts": [{"status": status, "count": result.count(status)} for status in SEVERITIES],
        "facts": _facts(result, host, name),
        "findings": [_finding(one) for one in result.findings if one.get("severity") != "unknown"][:MOST_FINDINGS],
        "unseen": [_finding(one) for one in result.findings if one.get("severity") == "unknown"][:MOST_FINDINGS],
        "unseen_more": max(0, result.count("unknown") - MOST_FINDINGS),
        "changes": _changes(result),
        "charts": charts(result),
        "others": others(result),
        "targets": _targets(result, targets),
        "tables": tables(result),
        "suppressed": [_suppressed(one) for one in result.rows("suppressed")[:MOST_LISTED]],
        "checks": [_check(result, one) for one in sorted(result.checks, key=lambda one: rank(one.get("status")))[:MOST_CHECKS]],
        "notices": [tidy(one) for one in result.raw.get("notices") or [] if isinstance(one, str)][:20],
        "history": _history(result),
    }
    model["findings_more"] = max(0, result.count("critical") + result.count("warning") - len(model["findings"]))
    seen = everywhere(model, _ESCAPES[form], _CODE if form == "markdown" else frozenset())
    return dict(seen)


def verdict(result: Result, failure: str = "") -> Dict[str, Any]:
    """Return the word for the whole, and the sentence behind it."""
    status = "failed" if failure or not result.checks else result.status
    if failure:
        sentence = tidy(failure)
    elif not result.checks:
        sentence = tidy(result.raw.get("msg")) or "no check ran on this host"
    elif not result.looked:
        sentence = tidy(next((one.get("message") for one in result.findings if one.get("check") == "avail.connect"), ""))
    else:
        sentence = _worst(result)
    return {"status": status, "word": VERDICTS[status], "sentence": sentence}


def _worst(result: Result) -> str:
    """Return the worst finding in words, or how much was looked at where there is none."""
    if not result.findings:
        judged = len(result.checks) - result.count("skipped")
        return f"{result.count('ok')} of {plural(judged, 'check')} ok" + (
            ", the others had nothing to judge" if result.count("skipped") else ""
        )
    worst = result.findings[0]
    name = ", ".join(part for part in (tidy(worst.get("title") or worst.get("check"), 120), tidy(worst.get("object"), 120)) if part)
    return f"{name}: {tidy(worst.get('message'), 300)}"


def _facts(result: Result, host: str, name: str) -> List[Dict[str, str]]:
    server = result.server
    role = {True: "standby", False: "primary"}.get(server.get("in_recovery", ""), "")
    version = f"PostgreSQL {tidy(server.get('version'), 60)}" if server.get("version") else ""
    took = number(result.raw.get("timing_ms"))
    trips = number(result.raw.get("round_trips"))
    cost = amount(took / 1000, "seconds") if took is not None else ""
    cost += f", {plural(int(trips), 'round trip')}" if cost and trips is not None else ""
    previous = result.history.get("previous")
    found = [
        ("Host", tidy(host, MOST_NAME)),
        ("System", name),
        ("Database", tidy(server.get("database"), MOST_NAME)),
        ("Server", ", ".join(part for part in (version, role) if part)),
        ("Started", moment(server.get("started")) if server.get("started") else ""),
        ("Looked at", moment(result.time, seconds=True) if result.time else "not recorded"),
        ("As", tidy(server.get("role") or server.get("user") or server.get("login"), MOST_NAME)),
        ("Checks", tidy(result.raw.get("tier"), 20)),
        ("Took", cost),
        ("Compared with", moment(previous) if previous else ""),
    ]
    return [{"name": word, "text": text} for word, text in found if text]


def _finding(one: Mapping[str, Any]) -> Dict[str, Any]:
    severity = one.get("severity") if one.get("severity") in SEVERITIES else "unknown"
    unit = one.get("unit") if isinstance(one.get("unit"), str) else None
    action = tidy(one.get("action"), 2000)
    found = statements(action)
    return {
        "severity": severity,
        "key": tidy(one.get("key") or one.get("check"), MOST_NAME),
        "check": tidy(one.get("check"), MOST_NAME),
        "title": tidy(one.get("title"), MOST_NAME) or tidy(one.get("check"), MOST_NAME),
        "object": tidy(one.get("object"), MOST_NAME),
        "message": tidy(one.get("message")),
        "value": amount(one.get("value"), unit) if number(one.get("value")) is not None else "",
        "threshold": _threshold(one, unit),
        "meter": _meter(one, unit),
        "since": moment(one.get("first_seen")) if one.get("first_seen") else "",
        "change": one.get("change") if one.get("change") in ("new", "worse", "better", "same") else "",
        "action": action,
        # Beside the statements, which a page shows apart.
        "advice": _without(action, found),
        "statements": found,
        "fence": _fence(found),
        "sqlstate": tidy(one.get("sqlstate"), 10),
    }


def _without(action: str, found: List[str]) -> str:
    for statement in found:
        action = action.replace(statement, "", 1)
    return " ".join(action.split()).strip(" ;")


def _threshold(one: Mapping[str, Any], unit: str | None) -> str:
    passed = number(one.get("threshold"))
    if passed is None:
        return ""
    value = number(one.get("value"))
    word = "under" if value is not None and value < passed else "over"
    source = {"default": "", "system": ", from the system", "call": ", from the call"}.get(str(one.get("threshold_source")), "")
    return f"{tidy(one.get('severity'), 10)} {word} {amount(passed, unit)}{source}"


def _meter(one: Mapping[str, Any], unit: str | None) -> Dict[str, Any] | None:
    """Return a value among its thresholds as places in percent of a bar; None where there is nothing to compare."""
    value, warning, critical = (number(one.get(name)) for name in ("value", "warning", "critical"))
    bounds = [bound for bound in (warning, critical) if bound is not None]
    if value is None or not bounds or min(value, *bounds) < 0:
        return None
    whole = max(value, *bounds)
    across = Scale(0.0, max(100.0, whole) if unit == "percent" else whole * 1.15 or 1.0, 0, 100)
    marks = [{"kind": kind, "x": across.at(bound)} for kind, bound in (("warning", warning), ("critical", critical)) if bound is not None]
    return {"width": max(0.8, across.at(value)), "marks": marks}


def _fence(found: List[str]) -> str:
    """Return a fence of Markdown that none of the statements can close."""
    longest = max([len(run) for text in found for run in "".join(sign if sign == "`" else " " for sign in text).split()] or [0])
    return "`" * max(3, longest + 1)


def _changes(result: Result) -> Dict[str, Any]:
    """Return what is different from the previous run: new, worse, better, still there, resolved."""
    previous = result.history.get("previous")
    known = bool(previous) or any(one.get("change") for one in result.findings) or bool(result.rows("resolved"))
    groups: List[Dict[str, Any]] = []
    for change, word in _CHANGES:
        found = [_finding(one) for one in result.findings if one.get("change") == change]
        groups.append({"change": change, "word": word, "count": len(found), "rows": found[:MOST_LISTED]})
    gone = [_finding(one) for one in result.rows("resolved")]
    groups.insert(3, {"change": "resolved", "word": "Resolved", "count": len(gone), "rows": gone[:MOST_LISTED]})
    note = f"Compared with the look of {moment(previous)}." if previous else "Compared with the previous look."
    return {"known": known, "note": note if known else "There is no history yet to compare with.", "groups": groups}


def _history(result: Result) -> str:
    kept = result.history.get("kept_in")
    if not result.history or kept in (None, "none"):
        return "No history is kept, so there is nothing to compare with and nothing to forecast from."
    place = tidy(result.history.get("place"), MOST_NAME)
    said = f"The history is kept in a {tidy(kept, 20)}" + (f" ({place})" if place else "")
    count = number(result.history.get("snapshots"))
    said += f", {plural(int(count), 'snapshot')}" if count is not None else ""
    note = tidy(result.history.get("note"))
    return f"{said}; {note}." if note else f"{said}."


def _targets(result: Result, targets: Any) -> List[Dict[str, Any]]:
    """Return what the service promises beside what was measured; what this run cannot measure says so."""
    known = targets if isinstance(targets, Mapping) else {}
    rows = (
        ("availability_pct", "Available", "percent", ("avail.pct", "avail.availability_pct"), True),
        ("p95", "95 % of statements within", "seconds", ("stat.p95", "query.p95"), False),
        ("cache_hit_pct", "Reads from memory", "percent", ("cache.hit_pct",), True),
    )
    found = []
    for key, word, unit, names, at_least in rows:
        wanted = number(known.get(key)) if not isinstance(known.get(key), str) else None
        promised = amount(wanted, unit) if wanted is not None else tidy(known.get(key), 40)
        if not promised:
            continue
        measured = next((result.metrics[name] for name in names if name in result.metrics), None)
        met = None if measured is None or wanted is None else measured >= wanted if at_least else measured <= wanted
        state = "unknown" if met is None else "ok" if met else "warning"
        said = {"unknown": "not measured by this run" if measured is None else "not compared", "ok": "met", "warning": "missed"}[state]
        bound = f"{'at least ' if at_least else ''}{promised}"
        found.append({"name": word, "target": bound, "measured": amount(measured, unit), "status": state, "said": said})
    return found


def _suppressed(one: Mapping[str, Any]) -> Dict[str, Any]:
    until = one.get("until")
    return {**_finding(one), "reason": tidy(one.get("reason")) or "no reason given", "until": day(until) if until else "no end"}


def _check(result: Result, one: Mapping[str, Any]) -> Dict[str, Any]:
    unit = one.get("unit") if isinstance(one.get("unit"), str) else None
    warning, critical = result.limits_of(str(one.get("id")))
    bounds = [f"{word} {amount(bound, unit)}" for word, bound in (("warning", warning), ("critical", critical)) if bound is not None]
    more = result.unlisted(one)
    return {
        "id": tidy(one.get("id"), MOST_NAME),
        "title": tidy(one.get("title"), MOST_NAME),
        "status": one.get("status") if one.get("status") in SEVERITIES else "unknown",
        "message": tidy(one.get("message"), 300) + (f" ({more} more are only counted)" if more else ""),
        "value": amount(one.get("value"), unit) if number(one.get("value")) is not None else "",
        "bounds": ", ".join(bounds),
        "suppressed": int(number(one.get("suppressed")) or 0),
        "tier": tidy(one.get("tier"), 12),
        "took": f"{number(one.get('timing_ms')):.1f} ms" if number(one.get("timing_ms")) is not None else "",
    }


def row(raw: Any, *, host: str, system: str = "", failure: str = "") -> Dict[str, Any]:
    """Return what the fleet page says of a host, not escaped: it is kept in a file and read again."""
    result = Result(raw)
    found = verdict(result, failure)
    worst = result.findings[0] if result.findings else {}
    changes = {change["change"]: change["count"] for change in _changes(result)["groups"]}
    role = {True: "standby", False: "primary"}.get(result.server.get("in_recovery", ""), "")
    return {
        "host": str(host),
        "file": file_name(host),
        "page": True,
        "system": tidy(result.raw.get("system") or system or "", MOST_NAME),
        **found,
        "counts": {severity: result.count(severity) for severity in ("critical", "warning", "unknown", "ok")},
        "worst": f"{tidy(worst.get('key') or worst.get('check'), 120)}: {tidy(worst.get('message'), 160)}" if worst and not failure else "",
        "new": changes["new"] + changes["worse"],
        "resolved": changes["resolved"],
        "compared": _changes(result)["known"],
        "time": result.time,
        "version": tidy(result.server.get("version"), 40),
        "role": role,
    }
