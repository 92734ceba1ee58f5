# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of a backup that tables have lost, copied back by their keys. What is there stays as it is, whatever the backup has of it.

Everything is one transaction: the rows are loaded where nobody sees them, compared with the manifest, and those whose key is not in the
table are inserted, by which its triggers, defaults of new columns and constraints work as they do for the application.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._restore import tokens_back
from ansible_collections.pgops.runbook.plugins.module_utils._restore.databases import hidden_name
from ansible_collections.pgops.runbook.plugins.module_utils._restore.live_table import LiveTable, look_at
from ansible_collections.pgops.runbook.plugins.module_utils._restore.locks import lock
from ansible_collections.pgops.runbook.plugins.module_utils._restore.request import Outcome, Request, rehearsed
from ansible_collections.pgops.runbook.plugins.module_utils._restore.sequences import move_forward
from ansible_collections.pgops.runbook.plugins.module_utils._restore.staging import Staged, stage, temporary_like

_PRIMARY_KEY = """
SELECT a.attname AS name FROM pg_index x
CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS k(number, place)
JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.number
WHERE x.indrelid = %s AND x.indisprimary AND k.place <= x.indnkeyatts ORDER BY k.place
"""
# Whether one index sees to it that no two rows have the key, at once and for all rows.
_IS_UNIQUE = """
SELECT EXISTS (
    SELECT FROM pg_index x
    WHERE x.indrelid = %s AND x.indisunique AND x.indimmediate AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
        AND (SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE "C")
             FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k(number, place)
             JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.number WHERE k.place <= x.indnkeyatts)
            = %s::text[])
"""
_TRIGGERS = """
SELECT t.tgname AS name FROM pg_trigger t
WHERE t.tgrelid = %s AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype::int & 4 <> 0 ORDER BY t.tgname
"""
_REFERENCES = """
SELECT k.conrelid::bigint AS referencing, k.confrelid::bigint AS referenced FROM pg_constraint k
WHERE k.contype = 'f' AND k.conrelid::bigint = ANY (%(oids)s::bigint[]) AND k.confrelid::bigint = ANY (%(oids)s::bigint[])
    AND k.conrelid <> k.confrelid
"""
_CONSTRAINT = "23"
_FOREIGN_KEY = "23503"


@dataclass(frozen=True)
class Missing:
    """The rows of one table that the backup has and the table has not, in the temporary table `place`."""

    live: LiveTable
    staged: Staged
    key: Tuple[str, ...]
    place: RelationName
    rows: int
    different: int


@dataclass(frozen=True)
class CopiedBack:
    """What became of one table, or would.

    `present` rows of the backup are there, `different` of them with other values; `inserted` were missing. Triggers kept `vetoed` rows out
    and gave `rewritten` ones other values than the backup has; in check mode nobody knows that yet.
    """

    missing: Missing
    inserted: int
    vetoed: int
    rewritten: int
    triggers: Tuple[str, ...]
    sequences: Tuple[str, ...]

    def as_result(self) -> Dict[str, Any]:
        """Return what a result says of it."""
        missing = self.missing
        return {
            "table": str(missing.live.name),
            "key": list(missing.key),
            "in_backup": missing.staged.rows,
            "present": missing.staged.rows - missing.rows,
            "different": missing.different,
            "inserted": self.inserted,
            "vetoed": self.vetoed,
            "rewritten": self.rewritten,
            "compared": missing.staged.compared,
            "defaults": list(missing.staged.filled),
            "triggers": list(self.triggers),
            "sequences_moved": list(self.sequences),
        }


def copy_missing_rows(database: Any, request: Request, *, check_mode: bool) -> Outcome:
    """Insert the rows that the tables of `request` lack, and return what became of them; in check mode only count.

    Raises MissingObject, Refused and InvalidValue, or DatabaseError, ProgramFailed and ProgramMissing; nothing is changed then.
    """
    lives = _in_order(database, [_suitable(look_at(database, name)) for name in request.tables])
    keys = {live.name: _key(database, live, request.key) for live in lives}
    if check_mode:
        return rehearsed(database, lambda: _copy(database, request, lives, keys, act=False))
    with database.transaction():
        return _copy(database, request, lives, keys, act=True)


def _suitable(live: LiveTable) -> LiveTable:
    live.require_rows()
    return live


