"""What the README tells an operator to write, done as it stands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.ground.runner import AnsibleRunner, PlaybookResult
from tests.ground.templates import SystemDatabase

TOP = Path(__file__).resolve().parents[2]


def written(language: str, path: str = "README.md", about: str = "") -> str:
    """Return the only block in `language` of a README that is about `about`."""
    (text,) = re.findall(rf"```{language}\n((?:(?!```).)*{about}(?:(?!```).)*)```", (TOP / path).read_text(encoding="utf-8"), re.DOTALL)
    return str(text)


def test_the_inventory_and_the_grants_are_enough(
    system_database: Callable[..., SystemDatabase], run_playbook: Callable[..., PlaybookResult]
) -> None:
    database = system_database("tim")
    database.query("DROP ROLE IF EXISTS pgops")
    database.query("CREATE ROLE pgops LOGIN")
    try:
        for statement in re.sub(r"--.*", "", written("sql")).split(";"):
            if statement.strip():
                database.query(statement)
        (host,) = yaml.safe_load(written("yaml", about="# inventory.yml"))["databases"]["hosts"].values()
        here = {key: text for key, text in database.login().items() if key in ("login_host", "login_port", "login_db")}
        connection = {**host["pgops_connection"], **here, "ssl_mode": "prefer"}
        done = run_playbook("daily", {"db": {**host, "pgops_connection": connection}})
        assert done.rc == 0, done.stdout
        (health,) = done.find(action="pg_health")
        assert connection["login_user"] == "pgops"
        # What no privilege shows: nobody said where the backups stand, and the server has not loaded pg_stat_statements.
        assert set(health.result["unknown"]) <= {"backup.age", "backup.verify_age", "stat.slow", "stat.evictions"}
        assert [found["key"] for found in health.result["findings"] if "GRANT" in found["action"]] == []
        (cleanup,) = done.find(action="pg_cleanup")
        assert {rule["name"]: rule["removed"] for rule in cleanup.result["rules"]} == database.expected.removed["daily"]
    finally:
        database.query("DROP OWNED BY pgops")
        database.query("DROP ROLE pgops")


def test_the_record_of_old_revocations_can_be_let_go(
    system_database: Callable[..., SystemDatabase], run_playbook: Callable[..., PlaybookResult], ansible_runner: AnsibleRunner
) -> None:
    database = system_database("tim")
    host = {"pgops_system": "tim", "pgops_connection": database.login()}
    answers = {"target": "db", "reason": "a test", "confirm": True}
    for claim in ("admin", "nonadmin"):
        done = run_playbook("emergency_revoke", {"db": host}, extra_vars={**answers, "claims": claim, "revocation_id": claim})
        assert done.rc == 0, done.stdout
    kept = "SELECT DISTINCT revocation_id FROM pgops_runbook.changed_rows JOIN pgops_runbook.changes USING (change_id) ORDER BY 1"
    assert database.query(kept) == [("admin",), ("nonadmin",)]
    database.query("UPDATE pgops_runbook.revocations SET began_at = began_at - interval '31 days' WHERE revocation_id = 'admin'")
    database.query(written("sql", "roles/token_revoke/README.md", "changed_rows"))
    assert database.query(kept) == [("nonadmin",)]
    database.query("UPDATE pgops_runbook.changed_rows SET changed_at = changed_at - interval '31 days'")
    tasks = yaml.safe_load(written("yaml", "roles/token_revoke/README.md", "changed_rows"))
    defaults = {"group/pgops.runbook.postgresql": database.login()}
    done = ansible_runner.play([{"hosts": "all", "gather_facts": False, "module_defaults": defaults, "tasks": tasks}], {"db": host})
    assert done.rc == 0, done.stdout
    assert database.query(kept) == []
    assert database.query("SELECT count(*) FROM pgops_runbook.revocations") == [(2,)]
