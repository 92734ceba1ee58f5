"""Schedules in trouble: dead databases, hosts that leave, folders that cannot be written and channels that fail; the slowest statements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.runner import AnsibleRunner, PlaybookResult
from tests.ground.set_aside import SET_ASIDE
from tests.integration.scheduling import DEAD, Told, block, health_of, host_of, in_turn, nagios, summaries, words
from tests.integration.watching import SYSTEM, ago, eventually, run_script, stock

pytestmark = [pytest.mark.any_driver, pytest.mark.xdist_group("scheduled_trouble")]

SECRET = "tok-4f9a"
ASIDE = [
    {"finding": "index.invalid[vault.old_index]", "reason": "rebuilt on Sunday", "until": "2999-01-01"},
    {"finding": "index.invalid[vault.new_index]", "reason": "nobody minds", "until": "2020-01-01"},
]
FAILING = {"name": "pager", "type": "command", "argv": ["/bin/sh", "-c", "cat > /dev/null; echo no network >&2; exit 7"]}


@dataclass
class Trouble:
    """A run, its folder of reports, and what people were told."""

    done: PlaybookResult
    folder: Path
    told: Told

    @property
    def summary(self) -> str:
        (text,) = summaries(self.done)
        return text

    def page(self, host: str) -> str:
        return words((self.folder / f"{host}.html").read_text(encoding="utf-8"))

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["host"]: row for row in json.loads((self.folder / "fleet.json").read_text(encoding="utf-8"))["rows"]}


@pytest.fixture(scope="module")
def server(installation: servers.Installation) -> Iterator[Cluster]:
    """A server that counts statements."""
    settings = {"autovacuum": "off", "shared_preload_libraries": "pg_stat_statements"}
    with Cluster(servers.with_features(installation.major), settings=settings) as made:
        yield made


@pytest.fixture(scope="module")
def shop(server: Cluster) -> Iterator[Database]:
    """The small system with two invalid indexes."""
    with Database.create(server, "shop") as made:
        stock(made)
        run_script(made, "CREATE INDEX old_index ON vault.tokens (expires_at); CREATE INDEX new_index ON vault.denied (denied_at)")
        run_script(made, "UPDATE pg_index SET indisvalid = false WHERE indexrelid::regclass::text ~ '^vault.(old|new)_index$'")
        yield made


@pytest.fixture(scope="module")
def bare(server: Cluster) -> Iterator[Database]:
    """The small system with nothing wrong, and without extensions."""
    with Database.create(server, "bare") as made:
        stock(made)
        yield made


def leave_a_login(database: Database) -> None:
    run_script(database, f"INSERT INTO vault.logins SELECT 'old', {ago('2 h')} ON CONFLICT DO NOTHING")


def logins(database: Database) -> list[str]:
    return [state for (state,) in database.query("SELECT state FROM vault.logins ORDER BY state")]


@pytest.fixture(scope="module")
def dead(ansible_runner: AnsibleRunner, shop: Database, bare: Database, tmp_path_factory: pytest.TempPathFactory) -> Trouble:
    """A daily run over a database that is well but for what is set aside, a dead one, and hosts that are lost early and late."""
    folder = tmp_path_factory.mktemp("dead")
    told = Told(folder / "told")
    leave_a_login(shop)
    common = {"report_folder": str(folder / "reports"), "report_formats": "html,nagios", "notify_channels": [FAILING, told.channel]}
    good = host_of(shop, **common)
    away = {"ansible_host": "127.0.0.1", "ansible_port": 1}
    late = "{{ 'ssh' if report_row | default({}) else 'local' }}"
    nrpe = {"report_nagios_on": "host", "report_nagios_folder": str(folder / "nrpe")}
    hosts = {
        "good": {**good, "pgops_system": {**SYSTEM, "suppressions": ASIDE}},
        "dead": {**DEAD, **common},
        "lost": {**good, **away, "ansible_connection": "ssh"},
        "late": {**host_of(bare, **common), **away, "ansible_connection": late, **nrpe},
    }
    return Trouble(ansible_runner.playbook("daily", hosts), folder / "reports", told)


def test_a_dead_database_is_told_and_never_green(dead: Trouble) -> None:
    assert dead.done.rc != 0
    assert block(dead.summary, "dead").startswith("CRITICAL")
    assert (dead.rows["dead"]["status"], dead.rows["dead"]["counts"]["ok"]) == ("critical", 0)
    said = dead.page("dead")
    assert "Connection" in said or "connection" in said
    assert "no check could ask it anything" in said or "could not" in said
    assert "All is well" not in said
    ((message,),) = [dead.told.of("dead")]
    assert [(each["key"].partition("[")[0], each["severity"]) for each in message["findings"]] == [("avail.connect", "critical")]
    assert nagios(dead.folder / "dead.nagios.sh")[0] == 2


def test_a_lost_host_is_told_and_never_green(dead: Trouble) -> None:
    assert block(dead.summary, "lost").startswith("FAILED")
    assert dead.rows["lost"]["status"] == "failed"
    assert "the host does not answer" in dead.page("lost")
    ((message,),) = [dead.told.of("lost")]
    assert "the host does not answer" in message["findings"][0]["message"]
    assert nagios(dead.folder / "lost.nagios.sh")[0] == 3


def test_a_host_that_is_lost_while_its_report_is_written_is_told(dead: Trouble) -> None:
    ((message,),) = [dead.told.of("late")]
    assert any("the host does not answer" in each["message"] for each in message["findings"]), message
    assert block(dead.summary, "late").startswith("FAILED")
    assert "the host does not answer" in block(dead.summary, "late")


def test_the_other_database_is_looked_at_cleaned_and_reported(dead: Trouble, shop: Database) -> None:
    assert dead.done.stats["good"]["failures"] == 0
    assert "removed: " in block(dead.summary, "good")
    assert (dead.rows["good"]["status"], dead.rows["good"]["now"]) == ("warning", True)
    fleet = words((dead.folder / "fleet.html").read_text(encoding="utf-8"))
    assert fleet.index("lost") < fleet.index("dead") < fleet.index("good")


def test_a_failing_channel_stands_in_the_summary_and_stops_nothing(dead: Trouble) -> None:
    assert "note: telling people: pager failed: it ended with 7: no network" in block(dead.summary, "good")
    assert "note: telling people: pager failed" in block(dead.summary, "dead")
    assert {message["hosts"][0]["host"] for message in dead.told.messages} == {"good", "dead", "lost", "late"}


def test_what_is_set_aside_is_nowhere_told_and_what_has_expired_is(dead: Trouble) -> None:
    good = block(dead.summary, "good")
    assert "old_index" not in good
    assert "new_index" in good
    assert "set aside: " in good
    note = "the suppression of index.invalid[vault.new_index] has expired on 2020-01-01: nobody minds"
    assert f"note: {note}" in good
    said = dead.page("good")
    assert "index.invalid[vault.old_index]" in said.partition("Set aside")[2]
    assert "old_index" not in said.partition("Set aside")[0]
    assert "rebuilt on Sunday 1 Jan 2999" in said
    assert note in said
    (message,) = dead.told.of("good")
    assert [each["key"] for each in message["findings"] if "index" in each["key"]] == ["index.invalid[vault.new_index]"]
    _code, line = nagios(dead.folder / "good.nagios.sh")
    assert "new_index" in line
    assert "old_index" not in line


@pytest.fixture(scope="module")
def unwritable(ansible_runner: AnsibleRunner, shop: Database, bare: Database, tmp_path_factory: pytest.TempPathFactory) -> Trouble:
    """A daily run whose folder of reports cannot be made, over a database that is well and a system that is not known."""
    folder = tmp_path_factory.mktemp("unwritable")
    (folder / "file").touch()
    told = Told(folder / "told")
    leave_a_login(shop)
    host = host_of(shop, report_folder=str(folder / "file" / "reports"), notify_channels=[told.channel])
    partly = {
        **host,
        **host_of(bare),
        "report_folder": str(folder / "reports"),
        "report_prometheus_folder": str(folder / "missing"),
        "report_formats": "html,prometheus",
    }
    hosts = {"good": host, "strange": {**host, "pgops_system": "nosuch"}, "partly": partly, "dead": {**host, **DEAD}}
    return Trouble(ansible_runner.playbook("daily", hosts), folder, told)


def test_a_folder_that_cannot_be_written_is_told_and_costs_no_retention(unwritable: Trouble, shop: Database) -> None:
    assert unwritable.done.rc != 0
    good = block(unwritable.summary, "good")
    assert good.startswith("FAILED")
    assert "broke off: Look for the folder: " in good
    assert "Not a directory" in good
    assert "removed: 1 row" in good
    assert "index.invalid" in good, "what was found is told all the same"
    assert logins(shop) == ["fresh"] or "old" not in logins(shop)
    (message,) = unwritable.told.of("good")
    assert message["findings"][0]["key"] == "run"
    assert "Look for the folder" in message["findings"][0]["message"]
    assert "index.invalid[vault.new_index]" in {each["key"] for each in message["findings"]}


def test_two_failures_of_a_run_are_both_told(unwritable: Trouble) -> None:
    strange = block(unwritable.summary, "strange")
    assert "nosuch" in strange
    assert "Look for the folder" in strange
    (message,) = unwritable.told.of("strange")
    assert "nosuch" in message["findings"][0]["message"]


def test_a_file_that_cannot_be_written_is_named_and_the_others_are_there(unwritable: Trouble) -> None:
    partly = block(unwritable.summary, "partly")
    assert "broke off: Write on the control node: " in partly
    assert f"{unwritable.folder}/missing" in partly
    assert sorted(path.name for path in (unwritable.folder / "reports").iterdir()) == ["partly.html"]


def test_a_report_that_fails_is_told_of_a_dead_database_too(unwritable: Trouble) -> None:
    dead = block(unwritable.summary, "dead")
    assert dead.startswith("CRITICAL")
    assert "avail.connect" in dead
    assert "Look for the folder" in dead


@pytest.fixture(scope="module")
def evening(ansible_runner: AnsibleRunner, shop: Database, bare: Database) -> PlaybookResult:
    """An end of the day over a database that counts statements and one that does not, and a month's run behind it."""
    limits = {**SET_ASIDE["health_thresholds"], "table.hot_pct": {"warning": 90, "minimum": 100}, "stat.slow": {"minimum": 1}}
    run_script(shop, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    run_script(shop, "CREATE INDEX ON vault.flagged (issued_at); UPDATE vault.flagged SET issued_at = issued_at + interval '1 s'")
    eventually(lambda: shop.query("SELECT pg_stat_get_tuples_updated('vault.flagged'::regclass)") == [(120,)])
    shop.query("SELECT pg_stat_statements_reset()")
    # Slower than what the run itself asks on a busy machine.
    slow = [f"SELECT pg_sleep(1.{number % 2}), {', '.join([str(number)] * (number + 1))}, '{SECRET}' AS token" for number in range(12)]
    with ThreadPoolExecutor(len(slow)) as sessions:
        list(sessions.map(shop.query, slow))
    hosts = {name: host_of(each, health_thresholds=limits, pgops_fail_on="never") for name, each in (("shop", shop), ("bare", bare))}
    return ansible_runner.play(in_turn("end_of_day", "monthly"), hosts)


def test_the_end_of_the_day_lists_the_slowest_statements_masked(evening: PlaybookResult) -> None:
    text = block(summaries(evening)[0], "shop")
    lines = text.splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.strip().startswith("slowest statements since "))
    listed = [line.strip() for line in lines[start + 1 : start + 11]]
    assert len([line for line in lines if " ms x " in line]) == 10
    assert all("ms x 1 = " in line and "SELECT pg_sleep($1)" in line for line in listed)
    means = [float(line.split(" ms", 1)[0]) for line in listed]
    assert means == sorted(means, reverse=True)
    assert SECRET not in evening.stdout


