# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Foreign keys that change or remove rows of other tables when a row goes: nothing could bring those back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation

_CHILD = "child_"
# One that refers to a partition has a constraint of its own below that of the whole table, which is the one that counts.
_CASCADES = """
SELECT c.conname, c.conrelid::bigint AS child, c.conrelid::regclass::text AS child_name,
    n.nspname AS child_schema, r.relname AS child_table,
    c.confrelid::bigint AS parent, c.confrelid::regclass::text AS parent_name,
    ARRAY(
        SELECT pg_catalog.jsonb_build_object('column', a.attname, 'parent', p.attname, 'schema', s.nspname, 'operator', o.oprname)
        FROM ROWS FROM (pg_catalog.unnest(c.conkey), pg_catalog.unnest(c.confkey), pg_catalog.unnest(c.conpfeqop))
            WITH ORDINALITY AS k(attnum, parent_attnum, operator, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
        JOIN pg_catalog.pg_attribute p ON p.attrelid = c.confrelid AND p.attnum = k.parent_attnum
        JOIN pg_catalog.pg_operator o ON o.oid = k.operator
        JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace
        ORDER BY k.place
    ) AS pairs
FROM pg_catalog.pg_constraint c
JOIN pg_catalog.pg_class r ON r.oid = c.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
WHERE c.contype = 'f' AND c.confrelid = ANY (%s::oid[]) AND c.confdeltype IN ('c', 'n', 'd') AND c.conparentid = 0
ORDER BY c.conrelid, c.conname
"""


@dataclass(frozen=True)
class Cascade:
    """One such foreign key. `pairs`: a column of the child, the parent's that it repeats, and the operator that compares them."""

    name: str
    child: int
    child_name: str
    parent: int
    parent_name: str
    place: tuple[str, str]
    pairs: tuple[Mapping[str, str], ...]

    def none_refers(self, sql: Any, relation: Relation, alias: str) -> Any:
        """Return the condition that no row refers to the row of `relation` with that alias."""
        same = [
            sql.SQL("{} OPERATOR({}.{}) {}").format(
                sql.Identifier(alias, pair["parent"]),
                sql.Identifier(pair["schema"]),
                sql.SQL(pair["operator"]),
                sql.Identifier(_CHILD, pair["column"]),
            )
            for pair in self.pairs
        ]
        if self.parent in relation.descendants:
            same.append(sql.SQL("{}.tableoid = {}").format(sql.Identifier(alias), sql.Literal(self.parent)))
        return sql.SQL("NOT EXISTS (SELECT FROM {} AS {} WHERE {})").format(
            sql.Identifier(*self.place), sql.Identifier(_CHILD), sql.SQL(" AND ").join(same)
        )


def cascades(database: Any, relation: Relation) -> list[Cascade]:
    """Return the foreign keys by which a deletion from `relation`, or from what it is a partition of, reaches other rows."""
    oids = sorted({*([relation.oid] if relation.oid else []), *relation.ancestors, *relation.descendants})
    return [
        Cascade(
            row["conname"],
            int(row["child"]),
            row["child_name"],
            int(row["parent"]),
            row["parent_name"],
            (row["child_schema"], row["child_table"]),
            tuple(row["pairs"]),
        )
        for row in database.rows(_CASCADES, (oids,))
    ]
