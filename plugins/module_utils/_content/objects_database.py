# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in no schema: extensions, event triggers, publications, casts, languages, foreign servers."""

from __future__ import annotations

from typing import List

from ansible_collections.pgops.runbook.plugins.module_utils._content.query import Choice, Query

# pg_dump says CREATE EXTENSION without a version, so that the version is no part of the definition.
_EXTENSIONS = """
SELECT 'extensions' AS kind, quote_ident(e.extname) AS identity,
    CASE WHEN n.nspname <> 'pg_catalog' THEN 'in schema ' || quote_ident(n.nspname) END AS told, NULL AS code
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
UNION ALL
SELECT 'extension_versions', quote_ident(e.extname), e.extversion, NULL FROM pg_extension e
"""

_EVENT_TRIGGERS = """
SELECT 'event_triggers' AS kind, quote_ident(t.evtname) AS identity,
    CASE t.evtenabled WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'on replicas only' WHEN 'A' THEN 'always' ELSE '' END AS told,
    concat_ws(' ', t.evtevent, t.evttags::text, t.evtfoid::regprocedure) AS code
FROM pg_event_trigger t
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_event_trigger'::regclass AND m.objid = t.oid)
"""

_PUBLICATIONS = """
SELECT 'publications' AS kind, quote_ident(p.pubname) AS identity, '' AS told,
    (to_jsonb(p) - '{oid,pubname,pubowner}'::text[])::text AS code
FROM pg_publication p
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_publication'::regclass AND m.objid = p.oid)
"""

_PUBLISHED_TABLES = Query(
    """
SELECT 'publication_tables' AS kind, c.name || ' ' || quote_ident(p.pubname) AS identity, '' AS told,
    concat_ws(' ',
        (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname COLLATE "C")
         FROM pg_attribute a
         WHERE a.attrelid = c.oid AND to_jsonb(r) -> 'prattrs' @> to_jsonb(a.attnum)),
        {filter}) AS code
FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid JOIN relation c ON c.oid = r.prrelid
""",
    (Choice("filter", "pg_publication_rel.prqual", "pg_get_expr(r.prqual, c.oid)", "NULL"),),
)

_PUBLISHED_SCHEMAS = """
SELECT 'publication_schemas' AS kind, quote_ident(p.pubname) || ' ' || quote_ident(s.nspname) AS identity, '' AS told,
    NULL AS code
FROM pg_publication_namespace r JOIN pg_publication p ON p.oid = r.pnpubid JOIN space s ON s.oid = r.pnnspid
"""

# Only a superuser's dump has them; their connections, which may hold passwords, are not looked at.
_SUBSCRIPTIONS = """
SELECT 'subscriptions' AS kind, quote_ident(s.subname) AS identity, array_to_string(s.subpublications, ', ') AS told, NULL AS code
FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE d.datname = current_database() AND current_setting('is_superuser') = 'on'
"""

# 16384 is the first number of an object that initdb has not made.
_LANGUAGES = """
SELECT 'casts' AS kind,
    format('from %%s to %%s', format_type(c.castsource, NULL), format_type(c.casttarget, NULL)) AS identity,
    '' AS told, concat_ws(' ', c.castfunc::regprocedure, c.castcontext, c.castmethod) AS code
FROM pg_cast c
WHERE c.oid >= 16384 AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_cast'::regclass AND m.objid = c.oid)
    AND NOT EXISTS (  -- a range type's, to its multirange
        SELECT FROM pg_depend d WHERE d.classid = 'pg_cast'::regclass AND d.objid = c.oid AND d.deptype = 'i')
UNION ALL
SELECT 'languages', quote_ident(l.lanname), CASE WHEN l.lanpltrusted THEN 'trusted' END,
    concat_ws(' ', l.lanplcallfoid::regprocedure, l.laninline::regprocedure, l.lanvalidator::regprocedure)
FROM pg_language l
WHERE l.oid >= 16384 AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_language'::regclass AND m.objid = l.oid)
UNION ALL
SELECT 'access_methods', quote_ident(a.amname), '', concat_ws(' ', a.amtype, a.amhandler)
FROM pg_am a
WHERE a.oid >= 16384 AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_am'::regclass AND m.objid = a.oid)
UNION ALL
SELECT 'transforms', format('for %%s language %%I', format_type(t.trftype, NULL), l.lanname), '',
    concat_ws(' ', t.trffromsql, t.trftosql)
FROM pg_transform t JOIN pg_language l ON l.oid = t.trflang
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_transform'::regclass AND m.objid = t.oid)
"""

_FOREIGN = """
SELECT 'foreign_data_wrappers' AS kind, quote_ident(f.fdwname) AS identity, '' AS told,
    concat_ws(' ', f.fdwhandler::regproc, f.fdwvalidator::regproc, f.fdwoptions::text) AS code
FROM pg_foreign_data_wrapper f
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_foreign_data_wrapper'::regclass AND m.objid = f.oid)
UNION ALL
SELECT 'foreign_servers', quote_ident(s.srvname), '', concat_ws(' ', f.fdwname, s.srvtype, s.srvversion, s.srvoptions::text)
FROM pg_foreign_server s JOIN pg_foreign_data_wrapper f ON f.oid = s.srvfdw
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_foreign_server'::regclass AND m.objid = s.oid)
UNION ALL
SELECT 'user_mappings', format('%%I for %%s', u.srvname, quote_ident(u.usename)), '', NULL
FROM pg_user_mappings u
"""

QUERIES: List[Query] = [
    Query(_EXTENSIONS),
    Query(_EVENT_TRIGGERS),
    Query(_PUBLICATIONS),
    _PUBLISHED_TABLES,
    Query(_PUBLISHED_SCHEMAS, needs="pg_publication_namespace.pnpubid"),
    Query(_SUBSCRIPTIONS),
    Query(_LANGUAGES),
    Query(_FOREIGN),
]
