"""A run that is killed leaves no backup that is none, no child, and nothing that the next run does not clear."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing
from tests.integration.backing import back_up
from tests.integration.children import processes, until

pytestmark = pytest.mark.any_driver

# The engine in a process of its own, which can be killed.
RUN = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from ansible_collections.pgops.runbook.plugins.module_utils._backup import engine, interrupt
from ansible_collections.pgops.runbook.plugins.module_utils._backup.options import read_options
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
with interrupt.taking_back():
    print("begun", flush=True)
    engine.back_up(ConnectionOptions.from_params(json.loads(sys.argv[2])), read_options(json.loads(sys.argv[3])))
"""
# A parent that leaves it to the system to forget how programs end.
FORGETTING = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.fixture(scope="module")
def tim(cluster: Cluster) -> Iterator[Database]:
    """A filled database that no test changes."""
    with backing.filled(cluster, "backup_killed") as database:
        yield database


def started(database: Database, folder: Path, through: Sequence[str] = (), **options: object) -> subprocess.Popen[bytes]:
    """Start a backup in a process of its own, by the command `through`, and return it once it is at work."""
    given = {"folder": str(folder), "bin_dir": backing.bin_dir(), "min_free": "1 MB", **options}
    arguments = [json.dumps(sys.path), json.dumps(database.login()), json.dumps(given)]
    command = [*through, sys.executable, "-c", RUN, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    with process.stdout as said:
        said.readline()
    return process


def programs_of(folder: Path) -> list[str]:
    """Return the programs that write into `folder` or belong to a run in it."""
    return [
        process.arguments.replace(b"\0", b" ").decode()
        for process in processes()
        if process.pid != os.getpid() and b"PGOPS_RUNBOOK_RUN=" in process.environment and str(folder).encode() in process.arguments
    ]


def expect_no_programs(folder: Path) -> None:
    """Wait until nothing of a run is left."""
    until(lambda: not programs_of(folder))


def test_whoever_forgets_how_programs_end_still_gets_a_backup(tim: Database, tmp_path: Path) -> None:
    process = started(tim, tmp_path, [sys.executable, "-c", FORGETTING])
    assert process.wait(60) == 0
    (backup,) = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert backing.row_counts(backup) == backing.ROWS


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("form", ["directory", "custom"])
def test_killed_at_any_moment(tim: Database, tmp_path: Path, form: str, number: signal.Signals) -> None:
    chance = random.Random(f"{form} {number}")
    good = backing.made(tim, tmp_path)
    for _round in range(4):
        process = started(tim, tmp_path, format=form, fresh_for="0 s")
        time.sleep(chance.uniform(0, 0.5))
        process.send_signal(number)
        process.wait(120)
        expect_no_programs(tmp_path)
        whole = [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")]
        assert good.name in whole
        if number == signal.SIGTERM:
            assert backing.left_over(tmp_path) == []
    done = back_up(tim, tmp_path, fresh_for="0 s")
    assert done["backups"][0]["action"] == "made"
    assert backing.left_over(tmp_path) == []
    for path in (path for path in tmp_path.iterdir() if not path.name.startswith(".")):
        assert backing.row_counts(path) == backing.ROWS


def test_the_next_run_ends_what_a_dead_one_has_left_and_nothing_else(tim: Database, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    (folder / ".partial-0123456789abcdef-1").mkdir(parents=True)
    (folder / ".deleted-tim.full.20200101T000000Z").mkdir()
    (folder / ".partial-0123456789abcdef-1" / "half").write_text("half", encoding="utf-8")
    (folder / "notes").mkdir()
    (folder / "notes" / "mine").write_text("mine", encoding="utf-8")
    (folder / ".hidden").write_text("mine", encoding="utf-8")
    own = {**os.environ, "PGOPS_RUNBOOK_RUN": "0123456789abcdef"}
    other = {**os.environ, "PGOPS_RUNBOOK_RUN": "0123456789abcdee"}
    # One that does not heed TERM.
    deaf = tmp_path / "deaf"
    left = subprocess.Popen(["sh", "-c", f"trap '' TERM; touch {deaf}; while :; do sleep 0.1; done"], env=own)
    stranger = subprocess.Popen(["sleep", "600"], env=other)
    try:
        until(deaf.exists)
        back_up(tim, folder)
        assert left.wait(60) == -signal.SIGKILL
        assert stranger.poll() is None
    finally:
        for process in (left, stranger):
            process.kill()
            process.wait()
    assert backing.left_over(folder) == [".hidden", "notes"]
    assert (folder / "notes" / "mine").read_text(encoding="utf-8") == "mine"


def test_a_server_that_restarts_in_mid_dump_is_a_failure_that_leaves_nothing(installation: object, tmp_path: Path) -> None:
    programs = backing.recording_bin_dir(tmp_path, backing.waiting_for(tmp_path / "go"))
    folder = tmp_path / "backups"
    with Cluster(installation) as server, backing.filled(server, "restarting") as database:  # type: ignore[arg-type]
        process = started(database, folder, bin_dir=str(programs), compression="none")
        until(lambda: backing.calls(programs))
        server.crash()
        (tmp_path / "go").touch()
        assert process.wait(60) != 0
        expect_no_programs(folder)
        assert backing.left_over(folder) == []
        server.start()
        assert back_up(database, folder)["backups"][0]["action"] == "made"