def test_the_end_of_the_day_says_how_many_updates_were_hot(evening: PlaybookResult) -> None:
    text = block(summaries(evening)[0], "shop")
    assert "warning: table.hot_pct: vault.flagged " in text
    assert {check["id"].partition(".")[0] for check in health_of(evening, "shop")["checks"]} >= {"stat", "db", "conn", "table"}


def test_without_the_extension_the_end_of_the_day_says_so(evening: PlaybookResult) -> None:
    assert "slowest statements: pg_stat_statements is not installed in this database" in block(summaries(evening)[0], "bare")


@pytest.mark.parametrize("host", ["shop", "bare"])
def test_the_month_looks_at_what_it_is_for(evening: PlaybookResult, host: str) -> None:
    monthly = health_of(evening, host, 1)
    by_id = {check["id"]: check for check in monthly["checks"]}
    assert {"integrity.amcheck", "security.superusers", "security.md5", "security.hba", "index.unused", "wal.archive_failing"} <= set(by_id)
    assert monthly["tier"] == "monthly"
    text = summaries(evening)[1]
    assert text.startswith("monthly, ")
    assert "slowest statements" not in text
    assert "removed: nothing, the system has no rules for this schedule" in block(text, host)
    assert [cleanup.status for cleanup in evening.find(host=host, action="pg_cleanup")] == ["skipped"], "there are no rules for the month"
    assert evening.stats[host]["changed"] == 0
