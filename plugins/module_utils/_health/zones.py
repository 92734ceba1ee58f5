# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check: do the newest rows lie in the future, because a column's clock stands in another zone than the one declared."""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping, NamedTuple, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import readable
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import (
    SKIPPED,
    UNKNOWN,
    Check,
    Limits,
    Reading,
    per_object,
    skipped,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.times import Moments, declared
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation

HALF_HOUR = 1800
# From the westernmost zone to the easternmost there are 26 hours.
WIDEST = 26 * 3600
# The newest row is a little older than now; more than that, and the distance says nothing about a zone.
IDLE = 600
# A clock that is right to the minute is right: a row of just now belongs to the half hour that ends now.
SLACK = 60
# So many rows in an hour are a steady flow; with fewer, how long ago the newest was written is chance.
ENOUGH = 20

Column = Tuple[str, Mapping[str, Any]]


class Bucket(NamedTuple):
    """The rows of one half hour: `number` 0 begins SLACK after now, -1 ends there. `newest` is in seconds from now."""

    number: int
    rows: int
    newest: float


def crowd_ahead(buckets: Sequence[Bucket], minimum: float) -> Bucket | None:
    """Return the newest half hour ahead of now that is about as full as those before now, or None.

    A zone moves every row. So the half hours up to the newest row are about as full as those before now, which a few tokens
    dated ahead are not. Where nothing lies before now, every row ahead is a crowd.
    """
    past = _past(buckets)
    ahead = sorted((bucket for bucket in buckets if bucket.number >= 0), reverse=True)
    for bucket in ahead:
        below = sum(other.rows for other in ahead if other.number <= bucket.number)
        if bucket.rows >= past / 4 and below >= (bucket.number + 1) * past / 4:
            # Below the newest dense half hour every other one is full up to its end as well, which says nothing.
            return bucket if below >= minimum else None
    return None


def offset_ahead(buckets: Sequence[Bucket], minimum: float) -> int | None:
    """Return by how many seconds the clock of a column runs ahead as a zone would make it, or None.

    That takes a crowd ahead whose newest row lies just short of a whole number of half hours ahead, and rows before now that
    it can be compared with: a few tokens dated ahead fulfil the one or the other, not all.
    """
    crowd = crowd_ahead(buckets, minimum)
    if crowd is None or not _past(buckets):
        return None
    offset = (crowd.number + 1) * HALF_HOUR
    return offset if offset - crowd.newest <= IDLE else None


def offset_behind(age: float, rows: int) -> int | None:
    """Return by how many seconds the clock of a column may run behind as a zone would make it, or None.

    `age` is that of the newest row in seconds, `rows` the number of rows in the hour up to it. Where those came steadily, the
    next one was due soon: a newest row that lies a little more than a whole number of half hours back was perhaps written just now.
    """
    offset = int(age // HALF_HOUR) * HALF_HOUR
    if not 0 < offset <= WIDEST or rows < ENOUGH:
        return None
    return offset if age - offset <= min(IDLE, 3 * 3600 / rows) else None


def _past(buckets: Sequence[Bucket]) -> float:
    return sum(bucket.rows for bucket in buckets if bucket.number < 0) / 2


def _zone_ahead(look: Look, limits: Limits) -> Iterable[Reading]:
    columns = list(_columns(look.system))
    if not columns:
        return skipped("the system names no column that records when something was issued or began")
    return per_object(
        [(f"{table}.{time['column']}", (table, time)) for table, time in columns], lambda name, column: _read(look, limits, name, column)
    )


def _columns(system: Mapping[str, Any]) -> Iterable[Column]:
    for store in system.get("token_stores") or ():
        tokens, revoke = store["tokens"], store["revoke"]
        if tokens.get("issued_at"):
            yield tokens["table"], tokens["issued_at"]
        if revoke["how"] == "denylist" and revoke.get("revoked_at"):
            yield revoke["table"], revoke["revoked_at"]
    for flow in system.get("login_flows") or ():
        yield flow["table"], flow["created_at"]


def _read(look: Look, limits: Limits, name: str, column: Column) -> Reading:
    table, time = column
    relation = readable(look, table, [time["column"]])
    kind = declared(relation, time).kind
    if kind != "wall":
        reason = "a date has no hours to be ahead by" if kind == "date" else "the column knows its zone"
        return Reading(reason, object_name=name, status="skipped")
    sql, moments = look.sql, Moments(look)
    distance = sql.SQL("extract(epoch FROM {} - {})").format(sql.Identifier(time["column"]), moments.constant(relation, time, look.now))
    statement = sql.SQL(
        "SELECT floor(({distance} - {slack}) / {half_hour})::int AS number, count(*) AS rows, max({distance})::float8 AS newest"
        " FROM {table} WHERE {column} > {since} AND {column} <= {until} GROUP BY 1"
    ).format(
        distance=distance,
        slack=sql.Literal(SLACK),
        half_hour=sql.Literal(HALF_HOUR),
        table=relation.name.identifier(sql),
        column=sql.Identifier(time["column"]),
        since=moments.constant(relation, time, look.ago(2 * HALF_HOUR - SLACK)),
        until=moments.constant(relation, time, look.ago(-WIDEST)),
    )
    buckets = [Bucket(row["number"], row["rows"], row["newest"]) for row in look.rows(statement, moments.parameters)]
    minimum, zone = limits.minimum or 1, time["time_zone"]
    ahead = float(sum(bucket.rows for bucket in buckets if bucket.number >= 0))
    offset = offset_ahead(buckets, minimum)
    if offset is not None:
        lie = f"the newest rows lie {offset / 3600:g} h ahead of now under the declared zone {zone} ({ahead:g} rows)"
        return Reading(f"{lie}: {_fitting(look, zone, offset)} would fit", ahead, name)
    crowd = crowd_ahead(buckets, minimum)
    if crowd and crowd.newest > look.clock_skew:
        # Neither what a zone would do nor what a few wrong dates would.
        beside = "as dense as those before it" if _past(buckets) else "and none within the hour before it"
        message = f"{ahead:g} rows lie up to {crowd.newest / 3600:.1f} h ahead of now, {beside}: dated ahead, or not in the zone {zone}"
        return Reading(message, object_name=name, status=UNKNOWN, action=_COMPARE)
    if any(-IDLE <= bucket.newest <= max(SLACK, look.clock_skew) for bucket in buckets):
        return Reading(f"the newest rows agree with {zone}", 0.0, name)
    return _idle(look, name, relation, time)


def _idle(look: Look, name: str, relation: Relation, time: Mapping[str, Any]) -> Reading:
    """Return the reading of a column without a row of the last minutes: never that it agrees."""
    sql, moments, zone = look.sql, Moments(look), time["time_zone"]
    statement = sql.SQL(
        "WITH newest (at) AS (SELECT max({column}) FROM {table} WHERE {column} > {since} AND {column} <= {now})"
        " SELECT extract(epoch FROM {now} - at)::float8 AS age,"
        " (SELECT count(*) FROM {table} WHERE {column} > at - interval '1 hour' AND {column} <= at) AS rows FROM newest"
    ).format(
        column=sql.Identifier(time["column"]),
        table=relation.name.identifier(sql),
        since=moments.constant(relation, time, look.ago(WIDEST + HALF_HOUR)),
        now=moments.constant(relation, time, look.now),
    )
    newest = look.row(statement, moments.parameters)
    offset = None if newest["age"] is None else offset_behind(newest["age"], newest["rows"])
    if offset is None:
        message = f"no row of the last {format_duration(IDLE)}: whether the rows are in the zone {zone} cannot be judged"
        return Reading(message, object_name=name, status=SKIPPED)
    message = (
        f"the newest row is {newest['age'] / 3600:.1f} h old: nothing was written since, or the rows lie {offset / 3600:g} h behind "
        f"the declared zone {zone} and {_fitting(look, zone, -offset)} would fit"
    )
    return Reading(message, object_name=name, status=UNKNOWN, action=_COMPARE)


_COMPARE = (
    "Compare a row that was just written with the clock: if they differ, correct time_zone of the column in the system description "
    "before the retention runs."
)
_FITTING = """
SELECT extract(epoch FROM (t.now AT TIME ZONE %(zone)s) - (t.now AT TIME ZONE 'UTC'))::int AS declared,
       s.reset_val AS session_zone,
       extract(epoch FROM (t.now AT TIME ZONE s.reset_val) - (t.now AT TIME ZONE 'UTC'))::int AS session_offset
FROM pg_settings s, (SELECT %(now)s::timestamptz) AS t (now) WHERE s.name = 'TimeZone'
"""


def _fitting(look: Look, zone: str, offset: int) -> str:
    """Return the zone that the rows are in: its distance from UTC, and the zone of ordinary sessions where that is the one."""
    facts = look.row(_FITTING, {"now": look.now.isoformat(), "zone": zone})
    minutes = (facts["declared"] + offset) // 60
    fitting = f"UTC{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    same = facts["session_offset"] == facts["declared"] + offset
    return f"{fitting}, as {facts['session_zone']}, the zone of sessions here, has it now," if same else f"a zone at {fitting} now"


CHECKS: List[Check] = [
    Check(
        id="token.zone_ahead",
        title="Time columns ahead of their declared zone",
        tier="daily",
        looks_at="The newest hour of every column without time zone that records when a token was issued or revoked or a login began. "
        "Rows that lie ahead "
        "by about a whole number of half hours, as densely as those before now, stand in another zone than the description says. "
        "A column without a row of the last ten minutes is skipped: nothing says whether it agrees. It is unknown where rows lie ahead "
        "in a way that no zone explains, or with none in the hour before now; and where the newest row of a steady flow (at least 20 "
        "rows in its hour) is a whole number of half hours old: the zone may be behind, or the service idle for just so long.",
        action="Correct time_zone of the column in the system description before the retention runs: with a wrong zone it removes "
        "rows too early or too late.",
        needs="SELECT on the columns that it reads",
        run=_zone_ahead,
        unit="count",
        warning=0,
        minimum=3,
        minimum_of="rows ahead",
    ),
]
