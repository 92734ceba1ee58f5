# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server does of its own accord when rows go: foreign keys, rewrite rules and triggers, as the catalogue has them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Callable, Collection, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation

# pg_constraint.confdeltype in the words of SQL.
ACTIONS = {"a": "no action", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}
_HOLDS, _REMOVES = "ar", "c"

# Of an alias, the condition for its rows; None for all.
Condition = Callable[[str], Any]

# All foreign keys that refer to the tables, and to those that a cascade reaches from there. Partitions have keys of their own, which
# are traced to the one that was written. A partition belongs to what is reached, a child by inheritance does not: the server's own
# statements say ONLY. A key that is not enforced (PostgreSQL 18) does nothing; the column is read through jsonb for older servers.
_LOOK_UP = """
WITH RECURSIVE
part(parent, oid) AS (
    SELECT i.inhparent, i.inhrelid FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent WHERE c.relkind = 'p'
),
foreign_key AS (
    SELECT k.oid, k.conparentid, k.conrelid, k.confrelid, k.confdeltype FROM pg_constraint k
    WHERE k.contype = 'f' AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
),
step(source, target) AS (
    SELECT p.parent, p.oid FROM part p
    UNION ALL
    SELECT k.confrelid, k.conrelid FROM foreign_key k WHERE k.confdeltype = 'c'
),
reached(oid) AS (
    SELECT t::oid FROM unnest(%(tables)s::bigint[]) AS t
    UNION
    SELECT s.target FROM reached r JOIN step s ON s.source = r.oid
),
lineage(oid, top, parent) AS (
    SELECT k.oid, k.oid, k.conparentid FROM foreign_key k JOIN reached r ON r.oid = k.confrelid
    UNION ALL
    SELECT l.oid, c.oid, c.conparentid FROM lineage l JOIN pg_constraint c ON c.oid = l.parent
)
SELECT (
    SELECT jsonb_agg(jsonb_build_object(
        'source', k.confrelid, 'target', k.conrelid, 'action', k.confdeltype, 'top', t.oid, 'constraint', t.conname,
        'schema', n.nspname, 'table', c.relname, 'partitioned', c.relkind = 'p',
        'other', jsonb_build_object('schema', m.nspname, 'name', d.relname), 'other_partitioned', d.relkind = 'p',
        'columns', (
            SELECT jsonb_agg(jsonb_build_array(a.attname, b.attname) ORDER BY u.place)
            FROM unnest(t.conkey, t.confkey) WITH ORDINALITY AS u(own, other, place)
            JOIN pg_attribute a ON a.attrelid = t.conrelid AND a.attnum = u.own
            JOIN pg_attribute b ON b.attrelid = t.confrelid AND b.attnum = u.other
        ),
        'compared', (
            SELECT jsonb_agg(jsonb_build_object(
                'schema', s.nspname, 'operator', o.oprname, 'usable', (
                    SELECT bool_and(has_schema_privilege(p.id, 'USAGE')) FROM unnest(ARRAY[s.oid, l.typnamespace, r.typnamespace]) AS p(id)
                ),
                'other', CASE l.typtype WHEN 'p' THEN NULL ELSE format_type(l.oid, -1) END,
                'own', CASE r.typtype WHEN 'p' THEN NULL ELSE format_type(r.oid, -1) END
            ) ORDER BY u.place)
            FROM unnest(t.conpfeqop) WITH ORDINALITY AS u(id, place)
            JOIN pg_operator o ON o.oid = u.id JOIN pg_namespace s ON s.oid = o.oprnamespace
            JOIN pg_type l ON l.oid = o.oprleft JOIN pg_type r ON r.oid = o.oprright
        ),
        'indexed', EXISTS (
            SELECT FROM pg_index x WHERE x.indrelid = t.conrelid AND x.indkey[0] = ANY (t.conkey) AND x.indisvalid AND x.indpred IS NULL
        )) ORDER BY t.conname, t.oid, k.conrelid)
    FROM foreign_key k JOIN lineage l ON l.oid = k.oid AND l.parent = 0 JOIN pg_constraint t ON t.oid = l.top
    JOIN pg_class c ON c.oid = t.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class d ON d.oid = t.confrelid JOIN pg_namespace m ON m.oid = d.relnamespace
) AS foreign_keys,
(SELECT jsonb_agg(jsonb_build_array(p.parent, p.oid)) FROM part p JOIN reached r ON r.oid = p.parent) AS parts,
(
    SELECT jsonb_agg(jsonb_build_array(w.ev_class, w.rulename, CASE w.ev_type WHEN '4' THEN 'DELETE' ELSE 'UPDATE' END) ORDER BY w.rulename)
    FROM pg_rewrite w
    WHERE w.ev_class = ANY (%(tables)s::bigint[]) AND w.ev_type IN ('2', '4') AND w.ev_enabled IN ('O', 'A')
) AS rewrites,
(
    SELECT jsonb_agg(jsonb_build_array(g.tgrelid, g.tgname, e.event) ORDER BY g.tgname)
    FROM pg_trigger g JOIN (VALUES (8, 'DELETE'), (16, 'UPDATE')) AS e(bit, event) ON g.tgtype & e.bit = e.bit
    WHERE g.tgrelid = ANY (%(tables)s::bigint[]) AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A')
) AS triggers
"""


