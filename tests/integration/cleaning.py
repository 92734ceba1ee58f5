"""The clean-up engine on a database of its own, without Ansible in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from psycopg.sql import SQL

from ansible_collections.pgops.runbook.plugins.module_utils import _cleanup, _driver
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from tests.ground import evidence
from tests.ground.databases import Database

UTC = {"time_zone": "UTC"}
# A store as TIM has it, in a schema of the test's choosing.
STORE = {
    "name": "app",
    "tokens": {"table": "app.tokens", "id": "id", "issued_at": "issued_at", "expires_at": "expires_at"},
    "revoke": {"how": "denylist", "table": "app.denied", "id": "id", "expires_at": "expires_at"},
}
WITHOUT_OWN_EXPIRY = {**STORE, "revoke": {"how": "denylist", "table": "app.denied", "id": "id", "revoked_at": "denied_at"}}
TABLES = """
CREATE SCHEMA app;
CREATE TABLE app.tokens (id uuid, issued_at timestamptz, expires_at timestamptz);
CREATE TABLE app.denied (id uuid, denied_at timestamptz, expires_at timestamptz);
"""


class Cleaner:
    """Runs the engine on one database and looks at what became of it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def with_driver(cls, database: Database, driver: str, patches: pytest.MonkeyPatch) -> Cleaner:
        """Return one that uses only `driver`."""
        patches.setattr(_driver, "load", _driver._load_psycopg2 if driver == "psycopg2" else _driver._load_psycopg3)
        return cls(database)

    def open(self, *, read_only: bool = False, **options: Any) -> Any:
        """Return a session of the collection's own."""
        login = {**self.database.login(tcp=False), **options}
        return connect(ConnectionOptions.from_params(login), application_name="pgops.runbook/pg_cleanup", read_only=read_only)

    def run(
        self, rules: Sequence[dict[str, Any]], *, check: bool = False, login: dict[str, Any] | None = None, **parameters: Any
    ) -> dict[str, Any]:
        """Clean up and return the result."""
        options = _cleanup.read_options({"rules": list(rules), **parameters})
        with self.open(read_only=check, **(login or {})) as session:
            return _cleanup.clean_up(session, options, check_mode=check)

    def sql(self, statement: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Run a statement as the superuser and return its rows."""
        return self.database.query(statement, parameters)

    def settle(self) -> None:
        """Wait until all sessions of others have ended: they report what they have read and written as they go."""
        with self.database.connect() as witness:
            evidence.settle(witness)

    def column(self, statement: Any) -> list[Any]:
        """Return the first column of a query, sorted."""
        return sorted(row[0] for row in self.sql(statement))

    def count(self, table: str) -> int:
        """Return how many rows a table has; `table` is quoted by the caller."""
        return int(self.sql(SQL("SELECT count(*) FROM {}").format(SQL(table)))[0][0])


def rule(table: str, column: Any = "expires_at", older_than: Any = "0 s", **more: Any) -> dict[str, Any]:
    """Return one rule."""
    return {"table": table, "column": column, "older_than": older_than, **more}


def numbers(result: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return what check mode and the run must agree on."""
    keys = ("name", "table", "column", "matched", "protected", "removed", "remaining", "rows_left")
    return [tuple(row[key] for key in keys) for row in result["rules"]]
