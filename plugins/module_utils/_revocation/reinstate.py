# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes one revocation back: exactly the rows that it changed, and nothing that was revoked before or after it.

It works from the journal alone, in one transaction, and in the reverse order. A row that somebody has changed since is left
as it is and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation, look_up, require
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.deleted import bring_back
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.journal import ROWS, Journal, Record
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.names import (
    CLEARED,
    DELETED,
    DENIED,
    EXTENDED,
    FLAGGED,
    LIMITED,
    REVOKED_AT,
    ROW,
)
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.row_key import key_of, text_of, unique_key

_KEPT = "kept_"
_BAD_VALUE = "22"  # the class of errors of values
_NEEDED = {DENIED: "DELETE", DELETED: "INSERT"}


@dataclass(frozen=True)
class Undone:
    """What became of one kind of change: `rows` that the revocation changed, how many are as they were before, and how many are not."""

    store: str
    table: str
    change: str
    rows: int
    reinstated: int

    def as_result(self) -> dict[str, Any]:
        """Return it for a result; `left` are rows that somebody changed, removed or made anew since."""
        return {
            "store": self.store,
            "table": self.table,
            "change": self.change,
            "rows": self.rows,
            "reinstated": self.reinstated,
            "left": self.rows - self.reinstated,
        }


def find(journal: Journal, revocation_id: str) -> Record:
    """Return the revocation with that id. Raises InvalidValue where the journal has none."""
    record = journal.find(revocation_id)
    if record is None:
        raise InvalidValue(
            f"revocation_id: schema {journal.schema} of database {journal.database.name!r} keeps no revocation {revocation_id!r}",
            object_name="revocation_id",
            hint=f"Look into {journal.schema}.revocations for those that it keeps.",
        )
    return record


def preview(database: Any, journal: Journal, revocation_id: str) -> list[Undone]:
    """Return what taking the revocation back would do; reads only. Raises as `take_back` does."""
    return [_each(database, journal, change, relation, act=False) for change, relation in _changes(database, journal, revocation_id)]


def take_back(database: Any, journal: Journal, revocation_id: str, requested_by: str | None, reason: str) -> list[Undone]:
    """Take the revocation back in the caller's transaction and return what was done.

    Raises MissingObject where a table is gone, InvalidValue where a time of revocation marks more rows than the revocation marked,
    and DatabaseError.
    """
    done = [_act(database, journal, change, relation) for change, relation in _changes(database, journal, revocation_id)]
    journal.reinstated(revocation_id, requested_by, reason)
    return done


def _act(database: Any, journal: Journal, change: Mapping[str, Any], relation: Relation) -> Undone:
    try:
        return _each(database, journal, change, relation, act=True)
    except DatabaseError as error:
        if not (error.sqlstate or "").startswith(_BAD_VALUE):
            raise
        # The server's own words show the value, which may be a secret.
        raise DatabaseError(
            f"{relation.name}: a value that was kept does not fit its column any more, and nothing was taken back",
            object_name=str(relation.name),
            sqlstate=error.sqlstate,
            hint="Has the type of a column changed since the revocation?",
        ) from None


def _changes(database: Any, journal: Journal, revocation_id: str) -> list[tuple[dict[str, Any], Relation]]:
    changes = _merged(database, journal, journal.changes(revocation_id))
    relations = look_up(database, [parse_relation(change["table_name"]) for change in changes])
    found = [(change, require(relations[parse_relation(change["table_name"])])) for change in changes]
    for change, relation in found:
        needed = _NEEDED.get(change["change"], "UPDATE")
        lacking = relation.itself is None or needed not in relation.itself.privileges
        if lacking or any(leaf.hides_rows for leaf in relation.leaves):
            why = (
                f"the role may not {needed} {relation.name}"
                if lacking
                else f"row-level security hides rows of {relation.name} from this role"
            )
            raise DatabaseError(why, object_name=str(relation.name), sqlstate="42501", hint="Use the role that revoked.")
        if change["column_name"]:
            relation.column(change["column_name"])
    return found


