"""Transactions that are open while something is changed: all of them are found, and waited for no longer than they last."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _connection, _open_transactions
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._open_transactions import Transaction, Waited, open_transactions, wait_for
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.watching import eventually

pytestmark = [pytest.mark.any_driver, pytest.mark.usefixtures("_one_driver")]

Backend = psycopg.Connection[tuple[Any, ...]]
PARALLEL = """
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;
SET parallel_leader_participation = off;
"""


@pytest.fixture(scope="module")
def cluster(installation: Installation) -> Iterator[Cluster]:
    """A server that takes prepared transactions and logical replication."""
    with Cluster(installation, settings={"autovacuum": "off", "max_prepared_transactions": 10, "wal_level": "logical"}) as server:
        yield server


def opened(database: Database, **login: Any) -> _connection.Database:
    """Return a session of the collection's own."""
    given = ConnectionOptions.from_params({**database.login(tcp=False), **login})
    return connect(given, application_name="pgops.runbook/test", read_only=True)


@pytest.fixture
def session(database: Database) -> Iterator[_connection.Database]:
    """The session that asks and waits."""
    database.query("CREATE TABLE tokens (id int)")
    with opened(database) as made:
        yield made


@pytest.fixture
def stranger(database: Database, session: _connection.Database) -> Iterator[_connection.Database]:
    """A session of a role that has been granted nothing at all."""
    database.query("CREATE ROLE stranger LOGIN")
    with opened(database, login_user="stranger") as made:
        yield made
    database.query("DROP ROLE stranger")


@pytest.fixture
def app(database: Database, session: _connection.Database) -> Iterator[Backend]:
    """A session of the application's."""
    with database.connect(application_name="app") as made:
        yield made


@contextmanager
def running(backend: Backend, statement: str) -> Iterator[None]:
    """Run a statement in a thread, and cancel it after the block."""

    def run() -> None:
        with pytest.raises(psycopg.errors.QueryCanceled):
            backend.execute(statement)  # type: ignore[call-overload]

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        backend.cancel()
        thread.join(60)
        assert not thread.is_alive()


@contextmanager
def soon(act: Callable[[], object], seconds: float = 0.3) -> Iterator[None]:
    """Do something in a while, and be sure after the block that it has been done."""
    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def pids(transactions: tuple[Transaction, ...]) -> list[int | None]:
    return [each.pid for each in transactions]


# --- which are found --------------------------------------------------------------------------------------------------


@pytest.mark.every_driver
def test_nothing_is_open(session: _connection.Database, app: Backend) -> None:
    app.execute("SELECT count(*) FROM tokens")
    assert open_transactions(session) == ()
    asked = session.round_trips
    assert wait_for(session, (), 600) == Waited(pytest.approx(0, abs=6), (), ())
    assert session.round_trips == asked


def test_a_writer_that_idles_in_its_transaction(session: _connection.Database, app: Backend) -> None:
    app.execute("BEGIN; INSERT INTO tokens VALUES (1)")
    (found,) = open_transactions(session)
    assert (found.pid, found.user, found.application_name) == (app.info.backend_pid, "postgres", "app")
    assert (found.writes, found.prepared) == (True, None)
    age = datetime.now(UTC) - datetime.fromisoformat(found.since or "")
    assert timedelta(seconds=-1) < age < timedelta(minutes=1)
    assert found.as_result() == {
        "pid": found.pid,
        "user": "postgres",
        "application_name": "app",
        "since": found.since,
        "writes": True,
        "prepared": None,
    }


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN; SELECT count(*) FROM tokens", "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1"])
def test_a_transaction_that_has_written_nothing_yet(session: _connection.Database, app: Backend, begin: str) -> None:
    app.execute(begin)  # type: ignore[call-overload]
    (found,) = open_transactions(session)
    assert (found.pid, found.writes) == (app.info.backend_pid, False)


