# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the catalogue says about relations: kind, columns, partitions, privileges and estimates, for many in one query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable

from ansible_collections.pgops.runbook.plugins.module_utils._errors import MissingObject
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName

# pg_class.relkind in words that a message can use.
KINDS = {
    "r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table",
    "S": "sequence", "i": "index", "I": "partitioned index", "c": "composite type", "t": "TOAST table",
}  # fmt: skip

# %(sizes)s asks for bytes: measuring opens the relation and so waits behind an exclusive lock, an estimate never does.
# A partition whose concurrent detachment is pending is no longer part of its parent; the column came with PostgreSQL 14 and is
# read through jsonb so that the query works without it.
# A child may have NULLs where its parent alone may not; and since PostgreSQL 18 a NOT NULL may not have been checked for the rows that
# were there before it, which attnotnull does not tell.
_LOOK_UP = """
WITH RECURSIVE
wanted AS (
    SELECT w.schema_name, w.relation_name, n.oid AS schema_oid, c.oid, c.relkind
    FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w(schema_name, relation_name)
    LEFT JOIN pg_namespace n ON n.nspname = w.schema_name
    LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.relation_name
),
child(parent, oid) AS (
    SELECT i.inhparent, i.inhrelid FROM pg_inherits i WHERE NOT coalesce((to_jsonb(i) ->> 'inhdetachpending')::boolean, false)
),
down(root, oid) AS (
    SELECT w.oid, w.oid FROM wanted w WHERE w.relkind IN ('r', 'p')
    UNION
    SELECT d.root, child.oid FROM down d JOIN child ON child.parent = d.oid
),
up(root, oid) AS (
    SELECT w.oid, child.parent FROM wanted w JOIN child ON child.oid = w.oid
    UNION
    SELECT u.root, child.parent FROM up u JOIN child ON child.oid = u.oid
),
may_be_null(root, attname) AS (
    SELECT DISTINCT o.root, a.attname
    FROM (SELECT oid AS root, oid FROM wanted UNION SELECT root, oid FROM down) AS o
    JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE NOT a.attnotnull OR EXISTS (
        SELECT FROM pg_constraint n WHERE n.conrelid = o.oid AND n.contype = 'n' AND n.conkey[1] = a.attnum AND NOT n.convalidated
    )
),
base_type(oid, base) AS (
    SELECT a.atttypid, a.atttypid FROM wanted w JOIN pg_attribute a ON a.attrelid = w.oid
    UNION
    SELECT d.oid, t.typbasetype FROM base_type d JOIN pg_type t ON t.oid = d.base WHERE t.typtype = 'd'
),
member AS (
    SELECT DISTINCT c.oid, c.relkind, n.nspname, c.relname, c.relrowsecurity AND row_security_active(c.oid) AS hides_rows,
        ARRAY(SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p
              WHERE has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, p)) AS privileges,
        CASE WHEN c.reltuples > 0 THEN c.reltuples::bigint
             -- The counters begin anew after a crash, and know only what came since.
             WHEN pg_stat_get_live_tuples(c.oid) > 0 THEN pg_stat_get_live_tuples(c.oid)
             WHEN c.reltuples = 0 AND c.relpages > 0 THEN 0
             WHEN %(sizes)s THEN CASE WHEN pg_relation_size(c.oid) = 0 THEN 0 END
        END AS rows_estimate,
        CASE WHEN %(sizes)s THEN pg_total_relation_size(c.oid) END AS bytes
    FROM (SELECT oid FROM wanted UNION SELECT oid FROM down) AS o
    JOIN pg_class c ON c.oid = o.oid
    JOIN pg_namespace n ON n.oid = c.relnamespace
)
SELECT w.schema_name, w.relation_name, w.schema_oid IS NOT NULL AS schema_exists, w.oid, w.relkind, to_jsonb(self) AS self,
    (SELECT jsonb_agg(to_jsonb(m) ORDER BY m.nspname, m.relname)
     FROM down d JOIN member m ON m.oid = d.oid WHERE d.root = w.oid AND m.relkind <> 'p') AS leaves,
    (SELECT jsonb_agg(up.oid) FROM up WHERE up.root = w.oid) AS ancestors,
    (SELECT jsonb_agg(down.oid) FROM down WHERE down.root = w.oid AND down.oid <> w.oid) AS descendants,
    (SELECT jsonb_agg(jsonb_build_object(
                'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                'base', CASE WHEN b.typnamespace = 'pg_catalog'::regnamespace THEN b.typname ELSE '' END, 'category', b.typcategory,
                'nullable', EXISTS (SELECT FROM may_be_null m WHERE m.root = w.oid AND m.attname = a.attname),
                'collation', a.attcollation::bigint,
                'indexed', EXISTS (
                    SELECT FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
                    WHERE x.indrelid = w.oid AND x.indkey[0] = a.attnum AND x.indisvalid AND x.indpred IS NULL
                        AND m.amname IN ('btree', 'hash')
                ),
                'readable', has_schema_privilege(w.schema_oid, 'USAGE') AND has_column_privilege(w.oid, a.attnum, 'SELECT')
            ) ORDER BY a.attnum)
     FROM pg_attribute a
     JOIN base_type d ON d.oid = a.atttypid
     JOIN pg_type b ON b.oid = d.base AND b.typtype <> 'd'
     WHERE a.attrelid = w.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
FROM wanted w
LEFT JOIN member self ON self.oid = w.oid
"""


