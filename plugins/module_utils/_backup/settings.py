# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs to a database as a whole and stands in no dump of its tables: owner, encoding, privileges, its own settings."""

from __future__ import annotations

from typing import Any, Dict

# Columns that came or were renamed with a release are read from the row as a whole, so that every release answers this statement.
_DATABASE = """
SELECT pg_catalog.pg_get_userbyid(d.datdba) AS owner,
       pg_catalog.pg_encoding_to_char(d.encoding) AS encoding,
       d.datcollate AS collate,
       d.datctype AS ctype,
       CASE pg_catalog.to_jsonb(d) ->> 'datlocprovider' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END AS locale_provider,
       coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale') AS icu_locale,
       pg_catalog.to_jsonb(d) ->> 'daticurules' AS icu_rules,
       pg_catalog.to_jsonb(d) ->> 'datcollversion' AS collation_version,
       d.datacl::text[] AS acl,
       pg_catalog.shobj_description(d.oid, 'pg_database') AS comment,
       d.datconnlimit AS connection_limit,
       d.datistemplate AS is_template,
       (SELECT t.spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = d.dattablespace) AS tablespace,
       ARRAY(SELECT DISTINCT t.spcname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
             WHERE t.spcname <> 'pg_global' ORDER BY 1) AS tablespaces,
       (SELECT s.setconfig FROM pg_catalog.pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = 0) AS config
FROM pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database()
"""
_ROLE_CONFIG = """
SELECT pg_catalog.pg_get_userbyid(s.setrole) AS role, s.setconfig AS config
FROM pg_catalog.pg_db_role_setting s
WHERE s.setdatabase = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) AND s.setrole <> 0
ORDER BY 1
"""


def read_settings(database: Any) -> Dict[str, Any]:
    """Return the settings of `database` as a manifest holds them; `acl` is None where nobody has changed the privileges."""
    found = database.row(_DATABASE) or {}
    roles = {row["role"]: row["config"] for row in database.rows(_ROLE_CONFIG)}
    return {**found, "config": found.get("config") or [], "role_config": roles}
