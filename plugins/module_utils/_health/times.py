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

# Names of types as pg_type has them.
_NUMBERS = ("int2", "int4", "int8", "numeric", "float4", "float8")
_WALL_CLOCKS = ("timestamp", "date")
_PER_SECOND = {"s": 1, "ms": 1000}


class Moments:
    """The parameters of one statement, and the expressions that compare time columns with moments."""

    def __init__(self, look: Look) -> None:
        self.sql = look.sql
        self.parameters: Dict[str, Any] = {}

    def constant(self, relation: Relation, time: Mapping[str, Any], moment: datetime) -> Any:
        """Return `moment` as the column's type has it. Raises InvalidValue where the column is not a time or its zone is not declared."""
        kind = time_kind(relation, time)
        if kind == "epoch":
            scaled = int(moment.timestamp() * _PER_SECOND[time["unit"]])
            return self.sql.SQL("{}::bigint").format(self._place(scaled))
        if kind == "zoned":
            return self.sql.SQL("{}::timestamptz").format(self._place(moment.isoformat()))
        return self.sql.SQL("({}::timestamptz AT TIME ZONE {})").format(self._place(moment.isoformat()), self._place(time["time_zone"]))

    def instant(self, relation: Relation, time: Mapping[str, Any], expression: Any) -> Any:
        """Return `expression`, a value of the column, as a timestamptz."""
        kind = time_kind(relation, time)
        if kind == "epoch":
            return self.sql.SQL("to_timestamp({} / {}::float8)").format(expression, self._place(_PER_SECOND[time["unit"]]))
        if kind == "zoned":
            return expression
        return self.sql.SQL("({}::timestamp AT TIME ZONE {})").format(expression, self._place(time["time_zone"]))

    def _place(self, value: Any) -> Any:
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return self.sql.Placeholder(name)


def time_kind(relation: Relation, time: Mapping[str, Any]) -> str:
    """Return zoned (timestamptz), wall (a timestamp or date in its declared zone) or epoch (a number).

    Raises MissingObject where there is no such column, InvalidValue where it is not a time or its zone is not declared.
    """
    where = f"{relation.name}.{time['column']}"
    column = relation.column(time["column"])
    if time.get("unit") and column.base in _NUMBERS:
        return "epoch"
    if column.base == "timestamptz":
        return "zoned"
    if column.base not in _WALL_CLOCKS:
        raise InvalidValue(f"{where} is of type {column.type}, not a time", object_name=where)
    if not time.get("time_zone"):
        hint = "Give the column its time_zone in the system description."
        raise InvalidValue(f"{where} is a {column.type}, and nothing says in which zone its clock stood", object_name=where, hint=hint)
    return "wall"
