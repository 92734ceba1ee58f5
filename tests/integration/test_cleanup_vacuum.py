"""VACUUM after a removal: done and proven by the server's counters, or said why not, and what dead rows had to stay for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import vacuum
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf, look_up
from tests.ground.cluster import Cluster
from tests.ground.errors import ProgramMissing
from tests.ground.servers import Installation
from tests.integration.cleaning import Cleaner
from tests.integration.watching import eventually

pytestmark = pytest.mark.any_driver

ROWS = 20_000


@pytest.fixture(scope="module")
def cluster(installation: Installation) -> Iterator[Cluster]:
    """A server that takes prepared transactions."""
    with Cluster(installation, settings={"autovacuum": "off", "max_prepared_transactions": 5}) as server:
        yield server


@pytest.fixture
def app(cleaner: Cleaner) -> Cleaner:
    cleaner.sql("CREATE TABLE t AS SELECT n AS id, repeat('x', 50) AS note FROM generate_series(1, %s) AS n", [ROWS])
    cleaner.sql("CREATE INDEX ON t (id)")
    return cleaner


def leaf_of(session: Any, table: str = "t") -> Leaf:
    name = RelationName("public", table)
    (leaf,) = (one for one in look_up(session, [name])[name].leaves if one.name == name)
    return leaf


def vacuumed(session: Any, *, truncate: bool = False, seconds: float | None = None, table: str = "t") -> vacuum.Vacuum:
    """Vacuum, and see to it that the session is as it was before."""
    settings = "SELECT current_setting('search_path') AS path, current_setting('statement_timeout') AS timeout"
    before = session.row(settings)
    done = vacuum.vacuum(session, leaf_of(session, table), truncate=truncate, seconds=seconds)
    assert session.row(settings) == before
    return done


def role(cleaner: Cleaner, name: str, *statements: str) -> dict[str, Any]:
    name = f"{name}_{cleaner.database.name}"
    cleaner.sql(f"DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON t TO {name}")
    for statement in statements:
        cleaner.sql(statement.replace(":me", name).replace(":db", cleaner.database.name))
    return {"login_user": name}


@pytest.mark.parametrize(
    ("removed", "rows", "worth"),
    [(10_000, 50_000, True), (9_999, 10_000, False), (10_000, 50_001, False), (200_000, 1_000_000, True), (0, 0, False)],
)
def test_from_when_on_it_is_worth_it(removed: int, rows: int, worth: bool) -> None:
    assert vacuum.needed(removed, rows) is worth


def test_dead_rows_make_room_and_the_counters_say_so(app: Cleaner) -> None:
    with app.open() as session:
        assert session.execute("DELETE FROM public.t WHERE id % 2 = 0") == ROWS // 2
        done = vacuumed(session)
    assert (done.done, done.analyzed, done.why, done.dead_rows, done.held_by) == (True, True, None, 0, ())
    counts = "SELECT vacuum_count, analyze_count, n_dead_tup FROM pg_stat_user_tables WHERE relname = 't'"
    eventually(lambda: app.sql(counts) == [(1, 1, 0)])
    pages = "SELECT pg_relation_size('t')"
    before = app.sql(pages)
    app.sql("INSERT INTO t SELECT n, repeat('x', 50) FROM generate_series(1, %s) AS n", [ROWS // 2])
    assert app.sql(pages) == before
    assert done.as_result()["table"] == "public.t"


@pytest.mark.parametrize("truncate", [False, True])
def test_the_end_of_the_file_is_given_back_on_request_only(app: Cleaner, truncate: bool) -> None:
    app.sql("DELETE FROM t WHERE id > 10")
    before = app.sql("SELECT pg_relation_size('t')")[0][0]
    with app.open() as session:
        assert vacuumed(session, truncate=truncate).done
    after = app.sql("SELECT pg_relation_size('t')")[0][0]
    assert after < before / 10 if truncate else after == before


OWNER, MEMBER, DATABASE_OWNER = "ALTER TABLE t OWNER TO :me", "GRANT boss TO :me", "ALTER DATABASE :db OWNER TO :me"
# Whom the server lets, and from which version on.
ROLES: dict[str, tuple[tuple[str, ...], int | None]] = {
    "with grants only": ((), None),
    "with grants on everything": (("GRANT ALL ON SCHEMA public TO :me",), None),
    "the owner": ((OWNER,), 12),
    "a member of the owner": (("CREATE ROLE boss", "ALTER TABLE t OWNER TO boss", MEMBER), 12),
    "a member without its rights": (("CREATE ROLE boss", "ALTER TABLE t OWNER TO boss", "ALTER ROLE :me NOINHERIT", MEMBER), None),
    "the database's owner": ((DATABASE_OWNER,), 12),
    "a superuser": (("ALTER ROLE :me SUPERUSER",), 12),
    "a maintainer": (("GRANT MAINTAIN ON t TO :me",), 17),
    "a maintainer of everything": (("GRANT pg_maintain TO :me",), 17),
}


@pytest.mark.parametrize("who", list(ROLES))
def test_who_may(app: Cleaner, who: str) -> None:
    """What is foretold is what the server does, which is silent about it."""
    statements, since = ROLES[who]
    major = app.database.cluster.installation.major
    if since == 17 and major < 17:
        pytest.skip("MAINTAIN came with PostgreSQL 17")
    app.sql("DROP ROLE IF EXISTS boss")
    may = since is not None
    with app.open(**role(app, "cleaner", *statements)) as session:
        assert vacuum.may_vacuum(session, leaf_of(session)) is may
        done = vacuumed(session)
        assert (done.done, done.analyzed) == (may, may)
        if not may:
            assert f"the role {session.user} is neither its owner" in str(done.why)
            assert ("MAINTAIN on public.t" in str(done.why)) == (major >= 17)
            session.execute("VACUUM public.t")
    eventually(lambda: app.sql("SELECT coalesce(sum(vacuum_count), 0) FROM pg_stat_user_tables WHERE relname = 't'") == [(int(may),)])
    if who.startswith("a member"):
        app.sql("DROP TABLE t; DROP ROLE boss")


def test_a_role_that_lost_the_right_meanwhile(app: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server passes over it with success, and the counters show that nothing was done."""
    monkeypatch.setattr(vacuum, "_may", lambda _database, _leaf: True)
    with app.open(**role(app, "cleaner")) as session:
        done = vacuumed(session)
    assert done.done is None
    assert "counters do not show" in str(done.why)


