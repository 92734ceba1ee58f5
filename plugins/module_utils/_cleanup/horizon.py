# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who keeps the server from removing dead rows: what may still want to see them, oldest first."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SHOWN = 5  # holders in a result: the oldest is the one that counts, the next ones say what comes after it

# An id that was not yet given away holds nothing back: a snapshot that is newer than everything has an age of 0. A vacuum sees no rows
# that it keeps, a parallel worker ends before its leader. A sender of WAL is of no database and holds for a standby (with
# hot_standby_feedback) in all of them, and so does a slot; its catalog_xmin concerns the catalogue alone. Every role sees these ids, of
# which session they are and under which name it runs; since when, and what kind a session is, it sees of its own.
_HOLDERS = """
SELECT h.kind, h.name, h.pid, h.role, h.since, h.transactions
FROM (
    SELECT CASE WHEN a.datname IS NULL THEN 'standby' ELSE 'session' END AS kind, a.application_name AS name, a.pid,
        a.usename::text AS role, a.xact_start AS begun, greatest(age(a.backend_xid), age(a.backend_xmin)) AS transactions,
        to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"') AS since
    FROM pg_stat_activity a
    WHERE (a.datname = current_database() OR a.datname IS NULL AND a.usesysid IS NOT NULL) AND a.pid <> pg_backend_pid()
        AND a.backend_type IS DISTINCT FROM 'parallel worker' AND a.pid NOT IN (SELECT v.pid FROM pg_stat_progress_vacuum v)
    UNION ALL
    SELECT 'slot', s.slot_name::text, s.active_pid, NULL, NULL, age(s.xmin), NULL FROM pg_replication_slots s
    UNION ALL
    SELECT 'prepared', p.gid, NULL, p.owner::text, p.prepared, age(p.transaction),
        to_char(p.prepared AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"')
    FROM pg_prepared_xacts p WHERE p.database = current_database()
    UNION ALL
    SELECT 'setting', 'vacuum_defer_cleanup_age', NULL, NULL, NULL,
        nullif(current_setting('vacuum_defer_cleanup_age', true), '')::integer, NULL
) AS h
WHERE h.transactions > 0
ORDER BY h.transactions DESC, h.begun NULLS LAST, h.kind, h.name
LIMIT %s
"""


@dataclass(frozen=True)
class Holder:
    """What holds the horizon back: `kind` is session, standby (a sender of WAL), slot, prepared or setting.

    `name` is its application_name, the slot's name, the gid or the setting's name; `since` None where the role may not see it;
    `transactions` how many came after what it may still want to see.
    """

    kind: str
    name: str
    pid: int | None
    role: str | None
    since: str | None
    transactions: int

    def as_result(self) -> dict[str, Any]:
        """Return what a person needs to find it."""
        return asdict(self)


def holders(database: Any) -> tuple[Holder, ...]:
    """Return what holds back the removal of dead rows of this database now, oldest first. Raises DatabaseError."""
    return tuple(Holder(**row) for row in database.rows(_HOLDERS, (SHOWN,)))
