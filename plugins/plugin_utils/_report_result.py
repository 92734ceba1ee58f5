# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a result of pg_health that may be old, partial or odd: what is missing is empty, what is of another kind counts as missing."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._system import CHECKS
from ansible_collections.pgops.runbook.plugins.plugin_utils._charts import Point, number, points
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_words import epoch, moment

# Worst first, for people: what could not be seen comes before what is well.
SEVERITIES = ("critical", "warning", "unknown", "ok", "skipped")
EXIT_CODES = {"ok": 0, "warning": 1, "critical": 2, "unknown": 3}
_KEY = re.compile(r"([^\[\]]+)\[(.*)\]", re.DOTALL)


class Result:
    """What pg_health returned, by parts. Nothing here fails on a part that is missing."""

    def __init__(self, raw: Any) -> None:
        # Read once: a container of Ansible looks for templates at each access.
        self.raw: Mapping[str, Any] = _copied(raw) if isinstance(raw, Mapping) else {}
        status = self.raw.get("status")
        # What a run of a wider tier has found is no less true because a narrower one did not look.
        self.standing = [_of_earlier(one) for one in self.rows("standing")]
        # A result without a status says that nothing was seen, which is never green.
        seen: str = status if status in EXIT_CODES else "unknown"
        self.status: str = min([seen, *(one["severity"] for one in self.standing)], key=rank)
        self.checks = self.rows("checks")
        self.findings = sorted([*self.rows("findings"), *self.standing], key=lambda one: rank(one.get("severity")))
        self.metrics = {str(name): found for name, value in self.part("metrics").items() if (found := number(value)) is not None}
        self.server = self.part("server")
        self.series: Dict[str, List[Point]] = {str(name): points(values) for name, values in self.part("series").items()}
        self.forecasts = self.rows("forecasts")
        self.history = self.part("history")
        self.details = self.part("details")
        self._by_id = {str(check.get("id")): check for check in reversed(self.checks)}
        self._listed = Counter(str(one.get("check")) for one in self.rows("findings"))
        self.time = epoch(self.raw.get("time")) or epoch(self.server.get("time"))

    @property
    def looked(self) -> bool:
        """Whether the database was reached and looked at."""
        refused = any(one.get("check") == "avail.connect" and one.get("severity") == "critical" for one in self.findings)
        return bool(self.checks) and not refused

    def part(self, name: str) -> Mapping[str, Any]:
        """Return the mapping under `name`, or an empty one."""
        found = self.raw.get(name)
        return found if isinstance(found, Mapping) else {}

    def rows(self, name: str) -> List[Mapping[str, Any]]:
        """Return the mappings in the list under `name`."""
        return mappings(self.raw.get(name))

    def detail(self, name: str) -> List[Mapping[str, Any]]:
        """Return the rows of the detail `name`, at most 50."""
        return mappings(self.details.get(name))[:50]

    def count(self, severity: str) -> int:
        """Return how many findings there are of a severity, with those that the result only counts; of ok and skipped, how many checks."""
        if severity in ("ok", "skipped"):
            return sum(1 for check in self.checks if check.get("status") == severity)
        listed = sum(1 for one in self.findings if one.get("severity") == severity)
        # What a check found beyond its twenty is of its own status at worst, and mostly at least.
        return listed + sum(self.unlisted(check) for check in self.checks if check.get("status") == severity)

    def unlisted(self, check: Mapping[str, Any]) -> int:
        """Return how many findings of a check the result counts and does not list."""
        return max(0, int(number(check.get("findings_total")) or 0) - self._listed[str(check.get("id"))])

    def family(self, name: str) -> List[Tuple[str, List[Point]]]:
        """Return the series of the metric `name` by object, the one without an object first."""
        return [(item, self.series[key]) for key, item in _of(self.series, name) if self.series[key]]

    def values_of(self, name: str) -> List[Tuple[str, float]]:
        """Return the numbers of the metric `name` by object."""
        return [(item, self.metrics[key]) for key, item in _of(self.metrics, name)]

    def unit_of(self, metric: str) -> str | None:
        """Return the unit of a metric: that of its check, or what its name says."""
        check_id = split_key(metric)[0]
        if self._by_id.get(check_id, {}).get("unit"):
            return str(self._by_id[check_id]["unit"])
        for forecast in self.forecasts:
            if forecast.get("metric") == metric and forecast.get("unit"):
                return str(forecast["unit"])
        if check_id in CHECKS and CHECKS[check_id].unit:
            return CHECKS[check_id].unit
        word = check_id.rpartition(".")[2]
        endings = (("pct", "percent"), ("bytes", "bytes"), ("seconds", "seconds"), ("lag_time", "seconds"), ("_age", "seconds"))
        return next((unit for ending, unit in endings if word.endswith(ending)), "bytes" if check_id == "size.database" else None)

    def limits_of(self, check_id: str) -> Tuple[float | None, float | None]:
        """Return the thresholds that held for a check: warning and critical."""
        bounds = self._by_id.get(check_id, {}).get("thresholds")
        return (number(bounds.get("warning")), number(bounds.get("critical"))) if isinstance(bounds, Mapping) else (None, None)

    def worse_below(self, check_id: str) -> bool:
        """Tell whether a lower value of a check is worse."""
        warning, critical = self.limits_of(check_id)
        if warning is not None and critical is not None and warning != critical:
            return critical < warning
        return check_id in CHECKS and CHECKS[check_id].worse == "below"


def _of_earlier(one: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a finding of an earlier run, which says when it was last seen."""
    severity = one.get("severity") if one.get("severity") in ("critical", "warning", "unknown") else "unknown"
    message = f"{one.get('message') or ''} (last looked at {moment(one.get('seen'))})"
    return {**one, "severity": severity, "message": message, "change": "same"}


def _copied(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {str(name): _copied(part) for name, part in found.items()}
    return [_copied(part) for part in found] if isinstance(found, (list, tuple)) else found


def rank(severity: Any) -> int:
    """Return the place of a severity, the worst being 0."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else SEVERITIES.index("unknown")


def mappings(found: Any) -> List[Mapping[str, Any]]:
    """Return the mappings in `found`, if it is a list."""
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, (list, tuple)) else []


def split_key(key: str) -> Tuple[str, str]:
    """Return the name and the object of a metric or a finding such as `repl.lag_time[standby1]`."""
    match = _KEY.fullmatch(key)
    return (match.group(1), match.group(2)) if match else (key, "")


def _of(known: Mapping[str, Any], name: str) -> Iterator[Tuple[str, str]]:
    for key in sorted(known):
        found, item = split_key(key)
        if found == name:
            yield key, item
