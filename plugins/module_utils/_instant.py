# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Points in time as the constants that a column's values are compared with: the constant is converted, never the column."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import FARTHEST, LARGEST_INT4, UNITS, TimeColumn, within_range

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# The last place on Earth where a calendar day ends; the sign of an Etc zone is the reverse of the usual one.
LAST_ZONE, _FIRST_ZONE = "Etc/GMT+12", "Etc/GMT-14"
_CALENDAR = {"date": "date", "wall": "timestamp"}  # the types whose values are those of a calendar
_FARTHEST_DAY = "9892-01-01"  # shortly before FARTHEST

# A wall clock that is set back shows the same time twice. The earliest wall clock from the cut-off on is before every row
# that could still lie ahead, in whichever of the two passes it was written. Clocks change on quarters of an hour.
_WALL = """
SELECT pg_catalog.min(moment AT TIME ZONE %(zone)s)::text
FROM (
    SELECT %(at)s::timestamptz
    UNION ALL
    SELECT pg_catalog.to_timestamp(
        (pg_catalog.ceil(pg_catalog.date_part('epoch', %(at)s::timestamptz) / 900::float8) + step::float8) * 900::float8
    )
    FROM pg_catalog.generate_series(0, 12) AS step
) AS moments(moment)
"""


# The latest wall clock shown before the instant, in either pass: a row that may have been written before it is below this one.
_LATEST_WALL = """
SELECT (pg_catalog.max((moment - interval '1 microsecond') AT TIME ZONE %(zone)s) + interval '1 microsecond')::text
FROM (
    SELECT %(at)s::timestamptz
    UNION ALL
    SELECT pg_catalog.to_timestamp(
        (pg_catalog.floor(pg_catalog.date_part('epoch', %(at)s::timestamptz) / 900::float8) - step::float8) * 900::float8
    )
    FROM pg_catalog.generate_series(0, 12) AS step
) AS moments(moment)
"""


