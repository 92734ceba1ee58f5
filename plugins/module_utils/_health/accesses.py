# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who reads what belongs to others, and who reads too much."""

from __future__ import annotations

from typing import Iterable, List

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import readable
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading, skipped
from ansible_collections.pgops.runbook.plugins.module_utils._health.times import Moments
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted

_NOT_KEPT = "the system has no access log"


def _cross_user(look: Look, limits: Limits) -> Iterable[Reading]:
    log = look.system.get("access_log")
    if not log:
        return skipped(_NOT_KEPT)
    if not log["kind"] or not log["cross_user"]:
        return skipped("the access log does not say which accesses cross users (access_log.kind and cross_user)")
    relation = readable(look, log["table"], [log["at"]["column"], log["user"], log["kind"]])
    sql, moments = look.sql, Moments(look)
    statement = sql.SQL(
        "SELECT count(*) AS rows, count(DISTINCT {user}) AS users FROM {table} WHERE {at} >= {since} AND {kind}::text = %(wanted)s"
    ).format(
        user=sql.Identifier(log["user"]),
        table=relation.name.identifier(sql),
        at=sql.Identifier(log["at"]["column"]),
        since=moments.constant(relation, log["at"], look.ago(log["review_seconds"])),
        kind=sql.Identifier(log["kind"]),
    )
    found = look.row(statement, {**moments.parameters, "wanted": log["cross_user"]})
    period = format_duration(log["review_seconds"])
    if not found["rows"]:
        return [Reading(f"nobody read what belongs to another in the last {period}", 0.0, log["table"])]
    message = f"{counted(found['rows'], 'access', 'accesses')} to what belongs to another in the last {period}"
    return [Reading(f"{message}, by {counted(found['users'], 'user')}", float(found["rows"]), log["table"])]


def _rate(look: Look, limits: Limits) -> Iterable[Reading]:
    log = look.system.get("access_log")
    if not log:
        return skipped(_NOT_KEPT)
    relation = readable(look, log["table"], [log["at"]["column"], log["user"]])
    sql, moments = look.sql, Moments(look)
    bounds = [bound for bound in (limits.warning, limits.critical) if bound is not None]
    statement = sql.SQL(
        "WITH reader AS (SELECT {user}::text AS who, count(*) AS rows FROM {table} WHERE {at} >= {since} GROUP BY 1)"
        " SELECT who, rows FROM reader WHERE rows > %(bound)s OR rows = (SELECT max(rows) FROM reader) ORDER BY rows DESC, who"
    ).format(
        user=sql.Identifier(log["user"]),
        table=relation.name.identifier(sql),
        at=sql.Identifier(log["at"]["column"]),
        since=moments.constant(relation, log["at"], look.ago(log["window_seconds"])),
    )
    found = look.rows(statement, {**moments.parameters, "bound": min(bounds, default=float("inf"))})
    period = format_duration(log["window_seconds"])
    over = [row for row in found if bounds and row["rows"] > min(bounds)]
    if not over:
        most = max((row["rows"] for row in found), default=0)
        return [Reading(f"no user has more than {most} accesses in the last {period}", float(most), log["table"])]
    return [Reading(f"{row['rows']} accesses in the last {period}", float(row["rows"]), f"user {row['who']}") for row in over]


CHECKS: List[Check] = [
    Check(
        id="security.access_rate",
        title="Users who read very much",
        tier="hourly",
        looks_at="Rows of the access log by user within its window. It has thresholds where the system gives them.",
        action="Look at what the user reads, and lock the user out if nobody can explain it.",
        needs="SELECT on the columns of the access log that it reads",
        run=_rate,
        unit="count",
    ),
    Check(
        id="security.cross_user_access",
        title="Accesses to what belongs to another",
        tier="daily",
        looks_at="Rows of the access log within its review that are of the kind cross_user.",
        action="Find out how one user could read what belongs to another.",
        needs="SELECT on the columns of the access log that it reads",
        run=_cross_user,
        unit="count",
        warning=0,
    ),
]
