"""The weekly runbook, and what all runbooks of a schedule do with answers that they do not know."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.ground.evidence import fingerprint
from tests.ground.runner import PlaybookResult
from tests.ground.servers import CHECKOUT
from tests.ground.systems import description_of
from tests.ground.templates import SystemDatabase

Playbook = Callable[..., PlaybookResult]
Systems = Callable[..., SystemDatabase]
SYSTEMS = ("tim", "oauth2_server", "tmi", "showtrack", "azth")
SCHEDULED = ("hourly", "daily", "weekly")
DEAD = {"pgops_system": "tim", "pgops_connection": {"login_host": "127.0.0.1", "login_port": 1, "login_db": "tim"}}


def host_of(database: SystemDatabase, system: Any = "tim") -> dict[str, Any]:
    return {"pgops_system": system, "pgops_connection": database.login()}


def removed(done: PlaybookResult, host: str) -> dict[str, int]:
    """Return what the retention removed, or would remove, on `host`: rows by rule; nothing where the system has no rules."""
    (found,) = done.find(host=host, action="pg_cleanup")
    return {rule["name"]: rule["removed"] for rule in found.result["rules"]} if found.status == "ok" else {}


def text_of(done: PlaybookResult) -> str:
    """Return the summary that was printed."""
    (printed,) = done.find(action="debug")
    return "\n".join(printed.result["summary_lines"])


def answers_known() -> set[str]:
    """Return the names that the runbooks of a schedule know."""
    (preflight,) = [
        play for play in yaml.safe_load((CHECKOUT / "playbooks/scheduled_preflight.yml").read_text(encoding="utf-8")) if "vars" in play
    ]
    return set(preflight["vars"]["scheduled_answers"])


@pytest.mark.any_driver
def test_preview_run_and_again(system_database: Systems, run_playbook: Playbook, driver: str) -> None:
    systems = {name: system_database(name) for name in SYSTEMS}
    hosts = {**{name: host_of(database, name) for name, database in systems.items()}, "dead": DEAD}
    before = {name: fingerprint(database) for name, database in systems.items()}
    expected = {name: database.expected.removed.get("weekly", {}) for name, database in systems.items()}
    with_rules = {name for name in SYSTEMS if expected[name]}
    assert sum(expected["tim"].values()) > 0
    some = {name: hosts[name] for name in (*with_rules, "azth", "dead")}

    check = run_playbook("weekly", some, check=True, driver=driver)
    assert {name: removed(check, name) for name in with_rules} == {name: expected[name] for name in with_rules}
    assert {name: fingerprint(database) for name, database in systems.items()} == before

    real = run_playbook("weekly", hosts, driver=driver)
    assert {name: removed(real, name) for name in SYSTEMS} == expected, "of TIM the metadata, and nothing that is for the day"
    assert {host: real.stats[host]["failures"] for host in hosts} == {**dict.fromkeys(SYSTEMS, 0), "dead": 1}
    assert {name for name, database in systems.items() if fingerprint(database) != before[name]} == with_rules
    text = text_of(real)
    assert text.startswith("weekly, ")
    assert f"removed: {sum(expected['tim'].values()):,} rows = custom.jwt_metadata " in text
    assert text.count("removed: nothing, the system has no rules for this schedule") == len(SYSTEMS) - len(with_rules)
    assert "CRITICAL  dead (tim)" in text
    for name in SYSTEMS:
        (health,) = real.find(host=name, action="pg_health")
        assert {"hourly", "daily"} <= {check["tier"] for check in health.result["checks"]}

    again = run_playbook("weekly", some, driver=driver)
    assert {name: set(removed(again, name).values()) for name in with_rules} == {name: {0} for name in with_rules}
    assert again.changed == 0


def test_metadata_that_a_deny_row_needs_waits_for_the_rules_of_the_day(system_database: Systems, run_playbook: Playbook) -> None:
    """Where deny rows have no expiry of their own, the tokens' rows alone say for how long to deny."""
    tim = description_of("tim")
    system = {key: tim[key] for key in ("name", "schemas", "time_zone", "clock_skew")}
    stores = [{"tokens": dict(store["tokens"]), "name": store["name"], "revoke": dict(store["revoke"])} for store in tim["token_stores"]]
    for store in stores:
        store["tokens"] = {key: store["tokens"][key] for key in ("table", "id", "expires_at")}
        store["revoke"] = {key: store["revoke"][key] for key in ("how", "table", "id", "revoked_at")}
    daily = [{"table": f"{name}.denylist", "column": "denylisted_at", "older_than": "0 s"} for name in ("custom", "tara")]
    weekly = [{"table": f"{name}.jwt_metadata", "column": "expires_at", "older_than": "0 s"} for name in ("custom", "tara")]
    system.update(token_stores=stores, retention={"daily": daily, "weekly": weekly})
    database = system_database("tim")
    host = {"tim": host_of(database, system)}
    denied = "SELECT count(*) FROM custom.denylist d JOIN custom.jwt_metadata m USING (jwt_uuid)"
    before = database.query(denied)
    assert before != [(0,)]

    first = run_playbook("weekly", host)
    assert first.rc == 0, first.stdout
    assert database.query(denied) == before, "no metadata went before the deny row that needs it"
    (cleanup,) = first.find(action="pg_cleanup")
    assert cleanup.result["protected"] > 0

    assert run_playbook("daily", host).rc == 0
    second = run_playbook("weekly", host)
    assert second.find(action="pg_cleanup")[0].result["protected"] == 0
    assert removed(second, "tim")["custom.jwt_metadata"] > 0


