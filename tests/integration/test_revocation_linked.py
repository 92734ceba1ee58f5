"""Stores whose links are cleared go whole or not at all: they must come to their end on a service that is at work."""

from __future__ import annotations

import random
import threading
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils import _revocation
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from tests.ground.databases import Database
from tests.integration.children import until

TABLES = """
CREATE TABLE access (id int PRIMARY KEY, user_id int, used_at timestamptz);
CREATE TABLE refresh (
    id int PRIMARY KEY, user_id int, revoked_at timestamptz, used_at timestamptz,
    access_id int REFERENCES access DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX ON refresh (access_id);
INSERT INTO access SELECT n, n % 10 FROM generate_series(1, 4000) AS n;
INSERT INTO refresh (id, user_id, access_id) SELECT n, n % 10, n FROM generate_series(1, 4000) AS n;
"""
ACCESS = {"table": "access", "column": "id", "references": "access_id", "on_revoke": "delete"}
STORE = {
    "name": "refresh",
    "tokens": {"table": "refresh", "id": "id", "subject": "user_id"},
    "revoke": {"how": "timestamp", "column": "revoked_at"},
    "dependents": [ACCESS, {"table": "refresh", "column": "access_id", "references": "access_id", "on_revoke": "clear"}],
}
WORKERS = 4


def test_a_service_that_touches_rows_all_the_time_does_not_keep_a_linked_store_from_its_end(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(TABLES)
    done = threading.Event()
    touched = []

    def use(seed: int) -> None:
        numbers = random.Random(seed)
        with database.connect() as connection:
            while not done.is_set():
                table = numbers.choice(("access", "refresh"))
                with connection.transaction():
                    connection.execute(f"UPDATE {table} SET used_at = clock_timestamp() WHERE id = {numbers.randint(1, 4000)}")
                    connection.execute("SELECT pg_sleep(0.005)")
                touched.append(table)

    workers = [threading.Thread(target=use, args=(seed,)) for seed in range(WORKERS)]
    for worker in workers:
        worker.start()
    try:
        until(lambda: len(touched) > WORKERS)
        options = _revocation.read_options({"token_stores": [STORE], "select": {"subjects": list(range(9))}, "reason": "stolen"})
        with connect(ConnectionOptions.from_params(database.login(tcp=False)), application_name="test", read_only=False) as session:
            result: dict[str, Any] = _revocation.run(session, options, check_mode=False)
    finally:
        done.set()
        for worker in workers:
            worker.join()
    assert (result["revoked"], result["remaining"]) == (3600, 0)
    assert database.query("SELECT count(*), count(revoked_at), count(access_id) FROM refresh WHERE user_id < 9") == [(3600, 3600, 0)]
    assert database.query("SELECT DISTINCT user_id FROM access") == [(9,)]
    assert database.query("SELECT count(*) FROM refresh WHERE user_id = 9 AND revoked_at IS NULL AND access_id = id") == [(400,)]
