"""Replication slots: idle ones, what they retain, and what they have lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.replicating import caught_up, check_of, earlier, looked, readings, receiving, rolled, standby_of, write
from tests.integration.watching import create_role, eventually, finding, status_of

pytestmark = pytest.mark.any_driver

ALL = ("slot.inactive", "slot.retained", "slot.wal_status", "slot.invalidated")


@pytest.fixture(scope="module")
def server(installation: Installation) -> Iterator[Cluster]:
    """A server on which slots may be made."""
    with Cluster(installation, settings={"autovacuum": "off", "wal_level": "logical"}) as made:
        create_role(made, "plain")
        create_role(made, "monitor", "pg_monitor")
        yield made


@pytest.fixture
def slots(server: Cluster) -> Iterator[Database]:
    """The server without slots and limits, as it is again after the test."""
    database = Database(server, "postgres")
    yield database
    database.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    if server.installation.major >= 13:
        rolled(server, max_slot_wal_keep_size="-1")


def physical(database: Database, name: str, *, reserve: bool = True) -> None:
    # It keeps WAL from the last checkpoint on.
    database.query("CHECKPOINT")
    database.query("SELECT pg_create_physical_replication_slot(%s, %s)", [name, reserve])


@pytest.mark.parametrize("user", [None, "monitor", "plain"])
def test_without_slots_all_is_well(slots: Database, user: str | None) -> None:
    result = looked(slots.cluster, *ALL, user=user)
    assert (result["status"], result["findings"]) == ("ok", [])
    older = [check for check in ("slot.wal_status",) if slots.cluster.installation.major < 13]
    assert [check["id"] for check in result["checks"] if check["status"] == "skipped"] == older
    assert result["round_trips"] == 2


@pytest.mark.parametrize("user", [None, "monitor", "plain"])
def test_a_slot_without_a_receiver(slots: Database, user: str | None) -> None:
    physical(slots, "left")
    slots.query("SELECT pg_create_logical_replication_slot('reader', 'pgoutput')")
    result = looked(slots.cluster, *ALL, user=user, thresholds={"slot.inactive": {"warning": "1 ms"}})
    found = finding(result, "slot.inactive[left]")
    if slots.cluster.installation.major >= 17:
        assert found["severity"] == "warning"
        assert 0 < found["value"] < 60
    else:
        assert (found["severity"], found["value"]) == ("unknown", None)
        assert "since when is not known" in found["message"]
    assert "pg_drop_replication_slot('left')" in found["action"]
    assert "logical slot of postgres" in finding(result, "slot.inactive[reader]")["message"]
    assert [row["name"] for row in result["details"]["slots"]] == ["left", "reader"]


def test_a_history_knows_for_how_long_at_least(slots: Database) -> None:
    physical(slots, "left")
    history = earlier(7200, kept={"slot.inactive": {}})
    ((first,), look) = readings(slots.cluster, "slot.inactive", history=history)
    kept = {"slot.inactive": {"left": look.now.timestamp() - 7200}}
    assert look.kept["slot.inactive"] == {"left": look.now.timestamp()}
    ((second,), later) = readings(slots.cluster, "slot.inactive", history=earlier(3600, kept=kept))
    if slots.cluster.installation.major >= 17:
        assert first.amount is not None
        assert second.amount is not None
        assert second.amount < 60
    else:
        assert (first.status, first.amount) == ("unknown", None)
        assert second.status is None
        assert second.amount == pytest.approx(7200, abs=30)
        assert "at least" in second.message
    # The first moment stays the first.
    assert later.kept["slot.inactive"] == kept["slot.inactive"]


def test_a_slot_in_use_is_well(slots: Database) -> None:
    physical(slots, "used")
    with receiving(slots.cluster, "keeper", "used"):
        result = looked(slots.cluster, *ALL, thresholds={"slot.inactive": {"warning": 0}})
    assert result["findings"] == []


def test_a_slot_that_nobody_used_retains_nothing(slots: Database) -> None:
    physical(slots, "never", reserve=False)
    write(slots.cluster, segments=2)
    result = looked(slots.cluster, *ALL)
    assert result["metrics"]["slot.retained[never]"] == 0
    assert "keeps no WAL" in check_of(result, "slot.retained")["message"]
    assert "was never used" in check_of(result, "slot.inactive")["message"]


def test_what_slots_retain_is_judged_in_bytes(slots: Database) -> None:
    physical(slots, "a")
    write(slots.cluster, segments=3)
    physical(slots, "b")
    result = looked(slots.cluster, "slot.retained", thresholds={"slot.retained": {"warning": "20 MB", "critical": "25 MB"}})
    assert finding(result, "slot.retained[a]")["severity"] == "critical"
    assert (32 << 20) < finding(result, "slot.retained[a]")["value"] < (80 << 20)
    assert result["metrics"]["slot.retained[b]"] < (20 << 20)
    assert check_of(result, "slot.retained")["findings_total"] == 1
    assert status_of(looked(slots.cluster, "slot.retained"), "slot.retained") == "ok"


def test_what_slots_retain_is_judged_by_the_limit(slots: Database) -> None:
    if slots.cluster.installation.major < 13:
        pytest.skip("max_slot_wal_keep_size is there from version 13 on")
    rolled(slots.cluster, max_slot_wal_keep_size="64MB")
    physical(slots, "a")
    assert status_of(looked(slots.cluster, "slot.retained"), "slot.retained") == "ok"
    write(slots.cluster, segments=3)
    found = finding(looked(slots.cluster, "slot.retained", user="plain"), "slot.retained[a]")
    assert found["severity"] == "warning"
    assert "% of the 64.0 MB" in found["message"]
    # Thresholds that somebody gave go before that.
    assert status_of(looked(slots.cluster, "slot.retained", thresholds={"slot.retained": {"warning": "1 TB"}}), "slot.retained") == "ok"
    write(slots.cluster, segments=2)
    assert finding(looked(slots.cluster, "slot.retained"), "slot.retained[a]")["severity"] == "critical"


def test_a_slot_that_loses_its_wal(slots: Database) -> None:
    physical(slots, "slow")
    major = slots.cluster.installation.major
    if major < 13:
        skipped = check_of(looked(slots.cluster, "slot.wal_status"), "slot.wal_status")
        assert (skipped["status"], "before PostgreSQL 13" in skipped["message"]) == ("skipped", True)
        return
    rolled(slots.cluster, max_slot_wal_keep_size="16MB")
    write(slots.cluster, segments=3)
    found = finding(looked(slots.cluster, *ALL), "slot.wal_status[slow]")
    assert (found["severity"], "about to lose" in found["message"]) == ("warning", True)
    write(slots.cluster, segments=4)
    slots.query("CHECKPOINT")
    result = looked(slots.cluster, *ALL, user="plain")
    found = finding(result, "slot.wal_status[slow]")
    assert (found["severity"], "has lost WAL" in found["message"]) == ("critical", True)
    assert "pg_drop_replication_slot('slow')" in found["action"]
    # It retains nothing any more, and that it has no receiver says nothing more.
    assert [status_of(result, check) for check in ("slot.retained", "slot.inactive")] == ["ok", "ok"]
    if major >= 17:
        # One fault, told once.
        assert "1 that lost WAL, see slot.wal_status" in check_of(result, "slot.invalidated")["message"]
        assert [each["key"] for each in result["findings"]] == ["slot.wal_status[slow]"]


def test_a_slot_of_a_standby_that_was_invalidated(slots: Database) -> None:
    major = slots.cluster.installation.major
    if major < 16:
        physical(slots, "any")
        check = check_of(looked(slots.cluster, "slot.invalidated"), "slot.invalidated")
        assert (check["status"], "before PostgreSQL 16" in check["message"]) == ("skipped", True)
        return
    with standby_of(slots.cluster, hot_standby_feedback="off") as standby:
        caught_up(slots.cluster)
        with standby.connect() as session, slots.connect() as here:
            with session.pipeline():
                session.execute("SELECT pg_create_logical_replication_slot('reader', 'pgoutput')")
                session.pgconn.flush()

                # It takes the first snapshot that comes after it has begun to wait for one.
                def made() -> bool:
                    here.execute("SELECT pg_log_standby_snapshot()")
                    ready = "SELECT confirmed_flush_lsn IS NOT NULL FROM pg_replication_slots"
                    return bool(Database(standby, "postgres").query(ready) == [(True,)])

                eventually(made)
            assert status_of(looked(standby, *ALL), "slot.invalidated") == "ok"
            for statement in ("CREATE TABLE gone (id int)", "DROP TABLE gone", "VACUUM pg_class"):
                here.execute(statement)
        write(slots.cluster)
        conflicting = "SELECT conflicting FROM pg_replication_slots"
        eventually(lambda: Database(standby, "postgres").query(conflicting) == [(True,)])
        result = looked(standby, *ALL)
    found = finding(result, "slot.invalidated[reader]")
    assert found["severity"] == "critical"
    assert ("rows_removed" if major >= 17 else "conflict") in found["message"]
    assert [each["key"] for each in result["findings"]] == ["slot.invalidated[reader]"]


def test_a_slot_on_a_standby_is_measured_by_what_it_has_received(slots: Database) -> None:
    with standby_of(slots.cluster) as standby:
        caught_up(slots.cluster)
        physical(Database(standby, "postgres"), "below")
        write(slots.cluster, segments=2)
        caught_up(slots.cluster)
        result = looked(standby, "slot.retained", user="plain")
    assert (16 << 20) < result["metrics"]["slot.retained[below]"] < (64 << 20)