def test_counters_that_are_switched_off_prove_nothing(app: Cleaner) -> None:
    with app.open() as session:
        session.execute("SET track_counts TO off")
        done = vacuumed(session)
    assert (done.done, done.dead_rows, done.analyzed) == (None, None, True)


def test_a_table_that_is_locked_is_left_alone(app: Cleaner) -> None:
    with app.database.connect() as other, app.open(lock_timeout="200 ms") as session:
        other.execute("BEGIN; LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE")
        done = vacuumed(session)
        assert (done.done, done.analyzed) == (False, False)
        assert "lock timeout" in str(done.why)
        other.execute("ROLLBACK")
        assert vacuumed(session).done is True


def test_it_ends_in_time(app: Cleaner) -> None:
    app.sql("DELETE FROM t")
    with app.open() as session:
        session.execute("SET vacuum_cost_delay TO 100; SET vacuum_cost_limit TO 1")
        done = vacuumed(session, seconds=1.5)
        assert done.done is False
        assert "statement timeout" in str(done.why)
        assert done.seconds < 5
        done = vacuumed(session, seconds=0)
        assert (done.done, done.why) == (False, "no time was left for it")


def test_more_time_than_the_session_has_does_not_lose_it(app: Cleaner) -> None:
    app.sql("DELETE FROM t")
    with app.open(statement_timeout="1 s") as session:
        session.execute("SET vacuum_cost_delay TO 100; SET vacuum_cost_limit TO 1")
        assert "statement timeout" in str(vacuumed(session, seconds=3600).why)
        assert "statement timeout" in str(vacuumed(session).why)


def test_never_inside_a_transaction(app: Cleaner) -> None:
    with app.open() as session, pytest.raises(DatabaseError) as caught, session.transaction():
        vacuumed(session)
    assert caught.value.sqlstate == "25001"


def test_a_table_that_has_gone_or_has_another_name(app: Cleaner) -> None:
    with app.open() as session:
        leaf = leaf_of(session)
        app.sql("ALTER TABLE t RENAME TO u")
        done = vacuum.vacuum(session, leaf, truncate=False, seconds=None)
        assert (done.done, done.why) == (False, 'relation "public.t" does not exist')
        app.sql("DROP TABLE u")
        done = vacuum.vacuum(session, leaf, truncate=False, seconds=None)
        assert (done.done, done.why) == (False, "it is there no more")


