"""A run pauses while sessions suffer or hold what it removes, for a bounded time, and asks little of the server for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Literal

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import throttle as module
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle import Limits, Throttle
from ansible_collections.pgops.runbook.plugins.module_utils._connection import Database as Session
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.clock import Clock
from tests.integration.throttling import after_two_looks, glance, look, never, once_told, only, opened, reason, soon, stays_well, waiting
from tests.integration.watching import eventually

pytestmark = pytest.mark.any_driver

Backend = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def cluster(installation: Installation) -> Iterator[Cluster]:
    """A server that takes prepared transactions."""
    with Cluster(installation, settings={"autovacuum": "off", "max_prepared_transactions": 10}) as server:
        yield server


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """The session that asks."""
    database.query("CREATE TABLE tokens (id int)")
    with opened(database) as made:
        yield made


@pytest.fixture
def stranger(database: Database, session: Session) -> Iterator[Session]:
    """A session of a role that has been granted nothing at all; its name needs quotes."""
    database.query('CREATE ROLE "some ""one" LOGIN')
    with opened(database, login_user='some "one') as made:
        yield made
    database.query('DROP OWNED BY "some ""one"; DROP ROLE "some ""one"')


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the throttle."""
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def app(database: Database, session: Session) -> Iterator[Backend]:
    """A session of the application's."""
    with database.connect(application_name="app") as made:
        yield made


@pytest.fixture
def elsewhere(cluster: Cluster, database: Database) -> Iterator[Database]:
    """Another database of the server."""
    with Database.create(cluster, f"{database.name}_beside") as made:
        yield made


# --- a quiet server ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_one_driver")
def test_a_quiet_server_costs_one_query(session: Session) -> None:
    throttle = Throttle(Limits())
    before = session.round_trips
    assert throttle.wait(session, never)
    assert session.round_trips == before + 1
    assert (throttle.paused_seconds, throttle.reasons, throttle.unknown) == (0.0, [], [])


def test_it_asks_no_more_than_four_times_a_second(session: Session, clock: Clock) -> None:
    throttle, before, end = Throttle(Limits()), session.round_trips, clock.now + 1.1
    while clock.now < end:
        assert throttle.wait(session, never)
        clock.sleep(0.01)
    assert session.round_trips - before == 5


def test_without_limits_it_asks_nothing(session: Session) -> None:
    before = session.round_trips
    assert only().wait(session, never)
    assert session.round_trips == before


def test_the_tightest_limits_do_not_stop_a_quiet_server(session: Session, stranger: Session) -> None:
    for one in (session, stranger):
        throttle = Throttle(Limits(0.0, 0.0, 0, 0, max_pause=0.0))
        assert stays_well(throttle, one, 0.5)
        assert throttle.unknown == []


def test_a_transaction_of_its_own_is_refused(session: Session) -> None:
    with session.transaction(), pytest.raises(DatabaseError, match="commit first"):
        Throttle(Limits()).wait(session, never)


# --- old transactions -------------------------------------------------------------------------------------------------


def old(app: Backend, begin: str = "BEGIN ISOLATION LEVEL REPEATABLE READ") -> None:
    app.execute(SQL(begin))  # type: ignore[arg-type]
    app.execute("SELECT count(*) FROM tokens")


@pytest.mark.usefixtures("_one_driver")
def test_an_old_snapshot_is_waited_for(session: Session, app: Backend) -> None:
    old(app)
    assert look(only(oldest_transaction=60.0), session)
    time.sleep(0.6)
    told: list[str] = []
    throttle = only(oldest_transaction=0.5, tell=told.append)
    began = time.monotonic()
    with after_two_looks(told, app.rollback):
        assert throttle.wait(session, never)
    assert time.monotonic() - began > 1.9
    found = reason(throttle)
    assert found["measured"] > 1.5
    assert {key: found[key] for key in ("what", "limit", "unit", "who", "pauses")} == {
        "what": "oldest_transaction",
        "limit": 0.5,
        "unit": "s",
        "who": f"process {app.info.backend_pid}",
        "pauses": 1,
    }
    assert 1.9 < found["seconds"] <= throttle.paused_seconds < time.monotonic() - began


def test_a_writer_is_waited_for(session: Session, app: Backend) -> None:
    app.execute("BEGIN; INSERT INTO tokens VALUES (1)")
    time.sleep(0.3)
    assert not look(only(oldest_transaction=0.2, max_pause=0.0), session)


def test_a_transaction_that_holds_nothing_back(session: Session, app: Backend) -> None:
    old(app, "BEGIN")
    assert stays_well(only(oldest_transaction=0.1, max_pause=0.0), session, 0.4)


