# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest rows of each key, which stay whatever their age: a row goes only where enough rows of its key are newer.

Of rows with the same time all stay or none, so that nothing depends on the order of work: a row is superseded when at least as
many rows of its key are strictly newer as are to stay. That is so when it lies before the last of those that stay by their
place, which is the one time per key that both forms are made of.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import typed
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn

_RIVAL, _LATEST, _STAGE = "rival_", "latest_", "pgops_latest_"
_WIDEST_KEY = 2000  # bytes; the server refuses an index on much more
_NO_OPERATOR = "42883"
# The conditions that the row with an alias fulfils when it counts among the newest.
Competes = Callable[[str], Sequence[Any]]


@dataclass(frozen=True)
class Latest:
    """How many rows of each key stay. `keys` are the columns of the key, `types` how they are compared; without any, all rows have one."""

    rows: int
    keys: tuple[Column, ...]
    types: tuple[typed.Typed, ...]


@dataclass(frozen=True)
class Staged:
    """The times below which rows are superseded, by key, in a temporary table called `name`."""

    name: str
    latest: Latest
    time: TimeColumn


def resolve(database: Any, relation: Relation, written: Mapping[str, Any], path: str) -> Latest:
    """Return what `written` (rows, per), which stands at `path`, says of `relation`.

    Raises MissingObject for a column that is not there, InvalidValue for one whose values have no order, and DatabaseError where
    the role may not make a temporary table.
    """
    keys = tuple(relation.column(name) for name in written["per"])
    types = typed.look_up(database, relation, keys)
    for index, key in enumerate(keys):
        _require_order(database, types[key.name], f"{path}.per[{index}]")
    if not database.value("SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMP')"):
        hint = f"Give it TEMPORARY on database {database.name}: the times of the latest rows are set aside there."
        raise DatabaseError(f"{path}: the role may not make temporary tables", object_name=path, sqlstate="42501", hint=hint)
    return Latest(written["rows"], keys, tuple(types[key.name] for key in keys))


def superseded(database: Any, latest: Latest, relation: Relation, time: TimeColumn, row: str, competes: Competes) -> Any:
    """Return the condition under which enough rows of its key are newer than the row with the alias `row`.

    It reads the table once more and joins the result, but only where it stands beside other conditions by AND: within OR, NOT, CASE
    or IS TRUE the server would read the table anew for each row.
    """
    sql = database.sql
    return _exists(sql, latest, time, row, sql.SQL("({})").format(_times(sql, latest, relation, time, competes)))


