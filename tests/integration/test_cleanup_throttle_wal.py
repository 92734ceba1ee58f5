"""A run pauses while a standby is late or the archive is behind, also where the role may see little of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle import Throttle
from ansible_collections.pgops.runbook.plugins.module_utils._connection import Database as Session
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.errors import ProgramMissing
from tests.ground.servers import Installation
from tests.integration.throttling import after_two_looks, glance, look, only, opened, reason, soon, stays_well
from tests.integration.watching import eventually

pytestmark = pytest.mark.any_driver

SLOT = "standby_slot"
REPLICATING = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn = pg_current_wal_flush_lsn()"


@pytest.fixture(scope="module")
def cluster(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A server whose archiver hangs while a file `hang` is there, and fails while a file `fail` is there."""
    settings: dict[str, str | int] = {"autovacuum": "off", "wal_level": "logical", "archive_mode": "on", "max_wal_size": "2GB"}
    server = Cluster(installation, settings=settings)
    server.settings["archive_command"] = f"while test -f {server.folder}/hang; do sleep 0.1; done; ! test -f {server.folder}/fail"
    with server:
        yield server


@pytest.fixture(scope="module")
def standby(cluster: Cluster) -> Cluster:
    """A standby that uses a slot."""
    with cluster.connect() as session:
        session.execute("SELECT pg_create_physical_replication_slot(%s)", [SLOT])
    try:
        return cluster.standby(settings={"primary_slot_name": SLOT, "wal_receiver_status_interval": 1})
    except ProgramMissing as reason:
        pytest.skip(str(reason))


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """The session that asks."""
    with opened(database) as made:
        yield made


@pytest.fixture
def stranger(database: Database) -> Iterator[Session]:
    """A session of a role that has been granted nothing at all."""
    database.query("CREATE ROLE stranger LOGIN")
    with opened(database, login_user="stranger") as made:
        yield made
    database.query("DROP OWNED BY stranger; DROP ROLE stranger")


@pytest.fixture
def following(database: Database, standby: Cluster) -> Iterator[Cluster]:
    """The standby, with all that there is replayed."""
    caught_up(database)
    yield standby
    resume(standby)
    # Others of this server would meet with a standby that is late.
    caught_up(database)


def caught_up(database: Database) -> None:
    """Wait until the standby has replayed all that there is."""
    eventually(lambda: database.query(REPLICATING) == [(1,)])


def write(database: Database) -> None:
    """Write a little WAL, and be sure that it is on disk."""
    database.query("CREATE TABLE IF NOT EXISTS written (at timestamptz); INSERT INTO written VALUES (clock_timestamp())")


def pause(standby: Cluster) -> None:
    with standby.connect() as there:
        there.execute("SELECT pg_wal_replay_pause()")
        # From PostgreSQL 14 on, that function tells of the request only.
        newer = standby.installation.major >= 14
        asked = "SELECT pg_get_wal_replay_pause_state() = 'paused'" if newer else "SELECT pg_is_wal_replay_paused()"
        end = time.monotonic() + 60
        while there.execute(asked).fetchone() != (True,):  # type: ignore[arg-type]
            assert time.monotonic() < end
            time.sleep(0.02)


def resume(standby: Cluster) -> None:
    if standby.pid is None:
        return
    with standby.connect() as there:
        there.execute("SELECT pg_wal_replay_resume()")


def stopped_with_nothing_left(database: Database, session: Session, standby: Cluster, told: list[str]) -> Throttle:
    """Stop the replay where nothing is left to it, and return a throttle that saw for a while that it is not late."""

    def stop() -> None:
        resume(standby)
        caught_up(database)
        told.clear()
        pause(standby)

    return well_while_nothing_is_written(database, session, stop, 0.7, replica_lag=0.5, tell=told.append)


def well_while_nothing_is_written(
    database: Database, session: Session, prepare: Callable[[], object], seconds: float, **limits: Any
) -> Throttle:
    """Return a throttle that saw for so long after `prepare` that all is well.

    A server writes WAL by itself every fifteen seconds, if there was any since it last did: then a receiver may be late.
    """
    for _try in range(3):
        prepare()
        throttle, before = only(**limits), flushed(database)
        if stays_well(throttle, session, seconds):
            return throttle
        assert flushed(database) != before, throttle.reasons
    pytest.fail("a server that nobody writes to wrote three times")


# --- standbys ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_one_driver")
def test_an_idle_standby_is_not_late(database: Database, session: Session, following: Cluster) -> None:
    def switch() -> None:
        database.query("SELECT pg_switch_wal()")
        caught_up(database)

    for prepare, seconds in ((lambda: caught_up(database), 1.5), (switch, 1.0)):
        throttle = well_while_nothing_is_written(database, session, prepare, seconds, replica_lag=0.3, max_pause=0.0)
        assert throttle.unknown == []