def _key(database: Any, live: LiveTable, given: Sequence[str]) -> Tuple[str, ...]:
    """Return the columns that tell rows apart: the given ones, or the primary key."""
    known = {column.name for column in live.columns}
    unknown = [name for name in given if name not in known]
    if unknown:
        raise Refused(f"key: table {live.name} has no column {', '.join(unknown)}", object_name="key")
    found = tuple(given) or tuple(row["name"] for row in database.rows(_PRIMARY_KEY, (live.oid,)))
    if not found:
        hint = "Name the columns that tell its rows apart with the option key."
        raise Refused(f"table {live.name} has no primary key", object_name=str(live.name), hint=hint)
    return found


def _in_order(database: Any, lives: Sequence[LiveTable]) -> List[LiveTable]:
    """Return the tables so that a table comes after those that its foreign keys refer to, where there is no circle."""
    pairs = database.rows(_REFERENCES, {"oids": [live.oid for live in lives]})
    waiting, done = list(lives), []  # type: Tuple[List[LiveTable], List[LiveTable]]
    while waiting:
        open_ = {live.oid for live in waiting}
        held = {pair["referencing"] for pair in pairs if pair["referenced"] in open_}
        free = [live for live in waiting if live.oid not in held] or waiting
        done += free
        waiting = [live for live in waiting if live not in free]
    return done


def _copy(
    database: Any, request: Request, lives: Sequence[LiveTable], keys: Mapping[RelationName, Tuple[str, ...]], *, act: bool
) -> Outcome:
    staged = [stage(database, request.archive, request.manifest, live, temporary_like(database, live), request.tick) for live in lives]
    for one in staged:
        # Without it the server takes the rows for a few, and compares them one by one.
        database.execute(database.sql.SQL("ANALYZE {}").format(one.place.identifier(database.sql)))
    unique = [bool(database.value(_IS_UNIQUE, (live.oid, sorted(keys[live.name])))) for live in lives]
    if act:
        # Nothing but a lock keeps others from inserting a row with a key that no index knows.
        lock(database, [live.name for live, is_unique in zip(lives, unique) if not is_unique], "SHARE ROW EXCLUSIVE")
    missing = [_set_aside(database, live, one, keys[live.name]) for live, one in zip(lives, staged)]
    tokens = _tokens(database, request, missing)
    done = [_insert(database, one, is_unique) if act else _planned(database, one) for one, is_unique in zip(missing, unique)]
    if act:
        _settle(database)
    return Outcome(tuple(done), tuple(tokens))


def _set_aside(database: Any, live: LiveTable, staged: Staged, key: Tuple[str, ...]) -> Missing:
    """Find the rows that the table lacks. Raises Refused where the key does not tell the rows of the backup apart."""
    sql = database.sql
    absent = [name for name in key if name not in staged.given]
    if absent:
        raise Refused(f"key: the backup has no column {', '.join(absent)} of table {live.name}", object_name="key")
    columns = sql.SQL(", ").join(map(sql.Identifier, key))
    unclear = database.row(
        sql.SQL(
            "SELECT count(*) FILTER (WHERE NOT whole) AS empty, coalesce(sum(number) FILTER (WHERE whole AND number > 1), 0) AS double"
            " FROM (SELECT ROW({key}) IS NOT NULL AS whole, count(*) AS number FROM {place} GROUP BY {key}) AS keys"
        ).format(key=columns, place=staged.place.identifier(sql))
    )
    if unclear["empty"] or unclear["double"]:
        what = "have no value" if unclear["empty"] else f"share their values, {unclear['double']} of them,"
        raise Refused(
            f"table {live.name}: rows of the backup {what} in the key ({', '.join(key)}), which so does not tell them apart",
            object_name=str(live.name),
            hint="Name with the option key the columns that do.",
        )
    place = RelationName("pg_temp", hidden_name())
    database.execute(
        sql.SQL(
            "CREATE TEMPORARY TABLE {missing} ON COMMIT DROP AS SELECT new_.* FROM {place} AS new_"
            " WHERE NOT EXISTS (SELECT FROM {live} AS old_ WHERE {same})"
        ).format(
            missing=sql.Identifier(place.name), place=staged.place.identifier(sql), live=live.name.identifier(sql), same=_same(sql, key)
        )
    )
    rows = int(database.value(sql.SQL("SELECT count(*) FROM {}").format(place.identifier(sql))))
    return Missing(live, staged, key, place, rows, _different(database, live, staged.place, staged.given, key))


