# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: sessions that wait for others: how many, for how long, and who is at the root. They look at the whole server."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._health.blocking import ASKED, WAITING, Blocking, Root, blocking
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.longest import lasted
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import (
    CRITICAL,
    OK,
    WARNING,
    Check,
    Limits,
    Reading,
    Unseen,
    judge,
    unknown,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted

# The server looks for deadlocks after as long, and a shorter wait is nobody's trouble.
BLOCKED_AFTER = 1.0
# So many sessions that wait for longer than the warning because of one root are critical; without a warning, than so many seconds.
MANY = 3
_LONG = 60.0
_LISTED = 50
_NAMED = 2
_TREE = (
    "Who holds them up is followed to the root (pg_blocking_pids, asked of those alone who wait for a lock), also to prepared "
    "transactions and to a session that has a whole table locked or merely asks for it, behind which all readers queue. "
    "Who waits for an advisory lock is queued by its own application and does not count."
)
_ACTION = "Let the session at the root commit or roll back, or end it: SELECT pg_terminate_backend(<process>)."

# Any other autovacuum gives way after deadlock_timeout.
_AUTOVACUUM = "Let it finish: this vacuum prevents a wraparound. End those that wait for a lock on a whole table, and try them later."


def _blocked(look: Look, limits: Limits) -> Iterable[Reading]:
    found = look.seen(_tree)
    waiting = [each for each in found.clients if each.seconds is None or each.seconds >= BLOCKED_AFTER]
    message = "no session waits for a lock"
    if waiting:
        message = f"{counted(len(waiting), 'session')} wait{'' if len(waiting) > 1 else 's'} for locks{_because(found)}"
    metrics = {"lock.advisory_waits": float(found.advisory)}
    return [Reading(message, float(len(waiting)), action=_action(found) if waiting else None, metrics=metrics)]


def _wait(look: Look, limits: Limits) -> Iterable[Reading]:
    found = look.seen(_tree)
    seconds = [each.seconds for each in found.clients if each.seconds is not None]
    longest = round(max(seconds, default=0.0), 3)
    exact = all(each.exact for each in found.clients)
    message = f"the longest wait has lasted {'' if exact else 'at most '}{lasted(longest)}{_because(found)}"
    over = _LONG if limits.warning is None else limits.warning
    # A bound of the wait is no proof: the statement may have run for long, and wait since just now.
    crowd = [root for root in found.roots if exact and root.waiting_for(over) >= MANY]
    status = judge(WAIT, limits, longest)[0]
    if status == CRITICAL and not exact:
        status = WARNING
    if crowd and limits.critical is not None and status != CRITICAL:
        message = f"{who(crowd[0].facts)} has held up {crowd[0].waiting_for(over)} sessions for more than {lasted(over)}; {message}"
        status = CRITICAL
    readings = [Reading(message if found.clients else "no session waits for a lock", longest, status=status, action=_action(found))]
    hidden = len(found.clients) - len(seconds)
    if hidden:
        blind = Unseen(
            f"the role {look.role} may not see since when {counted(hidden, 'session')} of those that wait for a lock do so",
            hint=f"As a superuser: GRANT pg_read_all_stats TO {quoted(look.role)};",
        )
        return [unknown(blind)] if status == OK else [*readings, unknown(blind, "sessions not seen")]
    return readings


def who(facts: Mapping[str, object]) -> str:
    """Return a root as a person finds it again, never what it runs."""
    if "gid" in facts:
        return f"the prepared transaction {facts['gid']} of {facts['owner']} in {facts['database']}"
    if "user" not in facts:
        return "a prepared transaction" if isinstance(facts["pid"], str) else f"process {facts['pid']}"
    using = f", {facts['application']}" if facts["application"] else ""
    state = facts["what"] if facts["what"] not in (None, "client backend") else facts["state"]
    return f"process {facts['pid']} of {facts['user'] or 'the server'} in {facts['database']}{using}{f', {state}' if state else ''}"


def _because(found: Blocking) -> str:
    """Return who is at the root of it, in half a sentence."""
    said = []
    for root in found.roots[:_NAMED]:
        ddl = {
            "held": ", with a whole table locked",
            "queued": ", and behind it a lock on a whole table is queued, which stops all readers",
        }
        said.append(f"{who(root.facts)} holds up {len(root.waiters)} on {', '.join(root.locked[:2])}{ddl.get(root.ddl or '', '')}")
    if len(found.roots) > _NAMED:
        said.append(f"and {len(found.roots) - _NAMED} more")
    asked = f" (of {len(found.waiters)} the {ASKED} that have waited longest were asked)" if len(found.waiters) > ASKED else ""
    return f": {'; '.join(said)}{asked}" if said else ""


def _action(found: Blocking) -> str | None:
    if not found.roots:
        return None
    facts = found.roots[0].facts
    if "gid" in facts:
        gid = "'" + str(facts["gid"]).replace("'", "''") + "'"
        return f"In {facts['database']}, end it by COMMIT PREPARED {gid} or by ROLLBACK PREPARED {gid}, and look who left it behind."
    if facts.get("what") == "autovacuum worker":
        return _AUTOVACUUM
    return _ACTION.replace("<process>", str(facts["pid"])) if isinstance(facts["pid"], int) else None


def _tree(look: Look) -> Blocking:
    """Return who waits for whom, and list it for a report."""
    found = blocking(look)
    look.details.setdefault("blocking", []).extend(_row(root) for root in found.roots[:_LISTED])
    return found


def _row(root: Root) -> Dict[str, Any]:
    return {
        "root": who(root.facts),
        "waiters": len(root.waiters),
        "longest_seconds": None if root.longest is None else round(root.longest, 1),
        "locked": ", ".join(root.locked[:5]),
        "ddl_queue": root.ddl or "",
        "open_seconds": None if root.facts.get("seconds") is None else round(float(str(root.facts["seconds"])), 1),
    }


WAIT = Check(
    id="lock.wait",
    title="Longest wait for a lock",
    tier="hourly",
    looks_at=f"For how long client sessions wait for a lock; before PostgreSQL 14 their statement bounds it, which is "
    f"a warning at most. {_TREE}",
    action=_ACTION,
    needs="pg_read_all_stats before PostgreSQL 14, later nothing",
    decides={"critical": f"also one root that has held up {MANY} sessions or more for longer than the warning"},
    run=_wait,
    facts=(WAITING,),
    unit="seconds",
    warning=60,
    critical=300,
)
CHECKS: List[Check] = [
    Check(
        id="lock.blocked",
        title="Sessions that wait for a lock",
        tier="hourly",
        looks_at=f"How many client sessions have waited for a lock for {BLOCKED_AFTER:g} s or longer. {_TREE} It has thresholds where the "
        "system gives them.",
        action=_ACTION,
        needs="nothing",
        run=_blocked,
        facts=(WAITING,),
        unit="count",
    ),
    WAIT,
]
