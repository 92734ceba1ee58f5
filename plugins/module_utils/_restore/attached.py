# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hangs on a table, as the statements that take it off and put it onto the table which then has the name.

The server writes the statements, with every name in full; they are read before anything is renamed, and hold after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._restore.live_table import LiveTable

# Of foreign keys, those that a partition has from its parent come and go with the parent's.
_FOREIGN_KEYS = """
SELECT format('ALTER TABLE %%I.%%I DROP CONSTRAINT %%I', n.nspname, c.relname, k.conname) AS off,
    format('ALTER TABLE %%I.%%I ADD CONSTRAINT %%I %%s', n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid))
        AS put,
    format('%%I.%%I', n.nspname, c.relname) AS referencing, format('%%I.%%I', m.nspname, r.relname) AS referenced, k.conname AS name,
    format('COMMENT ON CONSTRAINT %%I ON %%I.%%I IS %%L', k.conname, n.nspname, c.relname,
        obj_description(k.oid, 'pg_constraint')) AS said,
    obj_description(k.oid, 'pg_constraint') IS NOT NULL AS commented
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class r ON r.oid = k.confrelid
JOIN pg_namespace m ON m.oid = r.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND %(oid)s IN (k.conrelid, k.confrelid)
ORDER BY n.nspname, c.relname, k.conname
"""
_TRIGGERS = """
SELECT pg_get_triggerdef(t.oid) AS put FROM pg_trigger t WHERE t.tgrelid = %(oid)s AND NOT t.tgisinternal
UNION ALL
SELECT format('ALTER TABLE %%I.%%I %%s TRIGGER %%I', n.nspname, c.relname,
    CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, t.tgname)
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgrelid = %(oid)s AND NOT t.tgisinternal AND t.tgenabled <> 'O'
"""
_ROW_SECURITY = """
SELECT format('CREATE POLICY %%I ON %%I.%%I AS %%s FOR %%s TO %%s', p.polname, n.nspname, c.relname,
        CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
        CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
        (SELECT string_agg(CASE WHEN o = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(o)) END, ', ')
         FROM unnest(p.polroles) AS o))
    || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
    || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '') AS put
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.polrelid = %(oid)s
UNION ALL
SELECT format('ALTER TABLE %%I.%%I %%s', n.nspname, c.relname, f.flag)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
    LATERAL (VALUES (CASE WHEN c.relrowsecurity THEN 'ENABLE ROW LEVEL SECURITY' END),
        (CASE WHEN c.relforcerowsecurity THEN 'FORCE ROW LEVEL SECURITY' END)) AS f(flag)
WHERE c.oid = %(oid)s AND f.flag IS NOT NULL
"""
_GRANTS = """
SELECT format('GRANT %%s ON %%s %%I.%%I TO %%s%%s', a.privilege_type || a.columns,
    CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, n.nspname, c.relname,
    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
    CASE WHEN a.is_grantable AND a.grantee <> c.relowner THEN ' WITH GRANT OPTION' END) AS put
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT t.privilege_type, '' AS columns, t.grantee, t.is_grantable
    FROM aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) AS t
    UNION ALL
    SELECT t.privilege_type, format(' (%%I)', o.attname), t.grantee, t.is_grantable
    FROM pg_attribute o, aclexplode(o.attacl) AS t
    WHERE o.attrelid = c.oid AND NOT o.attisdropped
) AS a
WHERE c.oid = %(oid)s
"""
_GRANTED = """
SELECT DISTINCT format('REVOKE ALL ON %%s %%I.%%I FROM %%s', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
    n.nspname, c.relname,
    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END) AS off
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
    aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) AS a
WHERE c.oid = %(oid)s
"""
_VIEWS = """
SELECT DISTINCT format('CREATE OR REPLACE VIEW %%I.%%I%%s AS %%s', n.nspname, v.relname,
    ' WITH (' || (SELECT string_agg(format('%%s = %%L', split_part(o, '=', 1),
        substr(o, strpos(o, '=') + 1)), ', ') FROM unnest(v.reloptions) AS o) || ')',
    pg_get_viewdef(v.oid)) AS put
FROM pg_depend d
JOIN pg_rewrite r ON r.oid = d.objid
JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
JOIN pg_namespace n ON n.oid = v.relnamespace
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s
"""
_COMMENTS = """
SELECT format('COMMENT ON %%s IS %%L', s.thing, s.said) AS put
FROM (
    SELECT format('TABLE %%I.%%I', n.nspname, c.relname), obj_description(c.oid, 'pg_class')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %(oid)s
    UNION ALL
    SELECT format('INDEX %%I.%%I', n.nspname, i.relname), obj_description(i.oid, 'pg_class')
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
    WHERE x.indrelid = %(oid)s
    UNION ALL
    SELECT format('CONSTRAINT %%I ON %%I.%%I', k.conname, n.nspname, c.relname), obj_description(k.oid, 'pg_constraint')
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE k.conrelid = %(oid)s AND k.contype <> 'f'
    UNION ALL
    SELECT format('TRIGGER %%I ON %%I.%%I', t.tgname, n.nspname, c.relname), obj_description(t.oid, 'pg_trigger')
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE t.tgrelid = %(oid)s
    UNION ALL
    SELECT format('POLICY %%I ON %%I.%%I', p.polname, n.nspname, c.relname), obj_description(p.oid, 'pg_policy')
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE p.polrelid = %(oid)s
    UNION ALL
    SELECT format('STATISTICS %%I.%%I', n.nspname, s.stxname), obj_description(s.oid, 'pg_statistic_ext')
    FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = %(oid)s
    UNION ALL
    SELECT format('SEQUENCE %%I.%%I', n.nspname, q.relname), obj_description(q.oid, 'pg_class')
    FROM pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S'
    JOIN pg_namespace n ON n.oid = q.relnamespace
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s
        AND d.deptype = 'i'
) AS s(thing, said)
WHERE s.said IS NOT NULL
"""
_OWNER = """
SELECT format('ALTER TABLE %%I.%%I OWNER TO %%I', n.nspname, c.relname, pg_get_userbyid(c.relowner)) AS put
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %(oid)s
"""
_STATISTICS = """
SELECT s.stxname AS name, n.nspname AS schema, pg_get_statisticsobjdef(s.oid) AS put,
    format('ALTER STATISTICS %%I.%%I OWNER TO %%I', n.nspname, s.stxname, pg_get_userbyid(s.stxowner)) AS owner,
    format('ALTER STATISTICS %%I.%%I SET STATISTICS %%s', n.nspname, s.stxname,
        NULLIF((to_jsonb(s) ->> 'stxstattarget')::int, -1)) AS target,
    NULLIF((to_jsonb(s) ->> 'stxstattarget')::int, -1) IS NOT NULL AS has_target
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = %(oid)s
"""
_PUBLICATIONS = """
SELECT format('ALTER PUBLICATION %%I DROP TABLE ONLY %%I.%%I', p.pubname, n.nspname, c.relname) AS off,
    format('ALTER PUBLICATION %%I ADD TABLE ONLY %%I.%%I', p.pubname, n.nspname, c.relname){} AS put
FROM pg_publication_rel m
JOIN pg_publication p ON p.oid = m.prpubid
JOIN pg_class c ON c.oid = m.prrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE m.prrelid = %(oid)s
"""
_OF_ITS_ROWS = """
|| coalesce((SELECT ' (' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')'
    FROM pg_attribute a WHERE a.attrelid = m.prrelid AND a.attnum = ANY (m.prattrs::int2[])), '')
|| coalesce(' WHERE (' || pg_get_expr(m.prqual, m.prrelid) || ')', '')
"""
_ROWS_OF_PUBLICATIONS = 150000  # the first server whose publications may leave rows and columns out
# Which index says what a row is to replication, and by which one the table was last put in order.
_MARKS = """
SELECT format('ALTER TABLE %%I.%%I CLUSTER ON %%I', n.nspname, c.relname, i.relname) AS put
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_index x ON x.indrelid = c.oid AND x.indisclustered JOIN pg_class i ON i.oid = x.indexrelid
WHERE c.oid = %(oid)s
UNION ALL
SELECT format('ALTER TABLE %%I.%%I REPLICA IDENTITY %%s', n.nspname, c.relname,
    CASE c.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING' ELSE (
        SELECT format('USING INDEX %%I', i.relname) FROM pg_index x
        JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = c.oid AND x.indisreplident) END)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %(oid)s AND c.relreplident <> 'd'
"""
# Sequences that go with a column: `own` ones are the columns' identity, the others are taken over as they are.
_SEQUENCES = """
SELECT q.oid::bigint AS oid, n.nspname AS schema, q.relname AS name, a.attname AS "column", d.deptype = 'i' AS own,
    CASE d.deptype
        WHEN 'a' THEN format('ALTER SEQUENCE %%I.%%I OWNED BY %%I.%%I.%%I', n.nspname, q.relname, t.nspname, c.relname, a.attname)
        ELSE format('ALTER SEQUENCE %%I.%%I AS %%s INCREMENT %%s MINVALUE %%s MAXVALUE %%s START %%s CACHE %%s %%s CYCLE', n.nspname,
            q.relname, format_type(s.seqtypid, NULL), s.seqincrement, s.seqmin, s.seqmax, s.seqstart, s.seqcache,
            CASE WHEN s.seqcycle THEN '' ELSE 'NO' END)
    END AS put
FROM pg_depend d
JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S'
JOIN pg_sequence s ON s.seqrelid = q.oid
JOIN pg_namespace n ON n.oid = q.relnamespace
JOIN pg_class c ON c.oid = d.refobjid
JOIN pg_namespace t ON t.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    AND d.refobjid = %(oid)s
ORDER BY a.attnum
"""
# The table that is replaced must not go on depending on the sequences that the new one takes over.
_DEFAULTS = """
SELECT DISTINCT format('ALTER TABLE %%I.%%I ALTER COLUMN %%I DROP DEFAULT', n.nspname, c.relname, a.attname) AS off
FROM pg_attrdef f
JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum AND a.attgenerated = ''
JOIN pg_class c ON c.oid = f.adrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_depend u ON u.classid = 'pg_attrdef'::regclass AND u.objid = f.oid
    AND u.refclassid = 'pg_class'::regclass
JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = u.refobjid
    AND d.refclassid = 'pg_class'::regclass AND d.refobjid = f.adrelid AND d.deptype = 'a'
JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S'
WHERE f.adrelid = %(oid)s
"""


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key from or to the table: how it goes, how it comes back, and what it is called."""

    off: str
    put: str
    referencing: str
    referenced: str
    name: str
    comment: str | None


@dataclass(frozen=True)
class OwnedSequence:
    """A sequence that goes with a column; `own`: it is the column's identity, so that the new table has another one."""

    oid: int
    name: RelationName
    column: str
    own: bool
    put: str
    granted: Tuple[str, ...]


