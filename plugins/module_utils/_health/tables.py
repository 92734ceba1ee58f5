# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: what the server's counters say about tables and the cache."""

from __future__ import annotations

from typing import Iterable, List

from ansible_collections.pgops.runbook.plugins.module_utils._health import rates
from ansible_collections.pgops.runbook.plugins.module_utils._health.counters import COUNTING, Counters, Relation, with_counters
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import OK, SKIPPED, Check, Limits, Reading, judge
from ansible_collections.pgops.runbook.plugins.module_utils._health.ranking import ranked
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted

# Since when all of it was counted, which nobody knows before the counters were first reset (PostgreSQL 15 and later).
BEGAN = Fact(
    "counters_began",
    """SELECT to_json(greatest(d.stats_reset, (SELECT stats_reset FROM pg_stat_bgwriter))::text)
       FROM pg_stat_database d WHERE datname = current_database()""",
)


def _dead_rows(look: Look, limits: Limits) -> Iterable[Reading]:
    def read(counters: Counters) -> List[Reading]:
        amounts = [(float(each.dead), each) for each in counters.tables]
        # Of a table whose counters were lost it is known that there are at least so many.
        sure = [(dead, each) for dead, each in amounts if each.oid not in counters.lost or judge(DEAD_ROWS, limits, dead)[0] != OK]
        return ranked(DEAD_ROWS, limits, sure, lambda dead, each: _dead(dead, each, each.oid in counters.lost))

    return with_counters(look, "dead rows", read)


def _dead(dead: float, table: Relation, lost: bool) -> Reading:
    share = f" ({100 * table.dead / (table.dead + table.live):.0f} % of its rows)" if table.dead and not lost else ""
    message = f"{'at least ' if lost else ''}{counted(table.dead, 'dead row')}{share}"
    return Reading(message, dead, table.name)


def _dead_share(look: Look, limits: Limits) -> Iterable[Reading]:
    least = limits.minimum or 0

    def read(counters: Counters) -> List[Reading]:
        enough = [each for each in counters.known if each.dead + each.live > least]
        if not enough:
            return [Reading(f"no table has more than {least:,g} rows")]
        amounts = [(round(100.0 * each.dead / (each.dead + each.live), 2), each) for each in enough]
        return ranked(DEAD_PCT, limits, amounts, lambda share, each: Reading(_dead(0.0, each, False).message, share, each.name))

    return with_counters(look, "dead rows", read)


def _cache_hits(look: Look, limits: Limits) -> Iterable[Reading]:
    values = rates.read(look)
    known = rates.metrics(values, "blks_hit", "blks_read")
    found = rates.since(look, values, "blks_hit", "blks_read")
    began = look.fact(BEGAN)
    # Over their whole life the counters hardly move; what is new is what counts, where it is known.
    grown, since = (found.grown, f" since {found.began}") if found else (values, f" since {began}" if began else "")
    hit, blocks = round(grown["blks_hit"]), round(grown["blks_hit"] + grown["blks_read"])
    if blocks < (limits.minimum or 1):
        message = f"insufficient sample: {blocks} blocks read{since}, fewer than {limits.minimum or 1:g}"
        return [Reading(message, status=SKIPPED, metrics=known)]
    percent = round(100.0 * hit / blocks, 2)
    whole = "" if found else f" (over the whole life of the counters: {rates.absence(look, 'blks_hit')})"
    return [Reading(f"{percent:g} % of {blocks} blocks were found in shared buffers{since}{whole}", percent, metrics=known)]


DEAD_ROWS = Check(
    id="table.dead_rows",
    title="Dead rows",
    tier="daily",
    looks_at="The counter of dead rows of every table and partition in the system's schemas; all schemas where no "
    "system is given. It has thresholds where the system gives them. Tables whose counters were lost by a crash are counted in one "
    "finding that is unknown; a standby counts nothing and is skipped.",
    action="Run VACUUM on the table; look for old transactions that keep it from removing rows, and at its autovacuum settings.",
    needs="nothing",
    run=_dead_rows,
    unit="count",
    facts=(COUNTING,),
)
DEAD_PCT = Check(
    id="table.dead_pct",
    title="Share of dead rows",
    tier="daily",
    looks_at="The dead rows of every table as a share of all its rows, as the server has counted them. Small tables are left out. It has "
    "thresholds where the system gives them.",
    action="Run VACUUM on the table; look for old transactions that keep it from removing rows, and at its autovacuum settings.",
    needs="nothing",
    run=_dead_share,
    unit="percent",
    minimum=10000,
    minimum_of="rows",
    facts=(COUNTING,),
)
CHECKS: List[Check] = [
    DEAD_ROWS,
    DEAD_PCT,
    Check(
        id="cache.hit_pct",
        title="Blocks found in shared buffers",
        tier="daily",
        looks_at="blks_hit of pg_stat_database as a share of all blocks of this database, since a run read them last; without a history "
        "since the counters began, which hardly moves. Skipped on a small sample.",
        action="Look which statements read much, then at shared_buffers.",
        needs="nothing",
        run=_cache_hits,
        facts=(rates.COUNTERS, BEGAN),
        unit="percent",
        worse="below",
        warning=90,
        critical=80,
        minimum=100000,
        minimum_of="blocks",
    ),
]
