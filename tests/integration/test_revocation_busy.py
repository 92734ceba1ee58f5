"""A service that goes on working: it issues tokens and uses them all through a revocation, which must come to its end all the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils import _revocation
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from tests.ground.databases import Database

TABLES = """
CREATE TABLE tokens (id bigserial PRIMARY KEY, issued_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE codes (id bigserial PRIMARY KEY, token_id bigint NOT NULL REFERENCES tokens);
INSERT INTO tokens (issued_at) SELECT now() - interval '1 hour' FROM generate_series(1, 200);
INSERT INTO codes (token_id) SELECT id FROM tokens;
"""
ISSUE = "INSERT INTO tokens DEFAULT VALUES"
USE = "INSERT INTO codes (token_id) SELECT id FROM tokens ORDER BY random() LIMIT 1 FOR KEY SHARE SKIP LOCKED"
STORE = {
    "name": "app",
    "tokens": {"table": "tokens", "id": "id", "issued_at": "issued_at"},
    "revoke": {"how": "delete"},
    "dependents": [{"table": "codes", "column": "token_id", "references": "id", "on_revoke": "delete"}],
}


@contextmanager
def at_work(database: Database, statement: str, sessions: int = 2) -> Iterator[None]:
    """Let sessions run `statement` as fast as they can."""
    done = threading.Event()

    def work() -> None:
        with database.connect() as connection:
            while not done.is_set():
                connection.execute(statement)

    threads = [threading.Thread(target=work) for _number in range(sessions)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def revoke(database: Database, **more: Any) -> dict[str, Any]:
    options = _revocation.read_options({"token_stores": [STORE], "select": {"all": True}, "reason": "stolen", **more})
    with connect(ConnectionOptions.from_params(database.login(tcp=False)), application_name="test", read_only=False) as session:
        return _revocation.run(session, options, check_mode=False)


def test_a_small_store_that_goes_on_issuing_is_done_in_a_few_passes(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(TABLES)
    with at_work(database, ISSUE):
        result = revoke(database)
    assert result["remaining"] == 0
    assert result["passes"] <= 8
    assert database.query("SELECT count(*) FROM tokens WHERE issued_at < %s", [result["as_of"]]) == [(0,)]


def test_rows_that_refer_to_a_token_while_it_goes_hold_it_back_for_a_pass_only(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(TABLES)
    with at_work(database, USE):
        result = revoke(database)
    assert (result["revoked"], result["remaining"]) == (200, 0)
    assert database.query("SELECT (SELECT count(*) FROM tokens), (SELECT count(*) FROM codes)") == [(0, 0)]


def test_a_locked_row_that_refers_to_a_token_holds_back_that_one_alone(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(TABLES)
    with database.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT FROM codes WHERE token_id = 7 FOR UPDATE")
        threading.Timer(2.0, lambda: other.execute("COMMIT")).start()
        result = revoke(database, max_wait="20 s")
    assert (result["revoked"], result["remaining"]) == (200, 0)
