# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks that everybody queues behind, taken in many short tries instead of one long wait.

A session that waits for an ACCESS EXCLUSIVE lock lets nobody pass who comes after it, not even readers. So it waits briefly, steps
aside for many times as long, and comes back: others are held up for less than a tenth of the time. It also waits for less than
deadlock_timeout: where it and an application wait for each other, it is the one that gives up.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Iterator, Sequence, TypeVar

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError

_Result = TypeVar("_Result")
_SHORT, _LONG = 100.0, 200.0  # milliseconds: the first wait, and the longest
_GROWTH = 1.5
_ASIDE = 12  # times what a try took: how long others have the table to themselves after it
_PATIENCE = 6  # times the session's lock_timeout: how long one lock is tried for in all
_NOT_LOCKED = ("55P03", "40P01")  # lock_timeout, deadlock
_LIMITS = "SELECT name, setting::pg_catalog.int8 AS ms FROM pg_catalog.pg_settings WHERE name IN ('lock_timeout', 'deadlock_timeout')"
_HOLDERS = """
SELECT DISTINCT l.virtualtransaction AS identity, l.pid, a.application_name, a.usename AS user
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.relation = ANY (%s::oid[]) AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
ORDER BY l.pid
"""


class Tries:
    """The waits of one session: `patience` is the time (seconds) after which a lock is given up.

    `longest` is the session's lock_timeout, `shortest` that of the first try, both in milliseconds.
    """

    def __init__(self, database: Any) -> None:
        limits = {row["name"]: float(row["ms"]) for row in database.rows(_LIMITS)}
        self.longest = limits["lock_timeout"]
        self.patience = _PATIENCE * self.longest / 1000
        self._most = min(_LONG, self.longest, limits["deadlock_timeout"] / 2)
        self.shortest = min(_SHORT, self._most)

    def __iter__(self) -> Iterator[int]:
        """Give the lock_timeout (milliseconds) of one try after the other, with long pauses between them, until patience ends."""
        end = time.monotonic() + self.patience
        wait = self.shortest
        while True:
            began = time.monotonic()
            yield max(1, round(wait))
            # A try that needs several locks can wait for each of them.
            pause = _ASIDE * max(wait / 1000, time.monotonic() - began)
            if time.monotonic() + pause >= end:
                return
            time.sleep(pause)
            wait = min(wait * _GROWTH, self._most)


def try_to(database: Any, tries: Tries, work: Callable[[], _Result]) -> _Result | None:
    """Do `work` in one transaction and return its result, which may not be None; None if its locks could not be had in all `tries`."""
    for wait in tries:
        result = _try_once(database, wait, work)
        if result is not None:
            return result
    return None


def _try_once(database: Any, wait: int, work: Callable[[], _Result]) -> _Result | None:
    try:
        with database.transaction():
            limit(database, wait)
            return work()
    except DatabaseError as error:
        if not is_locked(error):
            raise
    return None


def is_locked(error: DatabaseError) -> bool:
    """True if the server refused a statement because others hold a lock."""
    return error.sqlstate in _NOT_LOCKED


def limit(database: Any, milliseconds: float, what: str = "lock_timeout") -> None:
    """Set a timeout for the rest of the transaction."""
    database.execute("SELECT pg_catalog.set_config(%s, %s, true)", (what, f"{max(1, round(milliseconds))}ms"))


def holders(database: Any, tables: Sequence[int]) -> str:
    """Return who else has a lock on any of `tables` (oids), in words."""
    found = [_who(row) for row in database.rows(_HOLDERS, (list(tables),))]
    return f"locked by {', '.join(dict.fromkeys(found))}" if found else "locked by others, who have ended in this very moment"


def outlast(database: Any, table: int, seconds: float, pause: float = 0.05) -> bool:
    """Wait until every transaction that has a lock on `table` (oid) now has ended; False if one has not after `seconds`."""
    end = time.monotonic() + seconds
    before = still = {row["identity"] for row in database.rows(_HOLDERS, ([table],))}
    while still and time.monotonic() < end:
        time.sleep(pause)
        still = before & {row["identity"] for row in database.rows(_HOLDERS, ([table],))}
    return not still


def _who(row: dict[str, Any]) -> str:
    if row["pid"] is None:
        return "a prepared transaction"
    return f"pid {row['pid']} ({row['application_name'] or 'no application_name'}, user {row['user'] or 'unknown'})"
