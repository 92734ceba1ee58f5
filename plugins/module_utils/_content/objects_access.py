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
    SELECT h.kind, h.name, h.detail, a.privilege_type, a.grantee, 'to' AS word, pg_catalog.bool_or(a.is_grantable) AS grantable
    FROM holder h, pg_catalog.aclexplode(h.acl) AS a
    GROUP BY h.kind, h.name, h.detail, a.privilege_type, a.grantee
    EXCEPT
    SELECT h.kind, h.name, h.detail, a.privilege_type, a.grantee, 'to', a.is_grantable FROM holder h, pg_catalog.aclexplode(h.usual) AS a
    UNION ALL
    (SELECT h.kind, h.name, h.detail, a.privilege_type, a.grantee, 'revoked from', false FROM holder h, pg_catalog.aclexplode(h.usual) AS a
    EXCEPT
    SELECT h.kind, h.name, h.detail, a.privilege_type, a.grantee, 'revoked from', false FROM holder h, pg_catalog.aclexplode(h.acl) AS a)
)
SELECT e.kind, pg_catalog.concat_ws(' ', e.name, e.privilege_type, e.detail, e.word,
        CASE WHEN e.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(e.grantee)) END) AS identity,
    CASE WHEN e.grantable THEN 'with grant option' END AS told, NULL AS code
FROM entry e
"""
_OWNERS_OF_RELATIONS = """
SELECT 'owners' AS kind, c.name AS identity, pg_catalog.pg_get_userbyid(c.relowner)::text AS told, NULL AS code FROM relation c
"""
_GRANTS_ON_RELATIONS = """
, holder AS (
    SELECT 'grants' AS kind, c.name, NULL AS detail, c.relacl AS acl,
        pg_catalog.acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner) AS usual
    FROM relation c WHERE c.relacl IS NOT NULL
    UNION ALL
    SELECT 'grants', c.name, pg_catalog.format('on column %%I', t.attname), t.attacl, NULL
    FROM relation c JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid
    WHERE t.attacl IS NOT NULL AND NOT t.attisdropped
)
"""

OF_RELATIONS: List[Query] = [Query(_OWNERS_OF_RELATIONS), Query(_GRANTS_ON_RELATIONS, ending=_DIFFER)]
OF_SCHEMAS: List[Query] = []
OF_DATABASE: List[Query] = []