@dataclass(frozen=True)
class Instant:
    """A point in time in whole microseconds since 1970, UTC."""

    microseconds: int

    def before(self, seconds: float) -> Instant:
        """Return the instant `seconds` earlier; a fraction of a microsecond counts as a whole one."""
        return Instant(self.microseconds - math.ceil(seconds * 1_000_000))

    def down_to_second(self) -> Instant:
        """Return the whole second that it lies in: the time of issue in a token has no fraction."""
        return Instant(self.microseconds // 1_000_000 * 1_000_000)

    def up_to_second(self) -> Instant:
        """Return the next whole second, or itself where it is one."""
        return Instant(-(-self.microseconds // 1_000_000) * 1_000_000)

    def __str__(self) -> str:
        """Return it in ISO 8601, UTC."""
        return (EPOCH + timedelta(microseconds=self.microseconds)).isoformat()


def server_now(database: Any) -> Instant:
    """Return the start of the server's current transaction: the one clock that every cut-off comes from."""
    return Instant(int(database.value("SELECT round(extract(epoch FROM now())::numeric * 1000000)::bigint")))


def constant(database: Any, time: TimeColumn, at: Instant) -> Any:
    """Return the SQL constant below which a value of `time` lies before `at`, for every row that could be meant.

    Nothing counts as past early: a date is past when its day has ended in its zone (anywhere on Earth, if it has none),
    a second or millisecond when it is over, a wall clock that was shown twice when both are over.
    Raises InvalidValue for a zone that the server does not know.
    """
    sql = database.sql
    if time.kind == "epoch":
        return sql.SQL("{}::bigint").format(sql.Literal(at.microseconds * UNITS[time.unit or "s"] // 1_000_000))
    if time.kind == "instant":
        return sql.SQL("{}::timestamptz").format(sql.Literal(str(at)))
    wall = _wall(database, time, at)
    if time.kind == "date":
        return sql.SQL("{}::date").format(sql.Literal(wall.split()[0]))
    return sql.SQL("{}::timestamp").format(sql.Literal(wall))


def limit(database: Any, time: TimeColumn, at: Instant) -> Any:
    """Return the SQL constant from which on a value of `time` cannot lie before `at`, for every row that could be meant.

    It is the counterpart of `constant`: whatever may have happened before `at` is below it. Raises InvalidValue for an unknown zone.
    """
    sql = database.sql
    if time.kind == "epoch":
        return sql.SQL("{}::bigint").format(sql.Literal(-(-at.microseconds * UNITS[time.unit or "s"] // 1_000_000)))
    if time.kind == "instant":
        return sql.SQL("{}::timestamptz").format(sql.Literal(str(at)))
    wall = _wall(database, time, at, _LATEST_WALL, _FIRST_ZONE)
    if time.kind == "date":
        return sql.SQL("(({}::timestamp - interval '1 microsecond')::date + 1)").format(sql.Literal(wall))
    return sql.SQL("{}::timestamp").format(sql.Literal(wall))


def start_of(database: Any, time: TimeColumn, reference: Any) -> Any:
    """Return the expression for the first instant (timestamptz) that a value of `time` may mean; that of NULL is NULL."""
    sql = database.sql
    if time.kind == "epoch":
        unit = time.unit or "s"
        near = within_range(sql, reference, unit)
        return sql.SQL("CASE WHEN {} IS NOT NULL THEN pg_catalog.to_timestamp(({} OPERATOR(pg_catalog./) {}::numeric)::float8) END").format(
            reference, near, sql.Literal(UNITS[unit])
        )
    if time.kind == "instant":
        return reference
    zone = sql.Literal(time.time_zone or _FIRST_ZONE)
    return sql.SQL("({}::timestamp AT TIME ZONE {})").format(reference, zone)


def end_of(database: Any, time: TimeColumn, reference: Any) -> Any:
    """Return the expression for the instant (timestamptz) from which a value of `time` is past, to compare columns of different types.

    That of NULL is infinity, and so is that of a sentinel: what is too far away for other types to hold, or the largest integer.
    """
    sql = database.sql
    never, zone = sql.SQL("{} IS NULL").format(reference), sql.Literal(time.time_zone or LAST_ZONE)
    far = sql.SQL("{} OR {} OPERATOR(pg_catalog.>=) {}").format(never, reference, _farthest(sql, time))
    if time.kind == "epoch":
        unit = time.unit or "s"
        near = within_range(sql, reference, unit)
        end = sql.SQL("pg_catalog.to_timestamp((({} OPERATOR(pg_catalog.+) 1) OPERATOR(pg_catalog./) {}::numeric)::float8)").format(
            near, sql.Literal(UNITS[unit])
        )
    elif time.kind == "instant":
        end = reference
    else:
        type_ = sql.SQL(_CALENDAR[time.kind])
        near = sql.SQL("greatest(least({}, {}), '0001-01-02'::{})").format(reference, _farthest(sql, time), type_)
        end = sql.SQL("({} + 1)::timestamp" if time.kind == "date" else "{}").format(near)
        end = sql.SQL("{} AT TIME ZONE {}").format(end, zone)
    return sql.SQL("CASE WHEN {} THEN 'infinity'::timestamptz ELSE {} END").format(far, end)


def _farthest(sql: Any, time: TimeColumn) -> Any:
    """Return the constant of a time column's own type from which on a value means never."""
    if time.kind == "epoch":
        return sql.Literal(LARGEST_INT4 if time.column.base == "int4" else FARTHEST * UNITS[time.unit or "s"])
    return sql.SQL("'{}'::{}").format(sql.SQL(_FARTHEST_DAY), sql.SQL({"instant": "timestamptz", **_CALENDAR}[time.kind]))


def _wall(database: Any, time: TimeColumn, at: Instant, query: str = _WALL, anywhere: str = LAST_ZONE) -> str:
    zone = time.time_zone or anywhere
    try:
        return str(database.value(query, {"zone": zone, "at": str(at)}))
    except DatabaseError as error:
        if error.sqlstate != "22023":
            raise
        message = f"{time.path}: the server does not know the time zone {zone!r}"
        raise InvalidValue(message, object_name=time.path, sqlstate="22023") from None
