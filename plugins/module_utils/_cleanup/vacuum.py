# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets the server use again what removed rows took up, and finds out whether it really did.

A server passes over a table that the role may not vacuum with success and a mere warning, and keeps rows that somebody may still
see without a word: so the right is looked at before, and the server's own counters after.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import horizon
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf

LEAST_SHARE = 0.2  # of the rows that the table had: with less removed, autovacuum's own pace is good enough
LEAST_ROWS = 10_000  # removed ones: a small table is no burden however much of it is dead

# Before PostgreSQL 15 a session sends its counters twice a second at the most, and a process of its own collects them.
_COLLECTED_LATER = 150000
_SENDING_SECONDS = 0.5
_COLLECTING_SECONDS = 3.0
_PAUSE = 0.05
_OWNS = """
SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role(d.datdba, 'USAGE') OR {maintains}
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_database AS d ON d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
WHERE c.oid OPERATOR(pg_catalog.=) {oid}::pg_catalog.oid
"""
_SETTINGS = """
SELECT pg_catalog.current_setting('search_path') AS search_path, pg_catalog.current_setting('statement_timeout') AS statement_timeout
"""
_BEFORE = """
SELECT clock_timestamp()::text AS began, current_setting('track_counts')::boolean AS counts,
    (SELECT s.setting::bigint FROM pg_settings s WHERE s.name = 'statement_timeout') AS milliseconds
"""
_AFTER = """
SELECT coalesce(pg_stat_get_last_vacuum_time(%(oid)s::oid) >= %(began)s::timestamptz, false) AS done,
    pg_stat_get_dead_tuples(%(oid)s::oid) AS dead_rows
"""
_SET = "SELECT pg_catalog.set_config('search_path', %s, false), pg_catalog.set_config('statement_timeout', %s, false)"
# An index's function gets no more of a search path than newer servers give it, and nothing here means an object of somebody else's.
_SEARCH_PATH = "pg_catalog, pg_temp"


@dataclass(frozen=True)
class Vacuum:
    """What became of a VACUUM.

    `done` is None where it ran to its end and the counters do not tell whether it did anything. `why` says in words what kept it, or
    the ANALYZE after it, from being done. `dead_rows` are those that had to stay (None: not known), `held_by` what they had to stay
    for, oldest first.
    """

    table: RelationName
    done: bool | None
    analyzed: bool = False
    why: str | None = None
    seconds: float = 0.0
    dead_rows: int | None = None
    held_by: tuple[horizon.Holder, ...] = ()

    def as_result(self) -> dict[str, Any]:
        """Return it as results list it."""
        return {
            "table": str(self.table),
            "done": self.done,
            "analyzed": self.analyzed,
            "why": self.why,
            "seconds": round(self.seconds, 3),
            "dead_rows": self.dead_rows,
            "held_by": [holder.as_result() for holder in self.held_by],
        }


def needed(removed: int, rows_before: int) -> bool:
    """Say whether so many rows went, of so many, that a VACUUM is worth its reading."""
    return removed >= max(LEAST_ROWS, math.ceil(LEAST_SHARE * rows_before))


def may_vacuum(database: Any, leaf: Leaf) -> bool:
    """Say whether the role may vacuum `leaf`: as its owner, the database's, a superuser, or by MAINTAIN. Raises DatabaseError."""
    return bool(_may(database, leaf))


def vacuum(database: Any, leaf: Leaf, *, truncate: bool, seconds: float | None) -> Vacuum:
    """Vacuum and analyze `leaf`, for `seconds` at the most, and return what became of it.

    `truncate` gives empty pages at the end of its file back, under a lock that stops everybody, on standbys as well. What the server
    refuses is in the result: the rows are gone already, and the run has done its work. Raises DatabaseError inside a transaction and
    when the session is lost.
    """
    if database.in_transaction:
        raise DatabaseError("VACUUM runs outside a transaction: commit first", object_name=str(leaf.name), sqlstate="25001")
    began = time.monotonic()
    may = _may(database, leaf)
    if not may:
        return Vacuum(leaf.name, False, why="it is there no more" if may is None else _not_allowed(database, leaf))
    settings = database.row(_SETTINGS)
    try:
        database.execute(_SET, (_SEARCH_PATH, settings["statement_timeout"]))
        before = _before(database)
        return _vacuum(database, leaf, truncate, None if seconds is None else began + seconds, before)
    finally:
        if not database.closed:
            database.execute(_SET, (settings["search_path"], settings["statement_timeout"]))


