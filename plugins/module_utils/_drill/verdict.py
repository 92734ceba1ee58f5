# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill says about the backup itself, written down beside it: whole, broken, or nothing."""

from __future__ import annotations

import re
from typing import Any, Dict

from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import RESTORE, Verification
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import record as write_down
from ansible_collections.pgops.runbook.plugins.module_utils._drill.finding import Finding
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, ProgramFailed
from ansible_collections.pgops.runbook.plugins.module_utils._restore.proof import prove

_ALONE = ("full", "schema_only")  # what of a database needs nothing beside it
# What loads a dump. Another one that fails, such as a decryptor without the right key, does not come to what is in it.
_LOADERS = ("pg_restore", "psql")
# What says more about this host, its server or the login than about the backup.
_OF_THE_HOST = re.compile(
    "No space left|could not extend|out of (?:shared )?memory|Cannot allocate|quota exceeded|too many open files"
    "|could not resize shared memory|Input/output error|Read-only file system|No such file|could not (?:access|load|open)"
    "|shared_preload_libraries|must be preloaded|is not available|unrecognized (?:configuration|subscription) parameter"
    "|server closed the connection|connection to server|terminating connection|the database system is|canceling statement"
    "|deadlock detected|too many (?:clients|connections)|connection slots|permission denied|must (?:be|have|own|inherit)"
    "|does not support compression",
    re.IGNORECASE,
)


def record(found: Finding) -> None:
    """Write into `verified.json` what was found. That it cannot be written is a notice: the evidence says the same."""
    verdict = _verdict(found)
    if verdict is None or found.backup is None:
        return
    try:
        write_down(found.backup.path, found.backup.manifest, verdict)
    except InvalidValue as error:
        found.notices.append(error.message)


def blames_backup(error: ProgramFailed, kind: str, *, same_major: bool) -> bool:
    """Return whether the program that restored has failed because of what it was given, which for all else is no reason to doubt.

    Some tables or schemas may need what is not in their backup, and be of use all the same, where that is there. A newer server may have
    lost what a dump uses.
    """
    loading = error.program in _LOADERS and error.code > 0
    return loading and same_major and kind in _ALONE and not _OF_THE_HOST.search(error.said)


def _verdict(found: Finding) -> Verification | None:
    """Return the verification that the drill was, None where it says nothing of the backup.

    That it took too long, or that a check finds fault with what was backed up, does not make a backup less whole.
    """
    summary: Dict[str, Any] = {
        "passed": found.passed,
        "reasons": found.reasons,
        "rto": found.rto.as_result(),
        "rpo": found.rpo.as_result(),
    }
    if found.broken is not None and found.error is not None:
        return Verification(found.broken, found.began, False, found.error.message, summary)
    if found.compared is None or found.backup is None:
        return None
    whole = prove(found.compared, found.backup, same_major=found.same_major).whole
    return None if whole is None else Verification(RESTORE, found.began, whole, None if whole else found.reasons[0], summary)
