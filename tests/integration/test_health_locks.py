"""Sessions that wait for others are counted once, and whoever is at the root of it is named: a session, or a prepared transaction."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._health import engine, locks
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.spending import spending
from tests.integration.throttling import waiting
from tests.integration.watching import create_role, drop_role, eventually, finding, look, run_script, status_of

pytestmark = pytest.mark.any_driver

Backend = psycopg.Connection[tuple[Any, ...]]
LOW: dict[str, Any] = {"lock.blocked": {"warning": 0}, "lock.wait": {"warning": "1 h", "critical": "2 h"}}


@pytest.fixture(scope="module")
def cluster(installation: Installation) -> Iterator[Cluster]:
    """A server that takes prepared transactions."""
    with Cluster(installation, settings={"autovacuum": "off", "max_prepared_transactions": 10, "deadlock_timeout": "10 s"}) as server:
        yield server


@pytest.fixture
def app(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """A session of an application, on a database with one table; the shortest wait counts."""
    monkeypatch.setattr(locks, "BLOCKED_AFTER", 0.0)
    run_script(
        database, 'CREATE TABLE "Or ders" (id int PRIMARY KEY, n int); INSERT INTO "Or ders" SELECT g, 0 FROM generate_series(1, 9) AS g'
    )
    with database.connect(application_name="web 'app'") as session:
        yield session


@contextmanager
def holding(session: Backend, statement: str) -> Iterator[int]:
    """Leave a transaction open after a statement; return its process."""
    session.execute("BEGIN")
    session.execute(statement)  # type: ignore[call-overload]
    yield session.info.backend_pid
    session.execute("ROLLBACK")


def blocked(database: Database, **params: Any) -> dict[str, Any]:
    """Look at the locks, with thresholds that no test reaches by chance."""
    return look(database, "hourly", system=None, **{"checks": ["lock"], "thresholds": LOW, **params})


def tree(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the roots."""
    found: list[dict[str, Any]] = result["details"]["blocking"]
    return found


SECRET = "SELECT 'token-that-nobody-may-see' FROM \"Or ders\""


def test_nobody_waits(database: Database) -> None:
    result = blocked(database)
    assert (result["findings"], result["details"]) == ([], {"blocking": []})
    assert {name: result["metrics"][name] for name in ("lock.blocked", "lock.wait")} == {"lock.blocked": 0, "lock.wait": 0}


@pytest.mark.parametrize("statement", [SECRET, 'LOCK TABLE "Or ders"'])
def test_eighty_that_wait_for_one_lock_have_one_root(app: Backend, database: Database, statement: str) -> None:
    with holding(app, 'LOCK TABLE "Or ders"') as pid, waiting(database, f"BEGIN; {statement}", 80), spending(database.cluster) as spent:
        result = blocked(database)
    found = finding(result, "lock.blocked")
    assert (found["value"], found["severity"]) == (80, "warning")
    assert f"80 sessions wait for locks: process {pid} of postgres in {database.name}, web 'app', idle in transaction" in found["message"]
    assert found["action"].endswith(f"SELECT pg_terminate_backend({pid}).")
    (root,) = tree(result)
    assert (root["waiters"], root["locked"], root["ddl_queue"]) == (80, 'public."Or ders"', "held")
    assert "token-that-nobody-may-see" not in str(result)
    # The gathering is one statement, which takes milliseconds.
    assert result["round_trips"] == 2
    assert spent.seconds < 1


