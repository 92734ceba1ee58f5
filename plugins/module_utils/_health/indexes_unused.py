# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes that no query of this server has read, where its counters reach back far enough to say so."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Iterable, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import OK, Check, Limits, Reading, Unseen, judge, skipped
from ansible_collections.pgops.runbook.plugins.module_utils._health.relations import counted_indexes, file_bytes, name_of, scope

WINDOW_DAYS = 30
MEASURED = 50

# A crash empties the counters of the database and leaves its stats_reset alone; that of the background writer moves.
_WINDOW = """
SELECT current_setting('track_counts') = 'on' AS counting, d.stats_reset IS NOT NULL AS reset,
       extract(epoch FROM greatest(coalesce(d.stats_reset, '-infinity'), (SELECT stats_reset FROM pg_stat_bgwriter)))::float8 AS since,
       has_function_privilege('pg_stat_file(text, boolean)', 'EXECUTE') AS sees_files
FROM pg_stat_database d WHERE d.datname = current_database()
"""
# The file is written when the database is made: one that was restored yesterday has no counters from before.
_MADE = """
SELECT extract(epoch FROM (pg_stat_file('base/' || oid || '/PG_VERSION', true)).modification)::float8 AS made
FROM pg_database WHERE datname = current_database()
"""

# Scans of the indexes of all partitions are added up on the index of the partitioned table.
_UNUSED = """
WITH RECURSIVE part AS (
    SELECT c.oid AS root, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'I' AND NOT c.relispartition
      AND CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = ANY (%(schemas)s::text[]) END
    UNION ALL
    SELECT p.root, h.inhrelid FROM part p JOIN pg_inherits h ON h.inhparent = p.oid
), index AS (
    SELECT c.oid AS root, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'i' AND NOT c.relispartition AND c.relpersistence <> 't' AND c.relpages >= %(least)s
      AND CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = ANY (%(schemas)s::text[]) END
    UNION ALL
    SELECT root, oid FROM part
), used AS (
    SELECT x.root, sum(pg_stat_get_numscans(x.oid)) AS scans, sum(c.relpages)::int8 AS pages
    FROM index x JOIN pg_class c ON c.oid = x.oid GROUP BY x.root
), candidate AS (
    SELECT i.indexrelid AS oid, u.pages, i.indexprs IS NOT NULL AS expression
    FROM used u JOIN pg_index i ON i.indexrelid = u.root
    WHERE u.scans = 0 AND u.pages >= %(least)s AND i.indisvalid
      AND NOT (i.indisprimary OR i.indisunique OR i.indisexclusion OR i.indisreplident)
      AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
      AND NOT EXISTS (
          SELECT FROM pg_constraint k WHERE k.conrelid = i.indrelid AND k.contype = 'f'
            AND cardinality(k.conkey) <= i.indnkeyatts
            AND k.conkey <@ (i.indkey::int2[])[0:cardinality(k.conkey) - 1])
      AND NOT EXISTS (
          SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid IN (i.indexrelid, i.indrelid) AND d.deptype = 'e')
)
SELECT c.oid::int8 AS oid, n.nspname, c.relname, c.relkind, t.relname AS table_name, x.expression,
       x.pages * current_setting('block_size')::int AS bytes
FROM candidate x JOIN pg_class c ON c.oid = x.oid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_class t ON t.oid = i.indrelid
ORDER BY x.pages DESC, n.nspname, c.relname
"""


def _unused(look: Look, limits: Limits) -> Iterable[Reading]:
    since = counting_since(look)
    days = (look.now - since).total_seconds() / 86400
    when = f"{since:%Y-%m-%d %H:%M} UTC"
    if days < WINDOW_DAYS:
        return skipped(f"no window yet: this server has counted since {when}, {days:.1f} of the {WINDOW_DAYS} days that it takes")
    bound = min((each for each in (limits.warning, limits.critical) if each is not None), default=0.0)
    rows = look.rows(_UNUSED, {**scope(look), "least": int(bound // 8192)})
    sizes = file_bytes(look, [row["oid"] for row in rows[:MEASURED] if row["relkind"] != "I" and not row["expression"]])
    readings: List[Reading] = []
    for row in rows:
        size = float(sizes.get(row["oid"]) or row["bytes"])
        # ANALYZE keeps statistics of an expression as long as there is an index on it, and plans may rest on them.
        if not row["expression"] and judge(UNUSED, limits, size)[0] != OK:
            readings.append(_reading(row, size, when))
    if readings:
        return readings
    kept = sum(row["expression"] for row in rows)
    more = f"; {counted_indexes(kept)} on expressions left out, whose statistics plans may use" if kept else ""
    return [Reading(f"no index without a scan since {when}{more}", 0.0)]


def counting_since(look: Look) -> datetime:
    """Return since when this server has counted the scans of indexes of this database. Raises Unseen where it does not."""
    window = look.row(_WINDOW)
    if not window["counting"]:
        raise Unseen("the server does not count scans (track_counts is off)", hint="As a superuser: ALTER SYSTEM SET track_counts = on;")
    since = float(window["since"])
    if not window["reset"] and window["sees_files"]:
        try:
            since = max(since, look.row(_MADE)["made"] or since)
        except DatabaseError:
            if look.database.closed:
                raise
    return datetime.fromtimestamp(since, timezone.utc)


def _reading(row: Mapping[str, Any], size: float, when: str) -> Reading:
    message = (
        f"a candidate: {format_size(size)}, and no query of this server has read it since {when}, as far as its counters tell. "
        f"It is kept by every write to {row['table_name']}; standbys count for themselves, an index that is younger looks the same, and "
        "a job of once a year has not run yet"
    )
    name = quoted(row["nspname"], row["relname"]).replace("'", "''")
    keep = "SELECT pg_get_indexdef('" + name + "'::regclass);"
    action = f"Look at every standby, and ask who made it. Keep its definition before anything else: {keep}"
    return Reading(message, size, name_of(row), action=action)


UNUSED = Check(
    id="index.unused",
    title="Indexes that no query reads",
    tier="weekly",
    looks_at="The scans of every index since the server counts them: since its statistics were reset or lost by a crash, at least 30 days "
    "ago, else it is skipped. Left out are primary keys, unique and exclusion constraints, replica identities, indexes that a "
    "foreign key needs, those on expressions (plans use their statistics), of extensions, and partitions' of which any is read. "
    "Every server counts for itself: run it on each standby too.",
    action="A candidate, no more: look at every standby and ask who made it before it is dropped.",
    needs="nothing; EXECUTE on pg_stat_file to know how old the database is",
    run=_unused,
    unit="bytes",
    warning=10 << 20,
)
