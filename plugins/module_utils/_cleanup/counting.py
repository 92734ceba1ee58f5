# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counting rows leaf by leaf, exactly."""

from __future__ import annotations

from typing import Any, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import ROW, Target
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf, Relation


def count_by_leaf(database: Any, relation: Relation, condition: Any = None, leaves: Sequence[Leaf] | None = None) -> dict[int, int]:
    """Return how many rows of each leaf (by oid) fulfil `condition`, or there are at all. Raises DatabaseError."""
    sql = database.sql
    where = sql.SQL(" WHERE {}").format(condition) if condition is not None else sql.SQL("")
    found = _counted(database, relation.leaves if leaves is None else leaves, sql.SQL("0"), where)
    return {oid: rows for oid, (rows, _some) in found.items()}


def with_rows(database: Any, target: Target, condition: Any, leaves: Sequence[Leaf]) -> tuple[dict[int, int], dict[int, int]]:
    """Return how many rows there are in each of the leaves, and how many of them fulfil `condition`. Raises DatabaseError.

    Where the condition of a target looks at nothing but its row, that takes one reading of the table.
    """
    if target.plain and not target.protected:
        some = database.sql.SQL("pg_catalog.count(*) FILTER (WHERE {})").format(condition)
        found = _counted(database, leaves, some, database.sql.SQL(""))
        return {oid: rows for oid, (rows, _some) in found.items()}, {oid: some for oid, (_rows, some) in found.items()}
    return count_by_leaf(database, target.relation, None, leaves), count_by_leaf(database, target.relation, condition, leaves)


def _counted(database: Any, leaves: Sequence[Leaf], some: Any, where: Any) -> dict[int, tuple[int, int]]:
    sql = database.sql
    if not leaves:
        return {}
    counts = [
        sql.SQL(
            "SELECT {oid}::bigint AS leaf, pg_catalog.count(*) AS rows_found, {some} AS some_found FROM ONLY {leaf} AS {row}{where}"
        ).format(oid=sql.Literal(leaf.oid), some=some, leaf=leaf.name.identifier(sql), row=sql.Identifier(ROW), where=where)
        for leaf in leaves
    ]
    found = {
        int(row["leaf"]): (int(row["rows_found"]), int(row["some_found"])) for row in database.rows(sql.SQL(" UNION ALL ").join(counts))
    }
    return {leaf.oid: found.get(leaf.oid, (0, 0)) for leaf in leaves}