def test_a_prepared_transaction_is_waited_for(session: Session, app: Backend) -> None:
    app.execute("BEGIN; INSERT INTO tokens VALUES (1); PREPARE TRANSACTION 'long gone'")
    time.sleep(0.3)
    told: list[str] = []
    throttle = only(oldest_transaction=0.2, tell=told.append)
    with once_told(told, lambda: app.execute("ROLLBACK PREPARED 'long gone'")):
        assert throttle.wait(session, never)
    assert (reason(throttle)["what"], reason(throttle)["who"]) == ("oldest_transaction", "prepared transaction long gone")


def test_other_databases_hold_nothing_back(session: Session, elsewhere: Database) -> None:
    with elsewhere.connect() as other:
        other.execute("CREATE TABLE tokens (id int)")
        old(other)
        other.execute("INSERT INTO tokens VALUES (1)")
        other.execute("SAVEPOINT one")
        assert stays_well(only(oldest_transaction=0.1, max_pause=0.0), session, 0.4)
        other.execute("PREPARE TRANSACTION 'elsewhere'")
        assert stays_well(only(oldest_transaction=0.1, max_pause=0.0), session, 0.4)
        other.execute("ROLLBACK PREPARED 'elsewhere'")


def test_a_vacuum_holds_nothing_back(database: Database, session: Session, app: Backend) -> None:
    app.execute("INSERT INTO tokens SELECT generate_series(1, 100000)")
    app.execute("SET vacuum_cost_delay = 50; SET vacuum_cost_limit = 10")
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'VACUUM%' AND backend_xmin IS NOT NULL AND state = 'active'"

    def vacuum() -> None:
        with pytest.raises(psycopg.errors.QueryCanceled):
            app.execute("VACUUM tokens")

    with soon(vacuum, 0.0):
        try:
            eventually(lambda: database.query(running) == [(1,)])
            assert stays_well(only(oldest_transaction=0.1, max_pause=0.0), session, 0.5)
            assert database.query(running) == [(1,)]
        finally:
            app.cancel()


def test_what_the_role_may_not_see_is_said_once(database: Database, stranger: Session, app: Backend) -> None:
    old(app)
    throttle = only(oldest_transaction=0.1, max_pause=0.0)
    assert stays_well(throttle, stranger, 0.4)
    (unknown,) = throttle.unknown
    assert unknown["what"] == "oldest_transaction"
    assert "may not see" in unknown["reason"]
    assert unknown["hint"] == 'As a superuser: GRANT pg_read_all_stats TO "some ""one";'
    database.query(unknown["hint"].partition(": ")[2])
    assert not look(throttle, stranger)
    assert not look(only(oldest_transaction=0.1, max_pause=0.0), stranger)


def test_a_prepared_transaction_is_seen_by_every_role(stranger: Session, app: Backend) -> None:
    app.execute("BEGIN; INSERT INTO tokens VALUES (1); PREPARE TRANSACTION 'seen'")
    time.sleep(0.2)
    throttle = only(oldest_transaction=0.1, max_pause=0.0)
    assert not look(throttle, stranger)
    assert throttle.unknown == []
    app.execute("ROLLBACK PREPARED 'seen'")


def test_a_session_that_is_not_tracked_is_said(session: Session, app: Backend) -> None:
    app.execute("SET track_activities = off")
    old(app)
    throttle = only(oldest_transaction=0.1, max_pause=0.0)
    assert stays_well(throttle, session, 0.3)
    (unknown,) = throttle.unknown
    assert "track_activities" in unknown["reason"]


# --- blocked sessions -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_one_driver")
def test_blocked_sessions_are_waited_for(database: Database, session: Session, app: Backend) -> None:
    app.execute("BEGIN; LOCK TABLE tokens")
    told: list[str] = []
    throttle = only(blocked_sessions=1, tell=told.append)
    began = time.monotonic()
    with waiting(database, "SELECT count(*) FROM tokens", sessions=2):
        assert glance(throttle, session) or time.monotonic() - began >= 1, "they have not waited for long"
        time.sleep(1.05)
        with once_told(told, app.rollback):
            assert look(throttle, session)
    assert (reason(throttle)["what"], reason(throttle)["measured"], reason(throttle)["limit"]) == ("blocked_sessions", 2, 1)
    assert reason(throttle)["unit"] == "sessions"