def _vacuum(database: Any, leaf: Leaf, truncate: bool, deadline: float | None, before: dict[str, Any]) -> Vacuum:
    sql = database.sql
    held_by = horizon.holders(database)
    began = time.monotonic()
    # Since PostgreSQL 18 a parent's children are vacuumed with it, unless it is said that they are not.
    only = sql.SQL("ONLY " if database.server_version >= 180000 else "")
    table = leaf.name.identifier(sql)
    why = _run(database, sql.SQL("VACUUM (TRUNCATE {}) {}{}").format(sql.SQL(str(truncate).lower()), only, table), deadline, before)
    if why is not None:
        return Vacuum(leaf.name, False, why=why, seconds=time.monotonic() - began)
    # Asked before the ANALYZE, which puts an estimate in the place of the number.
    after = _after(database, leaf, before)
    why = _run(database, sql.SQL("ANALYZE {}{}").format(only, table), deadline, before)
    analyzed, took = why is None, time.monotonic() - began
    if not after["done"]:
        return Vacuum(leaf.name, None, analyzed, why or "the server's counters do not show that it was done", took)
    dead_rows = after["dead_rows"]
    return Vacuum(leaf.name, True, analyzed, why, took, dead_rows, held_by if dead_rows else ())


def _before(database: Any) -> dict[str, Any]:
    """Return what the clock says and what is set, and have everything counted that this session has done so far.

    Removals that are counted after the VACUUM would look like rows that had to stay.
    """
    if database.server_version < _COLLECTED_LATER:
        time.sleep(_SENDING_SECONDS)
    else:
        database.execute("SELECT pg_stat_force_next_flush()")
    found: dict[str, Any] = database.row(_BEFORE)
    return found


def _after(database: Any, leaf: Leaf, before: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + (_COLLECTING_SECONDS if database.server_version < _COLLECTED_LATER and before["counts"] else 0)
    while True:
        found: dict[str, Any] = database.row(_AFTER, {"oid": leaf.oid, "began": before["began"]})
        if found["done"] or time.monotonic() >= deadline:
            return found
        time.sleep(_PAUSE)


def _run(database: Any, statement: Any, deadline: float | None, before: dict[str, Any]) -> str | None:
    """Run `statement` until `deadline` (monotonic) and return in words why it came to nothing; None if it did not."""
    if deadline is not None:
        left = math.floor(1000 * (deadline - time.monotonic()))
        if left < 1:
            return "no time was left for it"
        # Never longer than the session's own limit, after which its caller takes the server for lost.
        timeout = min(left, before["milliseconds"] or left)
        database.execute(_SET, (_SEARCH_PATH, f"{timeout}ms"))
    try:
        database.execute(statement)
    except DatabaseError as error:
        if database.closed:
            raise
        return error.message
    return None


def _may(database: Any, leaf: Leaf) -> bool | None:
    sql = database.sql
    maintains = "pg_catalog.has_table_privilege(c.oid, 'MAINTAIN')" if database.server_version >= 170000 else "false"
    may: bool | None = database.value(sql.SQL(_OWNS).format(maintains=sql.SQL(maintains), oid=sql.Literal(leaf.oid)))
    return may


def _not_allowed(database: Any, leaf: Leaf) -> str:
    who = f"the role {database.user} is neither its owner nor that of the database"
    if database.server_version >= 170000:
        return f"{who}: grant it MAINTAIN on {leaf.name}"
    return f"{who}: autovacuum will do it, or its owner"
