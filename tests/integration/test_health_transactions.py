"""Whatever holds the xmin horizon back is found and named: sessions, prepared transactions, slots by both their ids, standbys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.errors import ProgramMissing
from tests.ground.servers import Installation
from tests.integration.watching import create_role, drop_role, eventually, finding, look, run_script, status_of

pytestmark = pytest.mark.any_driver

Backend = psycopg.Connection[tuple[Any, ...]]
# No test holds anything for an hour: what is beyond the critical counts at once.
LOW: dict[str, Any] = {"xmin.horizon": {"warning": 3, "critical": 5}}
PLAIN = "plain watcher"


@pytest.fixture(scope="module")
def cluster(installation: Installation) -> Iterator[Cluster]:
    """A server with all that can hold the horizon back."""
    settings: dict[str, str | int] = {"autovacuum": "off", "max_prepared_transactions": 10, "wal_level": "logical"}
    with Cluster(installation, settings=settings) as server:
        yield server


def burn(database: Database, ids: int) -> None:
    """Give away some transaction ids."""
    run_script(database, f"DO $$ BEGIN FOR i IN 1..{ids} LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$")


def watch(database: Database, **params: Any) -> dict[str, Any]:
    """Look at transactions that hold on."""
    return look(database, "hourly", system=None, **{"checks": ["xmin", "twophase"], "thresholds": LOW, **params})


@pytest.fixture
def beside(cluster: Cluster, database: Database) -> Iterator[Database]:
    """Another database of the server, with a table."""
    with Database.create(cluster, f"{database.name}_beside") as made:
        run_script(made, "CREATE TABLE t (id int)")
        yield made


@pytest.fixture
def app(beside: Database) -> Iterator[Backend]:
    """A session of an application in another database."""
    with beside.connect(application_name="report") as session:
        yield session


# --- sessions -----------------------------------------------------------------------------------------------------------


def test_nothing_holds(database: Database) -> None:
    burn(database, 10)
    result = watch(database)
    assert (result["findings"], result["metrics"]["xmin.horizon"]) == ([], 0)
    assert result["metrics"]["xid.assigned_total"] > 100
    assert (status_of(result, "twophase.age"), result["metrics"]["twophase.age"]) == ("ok", 0)


@pytest.mark.parametrize("holds", ["BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t", "BEGIN; INSERT INTO t VALUES (1)"])
def test_a_session_of_another_database(app: Backend, beside: Database, database: Database, holds: str) -> None:
    app.execute(holds)  # type: ignore[call-overload]
    burn(database, 10)
    result = watch(database)
    found = finding(result, "xmin.horizon[session postgres/report]")
    pid = app.info.backend_pid
    assert (found["severity"], found["value"]) == ("critical", result["metrics"]["xmin.horizon"])
    assert f"process {pid} of postgres in {beside.name}, report, idle in transaction keeps dead rows of the last " in found["message"]
    assert found["action"] == f"Let it commit, or end it: SELECT pg_terminate_backend({pid})."
    assert result["details"]["horizon"][0]["kind"] == "session"
    # More than the warning, but for seconds.
    between = watch(database, thresholds={"xmin.horizon": {"warning": 3, "critical": 1000}})
    assert [found["message"] for found in between["findings"]] == []
    # The threshold itself is within.
    for critical, status in ((found["value"], "ok"), (found["value"] - 1, "critical")):
        assert status_of(watch(database, thresholds={"xmin.horizon": {"warning": 3, "critical": critical}}), "xmin.horizon") == status
    app.execute("ROLLBACK")
    assert watch(database)["findings"] == []


def test_sessions_of_one_application_are_one_finding(app: Backend, beside: Database, database: Database) -> None:
    app.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
    burn(database, 10)
    with beside.connect(application_name="report") as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        burn(database, 10)
        result = watch(database)
    (found,) = result["findings"]
    assert f"process {app.info.backend_pid}" in found["message"]
    assert len(result["details"]["horizon"]) == 2


def test_a_session_that_reads_what_is_committed_holds_nothing(app: Backend, database: Database) -> None:
    app.execute("BEGIN; SELECT count(*) FROM t")
    burn(database, 10)
    assert watch(database)["findings"] == []


def test_a_role_with_nothing_does_not_know_since_when(app: Backend, database: Database, cluster: Cluster) -> None:
    login = create_role(cluster, PLAIN)
    try:
        assert watch(database, login=login)["findings"] == []
        app.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t")
        burn(database, 10)
        # So many that nobody needs to know since when.
        assert finding(watch(database, login=login), "xmin.horizon[session postgres/report]")["severity"] == "critical"
        high: dict[str, Any] = {"xmin.horizon": {"warning": 10**6, "critical": 10**7}}
        found = finding(watch(database, login=login, thresholds=high), "xmin.horizon")
        assert found["severity"] == "unknown"
        assert f'GRANT pg_read_all_stats TO "{PLAIN}"' in found["action"]
        run_script(database, f'GRANT pg_monitor TO "{PLAIN}"')
        assert watch(database, login=login, thresholds=high)["findings"] == []
    finally:
        drop_role(cluster, database, PLAIN)


# --- prepared transactions ----------------------------------------------------------------------------------------------


def test_a_prepared_transaction(app: Backend, beside: Database, database: Database, cluster: Cluster) -> None:
    app.execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s left'")
    app.execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'another'")
    login = create_role(cluster, PLAIN)
    try:
        burn(database, 10)
        time.sleep(0.05)
        limits = {**LOW, "twophase.age": {"warning": "50 ms", "critical": "1 h"}}
        for result in (watch(database, thresholds=limits), watch(database, thresholds=limits, login=login)):
            found = finding(result, "xmin.horizon[prepared it's left]")
            assert found["severity"] == "critical"
            assert f"the prepared transaction it's left of postgres in {beside.name} keeps dead rows" in found["message"]
            assert f"in the database {beside.name}: ROLLBACK PREPARED 'it''s left'." in found["action"]
            for gid in ("it's left", "another"):
                aged = finding(result, f"twophase.age[{gid}]")
                assert (aged["severity"], aged["value"] >= 0.05) == ("warning", True)
            assert "ROLLBACK PREPARED 'it''s left'" in finding(result, "twophase.age[it's left]")["action"]
        critical = {"twophase.age": {"warning": "1 ms", "critical": "2 ms"}}
        assert finding(watch(database, thresholds=critical), "twophase.age[another]")["severity"] == "critical"
        fine = watch(database, thresholds={})
        assert (fine["findings"], fine["metrics"]["twophase.age"] > 0.05) == ([], True)
    finally:
        drop_role(cluster, database, PLAIN)
        app.execute("ROLLBACK PREPARED 'it''s left'")
        app.execute("ROLLBACK PREPARED 'another'")


# --- slots and standbys -------------------------------------------------------------------------------------------------


@pytest.fixture
def logical(beside: Database) -> Iterator[None]:
    """A logical slot of another database, with nobody behind it."""
    run_script(beside, "SELECT pg_create_logical_replication_slot('sub', 'pgoutput')")
    yield
    run_script(beside, "SELECT pg_drop_replication_slot('sub')")


@pytest.mark.usefixtures("logical")
def test_a_logical_slot_holds_the_catalogue(database: Database, cluster: Cluster) -> None:
    burn(database, 10)
    result = watch(database)
    found = finding(result, "xmin.horizon[slot sub]")
    assert (found["severity"], found["value"]) == ("critical", result["metrics"]["xmin.horizon"])
    assert "the logical slot sub (inactive) by its catalog_xmin keeps dead rows of the catalogue of the last " in found["message"]
    assert "SELECT pg_drop_replication_slot('sub')" in found["action"]
    # Since when nobody uses it is the least that is known, from PostgreSQL 17 on.
    assert ("for at least" in found["message"]) == (cluster.installation.major >= 17)
    # Since when it holds nobody knows: the ids alone decide.
    limits = {"xmin.horizon": {"warning": 3, "critical": 1000}}
    login = create_role(cluster, PLAIN)
    for params in ({}, {"login": login}):
        assert finding(watch(database, thresholds=limits, **params), "xmin.horizon[slot sub]")["severity"] == "warning"
    drop_role(cluster, database, PLAIN)
    assert watch(database, thresholds={})["findings"] == []


@pytest.mark.usefixtures("logical")
def test_a_slot_that_is_lost_holds_nothing(database: Database, cluster: Cluster) -> None:
    if cluster.installation.major < 13:
        pytest.skip("slots are lost from PostgreSQL 13 on")
    burn(database, 10)
    run_script(database, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    try:
        run_script(database, "SELECT pg_reload_conf()")
        for _segment in range(4):
            burn(database, 1)
            run_script(database, "SELECT pg_switch_wal()")
        run_script(database, "CHECKPOINT")
        assert database.query("SELECT wal_status FROM pg_replication_slots") == [("lost",)]
        assert watch(database)["findings"] == []
    finally:
        run_script(database, "ALTER SYSTEM RESET max_slot_wal_keep_size")
        run_script(database, "SELECT pg_reload_conf()")


def test_a_standby_by_its_feedback_and_by_its_slot(app: Backend, database: Database, cluster: Cluster) -> None:
    try:
        standby = cluster.standby(
            settings={"hot_standby_feedback": "on", "wal_receiver_status_interval": "1s", "max_standby_streaming_delay": -1}
        )
    except ProgramMissing as reason:
        pytest.skip(str(reason))
    try:
        cluster.wait_for(standby)
        with standby.connect(database.name, application_name="far report") as far:
            far.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
            fed = "SELECT count(*) FROM pg_stat_replication WHERE backend_xmin IS NOT NULL"
            eventually(lambda: database.query(fed) == [(1,)])
            burn(database, 10)
            time.sleep(1.2)  # its next feedback
            # Without a slot: the row of the sender has no database, and says what the standby needs.
            name = database.query("SELECT application_name FROM pg_stat_replication")[0][0]
            found = finding(watch(database), f"xmin.horizon[standby {name}]")
            assert found["severity"] == "critical"
            assert "by its feedback keeps dead rows of the last " in found["message"]
            assert "on that standby" in found["action"]
            # On the standby it is the session, which is held in there too.
            cluster.wait_for(standby)
            there = watch(database, cluster=standby)
            assert finding(there, "xmin.horizon[session postgres/far report]")["severity"] == "critical"
            assert status_of(there, "twophase.age") == "skipped"
        standby.restart({"hot_standby_feedback": "off"})
        with standby.connect(database.name) as far:
            far.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
            burn(database, 10)
            cluster.wait_for(standby)
            assert status_of(watch(database, cluster=standby), "xmin.horizon") == "skipped"
        # With a slot: that keeps what the standby needed last, although it is away.
        run_script(database, "SELECT pg_create_physical_replication_slot('far')")
        standby.restart({"hot_standby_feedback": "on", "primary_slot_name": "far"})
        last = standby.connect(database.name)
        last.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
        eventually(lambda: database.query("SELECT count(*) FROM pg_replication_slots WHERE xmin IS NOT NULL") == [(1,)])
        standby.crash()
        last.close()
        eventually(lambda: database.query("SELECT count(*) FROM pg_replication_slots WHERE active") == [(0,)])
        burn(database, 10)
        result = watch(database)
        found = finding(result, "xmin.horizon[slot far]")
        assert found["severity"] == "critical"
        assert "the physical slot far (inactive) by its xmin keeps dead rows of the last " in found["message"]
        assert "pg_drop_replication_slot('far')" in found["action"]
    finally:
        standby.stop()
        run_script(database, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def test_every_source_at_once_has_a_name_of_its_own(app: Backend, database: Database, logical: None) -> None:
    app.execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'left'")
    try:
        app.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        burn(database, 10)
        result = watch(database)
        assert {found["key"] for found in result["findings"]} == {
            "xmin.horizon[session postgres/report]",
            "xmin.horizon[prepared left]",
            "xmin.horizon[slot sub]",
        }
        # The same ones in the next run.
        assert [found["key"] for found in watch(database)["findings"]] == [found["key"] for found in result["findings"]]
    finally:
        app.execute("ROLLBACK")
        app.execute("ROLLBACK PREPARED 'left'")


def test_a_setting_that_defers_the_clean_up(database: Database, cluster: Cluster) -> None:
    if cluster.installation.major > 15:
        pytest.skip("vacuum_defer_cleanup_age went with PostgreSQL 16")
    run_script(database, "ALTER SYSTEM SET vacuum_defer_cleanup_age = 1000")
    try:
        run_script(database, "SELECT pg_reload_conf()")
        eventually(lambda: status_of(watch(database), "xmin.horizon") == "critical")
        found = finding(watch(database), "xmin.horizon[setting vacuum_defer_cleanup_age]")
        assert (found["value"], "ALTER SYSTEM RESET" in found["action"]) == (1000, True)
    finally:
        run_script(database, "ALTER SYSTEM RESET vacuum_defer_cleanup_age")
        run_script(database, "SELECT pg_reload_conf()")
