# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All hosts on one page: what this run saw of each, and of a host that it did not look at what the last one saw."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._duration import parse_duration
from ansible_collections.pgops.runbook.plugins.plugin_utils._charts import number
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_result import mappings
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_words import amount, everywhere, file_name, for_html, moment, tidy

# Worst first. A host that nobody could look at, or has not for long, may be worse than any that was seen.
ORDER = ("failed", "critical", "stale", "warning", "unknown", "ok")
WORDS = {
    "failed": "not looked at",
    "critical": "critical",
    "stale": "not looked at lately",
    "warning": "warning",
    "unknown": "not fully seen",
    "ok": "well",
}


def merge(kept: Any, current: Mapping[str, Any], known: Sequence[str]) -> List[Dict[str, Any]]:
    """Return a row for each host: that of this run where it has one, else that of `kept` while the inventory (`known`) has the host.

    `kept` are rows, or the text of their file. A row keeps in `seen` when its host was last looked at, also through runs that could not.
    """
    old = {str(row.get("host")): row for row in _read(kept) if str(row.get("host")) in {str(host) for host in known}}
    rows: List[Dict[str, Any]] = []
    for host in sorted({*old, *map(str, current)}):
        before = old.get(host, {})
        if host not in current:
            rows.append({**before, "now": False})
            continue
        row = dict(current[host])
        seen = number(row.get("time")) if row.get("status") != "failed" else None
        seen = seen if seen is not None else number(before.get("seen"))
        rows.append({**row, "now": True, "seen": seen, "page": bool(row.get("page") or before.get("page"))})
    return rows


def _read(kept: Any) -> List[Mapping[str, Any]]:
    """Return the rows of a kept file; one that is missing or was cut short holds none, and the next run fills it again."""
    if isinstance(kept, str):
        try:
            kept = json.loads(kept)
        except ValueError:
            return []
    return mappings(kept.get("rows") if isinstance(kept, Mapping) else kept)


def fleet(rows: Any, *, stale_after: Any, title: str = "") -> Dict[str, Any]:
    """Return what the fleet page says, every text escaped for HTML: the rows worst first, and how many there are of each verdict.

    A row not of this run that is older than `stale_after` (a duration), by the newest moment of all rows, is stale, whatever it once said.
    """
    found = mappings(rows)
    most = parse_duration(stale_after)
    newest = max([number(row.get("seen")) or 0.0 for row in found] or [0.0])
    shown = [_row(row, newest, most) for row in found]
    shown.sort(key=lambda row: (ORDER.index(row["status"]), -row["critical"], -row["warning"], row["host"]))
    counts = [{"status": status, "word": WORDS[status], "count": sum(row["status"] == status for row in shown)} for status in ORDER]
    model = {
        "title": tidy(title, 120) or "Databases",
        "looked": moment(newest) if newest else "",
        # A page cannot compare itself with the clock: its reader does.
        "valid_until": moment(newest + most) if newest else "",
        "rows": shown,
        "total": len(shown),
        "counts": [one for one in counts if one["count"]],
        "status": shown[0]["status"] if shown else "failed",
    }
    return dict(everywhere(model, for_html))


def _row(row: Mapping[str, Any], newest: float, stale_after: float) -> Dict[str, Any]:
    status = str(row.get("status")) if row.get("status") in ORDER else "failed"
    seen = number(row.get("seen"))
    age = newest - seen if seen is not None else None
    old = not row.get("now") and (age is None or age > stale_after)
    counts = row.get("counts") if isinstance(row.get("counts"), Mapping) else {}
    said = {name: int(number((counts or {}).get(name)) or 0) for name in ("critical", "warning", "unknown", "ok")}
    if status == "failed":
        said = dict.fromkeys(said, 0)
    elif old:
        status = "stale"
    host = str(row.get("host"))
    return {
        "host": tidy(host, 120),
        # Made from the name again: what stands in a file leads nowhere else.
        "file": file_name(host),
        "has_page": bool(row.get("page")),
        "system": tidy(row.get("system"), 80),
        "status": status,
        "word": WORDS[status],
        **said,
        "worst": tidy(row.get("sentence") if status == "failed" else row.get("worst"), 280),
        "new": int(number(row.get("new")) or 0),
        "resolved": int(number(row.get("resolved")) or 0),
        "compared": bool(row.get("compared")) and status != "failed",
        "seen": moment(seen) if seen is not None else "not recorded" if row.get("now") and status != "failed" else "never",
        "lag": f"{amount(age, 'seconds')} before the newest" if age is not None and age >= 3600 else "",
        "now": bool(row.get("now")),
        "version": tidy(row.get("version"), 40),
        "role": tidy(row.get("role"), 20),
    }
