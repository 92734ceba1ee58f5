# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How tables are read and updated: sequential scans and HOT updates."""

from __future__ import annotations

from typing import Iterable, List

from ansible_collections.pgops.runbook.plugins.module_utils._health.counters import (
    COUNTING,
    Counters,
    Relation,
    read_counters,
    with_counters,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading, skipped
from ansible_collections.pgops.runbook.plugins.module_utils._health.ranking import ranked
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted

SHOWN = 50
FULL = 100
# With so many updates that found no room on their page (in percent) it is room that lacks, and not an index that is in the way.
CROWDED = 50


def _hot(look: Look, limits: Limits) -> Iterable[Reading]:
    least = limits.minimum or 0

    def read(counters: Counters) -> List[Reading]:
        enough = [each for each in counters.tables if each.updated > least]
        details = look.details.setdefault("hot", [])
        for table in sorted(enough, key=lambda each: (-each.updated, each.name))[:SHOWN]:
            details.append({"table": table.name, "updates": table.updated, "hot_pct": _share(table)})
        if not enough:
            return [Reading(f"insufficient sample: no table has more than {least:,g} updates{counters.window}")]
        return ranked(HOT, limits, ((_share(each), each) for each in enough), lambda share, each: _updates(counters, share, each, limits))

    return with_counters(look, "its updates", read)


def _share(table: Relation) -> float:
    return round(100.0 * table.hot / table.updated, 2)


def _updates(counters: Counters, share: float, table: Relation, limits: Limits) -> Reading:
    fillfactor = int(table.option("fillfactor") or FULL)
    message = f"{share:g} % of {counted(table.updated, 'update')}{counters.window} were HOT, at a fillfactor of {fillfactor}"
    cold = table.updated - table.hot
    crowded = None
    if table.new_pages is not None and cold:
        crowded = 100.0 * min(table.new_pages, cold) / cold
        message += f"; {crowded:.0f} % of the others found no room on their page"
    return Reading(message, share, table.name, action=None if limits.action else _advice(table, fillfactor, crowded))


def _advice(table: Relation, fillfactor: int, crowded: float | None) -> str:
    room = f"leave room on its pages: ALTER TABLE {table.target} SET (fillfactor = {min(fillfactor, FULL) - 10}), which VACUUM FULL applies"
    index = "look for an index on a column that changes often, and whether it is needed"
    if fillfactor <= 60 or (crowded is not None and crowded < CROWDED):
        return f"As the owner: {index}."
    return f"As the owner: {room}." if crowded is not None else f"As the owner: {room}; or {index}."


def _scans(look: Look, limits: Limits) -> Iterable[Reading]:
    least = limits.minimum or 0
    counters = look.seen(read_counters)
    if not counters.tables:
        return skipped("there is no table in the system's schemas" if look.system else "there is no table")
    if counters.settings["track_counts"] != "on":
        return counters.uncounted()
    # Whoever reads a small table reads it whole, and rightly so. A standby counts the scans of its own sessions.
    big = [each for each in counters.tables if each.rows > least]
    if not big:
        return [Reading(f"no table has more than {least:,g} rows"), *counters.unknown()]
    readings = ranked(SCANS, limits, ((float(each.scans), each) for each in big), lambda count, each: _scanned(counters, count, each))
    return readings + counters.unknown()


def _scanned(counters: Counters, count: float, table: Relation) -> Reading:
    scans = f"{counted(table.scans, 'sequential scan')}{counters.window}"
    if not table.scans:
        return Reading(scans, count, table.name)
    each = table.scanned / table.scans
    whole = " (the whole table)" if each >= 0.9 * table.rows else ""
    message = f"{scans}, each of which read {each:,.0f} of about {table.rows:,} rows{whole}: a candidate for an index"
    return Reading(message, count, table.name, metrics={f"table.rows_per_scan[{table.name}]": round(each, 1)})


HOT = Check(
    id="table.hot_pct",
    title="HOT updates",
    tier="daily",
    looks_at="The share of every table's updates that needed no new index entry (HOT), since the counters began. Tables with few updates "
    "are left out, a standby is skipped. From PostgreSQL 16 on the advice tells a full page from an index in the way. It has thresholds "
    "where the system gives them.",
    action="Lower the table's fillfactor, or drop an index on a column that changes often.",
    needs="nothing",
    run=_hot,
    unit="percent",
    worse="below",
    minimum=10000,
    minimum_of="updates",
    facts=(COUNTING,),
)
SCANS = Check(
    id="table.seq_scans",
    title="Sequential scans of big tables",
    tier="daily",
    looks_at="How often each big table was read from its beginning since the counters began, and how many rows that took; each worker of a "
    "parallel query counts. A standby counts those of its own sessions. It has thresholds where the system gives them.",
    action="A candidate for an index: look which statements filter this table by columns without one. Reports and dumps read it whole "
    "rightly.",
    needs="nothing",
    run=_scans,
    unit="count",
    minimum=10000,
    minimum_of="rows",
    facts=(COUNTING,),
)
CHECKS: List[Check] = [HOT, SCANS]