@dataclass(frozen=True)
class Statistics:
    """Extended statistics: its name, and the statements that make it anew."""

    name: RelationName
    put: Tuple[str, ...]


@dataclass(frozen=True)
class Attached:
    """Everything that hangs on a table: `off` takes it off the old one, the rest puts it onto the new one, which has the name then."""

    foreign_keys: Tuple[ForeignKey, ...]
    off: Tuple[str, ...]
    owner: Tuple[str, ...]
    put: Tuple[str, ...]
    views: Tuple[str, ...]
    grants: Tuple[str, ...]
    comments: Tuple[str, ...]
    sequences: Tuple[OwnedSequence, ...]
    statistics: Tuple[Statistics, ...]


def read_attached(database: Any, live: LiveTable) -> Attached:
    """Return what hangs on the table `live` now."""

    def texts(query: Any, key: str = "put", oid: int = live.oid) -> Tuple[str, ...]:
        return tuple(row[key] for row in database.rows(query, {"oid": oid}))

    publications = database.sql.SQL(_PUBLICATIONS).format(
        database.sql.SQL(_OF_ITS_ROWS if database.server_version >= _ROWS_OF_PUBLICATIONS else "")
    )
    return Attached(
        foreign_keys=tuple(
            ForeignKey(
                row["off"], row["put"], row["referencing"], row["referenced"], row["name"], row["said"] if row["commented"] else None
            )
            for row in database.rows(_FOREIGN_KEYS, {"oid": live.oid})
        ),
        off=(*texts(publications, "off"), *texts(_DEFAULTS, "off")),
        owner=texts(_OWNER),
        put=(*texts(_TRIGGERS), *texts(_ROW_SECURITY), *texts(_MARKS), *texts(publications)),
        views=texts(_VIEWS),
        grants=texts(_GRANTS),
        comments=texts(_COMMENTS),
        sequences=tuple(
            OwnedSequence(
                row["oid"],
                RelationName(row["schema"], row["name"]),
                row["column"],
                row["own"],
                row["put"],
                texts(_GRANTS, oid=row["oid"]) if row["own"] else (),
            )
            for row in database.rows(_SEQUENCES, {"oid": live.oid})
        ),
        statistics=tuple(_statistics(row) for row in database.rows(_STATISTICS, {"oid": live.oid})),
    )


def sequences_of(database: Any, oid: int) -> Dict[str, RelationName]:
    """Return the sequences that are the identity of columns of the table `oid`, by column."""
    rows = database.rows(_SEQUENCES, {"oid": oid})
    return {row["column"]: RelationName(row["schema"], row["name"]) for row in rows if row["own"]}


def revoke_everything(database: Any, oid: int) -> None:
    """Take every privilege on a table or sequence from everybody: what a new one has by default is not what the old one had."""
    for row in database.rows(_GRANTED, {"oid": oid}):
        database.execute(row["off"])


def _statistics(row: Mapping[str, Any]) -> Statistics:
    return Statistics(RelationName(row["schema"], row["name"]), (row["put"], row["owner"], *([row["target"]] if row["has_target"] else [])))
