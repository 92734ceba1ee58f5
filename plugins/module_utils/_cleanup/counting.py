# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counting rows leaf by leaf, exactly."""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.leaves import look_up_leaves
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import ROW, Target
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf, Relation

# From here on, reading a table only to say how many rows it has is a burden of its own. Where an index has all rows that a rule is about,
# next to each other, that would be the most of all that is read.
LARGE_BYTES, LARGE_IN_ORDER_BYTES = 1 << 30, 1 << 26
_SAMPLED_BYTES = 1 << 22


def count_by_leaf(database: Any, relation: Relation, condition: Any = None, leaves: Sequence[Leaf] | None = None) -> dict[int, int]:
    """Return how many rows of each leaf (by oid) fulfil `condition`, or there are at all. Raises DatabaseError."""
    sql = database.sql
    chosen = relation.leaves if leaves is None else leaves
    if condition is None or len(chosen) < 2:
        where = sql.SQL(" WHERE {}").format(condition) if condition is not None else sql.SQL("")
        found = _counted(database, chosen, sql.SQL("0"), where)
        return {oid: rows for oid, (rows, _some) in found.items()}
    # One statement over the whole table: what the condition reads beside it is planned and read once, not once for each leaf.
    statement = sql.SQL(
        "SELECT {row}.tableoid::bigint AS leaf, pg_catalog.count(*) AS rows_found FROM {table} AS {row}"
        " WHERE {row}.tableoid OPERATOR(pg_catalog.=) ANY ({oids}::oid[]) AND {condition} GROUP BY 1"
    ).format(
        row=sql.Identifier(ROW),
        table=relation.name.identifier(sql),
        condition=condition,
        oids=sql.Literal("{" + ",".join(str(leaf.oid) for leaf in chosen) + "}"),
    )
    found_rows = {int(row["leaf"]): int(row["rows_found"]) for row in database.rows(statement)}
    return {leaf.oid: found_rows.get(leaf.oid, 0) for leaf in chosen}


class Counted(NamedTuple):
    """By leaf oid, how many rows are `meant`, and how many `rows` there are in all. Of `large` leaves there are only the bytes."""

    rows: dict[int, int]
    meant: dict[int, int]
    large: dict[int, int]


def with_rows(database: Any, target: Target, condition: Any, leaves: Sequence[Leaf], *, joined: bool) -> Counted:
    """Return how many rows there are in each of the leaves, and exactly how many of them fulfil `condition`. Raises DatabaseError.

    Where the condition looks at nothing but its row, that takes one reading of the table. What is `joined` with other tables is counted
    apart, because the server would look each row up there by itself. A large table of which an index finds the rows is not read at all
    only to tell how many others it has.
    """
    large = large_leaves(database, target, leaves)
    small = [leaf for leaf in leaves if leaf.oid not in large]
    if not joined:
        some = database.sql.SQL("pg_catalog.count(*) FILTER (WHERE {})").format(condition)
        found = _counted(database, small, some, database.sql.SQL(""))
        rows, meant = {oid: all_ for oid, (all_, _some) in found.items()}, {oid: some for oid, (_all, some) in found.items()}
    else:
        rows, meant = (count_by_leaf(database, target.relation, one, small) for one in (None, condition))
    meant.update(count_by_leaf(database, target.relation, condition, [leaf for leaf in leaves if leaf.oid in large]))
    return Counted(rows, meant, large)


def large_leaves(database: Any, target: Target, leaves: Sequence[Leaf]) -> dict[int, int]:
    """Return the bytes of those leaves, by oid, that are not read only to say how many rows they have. Raises DatabaseError."""
    facts = look_up_leaves(database, target, leaves)
    large = {oid: one for oid, one in facts.items() if one.bytes > LARGE_BYTES or (one.in_order and one.bytes > LARGE_IN_ORDER_BYTES)}
    return {oid: one.bytes for oid, one in large.items()}


def about(database: Any, leaf: Leaf, size: int) -> int:
    """Return about how many rows a leaf of so many bytes has, from a sample of its pages. Raises DatabaseError."""
    share = min(1.0, _SAMPLED_BYTES / size)
    sql = database.sql
    sampled = sql.SQL("SELECT pg_catalog.count(*) FROM ONLY {} TABLESAMPLE SYSTEM ({})").format(
        leaf.name.identifier(sql), sql.Literal(100 * share)
    )
    return round(database.value(sampled) / share)


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
