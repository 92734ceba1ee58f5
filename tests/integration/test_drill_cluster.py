"""The scratch server of a drill: shut off from everything, gone with its run, and cleared when that was killed."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._connection import connect
from ansible_collections.pgops.runbook.plugins.module_utils._drill import scratch
from ansible_collections.pgops.runbook.plugins.module_utils._drill.account import server_account
from ansible_collections.pgops.runbook.plugins.module_utils._drill.cluster import FASTER, ScratchCluster, without_libpq_environment
from ansible_collections.pgops.runbook.plugins.module_utils._drill.scratch import ScratchFolder, clear_leftovers
from ansible_collections.pgops.runbook.plugins.module_utils._drill.servers import find_server
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, ProgramFailed, ProgramMissing
from tests.ground import runner, servers
from tests.integration.children import told, until, working_in

pytestmark = pytest.mark.any_driver

# What a run does until it is killed: `argv` are the folder and the programs.
HELD = """
import sys, time
from ansible_collections.pgops.runbook.plugins.module_utils._drill.account import server_account
from ansible_collections.pgops.runbook.plugins.module_utils._drill.cluster import ScratchCluster
from ansible_collections.pgops.runbook.plugins.module_utils._drill.scratch import ScratchFolder
from ansible_collections.pgops.runbook.plugins.module_utils._drill.servers import find_server
account = server_account(None)
folder = ScratchFolder.make(sys.argv[1], account)
cluster = ScratchCluster(find_server(12, sys.argv[2], account), folder, account, jobs=1)
cluster.begin()
print("begun", flush=True)
cluster.start()
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def started(place: Path, installation: servers.Installation) -> Iterator[ScratchCluster]:
    """A scratch server."""
    account = server_account(None)
    folder = ScratchFolder.make(str(place), account)
    programs = find_server(installation.major, str(installation.bin_dir), account)
    try:
        with ScratchCluster(programs, folder, account, jobs=2) as cluster:
            cluster.begin()
            cluster.start()
            yield cluster
    finally:
        folder.remove()
    assert list(place.iterdir()) == []


