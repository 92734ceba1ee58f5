"""What a watcher of a long run is shown, and that showing it can neither fail the run nor touch its result."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._progress import ProgressView, Publisher, named, publisher
from ansible_collections.pgops.runbook.plugins.module_utils._progress.folder import VARIABLE, ProgressFile, newest
from ansible_collections.pgops.runbook.plugins.module_utils._progress.job import JobStatus

VIEW = ProgressView("pg_cleanup", "custom.denylist", 450_000, 1_000_000, 81_234.5, 11.2)
PREFIX = "pgops.runbook/pg_cleanup"
JOB = "j123456789012"


@pytest.mark.parametrize(
    ("limit", "line"),
    [
        (80, "custom.denylist 45% 81k/s 0:12 left"),
        (35, "custom.denylist 45% 81k/s 0:12 left"),
        (34, "custom.denyli~ 45% 81k/s 0:12 left"),
        (26, "custo~ 45% 81k/s 0:12 left"),
        (25, "custom.denylist 45% 81k/s"),
        (15, "custom.den~ 45%"),
        (10, "custo~ 45%"),
        (9, "45%"),
        (2, "45"),
        (0, ""),
        (-5, ""),
    ],
)
def test_the_name_gives_way_first_then_the_time_then_the_speed(limit: int, line: str) -> None:
    assert VIEW.line(limit) == line


@pytest.mark.parametrize("table", ["a", "t.õäöü" * 9, "表" * 21, "public." + "x" * 63, "\U0001f40e" * 15])
@pytest.mark.parametrize("prefix", [PREFIX, f"{PREFIX}/1234567", "x" * 63])
def test_no_line_is_longer_than_asked_or_ends_within_a_letter(table: str, prefix: str) -> None:
    view = ProgressView("pg_cleanup", table, 999, 1000, 9_999_999.0, 359_999.0)
    for limit in range(90):
        assert len(view.line(limit).encode()) <= limit
        assert "\ufffd" not in view.line(limit)
    shown = named(prefix, view)
    assert shown.isascii()
    assert len(shown) <= 63
    assert shown.startswith(prefix)
    assert len(prefix) > 50 or "99% 10M/s 99:59:59 left" in shown


def test_a_name_cannot_steer_the_terminal() -> None:
    shown = ProgressView("pg_cleanup", 'a\x1b[2J\n"b"\x9b', 1, 2).line(80)
    assert shown == 'a?[2J?"b"? 50%'


@pytest.mark.parametrize(
    ("done", "total", "seconds", "numbers"),
    [
        (0, 0, 0.0, "0%"),
        (0, 10, 5.0, "0%"),
        (1, 3000, 3.0, "0% 0.3/s 2:29:57 left"),
        (1000, 3000, 1.0, "33% 1.0k/s 0:02 left"),
        (999_999, 1_000_000, 10.0, "99% 100k/s 0:01 left"),
        (1_000_000, 1_000_000, 1.0, "100% 1.0M/s 0:00 left"),
        (3000, 1000, 1.0, "100% 3.0k/s 0:00 left"),
        (10, 10_000_000, 10.0, "0% 1.0/s 115 d left"),
    ],
)
def test_speed_and_time_follow_from_what_was_done(done: int, total: int, seconds: float, numbers: str) -> None:
    assert ProgressView.after("pg_cleanup", "t", done, total, seconds).line(80) == f"t {numbers}"


def test_a_view_comes_back_from_what_is_published() -> None:
    found = json.loads(json.dumps(VIEW.as_mapping()))
    assert set(found) == {"operation", "table", "done", "total", "percent", "rows_per_second", "seconds_left"}
    assert found["percent"] == 45
    assert ProgressView.from_mapping(found) == VIEW
    unknown = ProgressView("pg_cleanup", "t", 0, 5)
    assert ProgressView.from_mapping(unknown.as_mapping()) == unknown


@pytest.mark.parametrize("found", [None, "45%", [], {}, {"done": "1", "total": 2}, {"done": -1, "total": 2}, {"done": True, "total": 2}])
def test_what_is_no_view_is_none(found: Any) -> None:
    assert ProgressView.from_mapping(found) is None


def watched(folder: Path) -> Publisher:
    return publisher("pg_cleanup", {VARIABLE: str(folder)})


def test_the_file_is_whole_for_its_owner_alone_and_goes_at_the_end(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    with watched(tmp_path) as watch:
        watch(VIEW)
        (path,) = tmp_path.iterdir()
        assert path.name == f"pg_cleanup.{os.getpid()}.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert newest(tmp_path) == VIEW.as_mapping()
    assert list(tmp_path.iterdir()) == []


def test_the_view_is_written_at_most_once_a_second(tmp_path: Path) -> None:
    now = 100.0
    watch = Publisher([ProgressFile(tmp_path, "pg_cleanup")], lambda: now)
    seen = []
    for tenth in range(25):
        now = 100 + tenth / 10
        watch(ProgressView("pg_cleanup", "t", tenth, 25))
        seen.append(newest(tmp_path)["done"])
    assert sorted(set(seen)) == [0, 10, 20]


def test_nobody_watching_costs_nothing() -> None:
    watch = publisher("pg_cleanup", {})
    assert watch._places == []
    watch(VIEW)
    watch.close()


def test_a_folder_that_is_not_there_or_goes_away_stops_nothing(tmp_path: Path) -> None:
    with watched(tmp_path / "never") as watch:
        watch(VIEW)
    folder = tmp_path / "gone"
    folder.mkdir()
    with watched(folder) as watch:
        watch(VIEW)
        (path,) = folder.iterdir()
        path.unlink()
        folder.rmdir()
        watch._next = None
        watch(VIEW)
    assert list(tmp_path.iterdir()) == []


def test_no_link_of_someone_else_is_followed(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "shared"
    victim.write_text("kept", encoding="utf-8")
    folder.mkdir()
    (folder / f"pg_cleanup.{os.getpid()}.json").symlink_to(victim)
    with watched(folder) as watch:
        watch(VIEW)
        assert newest(folder) == VIEW.as_mapping()
    assert victim.read_text(encoding="utf-8") == "kept"


class Wrapper:
    """Does with the status file of a job what Ansible's async_wrapper does with it."""

    def __init__(self, top: Path) -> None:
        self.jobs, self.processes = top / "jobs", top / "processes"
        self.jobs.mkdir()
        self.path = self.jobs / f"{JOB}.4242"
        self.write({"started": True, "finished": False, "ansible_job_id": self.path.name})
        self.command(
            "/usr/bin/python3", "/home/x/.ansible/tmp/ansible-tmp-1/AnsiballZ_async_wrapper.py", JOB, "60", "/home/x/module.py", "_"
        )

    def command(self, *words: str) -> None:
        place = self.processes / str(os.getppid())
        place.mkdir(parents=True, exist_ok=True)
        (place / "cmdline").write_bytes("\0".join([*words, ""]).encode())

    def write(self, status: dict[str, Any]) -> None:
        fresh = self.path.with_name(self.path.name + ".tmp")
        fresh.write_text(json.dumps(status), encoding="utf-8")
        fresh.rename(self.path)

    def poll(self) -> dict[str, Any]:
        """Return what async_status makes of the file."""
        try:
            found: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError:
            return {"started": True, "finished": False}
        return {**found, "finished": found.get("finished", "started" not in found)}

    def find(self) -> JobStatus | None:
        return JobStatus.find({"ANSIBLE_ASYNC_DIR": str(self.jobs)}, self.processes)


