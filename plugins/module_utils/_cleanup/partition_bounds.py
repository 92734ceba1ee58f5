# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a table is divided, and which of its partitions hold nothing but rows below a limit, by their bounds.

The upper bound of a range is exclusive, and NULL has no place in a range. So the rows of a partition lie below its upper bound,
whatever was or will be written to it. Where the key has further columns, those with the upper bound's very time may lie in it too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import partition_checks
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn

# A key that is an expression has no column. Only the server's own operator classes are known to sort as its operators compare.
_TREE = """
WITH RECURSIVE tree(oid, parent) AS (
    SELECT %(root)s::oid, NULL::oid
    UNION ALL
    SELECT i.inhrelid, i.inhparent FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid
    WHERE NOT coalesce((pg_catalog.to_jsonb(i) OPERATOR(pg_catalog.->>) 'inhdetachpending')::boolean, false)
)
SELECT t.oid, t.parent, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, d.partstrat::text AS strategy, d.partnatts AS keys,
    CASE WHEN d.partrelid IS NOT NULL THEN pg_catalog.pg_get_partkeydef(c.oid) END AS divided_by, a.attname AS first_key,
    o.opcnamespace = 'pg_catalog'::pg_catalog.regnamespace AS plain_order, pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bound
FROM tree t
JOIN pg_catalog.pg_class c ON c.oid = t.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_partitioned_table d ON d.partrelid = c.oid
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.partattrs[0] AND a.attnum > 0
LEFT JOIN pg_catalog.pg_opclass o ON o.oid = d.partclass[0]
ORDER BY n.nspname, c.relname
"""
_ITEM = r"(?:'(?:[^']|'')*'|[^\s(),']+)"
_ITEMS = r"\((" + _ITEM + r"(?:, " + _ITEM + r")*)\)"
_RANGE = re.compile(r"FOR VALUES FROM " + _ITEMS + r" TO " + _ITEMS)
_OPEN = ("MINVALUE", "MAXVALUE")


@dataclass(frozen=True)
class Partition:
    """A partition all of whose rows lie below a limit. `leaves` are the oids of the tables that hold its rows.

    `bound` is the whole bound and `upper` its first upper value as the server writes them; `limit` is what `column` was compared with.
    """

    name: RelationName
    oid: int
    parent: RelationName
    parent_oid: int
    leaves: tuple[int, ...]
    bound: str
    upper: str
    column: str
    limit: str


@dataclass(frozen=True)
class _Node:
    """A table in the tree: what divides it, and its own bound."""

    oid: int
    parent: int | None
    name: RelationName
    kind: str
    strategy: str | None
    keys: int | None
    divided_by: str | None
    first_key: str | None
    plain_order: bool | None
    bound: str | None

    def by_range_of(self, column: str) -> bool:
        """True if its partitions are ranges of `column` in the order of the server's own operators."""
        return self.strategy == "r" and self.first_key == column and bool(self.plain_order)


def require_divided_by(database: Any, relation: Relation, time: TimeColumn, path: str) -> None:
    """Require that `relation` is divided into ranges of the column of `time`, so that all rows of it can go with partitions.

    Raises InvalidValue, which says how it is divided, and DatabaseError where the role may not detach.
    """
    column = time.column.name
    if relation.kind != "p":
        children = " (it has children by inheritance, which have no bounds)" if relation.descendants else ""
        what = f"{relation.name} is a {relation.kind_name} and not divided into partitions{children}"
        raise _unfit(path, relation, what, column)
    tree = _tree(database, relation)
    divided = [node for node in tree.values() if node.by_range_of(column)]
    if not divided:
        levels = dict.fromkeys(node.divided_by for node in tree.values() if node.divided_by)
        raise _unfit(path, relation, f"{relation.name} is divided by {', then by '.join(map(str, levels))}", column)
    outside = [node for node in tree.values() if node.kind != "p" and not _in_range(tree, node, column)]
    if outside:
        where = f"{relation.name} is divided by {tree[_oid(relation)].divided_by}, and its partition {outside[0].name} no further"
        raise _unfit(path, relation, where, column)
    partition_checks.require_owned(database, [node.oid for node in divided])


def due(database: Any, relation: Relation, time: TimeColumn, limit_sql: Any) -> list[Partition]:
    """Return the partitions of `relation` whose rows all have a time below `limit_sql`, the oldest first, at the highest level that goes.

    Raises InvalidValue for one that something else depends on or that holds a foreign table, DatabaseError for one of another owner.
    """
    tree = _tree(database, relation)
    bounded = [node for node in tree.values() if node.parent and tree[node.parent].by_range_of(time.column.name)]
    past = _past(database, time, limit_sql, bounded)
    parts = _parts(tree)
    found = [
        Partition(
            tree[oid].name,
            oid,
            tree[tree[oid].parent or 0].name,
            tree[oid].parent or 0,
            tuple(node.oid for node in _below(parts, tree[oid]) if node.kind != "p"),
            tree[oid].bound or "",
            upper,
            time.column.name,
            limit,
        )
        for oid, (upper, limit) in past.items()
        if not any(above.oid in past for above in _above(tree, tree[oid]))
    ]
    for partition in found:
        _require_own_rows(partition, [node for node in _below(parts, tree[partition.oid]) if node.kind == "f"])
    partition_checks.require_owned(database, [oid for each in found for oid in (each.parent_oid, each.oid)])
    partition_checks.require_independent(database, {each.oid: each.name for each in found})
    return found


