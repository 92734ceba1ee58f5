# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transactions that were open when a change was committed: who they are, and waiting for their end.

A statement does not see what others have written and not yet committed. So a change of "all rows" misses the rows of
transactions that were open meanwhile, and they appear afterwards. The way around that, without a lock on the table:

1. Change, and commit.
2. `open_transactions`: whatever is open now.
3. `wait_for` them.
4. Change again, always, also where nothing was open in step 2.

Every transaction but ours is one of three. It ended before step 2: what it wrote is visible in step 4. It was open in step 2:
it is waited for, and what it wrote is visible in step 4. Or it began after step 2: then all its statements, even its first,
see the change of step 1, because it was committed by then; what it still writes, it writes knowing that. The order matters:
with a list from before the commit, a transaction could begin in between, see the old state and never be waited for.

That rests on what the server does. A transaction holds a lock on its own virtual id from before its first snapshot until after its
commit is visible; a prepared one is shown from before its session gives up the virtual id until after its commit is visible.
Beyond its reach is what an application remembers from one transaction to the next.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError

SHOWN = 20  # transactions in a result; their number is always whole

# Who merely waits for a transaction's end holds its lock too, for a moment, in another mode.
_HELD = """
SELECT pid, virtualtransaction AS identity, bool_or(locktype = 'transactionid') AS writes
FROM pg_locks
WHERE locktype IN ('virtualxid', 'transactionid') AND mode = 'ExclusiveLock' AND granted
GROUP BY pid, virtualtransaction
HAVING bool_or(locktype = 'virtualxid')
"""
_STILL = "SELECT held.identity, held.pid, held.writes FROM ({}) AS held WHERE held.pid = ANY(%s)"
# Every role sees all locks, and of every session its database, user and application_name, and whether it vacuums or sends WAL;
# the other columns may be NULL. Autovacuum has no user, what belongs to no database cannot write into this one.
_SESSIONS = """
SELECT held.pid, held.identity, held.writes, a.usename AS "user", a.application_name,
       to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"') AS since
FROM ({}) AS held
JOIN pg_stat_activity a ON a.pid = held.pid
WHERE a.datname = current_database() AND a.usesysid IS NOT NULL AND a.pid <> pg_backend_pid()
  AND a.backend_type IS DISTINCT FROM 'parallel worker'
  AND a.pid NOT IN (SELECT v.pid FROM pg_stat_progress_vacuum v)
  AND a.pid NOT IN (SELECT r.pid FROM pg_stat_replication r)
ORDER BY held.writes DESC, a.xact_start, held.pid
"""
_PREPARED = """
SELECT p.transaction::text AS identity, p.gid AS prepared, p.owner AS "user",
       to_char(p.prepared AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"') AS since
FROM pg_prepared_xacts p
WHERE p.database = current_database()
ORDER BY p.prepared, p.gid
"""


@dataclass(frozen=True)
class Transaction:
    """An open transaction of another session, or a prepared one, which has a `prepared` gid instead of a `pid`.

    `identity` tells it from the session's next one (or the gid's): its virtual id, or the id of a prepared one. `since` is its
    beginning, or when it was prepared; None where this role may not see it. `writes` is whether it has written anything yet.
    """

    pid: int | None
    user: str | None
    application_name: str | None
    since: str | None
    writes: bool
    prepared: str | None
    identity: str

    @property
    def key(self) -> tuple[int | str | None, str]:
        """What no other transaction has."""
        return (self.pid if self.prepared is None else self.prepared, self.identity)

    def as_result(self) -> dict[str, Any]:
        """Return what a person needs to find it and to end it."""
        names = ("pid", "user", "application_name", "since", "writes", "prepared")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Waited:
    """How long was waited, for which transactions, and which of them are open still."""

    seconds: float
    transactions: tuple[Transaction, ...]
    still_open: tuple[Transaction, ...]

    def as_result(self) -> dict[str, Any]:
        """Return it with numbers that are whole and lists that are bounded."""
        return {"seconds": round(self.seconds, 3), "transactions": _bounded(self.transactions), "still_open": _bounded(self.still_open)}


def open_transactions(database: Any) -> tuple[Transaction, ...]:
    """Return the transactions of other sessions that are open now in this database, writers first, prepared ones last.

    Idle ones count, and readers: both may write yet. Left out are vacuums and senders of WAL, which write no rows, and
    parallel workers, which end before the session that they work for; a role that may not see which sessions are workers gets them too.
    """
    _refuse_in_transaction(database)
    held = database.sql.SQL(_SESSIONS).format(database.sql.SQL(_HELD))
    sessions = [Transaction(prepared=None, **row) for row in database.rows(held)]
    # Asked afterwards: what a session prepares in between is found twice. The other way round it would not be found at all.
    return (*sessions, *_prepared(database))


def wait_for(database: Any, transactions: Sequence[Transaction], seconds: float, pause: float = 0.1) -> Waited:
    """Wait until all of `transactions` have ended, for `seconds` at most; 0 asks once.

    Give it all that `open_transactions` returned: a prepared transaction that is not among them may be one of them that was
    prepared since, and is waited for too if one of them has just left its session.
    Raises DatabaseError inside a transaction: it would hold its locks and its snapshot while it waits, also against those it waits for.
    """
    _refuse_in_transaction(database)
    began = time.monotonic()
    asked = {each.key: each for each in transactions}
    still = dict(asked)
    while still:
        still = _still_open(database, asked, still)
        asked.update(still)
        left = began + seconds - time.monotonic()
        if not still or left <= 0:
            break
        time.sleep(min(pause, left))
    return Waited(time.monotonic() - began, tuple(asked.values()), tuple(still.values()))


def _still_open(database: Any, asked: dict[Any, Transaction], before: dict[Any, Transaction]) -> dict[Any, Transaction]:
    """Return those of `before` that are open now, and prepared ones that are not known from `asked` if a session has just left one."""
    sessions = [each for each in before.values() if each.prepared is None]
    found = _still_in_sessions(database, sessions)
    left_session = len(found) < len(sessions)
    if left_session or len(sessions) < len(before):
        # Asked after the sessions, as in `open_transactions`.
        found.update((each.key, each) for each in _prepared(database) if each.key in before or (left_session and each.key not in asked))
    return found


def _still_in_sessions(database: Any, sessions: Sequence[Transaction]) -> dict[Any, Transaction]:
    if not sessions:
        return {}
    statement = database.sql.SQL(_STILL).format(database.sql.SQL(_HELD))
    rows = database.rows(statement, ([each.pid for each in sessions],))
    writes = {(row["pid"], row["identity"]): row["writes"] for row in rows}
    return {each.key: replace(each, writes=writes[each.key]) for each in sessions if each.key in writes}


def _prepared(database: Any) -> list[Transaction]:
    return [Transaction(pid=None, application_name=None, writes=True, **row) for row in database.rows(_PREPARED)]


def _refuse_in_transaction(database: Any) -> None:
    if database.in_transaction:
        raise DatabaseError("open transactions are asked for and waited for outside a transaction: commit first")


def _bounded(transactions: Sequence[Transaction]) -> dict[str, Any]:
    writers = sum(each.writes for each in transactions)
    first = sorted(transactions, key=lambda each: not each.writes)[:SHOWN]
    return {
        "count": len(transactions),
        "writers": writers,
        "readers": len(transactions) - writers,
        "shown": [each.as_result() for each in first],
    }
