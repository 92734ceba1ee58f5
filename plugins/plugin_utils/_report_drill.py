# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page about a recovery drill says, part by part; every text is escaped here, so that no template can forget one."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from ansible_collections.pgops.runbook.plugins.plugin_utils._charts import number
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_result import SEVERITIES, mappings, rank
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_words import (
    MOST_NAME,
    amount,
    everywhere,
    file_name,
    for_html,
    moment,
    plural,
    tidy,
)

MOST_LISTED = 200


def drill_page(raw: Any, *, host: str, system: str = "") -> Dict[str, Any]:
    """Return what a page about the result `raw` of pg_recovery_drill says, escaped for HTML; what is missing is told as missing."""
    result: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    passed = result.get("passed") is True
    differences = mappings(result.get("differences"))
    model: Dict[str, Any] = {
        "title": f"Recovery drill of {tidy(system, MOST_NAME) or 'the database'} on {tidy(host, MOST_NAME)}",
        "file": file_name(host),
        "status": "ok" if passed else "critical",
        "word": "Recovered" if passed else "Not recovered as it should",
        "sentence": _sentence(result, differences, passed=passed),
        "facts": _facts(result, host, system),
        "targets": [
            _target("Recovery took (RTO)", result.get("rto")),
            _target("Would have been lost (RPO)", result.get("rpo")),
        ],
        "phases": _phases(result),
        "differences": [_difference(one) for one in differences[:MOST_LISTED]],
        "differences_more": max(0, len(differences) - MOST_LISTED),
        "checks": [_check(one) for one in sorted(mappings(result.get("checks")), key=lambda one: rank(one.get("status")))[:MOST_LISTED]],
        "left_out": [_left_out(one) for one in (result.get("left_out") or [])[:MOST_LISTED]],
        "not_compared": [_left_out(one) for one in (result.get("not_compared") or [])[:MOST_LISTED]],
        "notices": [tidy(one) for one in result.get("notices") or [] if isinstance(one, str)][:20],
    }
    return dict(everywhere(model, for_html))


def _sentence(result: Mapping[str, Any], differences: List[Mapping[str, Any]], *, passed: bool) -> str:
    if passed:
        compared = number(result.get("tables"))
        what = f"{plural(int(compared), 'table')} " if compared is not None else "Everything "
        rows = number(result.get("rows"))
        return what + (f"with {plural(int(rows), 'row')} " if rows is not None else "") + "came back as the backup says."
    reasons = (
        [tidy(one) for one in result.get("reasons") or []] or [tidy(one.get("message")) for one in differences] or [tidy(result.get("msg"))]
    )
    if reasons[0]:
        return reasons[0]
    return "The drill did not pass, and does not say why."


def _facts(result: Mapping[str, Any], host: str, system: str) -> List[Dict[str, str]]:
    backup = result.get("backup")
    backup = backup if isinstance(backup, Mapping) else {"id": backup}
    place = {"cluster": "a server made for it", "database": "a scratch database"}
    found = [
        ("Host", tidy(host, MOST_NAME)),
        ("System", tidy(system, MOST_NAME)),
        ("Database", tidy(backup.get("database"), MOST_NAME)),
        ("Backup", tidy(backup.get("id"), MOST_NAME)),
        ("Taken", moment(backup.get("taken_at")) if backup.get("taken_at") else ""),
        ("Size", amount(backup.get("bytes"), "bytes") if number(backup.get("bytes")) is not None else ""),
        ("Restored into", place.get(str(result.get("in")), tidy(result.get("in"), 40))),
        ("Server", f"PostgreSQL {tidy(result.get('server_version'), 40)}" if result.get("server_version") else ""),
        ("Its settings", tidy(", ".join(f"{name} = {value}" for name, value in _part(result, "settings").items()), MOST_NAME)),
        ("Network", {True: "it could have reached one", False: "none"}.get(result.get("has_network", ""), "")),
        ("Took", amount(result.get("total_seconds"), "seconds") if number(result.get("total_seconds")) is not None else ""),
        ("Begun", moment(result.get("began_at"), seconds=True) if result.get("began_at") else ""),
        ("Evidence", tidy(result.get("evidence"), MOST_NAME)),
    ]
    return [{"name": word, "text": text} for word, text in found if text]


def _part(result: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = result.get(name)
    return found if isinstance(found, Mapping) else {}


def _target(word: str, raw: Any) -> Dict[str, Any]:
    one: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    measured, wanted = number(one.get("seconds")), number(one.get("target_seconds"))
    met = one.get("met")
    status = "skipped" if wanted is None else "ok" if met is True else "critical" if measured is not None else "unknown"
    said = {"skipped": "no target", "ok": "met", "critical": "missed", "unknown": "not measured"}[status]
    return {"name": word, "target": amount(wanted, "seconds"), "measured": amount(measured, "seconds"), "status": status, "said": said}


def _phases(result: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Return the phases with their place on a bar that is as long as the whole drill, in percent."""
    found = [(one, number(one.get("began")) or 0.0, number(one.get("seconds"))) for one in mappings(result.get("phases"))]
    known = [(one, began, seconds) for one, began, seconds in found if seconds is not None]
    whole = max([began + seconds for _one, began, seconds in known] or [0.0]) or 1.0
    return [
        {
            "name": tidy(one.get("name"), 60),
            "took": amount(seconds, "seconds"),
            "x": round(100 * began / whole, 2),
            "width": max(0.4, round(100 * seconds / whole, 2)),
        }
        for one, began, seconds in known
    ]


def _difference(one: Mapping[str, Any]) -> Dict[str, str]:
    return {
        "what": tidy(one.get("what"), 20),
        "kind": tidy(one.get("kind"), 40).replace("_", " "),
        "table": tidy(one.get("table"), MOST_NAME),
        "message": tidy(one.get("message")),
    }


def _check(one: Mapping[str, Any]) -> Dict[str, str]:
    return {
        "id": tidy(one.get("id"), MOST_NAME),
        "title": tidy(one.get("title"), MOST_NAME),
        "status": str(one.get("status")) if one.get("status") in SEVERITIES else "unknown",
        "message": tidy(one.get("message"), 300),
    }


def _left_out(one: Any) -> str:
    if not isinstance(one, Mapping):
        return tidy(one)
    return tidy(
        ": ".join(str(part) for part in (" ".join(str(one.get(key) or "") for key in ("what", "object")).strip(), one.get("why")) if part)
    )
