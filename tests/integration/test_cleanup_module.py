"""pg_cleanup as an operator runs it, with each driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.ground import evidence
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.cleaning import STORE, TABLES, UTC, numbers

pytestmark = pytest.mark.any_driver

Run = Callable[..., dict[str, Any]]
RULES = [
    {"name": "deny list", "table": "app.denied", "column": "expires_at", "older_than": "0 s", "protects": "app"},
    {"table": "app.tokens", "column": {"column": "expires_at"}, "older_than": "708 h"},
    {"table": "logins", "column": "begun", **UTC, "older_than": "15 h"},
    {"table": "codes", "column": "at", "unit": "s", "older_than": 60 * 3600 + 1800},
]


@pytest.fixture
def app(database: Database) -> Database:
    database.query(TABLES)
    # No row comes near the limit of a rule between check mode and the run.
    database.query(
        "INSERT INTO app.tokens SELECT md5(n::text)::uuid, now(), now() + n * interval '1 day' + interval '1 h'"
        " FROM generate_series(-50, 50) AS n"
    )
    database.query("INSERT INTO app.denied SELECT id, now(), expires_at FROM app.tokens")
    database.query(
        "CREATE TABLE logins AS SELECT (now() - (n + 0.5) * interval '1 h') AT TIME ZONE 'UTC' AS begun FROM generate_series(1, 30) AS n"
    )
    database.query("CREATE TABLE codes AS SELECT extract(epoch FROM now())::bigint - 3600 * n AS at FROM generate_series(1, 90) AS n")
    return database


@pytest.mark.every_driver
def test_check_mode_then_for_real_then_again(run_module: Run, app: Database) -> None:
    arguments = {"rules": RULES, "token_stores": [STORE], "batch_rows": 10}
    before = (evidence.fingerprint(app), evidence.write_counters(app))
    planned = run_module("pg_cleanup", arguments, connection=app.login(), check=True)
    assert (evidence.fingerprint(app), evidence.write_counters(app)) == before
    result = run_module("pg_cleanup", arguments, connection=app.login())
    again = run_module("pg_cleanup", arguments, connection=app.login())
    assert [one["failed"] for one in (planned, result, again)] == [False] * 3
    assert [one["changed"] for one in (planned, result, again)] == [True, True, False]
    assert numbers(planned) == numbers(result)
    assert [row["removed"] for row in result["rules"]] == [50, 21, 16, 30]
    assert [row["batches"] for row in result["rules"]] == [5, 3, 2, 3]
    assert result["rules"][0]["cutoff"].endswith("+00:00")
    assert app.query("SELECT count(*) FROM app.denied WHERE expires_at < now() - interval '5 min'") == [(0,)]


@pytest.mark.every_driver
def test_the_rules_of_a_system_description(run_module: Run, system_database: Any) -> None:
    tim = system_database("tim")
    arguments = {
        "rules": tim.description["retention"]["daily"],
        "token_stores": tim.description["token_stores"],
        "clock_skew": tim.description["clock_skew"],
    }
    alive = "SELECT count(*) FROM custom.denylist WHERE expires_at > (now() AT TIME ZONE 'UTC')"
    denied = tim.query(alive)
    result = run_module("pg_cleanup", arguments, connection=tim.login())
    assert (result["failed"], result["stopped"]) == (False, "done")
    assert result["removed"] > 0
    assert tim.query(alive) == denied


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"table": "app.nothing", "column": "at", "older_than": "1 h"}, "rules[1].table: table app.nothing does not exist"),
        ({"table": "app.tokens", "column": "exp", "older_than": "1 h"}, "rules[1].column: table app.tokens has no column 'exp'"),
        (
            {"table": "app.tokens", "column": "id", "older_than": "1 h"},
            "rules[1].column: app.tokens.id is of type uuid, which is not a time",
        ),
        ({"table": "codes", "column": "at", "older_than": "-1 h", "unit": "s"}, "rules[1].older_than: '-1 h' is not a duration"),
        (
            {"table": "codes", "column": "at", "older_than": "1 h", "unit": "us"},
            "value of unit must be one of: s, ms, got: us found in rules",
        ),
    ],
)
def test_bad_input_is_named_and_nothing_changes(run_module: Run, app: Database, rule: dict[str, Any], said: str) -> None:
    good = {"table": "app.denied", "column": "expires_at", "older_than": "0 s"}
    result = run_module("pg_cleanup", {"rules": [good, rule], "token_stores": [STORE]}, connection=app.login())
    assert result["failed"] is True
    assert said in result["msg"]
    assert result["changed"] is False
    assert app.query("SELECT count(*) FROM app.denied") == [(101,)]


def test_a_token_store_that_is_misspelt_is_named(run_module: Run, app: Database) -> None:
    store = {**STORE, "revoke": {"how": "denlyist", "table": "app.denied", "id": "id"}}
    result = run_module("pg_cleanup", {"rules": RULES, "token_stores": [store]}, connection=app.login())
    assert result["failed"] is True
    assert "token_stores[0].revoke.how: 'denlyist' is not one of denylist, timestamp, flag, delete, not_before" in result["msg"]


def test_a_failure_half_way_says_what_has_changed(run_module: Run, app: Database) -> None:
    app.query("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$")
    app.query("CREATE TRIGGER kept BEFORE DELETE ON app.tokens FOR EACH ROW EXECUTE FUNCTION refuse()")
    rules = [RULES[2], RULES[1]]
    result = run_module("pg_cleanup", {"rules": rules, "token_stores": [STORE]}, connection=app.login())
    assert (result["failed"], result["changed"], result["removed"], result["stopped"]) == (True, True, 16, "error")
    assert "rules[1]: app.tokens: not this one" in result["msg"]
    assert result["error"]["type"] == "Interrupted"


def test_a_foreign_key_that_holds_rows_fails_before_anything_has_changed(run_module: Run, app: Database) -> None:
    app.query("ALTER TABLE app.tokens ADD PRIMARY KEY (id)")
    app.query("CREATE TABLE app.holds (id uuid CONSTRAINT held REFERENCES app.tokens)")
    app.query("INSERT INTO app.holds SELECT id FROM app.tokens ORDER BY expires_at LIMIT 1")
    arguments = {"rules": [RULES[2], RULES[1]], "token_stores": [STORE]}
    planned = run_module("pg_cleanup", arguments, connection=app.login(), check=True)
    result = run_module("pg_cleanup", arguments, connection=app.login())
    for one in (planned, result):
        assert (one["failed"], one["changed"], one["error"]["sqlstate"]) == (True, False, "23503")
        assert '"held" of app.holds' in one["msg"]
    assert app.query("SELECT count(*) FROM logins") == [(30,)]


def test_max_rows_fails_with_the_counts(run_module: Run, app: Database) -> None:
    result = run_module("pg_cleanup", {"rules": RULES, "token_stores": [STORE], "max_rows": 10}, connection=app.login())
    assert (result["failed"], result["changed"], result["removed"], result["stopped"]) == (True, False, 0, "max_rows")
    assert "would remove 117 rows, more than max_rows (10)" in result["msg"]
    assert [row["matched"] for row in result["rules"]] == [50, 21, 16, 30]


def test_a_second_run_on_the_database_names_the_first(run_module: Run, app: Database) -> None:
    from ansible_collections.pgops.runbook.plugins.module_utils._lock import lock_key

    with app.connect(application_name="pgops.runbook/pg_cleanup app.tokens 40%") as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [lock_key("pg_cleanup")])
        result = run_module("pg_cleanup", {"rules": RULES, "token_stores": [STORE]}, connection=app.login())
        assert result["failed"] is True
        assert f"pid {holder.info.backend_pid}, pgops.runbook/pg_cleanup app.tokens 40%, user" in result["msg"]
        assert result["error"]["type"] == "Busy"
    assert run_module("pg_cleanup", {"rules": RULES, "token_stores": [STORE]}, connection=app.login())["failed"] is False


def test_a_read_only_standby_is_named(run_module: Run, app: Database, standby: Cluster) -> None:
    app.cluster.wait_for(standby)
    for check in (False, True):
        result = run_module("pg_cleanup", {"rules": RULES, "token_stores": [STORE]}, connection=standby.login(app.name), check=check)
        assert result["failed"] is True
        assert "read-only standby" in result["msg"]
        assert result["error"]["sqlstate"] == "25006"


def test_awx_shows_its_job_in_the_application_name(run_module: Run, app: Database) -> None:
    app.query("CREATE TABLE seen (name text)")
    app.query(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO public.seen VALUES (current_setting('application_name')); RETURN OLD; END $$"
    )
    app.query("CREATE TRIGGER note BEFORE DELETE ON codes FOR EACH ROW EXECUTE FUNCTION note()")
    run_module("pg_cleanup", {"rules": RULES[3:]}, connection=app.login(), env={"JOB_ID": "4711"})
    assert app.query("SELECT DISTINCT name FROM seen") == [("pgops.runbook/pg_cleanup/4711 public.codes 0%",)]
