# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who owns what, and one row for every privilege that somebody has, whether it is written down or the server's default."""

from __future__ import annotations

from typing import List

from ansible_collections.pgops.runbook.plugins.module_utils._content.query import Query

# Each privilege that is not the server's default for such an object, and each of the default that is not there.
_DIFFER = """
, entry AS (
    SELECT h.kind, h.name, h.detail, a.privilege_type, a.grantee, 'to' AS word, bool_or(a.is_grantable) AS grantable
    FROM holder h, aclexplode(h.acl) AS a
    GROUP BY h.kind, h.name, h.detail, a.privilege_type, a.grantee
    EXCEPT
    SELECT h.kind, h.name, h.detail, a.privilege_type, a.grantee, 'to', a.is_grantable FROM holder h, aclexplode(h.usual) AS a
    UNION ALL
    (SELECT h.kind, h.name, h.detail, a.privilege_type, a.grantee, 'revoked from', false FROM holder h, aclexplode(h.usual) AS a
    EXCEPT
    SELECT h.kind, h.name, h.detail, a.privilege_type, a.grantee, 'revoked from', false FROM holder h, aclexplode(h.acl) AS a)
)
SELECT e.kind, concat_ws(' ', e.name, e.privilege_type, e.detail, e.word,
        CASE WHEN e.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(e.grantee)) END) AS identity,
    CASE WHEN e.grantable THEN 'with grant option' END AS told, NULL AS code
FROM entry e
"""
_OWNERS_OF_RELATIONS = """
SELECT 'owners' AS kind, c.name AS identity, pg_get_userbyid(c.relowner)::text AS told, NULL AS code FROM relation c
"""
_GRANTS_ON_RELATIONS = """
, holder AS (
    SELECT 'grants' AS kind, c.name, NULL AS detail, c.relacl AS acl,
        acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner) AS usual
    FROM relation c WHERE c.relacl IS NOT NULL
    UNION ALL
    SELECT 'grants', c.name, format('on column %%I', t.attname), t.attacl, NULL
    FROM relation c JOIN pg_attribute t ON t.attrelid = c.oid
    WHERE t.attacl IS NOT NULL AND NOT t.attisdropped
)
"""

