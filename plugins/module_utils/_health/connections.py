# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: how many clients are connected, and what they do. They look at the whole server, not at one database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict, Iterable, List

from ansible_collections.pgops.runbook.plugins.module_utils._health.longest import lasted, longest
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import OK, Check, Limits, Reading, judge, unknown
from ansible_collections.pgops.runbook.plugins.module_utils._health.sessions import LEFT_OUT, SESSIONS, hidden_sessions, sessions

# What a report lists of who is connected.
_LISTED = 50


def _used(look: Look, limits: Limits) -> Iterable[Reading]:
    facts = look.seen(sessions)
    slots = max(1, _slots(facts))
    noun = f"of {slots} connections ({facts['max_connections']} less {facts['reserved']} reserved)"
    reading = _bounded(look, limits, USED, lambda count: f"{count} {noun}", lambda count: round(100.0 * count / slots, 1))
    return [replace(reading, metrics={"conn.slots": float(slots)})]


def _left(look: Look, limits: Limits) -> Iterable[Reading]:
    slots = _slots(look.seen(sessions))
    return [_bounded(look, limits, LEFT, lambda count: f"{count} of {slots} connections in use", lambda count: float(slots - count))]


def _active(look: Look, limits: Limits) -> Iterable[Reading]:
    return [_bounded(look, limits, ACTIVE, lambda count: f"{count} client connections of the whole server", float)]


def _slots(facts: Dict[str, Any]) -> int:
    """Return how many sessions those may open who have no reserved ones."""
    return int(facts["max_connections"] - facts["reserved"])


def _bounded(look: Look, limits: Limits, check: Check, say: Callable[[Any], str], amount: Callable[[int], float]) -> Reading:
    """Judge a number of client backends that is known only to lie between what is seen and what may be hidden.

    Where both ends are judged alike the judgement is certain; where they are not, it is unknown unless what is seen is too much already.
    """
    facts = look.seen(sessions)
    least, most = facts["clients"], facts["clients"] + facts["hidden"]
    if least == most:
        return Reading(say(least), amount(least))
    low, high = (judge(check, limits, amount(count))[0] for count in (least, most))
    if low == high == OK:
        return Reading(f"at most {say(most)}", amount(most))
    if low != OK:
        return Reading(f"at least {say(least)}", amount(least))
    return unknown(hidden_sessions(look, say(f"{least} to {most}")))


def _states(look: Look, limits: Limits) -> Iterable[Reading]:
    facts = look.seen(sessions)
    said = [f"{state['sessions']} {state['state']} (oldest {lasted(state['oldest'])})" for state in facts["states"]]
    metrics = {f"conn.states[{state['state']}]": float(state["sessions"]) for state in facts["states"]}
    message = ", ".join(said) or "no other client is connected"
    if facts["hidden"] or facts["dark"]:
        return [unknown(hidden_sessions(look, message if said else "not to be seen"))]
    return [Reading(message, metrics=metrics)]


def _idle_in_transaction(look: Look, limits: Limits) -> Iterable[Reading]:
    found = [each for each in look.seen(sessions)["busy"] if each["state"].startswith("idle in transaction")]
    return longest(look, limits, IDLE_IN_TRANSACTION, "idle transaction", found, "age")


def _idle(look: Look, limits: Limits) -> Iterable[Reading]:
    facts = look.seen(sessions)
    groups = sorted((each for each in facts["who"] if each["longest_idle"] is not None), key=lambda each: -each["longest_idle"])
    readings = [Reading("no session is idle", 0.0)]
    if groups:
        first, idle = groups[0], sum(each["idle"] for each in groups)
        message = f"{idle} idle, the longest for {lasted(first['longest_idle'])} ({_group(first)})"
        readings = [Reading(message, round(first["longest_idle"], 3))]
    if facts["hidden"] or facts["dark"]:
        fine = judge(IDLE, limits, readings[0].amount)[0] == OK
        blind = unknown(hidden_sessions(look, "the longest idle session is not known"), "" if fine else "sessions not seen")
        return [blind] if fine else [*readings, blind]
    return readings


def _clients(look: Look, limits: Limits) -> Iterable[Reading]:
    facts = look.seen(sessions)
    groups: List[Dict[str, Any]] = facts["who"]
    names = ("application", "user", "database", "address", "sessions")
    look.details.setdefault("clients", []).extend({name: each[name] for name in names} for each in groups[:_LISTED])
    said = [f"{each['sessions']} {_group(each)}" for each in groups[:3]] + ([f"and {len(groups) - 3} more"] if len(groups) > 3 else [])
    message = "; ".join(said) or "no other client is connected"
    if facts["hidden"]:
        return [unknown(hidden_sessions(look, f"{message}; from where is not known of all"))]
    return [Reading(message)]


def _group(group: Dict[str, Any]) -> str:
    using = group["application"] or "without an application_name"
    return f"{using}, {group['user']} in {group['database']} from {group['address'] or 'an unknown address'}"


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
LEFT = Check(
    id="conn.slots_left",
    title="Connections left",
    tier="hourly",
    looks_at="How many more sessions those can open who have no reserved ones: max_connections less superuser_reserved_connections, "
    "reserved_connections (PostgreSQL 16 and later) and the client backends of the whole server. It has thresholds where the system "
    "gives them.",
    action="End idle sessions, bound the application's pool, or put a pooler in front before raising max_connections.",
    needs="pg_read_all_stats; without it the number is bounded by the sessions that may be clients",
    run=_left,
    facts=(SESSIONS,),
    unit="count",
    worse="below",
)
IDLE_IN_TRANSACTION = Check(
    id="conn.idle_in_transaction",
    title="Longest idle transaction",
    tier="hourly",
    looks_at="For how long client backends of all databases have been idle in a transaction, also in one that has failed: since they last "
    f"changed their state, not since the transaction began. {LEFT_OUT}",
    action="Let the application commit or roll back; end the session, because cancelling does nothing to it: "
    "SELECT pg_terminate_backend(<process>). Then bound it: ALTER ROLE <user> SET idle_in_transaction_session_timeout = '10 min'.",
    needs="pg_read_all_stats",
    run=_idle_in_transaction,
    facts=(SESSIONS,),
    unit="seconds",
    warning=300,
    critical=900,
)
IDLE = Check(
    id="conn.idle",
    title="Longest idle session",
    tier="hourly",
    looks_at="For how long client backends of all databases have been idle, outside a transaction. It has thresholds where the system "
    "gives them: a pool keeps idle sessions on purpose.",
    action="Let the pool close them sooner, or bound them (PostgreSQL 14 and later): ALTER ROLE <user> SET idle_session_timeout = '1 h'.",
    needs="pg_read_all_stats",
    run=_idle,
    facts=(SESSIONS,),
    unit="seconds",
)
CHECKS: List[Check] = [
    USED,
    ACTIVE,
    LEFT,
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
    IDLE_IN_TRANSACTION,
    IDLE,
    Check(
        id="conn.clients",
        title="Who is connected",
        tier="hourly",
        looks_at="Client backends other than its own by application_name, user, database and address.",
        action="Look which application opens more sessions than its pool should.",
        needs="pg_read_all_stats",
        run=_clients,
        facts=(SESSIONS,),
    ),
]
