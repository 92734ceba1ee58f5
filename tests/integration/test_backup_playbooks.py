"""Backups from the playbook `backup` and from those of a schedule: what is made, told, left alone, and kept from harm where one fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.runner import AnsibleRunner, PlaybookResult
from tests.integration import backing
from tests.integration.protecting import host_of, made, printed
from tests.integration.scheduling import DEAD, block, in_turn, summaries

pytestmark = [pytest.mark.any_driver, pytest.mark.xdist_group("backup_playbooks")]

OLD_EVENTS = "SELECT count(*) FROM shop.events WHERE what = 'event 1'"


@pytest.fixture(scope="module")
def shops(cluster: Cluster) -> Iterator[list[Database]]:
    """Three databases alike."""
    databases = [Database.create(cluster, f"playbooks_{number}") for number in range(3)]
    for database in databases:
        backing.fill(database)
    yield databases
    for database in databases:
        database.drop()


@dataclass
class Course:
    """Runs of the playbook `backup` over one host that has a folder and one that has none, and what stood there after each."""

    folder: Path
    checked: PlaybookResult
    after_check: bool
    first: PlaybookResult
    second: PlaybookResult
    asked: PlaybookResult


@pytest.fixture(scope="module")
def course(ansible_runner: AnsibleRunner, shops: list[Database], tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The playbook in check mode, for real, again, and for one backup by its name."""
    folder = tmp_path_factory.mktemp("backup") / "backups"
    hosts = {"good": host_of(shops[0], folder)}
    checked = ansible_runner.playbook("backup", hosts, check=True)
    after_check = folder.exists()
    first = ansible_runner.playbook(
        "backup", {**hosts, "nowhere": host_of(shops[1])}, extra_vars={"backup_copies": [{"path": str(_place(folder))}]}
    )
    second = ansible_runner.playbook("backup", hosts, extra_vars={"backup_copies": [{"path": str(_place(folder))}]})
    asked = ansible_runner.playbook("backup", hosts, extra_vars={"policy": "asked, wal"})
    return Course(folder, checked, after_check, first, second, asked)


def _place(folder: Path) -> Path:
    place = folder.parent / "second place"
    place.mkdir(exist_ok=True)
    return place


def test_check_mode_says_what_would_be_made_and_writes_nothing(course: Course) -> None:
    lines = printed(course.checked, "backup_lines")
    assert course.checked.changed == 1, course.checked.stdout
    assert not course.after_check
    assert lines[0].endswith("check mode: nothing was written")
    assert any(line.strip().startswith("backup: full to make, about ") for line in lines)
    assert any("snapshot: it has to be kept away from the database server" in line for line in lines)


def test_every_backup_that_has_a_schedule_is_made_and_told(course: Course) -> None:
    assert made(course.folder)[:1] == ["asked"]
    assert set(made(course.folder)) == {"asked", "full", "orders", "snapshot"}
    lines = printed(course.first, "backup_lines")
    good = next(line for line in lines if "good (shop)" in line)
    assert good.startswith("OK"), lines
    (full,) = [line for line in lines if "backup: full made: " in line]
    assert ", verified (decode), 5 tables with 2,700 rows" in full
    assert f"copied to {_place(course.folder)}" in full
    assert [line for line in lines if "backup: orders made: " in line and "1 table with 1,000 rows" in line]
    assert "         note: backup: not made by this version of the collection: wal (kind wal)" in lines
    assert set(made(_place(course.folder))) == {"full", "orders", "snapshot"}


def test_a_host_that_does_not_say_where_backups_go_fails_where_they_are_asked_for(course: Course) -> None:
    assert course.first.stats["nowhere"]["failures"] == 1
    assert course.first.stats["good"]["failures"] == 0
    (line,) = [line for line in printed(course.first, "backup_lines") if "nowhere (shop)" in line]
    assert line.startswith("FAILED   nowhere (shop): 4 backups are declared, and nobody said where backups go: set backup_folder")


def test_the_second_run_makes_nothing(course: Course) -> None:
    assert (course.second.rc, course.second.changed) == (0, 0), course.second.stdout
    lines = printed(course.second, "backup_lines")
    assert len([line for line in lines if " present: " in line and " old, verified (decode)" in line]) == 3