def test_more_than_are_asked_for_are_counted_and_that_is_said(app: Backend, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from ansible_collections.pgops.runbook.plugins.module_utils._health import blocking

    few = replace(blocking.WAITING, name="few", statement=blocking.WAITING.statement.replace("<= 200", "<= 2"))
    monkeypatch.setattr(blocking, "WAITING", few)
    monkeypatch.setattr(locks, "ASKED", 2)
    with holding(app, 'LOCK TABLE "Or ders"'), waiting(database, SECRET, 4):
        result = blocked(database)
    found = finding(result, "lock.blocked")
    assert found["value"] == 4
    assert "of 4 the 2 that have waited longest were asked" in found["message"]
    assert [root["waiters"] for root in tree(result)] == [2]


def test_a_lock_on_the_whole_table_that_is_only_queued_makes_readers_wait(
    app: Backend, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOCK_TIMEOUT", "5 min")
    with holding(app, SECRET) as pid, waiting(database, 'ALTER TABLE "Or ders" ADD x int'), waiting(database, SECRET, 2):
        checks = ["lock", "conn", "query", "transaction", "xmin", "xid", "mxid", "twophase"]
        began = time.monotonic()
        result = blocked(database, checks=checks, check_timeout="5 min")
        assert time.monotonic() - began < 60, "a check queues with them"
    (root,) = tree(result)
    assert root["root"].startswith(f"process {pid} of postgres")
    assert (root["waiters"], root["ddl_queue"]) == (3, "queued")
    assert "a lock on a whole table is queued, which stops all readers" in finding(result, "lock.blocked")["message"]
    assert not [check["id"] for check in result["checks"] if check["status"] == "unknown"]


def test_two_roots_and_a_chain(app: Backend, database: Database) -> None:
    with database.connect(application_name="batch") as other, database.connect() as middle:
        middle.execute("BEGIN")
        middle.execute('UPDATE "Or ders" SET n = 1 WHERE id = 3')
        with (
            holding(app, 'UPDATE "Or ders" SET n = 1 WHERE id = 1'),
            holding(other, 'UPDATE "Or ders" SET n = 1 WHERE id = 2'),
            waiting(database, 'UPDATE "Or ders" SET n = 2 WHERE id = 2'),
            waiting(database, 'BEGIN; UPDATE "Or ders" SET n = 2 WHERE id = 4; UPDATE "Or ders" SET n = 2 WHERE id = 1'),
            waiting(database, 'UPDATE "Or ders" SET n = 2 WHERE id = 4'),
        ):
            result = blocked(database)
    roots = {root["root"].split(", ")[1]: root for root in tree(result)}
    assert {name: root["waiters"] for name, root in roots.items()} == {"web 'app'": 2, "batch": 1}
    # The table of a row is known from the lock on the row.
    assert roots["batch"]["locked"] == 'public."Or ders"'
    assert roots["batch"]["ddl_queue"] == ""
    assert result["metrics"]["lock.blocked"] == 3


@pytest.mark.parametrize("lock", ['LOCK TABLE "Or ders" IN SHARE MODE', 'UPDATE "Or ders" SET n = 1 WHERE id = 1'])
def test_a_prepared_transaction_is_named(app: Backend, database: Database, lock: str) -> None:
    app.execute("BEGIN; SELECT * FROM \"Or ders\"; PREPARE TRANSACTION 'an innocent one'")
    app.execute("BEGIN")
    app.execute(lock)  # type: ignore[call-overload]
    app.execute("PREPARE TRANSACTION 'left ''behind'")
    try:
        with waiting(database, 'UPDATE "Or ders" SET n = 2 WHERE id = 1', 2):
            result = blocked(database)
    finally:
        app.execute("ROLLBACK PREPARED 'left ''behind'")
        app.execute("ROLLBACK PREPARED 'an innocent one'")
    found = finding(result, "lock.blocked")
    assert f"the prepared transaction left 'behind of postgres in {database.name} holds up 2" in found["message"]
    assert "ROLLBACK PREPARED 'left ''behind'" in found["action"]
    assert "innocent" not in str(result)
    assert len(tree(result)) == 1


def test_the_workers_of_a_parallel_statement_block_as_one(app: Backend, database: Database) -> None:
    run_script(database, "CREATE TABLE wide AS SELECT generate_series(1, 20000) AS id; ANALYZE wide")
    settings = "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET jit = off"
    slow = f"{settings}; SELECT count(*) FROM wide WHERE pg_sleep(0.01) IS NULL"
    with database.connect() as reader, database.connect() as probe:
        pid = reader.info.backend_pid
        with waiting_for_nobody(reader, slow):
            held = "SELECT count(*) FROM pg_locks WHERE relation = 'wide'::regclass AND granted"
            eventually(lambda: (probe.execute(held).fetchone() or (0,))[0] >= 2)
            with waiting(database, "BEGIN; LOCK TABLE wide"):
                result = blocked(database)
    (root,) = tree(result)
    assert (root["waiters"], root["locked"]) == (1, "public.wide")
    assert root["root"].startswith(f"process {pid} ")


@contextmanager
def waiting_for_nobody(session: Backend, statement: str) -> Iterator[None]:
    """Let a session run a statement until after the block."""
    import threading

    def run() -> None:
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute(statement)  # type: ignore[call-overload]

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        session.cancel()
        thread.join(10)


def test_a_short_wait_is_not_counted(app: Backend, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BLOCKED_AFTER", 3600.0)
    with holding(app, 'LOCK TABLE "Or ders"'), waiting(database, SECRET):
        result = blocked(database)
    assert status_of(result, "lock.blocked") == "ok"
    assert result["metrics"]["lock.wait"] > 0


def test_who_waits_for_an_advisory_lock_is_queued_on_purpose(app: Backend, database: Database) -> None:
    with holding(app, "SELECT pg_advisory_lock(1)"), waiting(database, "SELECT pg_advisory_lock(1)", 2):
        result = blocked(database, thresholds={"lock.blocked": {"warning": 0}, "lock.wait": {"warning": 0, "critical": 0}})
        app.execute("SELECT pg_advisory_unlock_all()")
    assert result["findings"] == []
    assert result["metrics"]["lock.advisory_waits"] == 2


@pytest.mark.parametrize(
    ("sessions", "limits", "severity"),
    [
        (1, {"warning": "1 h", "critical": "2 h"}, "ok"),
        (2, {"warning": "1 ms", "critical": "2 h"}, "warning"),
        (1, {"warning": "1 ms", "critical": "2 ms"}, "critical"),
        # One root has held up three for longer than the warning.
        (3, {"warning": "1 ms", "critical": "2 h"}, "critical"),
        (3, {"warning": "1 ms", "critical": None}, "warning"),
        (3, {"warning": None, "critical": "2 h"}, "ok"),
    ],
)
def test_the_longest_wait(app: Backend, database: Database, sessions: int, limits: dict[str, Any], severity: str) -> None:
    with holding(app, 'LOCK TABLE "Or ders"') as pid, waiting(database, SECRET, sessions):
        time.sleep(0.02)
        result = blocked(database, thresholds={"lock.wait": limits})
    bound = app.info.server_version < 140000
    if bound and severity == "critical":
        # How long the statement has run is known, and not since when it waits.
        severity = "warning"
    assert status_of(result, "lock.wait") == severity
    if severity != "ok":
        found = finding(result, "lock.wait")
        assert found["value"] > 0
        assert ("at most" in found["message"]) is bound
        assert f"process {pid}" in found["message"]


@pytest.mark.parametrize("member_of", [[], ["pg_monitor"]])
def test_every_role_sees_who_waits(app: Backend, database: Database, cluster: Cluster, member_of: list[str]) -> None:
    login = create_role(cluster, "watcher", *member_of)
    try:
        with holding(app, 'LOCK TABLE "Or ders"') as pid, waiting(database, SECRET, 3):
            time.sleep(0.02)
            limits = {"lock.blocked": {"warning": 0}, "lock.wait": {"warning": "1 ms", "critical": "1 h"}}
            result = blocked(database, login=login, thresholds=limits)
            fine = blocked(database, login=login)
    finally:
        drop_role(cluster, database, "watcher")
    assert finding(result, "lock.blocked")["value"] == 3
    assert [root["waiters"] for root in tree(result)] == [3]
    assert f"process {pid} of postgres" in tree(result)[0]["root"]
    if member_of or cluster.installation.major >= 14:
        # Three that wait for longer than the warning are critical where it is known since when.
        severity = "critical" if cluster.installation.major >= 14 else "warning"
        assert (status_of(result, "lock.wait"), status_of(fine, "lock.wait")) == (severity, "ok")
    else:
        # Since when they wait only their statements say, which others do not see.
        assert "GRANT pg_read_all_stats" in finding(result, "lock.wait")["action"]
        assert status_of(fine, "lock.wait") == "unknown"
