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
    nothing = "removed: nothing, the system has no rules for this schedule"
    assert "removed: " in block(daily, "tim")
    assert nothing not in block(daily, "tim")
    assert [line.strip() for line in block(hourly, "tim").splitlines() if "removed" in line] == [nothing]


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


RULE = {"table": "a.b", "removed": 0, "archived": 0, "marked": 0, "protected": 0, "remaining": 0, "stopped": "done", "partitions": []}


def summed_up(ansible_runner: Any, retention: dict[str, Any], **rules: dict[str, Any]) -> PlaybookResult:
    """Run the summary alone over a healthy host and a retention with these rules by name."""
    sums = ("removed", "archived", "marked", "protected", "remaining")
    written = [{**RULE, "name": name, **rule} for name, rule in rules.items()]
    throttle = {"paused_seconds": 0.0, "reasons": [], "unknown": []}
    own = {"bytes_freed": None, "notices": [], "throttle": throttle, "rules": written}
    result = {**own, **{key: sum(rule[key] for rule in written) for key in sums}, **retention}
    facts = {"system_description": {"name": "x"}, "health_result": {"status": "ok", "findings": [], "checks": []}}
    role = {"ansible.builtin.import_role": {"name": "pgops.runbook.summary"}, "vars": {"summary_retention": result}}
    play = {"hosts": "databases", "gather_facts": False, "tasks": [{"ansible.builtin.set_fact": facts}, role]}
    done: PlaybookResult = ansible_runner.play([play], {"x": {}})
    return done


def test_what_left_is_told_by_what_became_of_it(ansible_runner: Any) -> None:
    rules = {
        "codes": {"removed": 20},
        "tokens": {"removed": 1500, "archived": 1500},
        "users": {"marked": 1},
        "audit": {"removed": 7, "partitions": [f"audit_{month}" for month in range(1, 8)]},
        "deny": {"protected": 3},
    }
    (text,) = summaries(summed_up(ansible_runner, {"bytes_freed": 3 << 20}, **rules))
    assert text.splitlines()[1:] == [
        "OK        x (x)",
        "          removed: 1,527 rows = tokens 1,500, codes 20, audit 7; 1,500 of them archived; 3.00 MB given back",
        "          marked as deleted: 1 row = users 1",
        "          partitions dropped: audit_1, audit_2, audit_3, audit_4, audit_5 and 2 more",
        "          kept although old: 3 rows that a revoked token needs = deny 3",
    ]


def test_of_a_hundred_rules_the_biggest_are_told(ansible_runner: Any) -> None:
    (text,) = summaries(summed_up(ansible_runner, {}, **{f"t{number}": {"removed": number} for number in range(1, 101)}))
    assert "removed: 5,050 rows = t100 100, t99 99, t98 98, t97 97, t96 96, t95 95, t94 94, t93 93 and 92 rules more" in text


def test_why_it_paused_and_that_it_fell_behind_are_told(ansible_runner: Any) -> None:
    reasons = [
        {"what": "replica_lag", "measured": 45.5, "limit": 30, "unit": "s", "seconds": 60.0},
        {"what": "blocked_sessions", "measured": 7, "limit": 5, "unit": "sessions", "seconds": 5.25},
    ]
    unseen = {"what": "oldest_transaction", "reason": "times of others are hidden", "hint": "GRANT pg_read_all_stats TO pgops"}
    throttle = {"paused_seconds": 65.25, "reasons": reasons, "unknown": [unseen]}
    rules = {"codes": {"removed": 20, "remaining": 1005, "stopped": "throttled"}, "tokens": {"remaining": 7, "stopped": "throttled"}}
    done = summed_up(ansible_runner, {"throttle": throttle, "notices": ["a.b.c has no index"]}, **rules)
    (text,) = summaries(done)
    assert text.splitlines()[1:] == [
        "WARNING   x (x)",
        "          removed: 20 rows = codes 20",
        "          left over: codes 1,005 (throttled), tokens 7 (throttled)",
        "          paused: 65 s = replica lag 45.5 over 30 s for 60 s, blocked sessions 7 over 5 sessions for 5.2 s",
        "          not watched: oldest transaction: times of others are hidden; do: GRANT pg_read_all_stats TO pgops",
        "          warning: retention: the server stayed under strain until it gave up waiting, the next run goes on from there",
        "          warning: retention: a.b.c has no index",
    ]
    assert done.rc == 0, "a warning fails a host only where pgops_fail_on says so"


@pytest.mark.parametrize(("stopped", "status"), [("window", "WARNING"), ("throttled", "WARNING"), ("max_runtime", "OK"), ("locked", "OK")])
def test_a_bound_of_one_s_own_is_no_warning(ansible_runner: Any, stopped: str, status: str) -> None:
    (text,) = summaries(summed_up(ansible_runner, {}, codes={"remaining": 5, "stopped": stopped}))
    assert block(text, "x").startswith(status)
    assert f"left over: codes 5 ({stopped})" in text


def test_findings_shown_may_be_a_text_or_empty(ansible_runner: Any) -> None:
    findings = [{"check": f"a.{n}", "severity": "warning", "object": "", "message": "m", "action": ""} for n in range(9)]
    facts = {"system_description": {"name": "x"}, "health_result": {"status": "warning", "findings": findings, "checks": []}}
    tasks = [{"ansible.builtin.set_fact": facts}, {"ansible.builtin.import_role": {"name": "pgops.runbook.summary"}}]
    for written, more in (("2", 7), ("", 4)):
        play = {"hosts": "databases", "gather_facts": False, "tasks": tasks, "vars": {"summary_findings_shown": written}}
        assert f"and {more} more, in the result of pg_health" in summaries(ansible_runner.play([play], {"x": {}}))[0]
