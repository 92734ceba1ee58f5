"""A schedule as an operator has it: daily and hourly runs over two databases, with a history, reports and people who are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.runner import AnsibleRunner, PlaybookResult
from tests.integration.scheduling import Told, block, health_of, host_of, in_turn, keys, nagios, summaries, words
from tests.integration.watching import ago, run_script, stock

pytestmark = [pytest.mark.any_driver, pytest.mark.xdist_group("scheduled")]

HOSTS = ("db one", "kept")
# Only the first has reports, which cost more than all else in a run.
PAGE = "db_one-0f66b11f"
OLD, FAULT = "index.invalid[vault.old_index]", "index.invalid[vault.new_index]"
LOGIN = "login.stuck[vault.logins]"
INVALID = "UPDATE pg_index SET indisvalid = {} WHERE indexrelid = 'vault.{}'::regclass"


@dataclass
class Step:
    """A run, what stood in the folder of reports after it, what its plugin said, and what was told meanwhile."""

    done: PlaybookResult
    files: dict[str, str]
    plugin: tuple[int, str]
    told: dict[str, list[dict[str, Any]]]


@dataclass
class Course:
    """The runs by name, in their order."""

    steps: dict[str, Step] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Step:
        return self.steps[name]


@pytest.fixture(scope="module")
def shops(cluster: Cluster) -> Iterator[dict[str, Database]]:
    """Two small systems, each with an index that was left invalid long ago; one has a schema for its history."""
    made = {host: Database.create(cluster, f"scheduled_{number}") for number, host in enumerate(HOSTS)}
    for database in made.values():
        stock(database)
        run_script(database, "CREATE INDEX old_index ON vault.tokens (expires_at); CREATE INDEX new_index ON vault.denied (denied_at)")
        run_script(database, INVALID.format("false", "old_index"))
    yield made
    for database in made.values():
        database.drop()


@pytest.fixture(scope="module")
def course(ansible_runner: AnsibleRunner, shops: dict[str, Database], tmp_path_factory: pytest.TempPathFactory) -> Course:
    """A check mode, two daily runs, a fault found by a daily run that an hourly one follows, and a daily run without it."""
    folder = tmp_path_factory.mktemp("scheduled")
    reports, told = folder / "reports", Told(folder / "told")
    history: dict[str, dict[str, str]] = {"db one": {"file": str(folder / "kept" / "one.jsonl")}, "kept": {"schema": "pgops"}}
    common = {"notify_channels": [told.channel], "pgops_fail_on": "never"}
    hosts = {host: host_of(shops[host], health_history=history[host], **common) for host in HOSTS}
    hosts["db one"]["report_folder"] = str(reports)
    made = Course()

    def step(name: str, *runbooks: str, check: bool = False) -> None:
        before = len(told.messages)
        done = ansible_runner.play(in_turn(*runbooks), hosts, check=check)
        news = [each for message in told.messages[before:] for each in message["hosts"]]
        there = sorted(reports.iterdir()) if reports.exists() else []
        plugin = nagios(reports / f"{PAGE}.nagios.sh") if there else (0, "")
        kept = {path.name: path.read_text(encoding="utf-8") for path in there}
        made.steps[name] = Step(done, kept, plugin, {host: [each for each in news if each["host"] == host] for host in HOSTS})
        assert done.rc == 0, done.stdout

    step("check", "daily", check=True)
    made["check"].files["history"] = str((folder / "kept").exists())
    step("first", "daily")
    step("second", "daily")
    for database in shops.values():
        run_script(database, INVALID.format("false", "new_index"))
        run_script(database, f"INSERT INTO vault.logins SELECT 'old', {ago('2 h')}")
    step("fault", "daily", "hourly")
    for database in shops.values():
        run_script(database, INVALID.format("true", "new_index"))
    step("gone", "daily")
    return made


def fact_of(step: Step, host: str) -> dict[str, Any]:
    """Return the result of the last run as its report has it, or as the module returned it where there is none."""
    kept: dict[str, Any] = json.loads(step.files[f"{PAGE}.json"]) if host == "db one" else health_of(step.done, host, -1)
    return kept


def page_of(step: Step, host: str) -> str:
    """Return what a person reads on the page of a host that has one."""
    return words(step.files[f"{PAGE}.html"]) if host == "db one" else ""


def told_keys(step: Step, host: str) -> list[dict[str, str]]:
    """Return what was told of a host, message by message: the change by key."""
    return [{each["key"]: each["change"] for each in message["findings"]} for message in step.told[host]]


def test_check_mode_writes_sends_and_records_nothing(course: Course, shops: dict[str, Database]) -> None:
    step = course["check"]
    assert step.files == {"history": "False"}
    assert step.told == {host: [] for host in HOSTS}
    assert step.done.changed == 0
    assert {health_of(step.done, host)["history"]["recorded"] for host in HOSTS} == {False}
    # The first run that counts is the first one that is not a rehearsal.
    assert {health_of(course["first"].done, host)["history"]["snapshots"] for host in HOSTS} <= {0, 1}
    would = [task.result["notify_result.lines"] for task in step.done.find(action="debug") if "notify_result.lines" in task.result]
    assert would == [["people would be sent"]] * len(HOSTS)
    assert shops["kept"].query("SELECT count(*) FROM pgops.health_snapshots") == [(5,)], "one for each run that followed"


@pytest.mark.parametrize("host", HOSTS)
def test_the_first_run_has_no_history_yet_and_tells_all(course: Course, host: str) -> None:
    step = course["first"]
    result = fact_of(step, host)
    assert result["history"]["note"] == "no history yet"
    assert result["history"]["recorded"] is True
    assert keys(result) == {OLD: None}
    assert told_keys(step, host) == [{OLD: "new"}]
    assert host == "kept" or "There is no history yet to compare with." in page_of(step, host)


@pytest.mark.parametrize("host", HOSTS)
def test_the_second_run_finds_the_same_and_tells_nobody(course: Course, host: str) -> None:
    step = course["second"]
    result = fact_of(step, host)
    assert keys(result) == {OLD: "same"}
    assert (result["resolved"], result["history"]["note"], result["history"]["snapshots"]) == ([], None, 2)
    assert step.told[host] == []
    assert step.done.stats[host]["changed"] == 0
    assert host == "kept" or "0 New 0 Worse 0 Better 0 Resolved 1 Still there" in page_of(step, host)


@pytest.mark.parametrize("host", HOSTS)
def test_a_fault_is_new_and_told_once(course: Course, host: str) -> None:
    """The daily run finds it, and the hourly one behind it in the same run of Ansible does not look for it."""
    step = course["fault"]
    daily, hourly = (health_of(step.done, host, run) for run in (0, 1))
    assert keys(daily) == {OLD: "same", FAULT: "new", LOGIN: "new"}
    assert keys(hourly) == {}
    assert [gone["key"] for gone in hourly["resolved"]] == [LOGIN], (
        "the retention of the daily run removed it, and the indexes were not looked at"
    )
    assert told_keys(step, host) == [{FAULT: "new", LOGIN: "new"}, {LOGIN: "resolved"}]
    assert step.told[host][0]["time"] < step.told[host][1]["time"]
    first, second = summaries(step.done)
    assert f"new: {FAULT[14:-1]} " in block(first, host)
    assert "new: " not in block(second, host)
    assert "removed: 1 row" in block(first, host)
    assert "removed: nothing, the system has no rules for this schedule" in block(second, host)
    assert f"resolved: {LOGIN}" in block(second, host)


def test_the_page_is_that_of_the_last_run_whole(course: Course) -> None:
    step = course["fault"]
    page = page_of(step, "db one")
    assert "Checks hourly" in page
    assert f"Resolved resolved {LOGIN}" in page
    # What the daily run has found is not green because nobody looked.
    assert [each["key"] for each in fact_of(step, "db one")["standing"]] == [FAULT, OLD]
    assert page.startswith("Warning: ")
    assert "last looked at" in page
    assert (step.plugin[0], "vault.new_index" in step.plugin[1]) == (1, True)


@pytest.mark.parametrize("host", HOSTS)
def test_what_is_gone_is_resolved_and_told(course: Course, host: str) -> None:
    step = course["gone"]
    result = fact_of(step, host)
    assert keys(result) == {OLD: "same"}
    assert [gone["key"] for gone in result["resolved"]] == [FAULT]
    assert told_keys(step, host) == [{FAULT: "resolved"}]
    assert f"resolved: {FAULT}" in block(summaries(step.done)[0], host)


def test_the_report_shows_what_is_gone(course: Course) -> None:
    step = course["gone"]
    said = page_of(step, "db one")
    assert "0 New 0 Worse 0 Better 1 Resolved 1 Still there" in said
    assert f"Resolved resolved {FAULT}" in said
    assert f"- Resolved: {FAULT}: " in step.files[f"{PAGE}.md"].replace("\\", "")


@pytest.mark.parametrize("name", ["first", "gone"])
def test_every_file_says_what_the_result_says(course: Course, name: str) -> None:
    step = course[name]
    result, returned = fact_of(step, "db one"), health_of(step.done, "db one")
    parts = ("status", "exit_code", "summary", "findings", "resolved", "checks", "metrics", "time")
    assert {part: result[part] for part in parts} == {part: returned[part] for part in parts}
    assert step.files[f"{PAGE}.md"].startswith("# Warning: shop on ")
    found = {each.name: each.samples for each in text_string_to_metric_families(step.files[f"pgops_{PAGE}.prom"])}
    assert {sample.labels["severity"]: sample.value for sample in found["pgops_health_findings"]}["warning"] == 1
    assert found["pgops_health_status"][0].value == result["exit_code"] == 1
    code, line = step.plugin
    assert code == result["exit_code"]
    assert line.startswith("PGOPS shop WARNING - ")
    assert "vault.old_index" in line
    assert line == step.files[f"{PAGE}.nagios"]
    assert f'href="{PAGE}.html"' in step.files["fleet.html"]
    (row,) = json.loads(step.files["fleet.json"])["rows"]
    assert (row["host"], row["status"], row["now"]) == ("db one", "warning", True)


def test_without_a_folder_nothing_of_reports_is_seen(course: Course) -> None:
    tasks = [task for task in course["second"].done.find(host="kept") if "report : " in task.task and task.status != "skipped"]
    assert len(tasks) == 3, "the options are checked before anything is done, and that is all"


def test_the_history_does_not_suffer_from_what_ansible_hides(course: Course, shops: dict[str, Database]) -> None:
    """The password of this server stands in a setting of it: starred out in the output of a run, and whole in what is compared."""
    secret = shops["db one"].login()["login_password"]
    ((directory,),) = shops["db one"].query("SHOW unix_socket_directories")
    assert secret in directory
    assert not [key for host in HOSTS for key in keys(fact_of(course["second"], host)) if key.startswith("cfg.drift")]