@dataclass(frozen=True)
class Column:
    """A column: `type` as SQL writes it, `base` the server's own type below any domains ("" for a type of somebody else's).

    `category` is pg_type.typcategory, `collation` the oid of the column's collation (0: none).
    `nullable`: it may hold NULL in the relation itself or in one below it.
    `indexed`: an index finds the rows with one value of it, in every partition.
    `readable`: the role may SELECT it, by a grant on the table or on this column alone.
    """

    name: str
    type: str
    base: str
    category: str
    nullable: bool
    collation: int
    indexed: bool
    readable: bool


@dataclass(frozen=True)
class Leaf:
    """A relation that holds rows itself: an ordinary table, a partition, or a foreign one (`kind` "f").

    `rows_estimate` is None where the server has counted nothing yet (that a file is empty is known only where sizes are asked for);
    `bytes` (with indexes and TOAST) None where sizes are not asked for. `hides_rows`: a row security policy applies to the role.
    """

    name: RelationName
    oid: int
    kind: str
    privileges: frozenset[str]
    hides_rows: bool
    rows_estimate: int | None
    bytes: int | None


@dataclass(frozen=True)
class Relation:
    """A relation that was asked for. Only `name` and `schema_exists` mean something where `exists` is false.

    `leaves` are the tables below it that hold rows, itself included where it does; `ancestors` and `descendants` are
    the oids above and below it by partitioning or inheritance.
    """

    name: RelationName
    schema_exists: bool
    oid: int | None = None
    kind: str | None = None
    columns: dict[str, Column] | None = None
    itself: Leaf | None = None
    leaves: tuple[Leaf, ...] = ()
    ancestors: frozenset[int] = frozenset()
    descendants: frozenset[int] = frozenset()

    @property
    def exists(self) -> bool:
        """True if the catalogue has it."""
        return self.oid is not None

    @property
    def kind_name(self) -> str:
        """Return the kind in words: table, partitioned table, view, ..."""
        return KINDS.get(self.kind or "", "relation")

    @property
    def is_table(self) -> bool:
        """True for a table or partitioned table: something whose rows can be deleted."""
        return self.kind in ("r", "p")

    @property
    def rows_estimate(self) -> int | None:
        """Return the estimated rows of all leaves; None where one of them was never counted or the relation holds none."""
        return _total([leaf.rows_estimate for leaf in self._parts])

    @property
    def bytes(self) -> int | None:
        """Return the bytes of all leaves with indexes and TOAST; None where sizes were not asked for."""
        return _total([leaf.bytes for leaf in self._parts])

    @property
    def _parts(self) -> tuple[Leaf, ...]:
        # A materialized view has rows but is no table that deletes could walk, so it is not among the leaves.
        return self.leaves or ((self.itself,) if self.itself and self.kind == "m" else ())

    def column(self, name: str) -> Column:
        """Return the column called exactly `name`. Raises MissingObject, naming the columns there are."""
        found = (self.columns or {}).get(name)
        if found is None:
            has = ", ".join(self.columns or ()) or "none"
            hint = f"Its columns are: {has}."
            raise MissingObject(f"{self.kind_name} {self.name} has no column {name!r}", object_name=str(self.name), hint=hint)
        return found

    def related(self, other: Relation) -> bool:
        """True if they may share rows: both are the same, or one is below the other, at any depth, or both have the same table below them.

        The columns of the one need not be those of the other.
        """
        if not (self.exists and other.exists):
            return False
        return other.oid in self.ancestors or self.oid in other.ancestors or not self._below.isdisjoint(other._below)

    @property
    def _below(self) -> frozenset[int | None]:
        return self.descendants | {self.oid}


def look_up(database: Any, names: Iterable[RelationName], *, sizes: bool = False) -> dict[RelationName, Relation]:
    """Return what the catalogue says about each of `names`, also about those that do not exist, in their order and in one query.

    `database` is an open Database; `sizes` measures bytes as well (takes a shared lock on each leaf for a moment).
    Raises DatabaseError.
    """
    wanted = list(dict.fromkeys(names))
    parameters = {"schemas": [name.schema for name in wanted], "names": [name.name for name in wanted], "sizes": sizes}
    rows = {RelationName(row["schema_name"], row["relation_name"]): row for row in database.rows(_LOOK_UP, parameters)}
    return {name: _relation(name, rows[name]) for name in wanted}


def require(relation: Relation) -> Relation:
    """Return `relation`. Raises MissingObject if it does not exist, saying whether the schema does."""
    if not relation.exists:
        lacks = f"table {relation.name} does not exist" if relation.schema_exists else f"schema {relation.name.schema!r} does not exist"
        raise MissingObject(lacks, object_name=str(relation.name))
    return relation


def _relation(name: RelationName, row: dict[str, Any]) -> Relation:
    if row["oid"] is None:
        return Relation(name, row["schema_exists"])
    columns = {column["name"]: Column(**column) for column in row["columns"] or ()}
    leaves = tuple(_leaf(leaf) for leaf in row["leaves"] or ())
    ancestors, descendants = (frozenset(int(oid) for oid in row[key] or ()) for key in ("ancestors", "descendants"))
    return Relation(name, True, int(row["oid"]), row["relkind"], columns, _leaf(row["self"]), leaves, ancestors, descendants)


def _leaf(row: dict[str, Any]) -> Leaf:
    name = RelationName(row["nspname"], row["relname"])
    return Leaf(name, int(row["oid"]), row["relkind"], frozenset(row["privileges"]), row["hides_rows"], row["rows_estimate"], row["bytes"])


def _total(numbers: list[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known and len(known) == len(numbers) else None
