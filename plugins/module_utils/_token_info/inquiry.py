# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One inquiry: the instant and the days that it is about, and what could not be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Callable, Mapping, TypeVar

from ansible_collections.pgops.runbook.plugins.module_utils import _instant
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._readable import require_readable
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation, look_up, require
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.options import Options

Found = TypeVar("Found")

_DAYS = """
SELECT (today - %(back)s)::text AS first, today::text AS last,
    round(extract(epoch FROM (today - %(back)s)::timestamp AT TIME ZONE %(zone)s)::numeric * 1000000)::bigint AS start
FROM (SELECT (now() AT TIME ZONE %(zone)s)::date AS today) AS calendar
"""


@dataclass(frozen=True)
class Inquiry:
    """A transaction's worth of questions. `first` and `last` are days in the zone that was asked for, `start` is when `first` began."""

    database: Any
    options: Options
    as_of: Instant
    first: date
    last: date
    start: Instant
    not_recorded: list[dict[str, Any]] = field(default_factory=list)
    unknown: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def begin(cls, database: Any, options: Options) -> Inquiry:
        """Read the server's clock. Raises InvalidValue for a time zone that the server does not know."""
        try:
            row = database.row(_DAYS, {"back": options.days - 1, "zone": options.time_zone})
        except DatabaseError as error:
            if error.sqlstate != "22023":
                raise
            message = f"time_zone: the server does not know the time zone {options.time_zone!r}"
            raise InvalidValue(message, object_name="time_zone", sqlstate=error.sqlstate) from None
        first, last = date.fromisoformat(row["first"]), date.fromisoformat(row["last"])
        return cls(database, options, _instant.server_now(database), first, last, Instant(row["start"]))

    @property
    def sql(self) -> Any:
        """The driver's composition module."""
        return self.database.sql

    @property
    def days(self) -> list[str]:
        """Every day that is reported about, the last one being today."""
        return [str(self.first + timedelta(days=number)) for number in range((self.last - self.first).days + 1)]

    @property
    def tomorrow(self) -> str:
        """The day under which everything is counted that is dated after today."""
        return str(self.last + timedelta(days=1))

    def lacks(self, report: str, about: str, key: str | None, message: str) -> None:
        """Note what the description does not declare; `key` is what would have to be added to it, None where nothing would help."""
        self.not_recorded.append({"report": report, "about": about, "key": key, "message": message})

    def attempt(self, report: str, about: str, read: Callable[[], Found]) -> Found | None:
        """Return what `read` returns. None if it fails, which is noted and spoils nothing that comes after it."""
        self.database.execute("SAVEPOINT pgops_inquiry")
        try:
            found = read()
        except RunbookError as error:
            if self.database.closed:
                raise
            self.database.execute("ROLLBACK TO SAVEPOINT pgops_inquiry")
            said = {"message": error.message, "object": error.object_name, "sqlstate": error.sqlstate, "hint": error.hint}
            self.unknown.append({"report": report, "about": about, **said})
            return None
        self.database.execute("RELEASE SAVEPOINT pgops_inquiry")
        return found

    def relation(self, written: Mapping[str, Any]) -> Relation:
        """Return the table of a part of the description. Raises MissingObject or DatabaseError if it cannot be read whole."""
        name = parse_relation(written["table"])
        relation = require(look_up(self.database, [name])[name])
        require_readable(relation)
        return relation

    def since_start(self, time: TimeColumn, reference: Any) -> Any:
        """Return the condition that a value of `time` may lie in the reported days; it lets more through, so that an index serves."""
        # A date is a day by itself, in whichever zone.
        limit = self._literal(self.first) if time.kind == "date" else _instant.constant(self.database, time, self.start)
        return self.sql.SQL("{} OPERATOR(pg_catalog.>=) {}").format(reference, limit)

    def day_of(self, time: TimeColumn, reference: Any) -> Any:
        """Return the expression for the day of a value of `time`, in the zone that was asked for."""
        if time.kind == "date":
            return self.sql.SQL("{}::date").format(reference)
        start = _instant.start_of(self.database, time, reference)
        return self.sql.SQL("({} AT TIME ZONE {})::date").format(start, self.sql.Literal(self.options.time_zone))

    def reported_day(self, reference: Any) -> Any:
        """Return the expression for a day as text; all days to come are one."""
        ahead = self._literal(self.last + timedelta(days=1))
        return self.sql.SQL("least({}, {})::text").format(reference, ahead)

    def reported(self, reference: Any) -> Any:
        """Return the condition that a day is one of those reported or to come."""
        return self.sql.SQL("{} OPERATOR(pg_catalog.>=) {}").format(reference, self._literal(self.first))

    def _literal(self, day: date) -> Any:
        return self.sql.SQL("{}::date").format(self.sql.Literal(str(day)))
