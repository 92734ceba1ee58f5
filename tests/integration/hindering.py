"""The revocation engine on a database of its own, without Ansible in between, and others who are at work there meanwhile."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from ansible_collections.pgops.runbook.plugins.module_utils import _revocation
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._revocation import passes
from tests.ground.databases import Database
from tests.integration.children import until

DENIED = {
    "name": "denied",
    "tokens": {
        "table": "app.tokens",
        "id": "id",
        "issued_at": "issued_at",
        "expires_at": "expires_at",
        "subject": "subject",
        "renewed_from": "renewed_from",
        "token": "token",
    },
    "revoke": {"how": "denylist", "table": "app.denied", "id": "id", "revoked_at": "denied_at", "expires_at": "expires_at"},
    "allowlist": {"table": "app.allowed", "id": "id"},
}
STAMPED = {
    "name": "stamped",
    "tokens": {"table": "app.sessions", "id": "id", "issued_at": "issued_at", "expires_at": "expires_at", "subject": "subject"},
    "revoke": {"how": "timestamp", "column": "revoked_at"},
    "dependents": [{"table": "app.codes", "column": "session_id", "references": "id", "on_revoke": "delete"}],
}
FLAGGED = {**STAMPED, "name": "flagged", "revoke": {"how": "flag", "column": "revoked"}}
DELETED = {**STAMPED, "name": "deleted", "revoke": {"how": "delete"}}
# The days of the tokens that `filled` makes; nothing that a test issues now is in it.
WINDOW = {"issued_from": "2026-01-15T00:00:00Z", "issued_to": "2026-01-16T00:00:00Z"}
TABLES = """
CREATE SCHEMA app;
CREATE TABLE app.tokens (
    id uuid PRIMARY KEY DEFAULT md5(random()::text || clock_timestamp())::uuid, issued_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL DEFAULT now() + interval '1 day', subject text, renewed_from uuid, token text
);
CREATE TABLE app.denied (id uuid PRIMARY KEY, denied_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz NOT NULL);
CREATE TABLE app.allowed (id uuid PRIMARY KEY);
CREATE TABLE app.sessions (
    id bigint PRIMARY KEY, issued_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz NOT NULL DEFAULT now() + interval '1 day',
    subject text, revoked_at timestamptz, revoked boolean NOT NULL DEFAULT false, used_at timestamptz
);
CREATE TABLE app.codes (id bigint PRIMARY KEY, session_id bigint, code text);
"""
# In the window; every tenth has expired, every seventh is denied or revoked already.
ROWS = """
INSERT INTO app.tokens (id, issued_at, expires_at, subject, token)
SELECT md5('t' || n)::uuid, timestamptz '2026-01-15 00:00:00Z' + n * interval '1 s',
    CASE WHEN n % 10 = 0 THEN now() - interval '1 day' ELSE now() + interval '1 day' END, 'user' || n % 5, 'secret-' || n
FROM generate_series(1, {rows}) AS n;
INSERT INTO app.denied (id, expires_at) SELECT md5('t' || n)::uuid, now() + interval '2 days' FROM generate_series(7, {rows}, 7) AS n;
INSERT INTO app.allowed SELECT id FROM app.tokens;
INSERT INTO app.sessions (id, issued_at, expires_at, subject, revoked_at, revoked)
SELECT n, timestamptz '2026-01-15 00:00:00Z' + n * interval '1 s',
    CASE WHEN n % 10 = 0 THEN now() - interval '1 day' ELSE now() + interval '1 day' END, 'user' || n % 5,
    CASE WHEN n % 7 = 0 THEN timestamptz '2026-01-20 00:00:00Z' END, n % 7 = 0
