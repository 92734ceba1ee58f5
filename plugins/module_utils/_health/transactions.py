# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: what keeps old rows and locks: prepared transactions, and the xmin horizon. They look at the whole server."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.horizon import ASSIGNED, CLOCK, HORIZON, Holder, holders
from ansible_collections.pgops.runbook.plugins.module_utils._health.longest import lasted
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import (
    CRITICAL,
    OK,
    STATUSES,
    WARNING,
    Check,
    Limits,
    Reading,
    Unseen,
    judge,
    skipped,
    unknown,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted

PREPARED = Fact(
    "prepared",
    """
SELECT coalesce(json_agg(json_build_object('gid', p.gid, 'owner', p.owner, 'database', p.database,
    'seconds', extract(epoch FROM clock_timestamp() - p.prepared)::float8) ORDER BY p.prepared), '[]')
FROM pg_prepared_xacts p
""",
)
# The horizon is held back for too long after so many seconds where many ids have been given away since, and after so many in any case.
HELD_LONG = 3600.0
HELD_TOO_LONG = 86400.0
_NAMED = 3


def _twophase(look: Look, limits: Limits) -> Iterable[Reading]:
    if look.database.in_recovery:
        return skipped("a standby: prepared transactions are seen on the primary alone")
    found = look.fact(PREPARED)
    readings = [_prepared(each) for each in found if judge(TWOPHASE, limits, each["seconds"])[0] != OK]
    if readings:
        return readings
    if not found:
        return [Reading("no prepared transaction", 0.0)]
    oldest = found[0]
    return [
        Reading(f"{counted(len(found), 'prepared transaction')}, the oldest for {lasted(oldest['seconds'])}", round(oldest["seconds"], 3))
    ]


def _prepared(each: Mapping[str, Any]) -> Reading:
    message = f"prepared by {each['owner']} in {each['database']} {lasted(each['seconds'])} ago, and neither committed nor rolled back"
    return Reading(message, round(each["seconds"], 3), each["gid"], action=f"{_finish(each['database'], each['gid'])} {_OWNER}")


def _finish(database: str, gid: str) -> str:
    return f"Ask its transaction manager what became of it; then, in the database {database}: ROLLBACK PREPARED {_literal(gid)}."


def _xmin(look: Look, limits: Limits) -> Iterable[Reading]:
    clock = look.fact(CLOCK)
    metrics = {ASSIGNED: float(clock["next"])}
    if look.database.in_recovery and not clock["feedback"]:
        # Its sessions are cancelled in the end, or delay the replay, and the primary does not know of them.
        return skipped("a standby with hot_standby_feedback off: nothing here keeps the primary from removing rows")
    found = look.seen(holders)
    metrics[XMIN.id] = float(found[0].xids) if found else 0.0
    judged = [(_status(limits, holder), holder) for holder in found]
    # Of those that have the same name the worst counts.
    worst: Dict[str, Tuple[str, Holder]] = {}
    for status, holder in judged:
        if status != OK and (holder.name not in worst or STATUSES.index(status) > STATUSES.index(worst[holder.name][0])):
            worst[holder.name] = status, holder
    readings = [_held(holder, status, metrics) for status, holder in worst.values()]
    hidden = [holder for status, holder in judged if holder.hidden and status == OK]
    if hidden:
        blind = Unseen(
            f"the role {look.role} may not see since when {counted(len(hidden), 'session')} ({hidden[0].title}) "
            f"keep the server from removing rows, by {hidden[0].xids:,} transaction ids at most",
            hint=f"As a superuser: GRANT pg_read_all_stats TO {quoted(look.role)};",
        )
        readings.append(unknown(blind, "sessions not seen" if readings else ""))
    if readings:
        return readings
    if not found:
        return [Reading("nothing keeps the server from removing rows", 0.0, metrics=metrics)]
    said = [f"{holder.title} by {counted(holder.xids, 'transaction id')}" for holder in found[:_NAMED]]
    return [Reading(f"held back for a short time: {'; '.join(said)}", float(found[0].xids), status=OK, metrics=metrics)]


def _status(limits: Limits, holder: Holder) -> str:
    """Judge a holder in two dimensions; where nobody knows for how long it has held, the transaction ids alone decide."""
    seconds = holder.seconds or 0.0
    if limits.critical is not None and (holder.xids > limits.critical or seconds > HELD_TOO_LONG):
        return CRITICAL
    if limits.warning is None or holder.xids <= limits.warning or holder.hidden:
        return OK
    # What is known of a slot is the least, and does not make it any younger. An estimate may.
    known = holder.seconds if holder.kind in ("session", "prepared") else holder.estimate
    return WARNING if known is None or max(known, seconds) > HELD_LONG else OK


def _held(holder: Holder, status: str, metrics: Mapping[str, float]) -> Reading:
    least = "at least " if holder.kind == "slot" else ""
    since = "" if holder.seconds is None else f" for {least}{lasted(holder.seconds)}"
    what = "dead rows of the catalogue" if holder.catalogue else "dead rows"
    message = f"{holder.title} keeps {what} of the last {counted(holder.xids, 'transaction id')}{since}"
    return Reading(message, float(holder.xids), holder.name, status=status, action=_release(holder), metrics=metrics)


def _release(holder: Holder) -> str:
    facts = holder.facts
    if holder.kind == "session":
        return f"Let it commit, or end it: SELECT pg_terminate_backend({facts['pid']})."
    if holder.kind == "prepared":
        return _finish(facts["database"], facts["name"])
    if holder.kind == "slot":
        feedback = "" if holder.catalogue else "end the long queries of its standby, or switch hot_standby_feedback off there; "
        drop = "SELECT pg_drop_replication_slot(" + _literal(facts["name"]) + ")"
        return f"Bring its receiver back if it is away; {feedback}if nobody needs the slot: {drop}."
    if holder.kind == "standby":
        return "Look for the longest transaction on that standby and end it there, or switch hot_standby_feedback off there."
    return "Set it back: ALTER SYSTEM RESET vacuum_defer_cleanup_age; SELECT pg_reload_conf()."


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_OWNER = "It holds its locks and old rows until then, also over a restart."
TWOPHASE = Check(
    id="twophase.age",
    title="Prepared transactions left behind",
    tier="hourly",
    looks_at="Since when transactions of all databases have been prepared for a two-phase commit (pg_prepared_xacts) and not ended. "
    "A standby does not show them.",
    action="Ask the transaction manager what became of it, and end it by COMMIT PREPARED or ROLLBACK PREPARED in its database.",
    needs="nothing",
    run=_twophase,
    facts=(PREPARED,),
    unit="seconds",
    warning=300,
    critical=3600,
)
XMIN = Check(
    id="xmin.horizon",
    title="Dead rows that must stay",
    tier="hourly",
    looks_at="What keeps VACUUM from removing dead rows, in all databases, and by how many transaction ids: sessions, prepared "
    "transactions, replication slots by xmin and by catalog_xmin, standbys by their feedback (hot_standby_feedback), and "
    "vacuum_defer_cleanup_age where it exists. Vacuums and parallel workers do not count. "
    "Since when a slot or standby holds nothing tells; with a history the pace at which ids are given away does, near enough. "
    "On a standby without hot_standby_feedback nothing is looked at.",
    action="End what holds: see the finding.",
    needs="pg_read_all_stats; without it ids and names are seen, and not since when",
    run=_xmin,
    facts=(HORIZON, CLOCK),
    unit="count",
    warning=1_000_000,
    critical=10_000_000,
    decides={
        "warning": "more than the warning, and held for more than 1 h or nobody knows for how long",
        "critical": "more than the critical, or held for more than 24 h by however few",
    },
)
CHECKS: List[Check] = [TWOPHASE, XMIN]
