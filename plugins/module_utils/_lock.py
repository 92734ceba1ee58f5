# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs of one operation never overlap on a database; the second one is told who is at work."""

from __future__ import annotations

import hashlib
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._errors import Busy

# Advisory locks belong to one database, so that the operation's name is all that the key needs to hold.
# The server shows a 64-bit key as two halves.
_HOLDER = """
SELECT l.pid, a.usename, a.application_name, to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since
FROM pg_locks l
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
  AND (l.classid::bigint << 32) | l.objid::bigint = %s
"""


def take_lock(database: Any, operation: str) -> None:
    """Take the lock of `operation` on the database, or raise Busy at once, naming who holds it.

    The session holds it until `release_lock` or its end, so that a lost connection or a killed process leaves nothing behind.
    Only behind a pooler that hands its connections on after each transaction may the server session outlive the run.
    """
    key = lock_key(operation)
    if database.value("SELECT pg_try_advisory_lock(%s)", (key,)):
        return
    holder = database.row(_HOLDER, (key,))
    raise Busy(
        f"another run of {operation} is at work on database {database.name!r}: {_who(holder)}.",
        object_name=operation,
        hint="Wait for it to end, or end that session.",
    )


def release_lock(database: Any, operation: str) -> None:
    """Give the lock of `operation` back, where the session still lives.

    The server ends a session some time after its client has left, and the next run may begin before.
    """
    if not database.closed:
        database.value("SELECT pg_advisory_unlock(%s)", (lock_key(operation),))


def lock_key(operation: str) -> int:
    """Return the advisory lock's key (signed, 64 bits) of `operation`."""
    digest = hashlib.sha256(f"pgops.runbook/{operation}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _who(holder: dict[str, Any] | None) -> str:
    if holder is None:
        return "it has ended in this very moment"
    # A role without pg_read_all_stats is not shown when another role's session began.
    since = f"since {holder['since']} UTC" if holder["since"] else "since a time that this role may not see"
    return f"pid {holder['pid']}, {holder['application_name'] or 'no application_name'}, user {holder['usename']}, {since}"