def test_as_many_as_the_limit_are_well(database: Database, session: Session, app: Backend) -> None:
    app.execute("BEGIN; LOCK TABLE tokens")
    with waiting(database, "SELECT count(*) FROM tokens", sessions=2):
        assert stays_well(only(blocked_sessions=2, max_pause=0.0), session, 1.5)
        assert not look_twice(only(blocked_sessions=1, max_pause=0.0), session)
        app.rollback()


def look_twice(throttle: Throttle, session: Session) -> bool:
    """Look, and again after a second: before PostgreSQL 14 nothing else says for how long a lock is waited for."""
    if look(throttle, session):
        time.sleep(1.05)
        return look(throttle, session)
    return False


def test_every_role_sees_who_is_blocked(database: Database, stranger: Session, app: Backend) -> None:
    app.execute("BEGIN; LOCK TABLE tokens")
    throttle = only(blocked_sessions=0, max_pause=0.0)
    with waiting(database, "SELECT count(*) FROM tokens"):
        assert not look_twice(throttle, stranger)
        app.rollback()
    assert throttle.unknown == []


def test_rows_that_are_waited_for_count(database: Database, session: Session, app: Backend) -> None:
    app.execute("INSERT INTO tokens VALUES (1)")
    app.execute("BEGIN; UPDATE tokens SET id = 2")
    with waiting(database, "UPDATE tokens SET id = 3"):
        assert not look_twice(only(blocked_sessions=0, max_pause=0.0), session)
        app.rollback()


def test_advisory_locks_do_not_count(database: Database, session: Session, app: Backend) -> None:
    app.execute("SELECT pg_advisory_lock(1)")
    with waiting(database, "SELECT pg_advisory_lock(1)", sessions=2):
        assert stays_well(only(blocked_sessions=0, max_pause=0.0), session, 1.5)


def test_other_databases_do_not_count(session: Session, stranger: Session, app: Backend, elsewhere: Database) -> None:
    old(app)
    elsewhere.query("CREATE TABLE tokens (id int)")
    with elsewhere.connect() as other:
        other.execute("BEGIN; LOCK TABLE tokens")
        with waiting(elsewhere, "SELECT count(*) FROM tokens"):
            # The stranger does not see that nobody waits here, and has to read the locks.
            for one in (session, stranger):
                assert stays_well(only(blocked_sessions=0, max_pause=0.0), one, 1.5)
            other.rollback()


