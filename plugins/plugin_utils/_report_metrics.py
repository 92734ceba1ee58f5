# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A result as the text format of Prometheus has it: families of gauges and counters in base units, with few labels.

A label is a host, a system, a check, a severity or the name of an object. It is never a process or a statement: those come and go, and
each would be a series for ever.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.plugin_utils._charts import number
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_result import EXIT_CODES, Result, rank, split_key
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_words import tidy

MOST_OBJECTS = 20
MOST_FAMILIES = 400
_MOST_LABEL = 200
# What these name are sessions, statements and transactions: only the worst of them is a series.
_PASSING = ("query", "transaction", "lock", "stat", "twophase", "conn.idle", "conn.idle_in_transaction")
# The names of these objects are the kinds that a server knows, of which none may be missing from a sum.
_WHOLE = ("conn.states",)
_SUFFIXES = {"seconds": "_seconds", "bytes": "_bytes", "percent": "_percent"}

Labels = List[Tuple[str, str]]
Sample = Tuple[Labels, float]


class Families:
    """Families in the order in which they were begun; a series that is there already stays as it is."""

    def __init__(self, common: Mapping[str, str]) -> None:
        self._common = [(name, text) for name, text in common.items() if text]
        self._found: Dict[str, Dict[str, Any]] = {}

    def add(self, name: str, kind: str, said: str, value: Any, **labels: str) -> None:
        """Add one sample; a value that is no number is left out."""
        found = number(value)
        if found is None or (name not in self._found and len(self._found) >= MOST_FAMILIES):
            return
        family = self._found.setdefault(name, {"kind": kind, "said": said, "samples": {}})
        written = ",".join(f'{label}="{_escaped(text)}"' for label, text in [*self._common, *labels.items()] if text)
        family["samples"].setdefault(f"{name}{{{written}}}" if written else name, _number(found))

    def as_list(self) -> List[Dict[str, Any]]:
        """Return the families as a template prints them."""
        return [
            {
                "name": name,
                "type": family["kind"],
                "help": _help(family["said"]),
                "samples": [f"{series} {value}" for series, value in family["samples"].items()],
            }
            for name, family in self._found.items()
        ]


def families(raw: Any, *, host: str, system: str = "", last_success: Any = None) -> List[Dict[str, Any]]:
    """Return the families of a result. `last_success` is when an earlier run last saw the database, in seconds since the epoch."""
    result = Result(raw)
    name = tidy(result.raw.get("system") or system or "", _MOST_LABEL)
    made = Families({"host": tidy(host, _MOST_LABEL), "system": name})
    _whole(made, result, last_success)
    for check in result.checks:
        check_id = tidy(check.get("id"), _MOST_LABEL)
        # What has nothing to judge is no series: a value of its own would be compared with the others.
        if check.get("status") in EXIT_CODES:
            made.add(
                "pgops_check_status", "gauge", "Status of a check: 0 ok, 1 warning, 2 critical, 3 unknown; a skipped check has no series.",
                EXIT_CODES[check["status"]], check=check_id,
            )  # fmt: skip
    looked_at = {check.get("id") for check in result.checks}
    for check_id in sorted({str(one.get("check")) for one in result.standing} - looked_at):
        worst = min((one["severity"] for one in result.standing if str(one.get("check")) == check_id), key=rank)
        made.add("pgops_check_status", "gauge", "", EXIT_CODES[worst], check=tidy(check_id, _MOST_LABEL))
    for check in result.checks:
        took = number(check.get("timing_ms"))
        if took is not None:
            made.add(
                "pgops_check_duration_seconds", "gauge", "How long a check took.", took / 1000, check=tidy(check.get("id"), _MOST_LABEL)
            )
    left_out = _measured(made, result)
    made.add(
        "pgops_health_objects_left_out", "gauge", f"Objects beyond the worst {MOST_OBJECTS} of a metric, which have no series.", left_out
    )
    for forecast in result.forecasts[: 2 * MOST_OBJECTS]:
        days = number(forecast.get("days_left"))
        if days is not None:
            metric, item = split_key(tidy(forecast.get("metric"), _MOST_LABEL))
            made.add(
                "pgops_forecast_left_seconds", "gauge", "Time until a metric reaches its limit, going on as in its history.",
                days * 86400, metric=metric, object=item,
            )  # fmt: skip
    return made.as_list()


