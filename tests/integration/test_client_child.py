"""A child never outlives its run, says what went wrong without secrets, and inherits nothing."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._client import child as child_programs
from ansible_collections.pgops.runbook.plugins.module_utils._client.child import MASK, PIPE, Child, run
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ProgramFailed, ProgramMissing
from tests.ground import runner
from tests.ground.databases import Database
from tests.integration.children import Process, children, group, standing_still, until

pytestmark = pytest.mark.any_driver


KILLED = """
import sys
import threading
sys.path.insert(0, sys.argv[1])
from ansible_collections.pgops.runbook.plugins.module_utils._client.child import Child
with Child(sys.argv[2:]) as child:
    print(child.pid, flush=True)
    child.wait()
"""


IN_A_THREAD = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.pgops.runbook.plugins.module_utils._backup.beside import Beside
from ansible_collections.pgops.runbook.plugins.module_utils._client.child import Child
with Beside(lambda tick: Child(["sh", "-c", "sleep 0.1; exit 3"]).wait()) as beside:
    print(beside.result(lambda: None, 0.05))
"""


def shell(script: str, **options: object) -> Child:
    return Child(["sh", "-c", script], **options)  # type: ignore[arg-type]


# --- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "code", "how"), [("exit 3", 3, "exit code 3"), ("kill -9 $$", -9, "signal SIGKILL")])
def test_a_failure_says_how_it_ended_and_what_it_said(script: str, code: int, how: str) -> None:
    with shell(f"echo 'no such thing' >&2; {script}") as child, pytest.raises(ProgramFailed) as failed:
        child.check()
    assert (failed.value.program, failed.value.code, failed.value.said) == ("sh", code, "no such thing")
    assert how in str(failed.value)
    assert "no such thing" in str(failed.value)


def test_a_full_disk_is_recognised() -> None:
    with shell("echo 'could not write: No space left on device' >&2; exit 1") as child:
        child.wait()
        assert "Make room" in (child.failure().hint or "")


def test_the_end_of_the_block_ends_the_program_and_what_it_started() -> None:
    with shell("sleep 600 & sleep 600") as child:
        until(lambda: len(group(child.pid)) == 3)
    assert group(child.pid) == []
    assert child.poll() == -signal.SIGTERM


def test_what_a_program_leaves_behind_goes_with_it() -> None:
    with shell("sleep 600 & exit 0") as child:
        assert child.wait() == 0
    assert group(child.pid) == []


def test_a_program_that_does_not_hear_is_killed() -> None:
    with shell("trap '' TERM; echo deaf; sleep 600 & sleep 600", stdout=PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(4) == b"deaf"
        child.end(patience=0.05)
        assert child.poll() == -signal.SIGKILL
        assert group(child.pid) == []


def test_a_stopped_program_ends_too() -> None:
    with shell("sleep 600") as child:
        child.signal(signal.SIGSTOP)
    assert group(child.pid) == []


def test_what_a_tick_raises_ends_the_program() -> None:
    class Enough(Exception):
        pass

    def tick() -> None:
        raise Enough

    with pytest.raises(Enough), shell("sleep 600") as child:
        child.wait(tick, every=0.01)
    assert group(child.pid) == []
    assert child.poll() == -signal.SIGTERM


def test_a_program_that_is_missing_is_named_with_its_package() -> None:
    with pytest.raises(ProgramMissing, match="rclone-of-nowhere"):
        Child(["/nowhere/rclone-of-nowhere"])
    with pytest.raises(ProgramMissing) as missing:
        Child(["/nowhere/gpg"])
    assert "gnupg" in (missing.value.hint or "")


@pytest.mark.parametrize(
    ("script", "code"),
    [(KILLED.replace("print(child.pid, flush=True)", "print(child.wait())"), 1), (IN_A_THREAD, 3)],
    ids=["in the main thread", "in another"],
)
def test_ends_are_seen_also_where_a_parent_had_them_forgotten(script: str, code: int) -> None:
    command = [sys.executable, "-c", script, str(runner.collections_path()), "false"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN) and None
    )
    assert done.stdout == f"{code}\n"


# --- what it says -----------------------------------------------------------------------------------------------------