def upper_bound(bound: str) -> tuple[str, bool] | None:
    """Return the first upper value of a bound as the server writes it, and whether it lies outside the range; None without one.

    Raises DatabaseError for what is no bound of a range.
    """
    if bound == "DEFAULT":
        return None
    match = _RANGE.fullmatch(bound)
    if match is None:
        raise DatabaseError(f"the bound of a partition cannot be read: {bound}", object_name=bound)
    first, *further = re.findall(_ITEM, match.group(2))
    if first in _OPEN:
        return None
    value = first[1:-1].replace("''", "'") if first.startswith("'") else first
    return value, not further or further[0] == "MINVALUE"


def _past(database: Any, time: TimeColumn, limit_sql: Any, nodes: Sequence[_Node]) -> dict[int, tuple[str, str]]:
    """Return the upper bound and the limit of those among `nodes` that lie below the limit, by oid."""
    sql = database.sql
    bounds = {node.oid: upper_bound(node.bound or "") for node in nodes}
    closed = [(oid, *bound) for oid, bound in bounds.items() if bound is not None]
    if not closed:
        return {}
    kind = sql.Identifier("pg_catalog", time.column.base)
    # unnest of several arrays is the server's own only without a schema.
    statement = sql.SQL(
        "SELECT given.oid, given.written, ({limit})::pg_catalog.text AS upto"
        " FROM unnest(%(oids)s::pg_catalog.int8[], %(uppers)s::{kind}[], %(uppers)s::pg_catalog.text[], %(outside)s::pg_catalog.text[])"
        " AS given(oid, upper, written, outside)"
        " WHERE given.upper OPERATOR(pg_catalog.<) {limit}"
        " OR (given.upper OPERATOR(pg_catalog.=) {limit} AND given.outside::pg_catalog.bool) ORDER BY given.upper, given.oid"
    ).format(limit=limit_sql, kind=kind)
    parameters = {
        "oids": [oid for oid, _upper, _outside in closed],
        "uppers": [upper for _oid, upper, _outside in closed],
        "outside": [str(outside).lower() for _oid, _upper, outside in closed],
    }
    return {int(row["oid"]): (row["written"], row["upto"]) for row in database.rows(statement, parameters)}


def _tree(database: Any, relation: Relation) -> dict[int, _Node]:
    nodes = {}
    for row in database.rows(_TREE, {"root": _oid(relation)}):
        name = RelationName(row.pop("schema"), row.pop("name"))
        nodes[int(row["oid"])] = _Node(name=name, **row)
    return nodes


def _above(tree: Mapping[int, _Node], node: _Node) -> list[_Node]:
    """Return the tables that `node` is a part of, the nearest first."""
    found = []
    while node.parent is not None:
        node = tree[node.parent]
        found.append(node)
    return found


def _parts(tree: Mapping[int, _Node]) -> dict[int, list[_Node]]:
    """Return the direct parts of each divided table, by its oid."""
    parts: dict[int, list[_Node]] = {}
    for node in tree.values():
        if node.parent is not None:
            parts.setdefault(node.parent, []).append(node)
    return parts


def _below(parts: Mapping[int, Sequence[_Node]], node: _Node) -> list[_Node]:
    """Return `node` and everything below it."""
    return [node, *(each for part in parts.get(node.oid, ()) for each in _below(parts, part))]


def _in_range(tree: Mapping[int, _Node], node: _Node, column: str) -> bool:
    return any(above.by_range_of(column) for above in _above(tree, node))


def _require_own_rows(partition: Partition, foreign: Sequence[_Node]) -> None:
    if foreign:
        what = f"partition {partition.name} cannot be dropped: {foreign[0].name} is a foreign table"
        hint = "Detach it by hand, and clean it up where its rows are kept."
        raise InvalidValue(what, object_name=str(foreign[0].name), hint=hint)


def _oid(relation: Relation) -> int:
    return int(relation.oid or 0)


def _unfit(path: str, relation: Relation, what: str, column: str) -> InvalidValue:
    message = f"{path}: drop_partitions needs a table that is divided by RANGE of the rule's column {column}: {what}"
    hint = f"Use another action, or divide the table by RANGE ({column}, ...)."
    return InvalidValue(message, object_name=str(relation.name), hint=hint)
