# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that says which rows a rule is about: the plan counts with it, check mode reports it, the run deletes by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import protection
from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf, Relation
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn

ROW = "row_"  # the alias of the table whose rows go


@dataclass(frozen=True)
class Target:
    """A rule with everything that its predicate needs.

    `forgets` are the stores whose deny rows the table holds, `serves` those whose token rows it holds. `before` are the
    targets that are applied earlier and reach rows of the same table, or of a deny table that `serves` names.
    """

    index: int
    name: str
    path: str
    relation: Relation
    time: TimeColumn
    cutoff: Instant
    limit: Any
    forgets: tuple[protection.Store, ...]
    serves: tuple[protection.Store, ...]
    before: tuple[Target, ...] = ()

    @property
    def protected(self) -> bool:
        """True if rows past the cut-off may have to stay."""
        return bool(self.forgets or self.serves)


# Forms of one and the same condition, for what the server does well: counting all rows, picking a batch, removing what was picked.
COUNT, PICK, REMOVE = "count", "pick", "remove"


def matched(database: Any, target: Target, form: str = COUNT) -> Any:
    """Return the condition for the rows past the cut-off that no earlier rule of this run has removed."""
    sql = database.sql
    row = ROW
    expired = _expired(database, target, row)
    # An index that the planner took for rows that it has by their ctid would be searched, and each hit in the whole array.
    parts = [sql.SQL("({}) IS TRUE").format(expired) if form == REMOVE else expired]
    earlier = gone(database, target.before, target.relation, row)
    if earlier is not None:
        parts.append(sql.SQL("({}) IS NOT TRUE").format(earlier))
    return sql.SQL(" AND ").join(parts)


def removable(database: Any, target: Target, form: str = COUNT, *, ahead: bool) -> Any:
    """Return the condition for the rows that go: matched and not protected.

    `ahead` looks ahead over the rules that are applied before: it takes the deny rows that they remove as gone. The run itself asks
    for what is there, and so leaves a token row alone whose deny row was passed over.
    """
    sql = database.sql
    return sql.SQL(" AND ").join([matched(database, target, form), *_unprotected(database, target, ROW, ahead, form)])


def _expired(database: Any, target: Target, row: str) -> Any:
    sql = database.sql
    return sql.SQL("{} OPERATOR(pg_catalog.<) {}").format(sql.Identifier(row, target.time.column.name), target.limit)


def _unprotected(database: Any, target: Target, row: str, ahead: bool, form: str) -> list[Any]:
    sql = database.sql
    probe = form == PICK
    parts = [protection.may_be_forgotten(database, target.forgets, row, probe=probe)] if target.forgets else []
    for store in target.serves:

        def removed(deny: str, store: protection.Store = store) -> Any:
            return gone(database, target.before, store.deny, deny)

        needed = protection.is_needed(database, store, row, removed if ahead else None, probe=probe)
        parts.append(sql.SQL("NOT {}").format(needed))
    return parts


def gone(database: Any, targets: Iterable[Target], relation: Relation, row: str) -> Any:
    """Return the condition under which one of `targets` removes the row of `relation` with the alias `row`; None if none can."""
    sql = database.sql
    cases = []
    for target in targets:
        if not _reach(target, relation):
            continue
        parts = [_expired(database, target, row), *_unprotected(database, target, row, True, COUNT)]
        if not {leaf.oid for leaf in relation.leaves} <= {leaf.oid for leaf in target.relation.leaves}:
            oids = sql.SQL(", ").join(sql.SQL("{}::oid").format(sql.Literal(leaf.oid)) for leaf in target.relation.leaves)
            parts.append(sql.SQL("{} IN ({})").format(sql.Identifier(row, "tableoid"), oids))
        cases.append(sql.SQL("({})").format(sql.SQL(" AND ").join(parts)))
    return sql.SQL(" OR ").join(cases) if cases else None


def _reach(target: Target, relation: Relation) -> bool:
    """True if `target` can remove rows of `relation`, and its column is there to tell which (a child may have columns of its own)."""
    return target.relation.related(relation) and target.time.column.name in (relation.columns or {})


def delete_statement(database: Any, target: Target, leaf: Leaf, rows: int) -> Any:
    """Return the statement that removes up to `rows` rows of one leaf and returns how many it `picked` and how many are `gone`.

    The rows are locked before, so that none is waited for; the condition stands in the outer DELETE as well, because a row
    may have changed in between. Only a leaf can be named: a ctid means another row in each partition.
    """
    chosen, again = (removable(database, target, form, ahead=False) for form in (PICK, REMOVE))
    sql = database.sql
    return sql.SQL(
        "WITH picked AS MATERIALIZED ("
        " SELECT ARRAY(SELECT {row}.ctid FROM ONLY {leaf} AS {row} WHERE {chosen} LIMIT {rows} FOR UPDATE OF {row} SKIP LOCKED) AS ids"
        "), gone AS ("
        " DELETE FROM ONLY {leaf} AS {row} WHERE {row}.ctid = ANY ((SELECT picked.ids FROM picked)::tid[]) AND {again} RETURNING 1"
        ") SELECT pg_catalog.cardinality(picked.ids) AS picked, (SELECT pg_catalog.count(*) FROM gone) AS gone FROM picked"
    ).format(row=sql.Identifier(ROW), leaf=leaf.name.identifier(sql), chosen=chosen, again=again, rows=sql.Literal(rows))


def count_by_leaf(database: Any, relation: Relation, condition: Any = None, leaves: Sequence[Leaf] | None = None) -> dict[int, int]:
    """Return how many rows of each leaf (by oid) fulfil `condition`, or there are at all. Raises DatabaseError."""
    sql = database.sql
    wanted = relation.leaves if leaves is None else leaves
    if not wanted:
        return {}
    where = sql.SQL(" WHERE {}").format(condition) if condition is not None else sql.SQL("")
    counts = [
        sql.SQL("SELECT {oid}::bigint AS leaf, pg_catalog.count(*) AS rows_found FROM ONLY {leaf} AS {row}{where}").format(
            oid=sql.Literal(leaf.oid), leaf=leaf.name.identifier(sql), row=sql.Identifier(ROW), where=where
        )
        for leaf in wanted
    ]
    found = {int(row["leaf"]): int(row["rows_found"]) for row in database.rows(sql.SQL(" UNION ALL ").join(counts))}
    return {leaf.oid: found.get(leaf.oid, 0) for leaf in wanted}