def test_a_flood_of_messages_blocks_nothing_and_keeps_beginning_and_end() -> None:
    with shell("echo first >&2; yes filling | head -c 20000000 >&2; echo last >&2; exit 1") as child:
        assert child.wait() == 1
        said = child.said()
    assert said.startswith("first\n")
    assert said.endswith("\nlast")
    assert len(said) < 10000
    assert "lines left out" in said


def test_an_endless_line_is_cut() -> None:
    with shell("head -c 5000000 /dev/zero | tr '\\0' x >&2; echo; exit 1") as child:
        child.wait()
        assert len(child.said()) < 5000


def test_every_line_can_be_heard_without_secrets() -> None:
    heard: list[str] = []
    with (
        shell(
            "echo 'the word is hunter2'; echo 'it was hunter2' >&2; echo two >&2; exit 1", secrets=["hunter2"], on_line=heard.append
        ) as child,
        pytest.raises(ProgramFailed) as failed,
    ):
        child.check()
    assert heard == [f"it was {MASK}", "two"]
    assert "hunter2" not in json.dumps(failed.value.as_result())


def test_nobody_reads_from_a_program_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)

    def tick() -> None:
        raise KeyboardInterrupt

    collect = child_programs._collect

    def late(*given: Any) -> None:
        time.sleep(0.1)
        collect(*given)

    monkeypatch.setattr(child_programs, "_collect", late)
    with pytest.raises(ProgramFailed):
        run(["false"])
    with pytest.raises(KeyboardInterrupt):
        run(["sleep", "600"], tick=tick)
    time.sleep(0.2)
    assert failed == []


def test_the_output_of_a_short_program_comes_back() -> None:
    assert run(["echo", "ünïçødé"]) == "ünïçødé\n"
    with pytest.raises(ProgramFailed):
        run(["false"])


# --- what it gets -----------------------------------------------------------------------------------------------------


def test_nothing_that_is_open_here_is_open_there(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)
        with shell("sleep 600") as child:
            seen = until(lambda: [one for one in group(child.pid) if one.arguments.startswith(b"sleep")])
            assert [name for one in seen for name in one.files if ".lock" in name] == []


def test_its_files_are_its_owners_alone(tmp_path: Path) -> None:
    run(["sh", "-c", 'touch "$0/made"; mkdir "$0/folder"', str(tmp_path)])
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o700


def test_the_password_of_this_process_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    assert "hunter2" not in run(["env"])


# --- killed -----------------------------------------------------------------------------------------------------------


def started(*command: str) -> tuple[subprocess.Popen[str], int]:
    """Start a run that has one child, and return the run and the child's number."""
    parent = subprocess.Popen([sys.executable, "-c", KILLED, str(runner.collections_path()), *command], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as said:
        return parent, int(said.readline())


def test_a_killed_run_leaves_no_child() -> None:
    parent, number = started("sleep", "600")
    parent.kill()
    parent.wait()
    until(lambda: not group(number))
    assert group(number) == []


def test_a_killed_run_leaves_no_worker_of_pg_dump(database: Database, tmp_path: Path) -> None:
    with database.connect() as connection:
        for number in range(4):
            connection.execute(f"CREATE TABLE t{number} AS SELECT md5(g::text) AS c FROM generate_series(1, 200000) g")
    program = str(database.cluster.installation.program("pg_dump"))
    target = ["-f", str(tmp_path / "dump"), "-d", database.cluster.conninfo(database.name)]
    parent, number = started(program, "-Fd", "-j4", "-Z9", *target)
    busy = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY %'"
    # Their servers stop, so that the workers are in the middle of their tables for as long as we look.
    with standing_still(pid for (pid,) in until(lambda: database.query(busy))):
        assert len(until(lambda: group(number))) > 1
        parent.kill()
        parent.wait()
        until(lambda: not group(number))
    until(lambda: not database.query(busy))
    assert group(number) == []


def test_a_leader_that_is_killed_takes_its_workers_along() -> None:
    with shell("sleep 600 & sleep 600 & wait") as child:
        until(lambda: len(group(child.pid)) == 3)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        until(lambda: not group(child.pid))
    assert [one for one in children() if isinstance(one, Process) and one.group == child.pid] == []