def _same(sql: Any, key: Sequence[str]) -> Any:
    pairs = [sql.SQL("{} = {}").format(sql.Identifier("old_", name), sql.Identifier("new_", name)) for name in key]
    return sql.SQL(" AND ").join(pairs)


def _different(database: Any, live: LiveTable, place: RelationName, given: Sequence[str], key: Sequence[str]) -> int:
    """Return how many rows of `place` are in the table with other values."""
    sql = database.sql
    rows = [sql.SQL("ROW({})").format(sql.SQL(", ").join(sql.Identifier(alias, name) for name in given)) for alias in ("old_", "new_")]
    return int(
        database.value(
            sql.SQL("SELECT count(*) FROM {} AS new_ JOIN {} AS old_ ON {} WHERE pg_catalog.record_image_ne({}, {})").format(
                place.identifier(sql), live.name.identifier(sql), _same(sql, key), *rows
            )
        )
    )


def _tokens(database: Any, request: Request, missing: Sequence[Missing]) -> List[Any]:
    """Count the tokens that come back with the rows, in views of the tables as they will be."""
    sql, after = database.sql, {}
    concerned = {one.live.name: one for one in missing if tokens_back.touched(request.stores, [one.live.name])}
    for name, one in concerned.items():
        after[name] = RelationName("pg_temp", hidden_name())
        columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in one.live.columns)
        statement = sql.SQL("CREATE TEMPORARY VIEW {} AS SELECT {} FROM {} UNION ALL SELECT {} FROM {}")
        database.execute(
            statement.format(sql.Identifier(after[name].name), columns, name.identifier(sql), columns, one.place.identifier(sql))
        )
    counts = tokens_back.tokens_back_here(database, request.stores, after)
    tokens_back.require_none_back(counts, accepted=request.accept_tokens_back)
    for view in after.values():
        database.execute(sql.SQL("DROP VIEW {}").format(view.identifier(sql)))
    return counts


def _planned(database: Any, missing: Missing) -> CopiedBack:
    return CopiedBack(missing, missing.rows, 0, 0, _triggers(database, missing.live), ())


def _triggers(database: Any, live: LiveTable) -> Tuple[str, ...]:
    return tuple(row["name"] for row in database.rows(_TRIGGERS, (live.oid,)))


def _insert(database: Any, missing: Missing, is_unique: bool) -> CopiedBack:
    sql, live = database.sql, missing.live
    names = sql.SQL(", ").join(map(sql.Identifier, missing.staged.given))
    beaten = sql.SQL(" ON CONFLICT ({}) DO NOTHING").format(sql.SQL(", ").join(map(sql.Identifier, missing.key)))
    try:
        written = int(
            database.execute(
                sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}{}").format(
                    live.name.identifier(sql), names, names, missing.place.identifier(sql), beaten if is_unique else sql.SQL("")
                )
            )
        )
    except DatabaseError as error:
        raise _named(error, str(live.name)) from None
    there = int(
        database.value(
            sql.SQL("SELECT count(*) FROM {} AS new_ WHERE EXISTS (SELECT FROM {} AS old_ WHERE {})").format(
                missing.place.identifier(sql), live.name.identifier(sql), _same(sql, missing.key)
            )
        )
    )
    triggers = _triggers(database, live)
    if written > there:
        # Nobody would know them for what they are, and the next run would insert them again.
        who = f" (its triggers are {', '.join(triggers)})" if triggers else ""
        raise Refused(
            f"table {live.name}: {written - there} rows got other keys than they have in the backup{who}. Nothing was changed",
            object_name=str(live.name),
            hint="Disable what gives keys for as long as the restore takes, or name with the option key columns that it leaves alone.",
        )
    rewritten = _different(database, live, missing.place, missing.staged.given, missing.key)
    moved = tuple(move_forward(database, live.name))
    return CopiedBack(missing, there, missing.rows - there, rewritten, triggers, moved)


def _settle(database: Any) -> None:
    """Have what is checked at the end checked now."""
    try:
        database.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except DatabaseError as error:
        raise _named(error, "") from None


def _named(error: DatabaseError, table: str) -> Exception:
    if not (error.sqlstate or "").startswith(_CONSTRAINT):
        return error
    hint = "Copy back the rows that they refer to as well: name both tables." if error.sqlstate == _FOREIGN_KEY else None
    return Refused(
        f"the rows do not fit into what is there now: {error.message}. Nothing was changed",
        object_name=table or error.object_name,
        hint=hint,
    )
