# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts what the checks found into one result: checks, findings with stable keys, metrics, and a line that sums it up."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._health.model import (
    CRITICAL,
    OK,
    SKIPPED,
    STATUSES,
    UNKNOWN,
    WARNING,
    Check,
    Limits,
    Reading,
    judge,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.registry import as_fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.suppressions import Suppression, Suppressions

Result = Tuple[Check, List[Reading]]
Judged = Tuple[str, "str | None", Reading]

EXIT_CODES = {OK: 0, WARNING: 1, CRITICAL: 2, UNKNOWN: 3}
# A result is read by people and kept in histories: so many findings and numbers of one check, the rest as a number.
FINDINGS_PER_CHECK = 20
METRICS_PER_CHECK = 50
ROWS_PER_DETAIL = 50
NAMED_IN_SUMMARY = 3
# Controls, and what turns the direction of the text around it: the name of a table may hold them.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")


@dataclass(frozen=True)
class Run:
    """What is known of a run beside what its checks found. `milliseconds` is the time by check, `details` the lists for a report."""

    system: Mapping[str, Any] | None
    tier: str | None
    limits: Mapping[str, Limits]
    suppressions: Suppressions
    time: datetime
    milliseconds: Mapping[str, float]
    server: Mapping[str, Any] = field(default_factory=dict)
    round_trips: int = 0
    tables: Sequence[Mapping[str, Any]] = ()
    details: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A module's result, and every finding by its key, also those that the result has no room for and those that are set aside."""

    result: Dict[str, Any]
    open: Dict[str, Dict[str, Any]]


def report(run: Run, results: Sequence[Result]) -> Report:
    """Return what the checks found as one result."""
    checks: List[Dict[str, Any]] = []
    findings: List[Dict[str, Any]] = []
    suppressed: List[Dict[str, Any]] = []
    metrics: Dict[str, float | None] = {}
    every: Dict[str, Dict[str, Any]] = {}
    for check, readings in results:
        judged = [(*_judged(check, run.limits[check.id], reading), reading) for reading in readings]
        judged.sort(key=lambda one: (STATUSES.index(one[0]), check.sign * (one[2].amount or 0.0)), reverse=True)
        metrics.update(_metrics(check, judged))
        told, aside = _set_aside(run, check, judged)
        found = [_finding(check, run.limits[check.id], *one) for one in told if one[0] in (CRITICAL, WARNING, UNKNOWN) and not one[2].told]
        every.update({each["key"]: each for each in [*aside, *found]})
        checks.append(_check(check, run.limits[check.id], judged, told, len(found), run.milliseconds.get(check.id, 0.0)))
        findings += found[:FINDINGS_PER_CHECK]
        suppressed += aside[:FINDINGS_PER_CHECK]
    findings.sort(key=lambda finding: -STATUSES.index(finding["severity"]))
    statuses = [check["status"] for check in checks]
    total = sum(check["findings_total"] for check in checks)
    status = max((each for each in statuses if each != SKIPPED), key=STATUSES.index, default=UNKNOWN)
    name = (run.system or {}).get("name") or run.server.get("database") or "database"
    result = {
        "changed": False,
        "status": status,
        "exit_code": EXIT_CODES[status],
        "summary": _summary(name, status, statuses, findings, total),
        "time": run.time.isoformat(),
        "system": (run.system or {}).get("name"),
        "tier": run.tier,
        "checks": checks,
        "findings": findings,
        "suppressed": suppressed,
        "metrics": metrics,
        "unknown": [check["id"] for check in checks if check["status"] == UNKNOWN],
        "tables": list(run.tables),
        "details": {name: list(rows)[:ROWS_PER_DETAIL] for name, rows in run.details.items()},
        "server": dict(run.server),
        "notices": [_expired(each) for each in run.suppressions.expired(run.time.date())],
        "timing_ms": round(sum(run.milliseconds.values()), 1),
        "round_trips": run.round_trips,
    }
    return Report(result, every)


def _metrics(check: Check, judged: Sequence[Judged]) -> Dict[str, float | None]:
    """Return the numbers of the check's worst objects."""
    metrics: Dict[str, float | None] = {}
    for status, _bound, reading in judged[:METRICS_PER_CHECK]:
        metrics.update(reading.metrics)
        if check.unit and status != SKIPPED:
            metrics[_key(check, reading)] = reading.amount
    return metrics