def test_a_failed_transaction_counts_as_long_as_it_can_still_be_committed(session: _connection.Database, app: Backend) -> None:
    app.execute("BEGIN; INSERT INTO tokens VALUES (1); SAVEPOINT s")
    found = open_transactions(session)
    with pytest.raises(psycopg.errors.DivisionByZero):
        app.execute("SELECT 1 / 0")
    assert wait_for(session, found, 0).still_open == open_transactions(session) == found
    app.execute("ROLLBACK TO s")
    assert wait_for(session, found, 0).still_open == open_transactions(session) == found
    app.execute("RELEASE s")
    with pytest.raises(psycopg.errors.DivisionByZero):
        app.execute("SELECT 1 / 0")
    assert wait_for(session, found, 0).still_open == open_transactions(session) == ()


def test_a_statement_that_runs_outside_a_block(session: _connection.Database, app: Backend, database: Database) -> None:
    with running(app, "INSERT INTO tokens SELECT n FROM generate_series(1, 2) AS n, pg_sleep(60)"):
        eventually(lambda: pids(open_transactions(session)) == [app.info.backend_pid])
    assert open_transactions(session) == ()


def test_writers_come_first_and_who_waits_for_one_is_no_writer(session: _connection.Database, app: Backend, database: Database) -> None:
    """Who waits for a row asks for the lock of the other's transaction; that is no lock of its own."""
    database.query("INSERT INTO tokens VALUES (1)")
    with database.connect() as reader:
        reader.execute("BEGIN; SELECT count(*) FROM tokens")
        app.execute("BEGIN; UPDATE tokens SET id = 2")
        with database.connect() as waiter, running(waiter, "SELECT FROM tokens FOR SHARE"):
            eventually(lambda: session.value("SELECT count(*) FROM pg_locks WHERE NOT granted") == 1)
            found = open_transactions(session)
        writes = {each.pid: each.writes for each in found}
        assert (found[0].pid, writes[reader.info.backend_pid]) == (app.info.backend_pid, False)


def test_a_transaction_in_another_database_is_none_of_ours(session: _connection.Database, cluster: Cluster) -> None:
    with cluster.connect() as elsewhere:
        elsewhere.execute("BEGIN; CREATE TEMPORARY TABLE there (n int)")
        assert open_transactions(session) == ()


def test_a_role_without_any_privilege_sees_them_too(stranger: _connection.Database, app: Backend, database: Database) -> None:
    app.execute("BEGIN; INSERT INTO tokens VALUES (1)")
    with database.connect() as reader:
        reader.execute("BEGIN")
        found = open_transactions(stranger)
        assert [(each.pid, each.user, each.application_name, each.since, each.writes) for each in found] == [
            (app.info.backend_pid, "postgres", "app", None, True),
            (reader.info.backend_pid, "postgres", "ground", None, False),
        ]
        assert wait_for(stranger, found, 0).still_open == found
        app.execute("COMMIT")
        assert pids(wait_for(stranger, found, 0).still_open) == [reader.info.backend_pid]


def test_a_parallel_query_is_one_transaction(session: _connection.Database, app: Backend, database: Database) -> None:
    database.query("INSERT INTO tokens SELECT generate_series(1, 20000)")
    app.execute(PARALLEL)
    workers = (
        "SELECT count(*) FROM pg_stat_activity a JOIN pg_locks USING (pid) WHERE backend_type = 'parallel worker' AND virtualxid <> ''"
    )
    with running(app, "SELECT count(pg_sleep(0.01)) FROM tokens"):
        eventually(lambda: session.value(workers) > 0)
        assert pids(open_transactions(session)) == [app.info.backend_pid]


