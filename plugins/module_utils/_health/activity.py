# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: what runs, and for how long. They look at the whole server, not at one database."""

from __future__ import annotations

from typing import Iterable, List

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import OK, Check, Limits, Reading, judge, unknown
from ansible_collections.pgops.runbook.plugins.module_utils._health.sessions import EXPECTED_LONG, SESSIONS, hidden_sessions, sessions


def _longest(look: Look, limits: Limits) -> Iterable[Reading]:
    facts = look.seen(sessions)
    readings = []
    if facts["active"]:
        first = facts["active"][0]
        # The statement itself is never shown: it may hold a token or a password.
        who = f"process {first['pid']} of {first['usename']} in {first['datname']}"
        using = f", {first['application_name']}" if first["application_name"] else ""
        waits = f", waiting for {first['wait_event_type']}" if first["wait_event_type"] else ""
        longer = sum(judge(LONGEST, limits, session["age"])[0] != OK for session in facts["active"])
        more = f"; {longer} run for too long" if longer > 1 else ""
        message = f"the longest statement has run for {format_duration(max(0, round(first['age'])))} ({who}{using}{waits}){more}"
        readings.append(Reading(message, round(first["age"], 3)))
    if facts["hidden"] or facts["dark"]:
        visible_is_fine = not readings or judge(LONGEST, limits, readings[0].amount)[0] == OK
        blind = unknown(hidden_sessions(look, "the longest statement is not known"), "" if visible_is_fine else "sessions not seen")
        return [blind] if visible_is_fine else [*readings, blind]
    return readings or [Reading("no statement runs", 0.0)]


LONGEST = Check(
    id="query.longest",
    title="Longest running statement",
    tier="hourly",
    looks_at="The age of the statements that client backends of all databases run now. A session in another state than active shows "
    f"its last statement, which is over, and does not count; nor do sessions whose application_name is {', '.join(EXPECTED_LONG)}.",
    action="Look what it does and whether it waits for a lock, then cancel it: SELECT pg_cancel_backend(<process>).",
    needs="pg_read_all_stats",
    run=_longest,
    facts=(SESSIONS,),
    unit="seconds",
    warning=300,
    critical=600,
)
CHECKS: List[Check] = [LONGEST]
