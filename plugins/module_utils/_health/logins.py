# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: logins that have begun and not ended."""

from __future__ import annotations

from typing import Any, Callable, Iterable, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import readable
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading, per_object, skipped
from ansible_collections.pgops.runbook.plugins.module_utils._health.times import Moments
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted, moment

STUCK_AFTER = 3600.0
Flow = Mapping[str, Any]


def _every_flow(look: Look, read: Callable[[str, Flow], Reading]) -> Iterable[Reading]:
    flows = look.system.get("login_flows") or ()
    return per_object([(flow["table"], flow) for flow in flows], read) if flows else skipped("the system has no login flow")


def _stuck(look: Look, limits: Limits) -> Iterable[Reading]:
    def read(name: str, flow: Flow) -> Reading:
        created_at, age = flow["created_at"], max(STUCK_AFTER, flow["timeout_seconds"])
        relation = readable(look, flow["table"], [created_at["column"]])
        sql, moments = look.sql, Moments(look)
        column = sql.Identifier(created_at["column"])
        statement = sql.SQL("SELECT count(*) AS rows, {oldest}::text AS oldest FROM {table} WHERE {column} < {limit}").format(
            oldest=moments.instant(relation, created_at, sql.SQL("min({})").format(column)),
            table=relation.name.identifier(sql),
            column=column,
            limit=moments.constant(relation, created_at, look.ago(age)),
        )
        found = look.row(statement, moments.parameters)
        if not found["rows"]:
            return Reading(f"no login has been pending for more than {format_duration(age)}", 0.0, name)
        oldest = moment(found["oldest"])
        message = f"{counted(found['rows'], 'login')} pending for more than {format_duration(age)}, the oldest since {oldest}"
        return Reading(message, float(found["rows"]), name)

    return _every_flow(look, read)


def _pending(look: Look, limits: Limits) -> Iterable[Reading]:
    def read(name: str, flow: Flow) -> Reading:
        relation = readable(look, flow["table"], [flow["created_at"]["column"]])
        count = look.row(look.sql.SQL("SELECT count(*) AS rows FROM {}").format(relation.name.identifier(look.sql)))["rows"]
        return Reading(f"{counted(count, 'login')} pending", float(count), name)

    return _every_flow(look, read)


CHECKS: List[Check] = [
    Check(
        id="login.stuck",
        title="Logins that never ended",
        tier="hourly",
        looks_at="Rows of every login flow that are older than one hour, or than the flow's own timeout where that is longer. A date is "
        "as old as the end of its day.",
        action="Look whether the login service answers and whether the retention of pending logins runs.",
        needs="SELECT on the column that says when a login began",
        run=_stuck,
        unit="count",
        warning=0,
    ),
    Check(
        id="login.pending",
        title="Logins under way",
        tier="hourly",
        looks_at="All rows of every login flow.",
        action="Look whether the login service answers, or whether somebody floods it with logins.",
        needs="SELECT on the column that says when a login began",
        run=_pending,
        unit="count",
        warning=100,
    ),
]
