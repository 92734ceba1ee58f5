# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that VACUUM does not come to, or comes to too late: measured by the rule by which autovacuum itself decides."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Iterable, List, NamedTuple

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration
from ansible_collections.pgops.runbook.plugins.module_utils._health.counters import (
    COUNTING,
    Counters,
    Relation,
    read_counters,
    with_counters,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import CRITICAL, WARNING, Check, Limits, Reading, skipped
from ansible_collections.pgops.runbook.plugins.module_utils._health.overdue import Overdue, off, off_for, overdue
from ansible_collections.pgops.runbook.plugins.module_utils._health.ranking import ranked
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted

SHOWN = 50
_PATIENCE = (
    "Autovacuum needs its time after a bulk load: a table is critical only where it was over a limit in an earlier run with a history "
    "already, two autovacuum_naptime ago, and not vacuumed since, or where autovacuum is off"
)
_STANDBY = "its vacuums"


class Threshold(NamedTuple):
    """So many rows and autovacuum comes; `rule` says how that number comes about."""

    rows: float
    rule: str


def dead_threshold(counters: Counters, relation: Relation) -> Threshold:
    """Return after how many dead rows autovacuum comes to `relation`."""
    base = _setting(counters, relation, "autovacuum_vacuum_threshold", 0)
    factor = _setting(counters, relation, "autovacuum_vacuum_scale_factor", 0)
    rows = max(relation.rows_estimate, 0)
    threshold, rule = (base or 0) + (factor or 0) * rows, f"{base:g} + {factor:g} of {rows:,.0f} rows"
    most = _setting(counters, relation, "autovacuum_vacuum_max_threshold", -1)
    if most is not None and 0 <= most < threshold:
        return Threshold(most, f"at most {most:,.0f}")
    return Threshold(threshold, rule)


def insert_threshold(counters: Counters, relation: Relation) -> Threshold | None:
    """Return after how many new rows autovacuum comes to `relation`; None where it does not come for that."""
    base = _setting(counters, relation, "autovacuum_vacuum_insert_threshold", -1)
    factor = _setting(counters, relation, "autovacuum_vacuum_insert_scale_factor", 0)
    if base is None or factor is None or base < 0:
        return None
    rows = max(relation.rows_estimate, 0)
    # From 18 on what is frozen already does not count: VACUUM need not look at it.
    thawed = 1 - min(relation.frozen, relation.pages) / relation.pages if relation.frozen and relation.pages else 1.0
    of = f"{rows:,.0f} rows" + (f", {100 * thawed:.3g} % of them not frozen" if thawed < 1 else "")
    return Threshold(base + factor * rows * thawed, f"{base:g} + {factor:g} of {of}")


def _setting(counters: Counters, relation: Relation, name: str, least: float) -> float | None:
    """Return a parameter of the relation, or else of the server; None where this version has none.

    A relation's own value below `least` is as good as none.
    """
    own = relation.option(name)
    if own is not None and float(own) >= least:
        return float(own)
    setting = counters.settings.get(name)
    return None if setting is None else float(setting)


def _dead_overdue(look: Look, limits: Limits) -> Iterable[Reading]:
    least = limits.minimum or 0

    def read(counters: Counters) -> List[Reading]:
        many = [each for each in counters.relations if each.dead > least and each.oid not in counters.lost]
        amounts = [(_percent(each.dead, dead_threshold(counters, each)), each) for each in many]
        late = overdue(look, DEAD_OVERDUE, limits, counters, amounts)
        if not many:
            return [Reading(f"no table has more than {least:,g} dead rows")]
        return ranked(DEAD_OVERDUE, limits, amounts, lambda share, each: _overdue(late, share, each))

    return with_counters(look, _STANDBY, read)


def _overdue(late: Overdue, share: float, relation: Relation) -> Reading:
    threshold = dead_threshold(late.counters, relation)
    message = (
        f"{counted(relation.dead, 'dead row')}, {_times(share)} the {threshold.rows:,.0f} after which autovacuum comes ({threshold.rule})"
    )
    return _late(late, message, share, relation)


def _insert_overdue(look: Look, limits: Limits) -> Iterable[Reading]:
    least = limits.minimum or 0

    def read(counters: Counters) -> List[Reading]:
        if counters.settings["autovacuum_vacuum_insert_threshold"] is None:
            return skipped("this server does not vacuum for the sake of new rows: PostgreSQL 13 and newer do")
        many = [each for each in counters.relations if (each.new_rows or 0) > least and each.oid not in counters.lost]
        judged = [(each, threshold) for each in many for threshold in [insert_threshold(counters, each)] if threshold]
        amounts = [(_percent(each.new_rows or 0, threshold), (each, threshold)) for each, threshold in judged]
        late = overdue(look, INSERT_OVERDUE, limits, counters, [(share, each) for share, (each, _threshold) in amounts])
        if not judged:
            return [Reading(f"no table has more than {least:,g} rows that came since its last VACUUM")]
        return ranked(INSERT_OVERDUE, limits, amounts, lambda share, pair: _unvisited(late, share, *pair))

    return with_counters(look, _STANDBY, read)


def _unvisited(late: Overdue, share: float, relation: Relation, threshold: Threshold) -> Reading:
    new = counted(relation.new_rows or 0, "row")
    message = f"{new} came since its last VACUUM, {_times(share)} the {threshold.rows:,.0f} after which autovacuum comes ({threshold.rule})"
    return _late(late, message, share, relation)


def _late(late: Overdue, message: str, share: float, relation: Relation) -> Reading:
    """Return a reading of a relation that autovacuum should have come to, with the nearest reason why it did not."""
    why, action = "", f"Run VACUUM (ANALYZE) {relation.target}; and look for old transactions and for busy autovacuum workers."
    if relation.oid in late.counters.vacuuming:
        why, action = "; a VACUUM is at it just now", "Let the VACUUM that is at it end; see pg_stat_progress_vacuum."
    elif off(late.counters, relation):
        why = "; autovacuum is off"
    return late.judged(Reading(message + why, share, relation.name, action=None if late.limits.action else action), relation)


def _percent(rows: float, threshold: Threshold) -> float:
    return round(100.0 * rows / max(threshold.rows, 1), 1)


def _times(share: float) -> str:
    return f"{share / 100:.3g} times"


def _never(look: Look, limits: Limits) -> Iterable[Reading]:
    def read(counters: Counters) -> List[Reading]:
        never = [(float(each.rows), each) for each in counters.known if each.seen is None]
        late = overdue(look, NEVER, limits, counters, never)
        if not any(rows for rows, _table in never):
            return [Reading("every table that has rows has been vacuumed or analyzed", 0.0)]
        return ranked(NEVER, limits, never, lambda rows, each: _unseen(late, rows, each))

    return with_counters(look, _STANDBY, read)


def _unseen(late: Overdue, rows: float, table: Relation) -> Reading:
    message = f"about {counted(int(rows), 'row')}, neither vacuumed nor analyzed{late.counters.window}"
    action = None if late.limits.action else f"As the owner: VACUUM (ANALYZE) {table.target};"
    return late.judged(Reading(message, rows, table.name, action=action), table)


def _disabled(look: Look, limits: Limits) -> Iterable[Reading]:
    if look.database.in_recovery:
        return skipped("autovacuum does not run on a standby: ask the primary")
    counters = look.seen(read_counters)
    readings: List[Reading] = []
    for name in ("autovacuum", "track_counts"):
        if counters.settings[name] != "on":
            message = f"{name} is off for the whole server: autovacuum comes only against wraparound of transaction ids"
            action = f"As a superuser: ALTER SYSTEM SET {name} = on; then SELECT pg_reload_conf();"
            readings.append(Reading(message, status=CRITICAL, action=action))
            break
    views = {relation.oid for relation in counters.relations if relation.kind == "m"}
    for relation in counters.relations:
        if off_for(relation) and not (relation.kind == "t" and relation.inherits):
            kind = "MATERIALIZED VIEW" if relation.main in views else "TABLE"
            option = "toast.autovacuum_enabled" if relation.kind == "t" else "autovacuum_enabled"
            action = f"As the owner: ALTER {kind} {relation.target} RESET ({option});"
            message = "autovacuum is off for it: it comes only against wraparound of transaction ids"
            readings.append(Reading(message, object_name=relation.name, status=WARNING, action=None if limits.action else action))
    return readings or [Reading(f"autovacuum is on, for each of {counted(len(counters.tables), 'table')}")]


def _vacuum_age(look: Look, limits: Limits) -> Iterable[Reading]:
    least, now = limits.minimum or 0, look.now.timestamp()

    def read(counters: Counters) -> List[Reading]:
        big = [each for each in counters.known if each.rows > least]
        _list(look, counters.known)
        if not big:
            return [Reading(f"no table has more than {least:,g} rows")]
        begin = counters.since_epoch or now
        amounts = [(max(0.0, round(now - (begin if each.seen is None else each.seen), 1)), each) for each in big]
        return ranked(VACUUM_AGE, limits, amounts, lambda age, each: _aged(counters, age, each))

    return with_counters(look, _STANDBY, read)


def _aged(counters: Counters, age: float, table: Relation) -> Reading:
    if table.seen is None:
        return Reading(f"neither vacuumed nor analyzed{counters.window or ' since the counters began'}", age, table.name)
    which = "vacuumed" if table.seen == table.vacuumed else "analyzed"
    return Reading(f"last {which} {_roughly(age)} ago", age, table.name)


def _roughly(seconds: float) -> str:
    step = 86400 if seconds >= 2 * 86400 else 3600 if seconds >= 7200 else 60 if seconds >= 120 else 1
    return format_duration(max(step * (seconds // step), 1))


def _list(look: Look, tables: List[Relation]) -> None:
    """Leave the times of the tables with the most rows for a report."""
    rows = look.details.setdefault("vacuums", [])
    for table in sorted(tables, key=lambda each: (-each.rows, each.name))[:SHOWN]:
        times = {"vacuumed_at": _at(table.vacuumed), "analyzed_at": _at(table.analyzed)}
        rows.append({"table": table.name, "rows": table.rows, "dead": table.dead, **times})


def _at(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc).isoformat()


DEAD_OVERDUE = Check(
    id="vac.dead_overdue",
    title="Dead rows that autovacuum has left",
    tier="daily",
    looks_at="The dead rows of every table and TOAST table as a share of the number after which autovacuum comes to it, by the server's "
    "own rule: the table's parameters or else the settings, the estimated rows, from PostgreSQL 18 on the maximum. Tables with few dead "
    "rows are left out; those whose counters were lost are unknown; a standby is skipped. " + _PATIENCE + ".",
    action="Run VACUUM on the table; look for old transactions that keep it from removing rows, and whether autovacuum has enough workers.",
    needs="nothing",
    run=_dead_overdue,
    unit="percent",
    warning=200,
    critical=500,
    minimum=10000,
    minimum_of="dead rows",
    facts=(COUNTING,),
)
INSERT_OVERDUE = Check(
    id="vac.insert_overdue",
    title="New rows that autovacuum has not come to",
    tier="daily",
    looks_at="The rows that came to every table since its last VACUUM as a share of the number after which autovacuum comes to it, by the "
    "server's own rule; from PostgreSQL 18 on frozen pages do not count. Skipped before PostgreSQL 13, which has no such rule, and on a "
    "standby; tables whose counters were lost are unknown. " + _PATIENCE + ".",
    action="Run VACUUM on the table: until then index-only scans read it, and a later VACUUM against wraparound has more to do.",
    needs="nothing",
    run=_insert_overdue,
    unit="percent",
    warning=200,
    critical=500,
    minimum=10000,
    minimum_of="new rows",
    facts=(COUNTING,),
)
NEVER = Check(
    id="vac.never",
    title="Tables never vacuumed nor analyzed",
    tier="daily",
    looks_at="The rows of every table that neither VACUUM nor ANALYZE has looked at since its counters began: the planner knows nothing "
    "of it. A table whose counters were lost, or that holds bytes and has never been counted, is unknown; a standby is skipped. "
    + _PATIENCE
    + ".",
    action="Run VACUUM (ANALYZE) on the table, and find out why autovacuum has not.",
    needs="nothing",
    run=_never,
    unit="count",
    warning=10000,
    facts=(COUNTING,),
)
VACUUM_AGE = Check(
    id="table.vacuum_age",
    title="Time since the last VACUUM or ANALYZE",
    tier="daily",
    looks_at="How long ago each table was vacuumed or analyzed last, by whomever; where never, since its counters began. Small tables are "
    "left out. It has thresholds where the system gives them.",
    action="Run VACUUM (ANALYZE) on the table.",
    needs="nothing",
    run=_vacuum_age,
    unit="seconds",
    minimum=10000,
    minimum_of="rows",
    facts=(COUNTING,),
)
CHECKS: List[Check] = [
    DEAD_OVERDUE,
    INSERT_OVERDUE,
    NEVER,
    Check(
        id="vac.disabled",
        title="Autovacuum switched off",
        tier="daily",
        looks_at="The settings autovacuum and track_counts, and the parameter autovacuum_enabled of every table and its TOAST table. Where "
        "it is off, autovacuum still comes when transaction ids are about to run out.",
        action="Switch it on again; change thresholds of the table instead.",
        needs="nothing",
        run=_disabled,
        decides={"warning": "off for a table", "critical": "off for the server"},
        facts=(COUNTING,),
    ),
    VACUUM_AGE,
]
