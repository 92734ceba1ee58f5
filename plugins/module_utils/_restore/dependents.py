# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What depends on a table and cannot be put onto the one that takes its place."""

from __future__ import annotations

from typing import Any, List

from ansible_collections.pgops.runbook.plugins.module_utils._errors import Refused
from ansible_collections.pgops.runbook.plugins.module_utils._first_few import names_in_words
from ansible_collections.pgops.runbook.plugins.module_utils._restore.live_table import LiveTable

# Everything that the catalogue says to depend on the table or on its type of row, but for what is made anew with it or put onto the new
# one: its own defaults, constraints, indexes, triggers, policies and statistics, foreign keys to it, its sequences, views, publications.
_OTHERS = """
WITH depends AS (
    SELECT DISTINCT d.classid, d.objid
    FROM pg_class c
    LEFT JOIN pg_type w ON w.oid = c.reltype
    JOIN pg_depend d ON (d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid)
        OR (d.refclassid = 'pg_type'::regclass AND d.refobjid IN (w.oid, w.typarray))
    WHERE c.oid = %(oid)s AND d.deptype <> 'p'
)
SELECT CASE WHEN v.relkind = 'm' THEN format('the materialized view %%I.%%I', n.nspname, v.relname)
    WHEN v.oid = %(oid)s THEN format('its rule %%I', r.rulename)
    ELSE pg_describe_object(d.classid, d.objid, 0) END AS what
FROM depends d
LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
LEFT JOIN pg_class v ON v.oid = r.ev_class
LEFT JOIN pg_namespace n ON n.oid = v.relnamespace
WHERE NOT CASE d.classid
    WHEN 'pg_class'::regclass THEN EXISTS (
        SELECT FROM pg_class o WHERE o.oid = d.objid AND (o.relkind IN ('i', 't', 'S') OR o.oid = %(oid)s))
    WHEN 'pg_type'::regclass THEN EXISTS (
        SELECT FROM pg_type t JOIN pg_class c ON c.oid = %(oid)s
        WHERE t.oid = d.objid AND (t.oid = c.reltype OR t.typelem = c.reltype AND t.typtype = 'b'))
    WHEN 'pg_attrdef'::regclass THEN EXISTS (
        SELECT FROM pg_attrdef f WHERE f.oid = d.objid AND f.adrelid = %(oid)s)
    WHEN 'pg_constraint'::regclass THEN EXISTS (
        SELECT FROM pg_constraint k WHERE k.oid = d.objid AND (k.conrelid = %(oid)s OR k.contype = 'f'))
    WHEN 'pg_trigger'::regclass THEN EXISTS (
        SELECT FROM pg_trigger g WHERE g.oid = d.objid AND (g.tgrelid = %(oid)s OR g.tgisinternal))
    WHEN 'pg_policy'::regclass THEN EXISTS (
        SELECT FROM pg_policy p WHERE p.oid = d.objid AND p.polrelid = %(oid)s)
    WHEN 'pg_statistic_ext'::regclass THEN EXISTS (
        SELECT FROM pg_statistic_ext s WHERE s.oid = d.objid AND s.stxrelid = %(oid)s)
    WHEN 'pg_publication_rel'::regclass THEN true
    WHEN 'pg_rewrite'::regclass THEN v.relkind = 'v' AND r.rulename = '_RETURN'
    ELSE false END
UNION ALL
SELECT format('its rule %%I', r.rulename) FROM pg_rewrite r WHERE r.ev_class = %(oid)s
UNION ALL
SELECT format('its index %%I, which is not valid', i.relname)
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = %(oid)s AND NOT x.indisvalid
UNION ALL
SELECT format('a security label of %%s', l.provider) FROM pg_seclabel l
WHERE l.classoid = 'pg_class'::regclass AND l.objoid = %(oid)s
ORDER BY what
"""


def require_carried(database: Any, live: LiveTable) -> None:
    """Raise Refused where something hangs on the table `live` that cannot be put onto another one, and name it."""
    others: List[str] = list(dict.fromkeys(row["what"] for row in database.rows(_OTHERS, {"oid": live.oid})))
    if not others:
        return
    raise Refused(
        f"table {live.name}: {names_in_words(others)} would stay with the table that is replaced",
        object_name=str(live.name),
        hint="Drop that for as long as the restore takes, copy rows with how=missing_rows, or restore mode=new.",
    )
