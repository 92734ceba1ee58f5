"""The connection options through a whole module: what Ansible shows, hides and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._arguments import CONNECTION_ARGUMENTS
from tests.ground.cluster import PASSWORD_ROLE
from tests.ground.databases import Database
from tests.ground.runner import AnsibleRunner

Run = Callable[..., dict[str, Any]]
WORK = {"rules": [{"table": "public.sessions", "column": "expires_at", "older_than": "1 h"}]}
SECRET = "s3cr3t-of-the-role"


@pytest.fixture
def sessions(database: Database) -> Iterator[Database]:
    """A database with one row to remove, and a role that must give a password."""
    database.query("CREATE TABLE sessions AS SELECT now() - interval '1 day' AS expires_at")
    database.query(f"CREATE ROLE {PASSWORD_ROLE}")
    database.query(f"CREATE ROLE cleaner LOGIN PASSWORD '{SECRET}' IN ROLE {PASSWORD_ROLE}")
    database.query("GRANT SELECT, UPDATE, DELETE ON sessions TO cleaner")
    yield database
    database.query("DROP OWNED BY cleaner")
    database.query(f"DROP ROLE cleaner, {PASSWORD_ROLE}")


def test_a_password_in_connect_params_connects_and_is_never_shown(run_module: Run, sessions: Database) -> None:
    inside = {"user": "cleaner", "password": SECRET, "host": "127.0.0.1", "port": sessions.cluster.port, "dbname": sessions.name}
    result = run_module("pg_cleanup", {**WORK, "connect_params": inside}, check=True)
    assert (result["failed"], result.get("removed")) == (False, 1), result.get("msg")
    assert SECRET not in json.dumps(result)
    refused = run_module("pg_cleanup", {**WORK, "connect_params": {**inside, "password": f"wrong-{SECRET}"}}, check=True)
    assert refused["layer"] == "authentication"
    # What is no secret among them stays readable.
    assert f'database "{sessions.name}" at 127.0.0.1:{sessions.cluster.port} as "cleaner"' in refused["msg"]
    assert SECRET not in json.dumps(refused)


def test_options_left_empty_and_empty_variables_leave_it_to_libpq(run_module: Run, sessions: Database) -> None:
    empty = {name: "" for name in CONNECTION_ARGUMENTS if name != "connect_params"}
    place = {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(sessions.cluster.port),
        "PGUSER": "cleaner",
        "PGPASSWORD": SECRET,
        "PGDATABASE": sessions.name,
    }
    nothing = dict.fromkeys(("PGSSLMODE", "PGSERVICE", "PGOPTIONS", "PGTARGETSESSIONATTRS", "PGCONNECT_TIMEOUT"), "")
    result = run_module("pg_cleanup", {**WORK, **empty}, env={**place, **nothing}, check=True)
    assert (result["failed"], result.get("removed")) == (False, 1), result.get("msg")
    assert SECRET not in json.dumps(result)


def test_a_missing_driver_is_named(run_module: Run, sessions: Database) -> None:
    result = run_module("pg_cleanup", WORK, connection=sessions.login(), driver="none")
    assert result["failed"] is True
    assert result["error"]["type"] == "DriverMissing"
    assert "psycopg2-binary" in result["msg"]
    assert "psycopg[binary]" in result["msg"]
    assert sessions.query("SELECT count(*) FROM sessions") == [(1,)]


def test_a_wrong_option_is_named_before_anything_connects(run_module: Run) -> None:
    result = run_module("pg_cleanup", {**WORK, "login_host": "nohost.invalid", "login_port": "5432;5433"})
    assert result["error"] == {"type": "InvalidValue", "object": "login_port", "sqlstate": None, "hint": None}
    assert "5432;5433" in result["msg"]


@pytest.mark.parametrize(
    "options",
    [
        {"login_db": f"postgresql://cleaner:{SECRET}@127.0.0.1/sessions"},
        {"login_host": f"host=127.0.0.1 password = '{SECRET}'"},
        {"login_port": f"postgresql://cleaner:{SECRET}@127.0.0.1:1"},
        {"login_user": f"postgresql://cleaner:{SECRET}@127.0.0.1", "login_host": "127.0.0.1", "login_port": "1"},
        {"connect_params": {"dbname": f"postgresql://cleaner:{SECRET}@127.0.0.1/sessions"}},
        {"connect_params": {"pasword": SECRET, "host": "127.0.0.1", "port": 1}},
        {"connect_params": {"options": f"-c app.key={SECRET}", "host": "127.0.0.1", "port": 1}},
    ],
    ids=["login_db", "login_host", "login_port", "login_user", "dbname", "pasword", "options"],
)
def test_a_secret_in_the_wrong_place_is_in_no_part_of_the_output(options: dict[str, Any], ansible_runner: AnsibleRunner) -> None:
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"pgops.runbook.pg_cleanup": {**WORK, **options}}]}
    done = ansible_runner.play([play], {"localhost": {}}, arguments=["-vvv"])
    (result,) = done.tasks
    assert result.status == "failed"
    # What was given is shown at this verbosity, and the part of it that is no secret can be read.
    given = result.result["invocation"]["module_args"]
    assert given["rules"][0]["table"] == "public.sessions"
    if "host" in options.get("connect_params", {}):
        assert (given["connect_params"]["host"], given["connect_params"]["port"]) == ("127.0.0.1", 1)
    assert SECRET not in json.dumps(result.result) + done.stdout + done.stderr
