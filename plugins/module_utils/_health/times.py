# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moments in columns: a constant of the column's own type, so that an index on the column serves the comparison."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Dict, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import UNITS, TimeColumn, time_column, within_range


class Moments:
    """The parameters of one statement, and the expressions that compare time columns with moments."""

    def __init__(self, look: Look) -> None:
        self.sql = look.sql
        self.parameters: Dict[str, Any] = {}

    def constant(self, relation: Relation, time: Mapping[str, Any], moment: datetime) -> Any:
        """Return `moment` as the column's type has it; a date lies before it once its day has ended.

        Raises InvalidValue where the column is not a time or its zone is not declared.
        """
        kind = declared(relation, time).kind
        if kind == "epoch":
            scaled = int(moment.timestamp() * UNITS[time["unit"]])
            return self.sql.SQL("{}::bigint").format(self._place(scaled))
        if kind == "instant":
            return self.sql.SQL("{}::timestamptz").format(self._place(moment.isoformat()))
        wall = self.sql.SQL("({}::timestamptz AT TIME ZONE {})").format(self._place(moment.isoformat()), self._place(time["time_zone"]))
        return self.sql.SQL("{}::date").format(wall) if kind == "date" else wall

    def instant(self, relation: Relation, time: Mapping[str, Any], expression: Any) -> Any:
        """Return `expression`, a value of the column, as a timestamptz."""
        kind = declared(relation, time).kind
        if kind == "epoch":
            near = within_range(self.sql, expression, time["unit"])
            return self.sql.SQL("to_timestamp({} / {}::float8)").format(near, self._place(UNITS[time["unit"]]))
        if kind == "instant":
            return expression
        return self.sql.SQL("({}::timestamp AT TIME ZONE {})").format(expression, self._place(time["time_zone"]))

    def _place(self, value: Any) -> Any:
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return self.sql.Placeholder(name)


def declared(relation: Relation, time: Mapping[str, Any]) -> TimeColumn:
    """Return the column that `time` names. Raises MissingObject, and InvalidValue where it is not a time or its zone is not declared."""
    where = f"{relation.name}.{time['column']}"
    column = time_column(relation, time, where)
    if column.kind == "date" and not column.time_zone:
        # Compared with a moment in no zone, every row would quietly count as neither before nor after it.
        hint = "Give the column its time_zone in the system description."
        raise InvalidValue(f"{where} is a date, which does not say its time zone.", object_name=where, hint=hint)
    return column
