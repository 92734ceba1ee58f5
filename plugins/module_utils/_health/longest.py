# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The session that has lasted longest in what a check looks at: one reading for all, because sessions have no lasting names."""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import OK, Check, Limits, Reading, judge, unknown
from ansible_collections.pgops.runbook.plugins.module_utils._health.sessions import hidden_sessions, sessions

# More than so many rows are not told of one check.
_LISTED = 20


def lasted(seconds: float | None) -> str:
    """Return an age as a person says it: seconds up to an hour, then minutes, then hours."""
    if seconds is None:
        return "an unknown time"
    step = 1 if seconds < 3600 else 60 if seconds < 2 * 86400 else 3600
    return format_duration(max(0, round(seconds / step) * step))


def longest(look: Look, limits: Limits, check: Check, noun: str, found: Sequence[Mapping[str, Any]], key: str) -> Iterable[Reading]:
    """Judge the longest of `found` by its seconds under `key`. What the role may not see is unknown beside it.

    The statement itself is never shown: it may hold a token or a password.
    """
    ordered = sorted((each for each in found if each[key] is not None), key=lambda each: -each[key])
    over = [each for each in ordered if judge(check, limits, each[key])[0] != OK]
    _list(look, check, over, key)
    readings: List[Reading] = []
    if ordered:
        first = ordered[0]
        more = f"; {len(over)} last for too long" if len(over) > 1 else ""
        message = f"the longest {noun} has lasted {lasted(first[key])} ({who(first)}{_waits(first)}){more}"
        readings.append(Reading(message, round(first[key], 3), action=_action(check, first) if over else None))
    facts = look.seen(sessions)
    if facts["hidden"] or facts["dark"]:
        blind = unknown(hidden_sessions(look, f"the longest {noun} is not known"), "sessions not seen" if over else "")
        return [*readings, blind] if over else [blind]
    return readings or [Reading(f"no {noun}", 0.0)]


def who(session: Mapping[str, Any]) -> str:
    """Return a session as a person finds it again."""
    using = f", {session['application_name']}" if session["application_name"] else ""
    return f"process {session['pid']} of {session['usename']} in {session['datname']}{using}"


def _waits(session: Mapping[str, Any]) -> str:
    return f", waiting for {session['wait_event_type']}" if session["wait_event_type"] and session["state"] == "active" else ""


def _action(check: Check, session: Mapping[str, Any]) -> str:
    return check.action.replace("<process>", str(session["pid"]))


def _list(look: Look, check: Check, over: Sequence[Mapping[str, Any]], key: str) -> None:
    for each in over[:_LISTED]:
        row = {"check": check.id, "pid": each["pid"], "user": each["usename"], "database": each["datname"]}
        row.update({"application": each["application_name"], "state": each["state"], "lasted_seconds": round(each[key], 1)})
        look.details.setdefault("sessions", []).append(row)
