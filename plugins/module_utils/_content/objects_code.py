# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in a schema and is no relation: functions, types, operators, collations, text search."""

from __future__ import annotations

from typing import List

from ansible_collections.pgops.runbook.plugins.module_utils._content.query import Query

_SCHEMAS = "SELECT 'schemas' AS kind, quote_ident(s.nspname) AS identity, '' AS told, NULL AS code FROM space s"

_FUNCTIONS = """
SELECT 'functions' AS kind, format('%%I.%%I(%%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS identity,
    CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' WHEN 'w' THEN 'window function' ELSE '' END AS told,
    CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid)
        ELSE (SELECT concat_ws(' ', pg_get_function_result(p.oid), p.proparallel::text,
                format_type(a.aggtranstype, NULL), format_type(NULLIF(a.aggmtranstype, 0), NULL),
                a.aggsortop::regoperator::text,
                (to_jsonb(a) - '{aggfnoid,aggtranstype,aggmtranstype,aggsortop}'::text[])::text)
            FROM pg_aggregate a WHERE a.aggfnoid = p.oid) END AS code
FROM pg_proc p JOIN space s ON s.oid = p.pronamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)
    AND NOT EXISTS (  -- the constructors of a range type come and go with it
        SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
"""

_TYPES = """
SELECT 'types' AS kind, format('%%I.%%I', s.nspname, t.typname) AS identity,
    CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'r' THEN 'range' WHEN 'c' THEN 'composite' WHEN 'p' THEN 'shell'
        ELSE 'base' END AS told,
    CASE t.typtype
        WHEN 'e' THEN (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
            FROM pg_enum e WHERE e.enumtypid = t.oid)
        WHEN 'c' THEN (SELECT string_agg(
                concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                    (SELECT l.collname FROM pg_collation l WHERE l.oid = a.attcollation)), ', ' ORDER BY a.attnum)
            FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)
        WHEN 'd' THEN concat_ws(' ', format_type(t.typbasetype, t.typtypmod),
            (SELECT l.collname FROM pg_collation l WHERE l.oid = t.typcollation), CASE WHEN t.typnotnull THEN 'NOT NULL' END,
            'DEFAULT ' || coalesce(pg_get_expr(t.typdefaultbin, 0), t.typdefault),
            (SELECT string_agg(quote_ident(k.conname) || ' ' || pg_get_constraintdef(k.oid), ', '
                ORDER BY k.conname COLLATE "C") FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'))
        WHEN 'r' THEN (SELECT concat_ws(' ', format_type(r.rngsubtype, NULL), o.opcname, l.collname, r.rngcanonical::text,
                r.rngsubdiff::text, format_type((to_jsonb(r) ->> 'rngmultitypid')::oid, NULL))
            FROM pg_range r JOIN pg_opclass o ON o.oid = r.rngsubopc
            LEFT JOIN pg_collation l ON l.oid = r.rngcollation WHERE r.rngtypid = t.oid)
        ELSE concat_ws(' ', t.typlen, t.typbyval, t.typcategory, t.typispreferred, t.typdelim, t.typinput, t.typoutput, t.typreceive,
            t.typsend, t.typmodin, t.typmodout, t.typanalyze, t.typalign, t.typstorage, t.typdefault) END AS code
FROM pg_type t JOIN space s ON s.oid = t.typnamespace
LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.typtype IN ('e', 'd', 'r', 'c', 'b', 'p') AND (c.oid IS NULL OR c.relkind = 'c')
    AND t.oid IS DISTINCT FROM (SELECT e.typarray FROM pg_type e WHERE e.oid = t.typelem)
    AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_type'::regclass AND m.objid = t.oid)
"""

