"""How many transaction and multixact ids are in use: in the worst database, whichever it is, and what holds them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.watching import create_role, drop_role, eventually, finding, look, run_script, status_of

pytestmark = pytest.mark.any_driver

# The least that a server can be set to.
FREEZE, MULTI_FREEZE = 100_000, 10_000
CHECKS = ["xid.age_pct", "mxid.age_pct"]
BURN = "DO $$ BEGIN FOR i IN 1..{} LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$"
# A row that two transactions share has a multixact of its own for each set of them.
SHARE = """
DO $$ BEGIN FOR i IN 1..{} LOOP
    BEGIN PERFORM FROM shared WHERE id = i FOR KEY SHARE; EXCEPTION WHEN division_by_zero THEN NULL; END;
END LOOP; END $$
"""


@pytest.fixture(scope="module")
def cluster(installation: Installation) -> Iterator[Cluster]:
    """A server that freezes as early as one can."""
    limits: dict[str, str | int] = {
        "autovacuum_freeze_max_age": FREEZE,
        "autovacuum_multixact_freeze_max_age": MULTI_FREEZE,
        "synchronous_commit": "off",
    }
    settings: dict[str, str | int] = {
        "autovacuum": "off",
        "max_prepared_transactions": 10,
        "wal_level": "minimal",
        "max_wal_senders": 0,
        **limits,
    }
    with Cluster(installation, settings=settings) as server:
        yield server


def watch(database: Database, **params: Any) -> dict[str, Any]:
    """Look at the ids."""
    return look(database, "hourly", system=None, **{"checks": CHECKS, **params})


def message_of(result: dict[str, Any], check: str) -> str:
    """Return what a check says."""
    return str(next(each["message"] for each in result["checks"] if each["id"] == check))


@contextmanager
def failsafe(database: Database, name: str, value: int) -> Iterator[None]:
    """Set a failsafe for a while; no less than 105 % of what autovacuum freezes at holds."""
    run_script(database, f"ALTER SYSTEM SET {name} = {value}")
    run_script(database, "SELECT pg_reload_conf()")
    eventually(lambda: database.query(f"SHOW {name}") == [(str(value),)])
    yield
    run_script(database, f"ALTER SYSTEM RESET {name}")
    run_script(database, "SELECT pg_reload_conf()")


def test_a_young_server(database: Database, cluster: Cluster) -> None:
    login = create_role(cluster, "plain watcher")
    try:
        for params in ({}, {"login": login}):
            result = watch(database, **params)
            assert result["findings"] == []
            for check in CHECKS:
                assert 0 <= result["metrics"][check] < 0.01
                assert " ids are in use, " in message_of(result, check)
                assert "freezes" not in message_of(result, check)
    finally:
        drop_role(cluster, database, "plain watcher")


def test_the_worst_database_counts_whether_or_not_it_takes_connections(database: Database, cluster: Cluster) -> None:
    # 0.0000931 % are 2,000 ids.
    limits: dict[str, Any] = {"xid.age_pct": {"warning": 0.0000931, "critical": 90}}
    run_script(database, BURN.format(3000))
    others = [name for (name,) in database.query("SELECT datname FROM pg_database WHERE datallowconn")]
    for name in others:
        with cluster.connect(name) as connection:
            connection.execute("VACUUM (FREEZE)")
    found = finding(watch(database, thresholds=limits), "xid.age_pct")
    assert found["severity"] == "warning"
    assert "since the oldest of template0" in found["message"]
    assert "more databases" not in found["message"]
    assert "No session can vacuum template0" in found["action"]
    cluster.create_database("closed")
    with cluster.connect() as connection:
        connection.execute("ALTER DATABASE closed ALLOW_CONNECTIONS false")
        try:
            # A copy is as old as what it was copied from.
            run_script(database, BURN.format(3000))
            found = finding(watch(database, thresholds=limits), "xid.age_pct")
            assert "template0" in found["message"]
            assert f"{len(others) + 1} more databases are beyond as well" in found["message"]
            edge = {"xid.age_pct": {"warning": found["value"] + 0.0001, "critical": 90}}
            assert status_of(watch(database, thresholds=edge), "xid.age_pct") == "ok"
        finally:
            connection.execute("ALTER DATABASE closed ALLOW_CONNECTIONS true")
    cluster.drop_database("closed")


def test_ids_that_cannot_be_frozen(database: Database, cluster: Cluster) -> None:
    run_script(database, "CREATE TABLE t (id int)")
    with database.connect() as app:
        app.execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'left'")
    try:
        run_script(database, BURN.format(FREEZE + FREEZE // 20 + 100))
        # Autovacuum is off, and comes nevertheless; it cannot freeze what is still to be seen.
        result = watch(database)
        message = message_of(result, "xid.age_pct")
        assert (result["findings"], "above the 100,000 at which autovacuum freezes" in message) == ([], True)
        assert f"held back by the prepared transaction left of postgres in {database.name}, 105,1" in message
        if cluster.installation.major >= 14:
            with failsafe(database, "vacuum_failsafe_age", 0):
                found = finding(watch(database), "xid.age_pct")
                assert (found["severity"], found["threshold"]) == ("critical", None)
                assert "beyond the failsafe of 105,000: vacuums do nothing but freeze" in found["message"]
                assert "held back by the prepared transaction left" in found["message"]
            with failsafe(database, "vacuum_failsafe_age", 10**6):
                assert watch(database)["findings"] == []
    finally:
        with database.connect() as app:
            app.execute("ROLLBACK PREPARED 'left'")


def test_multixacts(database: Database, cluster: Cluster) -> None:
    number = MULTI_FREEZE + MULTI_FREEZE // 20 + 100
    run_script(database, f"CREATE TABLE shared AS SELECT generate_series(1, {number}) AS id; CREATE INDEX ON shared (id); ANALYZE shared")
    with database.connect() as first, database.connect() as second:
        for session in (first, second):
            session.execute("BEGIN")
        first.execute("SELECT count(*) FROM (SELECT FROM shared FOR KEY SHARE) AS s")
        before = watch(database)["metrics"]["mxid.age_pct"]
        share(second, 100)
        after = watch(database)["metrics"]["mxid.age_pct"]
        assert round((after - before) / 100 * 2**31) == 100
        for warning, status in ((after, "ok"), (before, "warning")):
            low = {"mxid.age_pct": {"warning": warning, "critical": 90}}
            assert status_of(watch(database, thresholds=low), "mxid.age_pct") == status
        share(second, number)
        result = watch(database)
        message = message_of(result, "mxid.age_pct")
        assert (result["findings"], "above the 10,000 at which autovacuum freezes" in message) == ([], True)
        assert status_of(result, "xid.age_pct") == "ok"
        if cluster.installation.major >= 14:
            with failsafe(database, "vacuum_multixact_failsafe_age", 0):
                found = finding(watch(database), "mxid.age_pct")
                assert (found["severity"], "beyond the failsafe of 10,500" in found["message"]) == ("critical", True)
                assert "relminmxid" in found["action"] or "No session can vacuum" in found["action"]


def share(session: psycopg.Connection[tuple[Any, ...]], rows: int) -> None:
    """Share so many rows, each from a transaction within the transaction."""
    session.execute(SHARE.format(rows))  # type: ignore[call-overload]