def _whole(made: Families, result: Result, last_success: Any) -> None:
    made.add("pgops_health_up", "gauge", "Whether the database was reached and looked at.", 1 if result.looked else 0)
    made.add(
        "pgops_health_status", "gauge", "Worst status of all checks: 0 ok, 1 warning, 2 critical, 3 unknown.", EXIT_CODES[result.status]
    )
    made.add("pgops_health_last_run_timestamp_seconds", "gauge", "When the checks last ran.", result.time)
    seen = result.time if result.looked else number(last_success)
    made.add("pgops_health_last_success_timestamp_seconds", "gauge", "When the database was last reached and looked at.", seen)
    took = number(result.raw.get("timing_ms"))
    made.add(
        "pgops_health_duration_seconds", "gauge", "How long all checks took, connecting included.", None if took is None else took / 1000
    )
    for status in ("ok", "warning", "critical", "unknown", "skipped"):
        count = sum(1 for check in result.checks if check.get("status") == status)
        made.add("pgops_health_checks", "gauge", "Checks by status.", count, status=status)
    for severity in ("critical", "warning", "unknown"):
        made.add("pgops_health_findings", "gauge", "Findings by severity.", result.count(severity), severity=severity)
    for change in ("new", "worse", "better", "same"):
        count = sum(1 for one in result.findings if one.get("change") == change)
        made.add("pgops_health_changes", "gauge", "Findings by what became of them since the previous run.", count, change=change)
    made.add("pgops_health_changes", "gauge", "", len(result.rows("resolved")), change="resolved")
    server = result.server
    role = {True: "standby", False: "primary"}.get(server.get("in_recovery", ""), "")
    if server.get("version"):
        made.add(
            "pgops_server_info", "gauge", "What was looked at.", 1,
            version=tidy(server.get("version"), 60), role=role, database=tidy(server.get("database"), _MOST_LABEL),
        )  # fmt: skip


def _measured(made: Families, result: Result) -> int:
    """Add every metric of the result, of each the worst objects; return how many objects were left out."""
    by_name: Dict[str, List[Tuple[str, float]]] = {}
    for key, value in result.metrics.items():
        metric, item = split_key(key)
        by_name.setdefault(metric, []).append((item, value))
    left_out = 0
    titles = {str(check.get("id")): tidy(check.get("title"), 120) for check in result.checks}
    for metric in sorted(by_name):
        found = sorted(by_name[metric], key=lambda one: one[1], reverse=not result.worse_below(metric))
        most = MOST_OBJECTS
        if metric.split(".", 1)[0] in _PASSING or metric in _PASSING:
            found, most = [("", found[0][1])], 1
        counter = metric.endswith("_total")
        said = f"{titles.get(metric) or 'The metric'} ({tidy(metric, 80)})."
        for item, value in found[:most] if metric not in _WHOLE else found[: 2 * most]:
            made.add(
                family_name(metric, result.unit_of(metric)), "counter" if counter else "gauge", said, value, object=tidy(item, _MOST_LABEL)
            )
        left_out += max(0, len(found) - most)
    return left_out


def family_name(metric: str, unit: str | None) -> str:
    """Return the name of a family: `conn.used_pct` in percent is `pgops_conn_used_percent`, `size.database` `pgops_size_database_bytes`."""
    name = "pgops_" + re.sub(r"[^a-z0-9_]+", "_", metric.lower())[:120].strip("_")
    if name.endswith("_total"):
        return name
    suffix = _SUFFIXES.get(unit or "", "")
    base = name[: -len("_pct")] if name.endswith("_pct") else name
    if suffix == "_percent":
        return base + suffix
    # A gauge must not end as the parts of a histogram and the additions of a counter do.
    name = f"{name}_value" if re.search(r"_(count|sum|bucket|created|info)$", name) else name
    return name if not suffix or name.endswith(suffix) else name + suffix


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", " ")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
