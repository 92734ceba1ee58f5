"""Proof that a run left a database alone."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg import sql

from .databases import Database
from .errors import GroundError

_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1, 2
"""
_COUNTERS = "SELECT tup_inserted, tup_updated, tup_deleted FROM pg_stat_database WHERE datname = current_database()"
# Sessions report their counters before they are gone, and a collector before PostgreSQL 15 passes them on every half second.
_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_GONE_SECONDS, _COLLECTOR_SECONDS = 60.0, 1.0


def fingerprint(database: Database) -> dict[str, tuple[Any, ...]]:
    """Return by table how many rows there are and a hash over every row, its place and the transaction that wrote it."""
    with database.connect() as connection:
        tables = connection.execute(_TABLES).fetchall()
        return {f"{schema}.{name}": _rows(connection, schema, name) for schema, name in tables}


def write_counters(database: Database) -> tuple[int, ...]:
    """Return how many rows were ever inserted, updated and deleted in the database, catalogue included."""
    with database.connect() as connection:
        settle(connection)
        ((inserted, updated, deleted),) = connection.execute(_COUNTERS).fetchall()
    return (inserted, updated, deleted)


def settle(connection: psycopg.Connection[Any]) -> None:
    """Wait until nobody else is in the connection's database, and what the others counted is told. Raises GroundError."""
    # In one session: each of several could be there still when the next one looks.
    end = time.monotonic() + _GONE_SECONDS
    while connection.execute(_OTHERS).fetchall() != [(0,)]:
        if time.monotonic() > end:
            raise GroundError(f"{connection.info.dbname} has sessions that do not end, and their counters are not known")
        time.sleep(0.05)
    if connection.info.server_version < 150000:
        time.sleep(_COLLECTOR_SECONDS)


def _rows(connection: Any, schema: str, name: str) -> tuple[Any, ...]:
    statement = sql.SQL("SELECT count(*), md5(string_agg(md5(concat(t::text, ctid, xmin)), '' ORDER BY ctid)) FROM {} t")
    return tuple(connection.execute(statement.format(sql.Identifier(schema, name))).fetchone())
