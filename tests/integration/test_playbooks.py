"""The hourly and the daily runbook, from the playbook to the database and back, on all five systems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from psycopg import sql

from tests.ground.evidence import fingerprint, write_counters
from tests.ground.runner import PlaybookResult
from tests.ground.templates import SystemDatabase, SystemDatabases

SYSTEMS = ("tim", "oauth2_server", "tmi", "showtrack", "azth")
ORPHANS = """
SELECT count(*), coalesce(min(expires_at) > (now() AT TIME ZONE 'UTC') - interval '5 min', true) FROM {schema}.denylist d
WHERE NOT EXISTS (SELECT 1 FROM {schema}.jwt_metadata m WHERE m.jwt_uuid = d.jwt_uuid)
"""


@pytest.fixture(scope="module")
def fleet(system_databases: SystemDatabases) -> dict[str, SystemDatabase]:
    """One filled database of every system."""
    return {name: system_databases.copy(name, f"fleet_{name}", 3000) for name in SYSTEMS}


def hosts_of(fleet: dict[str, SystemDatabase]) -> dict[str, dict[str, Any]]:
    return {f"{name}-db": {"pgops_system": name, "pgops_connection": database.login()} for name, database in fleet.items()}


def removed(done: PlaybookResult, host: str) -> dict[str, int]:
    """Return what the retention removed, or would remove, on `host`: rows by rule."""
    found = done.find(host=host, action="pg_cleanup")
    assert len(found) <= 1
    return {rule["name"]: rule["removed"] for one in found if one.status == "ok" for rule in one.result["rules"]}


@pytest.fixture(scope="module")
def three_runs(fleet: dict[str, SystemDatabase], ansible_runner: Any) -> dict[str, Any]:
    """The daily runbook in check mode, for real, and once more, with what was in the databases around the first."""
    hosts = hosts_of(fleet)
    before = {name: (fingerprint(database), write_counters(database)) for name, database in fleet.items()}
    check = ansible_runner.playbook("daily", hosts, check=True)
    after = {name: (fingerprint(database), write_counters(database)) for name, database in fleet.items()}
    real = ansible_runner.playbook("daily", hosts)
    again = ansible_runner.playbook("daily", hosts)
    return {"before": before, "after": after, "check": check, "real": real, "again": again}


def test_check_mode_writes_nothing(three_runs: dict[str, Any]) -> None:
    assert three_runs["check"].rc == 0, three_runs["check"].stdout
    assert three_runs["after"] == three_runs["before"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_check_mode_foretells_the_run(three_runs: dict[str, Any], fleet: dict[str, SystemDatabase], system: str) -> None:
    host = f"{system}-db"
    foretold, done = removed(three_runs["check"], host), removed(three_runs["real"], host)
    assert foretold == done
    assert done == fleet[system].expected.removed["daily"]
    assert set(removed(three_runs["again"], host).values()) <= {0}


def test_the_third_run_changes_nothing(three_runs: dict[str, Any]) -> None:
    assert three_runs["real"].changed > 0
    assert three_runs["again"].rc == 0
    assert three_runs["again"].changed == 0


def test_no_living_deny_row_left(three_runs: dict[str, Any], fleet: dict[str, SystemDatabase]) -> None:
    assert three_runs["real"].rc == 0
    for schema in ("custom", "tara"):
        ((orphans, all_alive),) = fleet["tim"].query(sql.SQL(ORPHANS).format(schema=sql.Identifier(schema)))
        assert orphans > 0, "orphaned deny rows of living tokens stay"
        assert all_alive


def test_summary_says_what_was_removed_and_what_is_wrong(three_runs: dict[str, Any], fleet: dict[str, SystemDatabase]) -> None:
    (printed,) = three_runs["real"].find(action="debug")
    lines = printed.result["summary_lines"]
    total = sum(fleet["tim"].expected.removed["daily"].values())
    assert lines[0].startswith("daily, ")
    assert "5 hosts" in lines[0]
    assert any("tim-db (tim)" in line for line in lines)
    assert any(f"removed: {total:,} rows" in line for line in lines)
    assert any("login.stuck" in line and "tara.oauth_state" in line for line in lines)
    assert any(line.strip().startswith("do: ") for line in lines)
    assert "          removed: nothing, the system has no rules for this schedule" in lines, "ShowTrack has none for the day"
    assert "check mode: nothing was changed" in three_runs["check"].find(action="debug")[0].result["summary_lines"][0]


def test_hourly_only_looks(
    system_database: Callable[..., SystemDatabase], run_playbook: Callable[..., PlaybookResult], driver: str
) -> None:
    database = system_database("tim")
    before = fingerprint(database)
    done = run_playbook("hourly", hosts_of({"tim": database}), driver=driver)
    assert done.rc == 0, done.stdout
    (health,) = done.find(action="pg_health")
    assert {check["tier"] for check in health.result["checks"]} == {"hourly"}
    assert health.result["server"]["driver"] == driver
    assert [cleanup.status for cleanup in done.find(action="pg_cleanup")] == ["skipped"], "TIM has no rules for the hour"
    assert done.changed == 0
    assert fingerprint(database) == before


def test_fail_on_warning_fails_the_host(
    system_database: Callable[..., SystemDatabase], run_playbook: Callable[..., PlaybookResult]
) -> None:
    database = system_database("tim")
    database.query("UPDATE tara.oauth_state SET created_at = created_at - interval '2 hours'")
    done = run_playbook("hourly", hosts_of({"tim": database}), extra_vars={"pgops_fail_on": "warning"})
    assert done.rc != 0
    assert done.stats["tim-db"]["failures"] == 1


def test_fail_on_an_empty_survey_answer_is_the_default(
    system_database: Callable[..., SystemDatabase], run_playbook: Callable[..., PlaybookResult]
) -> None:
    done = run_playbook("hourly", hosts_of({"tim": system_database("tim")}), extra_vars={"pgops_fail_on": ""})
    assert done.rc == 0, done.stdout


def test_one_dead_database_does_not_hide_the_others(
    system_database: Callable[..., SystemDatabase], run_playbook: Callable[..., PlaybookResult]
) -> None:
    database = system_database("tim")
    hosts = hosts_of({"tim": database})
    hosts["dead-db"] = {"pgops_system": "azth", "pgops_connection": {"login_host": "127.0.0.1", "login_port": 1, "login_db": "azth"}}
    hosts["lost-host"] = {**hosts["tim-db"], "ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    done = run_playbook("daily", hosts)
    assert done.rc != 0
    (printed,) = done.find(action="debug")
    text = "\n".join(printed.result["summary_lines"])
    assert "dead-db" in text.splitlines()[3] or "dead-db" in text
    assert "CRITICAL  dead-db (azth)" in text
    assert "FAILED    lost-host (tim)" in text
    assert "the host does not answer" in text
    assert removed(done, "tim-db") == database.expected.removed["daily"]
    assert done.stats["tim-db"]["failures"] == 0
    assert done.stats["dead-db"]["failures"] == 1
