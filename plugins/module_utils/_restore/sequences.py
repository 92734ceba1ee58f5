# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequences that give a table's columns their numbers, moved behind the last number there is, and never back."""

from __future__ import annotations

from typing import Any, Dict, List

from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName

# A column's identity, and those that its default names, whoever owns them.
_FEEDING = """
SELECT DISTINCT q.oid::bigint AS oid, n.nspname AS schema, q.relname AS name, a.attname AS "column", s.seqincrement AS increment
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace t ON t.oid = c.relnamespace
LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
        AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'i'
    OR d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
JOIN pg_class q ON q.relkind = 'S' AND q.oid = CASE d.deptype WHEN 'i' THEN d.objid ELSE d.refobjid END
JOIN pg_sequence s ON s.seqrelid = q.oid
JOIN pg_namespace n ON n.oid = q.relnamespace
WHERE t.nspname = %s AND c.relname = %s AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
ORDER BY 2, 3
"""


def move_forward(database: Any, table: RelationName) -> List[str]:
    """Move the sequences of `table` that would give numbers again that are there, and return their names."""
    found = database.rows(_FEEDING, (table.schema, table.name))
    return [str(RelationName(row["schema"], row["name"])) for row in found if _move(database, table, row)]


def _move(database: Any, table: RelationName, row: Dict[str, Any]) -> bool:
    sql, up = database.sql, row["increment"] > 0
    last = database.value(
        sql.SQL("SELECT {} FROM {}").format(
            sql.SQL("max({})" if up else "min({})").format(sql.Identifier(row["column"])), table.identifier(sql)
        )
    )
    name = RelationName(row["schema"], row["name"])
    state = database.row(sql.SQL("SELECT last_value, is_called FROM {}").format(name.identifier(sql)))
    following = state["last_value"] + (row["increment"] if state["is_called"] else 0)
    if last is None or (following > last if up else following < last):
        return False
    database.rows("SELECT pg_catalog.setval(%s::bigint::oid::regclass, %s)", (row["oid"], last))
    return True