FROM generate_series(1, {rows}) AS n;
INSERT INTO app.codes SELECT n, n, 'code-' || n FROM generate_series(1, {rows}, 3) AS n;
"""
# By the applications' own rules, not by the engine's.
STILL_DENIED_STORE = (
    "SELECT count(*) FROM app.tokens t WHERE expires_at > now() AND NOT EXISTS (SELECT FROM app.denied d WHERE d.id = t.id) AND {where}"
)
CONTENT = "SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {table} AS t"
APP = ("app.tokens", "app.denied", "app.allowed", "app.sessions", "app.codes")


class Revoker:
    """Runs the engine on one database and looks at what became of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._waits = threading.Event()

    def filled(self, rows: int = 100) -> Revoker:
        """Make the tables with so many tokens in each store."""
        self.sql(TABLES)
        self.sql(ROWS.replace("{rows}", str(rows)))
        return self

    def open(self, *, read_only: bool = False, **login: Any) -> Any:
        """Return a session of the collection's own."""
        given = {**self.database.login(tcp=False), **login}
        return connect(ConnectionOptions.from_params(given), application_name="pgops.runbook/pg_token_revoke", read_only=read_only)

    def run(self, select: Any, *stores: dict[str, Any], check: bool = False, login: Any = None, **options: Any) -> dict[str, Any]:
        """Revoke and return the result; a wait is half a second at the most unless `options` say so."""
        given = {"token_stores": list(stores or (DENIED,)), "reason": "a test", "max_wait": "500 ms", **options}
        read = _revocation.read_options({"select": select, **given})
        with self.open(read_only=check, **(login or {})) as session:
            return _revocation.run(session, read, check_mode=check)

    def undo(self, revocation_id: str, **options: Any) -> dict[str, Any]:
        """Take a revocation back."""
        return self.run(None, state="reinstated", revocation_id=revocation_id, **options)

    def sql(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Run statements as the superuser and return the rows of the last."""
        return self.database.query(statement, parameters)

    def value(self, statement: str, parameters: Any = None) -> Any:
        """Return the only value of a query."""
        ((value,),) = self.sql(statement, parameters)
        return value

    def accepted(self, where: str = "true") -> int:
        """Return how many tokens of the store with a deny list the application still takes."""
        return int(self.value(STILL_DENIED_STORE.replace("{where}", where)))

    def content(self, *tables: str) -> dict[str, str]:
        """Return a hash over the rows of each of the application's tables, wherever they lie."""
        return {table: self.value(CONTENT.replace("{table}", table)) for table in (tables or APP)}

    @contextmanager
    def open_transaction(self, *statements: str) -> Iterator[Any]:
        """Give a session whose transaction has run `statements`; it ends with the block, rolled back unless the test has ended it."""
        with self.database.connect() as session:
            session.execute("BEGIN")
            for statement in statements:
                session.execute(statement)
            try:
                yield session
            finally:
                if not session.closed and not session.broken:
                    session.execute("ROLLBACK")

    @contextmanager
    def meanwhile(self, work: Callable[[Any, threading.Event], None], sessions: int = 1) -> Iterator[threading.Event]:
        """Let others do `work` with a session of their own and an event that tells them to stop; their errors are raised here."""
        stop, errors = threading.Event(), []

        def body() -> None:
            try:
                with self.database.connect() as session:
                    work(session, stop)
            except Exception as error:  # noqa: BLE001  (raised below)
                errors.append(error)

        threads = [threading.Thread(target=body) for _number in range(sessions)]
        for thread in threads:
            thread.start()
        try:
            yield stop
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
        for error in errors:
            raise error

    @contextmanager
    def running(self, select: Any, *stores: dict[str, Any], **options: Any) -> Iterator[dict[str, Any]]:
        """Run in the background during the block; what it gives or raises is in the dictionary after it."""
        given: dict[str, Any] = {}
        self._waits.clear()
        wait_for = passes.wait_for

        def begins_to_wait(*arguments: Any) -> Any:
            self._waits.set()
            return wait_for(*arguments)

        def body() -> None:
            try:
                given["result"] = self.run(select, *stores, **options)
            except Exception as error:  # noqa: BLE001  (handed to the test)
                given["error"] = error

        thread = threading.Thread(target=body)
        with mock.patch.object(passes, "wait_for", begins_to_wait):
            thread.start()
            try:
                yield given
            finally:
                thread.join(60)
        assert not thread.is_alive()

    def until_it_waits(self) -> None:
        """Return when the run in the background has changed what it could and waits for the transactions of others."""
        until(self._waits.is_set)

    def until_it_is_blocked(self) -> None:
        """Return when the run in the background waits for a lock."""
        until(lambda: self.value("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = ANY(%s)", [self.pids()]))

    def pids(self) -> list[int]:
        """Return the sessions of runs that are at work."""
        query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'pgops.runbook/%'"
        return [int(row[0]) for row in self.sql(query)]


def with_changes(store: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """Return a store whose parts are updated by mappings, or replaced."""
    made = copy.deepcopy(store)
    for name, part in parts.items():
        made[name] = {**made[name], **part} if isinstance(part, dict) and isinstance(made.get(name), dict) else part
    return made
