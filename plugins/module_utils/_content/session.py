# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a session in which what a database holds is measured: one snapshot, and every setting that changes what text comes out."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, FrozenSet, Iterator

# Beside those that _connection.py sets. With another search_path, the server would leave schemas out of names.
_PINNED = {
    "search_path": "pg_catalog, pg_temp",
    "quote_all_identifiers": "off",
    "lc_monetary": "C",
    "xmlbinary": "base64",
    "row_security": "off",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
_CATALOGUE_COLUMNS = """
SELECT c.relname || '.' || a.attname AS name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0
"""


@contextmanager
def measuring(database: Any) -> Iterator[None]:
    """Run the block in the transaction that is open, or in one of its own, with one snapshot and pinned settings."""
    if database.in_transaction:
        _pin(database)
        yield
        return
    with database.transaction(read_only=True, snapshot=True):
        _pin(database)
        yield


def catalogue_columns(database: Any) -> FrozenSet[str]:
    """Return the columns that this server's catalogue has, as `relation.column`."""
    return frozenset(row["name"] for row in database.rows(_CATALOGUE_COLUMNS))


def set_here(database: Any, name: str, text: str) -> None:
    """Set something until the end of the transaction."""
    database.rows("SELECT pg_catalog.set_config(%s, %s, true)", (name, text))


@contextmanager
def letting_go(database: Any) -> Iterator[None]:
    """Run the block and give back the locks it took: those of ten thousand tables and their indexes would not fit in the server's memory.

    The snapshot stays. After a DatabaseError in the block the transaction goes on.
    """
    database.execute("SAVEPOINT pgops_content")
    try:
        yield
    finally:
        if not database.closed:
            database.execute("ROLLBACK TO SAVEPOINT pgops_content")
            database.execute("RELEASE SAVEPOINT pgops_content")


def _pin(database: Any) -> None:
    sql = database.sql
    calls = sql.SQL(", ").join(sql.SQL("pg_catalog.set_config(%s, %s, true)") for _name in _PINNED)
    database.rows(sql.SQL("SELECT {}").format(calls), [part for pair in _PINNED.items() for part in pair])
