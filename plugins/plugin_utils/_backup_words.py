# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was backed up and what a drill has shown, in lines for a person. Texts of others are cut and stand on one line."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from ansible_collections.pgops.runbook.plugins.plugin_utils._charts import number
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_result import mappings
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_words import amount, plural, tidy

MOST_SHOWN = 5


def backup_lines(result: Any, *, check: bool = False) -> List[str]:
    """Return lines about what the role backup kept: what was made, was there, failed, was deleted, and is to be known."""
    known: Mapping[str, Any] = result or {}
    lines: List[str] = []
    notices: List[str] = []
    for run in mappings(known.get("runs")):
        name = tidy((run.get("backup_policy") or {}).get("name") or "backup", 60)
        found = mappings(run.get("backups"))
        several = len(found) > 1
        lines += [_backup(f"{name} of {tidy(one.get('database'), 60)}" if several else name, one, check=check) for one in found]
        told = any(one.get("action") == "failed" for one in found)
        if run.get("failed") and not told:
            lines.append(f"backup failed: {name}: {tidy(run.get('msg')) or 'it does not say why'}")
        purged = [tidy(one if isinstance(one, str) else one.get("id"), 160) for one in run.get("purged") or []]
        if purged:
            lines.append(f"backup: {'to delete' if check else 'deleted'} by {name}: {_listed(purged)}")
        notices += [f"note: backup {name}: {tidy(one)}" for one in run.get("notices") or []]
    lines += [f"backup failed: {tidy(one)}" for one in known.get("faults") or []]
    return lines + notices[:MOST_SHOWN] + [f"note: backup: {tidy(one)}" for one in known.get("notices") or []]


def _backup(name: str, one: Mapping[str, Any], *, check: bool) -> str:
    action = one.get("action")
    if action == "failed":
        return f"backup failed: {name}: {tidy(one.get('msg')) or 'it does not say why'}"
    if check and action in ("made", "verified"):
        size = f", about {amount(one.get('bytes'), 'bytes')}" if number(one.get("bytes")) else ""
        return f"backup: {name} {'to make' if action == 'made' else 'to verify'}{size}"
    parts = [amount(one.get("bytes"), "bytes")]
    if action == "present":
        parts.append(f"{amount(one.get('age_seconds'), 'seconds')} old")
    took = _seconds(one.get("seconds"))
    if took is not None and action != "present":
        parts[-1] += f" in {amount(took, 'seconds')}"
    how = one.get("verified")
    how = how.get("how") if isinstance(how, Mapping) else how
    parts.append(f"verified ({tidy(how, 20)})" if how else "NOT VERIFIED")
    tables, rows = number(one.get("tables")), number(one.get("rows"))
    if tables is not None and rows is not None:
        parts.append(f"{plural(int(tables), 'table')} with {plural(int(rows), 'row')}")
    left = one.get("left_out")
    count = len(left) if isinstance(left, list) else int(number(left) or 0)
    if count:
        parts.append(f"{count} left out")
    places = [tidy(copy.get("place"), 120) for copy in mappings(one.get("copies")) if copy.get("action") != "failed"]
    if places:
        parts.append(f"copied to {_listed(places)}")
    return f"backup: {name} {tidy(action, 20)}: {', '.join(parts)}"


def drill_lines(result: Any, *, check: bool = False) -> List[str]:
    """Return lines about a result of pg_recovery_drill: whether it passed, the times against their targets, and what is different."""
    known: Mapping[str, Any] = result or {}
    if not known:
        return []
    notices = [f"note: drill: {tidy(one)}" for one in (known.get("notices") or [])[:MOST_SHOWN]]
    if "passed" not in known:
        return [f"drill failed: {tidy(known.get('msg'))}", *notices] if known.get("failed") else notices
    backup = known.get("backup")
    name = tidy(backup.get("id") if isinstance(backup, Mapping) else backup, 160)
    if check:
        return [f"drill: to restore {name or 'the newest backup'}", *notices]
    times = [_target("RTO", known.get("rto")), _target("RPO", known.get("rpo"))]
    passed = bool(known.get("passed"))
    lines = [f"drill {'passed' if passed else 'FAILED'}: {', '.join(part for part in [name, *times] if part)}"]
    if not passed and known.get("msg"):
        lines.append(f"drill failed: {tidy(known.get('msg'))}")
    differences = [tidy(one.get("message") or one.get("object")) for one in mappings(known.get("differences"))]
    if differences:
        lines.append(f"drill: not as it was backed up: {_listed(differences)}")
    bad = [one for one in mappings(known.get("checks")) if one.get("status") in ("critical", "unknown", "failed")]
    if bad:
        said = [f"{tidy(one.get('id'), 80)}: {tidy(one.get('message'), 200)}" for one in bad]
        lines.append(f"drill: checks: {_listed(said)}")
    return lines + notices


def _target(word: str, one: Any) -> str:
    """Return a time of recovery beside its target."""
    found: Mapping[str, Any] = one if isinstance(one, Mapping) else {}
    if number(found.get("seconds")) is None:
        return ""
    said = f"{word} {amount(found.get('seconds'), 'seconds')}"
    if found.get("met") is None:
        return f"{said} (no target)"
    return f"{said} (target {amount(found.get('target_seconds'), 'seconds')}: {'met' if found.get('met') else 'MISSED'})"


def _seconds(found: Any) -> float | None:
    """Return the seconds of all phases together."""
    if isinstance(found, Mapping):
        whole: Dict[str, float] = {str(name): value for name, one in found.items() if (value := number(one)) is not None}
        return whole.get("total", sum(whole.values())) if whole else None
    return number(found)


def _listed(found: List[str]) -> str:
    more = len(found) - MOST_SHOWN
    return "; ".join(found[:MOST_SHOWN]) + (f"; and {more} more" if more > 0 else "")
