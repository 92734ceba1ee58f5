# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts what the checks found into one result: checks, findings with stable keys, metrics, and a line that sums it up."""

from __future__ import annotations

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

Result = Tuple[Check, List[Reading]]

EXIT_CODES = {OK: 0, WARNING: 1, CRITICAL: 2, UNKNOWN: 3}
# A result is read by people and kept in histories: so many findings of one check, the rest as a number.
FINDINGS_PER_CHECK = 20
NAMED_IN_SUMMARY = 3


def result(
    system: Mapping[str, Any] | None,
    limits: Mapping[str, Limits],
    results: Sequence[Result],
    milliseconds: Mapping[str, float],
    server: Mapping[str, Any],
    round_trips: int,
    tables: Sequence[Mapping[str, Any]],
) -> Dict[str, Any]:
    """Return the module's result. `milliseconds` is the time by check; `round_trips` the statements after the session was prepared."""
    checks: List[Dict[str, Any]] = []
    findings: List[Dict[str, Any]] = []
    metrics: Dict[str, float | None] = {}
    for check, readings in results:
        judged = [(*_judged(check, limits[check.id], reading), reading) for reading in readings]
        judged.sort(key=lambda one: (STATUSES.index(one[0]), check.sign * (one[2].amount or 0.0)), reverse=True)
        found = [
            _finding(check, limits[check.id], status, bound, reading)
            for status, bound, reading in judged
            if status in (CRITICAL, WARNING, UNKNOWN) and not reading.told
        ]
        checks.append(_check(check, limits[check.id], judged, len(found), milliseconds.get(check.id, 0.0)))
        findings += found[:FINDINGS_PER_CHECK]
        for status, _bound, reading in judged:
            metrics.update(reading.metrics)
            if check.unit and status != SKIPPED:
                metrics[_key(check, reading)] = reading.amount
    findings.sort(key=lambda finding: -STATUSES.index(finding["severity"]))
    statuses = [check["status"] for check in checks]
    total = sum(check["findings_total"] for check in checks)
    status = max((each for each in statuses if each != SKIPPED), key=STATUSES.index, default=UNKNOWN)
    return {
        "changed": False,
        "status": status,
        "exit_code": EXIT_CODES[status],
        "summary": _summary((system or {}).get("name") or server.get("database") or "database", status, statuses, findings, total),
        "checks": checks,
        "findings": findings,
        "metrics": metrics,
        "unknown": [check["id"] for check in checks if check["status"] == UNKNOWN],
        "tables": list(tables),
        "server": dict(server),
        "timing_ms": round(sum(milliseconds.values()), 1),
        "round_trips": round_trips,
    }


def _judged(check: Check, limits: Limits, reading: Reading) -> Tuple[str, str | None]:
    return (reading.status, None) if reading.status else judge(check, limits, reading.amount)


def _key(check: Check, reading: Reading) -> str:
    return f"{check.id}[{reading.object_name}]" if reading.object_name else check.id


def _check(
    check: Check, limits: Limits, judged: Sequence[Tuple[str, str | None, Reading]], found: int, milliseconds: float
) -> Dict[str, Any]:
    status, _bound, worst = judged[0]
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
        "timing_ms": round(milliseconds, 1),
    }


def _finding(check: Check, limits: Limits, status: str, bound: str | None, reading: Reading) -> Dict[str, Any]:
    return {
        "key": _key(check, reading),
        "check": check.id,
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
    said = [f"{finding['key']} {finding['message']}" for finding in findings[:NAMED_IN_SUMMARY]]
    more = [f"and {total - NAMED_IN_SUMMARY} more"] if total > NAMED_IN_SUMMARY else []
    line = f"{name} {status}: {', '.join(bad)}"
    return f"{line}: {'; '.join(said + more)}" if said else line


def _line(text: str) -> str:
    return " ".join(text.split())
