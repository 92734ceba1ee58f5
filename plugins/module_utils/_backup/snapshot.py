# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One state of a database that pg_dump and the measuring of its contents both see.

A transaction's snapshot does not hold against everything: a TRUNCATE, or an ALTER TABLE that rewrites, that is committed after the
snapshot and before pg_dump locks the table leaves that table empty in the dump. So the tables are locked first, which takes no
snapshot, and the snapshot is taken then.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Iterator, List, Sequence, Set, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Table
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, Refused

TRIES = 5  # tables that come and go between the looks at them; the last try locks what is new where it is
_AT_ONCE = 500  # tables a LOCK statement
_GONE = ("42P01", "3F000")
_NO_MEMORY = "53200"
_LOCK_TIMEOUT = "55P03"
_NOT_ALLOWED = "42501"

_TAKE = """
SELECT pg_catalog.pg_export_snapshot() AS snapshot,
       pg_catalog.to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') || '+00:00' AS at,
       pg_catalog.pg_is_in_recovery() AS in_recovery,
       (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
             ELSE pg_catalog.pg_current_wal_lsn() END)::text AS lsn
"""

Listed = Callable[[], List[Table]]


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that others can import while its transaction is open. `at` is the server's time just before it, in ISO 8601, UTC."""

    id: str
    at: str
    lsn: str | None
    in_recovery: bool
    tables: Tuple[Table, ...]


class _Again(Exception):
    """Tables came or went while they were being locked."""


@contextmanager
def open_snapshot(database: Any, listed: Listed) -> Iterator[Snapshot]:
    """Hold a snapshot of `database` for the block, in which the tables that `listed` returns are locked against change of their form.

    Raises Refused where the server has no room for so many locks, DatabaseError where a lock is not had in time or not allowed.
    """
    for number in range(TRIES):
        before = listed()
        _require_rows(before, database.in_recovery)
        try:
            with database.transaction(read_only=True, snapshot=True):
                _unbounded(database)
                _lock(database, before, final=False)
                taken = database.row(_TAKE) or {}
                now = listed()
                fresh = _new(before, now)
                if fresh and number < TRIES - 1:
                    raise _Again
                _lock(database, fresh, final=True)
                yield Snapshot(taken["snapshot"], taken["at"], taken["lsn"], taken["in_recovery"], tuple(now))
                return
        except _Again:
            continue
    raise DatabaseError(
        f"tables of {database.name} came and went each time that they were to be locked ({TRIES} times)",
        object_name=database.name,
        hint="Take the backup while no tables are being dropped.",
    )


def _require_rows(tables: Sequence[Table], in_recovery: bool) -> None:
    """Refuse tables of which the role does not see all rows, before pg_dump finds the first of them after hours."""
    for table in tables:
        if table.why and table.kind != "foreign" and not (table.kind == "unlogged" and in_recovery):
            raise DatabaseError(
                f"{table.name} cannot be backed up: {table.why}",
                object_name=table.name,
                sqlstate=_NOT_ALLOWED,
                hint="Use a superuser, or a role with pg_read_all_data (PostgreSQL 14 and newer) and BYPASSRLS;"
                " a backup of only what a role may see is none.",
            )


def _unbounded(database: Any) -> None:
    """Let the transaction wait for pg_dump as long as that takes; SET takes no snapshot."""
    database.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    if database.server_version >= 170000:
        database.execute("SET LOCAL transaction_timeout = 0")


def _new(before: Sequence[Table], now: Sequence[Table]) -> List[Table]:
    known: Set[Tuple[int, str]] = {(table.oid, table.name) for table in before}
    return [table for table in now if (table.oid, table.name) not in known]


def _lock(database: Any, tables: Sequence[Table], *, final: bool) -> None:
    """Lock `tables` by their names; `final` when the snapshot is there already, and what is gone since is an error."""
    sql = database.sql
    for start in range(0, len(tables), _AT_ONCE):
        names = [
            sql.SQL("ONLY {}").format(sql.Identifier(table.schema, table.relname))
            for table in tables[start : start + _AT_ONCE]
            if table.kind != "foreign"
        ]
        if not names:
            continue
        try:
            database.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.SQL(", ").join(names)))
        except DatabaseError as error:
            raise _refusal(database, error, len(tables), final) from None


def _refusal(database: Any, error: DatabaseError, count: int, final: bool) -> Exception:
    if error.sqlstate in _GONE and not final:
        return _Again()
    if error.sqlstate == _NO_MEMORY:
        return Refused(
            f"the server has no room for the locks on {count} tables of {database.name}: {error.message}",
            object_name="max_locks_per_transaction",
            sqlstate=error.sqlstate,
            hint="Raise max_locks_per_transaction, which needs a restart, or back up fewer schemas at a time.",
        )
    if error.sqlstate == _LOCK_TIMEOUT:
        hint = "Something that changes the form of a table holds it: wait for it to end, or raise lock_timeout."
        return DatabaseError(
            f"the tables of {database.name} could not be locked in time: {error.message}",
            object_name=database.name,
            sqlstate=error.sqlstate,
            hint=hint,
        )
    if error.sqlstate == _NOT_ALLOWED:
        hint = "Give the role SELECT on everything that is backed up (pg_read_all_data from PostgreSQL 14 on), or use a superuser."
        return DatabaseError(error.message, object_name=error.object_name or database.name, sqlstate=error.sqlstate, hint=hint)
    return error
