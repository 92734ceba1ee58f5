# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Columns that hold a time: what counts as one, and what must be declared of it before it is compared with anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation

UNITS = {"s": 1, "ms": 1000}  # how many of them make a second
FARTHEST = 250_000_000_000  # seconds: the year 9892, far in the future and within the range of a timestamp
LARGEST_INT4 = 2_147_483_647
_KINDS = {"timestamptz": "instant", "timestamp": "wall", "date": "date", "int8": "epoch", "int4": "epoch"}


@dataclass(frozen=True)
class TimeColumn:
    """A column that holds a time: what it is (`kind`: instant, wall, date or epoch) and the path of the option that names it."""

    column: Column
    kind: str
    time_zone: str | None
    unit: str | None
    path: str


def time_column(relation: Relation, written: Mapping[str, Any], path: str) -> TimeColumn:
    """Return the column of `relation` that `written` (column, time_zone, unit) names.

    Raises MissingObject for a column that is not there, and InvalidValue for one that is not a time or whose time is
    ambiguous: a `timestamp` without a zone, an integer without a unit.
    """
    column = relation.column(written["column"])
    kind = _KINDS.get(column.base)
    zone, unit = written.get("time_zone"), written.get("unit")
    what = f"{path}: {relation.name}.{column.name}"
    if kind is None:
        allowed = "timestamp with time zone, timestamp, date, or an integer with a unit"
        raise InvalidValue(f"{what} is of type {column.type}, which is not a time; allowed: {allowed}", object_name=path)
    if kind == "wall" and not zone:
        hint = "Say in which zone its clock is with time_zone, such as UTC; it is never guessed."
        raise InvalidValue(f"{what} is of type {column.type}, which does not say its time zone.", object_name=path, hint=hint)
    if kind == "epoch" and unit not in UNITS:
        raise InvalidValue(f"{what} is of type {column.type}, and no unit is given; allowed: s or ms since 1970", object_name=path)
    if kind == "epoch" and column.base == "int4" and unit == "ms":
        raise InvalidValue(f"{what} is of type {column.type}, which cannot hold today in milliseconds since 1970", object_name=path)
    if kind != "epoch" and unit:
        raise InvalidValue(f"{what} is of type {column.type}: unit is for integers only", object_name=path)
    return TimeColumn(column, kind, zone, unit, path)


def within_range(sql: Any, value: Any, unit: str) -> Any:
    """Return the expression `value`, an integer of seconds or milliseconds since 1970, drawn so near that a timestamp can hold it.

    A sentinel such as the largest integer is then far away instead of an error. `sql` is the driver's sql module.
    """
    farthest = FARTHEST * UNITS[unit]
    return sql.SQL("greatest(least({}, {}), {})").format(value, sql.Literal(farthest), sql.Literal(-farthest // 10))
