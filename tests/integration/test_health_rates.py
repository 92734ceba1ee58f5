"""What is counted since the run before, on a real server: db.transaction_rate, db.rollback_pct, db.deadlocks, db.temp_bytes,
size.growth and cache.hit_pct with a history; a crash, a restart and a reset in between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._health.history import file_store
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.leaving import ended
from tests.integration.remembering import KEEP, in_file
from tests.integration.watching import eventually, look, run_script

pytestmark = pytest.mark.any_driver

RATES = ["db.transaction_rate", "db.rollback_pct", "db.deadlocks", "db.temp_bytes"]


@pytest.fixture(scope="module")
def own(installation: Installation) -> Iterator[Cluster]:
    """A server of its own, which crashes."""
    with Cluster(installation, settings={"autovacuum": "off", "deadlock_timeout": "10ms"}) as server:
        yield server


@pytest.fixture
def place(own: Cluster) -> Iterator[Database]:
    """An empty database on it."""
    with Database.create(own, "counting") as made:
        run_script(made, "CREATE TABLE t AS SELECT generate_series(1, 2) AS id")
        yield made


def said(database: Database, path: str, *checks: str, **params: Any) -> dict[str, dict[str, Any]]:
    """Run with a history in a file and return the checks by id."""
    result = look(database, "daily", system=None, checks=list(checks), history=file_store.read(path, None), **params)
    file_store.append(path, result["snapshot"], KEEP)
    return {check["id"]: check for check in result["checks"]}


def counters(database: Database) -> tuple[int, ...]:
    """Return the transactions and deadlocks that the server has counted."""
    return database.query(
        "SELECT xact_commit + xact_rollback, deadlocks, temp_bytes, blks_hit FROM pg_stat_database WHERE datname = current_database()"
    )[0]


def work(database: Database, transactions: int) -> None:
    """Run transactions of which every tenth is rolled back, and one deadlock, and one temporary file; wait until they are counted."""
    before = counters(database)
    with database.connect() as connection:
        for number in range(transactions):
            connection.execute("BEGIN")
            connection.execute("SELECT 1")
            connection.execute("ROLLBACK" if number % 10 == 0 else "COMMIT")
        connection.execute("SET work_mem = '64kB'")
        connection.execute("SELECT count(*) FROM (SELECT n FROM generate_series(1, 100000) AS n ORDER BY n DESC) AS s")
    deadlock(database)
    ended(database.cluster)
    eventually(lambda: counters(database)[0] >= before[0] + transactions and counters(database)[1] > before[1])


def deadlock(database: Database) -> None:
    """Have two sessions wait for each other."""
    import threading

    with database.connect() as one, database.connect() as two:
        one.execute("BEGIN")
        two.execute("BEGIN")
        one.execute("UPDATE t SET id = id WHERE id = 1")
        two.execute("UPDATE t SET id = id WHERE id = 2")
        ended: list[str] = []

        def second() -> None:
            try:
                two.execute("UPDATE t SET id = id WHERE id = 1")
            except psycopg.errors.DeadlockDetected:
                ended.append("two")
            two.execute("ROLLBACK")

        waiter = threading.Thread(target=second)
        waiter.start()
        try:
            one.execute("UPDATE t SET id = id WHERE id = 2")
        except psycopg.errors.DeadlockDetected:
            ended.append("one")
        one.execute("ROLLBACK")
        waiter.join()
        assert len(ended) == 1


def test_what_happened_since_the_run_before(place: Database, tmp_path: Path) -> None:
    path = in_file(tmp_path)["file"]
    work(place, 50)
    began = monotonic()
    first = said(place, path, *RATES)
    assert {first[name]["status"] for name in RATES} == {"skipped"}
    assert {first[name]["message"] for name in RATES} == {"no history yet"}
    work(place, 2000)
    second = said(place, path, *RATES)
    passed = monotonic() - began
    assert {name: second[name]["status"] for name in RATES} == {
        "db.transaction_rate": "ok",
        "db.rollback_pct": "ok",
        "db.deadlocks": "warning",
        "db.temp_bytes": "ok",
    }
    # As many in no more than all that time.
    assert second["db.transaction_rate"]["value"] > 2000 / passed
    assert 9 < second["db.rollback_pct"]["value"] < 11
    assert second["db.deadlocks"]["value"] == 1
    assert second["db.deadlocks"]["message"].startswith("1 deadlock since 20")
    assert second["db.temp_bytes"]["value"] > 100_000
    third = said(place, path, *RATES)
    assert (third["db.deadlocks"]["status"], third["db.temp_bytes"]["value"]) == ("ok", 0)
    assert third["db.rollback_pct"]["status"] == "skipped"
    assert third["db.rollback_pct"]["message"].startswith("insufficient sample: ")


def test_an_hourly_run_in_between_does_not_shorten_the_time(place: Database, tmp_path: Path) -> None:
    path = in_file(tmp_path)["file"]
    said(place, path, "db.deadlocks")
    work(place, 10)
    said(place, path, "conn.active")
    assert said(place, path, "db.deadlocks")["db.deadlocks"]["value"] == 1


@pytest.mark.parametrize("event", ["reset", "crash", "restart"])
def test_counters_that_may_have_begun_anew_are_not_compared(place: Database, own: Cluster, tmp_path: Path, event: str) -> None:
    path = in_file(tmp_path)["file"]
    said(place, path, *RATES)
    if event == "reset":
        run_script(place, "SELECT pg_stat_reset()")
    elif event == "restart":
        own.restart()
    else:
        with own.connect() as victim:
            own.kill_session(victim.info.backend_pid)
    # More than there was before, so that the number alone betrays nothing.
    work(place, 500)
    after = said(place, path, *RATES)
    assert {after[name]["status"] for name in RATES} == {"skipped"}
    assert "may have begun anew" in after["db.deadlocks"]["message"]
    work(place, 10)
    assert said(place, path, *RATES)["db.deadlocks"]["value"] == 1


def test_without_a_history_nothing_is_compared(place: Database) -> None:
    result = look(place, "daily", system=None, checks=[*RATES, "size.growth"])
    messages = {check["id"]: check["message"] for check in result["checks"]}
    assert {messages[name] for name in (*RATES, "size.growth")} == {"no history is kept (see history_schema)"}


def test_the_share_of_the_cache_is_that_since_the_run_before(place: Database, tmp_path: Path) -> None:
    path = in_file(tmp_path)["file"]
    small = {"cache.hit_pct": {"minimum": 100, "warning": None, "critical": None}}
    first = said(place, path, "cache.hit_pct", thresholds=small)["cache.hit_pct"]
    assert "(over the whole life of the counters: no history yet)" in first["message"]
    run_script(place, "CREATE TABLE big AS SELECT n, repeat('x', 100) AS filler FROM generate_series(1, 20000) AS n; ANALYZE big")
    before = counters(place)[3]
    with place.connect() as connection:
        for _number in range(20):
            connection.execute("SELECT count(*) FROM big")
    eventually(lambda: counters(place)[3] > before + 5000)
    second = said(place, path, "cache.hit_pct", thresholds=small)["cache.hit_pct"]
    assert second["status"] == "ok"
    assert second["value"] > 50
    assert "whole life" not in second["message"]
    assert " since 20" in second["message"]
    large = {"cache.hit_pct": {"minimum": 10**9}}
    third = said(place, path, "cache.hit_pct", thresholds=large)["cache.hit_pct"]
    assert third["message"].startswith("insufficient sample: ")


def test_growth_is_known_after_three_days(place: Database, tmp_path: Path) -> None:
    path = in_file(tmp_path)["file"]
    checks = ["size.database", "size.growth"]
    first = said(place, path, *checks)
    assert first["size.growth"]["message"] == "no history yet"
    assert said(place, path, *checks)["size.growth"]["message"].startswith("the history is too short: it takes three days")
    size = first["size.database"]["value"]
    record = file_store.read(path, None)["records"][0]
    Path(path).unlink()
    for days in range(12, 0, -1):
        moment = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        earlier = {**record, "time": moment, "run": f"d{days}", "metrics": {"size.database": size * (1 - days / 100)}}
        file_store.append(path, earlier, KEEP)
    result = look(place, "daily", system=None, checks=checks, history=file_store.read(path, None))
    growth = next(check for check in result["checks"] if check["id"] == "size.growth")
    assert growth["value"] == pytest.approx(1, abs=0.05)
    assert growth["message"].startswith("the database grows by ")
    assert result["metrics"]["size.growth_bytes"] == pytest.approx(size / 100, rel=0.05)
    (forecast,) = [each for each in result["forecasts"] if each["metric"] == "size.database"]
    assert (forecast["unit"], forecast["points"], forecast["days_left"]) == ("bytes", 13, None)
    assert len(result["series"]["size.database"]) == 13
    strict = {"size.growth": {"warning": "0.5%"}}
    lean = look(place, "daily", system=None, checks=checks, history=file_store.read(path, None), thresholds=strict)
    assert [found["key"] for found in lean["findings"]] == ["size.growth"]