def _merged(database: Any, journal: Journal, changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the changes, those of several stores joined that have marked rows of one table with the same time.

    `by_mark` says whether that time finds the rows. Where every one is kept, the kept ones are what counts: the time stands there only
    for the record. A revocation that was gone on with under other options may have kept some of them only.
    """
    changes = [{**change, "kept": _count_kept(database, journal, change)} for change in changes]
    marked: dict[Any, list[dict[str, Any]]] = {}
    for change in changes:
        marked.setdefault(_marking(change), []).append(change)
    found = []
    for change in changes:
        same = marked[_marking(change)]
        if change["mark"] is None or all(one["kept"] == one["rows_changed"] for one in same):
            found.append({**change, "by_mark": False})
        elif change is same[0]:
            stores = ", ".join(dict.fromkeys(one["store"] for one in reversed(same)))
            found.append({**change, "by_mark": True, "store": stores, "rows_changed": sum(one["rows_changed"] for one in same)})
    return found


def _marking(change: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(change[key] for key in ("table_name", "change", "column_name", "mark"))


def _each(database: Any, journal: Journal, change: Mapping[str, Any], relation: Relation, *, act: bool) -> Undone:
    if change["by_mark"]:
        _require_unmistakable(database, change, relation)
    source = _by_mark(database, change, relation) if change["by_mark"] else _by_key(database, journal, change, relation)
    rows = int(change["rows_changed"])
    if not change["by_mark"] and change["change"] != DELETED:
        # A row that was changed more than once comes back once.
        kept = _kept(database, journal, change, relation)
        distinct = int(database.value(database.sql.SQL("SELECT pg_catalog.count(*) FROM ({}) AS kept_").format(kept)))
        rows = distinct + rows - int(change["kept"])
    if change["change"] == DELETED:
        count = bring_back(database, relation, source, act=act)
    elif act:
        count = database.execute(_STATEMENTS[change["change"]](database, journal, change, relation, source))
    else:
        count = int(database.value(database.sql.SQL("SELECT pg_catalog.count(*) FROM ({}) AS would_").format(source)))
    return Undone(change["store"], change["table_name"], change["change"], rows, count)


def _count_kept(database: Any, journal: Journal, change: Mapping[str, Any]) -> int:
    statement = database.sql.SQL("SELECT pg_catalog.count(*) FROM {} WHERE change_id = %s").format(journal.table(ROWS))
    return int(database.value(statement, (change["change_id"],)))


def _by_mark(database: Any, change: Mapping[str, Any], relation: Relation) -> Any:
    """Return the query of the places of the marked rows."""
    sql = database.sql
    return sql.SQL(
        "SELECT {row}.tableoid AS relid, {row}.ctid AS place, NULL::text AS before FROM {table} AS {row} WHERE {row}.{column} = {mark}"
    ).format(
        row=sql.Identifier(ROW),
        table=relation.name.identifier(sql),
        column=sql.Identifier(change["column_name"]),
        mark=sql.Literal(change["mark"]),
    )


def _require_unmistakable(database: Any, change: Mapping[str, Any], relation: Relation) -> None:
    sql = database.sql
    count = database.value(sql.SQL("SELECT pg_catalog.count(*) FROM ({}) AS marked").format(_by_mark(database, change, relation)))
    if count > change["rows_changed"]:
        raise InvalidValue(
            f"{relation.name}: {count} rows have the time of revocation {change['mark']}, and this revocation marked"
            f" {change['rows_changed']}: it cannot be told which ones",
            object_name=str(relation.name),
            hint="Somebody has revoked in the very same microsecond, or copied rows. Nothing was changed.",
        )


def _by_key(database: Any, journal: Journal, change: Mapping[str, Any], relation: Relation) -> Any:
    """Return the query of the places of the kept rows that are still as the revocation left them; of deleted rows, the rows."""
    sql = database.sql
    kept = sql.Identifier(_KEPT)
    if change["change"] == DELETED:
        return sql.SQL("SELECT {kept}.before FROM {rows} AS {kept} WHERE {kept}.change_id = {number} AND {kept}.before IS NOT NULL").format(
            kept=kept, rows=journal.table(ROWS), number=sql.Literal(change["change_id"])
        )
    column = _after(database, journal, change, relation)
    key = key_of(sql, ROW, [relation.column(name).name for name in change["key_columns"]])
    rows = sql.SQL("SELECT {row}.tableoid AS relid, {row}.ctid AS place, {key} AS key, {column} AS after FROM {table} AS {row}").format(
        row=sql.Identifier(ROW), key=key, column=column, table=relation.name.identifier(sql)
    )
    nth = sql.SQL("true")
    if not _once_each(database, change, relation):
        # Of rows that look alike so many come back as were changed.
        rows = sql.SQL("SELECT *, row_number() OVER (PARTITION BY key, after) AS nth FROM ({}) AS numbered_").format(rows)
        nth = sql.SQL("{}.nth = rows_.nth").format(kept)
    return sql.SQL(
        "SELECT rows_.relid, rows_.place, {kept}.before FROM ({before}) AS {kept} JOIN ({rows}) AS rows_"
        " ON {kept}.key = rows_.key AND {kept}.after IS NOT DISTINCT FROM rows_.after AND {nth}"
    ).format(kept=kept, before=_kept(database, journal, change, relation), rows=rows, nth=nth)


def _after(database: Any, journal: Journal, change: Mapping[str, Any], relation: Relation) -> Any:
    """Return the expression for what a row must still hold, as it was kept: of a deny row several columns by their names."""
    sql = database.sql
    if change["change"] != DENIED:
        return sql.SQL("{}::text").format(sql.Identifier(ROW, change["column_name"]))
    one = sql.SQL("SELECT after::jsonb AS after FROM {} WHERE change_id = {} LIMIT 1").format(
        journal.table(ROWS), sql.Literal(change["change_id"])
    )
    names = database.rows(sql.SQL("SELECT pg_catalog.jsonb_object_keys(one_.after) AS name FROM ({}) AS one_").format(one))
    return text_of(sql, ROW, [relation.column(row["name"]).name for row in names] or [change["column_name"]])


def _once_each(database: Any, change: Mapping[str, Any], relation: Relation) -> bool:
    """Return whether what was kept of one key is of one row: extensions and limits are found by a key that no other row has."""
    return change["change"] in (EXTENDED, LIMITED) or tuple(change["key_columns"]) == unique_key(database, relation)


def _kept(database: Any, journal: Journal, change: Mapping[str, Any], relation: Relation) -> Any:
    """Return the query of the rows that were kept, each as it was before the first change in this revocation and after the last."""
    sql = database.sql
    if _once_each(database, change, relation):
        form = (
            "SELECT key, (pg_catalog.array_agg(before ORDER BY changed_at))[1] AS before,"
            " (pg_catalog.array_agg(after ORDER BY changed_at DESC))[1] AS after FROM {rows} WHERE change_id = {number} GROUP BY key"
        )
    else:
        form = "SELECT key, before, after, row_number() OVER (PARTITION BY key, after) AS nth FROM {rows} WHERE change_id = {number}"
    return sql.SQL(form).format(rows=journal.table(ROWS), number=sql.Literal(change["change_id"]))


def _delete(database: Any, _journal: Journal, _change: Mapping[str, Any], relation: Relation, source: Any) -> Any:
    sql = database.sql
    return sql.SQL("WITH source_ AS MATERIALIZED ({source}) DELETE FROM {table} AS {row} USING source_ WHERE {here}").format(
        source=source, table=relation.name.identifier(sql), row=sql.Identifier(ROW), here=_here(sql)
    )


def _restore(database: Any, _journal: Journal, change: Mapping[str, Any], relation: Relation, source: Any) -> Any:
    """The column gets back what it held; nothing, where a time of revocation was set."""
    sql, column = database.sql, relation.column(change["column_name"])
    value = sql.SQL("NULL") if change["change"] == REVOKED_AT else _typed(sql, column)
    return sql.SQL(
        "WITH source_ AS MATERIALIZED ({source}) UPDATE {table} AS {row} SET {column} = {value} FROM source_ WHERE {here}"
    ).format(
        source=source,
        table=relation.name.identifier(sql),
        row=sql.Identifier(ROW),
        column=sql.Identifier(column.name),
        value=value,
        here=_here(sql),
    )


_STATEMENTS: dict[str, Callable[..., Any]] = {
    DENIED: _delete,
    EXTENDED: _restore,
    REVOKED_AT: _restore,
    FLAGGED: _restore,
    CLEARED: _restore,
    LIMITED: _restore,
}


def _here(sql: Any) -> Any:
    return sql.SQL("{row}.ctid = source_.place AND {row}.tableoid = source_.relid").format(row=sql.Identifier(ROW))


def _typed(sql: Any, column: Column) -> Any:
    """Return the kept text as a value of the column's type, as the catalogue spells it."""
    return sql.SQL("source_.before::{}").format(sql.SQL(column.type))
