"""Who is connected, who is idle in a transaction, and for how long: what a role may not see of it is never 0."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading
from ansible_collections.pgops.runbook.plugins.module_utils._health.sessions import SESSIONS
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.leaving import ended
from tests.integration.watching import create_role, drop_role, eventually, finding, look, statements_in, status_of

pytestmark = pytest.mark.any_driver

Backend = psycopg.Connection[tuple[Any, ...]]
AGES = ["conn.idle_in_transaction", "transaction.longest", "query.longest", "conn.idle"]
PLAIN = "plain watcher"


def limits(warning: str = "20 ms", critical: str = "1 h") -> dict[str, Any]:
    """Return the same thresholds for all ages."""
    return {check: {"warning": warning, "critical": critical} for check in AGES}


def watch(database: Database, **params: Any) -> dict[str, Any]:
    """Look at the sessions that are open."""
    ended(database.cluster)
    given = {"checks": ["conn", "transaction", "query"], "thresholds": limits(), **params}
    return look(database, "hourly", system=None, **given)


@pytest.fixture
def app(database: Database) -> Iterator[Backend]:
    """A session of an application."""
    with database.connect(application_name="shop") as session:
        yield session


@pytest.fixture
def plain(cluster: Cluster, database: Database) -> Iterator[dict[str, str]]:
    """A role with nothing."""
    yield create_role(cluster, PLAIN)
    drop_role(cluster, database, PLAIN)


# --- transactions -------------------------------------------------------------------------------------------------------


def test_nothing_is_open(database: Database) -> None:
    result = watch(database, checks=AGES)
    assert result["findings"] == []
    assert {result["metrics"][check] for check in AGES} == {0}
    assert "sessions" not in result["details"]


@pytest.mark.parametrize("aborted", [False, True])
def test_idle_in_a_transaction(app: Backend, database: Database, aborted: bool) -> None:
    app.execute("BEGIN; SELECT 'token-that-nobody-may-see'")
    if aborted:
        with pytest.raises(psycopg.errors.DivisionByZero):
            app.execute("SELECT 1 / 0")
    time.sleep(0.05)
    result = watch(database)
    found = finding(result, "conn.idle_in_transaction")
    assert (found["severity"], found["threshold"]) == ("warning", 0.02)
    assert f"process {app.info.backend_pid} of postgres in {database.name}, shop" in found["message"]
    assert f"pg_terminate_backend({app.info.backend_pid})" in found["action"]
    # A failed transaction has let go of everything but the session.
    assert status_of(result, "transaction.longest") == ("ok" if aborted else "warning")
    state = "idle in transaction (aborted)" if aborted else "idle in transaction"
    listed = {row["check"]: row for row in result["details"]["sessions"]}
    assert (listed["conn.idle_in_transaction"]["state"], listed["conn.idle_in_transaction"]["application"]) == (state, "shop")
    assert result["metrics"][f"conn.states[{state}]"] == 1
    assert "token-that-nobody-may-see" not in str(result)
    # On the other side of the thresholds.
    fine = watch(database, thresholds=limits("1 min"))
    assert fine["findings"] == []
    assert fine["metrics"]["conn.idle_in_transaction"] > 0.05
    assert status_of(watch(database, thresholds=limits("1 ms", "2 ms")), "conn.idle_in_transaction") == "critical"
    assert (found["warning"], watch(database, thresholds={})["findings"]) == (0.02, [])


def test_idle_is_since_the_state_and_a_transaction_since_its_beginning(app: Backend, database: Database) -> None:
    # Many short statements: none is long, nor is any pause between them.
    app.execute("BEGIN")
    for _statement in range(3):
        app.execute("SELECT 1")
        time.sleep(0.1)
    app.execute("SELECT pg_sleep(4)")
    result = watch(database, thresholds=limits("3500 ms"))
    assert [found["key"] for found in result["findings"]] == ["transaction.longest"]
    assert result["metrics"]["conn.idle_in_transaction"] < 3.5 < finding(result, "transaction.longest")["value"]
    assert "shop" in finding(result, "transaction.longest")["message"]


def test_every_one_that_lasts_too_long_is_counted_and_listed(database: Database) -> None:
    opened = [database.connect(application_name=f"shop {number}") for number in range(3)]
    for session in opened:
        session.execute("BEGIN; SELECT 1")
    time.sleep(0.05)
    result = watch(database)
    assert "shop 0); 3 last for too long" in finding(result, "conn.idle_in_transaction")["message"]
    listed = [row["application"] for row in result["details"]["sessions"] if row["check"] == "conn.idle_in_transaction"]
    assert listed == ["shop 0", "shop 1", "shop 2"]
    for session in opened:
        session.close()


@pytest.mark.parametrize("name", ["pg_dump", "pgBackRest [backup]", "pgops.runbook/pg_cleanup/3", "nightly report pgops:long"])
@pytest.mark.parametrize("statement", ["SELECT 1", "SELECT pg_sleep(600)"])
def test_who_is_long_by_nature_or_says_so_does_not_count(database: Database, name: str, statement: str) -> None:
    import threading

    with database.connect(application_name=name) as session:
        session.execute("BEGIN")

        def run() -> None:
            try:
                session.execute(statement)
            except psycopg.errors.QueryCanceled:
                session.rollback()

        thread = threading.Thread(target=run)
        thread.start()
        runs = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND query = %s"
        eventually(lambda: database.query(runs, [session.info.backend_pid, statement]) == [(1,)])
        time.sleep(0.1)
        result = watch(database)
        # It holds a snapshot all the same, and is connected.
        assert [row["application"] for row in result["details"]["clients"]] == [name]
        session.cancel()
        thread.join(60)
    assert [found["key"] for found in result["findings"]] == []


def test_an_application_that_only_looks_as_if(database: Database) -> None:
    with database.connect(application_name="pgops.long") as session:
        session.execute("BEGIN; SELECT 1")
        time.sleep(0.05)
        assert status_of(watch(database), "transaction.longest") == "warning"


def test_a_sender_of_wal_and_a_vacuum_are_no_clients(database: Database, cluster: Cluster, standby: Cluster) -> None:
    cluster.wait_for(standby)
    eventually(lambda: database.query("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'") == [(1,)])
    result = watch(database, thresholds=limits("1 ms", "2 ms"))
    assert result["findings"] == []
    assert result["details"]["clients"] == []


# --- what a role may not see --------------------------------------------------------------------------------------------


def test_what_is_hidden_is_unknown_and_not_0(app: Backend, database: Database, plain: dict[str, str]) -> None:
    app.execute("BEGIN; SELECT 1")
    result = watch(database, login=plain)
    unknown = {"conn.states", "conn.clients", *AGES}
    assert set(result["unknown"]) == unknown
    for check in unknown:
        assert statements_in(finding(result, check)["action"]) == [f'GRANT pg_read_all_stats TO "{PLAIN}"']
        assert result["metrics"].get(check) is None
    # Who they are is open to everybody, from where is not.
    assert {(row["application"], row["user"], row["address"]) for row in result["details"]["clients"]} >= {("shop", "postgres", None)}
    with database.connect() as other:
        other.execute(f'GRANT pg_read_all_stats TO "{PLAIN}"')
    assert watch(database, login=plain, thresholds={})["findings"] == []


def test_a_monitoring_role_sees_all(app: Backend, database: Database, cluster: Cluster) -> None:
    login = create_role(cluster, "monitor", "pg_monitor")
    try:
        app.execute("BEGIN; SELECT 1")
        time.sleep(0.05)
        result = watch(database, login=login)
    finally:
        drop_role(cluster, database, "monitor")
    assert {found["key"] for found in result["findings"]} == {"conn.idle_in_transaction", "transaction.longest"}


def test_an_own_session_that_lasts_too_long_is_found_although_others_are_hidden(
    app: Backend, database: Database, plain: dict[str, str]
) -> None:
    with database.connect(user=PLAIN) as own:
        own.execute("BEGIN; SELECT 1")
        time.sleep(0.05)
        result = watch(database, login=plain)
        fine = watch(database, login=plain, thresholds={})
    for check in ("conn.idle_in_transaction", "transaction.longest"):
        assert finding(result, check)["severity"] == "warning"
        assert finding(result, f"{check}[sessions not seen]")["severity"] == "unknown"
        assert finding(fine, check)["severity"] == "unknown"


def test_a_session_that_does_not_say_its_state_is_unknown(database: Database) -> None:
    with database.connect(options="-c track_activities=off") as dark:
        dark.execute("BEGIN; SELECT 1")
        result = watch(database)
    for check in AGES:
        assert "track_activities" in finding(result, check)["action"]


# --- numbers ------------------------------------------------------------------------------------------------------------


def slots_left(database: Database, warning: int, **params: Any) -> dict[str, Any]:
    """Look at what is left, with a threshold."""
    return watch(database, checks=["conn.slots_left", "conn.used_pct"], thresholds={"conn.slots_left": {"warning": warning}}, **params)


def test_what_is_left(app: Backend, database: Database, cluster: Cluster) -> None:
    result = slots_left(database, 0)
    # A hundred less three reserved ones, the session that looks and the application's.
    assert result["metrics"]["conn.slots"] == 97
    left = result["metrics"]["conn.slots_left"]
    assert left == 95
    assert status_of(result, "conn.slots_left") == "ok"
    assert status_of(slots_left(database, 95), "conn.slots_left") == "ok"
    assert finding(slots_left(database, 96), "conn.slots_left")["severity"] == "warning"
    with cluster.connect("template1"), cluster.connect("postgres"):
        assert slots_left(database, 0)["metrics"]["conn.slots_left"] == left - 2
    assert "conn.slots_left" not in {found["check"] for found in watch(database)["findings"]}


@pytest.mark.parametrize(("warning", "status"), [(10, "ok"), (97, "warning"), (96, "unknown")])
def test_what_is_left_lies_between_bounds(database: Database, plain: dict[str, str], warning: int, status: str) -> None:
    with database.connect(), database.connect():
        assert status_of(slots_left(database, warning, login=plain), "conn.slots_left") == status


def test_idle_sessions_have_no_thresholds_of_their_own(app: Backend, database: Database) -> None:
    app.execute("SELECT 1")
    time.sleep(0.05)
    assert watch(database, thresholds={})["findings"] == []
    result = watch(database)
    assert re.match(r"1 idle, the longest for .* s \(shop, postgres in test_\d+ from local\)", finding(result, "conn.idle")["message"])
    by_now = "SELECT extract(epoch FROM clock_timestamp() - state_change)::float FROM pg_stat_activity WHERE pid = %s"
    assert 0.05 <= result["metrics"]["conn.idle"] <= database.query(by_now, [app.info.backend_pid])[0][0]


def test_clients_are_told_apart(database: Database, cluster: Cluster) -> None:
    web = [database.connect(application_name="web", **place) for place in ({}, {}, {"host": cluster.host})]
    with cluster.connect(application_name="batch"):
        rows = watch(database)["details"]["clients"]
    for session in web:
        session.close()
    assert [(row["sessions"], row["application"], row["database"], row["address"]) for row in rows] == [
        (2, "web", database.name, "local"),
        (1, "batch", "postgres", "local"),
        (1, "web", database.name, "127.0.0.1"),
    ]
    assert set(rows[0]) == {"application", "user", "database", "address", "sessions"}


# --- the server's answers -----------------------------------------------------------------------------------------------


def test_sessions_are_not_those_of_an_earlier_statement(database: Database) -> None:
    # Within a transaction the server shows the same sessions for ever, at the same moment.
    opened: list[Backend] = []

    def ask_twice(look: Look, limits: Limits) -> list[Reading]:
        before = look.row(SESSIONS.statement)["json_build_object"]["clients"]
        opened.append(database.connect())
        after = look.row(SESSIONS.statement)["json_build_object"]["clients"]
        return [Reading("so", metrics={"test.more": float(after - before)})]

    ended(database.cluster)
    check = Check("test.twice", "t", "hourly", "t.", "t.", "nothing", ask_twice)
    result = look(database, "hourly", system=None, extra=[check], checks=["conn"])
    opened[0].close()
    assert result["metrics"]["test.more"] == 1


def test_all_of_it_is_asked_in_one_statement(database: Database) -> None:
    asked = ["conn", "query", "transaction", "lock", "twophase", "xmin", "xid", "mxid"]
    assert watch(database, checks=asked, thresholds={})["round_trips"] == 2
