"""Recovery drills from the playbook `recovery_drill` and from those of a schedule, with the evidence that they leave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.runner import AnsibleRunner, PlaybookResult
from tests.integration import backing
from tests.integration.protecting import SYSTEM, host_of, made, printed
from tests.integration.scheduling import block, summaries, words

pytestmark = [pytest.mark.any_driver, pytest.mark.xdist_group("drill_playbook")]


@dataclass
class Course:
    """A week with its drill, a drill in check mode, and one against targets that no recovery meets."""

    folder: Path
    reports: Path
    runs: dict[str, PlaybookResult] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Database]:
    """A database with something of everything."""
    database = Database.create(cluster, "drilled")
    backing.fill(database)
    yield database
    database.drop()


@pytest.fixture(scope="module")
def course(ansible_runner: AnsibleRunner, shop: Database, tmp_path_factory: pytest.TempPathFactory) -> Course:
    """One host with reports, and in the week one that does not say where its backups stand."""
    top = tmp_path_factory.mktemp("drilled")
    done = Course(top / "backups", top / "reports")
    place = top / "second place"
    place.mkdir()
    # Of all reports the page alone, which links to that of the drill.
    written = {"report_folder": str(done.reports), "report_formats": ["html"], "report_fleet": False}
    host = host_of(shop, done.folder, backup_copies=[{"path": str(place)}], **written)

    # On the same database, which two clean-ups would want at once.
    nowhere = host_of(shop, pgops_system={**SYSTEM, "retention": {}})

    def step(name: str, found: PlaybookResult) -> None:
        done.runs[name] = found
        page = done.reports / "good.drill.html"
        done.pages[name] = page.read_text(encoding="utf-8") if page.exists() else ""

    # Without the second place that its system asks for none is made. In the same folder, so that two drills go on at once.
    unbacked = host_of(shop, done.folder)
    step("week", ansible_runner.playbook("weekly", {"good": host, "nowhere": nowhere, "unbacked": unbacked}))
    step("check", ansible_runner.playbook("recovery_drill", {"good": host}, check=True))
    hosts = {"good": {**host, "pgops_environment": "staging", "recovery_drill_checks": ["schema.present"]}, "nowhere": nowhere}
    step("missed", ansible_runner.playbook("recovery_drill", hosts))
    return done


def test_a_weekly_run_restores_what_it_has_made_where_the_system_says_weekly(course: Course) -> None:
    week = course.runs["week"]
    assert made(course.folder) == ["snapshot"]
    (text,) = summaries(week)
    good = block(text, "good")
    assert "backup: snapshot made: " in good
    assert "drill passed: drilled.snapshot." in good, good
    assert "(target 10 min: met), RPO " in good
    assert "(target 1 h: met)" in good
    assert week.stats["good"]["failures"] == 0
    tasks = [task.action.rpartition(".")[2] for task in week.find(host="good") if task.status == "ok"]
    assert tasks.index("pg_backup") < tasks.index("pg_recovery_drill") < tasks.index("pg_health") < tasks.index("pg_cleanup")


def test_a_backup_that_fails_keeps_nobody_from_knowing_what_the_last_one_is_worth(course: Course) -> None:
    week = course.runs["week"]
    text = block(summaries(week)[0], "unbacked")
    assert "backup failed: snapshot: it has to be kept away from the database server" in text
    assert "drill passed: drilled.snapshot." in text
    assert "removed: nothing, since a backup failed" in text
    assert week.stats["unbacked"]["failures"] == 1


def test_where_backups_stand_nowhere_the_week_says_so(course: Course) -> None:
    text = block(summaries(course.runs["week"])[0], "nowhere")
    assert "note: drill: a drill is due, and nobody said where the backups stand (set backup_folder)" in text
    assert course.runs["week"].stats["nowhere"]["failures"] == 0


def test_the_evidence_has_a_page_that_the_page_of_the_host_links_to(course: Course) -> None:
    said = words(course.pages["week"])
    assert said.startswith("Recovered: Recovery drill of shop on good")
    assert "Recovery took (RTO) 10 min" in said
    assert "5 tables with 2,70" in said
    assert 'href="good.drill.html"' in (course.reports / "good.html").read_text(encoding="utf-8")
    document = json.loads((course.reports / "good.drill.json").read_text(encoding="utf-8"))
    assert document["rto"]["target_seconds"] == 1.0, "of the newest drill"
    assert len(list((course.folder / "drills").glob("drill.*.json"))) == 3, "one of each drill that took place"


def test_check_mode_rehearses_nothing(course: Course) -> None:
    check = course.runs["check"]
    assert (check.rc, check.changed) == (0, 0), check.stdout
    lines = printed(check, "recovery_drill_lines")
    assert lines[0].endswith("check mode: nothing was restored")
    assert any(line.strip().startswith("drill: to restore drilled.snapshot.") for line in lines)
    assert course.pages["check"] == course.pages["week"]


def test_a_target_that_is_missed_fails_the_host_and_is_told(course: Course) -> None:
    missed = course.runs["missed"]
    assert missed.stats["good"]["failures"] == 1
    lines = printed(missed, "recovery_drill_lines")
    assert "FAILED  good (shop): the drill did not pass" in lines
    (times,) = [line for line in lines if line.strip().startswith("drill FAILED: drilled.snapshot.")]
    assert "(target 1 s: MISSED)" in times
    assert any(line.strip().startswith("drill: why: ") and "target" in line for line in lines)
    assert words(course.pages["missed"]).startswith("Not recovered as it should")
    (nowhere,) = [line for line in lines if "nowhere (shop)" in line]
    assert "nobody said where the backups stand (set backup_folder)" in nowhere