def test_a_standby_that_follows_is_not_late(database: Database, session: Session, following: Cluster) -> None:
    throttle = only(replica_lag=1.0, max_pause=0.0)
    for _round in range(20):
        write(database)
        assert look(throttle, session)
        time.sleep(0.1)
        caught_up(database)


@pytest.mark.usefixtures("_one_driver")
def test_a_stopped_replay_is_waited_for(database: Database, session: Session, following: Cluster) -> None:
    told: list[str] = []
    throttle = stopped_with_nothing_left(database, session, following, told)
    written = time.monotonic()
    write(database)
    assert glance(throttle, session) or time.monotonic() - written >= 0.5
    time.sleep(0.7)
    began = time.monotonic()

    def go_on() -> None:
        resume(following)
        caught_up(database)

    with after_two_looks(told, go_on):
        assert look(throttle, session)
    assert time.monotonic() - began > 1.9
    found = reason(throttle)
    assert (found["what"], found["limit"], found["unit"], found["pauses"]) == ("replica_lag", 0.5, "s", 1)
    assert 1.4 < found["measured"] < time.monotonic() - written
    assert "walreceiver" in found["who"]


def test_lag_from_before_the_run_is_known_from_the_server(database: Database, session: Session, following: Cluster) -> None:
    pause(following)
    written = time.monotonic()
    write(database)
    time.sleep(2.5)
    write(database)
    eventually(lambda: database.query("SELECT replay_lag > interval '2 s' FROM pg_stat_replication") == [(True,)])
    throttle = only(replica_lag=1.5, max_pause=0.0)
    assert not look(throttle, session)
    assert 2 < reason(throttle)["measured"] < time.monotonic() - written


def test_a_receiver_that_does_not_answer_is_late(database: Database, session: Session, following: Cluster) -> None:
    with following.connect() as there:
        (receiver,) = there.execute("SELECT pid FROM pg_stat_wal_receiver").fetchone() or (0,)
    os.kill(receiver, signal.SIGSTOP)
    try:
        throttle = only(replica_lag=1.0, max_pause=0.0)
        written = time.monotonic()
        write(database)
        assert glance(throttle, session) or time.monotonic() - written >= 1
        time.sleep(1.1)
        assert not look(throttle, session)
    finally:
        os.kill(receiver, signal.SIGCONT)
    assert 1 < reason(throttle)["measured"] < time.monotonic() - written


def test_a_role_that_sees_nothing_of_a_standby(database: Database, stranger: Session, following: Cluster) -> None:
    pause(following)

    def receive() -> None:
        write(database)
        kept = "SELECT restart_lsn = pg_current_wal_flush_lsn() FROM pg_replication_slots WHERE slot_name = %s"
        eventually(lambda: database.query(kept, [SLOT]) == [(True,)])

    throttle = well_while_nothing_is_written(database, stranger, receive, 0.5, replica_lag=0.3, max_pause=0.0)
    (unknown,) = throttle.unknown
    assert unknown["what"] == "replica_lag"
    assert "may not see" in unknown["reason"]
    assert unknown["hint"] == 'As a superuser: GRANT pg_monitor TO "stranger";'
    database.query(unknown["hint"].partition(": ")[2])
    assert not look(throttle, stranger)


def test_a_role_that_sees_only_slots_still_sees_a_receiver_that_does_not_answer(
    database: Database, stranger: Session, following: Cluster
) -> None:
    with following.connect() as there:
        (receiver,) = there.execute("SELECT pid FROM pg_stat_wal_receiver").fetchone() or (0,)
    throttle = only(replica_lag=0.5, max_pause=0.0)
    os.kill(receiver, signal.SIGSTOP)
    try:
        write(database)
        look(throttle, stranger)
        time.sleep(0.6)
        assert not look(throttle, stranger)
    finally:
        os.kill(receiver, signal.SIGCONT)


def test_a_standby_that_goes_is_waited_for_and_one_that_was_gone_is_not(database: Database, session: Session, following: Cluster) -> None:
    throttle = only(replica_lag=0.5, max_pause=120.0)
    assert look(throttle, session)
    following.stop()
    eventually(lambda: database.query("SELECT count(*) FROM pg_stat_replication") == [(0,)])
    try:
        write(database)
        look(throttle, session)
        time.sleep(0.7)
        later = only(replica_lag=0.0, max_pause=0.0)
        assert stays_well(later, session, 0.4)
        (unknown,) = later.unknown
        assert (unknown["what"], SLOT in unknown["reason"]) == ("replica_lag", True)
        assert "drop the slot" in unknown["hint"]
        with ThreadPoolExecutor() as threads:
            well = threads.submit(look, throttle, session)
            time.sleep(0.5)
            # Not in the other thread: a server of the tests ends with the thread that started it.
            following.start()
            assert well.result()
    finally:
        if following.pid is None:
            following.start()
    assert reason(throttle)["who"] == f"the receiver of slot {SLOT}, which is away"
    assert throttle.unknown == []


