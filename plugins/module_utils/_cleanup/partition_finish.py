# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finishes the drop of a partition that has left its parent, or is about to, in this run or an earlier one."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import partition_checks, partition_marks
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.partition_marks import Leftover
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.partition_outcome import DROPPED, KEPT, Dropped, about, locked, measure
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._lock_tries import Tries, is_locked, try_to
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation


def finish(database: Any, relation: Relation, leftover: Leftover) -> Dropped | None:
    """Finish what was begun: None for a partition that is still in its place, which only loses its mark.

    A table that has a row by now that is not below the limit is kept. Raises DatabaseError and InvalidValue.
    """
    tries = Tries(database)
    if leftover.state == partition_marks.ATTACHED:
        return None if unmark(database, leftover, tries) else locked(database, leftover.name, leftover.oid)
    if leftover.state == partition_marks.PENDING and not _finalize(database, leftover, tries):
        return locked(database, leftover.name, leftover.oid, leftover.mark.parent_oid)
    return _drop_detached(database, relation, replace(leftover, state=partition_marks.DETACHED), tries)


def unmark(database: Any, leftover: Leftover, tries: Tries) -> bool:
    """Take the mark back; False if the table is locked."""

    def take_back() -> bool:
        partition_marks.take_back(database, leftover.name, leftover.mark)
        return True

    return bool(try_to(database, tries, take_back))


def _finalize(database: Any, leftover: Leftover, tries: Tries) -> bool:
    """Complete a pending detachment, which waits for every older snapshot; False if one outlives all patience."""
    statement = about(database, "ALTER TABLE {} DETACH PARTITION {} FINALIZE", leftover.mark.parent, leftover.name)
    end = time.monotonic() + tries.patience
    while not _had_locks(database, statement):
        if time.monotonic() >= end:
            return False
    return True


def _had_locks(database: Any, statement: Any) -> bool:
    try:
        database.execute(statement)
    except DatabaseError as error:
        if not is_locked(error):
            raise
        return False
    return True


def _drop_detached(database: Any, relation: Relation, leftover: Leftover, tries: Tries) -> Dropped:
    partition_checks.require_independent(database, {leftover.oid: leftover.name})

    def drop() -> Dropped:
        database.execute(about(database, "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", leftover.name))
        if partition_marks.found_again(database, relation, leftover.oid) != leftover:
            return Dropped(leftover.name, KEPT, why="it has been changed by others since it was marked")
        rows, late = _rows_and_late(database, relation, leftover)
        if late:
            why = f"it is detached, but {late} of its {rows} rows are not before {leftover.mark.limit}: attach it again, or drop it by hand"
            return Dropped(leftover.name, KEPT, why=why)
        size = measure(database, leftover.oid)
        database.execute(about(database, "DROP TABLE {}", leftover.name))
        return Dropped(leftover.name, DROPPED, rows, size)

    return try_to(database, tries, drop) or locked(database, leftover.name, leftover.oid)


def _rows_and_late(database: Any, relation: Relation, leftover: Leftover) -> tuple[int, int]:
    """Return how many rows a table has, and how many of them are not below the limit of its mark."""
    sql = database.sql
    column = relation.column(leftover.mark.column)
    statement = sql.SQL(
        "SELECT pg_catalog.count(*) AS rows, pg_catalog.count(*) FILTER ("
        "WHERE ({column} OPERATOR(pg_catalog.<) {limit}::{type}) IS NOT TRUE) AS late FROM {table}"
    ).format(
        column=sql.Identifier(column.name),
        limit=sql.Literal(leftover.mark.limit),
        # A limit may lie beyond what a small integer holds.
        type=sql.Identifier("pg_catalog", {"int4": "int8"}.get(column.base, column.base)),
        table=leftover.name.identifier(sql),
    )
    row = database.row(statement)
    return int(row["rows"]), int(row["late"])
