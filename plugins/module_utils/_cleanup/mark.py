# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a row says that it is deleted: by a time of deletion, or by a value of a flag or status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import typed
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import UNITS, TimeColumn, time_column

_TIMES = ("D", "N")  # the categories of dates and numbers
_MICROSECONDS = 6  # decimals of a second that a time has where its column does not say fewer
_UNKNOWN_ZONE = "22023"

# A batch names each table that holds rows by itself, so that the privilege counts there.
_SETTABLE = """
SELECT n.nspname || '.' || c.relname AS table, a.attgenerated <> '' OR a.attidentity = 'a' AS generated,
    pg_catalog.has_column_privilege(c.oid, a.attnum, 'UPDATE') AS allowed
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE a.attrelid = ANY (%(leaves)s::oid[]) AND a.attname = %(column)s AND NOT a.attisdropped
ORDER BY 1
"""


@dataclass(frozen=True)
class Mark:
    """The column that says it: with `time` where it holds the time of deletion, else with the constant `value` of a deleted row.

    `typed` says how its values are compared, `path` where the rule names it; `unsettable` is the error for whoever sets it all
    the same, None where it can be set.
    """

    column: Column
    time: TimeColumn | None
    value: Any
    typed: typed.Typed
    path: str
    unsettable: InvalidValue | DatabaseError | None = None


def resolve(database: Any, relation: Relation, written: Mapping[str, Any], path: str) -> Mark:
    """Return the mark that `written` (column, and time_zone and unit or value), which stands at `path`, says of `relation`.

    Raises MissingObject for a column that is not there, and InvalidValue for one that is neither a time nor has a value, for one
    that marks every row because it cannot be NULL, and for a value that it cannot hold.
    """
    column, value = relation.column(written["column"]), written.get("value")
    kind = typed.look_up(database, relation, [column])[column.name]
    unsettable = _unsettable(database, relation, column, path)
    if value is None:
        time = _time(relation, written, kind, path)
        return Mark(column, time, None, kind, path, unsettable)
    if "=" not in kind.operators:
        raise InvalidValue(f"{path}.column: {kind.words}, which has no equality", object_name=f"{path}.column")
    constant = typed.constant(database, kind, value, f"{path}.value")
    # Stored otherwise than it is looked for, no row would ever count as marked.
    typed.require_held(database, kind, constant, value, f"{path}.value")
    return Mark(column, None, constant, kind, path, unsettable)


def is_marked(database: Any, mark: Mark, row: str) -> Any:
    """Return the condition under which the row with the alias `row` is marked: true or false, never NULL."""
    sql = database.sql
    present = sql.SQL("{} IS NOT NULL").format(sql.Identifier(row, mark.column.name))
    if mark.time:
        return sql.SQL("({})").format(present)
    # Two conditions, because an index serves these and not a comparison that IS TRUE is asked of.
    return sql.SQL("({} AND {})").format(present, mark.typed.compared(sql, mark.typed.of(sql, row), "=", mark.value))


def assignment(database: Any, mark: Mark, at: Instant) -> Any:
    """Return what SET takes to mark a row as deleted at `at`: never a later time, where the column keeps fewer digits.

    Raises InvalidValue for a generated column and for a zone that the server does not know, and DatabaseError where the role may
    not update the column.
    """
    if mark.unsettable:
        raise mark.unsettable
    sql = database.sql
    value = mark.value if mark.time is None else _written(database, mark.time, mark.typed.typmod, at)
    return sql.SQL("{} = {}").format(sql.Identifier(mark.column.name), value)


def _time(relation: Relation, written: Mapping[str, Any], kind: typed.Typed, path: str) -> TimeColumn:
    if kind.column.category not in _TIMES:
        hint = f"Say with {path}.value what it holds in a row that is deleted, or name a column with the time of deletion."
        raise InvalidValue(f"{path}: {kind.words}, which is not a time", object_name=path, hint=hint)
    time = time_column(relation, written, path)
    if not kind.nullable:
        hint = f"Name the column that holds the time of deletion and is NULL before, or say with {path}.value what a deleted row holds."
        raise InvalidValue(f"{path}: {kind.words} and NOT NULL, so that every row would be marked", object_name=path, hint=hint)
    return time


def _unsettable(database: Any, relation: Relation, column: Column, path: str) -> InvalidValue | DatabaseError | None:
    """Return the error for a column that cannot be set, of the first table where that is so."""
    leaves = [str(leaf.oid) for leaf in relation.leaves]
    for leaf in database.rows(_SETTABLE, {"leaves": leaves, "column": column.name}):
        if leaf["generated"]:
            hint = "Name the column that it is generated from, or another one."
            message = f"{path}: column {column.name} of {leaf['table']} is generated by the server and cannot be set"
            return InvalidValue(message, object_name=path, sqlstate="428C9", hint=hint)
        if not leaf["allowed"]:
            hint = f"Give it UPDATE there, on the table or on the column {column.name}."
            message = f"{path}: the role may not UPDATE column {column.name} of {leaf['table']}"
            return DatabaseError(message, object_name=leaf["table"], sqlstate="42501", hint=hint)
    return None


def _written(database: Any, time: TimeColumn, decimals: int | None, at: Instant) -> Any:
    sql = database.sql
    if time.kind == "epoch":
        return sql.SQL("{}::bigint").format(sql.Literal(at.microseconds * UNITS[time.unit or "s"] // 1_000_000))
    # The server would round to the digits that the column keeps, half of the time upwards.
    step = 10 ** (_MICROSECONDS - (_MICROSECONDS if decimals is None else decimals))
    kept = sql.SQL("{}::timestamptz").format(sql.Literal(str(Instant(at.microseconds // step * step))))
    if time.kind == "instant":
        return kept
    statement = sql.SQL("SELECT ({} AT TIME ZONE {})::text").format(kept, sql.Literal(time.time_zone or "UTC"))
    try:
        wall = str(database.value(statement))
    except DatabaseError as error:
        if error.sqlstate != _UNKNOWN_ZONE:
            raise
        message = f"{time.path}: the server does not know the time zone {time.time_zone!r}"
        raise InvalidValue(message, object_name=time.path, sqlstate=_UNKNOWN_ZONE) from None
    if time.kind == "date":
        return sql.SQL("{}::date").format(sql.Literal(wall.split(maxsplit=1)[0]))
    return sql.SQL("{}::timestamp").format(sql.Literal(wall))