def test_a_slot_that_nobody_used_yet_is_not_mentioned(database: Database, session: Session, following: Cluster) -> None:
    database.query("SELECT pg_create_physical_replication_slot('unused')")
    try:
        throttle = only(replica_lag=1.0, max_pause=0.0)
        assert stays_well(throttle, session, 0.2)
        assert [each for each in throttle.unknown if "unused" in each["reason"]] == []
    finally:
        database.query("SELECT pg_drop_replication_slot('unused')")


@contextmanager
def receiving(database: Database, *, logical: bool) -> Iterator[Any]:
    """Be a program that receives WAL and replays nothing; what it has received it says when the test says so."""
    extras = pytest.importorskip("psycopg2.extras")
    psycopg2 = pytest.importorskip("psycopg2")
    factory = extras.LogicalReplicationConnection if logical else extras.PhysicalReplicationConnection
    connection = psycopg2.connect(**database.cluster.address(database.name), connection_factory=factory, application_name="keeper")
    cursor = connection.cursor()
    try:
        yield cursor
    finally:
        cursor.close()
        connection.close()
        eventually(lambda: database.query("SELECT count(*) FROM pg_stat_replication WHERE application_name = 'keeper'") == [(0,)])


def flushed(database: Database) -> tuple[str, int]:
    """Return the end of the WAL, as text and in bytes."""
    ((text, number),) = database.query("SELECT pg_current_wal_flush_lsn()::text, (pg_current_wal_flush_lsn() - '0/0')::bigint")
    return text, number


def test_a_program_that_keeps_wal_is_late_with_what_it_has_not_received(database: Database, session: Session) -> None:
    limits = {"replica_lag": 0.5, "max_pause": 0.0}
    with receiving(database, logical=False) as cursor:

        def keep() -> None:
            cursor.send_feedback(write_lsn=flushed(database)[1], force=True)
            kept = "SELECT write_lsn = pg_current_wal_flush_lsn() FROM pg_stat_replication WHERE application_name = 'keeper'"
            eventually(lambda: database.query(kept) == [(True,)])

        # It has not begun yet.
        well_while_nothing_is_written(database, session, lambda: write(database), 0.7, **limits)
        cursor.start_replication(start_lsn=flushed(database)[0])
        throttle = well_while_nothing_is_written(database, session, keep, 0.7, **limits)
        write(database)
        look(throttle, session)
        time.sleep(0.7)
        assert not look(throttle, session)
        assert "keeper" in reason(throttle)["who"]
        eventually(lambda: keep() or look(throttle, session))  # type: ignore[func-returns-value]


def test_a_logical_subscriber_is_late_with_what_it_has_not_received(database: Database, session: Session) -> None:
    database.query("CREATE PUBLICATION everything FOR ALL TABLES")
    with receiving(database, logical=True) as cursor:
        cursor.execute("CREATE_REPLICATION_SLOT reading TEMPORARY LOGICAL pgoutput")
        options = {"proto_version": "1", "publication_names": "everything"}
        _text, begin = flushed(database)
        # It has a slot, and has not begun yet.
        throttle = well_while_nothing_is_written(database, session, lambda: write(database), 0.7, replica_lag=0.5, max_pause=0.0)
        cursor.start_replication(slot_name="reading", decode=False, options=options)
        write(database)
        look(throttle, session)
        time.sleep(0.7)
        assert not look(throttle, session)
        # Received, and not applied: what is done with it there is no matter of this server.
        received = {"apply_lsn": begin, "force": True}
        eventually(lambda: cursor.send_feedback(write_lsn=flushed(database)[1], **received) or look(throttle, session))


# --- the archive ------------------------------------------------------------------------------------------------------


@contextmanager
def archiver(cluster: Cluster, fault: str) -> Iterator[Path]:
    """Let the archiver `hang` or `fail` during the block, or until the file is removed, and catch up after it."""
    flag = cluster.folder / fault
    archiver_caught_up(cluster)
    flag.touch()
    try:
        yield flag
    finally:
        flag.unlink(missing_ok=True)
        archiver_caught_up(cluster)


