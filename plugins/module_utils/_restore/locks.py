# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks on tables, taken late in a long transaction: in many short tries, none of which undoes what the transaction has done before."""

from __future__ import annotations

from typing import Any, Callable, Sequence, TypeVar

from ansible_collections.pgops.runbook.plugins.module_utils import _lock_tries
from ansible_collections.pgops.runbook.plugins.module_utils._content.session import set_here
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName

_Result = TypeVar("_Result")
_OIDS = """
SELECT c.oid::bigint AS oid
FROM ROWS FROM (unnest(%s::text[]), unnest(%s::text[])) AS w(schema, name)
JOIN pg_namespace n ON n.nspname = w.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
"""


def lock(database: Any, tables: Sequence[RelationName], mode: str, more: Callable[[], Any] | None = None, tied: Sequence[str] = ()) -> Any:
    """Lock `tables` in `mode`, then do `more`, which may lock others (`tied`, as SQL writes them), and return its result.

    Raises DatabaseError that names who holds a lock.
    """
    sql, tries = database.sql, _lock_tries.Tries(database)
    database.execute("SAVEPOINT pgops_locks")
    for wait in tries:
        _lock_tries.limit(database, wait)
        try:
            for table in tables:
                database.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(table.identifier(sql), sql.SQL(mode)))
            result = more() if more else None
        except DatabaseError as error:
            if database.closed or not _lock_tries.is_locked(error):
                raise
            database.execute("ROLLBACK TO SAVEPOINT pgops_locks")
            continue
        set_here(database, "lock_timeout", f"{tries.longest:.0f}ms")
        return result
    oids = [row["oid"] for row in database.rows(_OIDS, ([table.schema for table in tables], [table.name for table in tables]))]
    oids += [database.value("SELECT %s::regclass::oid::bigint", (name,)) for name in tied]
    names = ", ".join(dict.fromkeys([*map(str, tables), *tied]))
    raise DatabaseError(
        f"{names} could not be locked within {tries.patience:.0f} s: {_lock_tries.holders(database, oids)}. Nothing was changed",
        object_name=str(tables[0]),
        sqlstate="55P03",
        hint="End what holds the lock, or give lock_timeout more time: six times as long is waited.",
    )
