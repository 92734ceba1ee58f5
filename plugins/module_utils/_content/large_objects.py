# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large objects: how many, and one hash over all their bytes, the same whether pages or only functions may be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._content.hashing import BY
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope
from ansible_collections.pgops.runbook.plugins.module_utils._content.session import measuring

_LOOK = """
SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata) AS count,
    pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT') AS pages,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata m
     WHERE NOT pg_catalog.current_setting('lo_compat_privileges')::bool AND NOT pg_catalog.pg_has_role(m.lomowner, 'USAGE')
        AND NOT EXISTS (
            SELECT FROM pg_catalog.aclexplode(m.lomacl) a
            WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))) AS hidden
"""
# A hole reads as zeros, and a restored object has the zeros: so pages are filled up, empty ones left out, and lengths hashed beside them.
_HASH = """
SELECT ((SELECT coalesce(pg_catalog.sum(pg_catalog.hash_array_extended(ARRAY[pg_catalog.record_send(ROW(f.oid, f.page, f.data))], 0)), 0)
         FROM full_page f, zero z WHERE f.data <> z.page)
    + (SELECT coalesce(pg_catalog.sum(pg_catalog.hash_array_extended(ARRAY[pg_catalog.record_send(ROW(l.oid, l.bytes))], 0)), 0)
       FROM length l))::pg_catalog.text AS hash
"""
_ZERO = """
WITH zero AS MATERIALIZED (
    SELECT pg_catalog.decode(pg_catalog.repeat('00', block), 'hex') AS page, block
    FROM (SELECT pg_catalog.current_setting('block_size')::bigint::int / 4 AS block) AS size
),
"""
_BY_PAGES = """
full_page AS (
    SELECT p.loid AS oid, p.pageno::bigint AS page,
        CASE WHEN pg_catalog.length(p.data) = z.block THEN p.data
            ELSE p.data || pg_catalog.substring(z.page, 1, z.block - pg_catalog.length(p.data)) END AS data
    FROM pg_catalog.pg_largeobject p, zero z
), length AS (
    SELECT m.oid, coalesce(last.bytes, 0) AS bytes
    FROM pg_catalog.pg_largeobject_metadata m
    LEFT JOIN (
        SELECT DISTINCT ON (p.loid) p.loid, p.pageno::bigint * z.block + pg_catalog.length(p.data) AS bytes
        FROM pg_catalog.pg_largeobject p, zero z ORDER BY p.loid, p.pageno DESC
    ) AS last ON last.loid = m.oid
)
"""
# 262144 is INV_READ, 2 SEEK_END. Each step depends on the one before it, so that they run in this order.
_BY_FUNCTIONS = """
length AS MATERIALIZED (
    SELECT m.oid, s.bytes, pg_catalog.lo_close(CASE WHEN s.bytes >= 0 THEN s.handle END) AS closed
    FROM pg_catalog.pg_largeobject_metadata m,
        LATERAL (SELECT h.handle, pg_catalog.lo_lseek64(h.handle, 0, 2) AS bytes
                 FROM (SELECT pg_catalog.lo_open(m.oid, 262144) AS handle OFFSET 0) AS h OFFSET 0) AS s
), full_page AS (
    SELECT r.oid, r.page,
        CASE WHEN pg_catalog.length(r.data) = z.block THEN r.data
            ELSE r.data || pg_catalog.substring(z.page, 1, z.block - pg_catalog.length(r.data)) END AS data
    FROM zero z, LATERAL (
        SELECT l.oid, g.page, pg_catalog.lo_get(l.oid, g.page * z.block, z.block) AS data
        FROM length l, LATERAL pg_catalog.generate_series(0::bigint, (l.bytes - 1) / z.block) AS g(page)
        WHERE l.bytes > 0 OFFSET 0
    ) AS r
)
"""


@dataclass(frozen=True)
class LargeObjects:
    """The large objects of a database; `hash` is None where `hidden` of them may not be read by the role."""

    count: int
    hash: str | None
    by: str = BY
    hidden: int = 0


def measure_large_objects(database: Any, scope: Scope) -> LargeObjects | None:
    """Return what large objects there are, None where they are not in `scope`. Raises DatabaseError."""
    if not (scope.whole and scope.with_rows):
        return None
    sql = database.sql
    with measuring(database):
        look = database.row(_LOOK)
        if not look["count"]:
            return LargeObjects(0, "0")
        if look["hidden"] and not look["pages"]:
            return LargeObjects(look["count"], None, hidden=look["hidden"])
        way = _BY_PAGES if look["pages"] else _BY_FUNCTIONS
        return LargeObjects(look["count"], database.value(sql.SQL("{}{}{}").format(sql.SQL(_ZERO), sql.SQL(way), sql.SQL(_HASH))))