def test_it_listens_nowhere_and_takes_nothing_of_a_server_at_work(
    started: ScratchCluster, installation: servers.Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    monkeypatch.setenv("PGSERVICE", "production")
    with without_libpq_environment():
        started.name_superuser("Boss 'x'", "test")
        database = connect(started.login(), application_name="test", read_only=False)
    with database:
        shown = {name: database.value(f"SHOW {name}") for name in ("listen_addresses", "archive_mode", "shared_preload_libraries")}
        folder = database.value("SHOW data_directory")
        assert database.user == "Boss 'x'"
        assert database.value("SELECT rolname FROM pg_roles WHERE oid = 10") == "Boss 'x'"
        if installation.major >= 17:
            shown["event_triggers"] = database.value("SHOW event_triggers")
        assert {name: database.value(f"SHOW {name}") for name in FASTER} == FASTER
    assert os.environ["PGHOSTADDR"] == "127.0.0.1"
    assert folder == str(started.data)
    expected = {"listen_addresses": "", "archive_mode": "off", "shared_preload_libraries": ""}
    assert shown == ({**expected, "event_triggers": "off"} if installation.major >= 17 else expected)
    assert started.data.parent.stat().st_mode & 0o777 == 0o700
    # An account that owns nothing, and not the one whose files production's are.
    assert started.data.stat().st_uid == (pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid())


def test_nothing_that_is_restored_can_change_its_settings(started: ScratchCluster) -> None:
    started.name_superuser("postgres", "test")
    with connect(started.login(), application_name="test", read_only=False) as database:
        database.execute("ALTER SYSTEM SET local_preload_libraries TO 'auto_explain'")
        database.value("SELECT pg_catalog.pg_reload_conf()")
    with connect(started.login(), application_name="test", read_only=False) as database:
        sources = database.rows("SELECT s.name, s.source FROM pg_catalog.pg_settings s WHERE s.source = 'command line'")
        assert database.value("SHOW local_preload_libraries") == ""
    assert {"archive_mode", "listen_addresses", "local_preload_libraries"} <= {row["name"] for row in sources}


def test_the_end_of_its_log_is_not_read_through_a_link(started: ScratchCluster, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of root alone", encoding="ascii")
    started.log.unlink()
    started.log.symlink_to(secret)
    assert started.log_tail() == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take the network away")
def test_it_has_no_network_where_root_starts_it(started: ScratchCluster) -> None:
    assert started.has_network is False


@pytest.mark.parametrize("stage", ["begun", "started"])
def test_a_killed_run_leaves_no_server_and_the_next_one_clears_its_folder(
    place: Path, installation: servers.Installation, stage: str
) -> None:
    child = _held(place, installation, stage)
    folder = next(place.iterdir())
    assert clear_leftovers(str(place)) == []
    assert working_in(folder)
    child.send_signal(signal.SIGKILL)
    child.wait()
    until(lambda: not working_in(folder))
    assert folder.exists()
    # What the run was about to start, and is not another program yet, still has its lock for a moment.
    assert until(lambda: clear_leftovers(str(place))) == [str(folder)]
    assert list(place.iterdir()) == []


def test_a_server_that_outlived_its_run_is_ended_by_the_next(place: Path, installation: servers.Installation) -> None:
    child = _held(place, installation, "started")
    folder = next(place.iterdir())
    # The signal that tells of the end of the run never reaches a process that is stopped.
    for process in working_in(folder):
        told(process.pid, signal.SIGSTOP)
    child.kill()
    child.wait()
    assert working_in(folder)
    assert clear_leftovers(str(place)) == [str(folder)]
    assert working_in(folder) == []


def _gone_before(open_: Callable[[Path], int], path: Path) -> int:
    path.rmdir()
    return open_(path)


def _gone_after(open_: Callable[[Path], int], path: Path) -> int:
    handle = open_(path)
    path.rmdir()
    return handle


@pytest.mark.parametrize("moment", [_gone_before, _gone_after])
def test_a_folder_whose_run_ends_just_now_is_no_leftover(place: Path, monkeypatch: pytest.MonkeyPatch, moment: Callable[..., int]) -> None:
    """Drills that go on at once on a host share the folder above theirs."""
    (place / f"{scratch.PREFIX}00000000").mkdir()
    real = scratch._open
    monkeypatch.setattr(scratch, "_open", lambda path: moment(real, path))
    assert clear_leftovers(str(place)) == []


def test_a_folder_that_another_run_clears_before_it_is_locked_is_made_anew(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    real = scratch._open

    def late(path: Path) -> int:
        made.append(path)
        if len(made) == 1:
            path.rmdir()
        return real(path)

    monkeypatch.setattr(scratch, "_open", late)
    folder = ScratchFolder.make(str(place), server_account(None))
    assert [folder.path, folder.server.is_dir()] == [made[1], True]
    folder.remove()
    assert list(place.iterdir()) == []


def test_folders_of_others_stay(place: Path) -> None:
    (place / "pgops-drill-elsewhere").symlink_to("/etc")
    (place / "pgops-drill-file").write_text("x", encoding="ascii")
    assert clear_leftovers(str(place)) == []
    assert len(list(place.iterdir())) == 2


def test_a_folder_that_cannot_be_is_named(place: Path, tmp_path: Path) -> None:
    account = server_account(None)
    with pytest.raises(InvalidValue, match=r"scratch_folder: .* is too long for the path of a socket"):
        ScratchFolder.make(str(place / ("x" * 100)), account)
    with pytest.raises(InvalidValue, match=r"scratch_folder: no folder can be made in .*: No such file"):
        ScratchFolder.make(str(place / "none"), account)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user can enter the own folders")
def test_a_folder_that_the_account_cannot_enter_is_said(place: Path, installation: servers.Installation) -> None:
    account = server_account(None)
    place.chmod(0o700)
    folder = ScratchFolder.make(str(place), account)
    programs = find_server(installation.major, str(installation.bin_dir), account)
    with ScratchCluster(programs, folder, account, jobs=1) as cluster:
        cluster.begin()
        with pytest.raises(ProgramFailed) as caught:
            cluster.start()
    assert "initdb ended with code 1" in caught.value.message
    assert "Permission denied" in caught.value.message
    assert "scratch_folder" in str(caught.value.hint)
    folder.remove()


def test_the_server_of_the_same_major_or_a_newer_one_is_found(installation: servers.Installation, tmp_path: Path) -> None:
    account = server_account(None)
    assert find_server(12, str(installation.bin_dir), account).major == installation.major
    with pytest.raises(InvalidValue, match=f"server_bin_dir: .* has PostgreSQL {installation.major}, older than the backup's 99"):
        find_server(99, str(installation.bin_dir), account)
    with pytest.raises(ProgramMissing, match="no server of PostgreSQL 99 or newer is installed"):
        find_server(99, None, account)
    with pytest.raises(InvalidValue, match="has no postgres and initdb"):
        find_server(12, str(tmp_path), account)


def test_accounts_that_cannot_run_a_server_are_refused() -> None:
    if os.geteuid() == 0:
        for name, message in (("root", "refuses to run as root"), ("no-such-account", "there is no account no-such-account")):
            with pytest.raises(InvalidValue, match=message):
                server_account(name)
        assert server_account(None).switch
    else:
        with pytest.raises(InvalidValue, match="only root can run a server as root"):
            server_account("root")
        assert not server_account(None).switch


def _held(place: Path, installation: servers.Installation, stage: str) -> subprocess.Popen[str]:
    """Start a run and return when it has come to `stage`."""
    environment = {**os.environ, "PYTHONPATH": str(runner.collections_path())}
    command = [sys.executable, "-c", HELD, str(place), str(installation.bin_dir)]
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == stage:
            return child
    raise AssertionError(f"the run ended with {child.wait()}")
