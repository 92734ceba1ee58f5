# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many rows every table has and a hash over all of them, many tables in a statement.

The hash of a table is the sum over its rows of a 64-bit hash of the row's binary form: no order is needed, workers can share the work, and
the same rows give the same number in every PostgreSQL since 12. A sum of hash_record_extended would not do: it is linear in the columns, so
that two rows that exchange a value leave it as it was, and it takes 1 and 4294967296 for the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Table
from ansible_collections.pgops.runbook.plugins.module_utils._content.session import letting_go, measuring, set_here
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

BY = "binary"
TEXT = "text"  # of tables with text that this session's encoding does not have: only its bytes can be looked at
_UNTRANSLATABLE = ("22021", "22P05")
_SMALL = 1000  # pages; below, a table shares its statement with others
_TOGETHER = (100, 8000)  # tables and pages in a statement

# Columns by name, because an inherited column may stand elsewhere in a restored table; generated ones are not dumped.
# As text: what holds numbers of other objects (reg*), floats (NaN has many forms), what has no binary form, and types of users,
# whose number is another in each database. The text comes from the output function and not from a cast, which may run a user's code.
_ROWS = """
SELECT c.oid::bigint AS oid, pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint AS pages,
    pg_catalog.string_agg(
        CASE WHEN a.atttypid < 16384 AND y.typsend <> 0 AND e.typsend <> 0 AND y.typtype IN ('b', 'r', 'm') AND e.typname !~ '^(reg|float)'
                AND e.typcategory <> 'G' THEN pg_catalog.format('t.%%I', a.attname)
            ELSE pg_catalog.format('ROW(t.%%I)::pg_catalog.text', a.attname) END,
        ', ' ORDER BY a.attname COLLATE "C") FILTER (WHERE a.attname IS NOT NULL) AS columns
FROM pg_catalog.pg_class c
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
LEFT JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
LEFT JOIN pg_catalog.pg_type e ON e.oid = CASE WHEN y.typelem <> 0 AND y.typlen = -1 THEN y.typelem ELSE y.oid END
WHERE c.oid IN (SELECT wanted::oid FROM pg_catalog.unnest(%s::bigint[]) AS wanted)
GROUP BY c.oid
"""
_ONE = """
SELECT {number} AS number, pg_catalog.count(*) AS rows,
    coalesce(pg_catalog.sum(pg_catalog.hash_array_extended(ARRAY[{content}], 0)), 0)::pg_catalog.text AS hash
FROM ONLY {table} AS t {condition}
"""
# The binary form of text is in the session's encoding, what convert_to gives in the database's own, in which nothing can fail.
_CONTENT = {
    BY: "pg_catalog.record_send(ROW({columns}))",
    TEXT: "pg_catalog.convert_to(ROW({columns})::pg_catalog.text, pg_catalog.getdatabaseencoding())",
}


@dataclass(frozen=True)
class TableContent:
    """The rows of one table: how many, the hash over them, and how it was computed."""

    name: str
    rows: int
    hash: str
    by: str = BY


def measure_tables(
    database: Any, tables: Sequence[Table], by: str | None = None, workers: int = 2, tick: Tick | None = None
) -> List[TableContent]:
    """Return the content of those of `tables` that are measured, in their order.

    `by` is how the other side did it, where it is known; tables are read with `workers` beside the session's own process; `tick` is
    called before each statement. Raises DatabaseError that names the table, InvalidValue for a `by` that is not known.
    """
    if by not in (None, *_CONTENT):
        raise InvalidValue(
            f"rows were hashed by {by!r}, and only {' and '.join(_CONTENT)} are known here: a newer version wrote that manifest",
            object_name=by,
        )
    wanted = [table for table in tables if table.measured]
    with measuring(database):
        looked = {row["oid"]: row for row in database.rows(_ROWS, ([table.oid for table in wanted],))}
        gone = [table.name for table in wanted if table.oid not in looked]
        if gone:
            raise DatabaseError(f"table {gone[0]} was dropped meanwhile", object_name=gone[0], sqlstate="42P01")
        found: Dict[int, TableContent] = {}
        # Workers share the pages of a large table, and the small ones of one statement among each other. By its own rule the server
        # gives a table as many only from 72 MB (4 of them from 216 MB) on.
        set_here(database, "min_parallel_table_scan_size", "0")
        set_here(database, "max_parallel_workers_per_gather", str(workers))
        for batch in _batches(wanted, {oid: row["pages"] for oid, row in looked.items()}):
            if tick is not None:
                tick()
            found.update(_read(database, batch, looked, by or BY))
        return [found[table.oid] for table in wanted]


def _batches(tables: Sequence[Table], pages: Mapping[int, int]) -> Iterator[List[Table]]:
    """Yield large tables alone, the largest first, then the small ones together."""
    for table in sorted(tables, key=lambda one: -pages[one.oid]):
        if pages[table.oid] >= _SMALL:
            yield [table]
    batch: List[Table] = []
    taken = 0
    for table in (one for one in tables if pages[one.oid] < _SMALL):
        if batch and (len(batch) >= _TOGETHER[0] or taken + pages[table.oid] > _TOGETHER[1]):
            yield batch
            batch, taken = [], 0
        batch.append(table)
        taken += pages[table.oid]
    if batch:
        yield batch


def _read(database: Any, batch: Sequence[Table], looked: Dict[int, Any], by: str) -> Dict[int, TableContent]:
    """Read tables in one statement; where it fails, one by one, so that the error names the table."""
    try:
        with letting_go(database):
            rows = _statement(database, batch, looked, by)
    except DatabaseError as error:
        if database.closed:
            raise
        if len(batch) == 1 and by == BY and error.sqlstate in _UNTRANSLATABLE:
            return _read(database, batch, looked, TEXT)
        if len(batch) == 1:
            name = batch[0].name
            raise DatabaseError(
                f"the rows of {name} cannot be read: {error.message}", object_name=name, sqlstate=error.sqlstate, hint=error.hint
            ) from error
        return {oid: content for table in batch for oid, content in _read(database, [table], looked, by).items()}
    names = {table.oid: table.name for table in batch}
    return {row["number"]: TableContent(names[row["number"]], row["rows"], row["hash"], by) for row in rows}


def _statement(database: Any, batch: Sequence[Table], looked: Dict[int, Any], by: str) -> List[Dict[str, Any]]:
    sql = database.sql
    parts = [
        sql.SQL(_ONE).format(
            number=sql.SQL("{}::bigint").format(sql.Literal(table.oid)),
            content=sql.SQL(_CONTENT[by]).format(columns=sql.SQL(looked[table.oid]["columns"] or "")),
            table=sql.Identifier(table.schema, table.relname),
            condition=sql.SQL(table.condition),
        )
        for table in batch
    ]
    return database.rows(sql.SQL(" UNION ALL ").join(parts))
