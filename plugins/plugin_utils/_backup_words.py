# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was backed up and what a drill has shown, in lines for a person. Texts of others are cut and stand on one line."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from ansible_collections.pgops.runbook.plugins.plugin_utils._charts import number
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_result import mappings
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_words import amount, moment, plural, tidy

MOST_SHOWN = 5
# What a backup leaves out and nobody misses: other databases have backups of their own, views are computed again, and whoever asks for a
# part knows that it is one.
_NO_LOSS = ("database", "materialized view", "objects in no schema", "all else")


def backup_lines(result: Any, *, check: bool = False) -> List[str]:
    """Return lines about what the role backup kept: what was made, was there, failed, was deleted, and is to be known."""
    known: Mapping[str, Any] = result or {}
    lines: List[str] = []
    notices: Dict[str, List[str]] = {}
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
        for one in run.get("notices") or []:
            notices.setdefault(tidy(one), []).append(name)
    lines += [f"backup failed: {tidy(one)}" for one in known.get("faults") or []]
    # What is so of the programs is so of every backup.
    lines += [f"note: backup {', '.join(names)}: {said}" for said, names in list(notices.items())[:MOST_SHOWN]]
    return lines + [f"note: backup: {tidy(one)}" for one in known.get("notices") or []]


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
    left = [part for part in mappings(one.get("left_out")) if part.get("what") not in _NO_LOSS]
    if left:
        parts.append(f"{len(left)} left out")
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
    passed = known.get("passed") is True
    lines = [f"drill {'passed' if passed else 'FAILED'}: {', '.join(part for part in [name, *times] if part)}"]
    reasons = [tidy(one) for one in known.get("reasons") or []]
    if reasons and not passed:
        lines.append(f"drill: why: {_listed(reasons)}")
    return lines + notices


def restore_lines(result: Any, *, preview: bool = False) -> List[str]:
    """Return lines about a result of pg_restore: what came from which backup and went where, and how to take that back."""
    known: Mapping[str, Any] = result or {}
    if "action" not in known:
        return []
    backup: Mapping[str, Any] = known.get("backup") or {}
    taken = f", taken {moment(backup.get('taken_at'))}" if backup.get("taken_at") else ""
    verified = f"verified ({tidy(backup.get('verified'), 20)})" if backup.get("verified") else "NOT VERIFIED"
    lines = [f"from: {tidy(backup.get('id'), 160)}{taken}, {amount(backup.get('bytes'), 'bytes')}, {verified}"]
    if known.get("action") == "present":
        return [
            *lines,
            f"nothing {'to restore' if preview else 'was restored'}: {tidy(known.get('target'), 80)} holds what the backup holds",
        ]
    lines += [_restored(one, preview=preview) for one in mappings(known.get("restored"))[: 4 * MOST_SHOWN]]
    for store in mappings(known.get("tokens_back")):
        if store.get("back") or store.get("unknown"):
            said = tidy(store.get("unknown")) or f"{plural(int(number(store.get('back')) or 0), 'token')} would be accepted again"
            lines.append(f"tokens: {tidy(store.get('store'), 80)}: {said}")
    lines += [f"dropped: {tidy(name, 80)}, left by a run that was killed" for name in known.get("dropped") or []]
    lines += [f"note: {tidy(one)}" for one in (known.get("notices") or [])[:MOST_SHOWN]]
    return lines if preview else lines + [f"undo: {one}" for one in _undo(known)]


def _restored(one: Mapping[str, Any], *, preview: bool) -> str:
    table = f"table: {tidy(one.get('table'), 160)}: "
    if one.get("inserted") is not None:
        there = plural(int(number(one.get("present")) or 0), "row")
        other = f", {int(number(one.get('different')) or 0):,} of them with other values" if one.get("different") else ""
        came = f"{plural(int(number(one.get('inserted')) or 0), 'row')} {'to copy back' if preview else 'copied back'}"
        return f"{table}{came} by {', '.join(map(str, one.get('key') or []))}; {there} there{other}"
    before, after = int(number(one.get("rows_before")) or 0), int(number(one.get("rows")) or number(one.get("in_backup")) or 0)
    return f"{table}{plural(before, 'row')} before, {after:,} {'then' if preview else 'now'}"


def _undo(known: Mapping[str, Any]) -> List[str]:
    """Return what takes a restore back, as far as anything does."""
    target, kept = tidy(known.get("target"), 80), tidy(known.get("kept"), 80)
    if known.get("action") in ("restored", "swapped"):
        whole = _quoted(target)
        if kept:
            away = _command("ALTER DATABASE", whole, "RENAME TO", _quoted(f"{target}_restored"))
            return [f"{away} {_command('ALTER DATABASE', _quoted(kept), 'RENAME TO', whole)}"]
        return [_command("DROP DATABASE", whole) if known.get("action") == "restored" else f"none, the database that {target} was is gone"]
    found = []
    for one in mappings(known.get("restored")):
        table = tidy(one.get("table"), 160)
        if one.get("kept"):
            found.append(f"the rows of before are in {tidy(one.get('kept'), 160)}; drop it when nobody misses them")
        elif one.get("inserted"):
            found.append(
                f"none, {plural(int(number(one.get('inserted')) or 0), 'row')} came back to {table}; their keys tell them from the others"
            )
        elif one.get("inserted") is None:
            found.append(f"none, the rows that {table} had before are gone")
    return found


def _command(*words: str) -> str:
    """Return what a person may type; it is never run here."""
    return f"{' '.join(words)};"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


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