def archiver_caught_up(cluster: Cluster) -> None:
    """Wait until the archiver has nothing to do; a failed one tries again when a segment is added."""
    with cluster.connect() as server:
        end = time.monotonic() + 60
        waiting = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
        while server.execute(waiting).fetchone() != (0,):
            assert time.monotonic() < end, "the archiver does not catch up"
            segments(server, 1)
            time.sleep(0.3)


def segments(server: Any, number: int) -> None:
    """Complete so many segments."""
    for _one in range(number):
        server.execute("SELECT pg_logical_emit_message(false, 'test', 'something')")
        server.execute("SELECT pg_switch_wal()")


def archived(database: Database) -> str | None:
    ((name,),) = database.query("SELECT last_archived_wal FROM pg_stat_archiver")
    return name  # type: ignore[no-any-return]


@pytest.fixture
def archiving(database: Database) -> Database:
    """A database whose server has just archived a segment, and says so."""
    archiver_caught_up(database.cluster)
    with database.connect() as server:
        eventually(lambda: segments(server, 1) or len(archived(database) or "") == 24)  # type: ignore[func-returns-value]
    return database


def eventually_exceeded(throttle: Any, session: Session) -> None:
    """Wait until it is too much: before PostgreSQL 15 the statistics are half a second old, and asked for every five seconds."""
    eventually(lambda: not look(throttle, session))


@pytest.mark.usefixtures("_one_driver")
@pytest.mark.parametrize("fault", ["fail", "hang"])
def test_segments_that_wait_are_waited_for(archiving: Database, session: Session, stranger: Session, fault: str) -> None:
    for one in (session, stranger):
        stop, throttle = only(archive_backlog=3, max_pause=0.0), only(archive_backlog=3)
        with archiver(archiving.cluster, fault) as flag, archiving.connect() as server:
            segments(server, 3)
            time.sleep(1)
            assert look(stop, one)
            segments(server, 3)
            eventually_exceeded(stop, one)
            assert (reason(stop)["measured"], reason(stop)["limit"], reason(stop)["unit"]) == (6, 3, "segments")

            def repair() -> None:
                flag.unlink()
                with archiving.connect() as another:
                    segments(another, 1)

            with soon(repair, 1.0):
                assert look(throttle, one)
            assert 6 <= reason(throttle)["measured"] <= 7
            assert (stop.unknown, throttle.unknown) == ([], [])


def backup(server: Any, major: int) -> None:
    """Do nothing between the beginning and the end of a base backup; the archiver is given a label."""
    start, stop = ("pg_backup_start('x', true)", "pg_backup_stop(false)")
    if major < 15:
        start, stop = ("pg_start_backup('x', true, false)", "pg_stop_backup(false, false)")
    server.execute(f"SELECT {start}")
    server.execute(f"SELECT {stop}")


@pytest.mark.parametrize("last", ["label", "nothing"])
def test_the_last_file_may_not_be_a_segment(archiving: Database, session: Session, stranger: Session, last: str) -> None:
    database, major = archiving, archiving.cluster.installation.major
    with database.connect() as server:
        if last == "label":
            backup(server, major)
            eventually(lambda: (archived(database) or "").endswith(".backup"))
        else:
            server.execute("SELECT pg_stat_reset_shared('archiver')")
            eventually(lambda: archived(database) is None)
        with archiver_hanging(database.cluster):
            exact, bounded = only(archive_backlog=3, max_pause=0.0), only(archive_backlog=3, max_pause=0.0)
            assert look(bounded, stranger)
            segments(server, 2)
            time.sleep(1)
            assert look(exact, session)
            assert look(bounded, stranger)
            segments(server, 3)
            for throttle, one in ((exact, session), (bounded, stranger)):
                eventually_exceeded(throttle, one)
                assert reason(throttle)["measured"] == 5
    assert exact.unknown == []
    (unknown,) = bounded.unknown
    assert (unknown["what"], unknown["hint"]) == ("archive_backlog", 'As a superuser: GRANT pg_monitor TO "stranger";')


@contextmanager
def archiver_hanging(cluster: Cluster) -> Iterator[None]:
    """Let the archiver hang without archiving anything first."""
    flag = cluster.folder / "hang"
    flag.touch()
    try:
        yield
    finally:
        flag.unlink()
        archiver_caught_up(cluster)


def test_without_an_archive_nothing_waits(installation: Installation) -> None:
    with Cluster(installation, settings={"autovacuum": "off"}) as server, Database.create(server, "plain") as database:
        database.query("CREATE ROLE stranger LOGIN")
        with database.connect() as other:
            for user in ("postgres", "stranger"):
                with opened(database, login_user=user) as session:
                    throttle = only(archive_backlog=0, max_pause=0.0)
                    assert look(throttle, session)
                    segments(other, 3)
                    assert stays_well(throttle, session, 0.3)
                    assert throttle.unknown == []
