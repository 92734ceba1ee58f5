# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a clean-up may work: a window of wall-clock time, by the server's clock and the server's zone database.

A window opens when the clock of its zone shows `at`, and stays open while `lasts` passes: on the night on which clocks are set
forward it closes an hour later by the clock, on the other one an hour earlier, and is as long as ever. An `at` that the clock skips
is as far behind the last time that it showed, and one that it shows twice is the second of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant, server_now
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, join, shown
from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import Field, Group
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import DURATION, TEXT, WEEKDAYS
from ansible_collections.pgops.runbook.plugins.module_utils._system.upkeep import WINDOW

PATH = "window"
# The least days from one opening to the next, and more days than there can ever be between two of them.
_BETWEEN = {"daily": (1, 2), "weekly": (7, 8), "monthly": (28, 36)}

_TODAY = "SELECT pg_catalog.timezone(%(zone)s, %(now)s::timestamptz)::date::text"
# The clock as it is shown at that moment, because it may never show what was asked for.
_OPENINGS = """
SELECT pg_catalog.date_part('epoch', o.opening) AS at,
    pg_catalog.to_char(pg_catalog.timezone(%(zone)s, o.opening), 'YYYY-MM-DD HH24:MI') AS clock
FROM (SELECT pg_catalog.timezone(%(zone)s, wall) AS opening FROM pg_catalog.unnest(%(walls)s::timestamp[]) AS wall) AS o
ORDER BY o.opening
"""


@dataclass(frozen=True)
class Window:
    """A window that opens at `at` (HH:MM) in `time_zone` for `seconds`; `weekday` counts from Monday, 0, and is None for a daily one."""

    schedule: str
    weekday: int | None
    at: str
    seconds: float
    time_zone: str


@dataclass(frozen=True)
class _Opening:
    at: float
    clock: str


def _check(read: dict[str, Any], path: str, faults: Faults) -> None:
    """Note what no single key shows: a weekday too many or too few, and a window that opens again before it closes."""
    schedule, seconds = read["schedule"], read["lasts_seconds"]
    if schedule == "daily" and read["weekday"] is not None:
        faults.add(join(path, "weekday"), f"{shown(read['weekday'])} is for a weekly or monthly window, and this one opens daily")
    if schedule in ("weekly", "monthly") and read["weekday"] is None:
        faults.add(join(path, "weekday"), f"is missing: on which day a {schedule} window opens, one of {', '.join(WEEKDAYS)}")
    if seconds == 0:
        faults.add(join(path, "lasts"), f"{shown(read['lasts'])} leaves no time for anything: give a longer one")
    elif seconds is not None and schedule is not None and seconds > _BETWEEN[schedule][0] * 86400:
        most = format_duration(_BETWEEN[schedule][0] * 86400)
        faults.add(join(path, "lasts"), f"{shown(read['lasts'])} is too long: a {schedule} window opens again after {most}")


# A maintenance window but for what a clean-up cannot do without, and for the name that only a list of windows needs.
FORM = Group(
    "a window",
    {
        **WINDOW.fields,
        "name": Field(TEXT, WINDOW.fields["name"].doc),
        "schedule": Field(WINDOW.fields["schedule"].kind, WINDOW.fields["schedule"].doc, default="daily"),
        "lasts": Field(DURATION, WINDOW.fields["lasts"].doc, required=True),
        "time_zone": Field(WINDOW.fields["time_zone"].kind, WINDOW.fields["time_zone"].doc, required=True),
    },
    check=_check,
)


def read_window(written: Any, faults: Faults, path: str = PATH) -> Window | None:
    """Return the window that `written` (raw or normalised) describes, or None after noting what is wrong with it.

    `lasts` and `time_zone` must be given: a clean-up does not guess when it has to stop.
    """
    before = len(faults.found)
    read = FORM.read(written, path, faults)
    if read is None or len(faults.found) > before:
        return None
    weekday = None if read["weekday"] is None else WEEKDAYS.index(read["weekday"])
    return Window(read["schedule"], weekday, read["at"], read["lasts_seconds"], read["time_zone"])


def closes_at(database: Any, window: Window, now: Instant | None = None) -> float | None:
    """Return in how many seconds `window` closes by the server's clock, or None where it is closed.

    `now` stands in for that clock. Raises InvalidValue for a zone that the server does not know.
    """
    now, openings = _openings(database, window, now)
    lefts = [opening.at + window.seconds - now.microseconds / 1e6 for opening in openings if opening.at <= now.microseconds / 1e6]
    return max((left for left in lefts if left > 0), default=None)


def opens_next(database: Any, window: Window, now: Instant | None = None) -> str:
    """Return when `window` opens next, for a message: the time on the clock of its zone, such as `2026-03-29 04:30 (Europe/Tallinn)`.

    Raises InvalidValue for a zone that the server does not know.
    """
    now, openings = _openings(database, window, now)
    following = next(opening for opening in openings if opening.at > now.microseconds / 1e6)
    return f"{following.clock} ({window.time_zone})"


def _openings(database: Any, window: Window, now: Instant | None) -> tuple[Instant, list[_Opening]]:
    """Return the present and every opening around it that may matter, earliest first."""
    now = server_now(database) if now is None else now
    try:
        today = date.fromisoformat(database.value(_TODAY, {"zone": window.time_zone, "now": str(now)}))
        walls = [f"{day} {window.at}" for day in opening_days(window, today)]
        return now, [_Opening(**row) for row in database.rows(_OPENINGS, {"zone": window.time_zone, "walls": walls})]
    except DatabaseError as error:
        if error.sqlstate != "22023":
            raise
        path = join(PATH, "time_zone")
        message = f"{path}: the server does not know the time zone {window.time_zone!r}: write a name such as UTC or Europe/Tallinn"
        raise InvalidValue(message, object_name=path, sqlstate="22023") from None


def opening_days(window: Window, today: date) -> list[date]:
    """Return the days around `today` on which `window` opens, from the last one that may still be open to the next one."""
    reach = _BETWEEN[window.schedule][1]
    days = [today + timedelta(days=number) for number in range(-reach, reach + 1)]
    return [day for day in days if _opens_on(window, day)]


def _opens_on(window: Window, day: date) -> bool:
    if window.weekday is None:
        return True
    return day.weekday() == window.weekday and (window.schedule == "weekly" or day.day <= 7)
