# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may still want to see dead rows, in one query with one json value: what holds the server's xmin horizon back, in every database.

An id that was not yet given away holds nothing back: a snapshot that is newer than everything has an age of 0. A vacuum sees no rows
that it keeps, a parallel worker ends before its leader. A sender of WAL is of no database and holds for a standby (with
hot_standby_feedback) in all of them, and so does a slot; its catalog_xmin concerns the catalogue alone. A slot that is lost holds nothing
any more. Every role sees these ids, of which session they are and under which name it runs; since when, in which state, and what kind
a session is, it sees of its own.
"""

from __future__ import annotations

# `since` and `seconds`: when the transaction began or was prepared; of a slot, since when nobody uses it (PostgreSQL 17 and later), so
# that its ids have not moved since. `transactions` and `catalog`: how many transaction ids came after what it may still want to see.
HOLDERS = """
SELECT coalesce(json_agg(json_build_object(
    'kind', h.kind, 'name', h.name, 'database', h.database, 'here', h.database = current_database(), 'pid', h.pid, 'role', h.role,
    'state', h.state, 'what', h.what, 'since', to_char(h.begun AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'),
    'seconds', extract(epoch FROM clock_timestamp() - h.begun)::float8, 'transactions', h.transactions, 'catalog', h.catalog
    ) ORDER BY h.transactions DESC NULLS LAST, h.begun NULLS LAST, h.kind, h.name), '[]')
FROM (
    SELECT CASE WHEN a.datname IS NULL THEN 'standby' ELSE 'session' END AS kind, a.application_name AS name, a.datname::text AS database,
        a.pid, a.usename::text AS role, a.state, a.backend_type AS what, a.xact_start AS begun,
        greatest(age(a.backend_xid), age(a.backend_xmin)) AS transactions, NULL::integer AS catalog
    FROM pg_stat_activity a
    WHERE (a.datname IS NOT NULL OR a.usesysid IS NOT NULL) AND a.pid <> pg_backend_pid()
        AND a.backend_type IS DISTINCT FROM 'parallel worker' AND a.pid NOT IN (SELECT v.pid FROM pg_stat_progress_vacuum v)
    UNION ALL
    SELECT 'slot', s.slot_name::text, s.database::text, s.active_pid, NULL, CASE WHEN s.active THEN 'active' ELSE 'inactive' END,
        s.slot_type, (to_jsonb(s) ->> 'inactive_since')::timestamptz, age(s.xmin), age(s.catalog_xmin)
    FROM pg_replication_slots s
    WHERE (to_jsonb(s) ->> 'wal_status') IS DISTINCT FROM 'lost'
    UNION ALL
    SELECT 'prepared', p.gid, p.database::text, NULL, p.owner::text, NULL, NULL, p.prepared, age(p.transaction), NULL
    FROM pg_prepared_xacts p
    UNION ALL
    SELECT 'setting', 'vacuum_defer_cleanup_age', NULL, NULL, NULL, NULL, NULL, NULL,
        nullif(current_setting('vacuum_defer_cleanup_age', true), '')::integer, NULL
) AS h
WHERE greatest(h.transactions, h.catalog) > 0
"""