def test_an_index_whose_function_fails(app: Cleaner) -> None:
    """The room is there again; only the statistics are missing."""
    one = "CREATE OR REPLACE FUNCTION one(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN {} RETURN $1; END'"
    app.sql(one.format(""))
    app.sql("CREATE TABLE f AS SELECT n AS id FROM generate_series(1, 10) AS n; CREATE INDEX ON f (one(id))")
    app.sql(one.format("RAISE ''no'';"))
    with app.open() as session:
        done = vacuumed(session, table="f")
    assert (done.done, done.analyzed, done.why) == (True, False, "no")


def test_children_are_not_vacuumed_with_their_parent(app: Cleaner) -> None:
    app.sql("CREATE TABLE child () INHERITS (t)")
    with app.open() as session:
        assert vacuumed(session).done
    counts = "SELECT relname, vacuum_count FROM pg_stat_user_tables ORDER BY relname"
    eventually(lambda: app.sql(counts)[-1] == ("t", 1))
    assert app.sql(counts)[0] == ("child", 0)


def test_a_session_that_holds_the_horizon_back_is_named(app: Cleaner) -> None:
    with app.database.connect(application_name="report") as other, app.open() as session:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1")
        app.sql("DELETE FROM t WHERE id <= 100")
        done = vacuumed(session)
        assert (done.done, done.dead_rows) == (True, 100)
        assert [(one.kind, one.name, one.pid) for one in done.held_by] == [("session", "report", other.info.backend_pid)]
        assert done.held_by[0].transactions >= 1
        assert str(done.held_by[0].since).endswith("+00:00")
        other.execute("ROLLBACK")
        assert vacuumed(session).dead_rows == 0


def test_a_prepared_transaction_and_a_writer_without_a_snapshot(app: Cleaner) -> None:
    with app.database.connect(application_name="writer") as writer, app.database.connect() as other, app.open() as session:
        other.execute("BEGIN; INSERT INTO t VALUES (0); PREPARE TRANSACTION 'left behind'")
        writer.execute("BEGIN; INSERT INTO t VALUES (0)")
        app.sql("DELETE FROM t WHERE id BETWEEN 1 AND 100")
        done = vacuumed(session)
        assert done.dead_rows == 100
        assert [(one.kind, one.name) for one in done.held_by] == [("prepared", "left behind"), ("session", "writer")]
        writer.execute("ROLLBACK")
        other.execute("ROLLBACK PREPARED 'left behind'")


def test_a_role_without_more_rights_learns_who_but_not_since_when(app: Cleaner) -> None:
    with app.database.connect(application_name="report") as other, app.open(**role(app, "cleaner", OWNER)) as session:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1")
        app.sql("DELETE FROM t WHERE id <= 100")
        done = vacuumed(session)
        assert (done.done, done.dead_rows) == (True, 100)
        assert [(one.kind, one.name, one.since) for one in done.held_by] == [("session", "report", None)]


@pytest.mark.parametrize("slot", ["far", None])
def test_a_standby_with_and_without_a_slot(app: Cleaner, cluster: Cluster, slot: str | None) -> None:
    feedback = {"hot_standby_feedback": "on", "wal_receiver_status_interval": "1s"}
    if slot:
        app.sql("SELECT pg_create_physical_replication_slot(%s)", [slot])
        feedback["primary_slot_name"] = slot
    try:
        standby = cluster.standby(settings=feedback)
    except ProgramMissing as reason:
        pytest.skip(str(reason))
    cluster.wait_for(standby)
    with standby.connect(app.database.name) as far, app.open(**role(app, "cleaner", OWNER)) as session:
        cluster.wait_for(standby)
        far.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        far.execute("SELECT 1")
        app.sql("DELETE FROM t WHERE id <= 100")
        held = "SELECT age(xmin) > 0 FROM pg_replication_slots" if slot else "SELECT age(backend_xmin) > 0 FROM pg_stat_replication"
        eventually(lambda: app.sql(held) == [(True,)])
        done = vacuumed(session)
        assert done.dead_rows == 100
        assert [(one.kind, one.name) for one in done.held_by] == [("slot", slot) if slot else ("standby", "walreceiver")]
    standby.stop()
    if slot:
        # The sender learns a moment later that nobody receives any more.
        eventually(lambda: app.sql("SELECT active FROM pg_replication_slots WHERE slot_name = %s", [slot]) == [(False,)])
        app.sql("SELECT pg_drop_replication_slot(%s)", [slot])
