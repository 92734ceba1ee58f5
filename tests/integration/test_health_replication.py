"""Standbys: who is missing, who is late, and whether this one still receives."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._health import replication
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Expected
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Limits
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.children import standing_still, until
from tests.integration.replicating import caught_up, check_of, flushed, looked, readings, receiving, rolled, standby_of, write
from tests.integration.watching import create_role, eventually, finding, status_of

pytestmark = pytest.mark.any_driver

ALL = ("avail.role_expected", "repl.standbys", "repl.lag_bytes", "repl.lag_time", "repl.receiver_down")
LAGS = ("repl.lag_bytes", "repl.lag_time")
LAST_MESSAGE = "SELECT extract(epoch FROM clock_timestamp() - last_msg_receipt_time)::float8 FROM pg_stat_wal_receiver"


@pytest.fixture(scope="module")
def primary(installation: Installation) -> Iterator[Cluster]:
    """A server that others stream from."""
    with Cluster(installation, settings={"autovacuum": "off", "full_page_writes": "on"}) as made:
        create_role(made, "plain")
        create_role(made, "monitor", "pg_monitor")
        yield made


@pytest.fixture(scope="module")
def follower(primary: Cluster) -> Iterator[Cluster]:
    """A standby that says little by itself."""
    with standby_of(primary, cluster_name="pg2", wal_retrieve_retry_interval="200ms") as made:
        yield made


@pytest.fixture
def pair(primary: Cluster, follower: Cluster) -> Iterator[tuple[Cluster, Cluster]]:
    """Both, with everything replayed."""
    write(primary)
    caught_up(primary)
    yield primary, follower
    if follower.pid is None:
        follower.start()
    with follower.connect() as there:
        there.execute("SELECT pg_wal_replay_resume()")


def receiver_of(standby: Cluster) -> int:
    """Return the process that receives, which comes back by itself where it has gone."""
    ((pid,),) = until(lambda: Database(standby, "postgres").query("SELECT pid FROM pg_stat_wal_receiver"))
    return int(pid)


def pause(standby: Cluster) -> None:
    with standby.connect() as there:
        there.execute("SELECT pg_wal_replay_pause()")
    if standby.installation.major >= 14:
        eventually(lambda: Database(standby, "postgres").query("SELECT pg_get_wal_replay_pause_state()") == [("paused",)])


# --- alone ------------------------------------------------------------------------------------------------------------------


def test_a_server_alone_has_nothing_to_judge(installation: Installation) -> None:
    with Cluster(installation, settings={"autovacuum": "off"}) as alone:
        create_role(alone, "plain")
        create_role(alone, "monitor", "pg_monitor")
        for user in (None, "monitor", "plain"):
            result = looked(alone, *ALL, user=user)
            assert (result["status"], result["findings"], result["round_trips"]) == ("ok", [], 2)
            assert {check["id"] for check in result["checks"] if check["status"] == "ok"} == {"avail.connect", "repl.standbys"}
            assert {check["status"] for check in result["checks"]} == {"ok", "skipped"}
            assert result["metrics"]["repl.standbys"] == 0
            counted = looked(alone, "repl.standbys", user=user, thresholds={"repl.standbys": {"warning": 2, "critical": 1}})
            assert finding(counted, "repl.standbys")["severity"] == "critical"
            missing = looked(alone, "repl.standbys", user=user, expected_standbys=["pg2", "Pg 3 %s"])
            assert [(each["key"], each["severity"]) for each in missing["findings"]] == [
                ("repl.standbys[pg2]", "critical"),
                ("repl.standbys[Pg 3 %s]", "critical"),
            ]


def test_the_expected_role(pair: tuple[Cluster, Cluster]) -> None:
    for server, is_role, other in ((pair[0], "primary", "standby"), (pair[1], "standby", "primary")):
        for user in (None, "plain"):
            assert status_of(looked(server, "avail.role_expected", user=user, expected_role=is_role), "avail.role_expected") == "ok"
            found = finding(looked(server, "avail.role_expected", user=user, expected_role=other), "avail.role_expected")
            assert (found["severity"], found["message"]) == ("critical", f"it is a {is_role} and should be a {other}")
        said = check_of(looked(server, "avail.role_expected"), "avail.role_expected")
        assert (said["status"], f"it is a {is_role}" in said["message"]) == ("skipped", True)


# --- all is well ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", [None, "monitor"])
def test_an_idle_pair_is_well(pair: tuple[Cluster, Cluster], user: str | None) -> None:
    lags = "SELECT write_lag, flush_lag, replay_lag FROM pg_stat_replication"
    for quiet in (False, True):
        if quiet:
            # The standby tells twice that it has everything, and then the server says nothing of lags any more.
            rolled(pair[1], wal_receiver_status_interval="1s")
            eventually(lambda: Database(pair[0], "postgres").query(lags) == [(None, None, None)])
        for server in pair:
            result = looked(server, *ALL, user=user, expected_standbys=["pg2"] if server is pair[0] else [])
            assert (result["status"], result["findings"]) == ("ok", [])
            assert result["metrics"]["repl.lag_time[pg2]" if server is pair[0] else "repl.lag_time"] < 5

    def at_rest() -> dict[str, Any]:
        said = looked(pair[0], *ALL, user=user)
        return said if said["metrics"]["repl.lag_bytes[pg2]"] == 0 else {}

    # An idle server writes a little by itself now and then.
    result = until(at_rest)
    assert result["metrics"]["repl.standbys"] == 1
    assert [(row["name"], row["state"]) for row in result["details"]["standbys"]] == [("pg2", "streaming")]
    rolled(pair[1], wal_receiver_status_interval="10s")


def test_an_idle_standby_of_an_idle_primary_hears_little_and_is_well(pair: tuple[Cluster, Cluster]) -> None:
    # The primary answers only when it is asked, which an idle standby does after half of wal_receiver_timeout.
    rolled(pair[1], wal_receiver_status_interval="1s", wal_receiver_timeout="12s")
    with pair[1].connect() as there:
        there.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_wal_receiver")
    caught_up(pair[0])

    def silent() -> bool:
        said = Database(pair[1], "postgres").query(LAST_MESSAGE)
        return bool(said and said[0][0] is not None and said[0][0] > 4)

    eventually(silent)
    result = looked(pair[1], *ALL)
    assert (result["status"], result["findings"]) == ("ok", [])
    assert result["metrics"]["repl.lag_time"] == 0
    rolled(pair[1], wal_receiver_status_interval="10s", wal_receiver_timeout="1min")


# --- late -------------------------------------------------------------------------------------------------------------------


def test_a_paused_standby_is_late_on_both_sides(pair: tuple[Cluster, Cluster]) -> None:
    pause(pair[1])
    write(pair[0], segments=1)
    time.sleep(1.2)
    write(pair[0])
    thresholds = {"repl.lag_time": {"warning": "1 s", "critical": "1 h"}, "repl.lag_bytes": {"warning": "1 MB", "critical": "1 GB"}}
    here = looked(pair[0], *LAGS, user="monitor", thresholds=thresholds)
    assert finding(here, "repl.lag_bytes[pg2]")["severity"] == "warning"
    assert finding(here, "repl.lag_bytes[pg2]")["value"] > (1 << 20)
    found = finding(here, "repl.lag_time[pg2]")
    assert (found["severity"], 1 < found["value"] < 30) == ("warning", True)
    there = looked(pair[1], *ALL, user="monitor", thresholds=thresholds)
    found = finding(there, "repl.lag_time")
    assert (found["severity"], found["value"] > 1, "its replay is paused" in found["message"]) == ("warning", True, True)
    assert "pg_wal_replay_resume()" in found["action"]
    assert status_of(there, "repl.receiver_down") == "ok"


def test_a_first_write_after_a_rest_is_no_lag(pair: tuple[Cluster, Cluster], monkeypatch: pytest.MonkeyPatch) -> None:
    # The last transaction is old, and what came after it is replayed a moment later.
    if pair[1].installation.major < 14:
        pytest.skip("before version 14 a replay goes on up to a second after it was told to")
    time.sleep(1.2)
    pause(pair[1])
    write(pair[0])
    eventually(lambda: Database(pair[1], "postgres").query("SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()") == [(True,)])

    waited: list[float] = []

    def resume(seconds: float) -> None:
        waited.append(seconds)
        with pair[1].connect() as there:
            there.execute("SELECT pg_wal_replay_resume()")
        caught_up(pair[0])

    # It is replayed while the check waits for that.
    monkeypatch.setattr(replication, "time", SimpleNamespace(sleep=resume))
    thresholds = {"repl.lag_time": {"warning": "1 s", "critical": "1 s"}}
    result = looked(pair[1], "repl.lag_time", thresholds=thresholds)
    assert (status_of(result, "repl.lag_time"), waited) == ("ok", [replication.SECOND_LOOK])


def test_a_standby_that_is_late_on_purpose(pair: tuple[Cluster, Cluster]) -> None:
    rolled(pair[1], recovery_min_apply_delay="1h")
    write(pair[0])
    time.sleep(1.2)
    message = check_of(looked(pair[1], "repl.lag_time", thresholds={"repl.lag_time": {"warning": "1 s"}}), "repl.lag_time")
    assert (message["status"], "beyond the 1 h of recovery_min_apply_delay" in message["message"]) == ("ok", True)
    rolled(pair[1], recovery_min_apply_delay="0")


def test_a_standby_that_answers_no_more_is_not_believed(pair: tuple[Cluster, Cluster]) -> None:
    rolled(pair[1], wal_receiver_status_interval="1s")
    time.sleep(2.5)
    with standing_still([receiver_of(pair[1])]):
        write(pair[0])
        time.sleep(1.5)
        limits = {"repl.lag_time": {"warning": "1 s"}}
        found = finding(looked(pair[0], *LAGS, thresholds=limits), "repl.lag_time[pg2]")
        assert found["severity"] in ("warning", "unknown")
        assert status_of(looked(pair[0], *LAGS), "repl.lag_bytes") == "ok"
    rolled(pair[1], wal_receiver_status_interval="10s")


# --- dead -------------------------------------------------------------------------------------------------------------------


def test_a_dead_standby_is_missed(pair: tuple[Cluster, Cluster]) -> None:
    pair[1].stop()
    eventually(lambda: Database(pair[0], "postgres").query("SELECT count(*) FROM pg_stat_replication") == [(0,)])
    for user in (None, "monitor", "plain"):
        result = looked(pair[0], *ALL, user=user, expected_standbys=["pg2"])
        found = finding(result, "repl.standbys[pg2]")
        assert (found["severity"], found["message"]) == ("critical", "does not stream from this server")
        assert result["metrics"]["repl.standbys[pg2]"] == 0
        # Nobody streams: that is no lag of 0.
        assert [status_of(result, check) for check in LAGS] == ["skipped", "skipped"]


@pytest.mark.parametrize("user", [None, "monitor", "plain"])
def test_a_receiver_that_died_with_wal_missing_is_never_up_to_date(pair: tuple[Cluster, Cluster], user: str | None) -> None:
    primary, standby = pair
    caught_up(primary)
    # The standby runs, and its receiver cannot come back.
    with denying(primary):
        eventually(lambda: Database(standby, "postgres").query("SELECT count(*) FROM pg_stat_wal_receiver") == [(0,)])
        with primary.connect() as here:
            here.execute("CREATE TABLE filling AS SELECT repeat('x', 500) FROM generate_series(1, 4000)")
            here.execute("DROP TABLE filling")
        received = "SELECT pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()"
        eventually(lambda: Database(standby, "postgres").query(received) == [(True,)])
        result = looked(standby, *ALL, user=user)
    assert finding(result, "repl.receiver_down")["severity"] == "critical"
    assert "no receiver" in finding(result, "repl.receiver_down")["message"]
    assert (status_of(result, "repl.lag_time"), result["metrics"]["repl.lag_time"]) == ("unknown", None)
    # One cause, one finding.
    assert [each["key"] for each in result["findings"]] == ["repl.receiver_down"]
    caught_up(primary)


@contextmanager
def denying(primary: Cluster) -> Iterator[None]:
    """Let no standby in."""
    file, allowed = primary.data / "pg_hba.conf", "local replication all trust"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(allowed, "local replication all reject"), encoding="utf-8")
    try:
        with primary.connect() as session:
            session.execute("SELECT pg_reload_conf()")
            time.sleep(0.2)
            session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        yield
    finally:
        file.write_text(text, encoding="utf-8")
        with primary.connect() as session:
            session.execute("SELECT pg_reload_conf()")


def test_a_receiver_that_hears_nothing(pair: tuple[Cluster, Cluster]) -> None:
    rolled(pair[1], wal_receiver_timeout="2s", wal_receiver_status_interval="1s")
    caught_up(pair[0])
    # What the receiver says of itself stays, as it would while nothing comes for longer than ten seconds.
    with standing_still([receiver_of(pair[1])]):
        eventually(lambda: Database(pair[1], "postgres").query(LAST_MESSAGE)[0][0] > 6.2)
        result = looked(pair[1], *ALL)
    found = finding(result, "repl.receiver_down")
    assert (found["severity"], "has had no message for" in found["message"]) == ("critical", True)
    assert (status_of(result, "repl.lag_time"), result["metrics"]["repl.lag_time"]) == ("unknown", None)
    rolled(pair[1], wal_receiver_timeout="1min", wal_receiver_status_interval="10s")


# --- who may see what -------------------------------------------------------------------------------------------------------


def test_a_plain_role_is_told_what_it_lacks(pair: tuple[Cluster, Cluster]) -> None:
    here = looked(pair[0], *ALL, user="plain", expected_standbys=["pg2", "pg3"])
    grant = 'As a superuser: GRANT pg_read_all_stats TO "plain";'
    for key in ("repl.standbys", "repl.standbys[pg2]", "repl.lag_bytes[pg2]", "repl.lag_time[pg2]"):
        assert (finding(here, key)["severity"], finding(here, key)["action"]) == ("unknown", grant)
        assert here["metrics"][key] is None
    # What is not there is seen all the same.
    assert finding(here, "repl.standbys[pg3]")["severity"] == "critical"
    there = looked(pair[1], *ALL, user="plain")
    for key in ("repl.lag_time", "repl.receiver_down"):
        assert (finding(there, key)["severity"], finding(there, key)["action"]) == ("unknown", grant)
    with pair[0].connect() as session:
        session.execute("GRANT pg_read_all_stats TO plain")
    caught_up(pair[0])
    for server in pair:
        assert looked(server, *ALL, user="plain")["findings"] == []
    with pair[0].connect() as session:
        session.execute("REVOKE pg_read_all_stats FROM plain")
    caught_up(pair[0])


# --- other shapes -----------------------------------------------------------------------------------------------------------


def test_a_program_that_keeps_wal_is_no_standby_and_may_be_expected(pair: tuple[Cluster, Cluster]) -> None:
    with receiving(pair[0], "keeper"):
        result = looked(pair[0], *ALL, expected_standbys=["keeper"])
        assert (result["metrics"]["repl.standbys"], result["metrics"]["repl.standbys[keeper]"]) == (1, 1)
        write(pair[0], segments=1)
        caught_up(pair[0])
        result = looked(pair[0], *LAGS)
    assert result["metrics"]["repl.lag_bytes[keeper]"] > 0
    assert result["metrics"]["repl.lag_bytes[pg2]"] < result["metrics"]["repl.lag_bytes[keeper]"]


def test_a_receiver_that_catches_up_is_late_for_nobody_knows_how_long(pair: tuple[Cluster, Cluster]) -> None:
    position = flushed(pair[0])
    with pair[0].connect() as here:
        here.execute("CREATE TABLE filling AS SELECT repeat('x', 500) FROM generate_series(1, 8000)")
        here.execute("DROP TABLE filling")
    with receiving(pair[0], "keeper", position=position):
        catching_up = "SELECT write_lsn IS NOT NULL FROM pg_stat_replication WHERE application_name = 'keeper' AND state = 'catchup'"
        eventually(lambda: Database(pair[0], "postgres").query(catching_up) == [(True,)])
        result = looked(pair[0], *LAGS)
    found = finding(result, "repl.lag_time[keeper]")
    assert (found["severity"], found["value"], "in state catchup" in found["message"]) == ("unknown", None, True)
    assert result["metrics"]["repl.lag_bytes[keeper]"] > (1 << 20)


def test_receivers_of_one_name_are_told_apart_or_the_worst_counts(pair: tuple[Cluster, Cluster]) -> None:
    with pair[0].connect() as session:
        session.execute("SELECT pg_create_physical_replication_slot('one', true)")
    with receiving(pair[0], "twin", "one"), receiving(pair[0], "twin"), receiving(pair[0], "walreceiver"), receiving(pair[0], ""):
        write(pair[0], segments=1)
        result = looked(pair[0], *LAGS)
    with pair[0].connect() as session:
        session.execute("SELECT pg_drop_replication_slot('one')")
    names = {name for name in result["metrics"] if name.startswith("repl.lag_bytes")}
    assert names == {f"repl.lag_bytes[{name}]" for name in ("pg2", "twin one", "twin", "walreceiver", "unnamed")}


def test_a_standby_that_restores_from_an_archive_alone(primary: Cluster) -> None:
    archive = f"cp {primary.data}/pg_wal/%f %p"
    with standby_of(primary, restore_command="false", wal_retrieve_retry_interval="100ms") as standby:
        standby.settings.update({"primary_conninfo": "", "restore_command": archive})
        standby.restart()
        write(primary, segments=1)
        primary.wait_for(standby)
        for user in (None, "monitor"):
            result = looked(standby, *ALL, user=user)
            down = check_of(result, "repl.receiver_down")
            assert (down["status"], "restores from an archive alone" in down["message"]) == ("skipped", True)
            assert (status_of(result, "repl.lag_time"), result["findings"]) == ("ok", [])
            assert 0 < result["metrics"]["repl.lag_time"] < 30
        plain = looked(standby, *ALL, user="plain")
        assert "GRANT pg_read_all_settings" in finding(plain, "repl.receiver_down")["action"]
        assert {each["key"]: each["severity"] for each in plain["findings"]} == {
            "repl.receiver_down": "unknown",
            "repl.lag_time": "unknown",
        }
        found = finding(looked(standby, *ALL, thresholds={"repl.lag_time": {"warning": "1 ms", "critical": "1 h"}}), "repl.lag_time")
        assert (found["severity"], found["value"] > 0) == ("warning", True)
        # Nobody has said how old is too old, and whether there was anything to restore nobody here knows.
        (reading,), _look = readings(
            standby, "repl.lag_time", limits=Limits(0.0, 0.0, sources={"warning": "default", "critical": "default"})
        )
        assert (reading.status, reading.amount) == ("unknown", None)
        standby.settings["restore_command"] = ""
        standby.restart()
        found = finding(looked(standby, *ALL), "repl.receiver_down")
        assert (found["severity"], "neither" in found["message"]) == ("critical", True)


def test_a_standby_of_a_standby(pair: tuple[Cluster, Cluster]) -> None:
    primary, standby = pair
    with standby_of(standby, cluster_name="pg3") as below:
        # It may begin at the segment after the one that its primary is in.
        write(primary)
        primary.wait_for(below)
        eventually(lambda: Database(standby, "postgres").query("SELECT state FROM pg_stat_replication") == [("streaming",)])
        result = looked(standby, *ALL, expected_role="standby", expected_standbys=["pg3", "pg4"])
        assert [each["key"] for each in result["findings"]] == ["repl.standbys[pg4]"]
        assert {"repl.lag_time", "repl.lag_time[pg3]", "repl.lag_bytes[pg3]"} <= set(result["metrics"])
        # Of a group that says the same of all its servers, only the primary is asked.
        assert status_of(looked(standby, *ALL, expected_standbys=["pg3", "pg4"]), "repl.standbys") == "skipped"


def test_a_promoted_standby_is_a_primary(pair: tuple[Cluster, Cluster]) -> None:
    with standby_of(pair[0], cluster_name="pg4") as promoted:
        pair[0].wait_for(promoted)
        with promoted.connect() as there:
            there.execute("SELECT pg_promote()")
        result = looked(promoted, *ALL, expected_role="standby")
        assert [each["key"] for each in result["findings"]] == ["avail.role_expected"]
        # Nothing of the standby that it was is told as if it still were one.
        for check in ("repl.receiver_down", "repl.lag_time"):
            assert status_of(result, check) == "skipped"
        assert not [name for name in result["metrics"] if name.startswith("repl.lag")]
        (reading,), _look = readings(promoted, "avail.role_expected", expected=Expected(role="primary"))
        assert reading.message == "it is a primary, as it should be"