class Comparison(NamedTuple):
    """The operator by which a foreign key finds what is referred to, and the types that it takes, as SQL writes them; None for any.

    Where the role may not use it, = has to do.
    """

    usable: bool
    schema: str
    operator: str
    other: str | None
    own: str | None

    def holds(self, sql: Any, other: Any, own: Any) -> Any:
        """Return the condition under which the value `own` refers to `other`."""
        if not self.usable:
            return sql.SQL("{} = {}").format(own, other)
        sides = [
            sql.SQL("{}::{}").format(side, sql.SQL(type_)) if type_ else side for side, type_ in ((other, self.other), (own, self.own))
        ]
        return sql.SQL("{} OPERATOR({}.{}) {}").format(sides[0], sql.Identifier(self.schema), sql.SQL(self.operator), sides[1])


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key as it was written: the `table` that has it, the `other` it refers to, the pairs of its `columns` (its own first)."""

    oid: int
    constraint: str
    table: RelationName
    partitioned: bool
    other: RelationName
    other_partitioned: bool
    action: str
    columns: tuple[tuple[str, str], ...]
    compared: tuple[Comparison, ...]
    indexed: bool

    @property
    def holds(self) -> bool:
        """True if rows that are referred to cannot go."""
        return self.action in _HOLDS

    def __str__(self) -> str:
        """Return it with what it does, as a message says it."""
        slow = ", not indexed" if self.holds and not self.indexed else ""
        return f'"{self.constraint}" of {self.table} (ON DELETE {ACTIONS[self.action].upper()}{slow})'

    def as_result(self) -> dict[str, Any]:
        """Return it as results list it."""
        return {"constraint": self.constraint, "table": str(self.table), "on_delete": ACTIONS[self.action], "indexed": self.indexed}


@dataclass(frozen=True)
class Way:
    """How the removal of a row reaches the table with the oid `target`: by `keys`, of which all but the last cascade.

    They are the fewest. `cascades` are all keys by which rows go that the last one refers to, where these are not the only ones.
    """

    keys: tuple[ForeignKey, ...]
    target: int
    cascades: tuple[ForeignKey, ...] = ()

    @property
    def followed(self) -> tuple[ForeignKey, ...]:
        """Return the keys of which the tables are read."""
        return tuple(dict.fromkeys((*self.keys, *self.cascades)))

    @property
    def last(self) -> ForeignKey:
        """Return the key that refers from the table that is reached."""
        return self.keys[-1]

    def __str__(self) -> str:
        """Return the keys in the order in which they act."""
        return ", then ".join(str(key) for key in self.keys)


@dataclass(frozen=True)
class Facts:
    """What was looked up for many tables at once: `keys` and `parts` by the oid that is referred to or divided."""

    keys: Mapping[int, Sequence[tuple[int, ForeignKey]]]
    parts: Mapping[int, Sequence[int]]
    rewrites: Sequence[tuple[int, str, str]]
    triggers: Sequence[tuple[int, str, str]]

    def ways(self, relation: Relation) -> list[Way]:
        """Return how the removal of rows of `relation` reaches other tables: one way for each table and each foreign key."""
        found: dict[tuple[int, int], Way] = {}
        visited: set[int] = set()
        waiting: list[tuple[int, tuple[ForeignKey, ...]]] = [(oid, ()) for oid in tables_of(relation)]
        while waiting:
            oid, keys = waiting.pop(0)
            if oid in visited:
                continue
            visited.add(oid)
            waiting += [(part, keys) for part in self.parts.get(oid, ())]
            for target, key in self.keys.get(oid, ()):
                way = found.setdefault((key.oid, target), Way((*keys, key), target))
                if key.action == _REMOVES:
                    waiting.append((target, way.keys))
        # Each partition has a way of its own, by a key that all of them share.
        leading = {oid: self._leading(oid, visited) for oid in dict.fromkeys(oid for oid, _target in found)}
        return [replace(way, cascades=_others(way, leading[way.last.oid])) for way in found.values()]

    def _leading(self, key_oid: int, visited: Collection[int]) -> tuple[ForeignKey, ...]:
        """Return the keys by which rows go along to which the key with that oid refers."""
        steps = [(oid, target, key) for oid in visited for target, key in self.keys.get(oid, ())]
        removing = [step for step in steps if step[2].action == _REMOVES]
        divided = [(oid, part) for oid in visited for part in self.parts.get(oid, ())]
        before = {oid for oid, _target, key in steps if key.oid == key_oid}
        known = 0
        while known < len(before):
            known = len(before)
            before |= {oid for oid, target, _key in removing if target in before} | {oid for oid, part in divided if part in before}
        keys = {key.oid: key for oid, target, key in removing if oid in before and target in before}
        return tuple(keys[oid] for oid in sorted(keys))

    def rewrite_rules(self, relation: Relation, event: str) -> list[str]:
        """Return the names of the rewrite rules that change an `event` (DELETE or UPDATE) on a table of `relation`."""
        return _names(self.rewrites, {leaf.oid for leaf in relation.leaves}, event)

    def triggers_on(self, relation: Relation, event: str) -> list[str]:
        """Return the names of the triggers that fire at an `event` (DELETE or UPDATE) on rows of `relation`."""
        return _names(self.triggers, {*tables_of(relation), *relation.ancestors}, event)


def tables_of(relation: Relation) -> list[int]:
    """Return the oids of the relation and of everything below it."""
    return sorted({oid for oid in (relation.oid, *relation.descendants) if oid is not None})


def look_up_references(database: Any, relations: Iterable[Relation]) -> Facts:
    """Return what the catalogue says about removals from `relations`, in one query. Raises DatabaseError."""
    wanted = {oid for relation in relations for oid in (*tables_of(relation), *relation.ancestors)}
    row = database.row(_LOOK_UP, {"tables": sorted(wanted)})
    keys: dict[int, list[tuple[int, ForeignKey]]] = {}
    for one in row["foreign_keys"] or ():
        keys.setdefault(int(one["source"]), []).append((int(one["target"]), _foreign_key(one)))
    parts: dict[int, list[int]] = {}
    for parent, oid in row["parts"] or ():
        parts.setdefault(int(parent), []).append(int(oid))
    rewrites, triggers = ([(int(oid), name, event) for oid, name, event in row[what] or ()] for what in ("rewrites", "triggers"))
    return Facts(keys, parts, rewrites, triggers)


def reached(database: Any, way: Way, row: str, condition: Condition, ends: Callable[[RelationName, str], Any]) -> Any:
    """Return the condition under which rows that fulfil `condition(alias)` are reached by `way` from the row with the alias `row`.

    Where several ways lead there, or one goes round, all are followed; not beyond rows that fulfil `ends(table, alias)`, where that is
    not None, which are asked about by themselves.
    """
    if not way.cascades:
        return _reached(database, way.keys, row, row, condition)
    sql = database.sql
    along, child, referring = f"{row}along", f"{row}child", f"{row}ref1"
    steps = []
    for key in way.cascades:
        over = ends(key.table, child)
        parts = [
            _refers(database, key, child, partial(_there, database, key, along)),
            *([sql.SQL("({}) IS NOT TRUE").format(over)] if over is not None else []),
        ]
        steps.append(_rows_of(database, key, child, parts, "{child}.tableoid AS relid, {child}.ctid AS place"))
    wanted = condition(referring)
    parts = [_refers(database, way.last, referring, partial(_there, database, way.last, along)), *([wanted] if wanted is not None else [])]
    return sql.SQL(
        "EXISTS (WITH RECURSIVE {along} (relid, place) AS (SELECT {row}.tableoid, {row}.ctid"
        " UNION SELECT step_.relid, step_.place FROM {along} CROSS JOIN LATERAL ({steps}) AS step_)"
        " SELECT FROM {along} CROSS JOIN LATERAL ({last}) AS last_)"
    ).format(
        along=sql.Identifier(along),
        row=sql.Identifier(row),
        steps=sql.SQL(" UNION ALL ").join(steps),
        last=_rows_of(database, way.last, referring, parts, ""),
    )


def _rows_of(database: Any, key: ForeignKey, alias: str, parts: Sequence[Any], columns: str) -> Any:
    """Return the query, in brackets, of `columns` of the rows with a key that fulfil all `parts`, which may name what stands before it."""
    sql = database.sql
    # OFFSET keeps it a query of its own, so that it is asked once for each row before it, by an index, whatever the planner thinks of that.
    return sql.SQL("(SELECT {columns} FROM {table} AS {alias} WHERE {parts} OFFSET 0)").format(
        columns=sql.SQL(columns).format(child=sql.Identifier(alias)),
        table=_rows_that_count(sql, key.table, key.partitioned),
        alias=sql.Identifier(alias),
        parts=sql.SQL(" AND ").join(parts),
    )


def _there(database: Any, key: ForeignKey, along: str, column: str) -> Any:
    """Return the value of a column that `key` refers to, in the row whose place is in `along`."""
    sql = database.sql
    return sql.SQL(
        "(SELECT {value} FROM {table} AS {other} WHERE {other}.ctid = {along}.place AND {other}.tableoid = {along}.relid)"
    ).format(
        value=sql.Identifier(f"{along}_other", column),
        table=_rows_that_count(sql, key.other, key.other_partitioned),
        other=sql.Identifier(f"{along}_other"),
        along=sql.Identifier(along),
    )


def _reached(database: Any, keys: Sequence[ForeignKey], row: str, source: str, condition: Condition) -> Any:
    sql = database.sql
    key, alias = keys[0], f"{row}ref{len(keys)}"
    parts = [_refers(database, key, alias, lambda column: sql.Identifier(source, column))]
    further = _reached(database, keys[1:], row, alias, condition) if keys[1:] else condition(alias)
    if further is not None:
        parts.append(further)
    table = _rows_that_count(sql, key.table, key.partitioned)
    return sql.SQL("EXISTS (SELECT FROM {} AS {} WHERE {})").format(table, sql.Identifier(alias), sql.SQL(" AND ").join(parts))


def _refers(database: Any, key: ForeignKey, alias: str, value: Callable[[str], Any]) -> Any:
    """Return the condition under which the row with `alias` refers by `key` to one that has, in each column, what `value` gives for it."""
    sql = database.sql
    # The server's own operator may find equal what = finds different, as blanks at the end of a text that refers to a char(n).
    return sql.SQL(" AND ").join(
        compared.holds(sql, value(other), sql.Identifier(alias, own)) for (own, other), compared in zip(key.columns, key.compared)
    )


def _rows_that_count(sql: Any, table: RelationName, partitioned: bool) -> Any:
    """Return what the server's own check looks at: the table alone, but every partition."""
    return sql.SQL("{}" if partitioned else "ONLY {}").format(table.identifier(sql))


def _others(way: Way, leading: Sequence[ForeignKey]) -> tuple[ForeignKey, ...]:
    """Return the keys that lead to the last one of `way`; none where it has them all, each used once."""
    return () if {key.oid for key in leading} == {key.oid for key in way.keys[:-1]} else tuple(leading)


def _foreign_key(row: Mapping[str, Any]) -> ForeignKey:
    columns = tuple((own, other) for own, other in row["columns"])
    table, other = RelationName(row["schema"], row["table"]), RelationName(**row["other"])
    compared = tuple(Comparison(**one) for one in row["compared"])
    return ForeignKey(
        int(row["top"]),
        row["constraint"],
        table,
        row["partitioned"],
        other,
        row["other_partitioned"],
        row["action"],
        columns,
        compared,
        row["indexed"],
    )


def _names(found: Iterable[tuple[int, str, str]], oids: set[int], event: str) -> list[str]:
    return sorted({name for oid, name, what in found if oid in oids and what == event})