def test_a_vacuum_is_left_out(session: _connection.Database, stranger: _connection.Database, app: Backend, database: Database) -> None:
    database.query("INSERT INTO tokens SELECT generate_series(1, 100000)")
    database.query("DELETE FROM tokens")
    app.execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1")
    with running(app, "VACUUM tokens"):
        eventually(lambda: session.value("SELECT count(*) FROM pg_stat_progress_vacuum") == 1)
        assert open_transactions(session) == open_transactions(stranger) == ()
        assert session.value("SELECT count(*) FROM pg_stat_progress_vacuum") == 1


def test_autovacuum_is_left_out(session: _connection.Database, stranger: _connection.Database, database: Database) -> None:
    slow = "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, autovacuum_analyze_threshold = 1"
    database.query(f"ALTER TABLE tokens SET ({slow}, autovacuum_vacuum_threshold = 1000000000)")
    database.query("INSERT INTO tokens SELECT generate_series(1, 100000)")
    at_work = (
        "SELECT count(*) FROM pg_stat_activity a JOIN pg_locks USING (pid) WHERE backend_type = 'autovacuum worker' AND virtualxid <> ''"
    )
    try:
        for setting in ("autovacuum = on", "autovacuum_naptime = '1s'"):
            database.query(f"ALTER SYSTEM SET {setting}")
        database.query("SELECT pg_reload_conf()")
        eventually(lambda: session.value(f"{at_work} AND datname = current_database()") > 0)
        assert open_transactions(session) == open_transactions(stranger) == ()
        assert session.value(at_work) > 0
    finally:
        database.query("ALTER SYSTEM RESET ALL")
        database.query("SELECT pg_reload_conf()")


def test_a_sender_of_wal_is_left_out(session: _connection.Database, stranger: _connection.Database, database: Database) -> None:
    address = database.cluster.address(database.name)
    with psycopg.connect(**address, replication="database", autocommit=True, cursor_factory=psycopg.ClientCursor) as sender:
        sender.execute("BEGIN")
        assert session.value("SELECT count(*) FROM pg_locks WHERE pid = %s AND virtualxid <> ''", (sender.info.backend_pid,)) == 1
        assert open_transactions(session) == open_transactions(stranger) == ()