def _set_aside(run: Run, check: Check, judged: Sequence[Judged]) -> Tuple[List[Judged], List[Dict[str, Any]]]:
    """Return what counts, and the findings that an operator has set aside."""
    told: List[Judged] = []
    aside: List[Dict[str, Any]] = []
    for status, bound, reading in judged:
        bad = status in (CRITICAL, WARNING, UNKNOWN)
        suppression = run.suppressions.of(_key(check, reading), status, run.time.date()) if bad else None
        if suppression is None:
            told.append((status, bound, reading))
        else:
            finding = _finding(check, run.limits[check.id], status, bound, reading)
            aside.append({**finding, "reason": suppression.reason, "until": suppression.until.isoformat()})
    return told, aside


def _expired(suppression: Suppression) -> str:
    return _line(f"the suppression of {suppression.finding} has expired on {suppression.until.isoformat()}: {suppression.reason}")


def _judged(check: Check, limits: Limits, reading: Reading) -> Tuple[str, str | None]:
    return (reading.status, None) if reading.status else judge(check, limits, reading.amount)


def _key(check: Check, reading: Reading) -> str:
    return f"{check.id}[{reading.object_name}]" if reading.object_name else check.id


def _check(
    check: Check, limits: Limits, judged: Sequence[Judged], told: Sequence[Judged], found: int, milliseconds: float
) -> Dict[str, Any]:
    worst = judged[0][2]
    # What could not be seen is not ok because nobody wants to be told of it.
    unseen = any(status == UNKNOWN for status, _bound, _reading in judged)
    status = told[0][0] if told else SKIPPED if unseen else OK
    said = [f"{reading.object_name}: {reading.message}" if reading.object_name else reading.message for _status, _bound, reading in judged]
    more = f"; and {len(said) - NAMED_IN_SUMMARY} more" if len(said) > NAMED_IN_SUMMARY else ""
    return {
        **as_fact(check),
        "status": status,
        "message": _line("; ".join(said[:NAMED_IN_SUMMARY]) + more),
        "value": worst.amount,
        "thresholds": {"warning": limits.warning, "critical": limits.critical, "minimum": limits.minimum, "sources": dict(limits.sources)},
        "action": limits.action or check.action,
        "objects": len(judged),
        "findings_total": found,
        "suppressed": len(judged) - len(told),
        "timing_ms": round(milliseconds, 1),
    }


def _finding(check: Check, limits: Limits, status: str, bound: str | None, reading: Reading) -> Dict[str, Any]:
    return {
        "key": _key(check, reading),
        "check": check.id,
        "title": check.title,
        "severity": status,
        "object": reading.object_name,
        "message": _line(reading.message),
        "value": reading.amount,
        "unit": check.unit,
        "warning": limits.warning,
        "critical": limits.critical,
        "threshold": getattr(limits, bound) if bound else None,
        "threshold_source": limits.sources.get(bound) if bound else None,
        "action": reading.action or limits.action or check.action,
        "sqlstate": reading.error.sqlstate if reading.error else None,
        "layer": getattr(reading.error, "layer", None),
    }


def _summary(name: str, status: str, statuses: Sequence[str], findings: Sequence[Mapping[str, Any]], total: int) -> str:
    counts = [f"{statuses.count(each)} {each}" for each in (CRITICAL, WARNING, UNKNOWN, OK, SKIPPED) if each in statuses]
    bad = [each for each in counts if not each.endswith(OK)] if findings else counts
    said = [_line(f"{finding['key']} {finding['message']}") for finding in findings[:NAMED_IN_SUMMARY]]
    more = [f"and {total - NAMED_IN_SUMMARY} more"] if total > NAMED_IN_SUMMARY else []
    line = f"{name} {status}: {', '.join(bad)}"
    return f"{line}: {'; '.join(said + more)}" if said else line


def _line(text: str) -> str:
    """Return a text, with the names in it that others have given, in one line that steers no terminal."""
    return " ".join(_UNSEEN.sub(" ", text).split())
