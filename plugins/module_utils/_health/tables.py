# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: what the server's counters say about tables and the cache."""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import OK, Check, Limits, Reading, Unseen, judge, skipped, unknown
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName

# A crash empties the counters: rows that VACUUM or ANALYZE had counted are then unknown to them, and so are dead ones.
_DEAD_ROWS = """
WITH counter AS (
    SELECT n.nspname, c.relname, pg_stat_get_dead_tuples(c.oid) AS dead, pg_stat_get_live_tuples(c.oid) AS live,
           c.reltuples > 0 AND coalesce(
               pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid),
               pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) IS NULL
           AND pg_stat_get_live_tuples(c.oid) < c.reltuples / 2 AS lost
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm')
      AND CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = ANY (%(schemas)s::text[]) END
)
SELECT current_setting('track_counts') = 'on' AS counting,
       (SELECT count(*) FROM counter WHERE lost) AS lost,
       (SELECT coalesce(json_agg(row_to_json(l)), '[]') FROM
            (SELECT nspname, relname FROM counter WHERE lost ORDER BY dead DESC, 1, 2 LIMIT 6) l) AS lost_tables,
       (SELECT coalesce(json_agg(row_to_json(h)), '[]') FROM
            (SELECT * FROM counter ORDER BY dead DESC, 1, 2 LIMIT 50) h) AS highest
"""

_CACHE = """
SELECT blks_hit AS hit, blks_read AS read,
       greatest(d.stats_reset, (SELECT stats_reset FROM pg_stat_bgwriter))::text AS since
FROM pg_stat_database d WHERE datname = current_database()
"""


def _dead_rows(look: Look, limits: Limits) -> Iterable[Reading]:
    if look.database.in_recovery:
        return skipped("a standby does not count dead rows: ask the primary")
    schemas = list(look.system.get("schemas") or ())
    facts = look.row(_DEAD_ROWS, {"schemas": schemas, "all": not schemas})
    if not facts["highest"]:
        return skipped("there is no table in the system's schemas")
    if not facts["counting"]:
        hint = "As a superuser: ALTER SYSTEM SET track_counts = on; then reload. Autovacuum does not work without it either."
        raise Unseen("the server does not count rows (track_counts is off)", hint=hint)
    readings = []
    for row in facts["highest"]:
        dead, total = row["dead"], row["dead"] + row["live"]
        if row["lost"] and judge(DEAD_ROWS, limits, dead)[0] == OK:
            continue
        share = f" ({100 * dead / total:.0f} % of its rows)" if total and not row["lost"] else ""
        message = f"{'at least ' if row['lost'] else ''}{counted(dead, 'dead row')}{share}"
        readings.append(Reading(message, float(dead), _name(row)))
    if facts["lost"]:
        names = [_name(row) for row in facts["lost_tables"]]
        listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        were = f"{counted(facts['lost'], 'table')} were lost"
        message = f"the counters of {were}, as by a crash, an upgrade or a copy of the database: {listed}"
        readings.append(unknown(RunbookError(message, hint="As their owner: ANALYZE;")))
    return readings


def _name(row: Mapping[str, Any]) -> str:
    return str(RelationName(row["nspname"], row["relname"]))


def _cache_hits(look: Look, limits: Limits) -> Iterable[Reading]:
    facts = look.row(_CACHE)
    blocks = facts["hit"] + facts["read"]
    since = f" since {facts['since']}" if facts["since"] else ""
    if blocks < (limits.minimum or 1):
        return skipped(f"insufficient sample: {blocks} blocks read{since}, fewer than {limits.minimum or 1:g}")
    percent = round(100.0 * facts["hit"] / blocks, 2)
    return [Reading(f"{percent:g} % of {blocks} blocks were found in shared buffers{since}", percent)]


DEAD_ROWS = Check(
    id="table.dead_rows",
    title="Dead rows",
    tier="daily",
    looks_at="The counter of dead rows of every table and partition in the system's schemas, the 50 highest; all schemas where no "
    "system is given. It has thresholds where the system gives them. Tables whose counters were lost by a crash are counted in one "
    "finding that is unknown; a standby counts nothing and is skipped.",
    action="Run VACUUM on the table; look for old transactions that keep it from removing rows, and at its autovacuum settings.",
    needs="nothing",
    run=_dead_rows,
    unit="count",
)
CHECKS: List[Check] = [
    DEAD_ROWS,
    Check(
        id="cache.hit_pct",
        title="Blocks found in shared buffers",
        tier="daily",
        looks_at="blks_hit of pg_stat_database as a share of all blocks of this database since its counters began. Skipped on a small "
        "sample.",
        action="Look which statements read much, then at shared_buffers.",
        needs="nothing",
        run=_cache_hits,
        unit="percent",
        worse="below",
        warning=90,
        critical=80,
        minimum=100000,
        minimum_of="blocks",
    ),
]