def stage(database: Any, latest: Latest, relation: Relation, time: TimeColumn, competes: Competes) -> Staged:
    """Set aside which times rows are superseded below, as of now, and return where. It lasts as long as the session, or until `drop`."""
    sql = database.sql
    staged = Staged(_STAGE + uuid.uuid4().hex, latest, time)
    name, query = _name(sql, staged), _times(sql, latest, relation, time, competes)
    database.execute(sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT PRESERVE ROWS AS {}").format(name, query))
    if latest.keys:
        keys = [_key(sql, number) for number in range(len(latest.keys))]
        width = sql.SQL(" + ").join(sql.SQL("pg_catalog.pg_column_size({})").format(key) for key in keys)
        if int(database.value(sql.SQL("SELECT pg_catalog.max({}) FROM {}").format(width, name)) or 0) <= _WIDEST_KEY:
            # A batch has few rows of many keys.
            database.execute(sql.SQL("CREATE INDEX ON {} ({})").format(name, sql.SQL(", ").join(keys)))
    database.execute(sql.SQL("ANALYZE {}").format(name))
    return staged


def superseded_staged(database: Any, staged: Staged, row: str) -> Any:
    """Return the condition of `superseded` by what was set aside: of rows that came since, it knows nothing."""
    return _exists(database.sql, staged.latest, staged.time, row, _name(database.sql, staged))


def drop(database: Any, staged: Staged) -> None:
    """Give the space back; more than once does no harm."""
    database.execute(database.sql.SQL("DROP TABLE IF EXISTS {}").format(_name(database.sql, staged)))


def _times(sql: Any, latest: Latest, relation: Relation, time: TimeColumn, competes: Competes) -> Any:
    """Return the query of the time (`below_`) of the last row that stays by its place, for each key that has so many rows."""
    at = sql.Identifier(_RIVAL, time.column.name)
    keys = [each.of(sql, _RIVAL) for each in latest.types]
    # Its children belong to a table, and its partitions to a partitioned one: keys go across them.
    table = sql.SQL("{} AS {}").format(relation.name.identifier(sql), sql.Identifier(_RIVAL))
    present = [sql.SQL("{} IS NOT NULL").format(sql.Identifier(_RIVAL, name)) for name in (time.column.name, *_names(latest))]
    where = sql.SQL(" AND ").join([*present, *competes(_RIVAL)])
    named = [sql.SQL("{} AS {}").format(key, _key(sql, number)) for number, key in enumerate(keys)]
    commas = sql.SQL(", ")
    if latest.rows == 1:
        columns = commas.join([*named, sql.SQL("pg_catalog.max({}) AS below_").format(at)])
        grouped = sql.SQL(" GROUP BY {}").format(commas.join(keys)) if keys else sql.SQL("")
        return sql.SQL("SELECT {} FROM {} WHERE {}{}").format(columns, table, where, grouped)
    parts = sql.SQL("PARTITION BY {} ").format(commas.join(keys)) if keys else sql.SQL("")
    place = sql.SQL("pg_catalog.row_number() OVER ({}ORDER BY {} DESC) AS place_").format(parts, at)
    ranked = sql.SQL("SELECT {} FROM {} WHERE {}").format(commas.join([*named, sql.SQL("{} AS below_").format(at), place]), table, where)
    return sql.SQL("SELECT {} FROM ({}) AS ranked_ WHERE place_ OPERATOR(pg_catalog.=) {}").format(
        commas.join([*(_key(sql, number) for number in range(len(keys))), sql.SQL("below_")]), ranked, sql.Literal(latest.rows)
    )


def _exists(sql: Any, latest: Latest, time: TimeColumn, row: str, times: Any) -> Any:
    alias = row + _LATEST
    same = [
        each.compared(sql, each.of(sql, row), "=", sql.SQL("{}.{}").format(sql.Identifier(alias), _key(sql, number)))
        for number, each in enumerate(latest.types)
    ]
    older = sql.SQL("{} OPERATOR(pg_catalog.<) {}").format(sql.Identifier(row, time.column.name), sql.Identifier(alias, "below_"))
    return sql.SQL("EXISTS (SELECT FROM {} AS {} WHERE {})").format(times, sql.Identifier(alias), sql.SQL(" AND ").join([*same, older]))


def _require_order(database: Any, key: typed.Typed, path: str) -> None:
    """Refuse a column by whose values rows cannot be grouped."""
    sql = database.sql
    reason = None if "<" in key.operators else "which has no order"
    if reason is None:
        try:
            # Arrays and composites have one only where all that they consist of has.
            database.value(sql.SQL("SELECT 1 FROM (SELECT NULL::{} AS one) AS key ORDER BY one").format(key.type(sql)))
        except DatabaseError as error:
            if error.sqlstate != _NO_OPERATOR:
                raise
            reason = error.message
    if reason:
        hint = "Name columns that rows can be sorted by, such as numbers, texts or uuids."
        raise InvalidValue(f"{path}: {key.words}, {reason}", object_name=path, hint=hint) from None


def _names(latest: Latest) -> list[str]:
    return [key.name for key in latest.keys]


def _name(sql: Any, staged: Staged) -> Any:
    return sql.Identifier("pg_temp", staged.name)


def _key(sql: Any, number: int) -> Any:
    return sql.Identifier(f"key_{number}")