_OWNERS_IN_SCHEMAS = """
, owned AS (
    SELECT 'schema ' || quote_ident(s.nspname) AS name, 'pg_namespace'::regclass AS class, s.oid, s.nspowner AS owner
    FROM space s
    UNION ALL
    SELECT format('function %%I.%%I(%%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
        'pg_proc'::regclass, p.oid, p.proowner
    FROM pg_proc p JOIN space s ON s.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
    UNION ALL
    SELECT format('type %%I.%%I', s.nspname, t.typname), 'pg_type'::regclass, t.oid, t.typowner
    FROM pg_type t JOIN space s ON s.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE t.typtype IN ('e', 'd', 'r', 'c', 'b') AND (c.oid IS NULL OR c.relkind = 'c')
        AND t.oid IS DISTINCT FROM (SELECT e.typarray FROM pg_type e WHERE e.oid = t.typelem)
    UNION ALL
    SELECT format('collation %%I.%%I', s.nspname, c.collname), 'pg_collation'::regclass, c.oid, c.collowner
    FROM pg_collation c JOIN space s ON s.oid = c.collnamespace
    UNION ALL
    SELECT 'operator ' || o.oid::regoperator::text, 'pg_operator'::regclass, o.oid, o.oprowner
    FROM pg_operator o JOIN space s ON s.oid = o.oprnamespace WHERE o.oprcode <> 0
    UNION ALL
    SELECT format('statistics object %%I.%%I', s.nspname, x.stxname), 'pg_statistic_ext'::regclass, x.oid, x.stxowner
    FROM pg_statistic_ext x JOIN space s ON s.oid = x.stxnamespace
    UNION ALL
    SELECT format('text search configuration %%I.%%I', s.nspname, c.cfgname), 'pg_ts_config'::regclass, c.oid, c.cfgowner
    FROM pg_ts_config c JOIN space s ON s.oid = c.cfgnamespace
    UNION ALL
    SELECT format('text search dictionary %%I.%%I', s.nspname, d.dictname), 'pg_ts_dict'::regclass, d.oid, d.dictowner
    FROM pg_ts_dict d JOIN space s ON s.oid = d.dictnamespace
)
SELECT 'owners' AS kind, o.name AS identity, pg_get_userbyid(o.owner)::text AS told, NULL AS code
FROM owned o WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = o.class AND m.objid = o.oid)
"""
_GRANTS_IN_SCHEMAS = """
, holder AS (
    SELECT 'grants' AS kind, 'schema ' || quote_ident(s.nspname) AS name, NULL AS detail, s.nspacl AS acl,
        acldefault('n', s.nspowner) AS usual
    FROM space s
    WHERE s.nspacl IS NOT NULL AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_namespace'::regclass AND m.objid = s.oid)
    UNION ALL
    SELECT 'grants', format('function %%I.%%I(%%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), NULL,
        p.proacl, acldefault('f', p.proowner)
    FROM pg_proc p JOIN space s ON s.oid = p.pronamespace
    WHERE p.proacl IS NOT NULL AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)
    UNION ALL
    SELECT 'grants', format('type %%I.%%I', s.nspname, t.typname), NULL, t.typacl, acldefault('T', t.typowner)
    FROM pg_type t JOIN space s ON s.oid = t.typnamespace
    WHERE t.typacl IS NOT NULL AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_type'::regclass AND m.objid = t.oid)
)
"""
_OWNERS_IN_DATABASE = """
, owned AS (
    SELECT 'foreign-data wrapper ' || quote_ident(f.fdwname) AS name, 'pg_foreign_data_wrapper'::regclass AS class, f.oid,
        f.fdwowner AS owner
    FROM pg_foreign_data_wrapper f
    UNION ALL
    SELECT 'server ' || quote_ident(f.srvname), 'pg_foreign_server'::regclass, f.oid, f.srvowner
    FROM pg_foreign_server f
    UNION ALL
    SELECT 'event trigger ' || quote_ident(t.evtname), 'pg_event_trigger'::regclass, t.oid, t.evtowner
    FROM pg_event_trigger t
    UNION ALL
    SELECT 'publication ' || quote_ident(p.pubname), 'pg_publication'::regclass, p.oid, p.pubowner
    FROM pg_publication p
    UNION ALL
    SELECT 'language ' || quote_ident(l.lanname), 'pg_language'::regclass, l.oid, l.lanowner
    FROM pg_language l WHERE l.oid >= 16384
)
SELECT 'owners' AS kind, o.name AS identity, pg_get_userbyid(o.owner)::text AS told, NULL AS code
FROM owned o WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = o.class AND m.objid = o.oid)
UNION ALL
SELECT 'owners', 'large objects of ' || pg_get_userbyid(l.lomowner), count(*)::text, NULL
FROM pg_largeobject_metadata l GROUP BY l.lomowner
UNION ALL
SELECT 'grants', format('large objects %%s to %%s', a.privilege_type,
        CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END), count(*)::text, NULL
FROM pg_largeobject_metadata l, aclexplode(l.lomacl) AS a WHERE a.grantee <> l.lomowner
GROUP BY a.privilege_type, a.grantee
"""
# On system objects and members of extensions, a dump carries what has been granted or revoked since they were made.
_GRANTS_IN_DATABASE = """
, holder AS (
    SELECT 'grants' AS kind, 'language ' || quote_ident(l.lanname) AS name, NULL AS detail,
        l.lanacl AS acl, coalesce(i.initprivs, acldefault('l', l.lanowner)) AS usual
    FROM pg_language l
    LEFT JOIN pg_init_privs i ON i.classoid = 'pg_language'::regclass AND i.objoid = l.oid
    WHERE l.lanacl IS NOT NULL
    UNION ALL
    SELECT 'grants', 'foreign-data wrapper ' || quote_ident(f.fdwname), NULL, f.fdwacl,
        coalesce(i.initprivs, acldefault('F', f.fdwowner))
    FROM pg_foreign_data_wrapper f
    LEFT JOIN pg_init_privs i ON i.classoid = 'pg_foreign_data_wrapper'::regclass AND i.objoid = f.oid
    WHERE f.fdwacl IS NOT NULL
    UNION ALL
    SELECT 'grants', 'server ' || quote_ident(f.srvname), NULL, f.srvacl, acldefault('S', f.srvowner)
    FROM pg_foreign_server f WHERE f.srvacl IS NOT NULL
    UNION ALL
    SELECT 'grants', concat_ws(' ', 'default for', quote_ident(pg_get_userbyid(d.defaclrole)),
            'in schema ' || quote_ident(n.nspname), 'on',
            CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types'
                WHEN 'n' THEN 'schemas' ELSE 'large objects' END), NULL, d.defaclacl,
        CASE WHEN d.defaclnamespace = 0
            THEN acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END::"char", d.defaclrole) END
    FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
    UNION ALL
    SELECT 'grants', format('function %%I.%%I(%%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), NULL,
        p.proacl, coalesce(i.initprivs, acldefault('f', p.proowner))
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    LEFT JOIN pg_init_privs i ON i.classoid = 'pg_proc'::regclass AND i.objoid = p.oid
    WHERE p.proacl IS NOT NULL AND p.proacl IS DISTINCT FROM i.initprivs
        AND (n.nspname = 'pg_catalog' OR EXISTS (SELECT FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid))
    UNION ALL
    SELECT 'grants', format('%%I.%%I', n.nspname, c.relname), NULL, c.relacl,
        coalesce(i.initprivs, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_init_privs i ON i.classoid = 'pg_class'::regclass AND i.objoid = c.oid AND i.objsubid = 0
    WHERE c.relacl IS NOT NULL AND c.relacl IS DISTINCT FROM i.initprivs AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        AND (n.nspname = 'pg_catalog' OR EXISTS (SELECT FROM member m WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid))
)
"""

OF_RELATIONS: List[Query] = [Query(_OWNERS_OF_RELATIONS), Query(_GRANTS_ON_RELATIONS, ending=_DIFFER)]
OF_SCHEMAS: List[Query] = [Query(_OWNERS_IN_SCHEMAS), Query(_GRANTS_IN_SCHEMAS, ending=_DIFFER)]
OF_DATABASE: List[Query] = [Query(_OWNERS_IN_DATABASE), Query(_GRANTS_IN_DATABASE, ending=_DIFFER)]