def test_the_worker_of_a_subscription_counts(session: _connection.Database, database: Database, cluster: Cluster) -> None:
    with Database.create(cluster, f"{database.name}_publisher") as publisher:
        publisher.query("CREATE TABLE tokens (id int)")
        publisher.query("CREATE PUBLICATION p FOR TABLE tokens")
        # Within one cluster a subscription cannot make its slot itself.
        publisher.query("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
        place = " ".join(f"{name}={value}" for name, value in cluster.address(publisher.name).items())
        database.query(
            f"CREATE SUBSCRIPTION s CONNECTION '{place}' PUBLICATION p WITH (create_slot = false, slot_name = 's', copy_data = false)"
        )
        try:
            with database.connect() as holder:
                holder.execute("BEGIN; LOCK TABLE tokens IN SHARE MODE")
                publisher.query("INSERT INTO tokens VALUES (1)")
                eventually(lambda: len(open_transactions(session)) == 2)
                found = next(each for each in open_transactions(session) if each.pid != holder.info.backend_pid)
            assert found.user == "postgres"
            assert wait_for(session, (found,), 30).still_open == ()
            assert session.value("SELECT count(*) FROM public.tokens") == 1
        finally:
            database.query("ALTER SUBSCRIPTION s DISABLE")
            database.query("ALTER SUBSCRIPTION s SET (slot_name = NONE)")
            database.query("DROP SUBSCRIPTION s")
            eventually(lambda: publisher.query("SELECT active FROM pg_replication_slots") == [(False,)])
            publisher.query("SELECT pg_drop_replication_slot('s')")


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_what_was_written_meanwhile_is_seen_after_the_wait(session: _connection.Database, app: Backend) -> None:
    app.execute("BEGIN; INSERT INTO tokens VALUES (1)")
    assert session.value("SELECT count(*) FROM public.tokens") == 0
    found = open_transactions(session)
    asked = session.round_trips

    def end() -> None:
        eventually(lambda: session.round_trips > asked)
        time.sleep(0.3)
        app.execute("COMMIT")

    with soon(end, 0.0):
        waited = wait_for(session, found, 300, pause=0.02)
    assert session.value("SELECT count(*) FROM public.tokens") == 1
    assert 0.2 < waited.seconds < 100
    assert (waited.transactions, waited.still_open) == (found, ())


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", None])
def test_every_end_is_an_end(session: _connection.Database, app: Backend, end: str | None) -> None:
    app.execute("BEGIN; INSERT INTO tokens VALUES (1)")
    found = open_transactions(session)
    if end:
        app.execute(end)  # type: ignore[call-overload]
    else:
        app.close()
    assert wait_for(session, found, 60).still_open == ()


def test_the_next_transaction_of_a_session_is_not_waited_for(session: _connection.Database, app: Backend) -> None:
    app.execute("BEGIN; INSERT INTO tokens VALUES (1)")
    found = open_transactions(session)
    app.execute("COMMIT AND CHAIN")
    app.execute("INSERT INTO tokens VALUES (2)")
    waited = wait_for(session, found, 300)
    assert (waited.seconds < 60, waited.transactions, waited.still_open) == (True, found, ())
    again = open_transactions(session)
    assert pids(again) == pids(found)
    assert again[0].key != found[0].key


def test_the_wait_is_bounded_and_a_reader_that_has_written_meanwhile_is_a_writer(
    session: _connection.Database, app: Backend, database: Database
) -> None:
    app.execute("BEGIN")
    with database.connect() as reader:
        reader.execute("BEGIN")
        found = open_transactions(session)
        app.execute("INSERT INTO tokens VALUES (1)")
        waited, writer_and_reader = wait_for(session, found, 0.3), [app.info.backend_pid, reader.info.backend_pid]
    assert 0.3 <= waited.seconds < 60
    result = waited.as_result()
    assert [(result[name]["count"], result[name]["writers"], result[name]["readers"]) for name in ("transactions", "still_open")] == [
        (2, 1, 1),
        (2, 1, 1),
    ]
    assert [each["pid"] for each in result["still_open"]["shown"]] == writer_and_reader


def test_a_wait_of_nothing_asks_once(session: _connection.Database, app: Backend) -> None:
    app.execute("BEGIN")
    found = open_transactions(session)
    asked = session.round_trips
    assert wait_for(session, found, 0).still_open == found
    assert session.round_trips == asked + 1


def test_the_pause_is_kept_and_ends_with_the_time(session: _connection.Database, app: Backend) -> None:
    app.execute("BEGIN")
    found = open_transactions(session)
    asked, began = session.round_trips, time.monotonic()
    wait_for(session, found, 0.4, pause=600)
    assert 0.4 <= time.monotonic() - began < 60
    assert session.round_trips == asked + 2


@pytest.mark.every_driver
def test_it_is_refused_in_a_transaction(session: _connection.Database, app: Backend) -> None:
    app.execute("BEGIN")
    found = open_transactions(session)
    with session.transaction():
        with pytest.raises(DatabaseError, match="outside a transaction"):
            open_transactions(session)
        with pytest.raises(DatabaseError, match="outside a transaction"):
            wait_for(session, found, 1)


def test_a_result_is_bounded() -> None:
    many = tuple(Transaction(n, "u", "a", None, n > 22, None, f"3/{n}") for n in range(25))
    result = Waited(1.23456, many, many[:1]).as_result()
    assert result["seconds"] == 1.235
    assert (result["transactions"]["count"], result["transactions"]["writers"], result["transactions"]["readers"]) == (25, 2, 23)
    assert [each["pid"] for each in result["transactions"]["shown"]] == [23, 24, *range(18)]
    assert (result["still_open"]["count"], result["still_open"]["writers"], result["still_open"]["readers"]) == (1, 0, 1)


# --- prepared ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def gid(database: Database, cluster: Cluster) -> Iterator[str]:
    """A name for a prepared transaction, which is gone afterwards: the database could not be dropped with it."""
    yield f"it's {database.name}"
    for (left,) in database.query("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
        database.query(psycopg.sql.SQL("ROLLBACK PREPARED {}").format(psycopg.sql.Literal(left)))


def run_on(backend: Backend, words: str, gid: str) -> None:
    """Run PREPARE TRANSACTION, COMMIT PREPARED or ROLLBACK PREPARED."""
    backend.execute(psycopg.sql.SQL(words).format(psycopg.sql.Literal(gid)))  # type: ignore[arg-type]


def prepare(backend: Backend, gid: str) -> None:
    """Write a row, and prepare the transaction."""
    backend.execute("INSERT INTO tokens VALUES (1)")
    run_on(backend, "PREPARE TRANSACTION {}", gid)


def test_a_prepared_transaction(
    session: _connection.Database, stranger: _connection.Database, app: Backend, gid: str, database: Database
) -> None:
    app.execute("BEGIN")
    prepare(app, gid)
    found = open_transactions(session)
    assert [(each.pid, each.user, each.application_name, each.writes, each.prepared) for each in found] == [
        (None, "postgres", None, True, gid)
    ]
    assert found == open_transactions(stranger)
    assert found[0].since
    with opened(Database(database.cluster, "postgres")) as elsewhere:
        assert open_transactions(elsewhere) == ()
    assert wait_for(session, found, 0.2).still_open == found
    with soon(lambda: run_on(app, "COMMIT PREPARED {}", gid)):
        assert wait_for(session, found, 30).still_open == ()
    assert session.value("SELECT count(*) FROM public.tokens") == 1


def test_the_next_transaction_of_a_name_is_not_waited_for(session: _connection.Database, app: Backend, gid: str) -> None:
    app.execute("BEGIN")
    prepare(app, gid)
    found = open_transactions(session)
    run_on(app, "ROLLBACK PREPARED {}", gid)
    app.execute("BEGIN")
    prepare(app, gid)
    assert wait_for(session, found, 0).still_open == ()
    assert [each.prepared for each in open_transactions(session)] == [gid]


@pytest.mark.parametrize("written", [True, False])
def test_what_is_prepared_during_the_wait_has_not_ended(
    session: _connection.Database, app: Backend, gid: str, written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.execute("BEGIN")
    if written:
        app.execute("INSERT INTO tokens VALUES (0)")
    found = open_transactions(session)
    passed: list[float] = []

    def sleep(seconds: float) -> None:
        prepare(app, gid)
        passed.append(seconds)

    with monkeypatch.context() as patches:
        # The time is over once it is prepared, however long that takes.
        patches.setattr(_open_transactions, "time", SimpleNamespace(monotonic=lambda: sum(passed), sleep=sleep))
        waited = wait_for(session, found, 1, pause=1)
    assert [each.prepared for each in waited.still_open] == [gid]
    assert [each.key for each in waited.transactions] == [found[0].key, waited.still_open[0].key]
    with soon(lambda: run_on(app, "COMMIT PREPARED {}", gid)):
        assert wait_for(session, waited.still_open, 30).still_open == ()


def test_what_was_prepared_before_the_first_look_has_not_ended(session: _connection.Database, app: Backend, gid: str) -> None:
    app.execute("BEGIN")
    found = open_transactions(session)
    prepare(app, gid)
    assert [each.prepared for each in wait_for(session, found, 0).still_open] == [gid]


def test_what_another_session_prepares_is_not_waited_for(session: _connection.Database, app: Backend, gid: str, database: Database) -> None:
    app.execute("BEGIN")
    found = open_transactions(session)
    with database.connect() as other:
        other.execute("BEGIN")
        prepare(other, gid)
    assert wait_for(session, found, 0.2).still_open == found
