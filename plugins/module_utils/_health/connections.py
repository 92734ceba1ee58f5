# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: how many clients are connected, and what they do. They look at the whole server, not at one database."""

from __future__ import annotations

from typing import Callable, Iterable, List

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import OK, Check, Limits, Reading, judge, unknown
from ansible_collections.pgops.runbook.plugins.module_utils._health.sessions import SESSIONS, hidden_sessions, sessions


def _used(look: Look, limits: Limits) -> Iterable[Reading]:
    facts = look.seen(sessions)
    slots = max(1, facts["max_connections"] - facts["reserved"])
    show = f"of {slots} connections ({facts['max_connections']} less {facts['reserved']} reserved)"
    return [_bounded(look, limits, USED, show, lambda count: round(100.0 * count / slots, 1))]


def _active(look: Look, limits: Limits) -> Iterable[Reading]:
    return [_bounded(look, limits, ACTIVE, "client connections of the whole server", float)]


def _bounded(look: Look, limits: Limits, check: Check, noun: str, amount: Callable[[int], float]) -> Reading:
    """Judge a number of client backends that is known only to lie between what is seen and what may be hidden.

    Where both ends are judged alike the judgement is certain; where they are not, it is unknown unless what is seen is too much already.
    """
    facts = look.seen(sessions)
    least, most = facts["clients"], facts["clients"] + facts["hidden"]
    if least == most:
        return Reading(f"{least} {noun}", amount(least))
    low, high = (judge(check, limits, amount(count))[0] for count in (least, most))
    if low == high == OK:
        return Reading(f"at most {most} {noun}", amount(most))
    if low != OK:
        return Reading(f"at least {least} {noun}", amount(least))
    return unknown(hidden_sessions(look, f"{least} to {most} {noun}"))


def _states(look: Look, limits: Limits) -> Iterable[Reading]:
    facts = look.seen(sessions)
    said = [f"{state['sessions']} {state['state']} (oldest {_age(state['oldest'])})" for state in facts["states"]]
    metrics = {f"conn.states[{state['state']}]": float(state["sessions"]) for state in facts["states"]}
    message = ", ".join(said) or "no other client is connected"
    if facts["hidden"] or facts["dark"]:
        return [unknown(hidden_sessions(look, message if said else "not to be seen"))]
    return [Reading(message, metrics=metrics)]


def _age(seconds: float | None) -> str:
    return "unknown" if seconds is None else format_duration(round(seconds))


USED = Check(
    id="conn.used_pct",
    title="Connections in use",
    tier="hourly",
    looks_at="Client backends of the whole server as a share of max_connections less superuser_reserved_connections and "
    "reserved_connections (PostgreSQL 16 and later).",
    action="End idle sessions, bound the application's pool, or put a pooler in front before raising max_connections.",
    needs="pg_read_all_stats; without it the number is bounded by the sessions that may be clients",
    run=_used,
    facts=(SESSIONS,),
    unit="percent",
    warning=80,
    critical=90,
)
ACTIVE = Check(
    id="conn.active",
    title="Client connections",
    tier="hourly",
    looks_at="The number of client backends of the whole server. It has thresholds where the system gives them.",
    action="Scale the connection pool, and look which application opens the connections.",
    needs="pg_read_all_stats; without it the number is bounded by the sessions that may be clients",
    run=_active,
    facts=(SESSIONS,),
    unit="count",
)
CHECKS: List[Check] = [
    USED,
    ACTIVE,
    Check(
        id="conn.states",
        title="Connections by state",
        tier="hourly",
        looks_at="Client backends other than its own by state, with the time that the oldest has been in it.",
        action="Look at sessions that stay idle in transaction: they hold locks and keep VACUUM from removing dead rows.",
        needs="pg_read_all_stats",
        run=_states,
        facts=(SESSIONS,),
    ),
]
