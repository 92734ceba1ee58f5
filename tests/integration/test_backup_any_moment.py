"""kill -9 at each step that a run takes in its folder: no name is ever taken by half a backup, and the next run clears the rest."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import read_manifest
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, handmade
from tests.integration.test_backup_killed import expect_no_programs

pytestmark = pytest.mark.any_driver

# What changes a folder or starts a program. The interpreter tells its hooks of each before it happens.
STEPS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "subprocess.Popen", "fcntl.flock")
OLD = timedelta(days=3)


@pytest.fixture(scope="module")
def tim(cluster: Cluster) -> Iterator[Database]:
    """A filled database that no test changes."""
    with backing.filled(cluster, "any_moment") as database:
        yield database


@pytest.fixture(scope="module")
def old(cluster: Cluster, tim: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole backup of it, three days old, which a new one makes superfluous."""
    made = backing.made(tim, tmp_path_factory.mktemp("new"))
    moment = datetime.now(UTC) - OLD
    older = made.with_name(made.name[:-16] + moment.strftime("%Y%m%dT%H%M%SZ"))
    made.rename(older)
    document = {**backing.manifest(older), "id": older.name}
    for key in ("started_at", "finished_at"):
        document[key] = moment.isoformat()
    document["snapshot"]["at"] = moment.isoformat()
    document.pop("sha256")
    return handmade.seal(older, document)


def counting(folder: Path, act: Callable[[int, str], None]) -> Callable[[str, tuple[Any, ...]], None]:
    """Return a hook that calls `act` with the number and the kind of each step of this process below `folder` that changes something."""
    # A hook is called in whatever thread takes the step.
    numbers, here = itertools.count(1), os.fsencode(folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in STEPS:
            return
        if event == "open" and (len(arguments) < 3 or not isinstance(arguments[2], int) or not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate"):
            named = arguments[0]
            # What is removed by its name below an open folder has no path here.
            relative = event in ("os.remove", "os.rmdir") and isinstance(named, str | bytes) and not os.fsdecode(named).startswith("/")
            if not relative and not (isinstance(named, str | bytes | os.PathLike) and os.fsencode(named).startswith(here)):
                return
        act(next(numbers), event)

    return hook


def ended_at(step: int, tim: Database, folder: Path, report: Path | None = None) -> int:
    """Run a backup in a child that is killed before its step number `step`; return how the child ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, 2)

            def act(number: int, event: str) -> None:
                if number == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                if report is not None:
                    handle = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                    os.write(handle, f"{event}\n".encode())
                    os.close(handle)

            sys.addaudithook(counting(folder, act))
            backing.back_up(tim, folder, keep={"count": 1}, format="directory", compression="zstd", jobs=2)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def expect_only_whole_ones(folder: Path) -> list[str]:
    """Look into every backup that has a name, and return the names."""
    named = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in named:
        found = handmade.look(path, "checksum")
        assert found.ok, (path.name, found.message)
        assert backing.row_counts(path) == backing.ROWS
        assert read_manifest(path)["verified"]["how"] == "decode"
    return [path.name for path in named]


def test_killed_at_one_step_after_another(tim: Database, old: Path, tmp_path: Path) -> None:
    def filled(name: str) -> Path:
        shutil.copytree(old, tmp_path / name / old.name)
        return tmp_path / name

    assert ended_at(0, tim, filled("whole"), tmp_path / "steps") == 0
    events = (tmp_path / "steps").read_text(encoding="ascii").splitlines()
    # All that are next to a change of a name, and of the others every third.
    steps = [number for number in range(1, len(events) + 1) if number % 3 == 0 or "os.rename" in events[max(0, number - 2) : number + 1]]
    after = expect_only_whole_ones(tmp_path / "whole")
    assert len(after) == 1
    assert old.name not in after
    published, partial, gone = 0, 0, 0
    for step in steps:
        folder = filled(f"step-{step}")
        assert ended_at(step, tim, folder) == -signal.SIGKILL
        expect_no_programs(folder)
        names = expect_only_whole_ones(folder)
        hidden = {path.name.partition("-")[0] for path in folder.iterdir() if path.name.startswith(".")} - {".lock"}
        partial += hidden == {".partial"}
        gone += hidden == {".deleted"}
        published += len(names) == 2
        # The last good one stays until another has its place.
        assert names == [old.name] or old.name in names or len(names) == 1
        assert names
        # One run later nothing tells of it.
        if step % 9 == 0 or step == steps[-1]:
            result = backing.back_up(tim, folder, keep={"count": 1})
            assert result["backups"][0]["action"] == ("present" if names != [old.name] else "made")
            assert len(expect_only_whole_ones(folder)) == 1
            assert backing.left_over(folder) == []
        shutil.rmtree(folder)
    # Each kind of moment was among them.
    assert min(published, partial, gone) > 0, (published, partial, gone, events)
