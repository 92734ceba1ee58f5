"""The archiver, the size of pg_wal, and damaged pages."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._health import checksums
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.replicating import check_of, looked, rolled, standby_of, write
from tests.integration.watching import create_role, eventually, finding, status_of

pytestmark = pytest.mark.any_driver

ALL = ("wal.archive_failing", "wal.archive_stuck", "wal.dir_size")
ARCHIVING = ALL[:2]
WAITING = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
FAILING = "SELECT last_failed_time > coalesce(last_archived_time, '-infinity') FROM pg_stat_archiver"


def with_roles(cluster: Cluster) -> Cluster:
    create_role(cluster, "plain")
    create_role(cluster, "monitor", "pg_monitor")
    return cluster


@pytest.fixture(scope="module")
def archiving(installation: Installation) -> Iterator[Cluster]:
    """A server whose archiver hangs while a file `hang` is there, and fails while a file `fail` is there."""
    server = Cluster(installation, settings={"autovacuum": "off", "archive_mode": "on"})
    server.settings["archive_command"] = f"while test -f {server.folder}/hang; do sleep 0.1; done; ! test -f {server.folder}/fail"
    with server:
        yield with_roles(server)


@contextmanager
def archiver(cluster: Cluster, fault: str) -> Iterator[None]:
    """Let the archiver `hang` or `fail` during the block, and catch up after it."""
    flag = cluster.folder / fault
    settled(cluster)
    flag.touch()
    try:
        yield
    finally:
        flag.unlink()
        settled(cluster)


def settled(cluster: Cluster) -> None:
    """Wait until the archiver has archived everything, the last of it with success."""

    database = Database(cluster, "postgres")

    def done() -> bool:
        write(cluster)
        ((name,),) = database.query("SELECT pg_walfile_name(pg_switch_wal())")
        # Before PostgreSQL 15 the statistics are half a second old.
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            if last(database) == name and database.query(WAITING) == [(0,)]:
                return True
            time.sleep(0.05)
        return False

    eventually(done)


def last(database: Database) -> str:
    ((name,),) = database.query("SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver")
    return str(name)


# --- the archive ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", [None, "monitor", "plain"])
def test_an_archiver_that_works_is_well(archiving: Cluster, user: str | None) -> None:
    settled(archiving)
    result = looked(archiving, *ALL, user=user)
    assert [status_of(result, check) for check in ARCHIVING] == ["ok", "ok"]
    assert result["round_trips"] == 2
    if user == "plain":
        found = finding(result, "wal.dir_size")
        grant = 'GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO "plain";'
        assert (found["severity"], found["value"], grant in found["action"]) == ("unknown", None, True)
    else:
        assert result["findings"] == []
        assert result["metrics"]["wal.dir_bytes"] >= (16 << 20)


def test_an_archiver_that_fails(archiving: Cluster) -> None:
    with archiver(archiving, "fail"):
        write(archiving, segments=2)
        eventually(lambda: Database(archiving, "postgres").query(FAILING) == [(True,)])
        for user in (None, "monitor"):
            result = looked(archiving, *ARCHIVING, user=user)
            found = finding(result, "wal.archive_failing")
            assert (found["severity"], 0 < found["value"] < 60) == ("warning", True)
            assert "2 files wait, the oldest for" in found["message"]
            assert result["metrics"]["wal.archive_waiting"] == 2
            assert result["metrics"]["wal.archive_failures_total"] >= 1
        found = finding(looked(archiving, *ARCHIVING, user="plain"), "wal.archive_failing")
        assert (found["severity"], "2 segments wait" in found["message"]) == ("warning", True)
        assert "the last success before it was" in found["message"]
        strict = {"wal.archive_failing": {"critical": "1 ms"}}
        for user in (None, "plain"):
            assert finding(looked(archiving, *ARCHIVING, user=user, thresholds=strict), "wal.archive_failing")["severity"] == "critical"
        # Of a plain role's bounds only one lies beyond it: it may be critical, and is a warning at least.
        between = {"wal.archive_failing": {"critical": f"{bounds(archiving)} s"}}
        found = finding(looked(archiving, "wal.archive_failing", user="plain", thresholds=between), "wal.archive_failing")
        assert found["severity"] == "warning"
    result = looked(archiving, *ARCHIVING)
    assert result["findings"] == []


def bounds(cluster: Cluster) -> float:
    """Return a number of seconds that lies between the age of the last failure and that of the last success, near the latter."""
    database, between = Database(cluster, "postgres"), "extract(epoch FROM last_failed_time - last_archived_time)::float8"
    # It fails three times, a second apart.
    eventually(lambda: bool(database.query(f"SELECT {between} > 1.5 FROM pg_stat_archiver") == [(True,)]))
    age = "extract(epoch FROM clock_timestamp() - last_archived_time)::float8"
    ((near,),) = database.query(f"SELECT {age} - 0.1 * {between} FROM pg_stat_archiver")
    return round(float(near), 3)


def test_an_archiver_that_hangs(archiving: Cluster) -> None:
    with archiver(archiving, "hang"):
        write(archiving, segments=2)
        time.sleep(0.3)
        result = looked(archiving, *ARCHIVING, user="monitor", thresholds={"wal.archive_stuck": {"warning": "100 ms"}})
        found = finding(result, "wal.archive_stuck")
        assert (found["severity"], "2 files wait" in found["message"]) == ("warning", True)
        assert status_of(result, "wal.archive_failing") == "ok"
        found = finding(looked(archiving, *ARCHIVING, user="plain"), "wal.archive_stuck")
        assert (found["severity"], "pg_ls_archive_statusdir" in found["action"]) == ("unknown", True)
    assert status_of(looked(archiving, *ARCHIVING, user="plain"), "wal.archive_stuck") == "ok"


def test_a_file_that_has_waited_for_long(archiving: Cluster) -> None:
    with archiver(archiving, "hang"):
        write(archiving, segments=1)
        (ready,) = (archiving.data / "pg_wal" / "archive_status").glob("*.ready")
        os.utime(ready, (time.time() - 1000, time.time() - 1000))
        found = finding(looked(archiving, *ARCHIVING), "wal.archive_stuck")
        assert (found["severity"], 990 < found["value"] < 1100) == ("warning", True)


def test_nothing_that_archives(archiving: Cluster) -> None:
    rolled(archiving, archive_command="")
    write(archiving, segments=1)
    for user in (None, "monitor", "plain"):
        found = finding(looked(archiving, *ARCHIVING, user=user), "wal.archive_stuck")
        assert (found["severity"], "neither archive_command nor archive_library" in found["message"]) == ("warning", True)
    with archiving.connect() as session:
        session.execute("ALTER SYSTEM RESET archive_command")
        session.execute("SELECT pg_reload_conf()")
    settled(archiving)


def test_nothing_has_been_archived_yet(archiving: Cluster) -> None:
    settled(archiving)
    with archiving.connect() as session:
        session.execute("SELECT pg_stat_reset_shared('archiver')")
    eventually(lambda: not last(Database(archiving, "postgres")))
    assert status_of(looked(archiving, *ARCHIVING), "wal.archive_failing") == "ok"
    # What has been archived before is not known to a role that may not look.
    assert status_of(looked(archiving, *ARCHIVING, user="plain"), "wal.archive_stuck") == "unknown"
    settled(archiving)


def test_a_standby_archives_only_where_it_is_told_to(archiving: Cluster) -> None:
    settled(archiving)
    with standby_of(archiving) as standby:
        for user in (None, "monitor", "plain"):
            result = looked(standby, *ARCHIVING, user=user)
            assert [status_of(result, check) for check in ARCHIVING] == ["skipped", "skipped"]
        assert status_of(looked(standby, "wal.dir_size", user="monitor"), "wal.dir_size") == "ok"
        standby.restart({"archive_mode": "always", "archive_command": "false"})
        write(archiving, segments=1)
        archiving.wait_for(standby)
        eventually(lambda: Database(standby, "postgres").query(FAILING) == [(True,)])
        assert finding(looked(standby, *ARCHIVING), "wal.archive_failing")["severity"] == "warning"
        with standby.connect() as there:
            there.execute("SELECT pg_promote()")
        assert finding(looked(standby, *ARCHIVING, user="monitor"), "wal.archive_failing")["severity"] == "warning"


# --- without an archive -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(installation: Installation) -> Iterator[Cluster]:
    """A server without an archive, and with checksums."""
    settings: dict[str, str | int] = {"autovacuum": "off", "max_wal_size": "64MB", "min_wal_size": "32MB"}
    with Cluster(installation, settings=settings, checksums=True) as server:
        yield with_roles(server)


@pytest.mark.parametrize("user", [None, "monitor", "plain"])
def test_without_an_archive_there_is_nothing_to_judge(bare: Cluster, user: str | None) -> None:
    result = looked(bare, *ARCHIVING, user=user)
    assert [check_of(result, check)["message"] for check in ARCHIVING] == ["archive_mode is off"] * 2
    assert [status_of(result, check) for check in ARCHIVING] == ["skipped", "skipped"]


def test_much_wal_is_found(bare: Cluster) -> None:
    with bare.connect() as session:
        session.execute("SELECT pg_create_physical_replication_slot('keeps', true)")
        write(bare, segments=10)
        session.execute("CHECKPOINT")
        for user in (None, "monitor"):
            found = finding(looked(bare, "wal.dir_size", user=user), "wal.dir_size")
            assert (found["severity"], found["value"] > 200) == ("warning", True)
        kept = {"wal_keep_size": "1GB"} if bare.installation.major >= 13 else {"wal_keep_segments": "64"}
        rolled(bare, **kept)
        # As much is kept on purpose.
        assert "kept for standbys" in check_of(looked(bare, "wal.dir_size"), "wal.dir_size")["message"]
        assert status_of(looked(bare, "wal.dir_size"), "wal.dir_size") == "ok"
        session.execute("SELECT pg_drop_replication_slot('keeps')")


# --- damaged pages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", [None, "monitor", "plain"])
def test_undamaged_pages_are_well(bare: Cluster, user: str | None) -> None:
    result = looked(bare, "data.checksum_failures", user=user)
    assert (result["status"], result["metrics"]["data.checksum_failures"]) == ("ok", 0)


def test_damage_in_what_all_databases_share_is_found(bare: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever damages that has no server to ask: the server's row without a name is given a number.
    counted = checksums.FAILURES.statement.replace("checksum_failures,", "CASE WHEN datname IS NULL THEN 2 ELSE checksum_failures END,")
    assert counted != checksums.FAILURES.statement
    monkeypatch.setattr(checksums, "FAILURES", replace(checksums.FAILURES, statement=counted))
    found = finding(looked(bare, "data.checksum_failures"), "data.checksum_failures[shared objects]")
    assert (found["severity"], found["value"], found["message"]) == ("critical", 2, "2 damaged pages read")


def test_a_damaged_page_is_found(bare: Cluster) -> None:
    bare.create_database("torn")
    with bare.connect("torn") as session:
        session.execute("CREATE TABLE damaged AS SELECT n FROM generate_series(1, 1000) AS n")
        session.execute("CHECKPOINT")
        (path,) = session.execute("SELECT pg_relation_filepath('damaged')").fetchone() or ("",)
    bare.stop()
    with (bare.data / path).open("r+b") as file:
        file.seek(4000)
        file.write(b"damage")
    bare.start()
    with bare.connect("torn") as session, pytest.raises(Exception, match="invalid page"):
        session.execute("SELECT count(*) FROM damaged")
    key = "data.checksum_failures[torn]"
    eventually(lambda: looked(bare, "data.checksum_failures")["metrics"].get(key) == 1)
    for user in (None, "monitor", "plain"):
        found = finding(looked(bare, "data.checksum_failures", user=user), key)
        assert (found["severity"], found["value"]) == ("critical", 1)
        assert "1 damaged page read, last 20" in found["message"]
    bare.drop_database("torn")


def test_without_checksums_nothing_is_counted_and_said_so(archiving: Cluster) -> None:
    if Database(archiving, "postgres").query("SHOW data_checksums") == [("on",)]:
        pytest.skip("checksums are on by default")
    for user in (None, "monitor", "plain"):
        result = looked(archiving, "data.checksum_failures", user=user)
        check = result["checks"][-1]
        assert (check["id"], check["status"], result["findings"]) == ("data.checksum_failures", "skipped", [])
        assert "data checksums are off: the server does not notice" in check["message"]
        assert "pg_checksums --enable" in check["message"]
