# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drops whole partitions: rows leave with their file, and nobody who reads or writes the rest waits for it.

A partition that nothing forbids to go is detached CONCURRENTLY, which waits for others and lets nobody wait. That takes two
transactions and the drop a third, so it is marked before, and the next run finishes what this one could not. Where the server cannot
do that (before PostgreSQL 14, beside a DEFAULT partition, under a foreign key), and where somebody has to be asked under a lock whether
the rows may go, everything happens in one transaction: all of it, or nothing.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Callable

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import partition_checks, partition_marks
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.partition_bounds import Partition, due, require_divided_by
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.partition_finish import finish, unmark
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.partition_marks import Leftover, leftovers
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.partition_outcome import (
    DROPPED,
    KEPT,
    LOCKED,
    Dropped,
    about,
    count_rows,
    locked,
    measure,
)
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._lock_tries import Tries, is_locked, limit, outlast, try_to
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation

__all__ = ["DROPPED", "KEPT", "LOCKED", "Dropped", "Leftover", "Partition", "drop", "due", "finish", "leftovers", "require_divided_by"]

_TIMED_OUT = "57014"
_QUICK = 0.05  # seconds: a count that takes no longer is made again while the partition is locked

_CONCURRENTLY = """
SELECT d.partdefid = 0
    AND p.relowner = c.relowner
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.confrelid = c.oid)
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_inherits i
        WHERE i.inhparent = p.oid AND coalesce((pg_catalog.to_jsonb(i) OPERATOR(pg_catalog.->>) 'inhdetachpending')::boolean, false)
    )
FROM pg_catalog.pg_class c, pg_catalog.pg_class p
JOIN pg_catalog.pg_partitioned_table d ON d.partrelid = p.oid
WHERE c.oid = %s::oid AND p.oid = %s::oid
"""
_UNCHANGED = """
SELECT n.nspname AS schema, c.relname AS name, pn.nspname AS parent_schema, p.relname AS parent_name,
    pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bound
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
    AND NOT coalesce((pg_catalog.to_jsonb(i) OPERATOR(pg_catalog.->>) 'inhdetachpending')::boolean, false)
JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
WHERE c.oid = %s::oid AND p.oid = %s::oid
"""


class _TookTooLong(Exception):
    """What had to be asked under the lock took longer than others may be kept waiting."""


def drop(database: Any, relation: Relation, partition: Partition, *, free: Callable[[], bool] | None) -> Dropped:
    """Detach and drop one partition that `due` returned.

    `free`, for a table of a token store, is asked with the partition locked against everybody whether all its rows may go; each of its
    statements may take the session's lock_timeout. Without it `rows` is exact. With it, or where the server cannot detach concurrently,
    a large partition is counted before it is locked, so that what others write to it in between does not count.
    Raises DatabaseError and InvalidValue; the partition is then as it was, or the next run finishes what was begun.
    """
    partition_checks.require_independent(database, {partition.oid: partition.name})
    tries = Tries(database)
    if free is None and _can_wait_for_others(database, partition):
        found = _drop_concurrently(database, relation, partition, tries)
    else:
        found = _drop_at_once(database, partition, free, tries)
    return found or locked(database, partition.name, partition.oid, partition.parent_oid)


def _can_wait_for_others(database: Any, partition: Partition) -> bool:
    if database.server_version < 140000:
        return False
    return bool(database.value(_CONCURRENTLY, (partition.oid, partition.parent_oid)))


def _drop_concurrently(database: Any, relation: Relation, partition: Partition, tries: Tries) -> Dropped | None:
    """Drop the partition; None if it is locked."""
    # A detachment that waits in vain stays pending and forbids others beside it, so those who would make it wait are waited for before.
    if not outlast(database, partition.parent_oid, tries.patience) or not _mark(database, partition, tries):
        return None
    try:
        database.execute(about(database, "ALTER TABLE {} DETACH PARTITION {} CONCURRENTLY", partition.parent, partition.name))
    except DatabaseError as error:
        if not is_locked(error):
            if not database.closed:
                _withdraw(database, relation, partition, tries)
            raise
    left = partition_marks.found_again(database, relation, partition.oid)
    return finish(database, relation, left) if left else None


def _withdraw(database: Any, relation: Relation, partition: Partition, tries: Tries) -> None:
    """Take the mark back from a partition that is still in its place; where that fails, the next run does it."""
    left = partition_marks.found_again(database, relation, partition.oid)
    if left is not None and left.state == partition_marks.ATTACHED:
        with suppress(DatabaseError):
            unmark(database, left, tries)


def _mark(database: Any, partition: Partition, tries: Tries) -> bool:
    def put() -> bool:
        partition_marks.put(database, partition)
        _require_unchanged(database, partition)
        return True

    return bool(try_to(database, tries, put))


def _drop_at_once(database: Any, partition: Partition, free: Callable[[], bool] | None, tries: Tries) -> Dropped | None:
    """Drop the partition in one transaction; None if it is locked."""
    began = time.monotonic()
    counted = count_rows(database, partition.name)
    quick = time.monotonic() - began <= _QUICK

    def take_out() -> Dropped:
        # In the order in which whoever uses the table locks it.
        database.execute(about(database, "LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE", partition.parent))
        database.execute(about(database, "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", partition.name))
        _require_unchanged(database, partition)
        since = time.monotonic()
        limit(database, tries.longest, "statement_timeout")
        try:
            if free is not None and not free():
                return Dropped(partition.name, KEPT, why="it holds rows that are protected")
            rows = count_rows(database, partition.name) if quick else counted
            size = measure(database, partition.oid)
            database.execute(about(database, "ALTER TABLE {} DETACH PARTITION {}", partition.parent, partition.name))
            database.execute(about(database, "DROP TABLE {}", partition.name))
        except DatabaseError as error:
            if error.sqlstate == _TIMED_OUT and time.monotonic() - since >= tries.longest / 1000:
                raise _TookTooLong from error
            raise
        return Dropped(partition.name, DROPPED, rows, size)

    try:
        return try_to(database, tries, take_out)
    except _TookTooLong:
        why = f"what has to be asked while it is locked took longer than lock_timeout ({tries.longest:.0f} ms)"
        return Dropped(partition.name, KEPT, why=why)


def _require_unchanged(database: Any, partition: Partition) -> None:
    """Require that the names still mean the tables that the plan was made for, and the bound is what it was; the partition is locked."""
    row = database.row(_UNCHANGED, (partition.oid, partition.parent_oid))
    names = row and (RelationName(row["schema"], row["name"]), RelationName(row["parent_schema"], row["parent_name"]))
    if row is None or names != (partition.name, partition.parent) or row["bound"] != partition.bound:
        message = f"partition {partition.name} of {partition.parent} has been changed by others since it was looked at; it was left alone"
        raise DatabaseError(message, object_name=str(partition.name), hint="Run it again.")
