# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a schema, and what outside of it depends on that and would go on using the schema that is replaced."""

from __future__ import annotations

from typing import Any, List

from ansible_collections.pgops.runbook.plugins.module_utils._errors import Refused
from ansible_collections.pgops.runbook.plugins.module_utils._first_few import names_in_words

_EMPTY = """
SELECT NOT EXISTS (
    SELECT FROM pg_depend d JOIN pg_namespace n ON n.oid = d.refobjid
    WHERE d.refclassid = 'pg_namespace'::regclass AND n.nspname = %s AND d.deptype <> 'e'
        AND d.classid <> 'pg_default_acl'::regclass)
"""
_TABLES = """
SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind = ANY (%s::"char"[]) ORDER BY c.relname
"""
# `home` is the schema of a dependent object, or of the table that it belongs to. What has none belongs to the database.
_OUTSIDE = """
WITH here AS (
    SELECT n.oid FROM pg_namespace n WHERE n.nspname = %(schema)s
), member AS (
    SELECT 'pg_class'::regclass AS class, c.oid FROM pg_class c JOIN here h ON h.oid = c.relnamespace
    UNION ALL SELECT 'pg_proc'::regclass, p.oid FROM pg_proc p JOIN here h ON h.oid = p.pronamespace
    UNION ALL SELECT 'pg_type'::regclass, t.oid FROM pg_type t JOIN here h ON h.oid = t.typnamespace
    UNION ALL SELECT 'pg_operator'::regclass, o.oid FROM pg_operator o JOIN here h ON h.oid = o.oprnamespace
    UNION ALL SELECT 'pg_collation'::regclass, l.oid FROM pg_collation l JOIN here h ON h.oid = l.collnamespace
    UNION ALL SELECT 'pg_ts_config'::regclass, f.oid FROM pg_ts_config f JOIN here h ON h.oid = f.cfgnamespace
    UNION ALL SELECT 'pg_opclass'::regclass, k.oid FROM pg_opclass k JOIN here h ON h.oid = k.opcnamespace
), dependent AS (
    SELECT DISTINCT d.classid, d.objid,
        CASE d.classid
            WHEN 'pg_class'::regclass THEN (SELECT c.relnamespace FROM pg_class c WHERE c.oid = d.objid)
            WHEN 'pg_proc'::regclass THEN (SELECT p.pronamespace FROM pg_proc p WHERE p.oid = d.objid)
            WHEN 'pg_type'::regclass THEN (SELECT t.typnamespace FROM pg_type t WHERE t.oid = d.objid)
            WHEN 'pg_operator'::regclass THEN (SELECT o.oprnamespace FROM pg_operator o WHERE o.oid = d.objid)
            WHEN 'pg_opclass'::regclass THEN (SELECT k.opcnamespace FROM pg_opclass k WHERE k.oid = d.objid)
            WHEN 'pg_opfamily'::regclass THEN (SELECT f.opfnamespace FROM pg_opfamily f WHERE f.oid = d.objid)
            WHEN 'pg_constraint'::regclass THEN (SELECT k.connamespace FROM pg_constraint k WHERE k.oid = d.objid)
            WHEN 'pg_statistic_ext'::regclass THEN (SELECT s.stxnamespace FROM pg_statistic_ext s WHERE s.oid = d.objid)
            ELSE (SELECT c.relnamespace FROM pg_class c WHERE c.oid = coalesce(
                (SELECT f.adrelid FROM pg_attrdef f WHERE d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid),
                (SELECT r.ev_class FROM pg_rewrite r WHERE d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid),
                (SELECT g.tgrelid FROM pg_trigger g WHERE d.classid = 'pg_trigger'::regclass AND g.oid = d.objid),
                (SELECT p.polrelid FROM pg_policy p WHERE d.classid = 'pg_policy'::regclass AND p.oid = d.objid)))
        END AS home
    FROM member m JOIN pg_depend d ON d.refclassid = m.class AND d.refobjid = m.oid
    WHERE d.classid <> ALL (ARRAY['pg_amop', 'pg_amproc']::regclass[])
)
SELECT pg_describe_object(d.classid, d.objid, 0) AS what
FROM dependent d CROSS JOIN here h
WHERE d.home IS DISTINCT FROM h.oid AND d.home IS DISTINCT FROM 'pg_toast'::regnamespace
    AND NOT (d.classid = 'pg_trigger'::regclass
        AND EXISTS (SELECT FROM pg_trigger g WHERE g.oid = d.objid AND g.tgisinternal))
UNION
SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend d JOIN here h ON h.oid = d.refobjid
WHERE d.refclassid = 'pg_namespace'::regclass AND d.classid = to_regclass('pg_publication_namespace')
UNION
SELECT 'extension ' || quote_ident(e.extname)
FROM pg_extension e CROSS JOIN here h
WHERE e.extnamespace = h.oid OR EXISTS (
    SELECT FROM pg_depend d JOIN member m ON d.classid = m.class AND d.objid = m.oid WHERE d.deptype = 'e' AND d.refobjid = e.oid)
ORDER BY what
"""


def is_empty(database: Any, schema: str) -> bool:
    """Say whether nothing but what extensions brought is in a schema."""
    return bool(database.value(_EMPTY, (schema,)))


def tables_in_schema(database: Any, schema: str, *, lockable: bool = False) -> List[str]:
    """Return the names of the tables in a schema, and of its materialized views unless it is for locking them."""
    return [row["name"] for row in database.rows(_TABLES, (schema, ["r", "p"] if lockable else ["r", "p", "m"]))]


def require_separate(database: Any, schema: str, called: str | None = None) -> None:
    """Raise Refused where something outside of the schema depends on something in it: it would stay with the old one, or go with it.

    `called` is the name that the schema has at the moment, where that is another one.
    """
    found = [row["what"] for row in database.rows(_OUTSIDE, {"schema": called or schema})]
    if not found:
        return
    raise Refused(
        f"schema {schema}: {names_in_words(found)} outside of it would go on using what is replaced",
        object_name=schema,
        hint="Restore its tables with mode=tables, which takes along what depends on them, or the database with mode=new or swap.",
    )