_OPERATORS = """
SELECT 'operators' AS kind, o.oid::regoperator::text AS identity, '' AS told,
    concat_ws(' ', o.oprcode, o.oprcom::regoperator, o.oprnegate::regoperator, o.oprrest, o.oprjoin, o.oprcanmerge, o.oprcanhash) AS code
FROM pg_operator o JOIN space s ON s.oid = o.oprnamespace
WHERE o.oprcode <> 0 AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_operator'::regclass AND m.objid = o.oid)
UNION ALL
SELECT 'operator_families', format('%%I.%%I using %%I', s.nspname, f.opfname, a.amname), '',
    concat_ws(' ',
        (SELECT string_agg(concat_ws(' ', o.amopstrategy, o.amopopr::regoperator, o.amoppurpose), ', '
            ORDER BY o.amopstrategy, o.amopopr::regoperator::text COLLATE "C") FROM pg_amop o WHERE o.amopfamily = f.oid),
        (SELECT string_agg(concat_ws(' ', p.amprocnum, p.amproc::regprocedure), ', '
            ORDER BY p.amprocnum, p.amproc::regprocedure::text COLLATE "C") FROM pg_amproc p WHERE p.amprocfamily = f.oid))
FROM pg_opfamily f JOIN space s ON s.oid = f.opfnamespace JOIN pg_am a ON a.oid = f.opfmethod
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_opfamily'::regclass AND m.objid = f.oid)
UNION ALL
SELECT 'operator_classes', format('%%I.%%I using %%I', s.nspname, c.opcname, a.amname), CASE WHEN c.opcdefault THEN 'default' END,
    concat_ws(' ', format_type(c.opcintype, NULL), format_type(NULLIF(c.opckeytype, 0), NULL), f.opfname)
FROM pg_opclass c JOIN space s ON s.oid = c.opcnamespace JOIN pg_am a ON a.oid = c.opcmethod
JOIN pg_opfamily f ON f.oid = c.opcfamily
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_opclass'::regclass AND m.objid = c.oid)
"""

_TEXT = """
SELECT 'collations' AS kind, format('%%I.%%I', s.nspname, c.collname) AS identity, '' AS told,
    (to_jsonb(c) - '{oid,collname,collnamespace,collowner,collversion,collencoding}'::text[])::text AS code
FROM pg_collation c JOIN space s ON s.oid = c.collnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_collation'::regclass AND m.objid = c.oid)
UNION ALL
SELECT 'conversions', format('%%I.%%I', s.nspname, c.conname), '',
    (to_jsonb(c) - '{oid,conname,connamespace,conowner}'::text[])::text
FROM pg_conversion c JOIN space s ON s.oid = c.connamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_conversion'::regclass AND m.objid = c.oid)
UNION ALL
SELECT 'text_search_configurations', format('%%I.%%I', s.nspname, c.cfgname), '',
    concat_ws(' ', p.prsname, (SELECT string_agg(concat_ws(' ', a.maptokentype, a.mapseqno, a.mapdict::regdictionary),
        ', ' ORDER BY a.maptokentype, a.mapseqno) FROM pg_ts_config_map a WHERE a.mapcfg = c.oid))
FROM pg_ts_config c JOIN space s ON s.oid = c.cfgnamespace JOIN pg_ts_parser p ON p.oid = c.cfgparser
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_ts_config'::regclass AND m.objid = c.oid)
UNION ALL
SELECT 'text_search_dictionaries', format('%%I.%%I', s.nspname, d.dictname), '', concat_ws(' ', t.tmplname, d.dictinitoption)
FROM pg_ts_dict d JOIN space s ON s.oid = d.dictnamespace JOIN pg_ts_template t ON t.oid = d.dicttemplate
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_ts_dict'::regclass AND m.objid = d.oid)
UNION ALL
SELECT 'text_search_parsers', format('%%I.%%I', s.nspname, p.prsname), '',
    concat_ws(' ', p.prsstart, p.prstoken, p.prsend, p.prsheadline, p.prslextype)
FROM pg_ts_parser p JOIN space s ON s.oid = p.prsnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_ts_parser'::regclass AND m.objid = p.oid)
UNION ALL
SELECT 'text_search_templates', format('%%I.%%I', s.nspname, t.tmplname), '', concat_ws(' ', t.tmplinit, t.tmpllexize)
FROM pg_ts_template t JOIN space s ON s.oid = t.tmplnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_ts_template'::regclass AND m.objid = t.oid)
"""

QUERIES: List[Query] = [Query(_SCHEMAS), Query(_FUNCTIONS), Query(_TYPES), Query(_OPERATORS), Query(_TEXT)]
