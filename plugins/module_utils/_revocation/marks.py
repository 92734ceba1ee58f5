# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time of revocation as a column has it, and whether it marks the rows of one revocation unmistakably."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn

_PRECISE = ("timestamp with time zone", "timestamp without time zone")


def value(database: Any, time: TimeColumn, at: Instant) -> str:
    """Return `at` as a text that the column takes: the moment itself, or the last second or day that is not after it."""
    sql = database.sql
    if time.kind == "epoch":
        return str(at.microseconds * (1000 if time.unit == "ms" else 1) // 1_000_000)
    if time.kind == "instant":
        return str(at)
    form = "SELECT ({}::timestamptz AT TIME ZONE {})::{}::text"
    kind = sql.SQL("date" if time.kind == "date" else "timestamp")
    return str(database.value(sql.SQL(form).format(sql.Literal(str(at)), sql.Literal(time.time_zone or "UTC"), kind)))


def is_unmistakable(time: TimeColumn | None) -> bool:
    """Return whether a column keeps the microseconds of a moment, which no other revocation has."""
    return time is not None and time.column.type in _PRECISE
