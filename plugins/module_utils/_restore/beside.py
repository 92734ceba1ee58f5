# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new table beside a live one, under a hidden name: made like it, and given its indexes once the rows are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._content.session import set_here
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Refused
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._restore.databases import hidden_name
from ansible_collections.pgops.runbook.plugins.module_utils._restore.live_table import LiveTable
from ansible_collections.pgops.runbook.plugins.module_utils._restore.staging import drop_unchecked, unchecked

# What LIKE leaves out: of the table, how and where it is stored.
_STORED = """
SELECT c.relpersistence = 'u' AS unlogged,
    coalesce(' USING ' || (SELECT quote_ident(m.amname) FROM pg_am m WHERE m.oid = c.relam), '')
    || coalesce(' WITH (' || (
        SELECT string_agg(format('%%s = %%L', split_part(o, '=', 1),
            substr(o, strpos(o, '=') + 1)), ', ')
        FROM (SELECT unnest(c.reloptions) UNION ALL SELECT 'toast.' || unnest(t.reloptions)) AS s(o)) || ')', '')
    || coalesce(' TABLESPACE ' || (SELECT quote_ident(s.spcname) FROM pg_tablespace s WHERE s.oid = c.reltablespace), '')
    AS words
FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
WHERE c.oid = %(oid)s
"""
# Of its columns, how they are analyzed.
_ANALYZED = """
SELECT a.attname AS name, NULLIF(a.attstattarget, -1) AS target,
    (SELECT string_agg(format('%%s = %%L', split_part(o, '=', 1),
        substr(o, strpos(o, '=') + 1)), ', ') FROM unnest(a.attoptions) AS o) AS options
FROM pg_attribute a
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
    AND (NULLIF(a.attstattarget, -1) IS NOT NULL OR a.attoptions IS NOT NULL)
"""
# `definition` is what follows the table's name in CREATE INDEX; it is NULL where the server writes that otherwise than is known here.
_INDEXES = """
SELECT i.relname AS name, x.indisunique AS is_unique, k.contype AS kind, pg_get_constraintdef(k.oid) AS said,
    coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false) OR k.contype = 'x' AS as_constraint,
    CASE WHEN k.condeferrable THEN ' DEFERRABLE' ELSE '' END || CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END AS deferred,
    CASE WHEN starts_with(d.text, d.beginning) THEN substr(d.text, length(d.beginning) + 1) END AS definition,
    coalesce((SELECT s.spcname FROM pg_tablespace s WHERE s.oid = i.reltablespace), '') AS tablespace,
    (SELECT string_agg(format('%%s = %%L', split_part(o, '=', 1),
        substr(o, strpos(o, '=') + 1)), ', ') FROM unnest(i.reloptions) AS o) AS options,
    (SELECT jsonb_object_agg(a.attnum, a.attstattarget) FROM pg_attribute a
     WHERE a.attrelid = i.oid AND NULLIF(a.attstattarget, -1) IS NOT NULL) AS targets
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_class c ON c.oid = x.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_constraint k ON k.conindid = i.oid AND k.conrelid = c.oid AND k.contype IN ('p', 'u', 'x')
CROSS JOIN LATERAL (SELECT pg_get_indexdef(i.oid) AS text, format('CREATE %%sINDEX %%I ON %%I.%%I USING ',
    CASE WHEN x.indisunique THEN 'UNIQUE ' END, i.relname, n.nspname, c.relname) AS beginning) AS d
WHERE x.indrelid = %(oid)s
ORDER BY x.indisprimary DESC, i.oid
"""
_CONSTRAINTS = {"p": "PRIMARY KEY", "u": "UNIQUE"}


@dataclass(frozen=True)
class Beside:
    """The new table: its hidden name, and those of its indexes by the name of the live table's index that each stands for."""

    live: LiveTable
    name: RelationName
    indexes: Mapping[str, str]


def make_beside(database: Any, live: LiveTable) -> RelationName:
    """Make an empty table like `live` in its schema, without indexes, and return its name. Nobody else sees it before the commit."""
    sql, name = database.sql, RelationName(live.name.schema, hidden_name())
    stored = database.row(_STORED, {"oid": live.oid})
    database.execute(
        sql.SQL("CREATE {}TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES EXCLUDING STATISTICS){}").format(
            sql.SQL("UNLOGGED " if stored["unlogged"] else ""), name.identifier(sql), live.name.identifier(sql), sql.SQL(stored["words"])
        )
    )
    drop_unchecked(database, live, name)
    return name


def finish_beside(database: Any, live: LiveTable, name: RelationName) -> Beside:
    """Give the new table, which has its rows, the indexes of `live`, and statistics. Raises DatabaseError, Refused."""
    indexes: Dict[str, str] = {}
    before = database.value("SELECT pg_catalog.current_setting('default_tablespace')")
    for index in database.rows(_INDEXES, {"oid": live.oid}):
        indexes[index["name"]] = hidden_name()
        set_here(database, "default_tablespace", index["tablespace"])
        _make_index(database, live, name, index, indexes[index["name"]])
    set_here(database, "default_tablespace", before)
    for row in unchecked(database, live):
        statement = database.sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}")
        database.execute(
            statement.format(name.identifier(database.sql), database.sql.Identifier(row["name"]), database.sql.SQL(row["said"]))
        )
    _analyze(database, live, name)
    return Beside(live, name, indexes)


def _make_index(database: Any, live: LiveTable, name: RelationName, index: Mapping[str, Any], hidden: str) -> None:
    sql = database.sql
    table, called = name.identifier(sql), sql.Identifier(hidden)
    place = RelationName(name.schema, hidden).identifier(sql)
    if index["as_constraint"]:
        database.execute(sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(table, called, sql.SQL(index["said"])))
        if index["options"]:
            database.execute(sql.SQL("ALTER INDEX {} SET ({})").format(place, sql.SQL(index["options"])))
    else:
        if index["definition"] is None:
            raise Refused(
                f"table {live.name}: how its index {index['name']} is made anew is not known here",
                object_name=str(live.name),
                hint="Drop it for as long as the restore takes, or restore mode=new.",
            )
        unique = sql.SQL("UNIQUE " if index["is_unique"] else "")
        database.execute(sql.SQL("CREATE {}INDEX {} ON {} USING {}").format(unique, called, table, sql.SQL(index["definition"])))
        if index["kind"]:
            database.execute(
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} USING INDEX {}{}").format(
                    table, called, sql.SQL(_CONSTRAINTS[index["kind"]]), called, sql.SQL(index["deferred"])
                )
            )
    for number, target in sorted((index["targets"] or {}).items(), key=lambda pair: int(pair[0])):
        database.execute(
            sql.SQL("ALTER INDEX {} ALTER COLUMN {} SET STATISTICS {}").format(place, sql.Literal(int(number)), sql.Literal(target))
        )


def _analyze(database: Any, live: LiveTable, name: RelationName) -> None:
    sql, table = database.sql, name.identifier(database.sql)
    changes: List[Any] = []
    for column in database.rows(_ANALYZED, {"oid": live.oid}):
        here = sql.Identifier(column["name"])
        if column["target"] is not None:
            changes.append(sql.SQL("ALTER COLUMN {} SET STATISTICS {}").format(here, sql.Literal(column["target"])))
        if column["options"]:
            changes.append(sql.SQL("ALTER COLUMN {} SET ({})").format(here, sql.SQL(column["options"])))
    if changes:
        database.execute(sql.SQL("ALTER TABLE {} {}").format(table, sql.SQL(", ").join(changes)))
    database.execute(sql.SQL("ANALYZE {}").format(table))
