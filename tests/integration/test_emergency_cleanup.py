"""The emergency clean-up, from the survey's answers to the database: preview, act, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.ground.evidence import fingerprint
from tests.ground.runner import PlaybookResult
from tests.ground.servers import CHECKOUT
from tests.ground.templates import SystemDatabase

Playbook = Callable[..., PlaybookResult]
Systems = Callable[..., SystemDatabase]
DEAD = {"pgops_system": "tim", "pgops_connection": {"login_host": "127.0.0.1", "login_port": 1, "login_db": "tim"}}
ALL = {"target": "databases"}
ACT = {**ALL, "confirm": True}
DENIED_AND_ALIVE = "SELECT count(*) FROM custom.denylist WHERE expires_at > (now() AT TIME ZONE 'UTC') - interval '5 min'"


def hosts_of(*databases: SystemDatabase, system: str = "tim") -> dict[str, dict[str, Any]]:
    return {f"{system}-{number}": {"pgops_system": system, "pgops_connection": one.login()} for number, one in enumerate(databases, 1)}


def printed(done: PlaybookResult) -> list[list[str]]:
    """Return the lines of the preview and, where there is one, of the report."""
    return [task.result["emergency_cleanup_lines"] for task in done.find(action="debug") if task.status == "ok"]


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_nobody_said_which_hosts(system_database: Systems, run_playbook: Playbook, arguments: tuple[str, ...]) -> None:
    database = system_database("tim")
    before = fingerprint(database)
    done = run_playbook("emergency_cleanup", hosts_of(database), extra_vars={"confirm": True}, arguments=arguments)
    assert done.rc != 0
    assert "nobody said which hosts" in done.stdout
    assert not done.find(action="pg_cleanup")
    assert fingerprint(database) == before


@pytest.mark.any_driver
def test_preview_confirm_and_again(system_database: Systems, run_playbook: Playbook, driver: str) -> None:
    database = system_database("tim")
    hosts, before, total = hosts_of(database), fingerprint(database), database.expected.total("emergency")
    alive = database.query(DENIED_AND_ALIVE)

    preview = run_playbook("emergency_cleanup", hosts, extra_vars=ALL, driver=driver)
    assert (preview.rc, preview.changed) == (0, 0), preview.stdout
    assert fingerprint(database) == before
    (lines,) = printed(preview)
    assert lines[0].endswith("1 host: preview, nothing was changed")
    assert any(line.startswith(f"PREVIEW  tim-1 (tim): {total:,} rows would go; the database is ") for line in lines)
    removed = database.expected.removed["emergency"]
    for name, rows in removed.items():
        ((left,),) = database.query(f"SELECT count(*) - {rows} FROM {name}")
        assert any(re.fullmatch(rf" +{name}: {rows:,} rows, {left:,} left; [0-9.]+ [KM]B now", line) for line in lines), (name, lines)
    assert "         undo: none, the rows do not come back; a backup from before it has them: full (daily), compressed (daily)" in lines
    assert f"expected_rows={total} to stop if the number differs by more than 10 % by then" in lines[-1]

    checked = run_playbook("emergency_cleanup", hosts, extra_vars=ACT, driver=driver, check=True)
    assert (checked.rc, checked.changed) == (0, 0)
    assert printed(checked)[0][-1] == "check mode: nothing is changed although confirm is true"
    assert fingerprint(database) == before

    done = run_playbook("emergency_cleanup", hosts, extra_vars={**ACT, "expected_rows": f"{total:,}"}, driver=driver)
    assert done.rc == 0, done.stdout
    assert done.changed == 1, "the preview inside the run changes nothing"
    told, report = printed(done)
    assert told[-1] == "confirmed: acting now"
    assert f"OK      tim-1 (tim): {total:,} rows removed" in report
    assert any(re.fullmatch(r" +database: [0-9.]+ MB before, [0-9.]+ MB now", line) for line in report)
    for name, rows in removed.items():
        assert any(line.startswith(f"        {name}: {rows:,} removed; ") for line in report)
        assert any(re.search(r"; [0-9.]+ [KM]B before, [0-9.]+ [KM]B now$", line) for line in report)
    assert any(line.startswith("        undo: none, the rows do not come back; a backup from before 20") for line in report)
    assert database.query(DENIED_AND_ALIVE) == alive

    again = run_playbook("emergency_cleanup", hosts, extra_vars={**ACT, "confirm": "yes"}, driver=driver)
    assert (again.rc, again.changed) == (0, 0), again.stdout
    assert "OK      tim-1 (tim): 0 rows removed" in printed(again)[1]


def test_what_a_survey_leaves_empty_counts_as_not_given(system_database: Systems, run_playbook: Playbook) -> None:
    database = system_database("tim")
    before = fingerprint(database)
    (preflight, _play) = yaml.safe_load((CHECKOUT / "playbooks/emergency_cleanup.yml").read_text(encoding="utf-8"))
    answers = {**dict.fromkeys(preflight["vars"]["emergency_answers"], ""), "target": "tim-1"}
    done = run_playbook("emergency_cleanup", hosts_of(database), extra_vars=answers)
    assert done.rc == 0, done.stdout
    assert f"expected_rows={database.expected.total('emergency')}" in printed(done)[0][-1]
    assert fingerprint(database) == before


def test_the_playbook_knows_every_answer_that_it_reads() -> None:
    preflight, play = yaml.safe_load((CHECKOUT / "playbooks/emergency_cleanup.yml").read_text(encoding="utf-8"))
    known = set(preflight["vars"]["emergency_answers"])
    read = set(re.findall(r"\b(\w+) \| default", str(play["vars"])))
    assert read <= known
    assert {name for name in known if not name.startswith("retention_")} == read
    options = yaml.safe_load((CHECKOUT / "roles/retention/meta/argument_specs.yml").read_text(encoding="utf-8"))
    assert known - read <= set(options["argument_specs"]["main"]["options"])


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"confirm": "perhaps"}, "emergency_cleanup_confirm"),
        ({"max_rows": 0}, "max_rows: 0 is not a number of rows from 1 up"),
        ({"max_rows": 3}, "max_rows"),
        ({"max_runtime": "soon"}, "max_runtime: 'soon' is not a duration"),
        ({"expectd_rows": 5}, "expectd_rows is no answer that this runbook knows, did you mean expected_rows?"),
        ({"retention_schedule": "daily"}, "retention_schedule is no answer that this runbook knows"),
        ({"older_than": "1 day"}, "older_than is no answer that this runbook knows"),
        ({"pgops_system": "timm"}, "timm"),
    ],
)
def test_wrong_answers_are_refused_before_anything_is_changed(
    system_database: Systems, run_playbook: Playbook, answers: dict[str, Any], said: str
) -> None:
    database = system_database("tim")
    before = fingerprint(database)
    done = run_playbook("emergency_cleanup", hosts_of(database), extra_vars={**ACT, **answers})
    assert done.rc != 0
    assert said in done.stdout
    assert fingerprint(database) == before


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"expected_rows": 1}, "expected_rows is 1, and {total} would go now, which differs by more than 10 %"),
        ({"expected_rows": 0}, "expected_rows is 0, and {total} would go now"),
        (
            {"expected_rows": "{more}", "tolerance_pct": 0},
            "expected_rows is {more}, and {total} would go now, which differs by more than 0 %",
        ),
        ({"expected_rows": "many"}, "expected_rows is many, which is no number of rows"),
        ({"expected_rows": 5, "tolerance_pct": "few"}, "tolerance_pct is few, which is no number of percent"),
    ],
)
def test_another_number_than_expected_stops_all_hosts(
    system_database: Systems, run_playbook: Playbook, answers: dict[str, Any], said: str
) -> None:
    one, two = system_database("tim"), system_database("tim")
    total = one.expected.total("emergency") + two.expected.total("emergency")
    numbers = {"total": total, "more": total + 1}
    before = [fingerprint(database) for database in (one, two)]
    given = {name: answer.format(**numbers) if isinstance(answer, str) else answer for name, answer in answers.items()}
    done = run_playbook("emergency_cleanup", hosts_of(one, two), extra_vars={**ACT, **given})
    assert done.rc != 0
    assert f"nothing was changed: {said.format(**numbers)}" in done.stdout
    assert printed(done)[0][-1].startswith(f"confirmed, but nothing is changed: {said.format(**numbers)}")
    assert [done.stats[host]["failures"] for host in ("tim-1", "tim-2")] == [1, 1]
    assert [fingerprint(database) for database in (one, two)] == before


def test_a_number_within_the_tolerance_is_no_other_number(system_database: Systems, run_playbook: Playbook) -> None:
    database = system_database("tim")
    expected = round(database.expected.total("emergency") / 1.25)
    answers = {**ACT, "expected_rows": expected, "tolerance_pct": "25.5"}
    done = run_playbook("emergency_cleanup", hosts_of(database), extra_vars=answers)
    assert done.rc == 0, done.stdout
    assert done.changed == 1


def test_a_system_without_rules_is_named_and_keeps_nobody_from_acting(system_database: Systems, run_playbook: Playbook) -> None:
    database, other = system_database("tim"), system_database("azth")
    before = fingerprint(other)
    hosts = {**hosts_of(database), **hosts_of(other, system="azth")}
    done = run_playbook("emergency_cleanup", hosts, extra_vars=ACT)
    assert done.rc == 0, done.stdout
    told, report = printed(done)
    assert "NOTHING  azth-1 (azth): the system has no rules under retention.emergency, nothing was looked at" in told
    assert "NOTHING  azth-1 (azth): the system has no rules under retention.emergency" in report
    assert any(line.startswith("OK      tim-1 (tim): ") for line in report)
    assert fingerprint(other) == before


@pytest.mark.parametrize("answers", [ALL, ACT])
def test_no_system_with_rules_does_not_end_green(system_database: Systems, run_playbook: Playbook, answers: dict[str, Any]) -> None:
    done = run_playbook("emergency_cleanup", hosts_of(system_database("azth"), system="azth"), extra_vars=answers)
    assert done.rc != 0
    assert printed(done)[0][-1].startswith("no host has anything to do: ")


def test_a_host_without_preview_keeps_all_others_from_acting(system_database: Systems, run_playbook: Playbook) -> None:
    database = system_database("tim")
    before = fingerprint(database)
    lost = {**hosts_of(database)["tim-1"], "ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    hosts = {"dead-db": DEAD, "lost-host": lost, **hosts_of(database)}
    preview = run_playbook("emergency_cleanup", hosts, extra_vars=ALL)
    assert preview.rc != 0
    text = "\n".join(printed(preview)[0])
    assert "FAILED   dead-db (tim): " in text
    assert "the host does not answer" in text
    assert "PREVIEW  tim-1 (tim): " in text
    assert preview.stats["tim-1"]["failures"] == 0
    (artifact,) = preview.find(action="set_stats")
    status = artifact.result["ansible_stats"]["data"]["pgops_summary"]["status"]
    assert status == {"dead-db": "failed", "lost-host": "failed", "tim-1": "ok"}

    done = run_playbook("emergency_cleanup", hosts, extra_vars=ACT)
    assert done.rc != 0
    assert "nothing was changed: dead-db, lost-host could not be previewed" in done.stdout
    assert fingerprint(database) == before


def test_a_host_that_fails_while_acting_is_named_and_fails_alone(system_database: Systems, run_playbook: Playbook) -> None:
    good, bad = system_database("tim"), system_database("tim")
    bad.query("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$")
    bad.query("CREATE TRIGGER refuses BEFORE DELETE ON custom.jwt_metadata FOR EACH ROW EXECUTE FUNCTION refuse()")
    done = run_playbook("emergency_cleanup", hosts_of(good, bad), extra_vars=ACT)
    assert done.rc != 0
    _preview, report = printed(done)
    assert report[0].endswith("2 hosts: 1 done, 1 failed")
    assert any(line.startswith("OK      tim-1 (tim): ") for line in report)
    (at,) = [number for number, line in enumerate(report) if line.startswith("FAILED  tim-2 (tim): ") and "not this one" in line]
    rows = bad.expected.removed["emergency"]["custom.denylist"]
    assert any(line.startswith(f"        custom.denylist: {rows:,} removed") for line in report[at:]), "what was removed by then"
    assert [done.stats[host]["failures"] for host in ("tim-1", "tim-2")] == [0, 1]


def test_bounds_of_the_inventory_are_for_the_runs_of_a_schedule(system_database: Systems, run_playbook: Playbook) -> None:
    database = system_database("tim")
    hosts = hosts_of(database)
    hosts["tim-1"]["retention_max_rows"] = 1
    assert run_playbook("daily", hosts).rc != 0
    assert run_playbook("emergency_cleanup", hosts, extra_vars=ACT).rc == 0
    assert database.query("SELECT count(*) FROM custom.denylist WHERE expires_at < now() - interval '1 day'") == [(0,)]


def test_what_keeps_space_from_being_freed_is_named(system_database: Systems, run_playbook: Playbook) -> None:
    database = system_database("tim", 60_000)
    rows = database.expected.removed["emergency"]["custom.jwt_metadata"]
    assert rows > 10_000, "enough for a vacuum"
    with database.connect() as other:
        other.execute("SET application_name = 'a long report'")
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT count(*) FROM custom.jwt_metadata")
        held = run_playbook(
            "emergency_cleanup", hosts_of(database), extra_vars={**ACT, "retention_throttle": {"oldest_transaction": "off"}}
        )
        other.execute("ROLLBACK")
    assert held.rc == 0, held.stdout
    report = printed(held)[1]
    said = [line for line in report if line.startswith("        not free yet: custom.jwt_metadata: ")]
    assert len(said) == 1, report
    assert re.search(r": [0-9,]+ dead rows may still be seen by session a long report \(pid \d+\)", said[0])
    assert not any(line.startswith("        not vacuumed: ") for line in report), "in an emergency small tables are vacuumed too"


def test_what_went_back_to_the_disk_is_told(system_database: Systems, run_playbook: Playbook) -> None:
    database = system_database("tim", 60_000)
    # All that lies at the table's end.
    database.query("UPDATE custom.jwt_metadata SET expires_at = expires_at - interval '10 years'")
    sizes = "SELECT pg_total_relation_size('custom.jwt_metadata')"
    ((before,),) = database.query(sizes)
    done = run_playbook("emergency_cleanup", hosts_of(database), extra_vars=ACT)
    assert done.rc == 0, done.stdout
    ((after,),) = database.query(sizes)
    assert after < before / 2
    report = "\n".join(printed(done)[1])
    assert re.search(r"database: [0-9.]+ MB before, [0-9.]+ MB now; the tables gave back [0-9.]+ MB", report)
