# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How old the newest backup is, and the newest that was verified."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Dict, Iterable, List, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import Head, read_heads
from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import CRITICAL, Check, Limits, Reading, Unseen, skipped, unknown
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import age

HOUR = 3600.0
NOT_ASKED = "the system declares no backup, and nobody said where backups stand (backup_folder)"


def _known(look: Look) -> Tuple[List[Head], List[InvalidValue]]:
    """Return the backups of this database, newest first, and faults. Raises Unseen where a declared one cannot be looked for."""
    folder = look.expected.backups
    if not folder:
        hint = "Give backup_folder: the folder of the backups, on the host that runs the module."
        raise Unseen("the system declares backups, and nobody said where they stand", hint=hint)
    heads, faults = read_heads(folder)
    own = [head for head in heads if head.database == look.database.name and head.finished_at <= look.now]
    look.details["backups"] = [_row(head) for head in own]
    return own, faults


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
        return [Reading(f"there is no backup of {look.database.name} in {look.expected.backups}", status=CRITICAL), *broken]
    newest = own[0]
    seconds = _since(look, newest.finished_at)
    message = f"the newest, {newest.name}, was finished {age(seconds)} ago and has {format_size(newest.size)}"
    return [Reading(message, seconds, metrics={"backup.bytes": float(newest.size), "backup.seconds": newest.seconds}), *broken]


def _verify_age(look: Look, limits: Limits) -> Iterable[Reading]:
    if not _asked(look):
        return skipped(NOT_ASKED)
    own, _faults = look.seen(_known)
    # A backup that was verified may be older than one that was not; what counts is how much would be lost with it.
    verified = [head for head in own if head.verified]
    if not verified:
        why = _broken(own) or ": nobody knows whether one can be read"
        return [Reading(f"no backup has been verified{why}", status=CRITICAL)]
    newest = verified[0]
    seconds = _since(look, newest.finished_at)
    broken = _broken(own[: own.index(newest)])
    message = f"the newest that was verified ({newest.verified}), {newest.name}, was finished {age(seconds)} ago"
    return [Reading(message + broken, seconds)]


def _broken(heads: List[Head]) -> str:
    """Return what to add about the newest of `heads` that counted once and does not any more, or nothing."""
    return next((f"; {head.folder} does not count any more: {head.broken}" for head in heads if head.broken), "")


def _since(look: Look, moment: datetime) -> float:
    return round((look.now - moment).total_seconds(), 3)


CHECKS: List[Check] = [
    Check(
        id="backup.age",
        title="Age of the newest backup",
        tier="daily",
        looks_at="The manifests of the backups of this database in backup_folder. Without it: unknown where the system declares "
        "backups, and skipped where it does not. A manifest that cannot be read is unknown, and is no backup.",
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
        looks_at="The same manifests, and what later verifications and drills have found: when the newest backup was finished that has "
        "been verified. One in which a later look has found fault does not count.",
        action="Verify the newest backup, best by restoring it.",
        needs="reading the folder, on the host that runs the module",
        run=_verify_age,
        unit="seconds",
        warning=26 * HOUR,
        critical=50 * HOUR,
        decides={"critical": "there is none"},
    ),
]
