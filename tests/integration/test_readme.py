"""What the README tells an operator to write, done as it stands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.ground.runner import PlaybookResult
from tests.ground.templates import SystemDatabase

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def written(language: str) -> str:
    """Return the README's only block in `language`."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
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
        (host,) = yaml.safe_load(written("yaml"))["databases"]["hosts"].values()
        here = {key: text for key, text in database.login().items() if key in ("login_host", "login_port", "login_db")}
        connection = {**host["pgops_connection"], **here, "ssl_mode": "prefer"}
        done = run_playbook("daily", {"db": {**host, "pgops_connection": connection}})
        assert done.rc == 0, done.stdout
        (health,) = done.find(action="pg_health")
        assert connection["login_user"] == "pgops"
        assert health.result["unknown"] == []
        (cleanup,) = done.find(action="pg_cleanup")
        assert {rule["name"]: rule["removed"] for rule in cleanup.result["rules"]} == database.expected.removed["daily"]
    finally:
        database.query("DROP OWNED BY pgops")
        database.query("DROP ROLE pgops")