def test_one_wait_after_the_other_is_not_one_long_one(database: Database, session: Session, app: Backend) -> None:
    throttle = only(blocked_sessions=0, max_pause=0.0)
    with database.connect() as other:
        for _round in range(6):
            app.execute("BEGIN; LOCK TABLE tokens")
            began = time.monotonic()
            with soon(lambda: other.execute("SELECT count(*) FROM tokens"), 0.0):
                try:
                    eventually(lambda: database.query("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)])
                    time.sleep(0.2)
                    assert glance(throttle, session) or time.monotonic() - began >= 1
                finally:
                    app.rollback()


# --- pauses -----------------------------------------------------------------------------------------------------------


def test_it_gives_up_after_max_pause(session: Session, app: Backend, clock: Clock) -> None:
    old(app)
    time.sleep(0.1)
    throttle = only(oldest_transaction=0.0, max_pause=1.3)
    began = clock.now
    assert not throttle.wait(session, never)
    assert clock.now - began == pytest.approx(1.3)
    assert throttle.paused_seconds == pytest.approx(1.3)
    assert not throttle.wait(session, never), "it is not well because it was looked at shortly ago"


def test_it_ends_when_the_time_is_up(session: Session, app: Backend, clock: Clock) -> None:
    old(app)
    throttle = only(oldest_transaction=0.0, max_pause=None)
    began = clock.now
    assert not throttle.wait(session, lambda: clock.now > began + 0.45)
    assert clock.now - began == pytest.approx(0.5), "it looks every tenth of a second"


def test_no_transaction_is_open_meanwhile(database: Database, session: Session, app: Backend) -> None:
    old(app)
    seen: list[Any] = []

    def observe() -> None:
        asked = "SELECT state, xact_start, backend_xmin FROM pg_stat_activity WHERE pid = %s"
        seen.extend(database.query(asked, [session.backend_pid]))
        app.rollback()

    told: list[str] = []
    with once_told(told, observe):
        assert only(oldest_transaction=0.0, tell=told.append).wait(session, never)
    assert seen == [("idle", None, None)]


def test_it_asks_once_a_second_and_tells_what_it_waits_for(session: Session, app: Backend, clock: Clock) -> None:
    old(app)
    time.sleep(0.1)
    told: list[str] = []
    throttle = Throttle(Limits(None, 0.0, None, None, max_pause=2.5), told.append)
    before = session.round_trips
    began = clock.now
    assert not throttle.wait(session, never)
    assert (session.round_trips - before, clock.now - began) == (4, pytest.approx(2.5))
    assert len(told) == session.round_trips - before
    assert all(text.startswith("oldest_transaction ") and text.endswith((" s", " ms")) for text in told)


def test_pauses_of_one_cause_are_merged(database: Database, session: Session, app: Backend) -> None:
    told: list[str] = []
    throttle = only(oldest_transaction=0.0, blocked_sessions=0, tell=told.append)
    for _round in range(2):
        old(app)
        with once_told(told, app.rollback):
            assert look(throttle, session)
    assert (reason(throttle)["pauses"], len(throttle.reasons)) == (2, 1)
    app.execute("BEGIN; LOCK TABLE tokens; INSERT INTO tokens VALUES (1)")
    with waiting(database, "SELECT count(*) FROM tokens"), once_told(told, app.rollback, "blocked_sessions"):
        assert look(throttle, session)
    causes = {each["what"]: each for each in throttle.reasons}
    assert set(causes) == {"oldest_transaction", "blocked_sessions"}
    assert (causes["oldest_transaction"]["pauses"], causes["blocked_sessions"]["pauses"]) == (3, 1)
    assert causes["blocked_sessions"]["seconds"] < causes["oldest_transaction"]["seconds"] <= throttle.paused_seconds
    assert {type(value) for each in throttle.reasons for value in each.values()} <= {str, int, float}


# --- what a server refuses --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_one_driver")
def test_what_the_server_refuses_is_said_and_the_rest_is_watched(database: Database, stranger: Session, app: Backend) -> None:
    database.query("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_stat_get_wal_senders() FROM PUBLIC")
    throttle = Throttle(Limits(blocked_sessions=0, max_pause=0.0))
    assert look(throttle, stranger)
    (unknown,) = throttle.unknown
    assert unknown["what"] == "replica_lag"
    assert "permission denied for function pg_stat_get_wal_senders" in unknown["reason"]
    before = stranger.round_trips
    assert look(throttle, stranger)
    assert stranger.round_trips == before + 1
    app.execute("BEGIN; LOCK TABLE tokens")
    with waiting(database, "SELECT count(*) FROM tokens"):
        assert not look_twice(throttle, stranger)
        app.rollback()
    assert [each for each in throttle.unknown if each["what"] != "oldest_transaction"] == [unknown]


def test_a_cancelled_question_is_an_error(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def cancelled(*_arguments: Any) -> Any:
        raise DatabaseError("canceling statement due to user request", sqlstate="57014")

    monkeypatch.setattr(session, "rows", cancelled)
    with pytest.raises(DatabaseError, match="user request"):
        Throttle(Limits()).wait(session, never)


TRAPS = (
    "max(float8) RETURNS float8",
    "date_part(text, interval) RETURNS float8",
    "clock_timestamp() RETURNS timestamptz",
    "pg_backend_pid() RETURNS int",
    "current_database() RETURNS name",
    "current_setting(text) RETURNS text",
    "pg_current_wal_flush_lsn() RETURNS pg_lsn",
)


def test_nothing_in_the_search_path_is_run(session: Session, database: Database) -> None:
    database.query("CREATE SCHEMA trap")
    for name in TRAPS:
        database.query(SQL("CREATE FUNCTION trap.{} LANGUAGE plpgsql AS {}").format(SQL(name), Literal("BEGIN RAISE 'trap'; END")))  # type: ignore[arg-type]
    for sign, kind in (
        ("=", "int4"),
        ("=", "oid"),
        ("=", "text"),
        ("<>", "text"),
        ("<>", "int4"),
        ("-", "timestamptz"),
        (">", "timestamptz"),
    ):
        wrong = SQL("CREATE OR REPLACE FUNCTION trap.wrong({kind}, {kind}) RETURNS bool LANGUAGE sql AS 'SELECT 1/0 > 0'")
        operator = SQL("CREATE OPERATOR trap.{sign} (LEFTARG = {kind}, RIGHTARG = {kind}, FUNCTION = trap.wrong)")
        for statement in (wrong, operator):
            database.query(statement.format(sign=SQL(sign), kind=SQL(kind)))  # type: ignore[arg-type]
    session.execute("SET search_path = trap, pg_catalog")
    throttle = Throttle(Limits())
    assert look(throttle, session)
    assert throttle.unknown == []
