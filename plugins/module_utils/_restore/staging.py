# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of a backup beside a live table: loaded, counted, and compared with what the manifest says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._content.hashing import TableContent, measure_tables
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Table
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Refused
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._restore.databases import hidden_name
from ansible_collections.pgops.runbook.plugins.module_utils._restore.live_table import LiveTable
from ansible_collections.pgops.runbook.plugins.module_utils._restore.script import copy_rows
from ansible_collections.pgops.runbook.plugins.module_utils._restore.stream import Archive, table_rows
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

_TEMPORARY = "pg_temp"
_OID = """
SELECT c.oid::bigint FROM pg_class c
WHERE c.relname = %(name)s AND c.relnamespace = CASE WHEN %(schema)s = 'pg_temp' THEN pg_my_temp_schema()
    ELSE (SELECT n.oid FROM pg_namespace n WHERE n.nspname = %(schema)s) END
"""


@dataclass(frozen=True)
class Staged:
    """Rows of a backup in the relation `place`: the columns they have values of, those that got their default, and how many there are.

    `compared` says whether the manifest knows their hash; if it does, it is theirs.
    """

    place: RelationName
    given: Tuple[str, ...]
    filled: Tuple[str, ...]
    rows: int
    compared: bool


def temporary_like(database: Any, live: LiveTable) -> RelationName:
    """Make an empty temporary table for rows of `live`, with what its columns say, but none of its indexes and checks; return its name.

    It goes with the transaction.
    """
    sql, place = database.sql, RelationName(_TEMPORARY, hidden_name())
    database.execute(
        sql.SQL("CREATE TEMPORARY TABLE {} (LIKE {} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING IDENTITY) ON COMMIT DROP").format(
            place.identifier(sql), live.name.identifier(sql)
        )
    )
    drop_unchecked(database, live, place)
    return place


def unchecked(database: Any, live: LiveTable) -> List[Dict[str, str]]:
    """Return the constraints that rows of `live` may break (NOT VALID): name, said. A table made like another one has them checked."""
    found: List[Dict[str, str]] = database.rows(_UNCHECKED, (live.oid,))
    return found


def drop_unchecked(database: Any, live: LiveTable, place: RelationName) -> None:
    """Take those constraints from `place`, which was made like `live`, before rows come into it."""
    for row in unchecked(database, live):
        statement = database.sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}")
        database.execute(statement.format(place.identifier(database.sql), database.sql.Identifier(row["name"])))


_UNCHECKED = """
SELECT k.conname AS name, pg_get_constraintdef(k.oid) AS said FROM pg_constraint k
WHERE k.conrelid = %s AND k.contype IN ('c', 'n') AND NOT k.convalidated ORDER BY k.conname
"""


def stage(
    database: Any, archive: Archive, manifest: Mapping[str, Any], live: LiveTable, place: RelationName, tick: Tick | None = None
) -> Staged:
    """Load the rows that the backup has of the table `live` into `place`, made like it, in the transaction that is open.

    Raises Refused where the columns do not fit or where other rows come out of the backup than its manifest says; see `table_rows` too.
    """
    with table_rows(archive, live.name, tick) as rows:
        filled = live.filled(rows.header.columns)
        given = rows.header.columns
        if place.schema == _TEMPORARY:
            _spare_sequences(database, live, place, filled)
        loaded = copy_rows(database, rows.header, rows.chunks, place)
    known = said_of(manifest, live.name)
    if known is not None:
        _compare(database, live, place, given, known, tick)
    return Staged(place, given, filled, loaded, known is not None)


def _spare_sequences(database: Any, live: LiveTable, place: RelationName, columns: Sequence[str]) -> None:
    """Let no row that is only looked at take numbers from the sequences of the live table, which no rollback gives back."""
    sql = database.sql
    for row in database.rows(_NUMBERED, (live.oid, list(columns))):
        column = sql.Identifier(row["name"])
        statement = sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP DEFAULT, ALTER COLUMN {} DROP NOT NULL")
        database.execute(statement.format(place.identifier(sql), column, column))


_NUMBERED = """
SELECT DISTINCT a.attname AS name FROM pg_attribute a
JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
JOIN pg_class q ON q.oid = d.refobjid AND q.relkind = 'S'
WHERE a.attrelid = %s AND a.attname = ANY (%s)
"""


def said_of(manifest: Mapping[str, Any], table: RelationName) -> Mapping[str, Any] | None:
    """Return what the manifest says of the rows of a table; None where it was written without contents."""
    for entry in manifest.get("tables") or ():
        if entry.get("hash") is not None and read_name(str(entry["name"])) == table:
            return dict(entry)
    return None


def read_name(written: str) -> RelationName:
    """Return the table that a manifest names, each part in quotes where SQL needs it."""
    return parse_relation(written)


def _compare(
    database: Any, live: LiveTable, place: RelationName, given: Sequence[str], known: Mapping[str, Any], tick: Tick | None
) -> None:
    sql = database.sql
    measured = place
    if set(given) != {column.name for column in live.columns if not column.generated}:
        # The hash is one over the columns that there were.
        measured = RelationName(_TEMPORARY, hidden_name())
        columns = sql.SQL(", ").join(map(sql.Identifier, given))
        statement = sql.SQL("CREATE TEMPORARY VIEW {} AS SELECT {} FROM {}")
        database.execute(statement.format(sql.Identifier(measured.name), columns, place.identifier(sql)))
    oid = database.value(_OID, {"schema": measured.schema, "name": measured.name})
    table = Table(oid, str(live.name), measured.schema, measured.name, "table", True)
    found: TableContent = measure_tables(database, [table], by=known.get("by"), tick=tick)[0]
    if measured is not place:
        database.execute(sql.SQL("DROP VIEW {}").format(measured.identifier(sql)))
    if found.rows != int(known["rows"]):
        message = f"table {live.name}: {found.rows} rows came out of the backup, and its manifest says {known['rows']}"
        raise Refused(message, object_name=str(live.name), hint="Do not trust this backup: verify it, and restore from another one.")
    if found.hash != str(known["hash"]):
        raise Refused(
            f"table {live.name}: its {found.rows} rows came out of the backup with other values than its manifest says",
            object_name=str(live.name),
            hint="If a column has another type now than it had then, restore mode=new. If not, do not trust this backup: verify it.",
        )