@pytest.fixture
def wrapper(tmp_path: Path) -> Wrapper:
    return Wrapper(tmp_path)


def test_a_poll_sees_the_view_and_that_the_task_runs(wrapper: Wrapper) -> None:
    status = wrapper.find()
    assert status
    for view in (ProgressView("pg_cleanup", "x" * 120, 10**12, 10**13, 1e9, 1e9), VIEW):
        status.show(view.as_mapping())
        expected = {"started": True, "finished": False, "ansible_job_id": f"{JOB}.4242", "progress": view.as_mapping()}
        assert wrapper.poll() == expected
    status.close()
    assert [path.name for path in wrapper.jobs.iterdir()] == [f"{JOB}.4242"]


@pytest.mark.parametrize("found", [(JOB[:-1], "60"), ("j1; rm", "60"), ()])
def test_a_process_that_is_not_this_job_finds_no_file(wrapper: Wrapper, found: tuple[str, ...]) -> None:
    wrapper.command("python3", "async_wrapper.py", *found)
    assert wrapper.find() is None
    wrapper.command("python3", "something.py", JOB, "60")
    assert wrapper.find() is None
    assert JobStatus.find({"ANSIBLE_ASYNC_DIR": str(wrapper.jobs)}, wrapper.processes / "none") is None
    assert JobStatus.find({}, wrapper.processes) is None


@pytest.mark.parametrize(
    "content",
    ['{"rc": 0, "changed": true}', '{"failed": true, "msg": "Timeout exceeded", "child_pid": 7}', "", "[]", "{"],
)
def test_a_file_that_does_not_say_that_the_task_runs_is_left_alone(wrapper: Wrapper, content: str) -> None:
    wrapper.path.write_text(content, encoding="utf-8")
    assert wrapper.find() is None
    assert wrapper.path.read_text(encoding="utf-8") == content


def test_the_result_always_has_the_last_word(wrapper: Wrapper) -> None:
    result = {"changed": True, "removed": 5, "msg": "x" * 3000}
    for _attempt in range(100):
        wrapper.write({"started": 1, "finished": 0, "ansible_job_id": wrapper.path.name})
        status = wrapper.find()
        assert status
        begun, over = threading.Event(), threading.Event()

        def show(status: JobStatus = status, begun: threading.Event = begun, over: threading.Event = over) -> None:
            watch = Publisher([status])
            while not over.is_set():
                watch._next = None
                watch(VIEW)
                begun.set()
            watch(VIEW)
            watch.close()

        writer = threading.Thread(target=show)
        writer.start()
        assert begun.wait(60)
        wrapper.write(result)
        seen = [wrapper.poll() for _look in range(5)]
        over.set()
        writer.join()
        assert [*seen, wrapper.poll()] == [{**result, "finished": True}] * 6


def test_even_a_result_in_the_same_file_is_not_touched(wrapper: Wrapper) -> None:
    status = wrapper.find()
    assert status
    status.show(VIEW.as_mapping())
    wrapper.path.write_text('{"removed": 5}', encoding="utf-8")
    with pytest.raises(OSError, match="replaced"):
        status.show(VIEW.as_mapping())
    assert wrapper.poll() == {"removed": 5, "finished": True}


def test_a_poll_never_takes_a_view_for_a_result(wrapper: Wrapper) -> None:
    status = wrapper.find()
    assert status
    over = threading.Event()
    views = [ProgressView("pg_cleanup", "t" * length, length, 60, float(length), 1.0).as_mapping() for length in range(60)]

    def show() -> None:
        while not over.is_set():
            for view in views:
                status.show(view)

    writer = threading.Thread(target=show)
    writer.start()
    polls = [wrapper.poll() for _look in range(3000)]
    over.set()
    writer.join()
    status.close()
    assert [poll for poll in polls if poll["finished"] or not poll["started"]] == []
    assert [poll for poll in polls if "progress" in poll] != []
