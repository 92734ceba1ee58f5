# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what is stored is in order."""

from __future__ import annotations

import time
from typing import Any, Dict, Iterable, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading, Unseen, skipped, unknown
from ansible_collections.pgops.runbook.plugins.module_utils._health.relations import (
    counted_indexes,
    extension_function,
    name_of,
    scope,
)

# No index is begun later; one statement is bounded by check_timeout.
BUDGET_SECONDS = 60.0
# Small indexes are looked at together: a statement each would take longer than the look itself (1.9 s against 0.2 s for 3,000). One that
# is larger than the pages (8 MB) stands alone, so that check_timeout is a bound for one index.
GROUP, GROUP_PAGES = 100, 1000
# What the server says of stored bytes that are wrong, or that it cannot read: classes of SQLSTATE.
CORRUPT = ("XX", "58")

# A temporary index belongs to another session; an unlogged one has nothing on a standby.
_INDEXES = """
SELECT c.oid::int8 AS oid, n.nspname, c.relname, t.relname AS table_name, i.indisunique, c.relpages
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am m ON m.oid = c.relam
WHERE c.relkind = 'i' AND m.amname = 'btree' AND i.indisvalid AND i.indisready AND i.indislive
  AND (c.relpersistence = 'p' OR c.relpersistence = 'u' AND NOT pg_is_in_recovery())
  AND CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = ANY (%(schemas)s::text[]) END
ORDER BY c.relpages, c.oid
"""
# An index that was dropped meanwhile is an internal error to the server, as much as a broken one.
_THERE = "SELECT FROM pg_class WHERE oid = %(index)s::int8::oid"
# Holds no lock but the one that any query holds. The functions that compare parents with children lock out writers: never those.
_CHECKED = "SELECT {}.bt_index_check(i.id::oid::regclass) FROM unnest(%(indexes)s::int8[]) AS i (id)"


def _amcheck(look: Look, limits: Limits) -> Iterable[Reading]:
    function = extension_function(look, "amcheck", "bt_index_check", "regclass")
    if function is None:
        return skipped("the extension amcheck is not in this database. As a superuser: CREATE EXTENSION amcheck;")
    if not function["allowed"]:
        schema, role = quoted(function["schema"]), quoted(look.role)
        called = f"and GRANT EXECUTE ON FUNCTION {schema}.bt_index_check(regclass) TO {role};"
        hint = f"As a superuser: GRANT USAGE ON SCHEMA {schema} TO {role}; {called}"
        raise Unseen(f"the role {look.role} may not call bt_index_check of amcheck", hint=hint)
    rows = look.rows(_INDEXES, scope(look))
    if not rows:
        return skipped("there is no btree index in the system's schemas")
    statement = look.sql.SQL(_CHECKED).format(look.sql.Identifier(function["schema"]))
    return _within_budget(look, statement, rows)


def _within_budget(look: Look, statement: Any, rows: List[Dict[str, Any]]) -> List[Reading]:
    readings: List[Reading] = []
    began, reached = time.monotonic(), 0
    for group in _groups(rows):
        if time.monotonic() - began >= BUDGET_SECONDS:
            break
        reached += len(group)
        readings += _looked_at(look, statement, group)
    left = rows[reached:]
    if left:
        limit = format_duration(BUDGET_SECONDS)
        message = f"{counted_indexes(len(left))} of {len(rows)} were not reached in {limit}, the largest, from {name_of(left[0])} on"
        hint = "Run pg_amcheck (PostgreSQL 14), or bt_index_check on each of them, at a quiet time; a restored backup will do as well."
        readings.append(unknown(Unseen(message, hint=hint)))
    return readings or [Reading(f"{counted_indexes(len(rows))} are in order", 0.0)]


def _groups(rows: List[Dict[str, Any]]) -> Iterable[List[Dict[str, Any]]]:
    """Yield `rows` in their order, small indexes together."""
    group: List[Dict[str, Any]] = []
    pages = 0
    for row in rows:
        if group and (len(group) >= GROUP or pages + row["relpages"] > GROUP_PAGES):
            yield group
            group, pages = [], 0
        group.append(row)
        pages += row["relpages"]
    if group:
        yield group


def _looked_at(look: Look, statement: Any, group: List[Dict[str, Any]]) -> List[Reading]:
    """Return what is wrong with the indexes of a group; where the group fails, each is looked at by itself."""
    try:
        look.rows(statement, {"indexes": [row["oid"] for row in group]})
    except DatabaseError as error:
        if look.database.closed:
            raise
        if len(group) == 1:
            return _refused(look, group[0], error)
        return [reading for row in group for reading in _looked_at(look, statement, [row])]
    return []


def _refused(look: Look, row: Mapping[str, Any], error: DatabaseError) -> List[Reading]:
    """Return what an error means: corruption, nothing where the index is gone, else that nobody knows."""
    if not look.rows(_THERE, {"index": row["oid"]}):
        return []
    if (error.sqlstate or "")[:2] not in CORRUPT:
        return [unknown(error, name_of(row))]
    index = quoted(row["nspname"], row["relname"])
    twice = " Rows with equal keys may be there by now and stop it: look for them without the index." if row["indisunique"] else ""
    action = (
        f"Queries by this index of {row['table_name']} may miss rows. Take a backup of the files first and look for the cause: another "
        "collation after an upgrade of the operating system (ver.collation), a disk (data.checksum_failures), a crash with fsync off. "
        f"Then, as the owner: REINDEX INDEX CONCURRENTLY {index};{twice}"
    )
    return [Reading(f"it is corrupt: {error.message}", 1.0, name_of(row), action=action, error=error)]


AMCHECK = Check(
    id="integrity.amcheck",
    title="Order of btree indexes",
    tier="monthly",
    looks_at="bt_index_check of the extension amcheck on every btree index of the system's schemas (all schemas where no system is given), "
    "smallest first, for a minute and check_timeout each; what was not reached is unknown. It reads whole indexes, under the lock "
    "of any query, also on a standby. That every row of a table is in them is not looked at.",
    action="Find the cause, then rebuild the index with REINDEX INDEX CONCURRENTLY.",
    needs="the extension amcheck, and EXECUTE on its bt_index_check(regclass)",
    run=_amcheck,
    unit="count",
    critical=0,
)
CHECKS: List[Check] = [AMCHECK]
