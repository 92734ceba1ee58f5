"""What the summary says when runs go wrong: nothing stale, nothing green that saw nothing, nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.ground.runner import PlaybookResult
from tests.ground.templates import SystemDatabase

Playbook = Callable[..., PlaybookResult]
Systems = Callable[..., SystemDatabase]
DEAD = {"pgops_system": "azth", "pgops_connection": {"login_host": "127.0.0.1", "login_port": 1, "login_db": "azth"}}


def host_of(database: SystemDatabase, system: str = "tim") -> dict[str, Any]:
    return {"pgops_system": system, "pgops_connection": database.login()}


def leaving(host: dict[str, Any]) -> dict[str, Any]:
    """Return a host that answers until its daily health checks are done, and is gone for the retention."""
    gone = "{{ 'ssh' if health_result.checks | default([]) | length > 12 else 'local' }}"
    return {**host, "ansible_connection": gone, "ansible_host": "127.0.0.1", "ansible_port": 1}


def in_turn(*names: str) -> list[dict[str, str]]:
    """Return the plays of several runbooks in one run."""
    return [{"ansible.builtin.import_playbook": f"pgops.runbook.{name}"} for name in names]


def summaries(done: PlaybookResult) -> list[str]:
    """Return the text of every summary that was printed, in order."""
    return ["\n".join(task.result["summary_lines"]) for task in done.find(action="debug")]


def block(text: str, host: str) -> str:
    """Return the lines of one host in a summary."""
    lines = text.splitlines()
    (start,) = (number for number, line in enumerate(lines) if line[:1].isupper() and f"  {host} (" in line)
    end = next((number for number in range(start + 1, len(lines)) if not lines[number].startswith(" ")), len(lines))
    return "\n".join(lines[start:end])


def test_a_host_that_leaves_before_the_retention_is_named_and_fails_alone(system_database: Systems, run_playbook: Playbook) -> None:
    good, other = system_database("tim"), system_database("tim")
    done = run_playbook("daily", {"a_leaving": leaving(host_of(other)), "good": host_of(good)})
    assert done.rc != 0
    (text,) = summaries(done)
    assert block(text, "a_leaving").startswith("FAILED")
    assert "the host does not answer" in block(text, "a_leaving")
    assert "removed" in block(text, "good")
    assert done.stats["good"]["failures"] == 0
    (artifact,) = done.find(action="set_stats")
    assert artifact.result["ansible_stats"]["data"]["pgops_summary"]["status"]["a_leaving"] == "failed"


def test_the_only_host_leaving_still_gets_a_summary(system_database: Systems, run_playbook: Playbook) -> None:
    done = run_playbook("daily", {"only": leaving(host_of(system_database("tim")))})
    assert done.rc != 0
    (text,) = summaries(done)
    assert block(text, "only").startswith("FAILED")


def test_two_runbooks_in_one_run_do_not_mix_their_results(system_database: Systems, ansible_runner: Any) -> None:
    done = ansible_runner.play(in_turn("daily", "hourly"), {"tim": host_of(system_database("tim"))})
    daily, hourly = summaries(done)
    assert "removed" in block(daily, "tim")
    assert "removed" not in block(hourly, "tim")


def test_a_host_lost_in_an_earlier_runbook_is_not_shown_with_its_old_result(system_database: Systems, ansible_runner: Any) -> None:
    done = ansible_runner.play(in_turn("hourly", "daily"), {"tim": host_of(system_database("tim")), "dead": DEAD})
    hourly, daily = summaries(done)
    assert "avail.connect" in block(hourly, "dead")
    assert "avail.connect" not in block(daily, "dead")
    assert block(daily, "dead").startswith("FAILED")


@pytest.mark.parametrize("fail_on", ["never", "critical"])
@pytest.mark.parametrize("runbook", ["hourly", "daily"])
def test_a_database_that_was_not_reached_always_fails(run_playbook: Playbook, runbook: str, fail_on: str) -> None:
    done = run_playbook(runbook, {"dead": DEAD}, extra_vars={"pgops_fail_on": fail_on})
    assert done.rc != 0
    assert "CRITICAL" in summaries(done)[0]


def test_a_wrong_fail_on_is_refused_before_anything_is_removed(system_database: Systems, run_playbook: Playbook) -> None:
    done = run_playbook("daily", {"tim": host_of(system_database("tim"))}, extra_vars={"pgops_fail_on": "criticl"})
    assert done.rc != 0
    assert not done.find(action="pg_cleanup")
    assert "criticl" in done.stdout


@pytest.mark.parametrize("target", ["databasez", "tim,!tim"])
def test_no_host_is_not_green(system_database: Systems, run_playbook: Playbook, target: str) -> None:
    done = run_playbook("daily", {"tim": host_of(system_database("tim"))}, extra_vars={"target": target})
    assert done.rc != 0
    assert target in done.stdout


def test_tags_do_not_leave_parts_out(system_database: Systems, run_playbook: Playbook) -> None:
    done = run_playbook("daily", {"tim": host_of(system_database("tim"))}, arguments=["--tags", "health"])
    assert done.find(action="pg_cleanup")
    assert len(summaries(done)) == 1


def test_empty_answers_of_a_survey_count_as_not_given(system_database: Systems, run_playbook: Playbook) -> None:
    names = ("target", "pgops_fail_on", "retention_batch_rows", "retention_max_rows", "retention_max_runtime")
    names += ("health_checks", "health_thresholds", "health_exact_counts")
    database = system_database("tim")
    done = run_playbook("daily", {"tim": host_of(database)}, extra_vars=dict.fromkeys(names, ""))
    assert done.rc == 0, done.stdout
    (cleanup,) = done.find(action="pg_cleanup")
    assert cleanup.result["removed"] == database.expected.total("daily")


def test_retention_of_an_unknown_schedule_is_refused(system_database: Systems, ansible_runner: Any) -> None:
    roles = [{"role": "pgops.runbook.system"}, {"role": "pgops.runbook.retention", "retention_schedule": "dialy"}]
    done = ansible_runner.play([{"hosts": "databases", "gather_facts": False, "roles": roles}], {"tim": host_of(system_database("tim"))})
    assert done.rc != 0
    assert "dialy" in done.stdout


def test_severities_of_one_check_are_told_apart(ansible_runner: Any) -> None:
    finding = {"check": "login.stuck", "severity": "warning", "object": "a.b", "message": "2 logins", "action": "Look at the provider."}
    hidden = {**finding, "severity": "unknown", "object": "c.d", "message": "may not be read", "action": "GRANT SELECT"}
    checks = [{"id": "login.stuck", "status": "warning", "findings_total": 9}]
    facts = {
        "system_description": {"name": "x"},
        "health_result": {"status": "warning", "findings": [finding, hidden], "checks": checks},
    }
    tasks = [{"ansible.builtin.set_fact": facts}, {"ansible.builtin.import_role": {"name": "pgops.runbook.summary"}}]
    done = ansible_runner.play([{"hosts": "databases", "gather_facts": False, "tasks": tasks}], {"x": {}})
    (text,) = summaries(done)
    assert "warning: login.stuck: a.b 2 logins; and 7 more" in text
    assert "unknown: login.stuck: c.d may not be read" in text
    assert "do: GRANT SELECT" in text


def test_a_broken_run_says_more_than_the_lost_connection(ansible_runner: Any) -> None:
    lost = {"check": "avail.connect", "severity": "critical", "object": "db", "message": "lost", "action": ""}
    facts = {
        "system_description": {"name": "x"},
        "health_result": {"status": "critical", "findings": [lost], "checks": []},
        "summary_failure": {"type": "Interrupted", "message": "retention: 6 rows were removed before"},
    }
    tasks = [{"ansible.builtin.set_fact": facts}, {"ansible.builtin.import_role": {"name": "pgops.runbook.summary"}}]
    done = ansible_runner.play([{"hosts": "databases", "gather_facts": False, "tasks": tasks}], {"x": {}})
    assert "broke off: retention: 6 rows were removed before" in summaries(done)[0]
    assert done.rc != 0
