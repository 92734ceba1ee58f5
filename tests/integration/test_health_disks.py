"""Disks, load and memory of a server's own host, and of one that may be another."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._connection import connect
from ansible_collections.pgops.runbook.plugins.module_utils._health import disks, same_host
from ansible_collections.pgops.runbook.plugins.module_utils._health.history import THERE, History
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from tests.ground.account import server_account
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.replicating import check_of, looked, readings
from tests.integration.watching import create_role, finding, options, status_of

pytestmark = pytest.mark.any_driver

DISKS = ("disk.free_pct", "disk.days_left")
HOST = ("host.load", "host.memory_pct")
DAY = 86400.0
# A machine that runs tests may be busy or full.
NEVER = {
    "disk.free_pct": {"warning": None, "critical": None},
    "host.memory_pct": {"warning": None, "critical": None},
}


@pytest.fixture(scope="module")
def server(installation: Installation) -> Iterator[Cluster]:
    """A server on this host, for which all roles exist."""
    with Cluster(installation, settings={"autovacuum": "off"}) as made:
        create_role(made, "plain")
        create_role(made, "monitor", "pg_monitor")
        yield made


# --- disks ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("user", "tcp"), [(None, False), (None, True), ("monitor", False)])
def test_a_disk_of_this_host_is_measured(server: Cluster, user: str | None, tcp: bool) -> None:
    result = looked(server, *DISKS, user=user, tcp=tcp, thresholds=NEVER)
    seen = os.statvfs(server.data)
    percent = 100.0 * seen.f_bavail / (seen.f_blocks - seen.f_bfree + seen.f_bavail)
    assert (result["status"], result["findings"]) == ("ok", [])
    assert result["metrics"]["disk.free_pct[data]"] == pytest.approx(percent, abs=5)
    assert result["metrics"]["disk.free_bytes[data]"] == pytest.approx(seen.f_bavail * seen.f_frsize, rel=0.2)
    # The WAL lies on the same one.
    assert "(also wal)" in check_of(result, "disk.free_pct")["message"]
    assert [name for name in result["metrics"] if name.startswith("disk.free_bytes")] == ["disk.free_bytes[data]"]
    assert check_of(result, "disk.days_left")["status"] == "skipped"
    assert result["round_trips"] == 2


def test_a_full_disk_is_found(server: Cluster) -> None:
    full = {"disk.free_pct": {"warning": 100, "critical": 0}}
    assert finding(looked(server, *DISKS, thresholds=full), "disk.free_pct[data]")["severity"] == "warning"
    full = {"disk.free_pct": {"warning": 100, "critical": 100}}
    assert finding(looked(server, *DISKS, user="monitor", thresholds=full), "disk.free_pct[data]")["severity"] == "critical"


def test_a_role_that_may_not_see_where_the_data_are(server: Cluster) -> None:
    result = looked(server, *DISKS, user="plain")
    for check in DISKS:
        found = finding(result, check)
        grant = 'As a superuser: GRANT pg_read_all_settings TO "plain";'
        assert (found["severity"], found["value"], found["action"]) == ("unknown", None, grant)


def test_a_tablespace_on_another_disk(server: Cluster, tmp_path: Path) -> None:
    places = [place for place in (Path("/dev/shm"), Path(tempfile.gettempdir())) if place.is_dir() and os.access(place, os.W_OK)]
    other = next((place for place in places if place.stat().st_dev != server.data.stat().st_dev), None)
    if other is None:
        pytest.skip("there is no other disk")
    with tempfile.TemporaryDirectory(dir=other) as folder, server.connect() as session:
        server_account().own(Path(folder))
        session.execute(f"CREATE TABLESPACE \"Fast %s\" LOCATION '{folder}'")  # type: ignore[call-overload]
        result = looked(server, *DISKS, user="monitor", thresholds=NEVER)
        session.execute('DROP TABLESPACE "Fast %s"')
    names = {name for name in result["metrics"] if name.startswith("disk.free_bytes")}
    assert names == {"disk.free_bytes[data]", "disk.free_bytes[tablespace Fast %s]"}


def falling(server: Cluster, days_left: float | None) -> History:
    """Return ten days of a disk that is full in so many days, or gets emptier."""
    seen = os.statvfs(server.data)
    free, now = seen.f_bavail * seen.f_frsize, time.time()
    a_day = free / days_left if days_left else -(1 << 30)
    series = {"disk.free_bytes[data]": [(now - day * DAY, free + day * a_day) for day in range(10, 0, -1)]}
    return History(state=THERE, series=series, now=now)


@pytest.mark.parametrize("days", [5, 20, 400])
def test_a_disk_that_runs_out(server: Cluster, days: int) -> None:
    (reading,), _look = readings(server, "disk.days_left", history=falling(server, days))
    assert reading.object_name == "data"
    assert reading.amount is not None
    assert reading.amount / DAY == pytest.approx(days, rel=0.3)
    assert f"{format_days(reading.amount)} days" in reading.message


def format_days(seconds: float) -> str:
    """Return a number of days as a message has it."""
    return f"{seconds / DAY:.0f}"


def test_a_disk_that_does_not_run_out(server: Cluster) -> None:
    (reading,), _look = readings(server, "disk.days_left", history=falling(server, None))
    assert (reading.status, reading.amount, "not getting less" in reading.message) == (None, None, True)
    (reading,), _look = readings(server, "disk.days_left", history=History(state=THERE, now=time.time()))
    assert (reading.status, reading.message) == ("skipped", "no history yet")


def test_an_account_that_may_not_look_inside(server: Cluster) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    # As a packaged server has it: everybody may see the data directory, and only its owner may enter it.
    mode = server.folder.stat().st_mode
    server.folder.chmod(0o755)
    with connect(options(Database(server, "postgres")), application_name="pgops.runbook/pg_health", read_only=True) as session:
        os.seteuid(65534)
        try:
            disk, unseen = disks._disks(Look(session, None))
        finally:
            os.seteuid(0)
            server.folder.chmod(mode)
    assert isinstance(disk, disks.Disk)
    assert (disk.name, disk.holds) == ("data", ("data",))
    assert isinstance(unseen, tuple)
    assert (unseen[0], unseen[1].message) == ("wal", f"{server.data}/pg_wal cannot be seen: Permission denied")
    assert unseen[1].hint == "Run the check as the server's account or as root."


# --- the host ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", [None, "monitor", "plain"])
def test_load_and_memory_of_this_host(server: Cluster, user: str | None) -> None:
    result = looked(server, *HOST, user=user, thresholds=NEVER)
    assert (result["status"], result["findings"], result["round_trips"]) == ("ok", [], 2)
    assert result["metrics"]["host.load"] == pytest.approx(100 * os.getloadavg()[2] / (os.cpu_count() or 1), abs=30)
    assert 0 < result["metrics"]["host.memory_pct"] <= 100
    assert result["metrics"]["host.memory_bytes"] > 0
    thresholds = {"host.load": {"critical": -1}, "host.memory_pct": {"warning": 0, "critical": 100}}
    result = looked(server, *HOST, user=user, thresholds=thresholds)
    assert finding(result, "host.load")["severity"] == "critical"
    assert finding(result, "host.memory_pct")["severity"] == "warning"


@pytest.mark.parametrize("process", ["none", "another program", "another server"])
def test_a_server_that_may_be_elsewhere_is_not_measured(
    server: Cluster, process: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As behind a tunnel, a pooler, or the wall of a container: both ends look local, and the process is none of the server.
    monkeypatch.setattr(same_host, "PROCESSES", Processes(tmp_path, process))
    for tcp in (False, True):
        result = looked(server, *DISKS, *HOST, tcp=tcp)
        for check in (*DISKS, *HOST):
            found = finding(result, check)
            assert (found["severity"], found["value"]) == ("unknown", None)
            assert "nothing shows that the server runs on this host" in found["message"]
            assert "server's own host" in found["action"]
        assert not [name for name in result["metrics"] if name.startswith("disk.free_bytes")]


class Processes:
    """A folder in which every process is there, or none."""

    def __init__(self, folder: Path, process: str) -> None:
        self.folder = folder
        if process != "none":
            (folder / "cmdline").write_bytes(b"postgres: 17/main" if process == "another server" else b"sleep\0")
            (folder / "cwd").symlink_to(folder)

    def __truediv__(self, _process: str) -> Path:
        return self.folder


def test_a_server_on_another_address_is_elsewhere(server: Cluster) -> None:
    # What the server says of a client that is not on its host.
    (reading,), look = readings(server, "host.load")
    assert reading.status is None
    look.facts._answers[same_host.HOST] = {"process": 1, "server": "10.0.0.1", "client": "10.0.0.2", "data": "/data"}
    with pytest.raises(Exception, match=r"another host \(10.0.0.1\) than this program \(10.0.0.2\)"):
        same_host.same_host(look)


def test_only_what_is_said_is_expected_of_a_load(server: Cluster) -> None:
    assert status_of(looked(server, "host.load"), "host.load") == "ok"