def test_an_earlier_runbook_s_retention_is_not_shown_for_its_own(system_database: Systems, ansible_runner: Any) -> None:
    gone = "{{ 'ssh' if retention_result.rules is defined else 'local' }}"
    host = {**host_of(system_database("tim")), "ansible_connection": gone, "ansible_host": "127.0.0.1", "ansible_port": 1}
    plays = [{"ansible.builtin.import_playbook": f"pgops.runbook.{name}"} for name in ("daily", "weekly")]
    wrong = {"vars": {"system_source": "nosuch"}}
    done = ansible_runner.play([plays[0], {**plays[1], **wrong}], {"tim": {**host, "ansible_connection": "local"}})
    daily, weekly = ["\n".join(task.result["summary_lines"]) for task in done.find(action="debug")]
    assert "removed: " in daily
    assert "broke off: " in weekly
    assert "removed: " not in weekly


@pytest.mark.parametrize("runbook", SCHEDULED)
@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("retention_max_row", "did you mean retention_max_rows?"),
        ("retention_schedule", ""),
        ("retention_preview", ""),
        ("health_tier", ""),
        ("fail_on", "did you mean pgops_fail_on?"),
    ],
)
def test_an_answer_that_is_not_known_stops_the_run(run_playbook: Playbook, runbook: str, name: str, near: str) -> None:
    done = run_playbook(runbook, {"dead": DEAD}, extra_vars={name: 1})
    assert done.rc != 0
    assert f"nothing was looked at: {name} is no answer that this runbook knows" in done.stdout
    assert near in done.stdout
    assert not done.find(action="pg_health")


@pytest.mark.parametrize("runbook", SCHEDULED)
def test_variables_of_awx_and_of_ones_own_are_no_typos(run_playbook: Playbook, runbook: str) -> None:
    extra = {"awx_job_id": 7, "tower_user_name": "ann", "pgops_summary": {}, "site_name": "north"}
    own = {**DEAD, "pgops_other_variables": ["site_*"]}
    done = run_playbook(runbook, {"dead": own}, extra_vars={**extra, **dict.fromkeys(answers_known(), ""), "target": "databases"})
    assert "no answer that this runbook knows" not in done.stdout
    assert done.find(action="pg_health")


ROLES = ("backup", "health", "notify", "recovery_drill", "report", "retention", "summary")


def test_every_option_of_the_roles_is_an_answer_unless_the_playbooks_give_it() -> None:
    options: set[str] = set()
    for role in ROLES:
        specs = yaml.safe_load((CHECKOUT / f"roles/{role}/meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
        options |= set(specs["main"]["options"])
    given = {
        name
        for runbook in ("scheduled", "daily", "hourly", "weekly", "monthly")
        for name in re.findall(rf"^ +((?:{'|'.join(ROLES)})_\w+):", playbook(runbook), re.MULTILINE)
    }
    kept = {
        "summary_health",
        "report_drill",
        "report_health",
        "report_failure",
        "retention_preview",
        "backup_policies",
        "backup_runbook",
        "recovery_drill_runbook",
    }  # what a role hands on, and what emergency runbooks, or those for one backup, do by themselves
    assert answers_known() == options - given - kept


def playbook(name: str) -> str:
    return (CHECKOUT / f"playbooks/{name}.yml").read_text(encoding="utf-8")
