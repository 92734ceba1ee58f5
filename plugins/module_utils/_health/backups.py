# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How old the newest backup is, and the newest that was verified."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Dict, Iterable, List, Set, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import WHOLE, Head, counting, read_heads
from ansible_collections.pgops.runbook.plugins.module_utils._backup.retention import AHEAD
from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import CRITICAL, Check, Limits, Reading, Unseen, skipped, unknown
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import age

HOUR = 3600.0
NOT_ASKED = "the system declares no backup, and nobody said where backups stand (backup_folder)"
# The kinds that hold a whole database, rows of it, and only its form: where one before is declared, none behind it counts.
_LEVELS = ({WHOLE}, {"schemas", "tables", "data_only"}, {"schema_only"})


def _known(look: Look) -> Tuple[List[Head], List[InvalidValue]]:
    """Return the backups of this database that count, newest first, and faults. Raises Unseen where a declared one cannot be looked for."""
    folder = look.expected.backups
    if not folder:
        hint = "Give backup_folder: the folder of the backups, on the host that runs the module."
        raise Unseen("the system declares backups, and nobody said where they stand", hint=hint)
    heads, faults = read_heads(folder)
    own = [head for head in heads if head.database == look.database.name and head.taken_at <= look.now + AHEAD]
    look.details["backups"] = [_row(head) for head in own]
    kinds = _kinds(look)
    return sorted((head for head in own if head.kind in kinds), key=lambda head: head.taken_at, reverse=True), faults


def _kinds(look: Look) -> Set[str]:
    """Return the kinds that count: those of whole databases, or of parts where the system declares nothing but parts."""
    declared = {WHOLE if policy["kind"] == "snapshot" else policy["kind"] for policy in (look.system.get("backup") or {}).values()}
    return next((declared & level for level in _LEVELS if declared & level), {WHOLE})


def _row(head: Head) -> Dict[str, Any]:
    return {
        "finished_at": head.finished_at.isoformat(),
        "kind": head.name,
        "bytes": head.size,
        "seconds": head.seconds,
        "verified": head.verified,
        "verified_at": head.verified_at.isoformat() if head.verified_at else None,
    }


def _asked(look: Look) -> bool:
    return bool(look.expected.backups or look.system.get("backup"))


def _age(look: Look, limits: Limits) -> Iterable[Reading]:
    if not _asked(look):
        return skipped(NOT_ASKED)
    own, faults = look.seen(_known)
    broken = [unknown(fault, fault.object_name or "") for fault in faults]
    if not own:
        kinds = " or ".join(sorted(_kinds(look)))
        message = f"there is no backup of kind {kinds} of {look.database.name} in {look.expected.backups}"
        return [Reading(message, status=CRITICAL), *broken]
    newest = own[0]
    seconds = _since(look, newest.taken_at)
    message = f"the newest, {newest.name}, was taken {age(seconds)} ago and has {format_size(newest.size)}"
    return [Reading(message, seconds, metrics={"backup.bytes": float(newest.size), "backup.seconds": newest.seconds}), *broken]


def _verify_age(look: Look, limits: Limits) -> Iterable[Reading]:
    if not _asked(look):
        return skipped(NOT_ASKED)
    own, _faults = look.seen(_known)
    # A backup that was verified may be older than one that was not; what counts is how much would be lost with it.
    looked_at: List[Head] = []
    for head in own:
        found = counting(Path(look.expected.backups or ""), head) if head.verified else head
        if found.verified:
            seconds = _since(look, found.taken_at)
            message = f"the newest that was verified ({found.verified}), {found.name}, was taken {age(seconds)} ago"
            return [Reading(message + _broken(looked_at), seconds)]
        looked_at.append(found)
    why = _broken(looked_at) or ": nobody knows whether one can be read"
    return [Reading(f"no backup has been verified{why}", status=CRITICAL)]


def _broken(heads: List[Head]) -> str:
    """Return what to add about the newest of `heads` that counted once and does not any more, or nothing."""
    return next((f"; {head.folder} does not count any more: {head.broken}" for head in heads if head.broken), "")


def _since(look: Look, moment: datetime) -> float:
    return max(0.0, round((look.now - moment).total_seconds(), 3))


CHECKS: List[Check] = [
    Check(
        id="backup.age",
        title="Age of the newest backup",
        tier="daily",
        looks_at="The manifests of the backups of this database in backup_folder: when the snapshot of the newest was taken. Only those "
        "of kind full count, unless the system declares others and none of kind full or snapshot: then those with rows that it declares, "
        "or else schema_only. Without backup_folder: unknown where the system declares backups, and skipped where it does not. A manifest "
        "that cannot be read is unknown, and is no backup.",
        action="Look why the backup did not run, and run it.",
        needs="reading the folder, on the host that runs the module",
        run=_age,
        unit="seconds",
        warning=26 * HOUR,
        critical=50 * HOUR,
        decides={"critical": "there is none"},
    ),
    Check(
        id="backup.verify_age",
        title="Age of the newest backup that was verified",
        tier="daily",
        looks_at="The same manifests, and what later verifications and drills have found: when the newest backup was taken that has "
        "been verified. One in which a later look has found fault does not count, nor one that has lost a file or bytes of it.",
        action="Verify the newest backup, best by restoring it.",
        needs="reading the folder, on the host that runs the module",
        run=_verify_age,
        unit="seconds",
        warning=26 * HOUR,
        critical=50 * HOUR,
        decides={"critical": "there is none"},
    ),
]
