# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The comment by which a run knows again what an earlier one began to drop and did not finish.

It is written before a partition is detached, so that at no moment a table that is to go has lost both its parent and its mark.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.partition_bounds import Partition, upper_bound
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn

_BEGIN = "pgops.runbook.pg_cleanup drops this table, all of whose rows are past their retention: "
ATTACHED, PENDING, DETACHED = "attached", "pending", "detached"

# The comment of a table says nothing about a table of somebody else's.
_MARKED = """
WITH RECURSIVE tree(oid) AS (
    SELECT %(root)s::oid
    UNION
    SELECT i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid
)
SELECT n.nspname AS schema, c.relname AS name, c.oid, x.description AS comment, pn.nspname AS parent_schema, p.relname AS parent_name,
    p.oid AS parent_oid,
    CASE WHEN i.inhrelid IS NULL THEN 'detached'
         WHEN (pg_catalog.to_jsonb(i) OPERATOR(pg_catalog.->>) 'inhdetachpending')::boolean THEN 'pending' ELSE 'attached' END AS state
FROM tree t
JOIN pg_catalog.pg_class p ON p.oid = t.oid AND p.relkind = 'p'
JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
JOIN pg_catalog.pg_description x ON x.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND x.objsubid = 0
    AND pg_catalog.starts_with(x.description, %(begin)s::pg_catalog.text)
JOIN pg_catalog.pg_class c ON c.oid = x.objoid AND c.relkind IN ('r', 'p') AND c.relowner = p.relowner
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
WHERE i.inhrelid IS NULL OR i.inhparent = p.oid
ORDER BY n.nspname, c.relname
"""
_COMMENT = "SELECT pg_catalog.obj_description(%s::oid, 'pg_class')"


@dataclass(frozen=True)
class Mark:
    """What the comment says: the `parent` that the table was a partition of, and that each row's `column` is below `limit`.

    `comment` is the one that the table had before.
    """

    parent: RelationName
    parent_oid: int
    column: str
    limit: str
    comment: str | None

    def __str__(self) -> str:
        """Return the comment."""
        parts = {
            "was_partition_of": str(self.parent),
            "oid": self.parent_oid,
            "column": self.column,
            "below": self.limit,
            "comment_before": self.comment,
        }
        return _BEGIN + json.dumps(parts, ensure_ascii=False)

    @classmethod
    def read(cls, comment: str | None, parent: RelationName, parent_oid: int) -> Mark | None:
        """Return the mark that `comment` is, to the letter, for a partition of `parent`; None if it is anything else."""
        if comment is None or not comment.startswith(_BEGIN):
            return None
        try:
            parts = json.loads(comment[len(_BEGIN) :])
            mark = cls(parent, parent_oid, parts["column"], parts["below"], parts["comment_before"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return mark if str(mark) == comment else None


@dataclass(frozen=True)
class Leftover:
    """A table that an earlier run marked and did not drop. `state` says how far it came: attached, pending or detached."""

    name: RelationName
    oid: int
    state: str
    mark: Mark


def leftovers(database: Any, relation: Relation) -> list[Leftover]:
    """Return what earlier runs began to drop of `relation` and did not finish. Raises DatabaseError."""
    found = []
    for row in database.rows(_MARKED, {"root": relation.oid, "begin": _BEGIN}):
        mark = Mark.read(row["comment"], RelationName(row["parent_schema"], row["parent_name"]), int(row["parent_oid"]))
        if mark is not None and mark.column in (relation.columns or {}):
            found.append(Leftover(RelationName(row["schema"], row["name"]), int(row["oid"]), row["state"], mark))
    return found


def found_again(database: Any, relation: Relation, oid: int) -> Leftover | None:
    """Return what became of the marked table with this oid; None if it is not to go (any more)."""
    return next((each for each in leftovers(database, relation) if each.oid == oid), None)


def is_past(database: Any, leftover: Leftover, time: TimeColumn, limit_sql: Any) -> bool:
    """True if the rows that the mark of `leftover` speaks of all have a time below `limit_sql`. Raises DatabaseError."""
    sql = database.sql
    # A limit may lie beyond what a small integer holds.
    kind = sql.Identifier("pg_catalog", {"int4": "int8"}.get(time.column.base, time.column.base))
    statement = sql.SQL("SELECT %(below)s::{kind} OPERATOR(pg_catalog.<=) {limit}").format(kind=kind, limit=limit_sql)
    return bool(database.value(statement, {"below": leftover.mark.limit}))


def put(database: Any, partition: Partition) -> Mark:
    """Write the mark of `partition` in its comment, and return it. Takes the place of a mark that a run left behind."""
    comment = database.value(_COMMENT, (partition.oid,))
    left = Mark.read(comment, partition.parent, partition.parent_oid)
    before = comment if left is None else left.comment
    mark = Mark(partition.parent, partition.parent_oid, partition.column, _below(partition), before)
    _comment(database, partition.name, str(mark))
    return mark


def take_back(database: Any, name: RelationName, mark: Mark) -> None:
    """Give the table called `name` the comment that it had before."""
    _comment(database, name, mark.comment)


def _below(partition: Partition) -> str:
    """Return the lowest value known to be above all of its rows: a rule that keeps rows for longer by then may still let them go."""
    bound = upper_bound(partition.bound)
    return bound[0] if bound is not None and bound[1] else partition.limit


def _comment(database: Any, name: RelationName, text: str | None) -> None:
    sql = database.sql
    database.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(name.identifier(sql), sql.Literal(text)))
