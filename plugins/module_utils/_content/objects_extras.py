# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comments and security labels."""

from __future__ import annotations

from typing import List

from ansible_collections.pgops.runbook.plugins.module_utils._content.query import Query

_ON_RELATIONS = """
, part AS (
    SELECT 'pg_class'::regclass AS class, c.oid, c.name, NULL AS detail FROM relation c
    UNION ALL
    SELECT 'pg_class'::regclass, x.indexrelid, c.name, format('index %%I', i.relname)
    FROM relation c JOIN pg_index x ON x.indrelid = c.oid JOIN pg_class i ON i.oid = x.indexrelid
    WHERE x.indisvalid AND x.indisready OR i.relkind = 'I'
    UNION ALL
    SELECT 'pg_constraint'::regclass, k.oid, c.name, format('constraint %%I', k.conname)
    FROM relation c JOIN pg_constraint k ON k.conrelid = c.oid
    UNION ALL
    SELECT 'pg_trigger'::regclass, t.oid, c.name, format('trigger %%I', t.tgname)
    FROM relation c JOIN pg_trigger t ON t.tgrelid = c.oid
    UNION ALL
    SELECT 'pg_rewrite'::regclass, r.oid, c.name, format('rule %%I', r.rulename)
    FROM relation c JOIN pg_rewrite r ON r.ev_class = c.oid
    UNION ALL
    SELECT 'pg_policy'::regclass, p.oid, c.name, format('policy %%I', p.polname)
    FROM relation c JOIN pg_policy p ON p.polrelid = c.oid
    UNION ALL
    SELECT 'pg_statistic_ext'::regclass, s.oid, c.name, format('statistics object %%I', s.stxname)
    FROM relation c JOIN pg_statistic_ext s ON s.stxrelid = c.oid
)
SELECT 'comments' AS kind,
    concat_ws(' ', p.name, p.detail, (SELECT format('column %%I', a.attname) FROM pg_attribute a
        WHERE d.objsubid > 0 AND a.attrelid = d.objoid AND a.attnum = d.objsubid)) AS identity,
    d.description AS told, NULL AS code
FROM part p JOIN pg_description d ON d.classoid = p.class AND d.objoid = p.oid
"""

_IN_SCHEMAS = """
SELECT 'comments' AS kind, o.type || ' ' || o.identity AS identity, d.description AS told, NULL AS code
FROM pg_description d, LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) AS o
WHERE d.objoid >= 16384 AND NOT d.classoid = ANY (ARRAY['pg_trigger', 'pg_rewrite', 'pg_policy',
        'pg_statistic_ext']::regclass[])
    AND NOT (d.classoid = 'pg_class'::regclass
        AND EXISTS (SELECT FROM pg_class c WHERE c.oid = d.objoid AND c.relkind <> 'c'))
    AND NOT (d.classoid = 'pg_constraint'::regclass
        AND EXISTS (SELECT FROM pg_constraint k WHERE k.oid = d.objoid AND k.conrelid <> 0))
    AND (o.schema IN (SELECT quote_ident(s.nspname) FROM space s)
        OR d.classoid = 'pg_constraint'::regclass)
    AND NOT EXISTS (SELECT FROM member m WHERE m.classid = d.classoid AND m.objid = d.objoid)
UNION ALL
SELECT 'comments', 'schema ' || quote_ident(s.nspname), d.description, NULL
FROM space s JOIN pg_description d ON d.classoid = 'pg_namespace'::regclass AND d.objoid = s.oid
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = d.classoid AND m.objid = d.objoid)
"""

_IN_DATABASE = """
SELECT 'comments' AS kind, o.type || ' ' || o.identity AS identity, d.description AS told, NULL AS code
FROM pg_description d, LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) AS o
WHERE (d.objoid >= 16384 AND d.classoid = ANY (ARRAY['pg_event_trigger', 'pg_publication',
            'pg_language', 'pg_cast', 'pg_foreign_data_wrapper', 'pg_foreign_server',
            'pg_am', 'pg_transform', 'pg_largeobject']::regclass[])
        OR d.classoid = 'pg_extension'::regclass)
    AND NOT EXISTS (SELECT FROM member m WHERE m.classid = d.classoid AND m.objid = d.objoid)
UNION ALL
SELECT 'security_labels', concat_ws(' ', l.objtype, l.objname, 'by', l.provider), l.label, NULL
FROM pg_seclabels l
WHERE l.objtype NOT IN ('database', 'role', 'tablespace')
"""

OF_RELATIONS: List[Query] = [Query(_ON_RELATIONS)]
OF_SCHEMAS: List[Query] = [Query(_IN_SCHEMAS)]
OF_DATABASE: List[Query] = [Query(_IN_DATABASE)]