def test_one_that_is_asked_for_is_made_and_one_that_cannot_be_is_named(course: Course) -> None:
    assert course.asked.rc != 0
    lines = printed(course.asked, "backup_lines")
    assert [line for line in lines if "backup: asked made: " in line]
    assert "         backup failed: not made by this version of the collection: wal (kind wal)" in lines
    assert not [line for line in lines if "full" in line]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"polcy": "full"}, "polcy is no answer that this runbook knows, did you mean policy?"),
        ({"policy": "ful"}, "policy: 'ful' is not one of the backups of the system: full, orders, snapshot, asked, wal"),
        ({"backup_verify": "hope"}, "backup_verify"),
    ],
)
def test_wrong_answers_make_nothing(
    ansible_runner: AnsibleRunner, shops: list[Database], tmp_path: Path, answers: dict[str, Any], said: str
) -> None:
    done = ansible_runner.playbook("backup", {"good": host_of(shops[0], tmp_path / "new")}, extra_vars=answers)
    assert done.rc != 0
    assert said in done.stdout
    assert not (tmp_path / "new").exists()


@dataclass
class Days:
    """Daily runs over hosts of all sorts: the first and, with the hourly one, the second."""

    folder: Path
    first: PlaybookResult
    second: PlaybookResult


@pytest.fixture(scope="module")
def days(ansible_runner: AnsibleRunner, shops: list[Database], tmp_path_factory: pytest.TempPathFactory) -> Days:
    """One host with a folder, one without, one whose folder is a file, a database that is dead and a host that is lost."""
    folder = tmp_path_factory.mktemp("days") / "backups"
    (folder.parent / "file").touch()
    hosts = {
        "good": host_of(shops[0], folder),
        "nowhere": host_of(shops[1]),
        "broken": host_of(shops[2], folder.parent / "file"),
        "dead": host_of(shops[0], folder, **{**DEAD, "pgops_system": host_of(shops[0])["pgops_system"]}),
        "lost": host_of(shops[0], folder, ansible_connection="ssh", ansible_host="127.0.0.1", ansible_port=1),
    }
    first = ansible_runner.playbook("daily", hosts)
    second = ansible_runner.play(in_turn("daily", "hourly"), {"good": hosts["good"]})
    return Days(folder, first, second)


def test_a_daily_run_makes_its_backups_before_it_looks_and_removes(days: Days) -> None:
    good = block(summaries(days.first)[0], "good")
    assert made(days.folder) == ["full", "orders"]
    assert "backup: full made: " in good
    assert "backup: orders made: " in good
    assert good.index("backup: full made: ") < good.index("removed: 1 row")
    tasks = [task.action.rpartition(".")[2] for task in days.first.find(host="good")]
    assert tasks.index("pg_backup") < tasks.index("pg_health") < tasks.index("pg_cleanup")
    (health,) = days.first.find(host="good", action="pg_health")
    # Where backups go is said once.
    assert {check["id"]: check["status"] for check in health.result["checks"]}["backup.verify_age"] == "ok"


def test_a_second_day_makes_none_and_an_hour_has_none(days: Days) -> None:
    assert (days.second.rc, days.second.changed) == (0, 0), days.second.stdout
    daily, hourly = summaries(days.second)
    assert "backup: full present: " in block(daily, "good")
    assert "backup" not in block(hourly, "good")
    assert [task.status for task in days.second.find(action="pg_backup", host="good")] == ["ok", "skipped"]


def test_without_a_folder_the_summary_says_so_and_all_else_goes_on(days: Days) -> None:
    nowhere = block(summaries(days.first)[0], "nowhere")
    # The two of the day, and the WAL.
    assert "note: backup: 3 backups are declared, and nobody said where backups go: set backup_folder" in nowhere
    assert "removed: 1 row" in nowhere
    assert days.first.stats["nowhere"]["failures"] == 0


def test_where_a_backup_fails_nothing_is_removed_and_the_health_is_seen(days: Days, shops: list[Database]) -> None:
    broken = block(summaries(days.first)[0], "broken")
    assert broken.startswith("FAILED")
    assert "backup failed: full: " in broken
    assert "backup failed: orders: " in broken, "one keeps no other from being tried"
    assert "removed: nothing, since a backup failed: what goes stays until one has it" in broken
    assert days.first.find(host="broken", action="pg_health")
    assert shops[2].query(OLD_EVENTS) == [(1,)]
    assert days.first.stats["broken"]["failures"] == 1


def test_a_database_that_is_dead_and_a_host_that_is_lost_are_told_once(days: Days) -> None:
    text = summaries(days.first)[0]
    dead, lost = block(text, "dead"), block(text, "lost")
    assert dead.startswith("CRITICAL")
    assert "avail.connect" in dead
    assert "broke off" not in dead, "the refused connection is a finding already"
    assert lost.startswith("FAILED")
    assert "the host does not answer" in lost
