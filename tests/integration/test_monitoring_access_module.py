"""pg_monitoring_access as an operator runs it, on every system that the collection describes, and the role around it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.ground.databases import Database
from tests.ground.schema import create_system
from tests.ground.systems import BUILT_IN, READY, description_of
from tests.integration.granting import access, grant, lacking, roles
from tests.integration.watching import SYSTEM, look, stock

Run = Callable[..., dict[str, Any]]
ROLE = "watcher"


@pytest.mark.any_driver
@pytest.mark.parametrize("system", [*BUILT_IN, *READY])
def test_every_described_system_can_be_watched(database: Database, system: str) -> None:
    description = description_of(system)
    with database.connect() as connection:
        create_system(connection, description)
    with roles(database, **{ROLE: ""}), database.connect():
        before = access(database, ROLE)
        result = grant(database, ROLE, system=description)
        seen = look(database, "monthly", system=description, login={"login_user": ROLE})
        assert [found for found in seen["findings"] if found["severity"] == "unknown" and found["sqlstate"] == "42501"] in (
            [],
            [found for found in seen["findings"] if found["check"] == "security.md5"],
        )
        # What is left unknown for other reasons of access is said beforehand.
        left = {gap["on"] for gap in result["not_granted"]}
        assert [key for key, _message in lacking(seen) if key.partition("[")[2].rstrip("]") not in left] == []
        hidden = {match[1] for found in seen["findings"] if (match := re.search(r"would hide rows of (\S+) from", found["message"]))}
        assert hidden <= {gap["on"] for gap in result["not_granted"] if gap["what"] == "every row"}
        assert bool(hidden) is (system in ("azth", "showtrack"))
        assert grant(database, ROLE, system=description)["changed"] is False
        grant(database, ROLE, system=description, state="absent")
        assert access(database, ROLE) == before


@pytest.fixture
def shop(database: Database) -> Iterator[Database]:
    """The small system, and a role that has nothing yet."""
    stock(database)
    with roles(database, **{ROLE: ""}):
        yield database


def test_check_mode_then_for_real_then_again(shop: Database, run_module: Run) -> None:
    arguments = {"role": ROLE, "system": SYSTEM, "history_schema": "pgops"}
    before = access(shop, ROLE)
    planned = run_module("pg_monitoring_access", arguments, connection=shop.login(), check=True, diff=True)
    assert access(shop, ROLE) == before
    done = run_module("pg_monitoring_access", arguments, connection=shop.login())
    again = run_module("pg_monitoring_access", arguments, connection=shop.login())
    assert [one["failed"] for one in (planned, done, again)] == [False] * 3
    assert [one["changed"] for one in (planned, done, again)] == [True, True, False]
    assert done["grants"] == planned["grants"]
    assert (done["role"], done["database"], done["missing"]) == (ROLE, shop.name, [])
    assert planned["diff"]["after"].startswith("membership on role pg_monitor\n")
    ended = run_module("pg_monitoring_access", {**arguments, "state": "absent"}, connection=shop.login())
    assert ended["changed"] is True
    assert access(shop, ROLE) == before


@pytest.mark.any_driver
@pytest.mark.parametrize("first", ["postgres", ROLE])
def test_the_history_can_be_kept_whoever_began_it(shop: Database, run_module: Run, first: str) -> None:
    options = {"role": ROLE, "history_schema": "My history"}
    before = access(shop, ROLE)
    grant(shop, **options)
    for login in (first, ROLE):
        health = {"history_schema": "My history", "checks": ["avail"], "fail_on": "never"}
        again = grant(shop, **options)
        result = run_module("pg_health", health, connection={**shop.login(), "login_user": login})
        assert result["history"]["recorded"] is True, result["history"]
        assert again["changed"] is (login != first)
    assert result["history"]["snapshots"] == 2
    ended = grant(shop, state="absent", **options)
    assert "DROP SCHEMA" in {gap["what"] for gap in ended["not_granted"]}
    with shop.connect() as connection:
        connection.execute('DROP SCHEMA "My history" CASCADE')
    assert access(shop, ROLE) == before


@pytest.mark.any_driver
def test_it_fails_with_what_is_missing(shop: Database, run_module: Run) -> None:
    with roles(shop, nobody=""):
        login = {**shop.login(), "login_user": "nobody"}
        refused = run_module("pg_monitoring_access", {"role": ROLE}, connection=login)
        assert (refused["failed"], refused["error"]["type"]) == (True, "NotAllowed")
        assert {gap["on"] for gap in refused["missing"]} >= {"role pg_monitor", "pg_catalog.pg_statistic"}
        partial = run_module("pg_monitoring_access", {"role": ROLE, "partial": True}, connection=login)
        assert (partial["failed"], partial["changed"], partial["missing"]) == (False, False, refused["missing"])
    absent = run_module("pg_monitoring_access", {"role": "nobody", "history_schema": ""}, connection=shop.login())
    assert absent["error"]["type"] == "MissingObject"
    assert 'CREATE ROLE "nobody" LOGIN;' in absent["msg"]


@pytest.mark.any_driver
def test_the_role_gives_the_access_and_takes_it(shop: Database, ansible_runner: Any) -> None:
    before = access(shop, ROLE)
    empty = {"monitoring_access_partial": "", "monitoring_access_history_schema": "", "monitoring_access_integrity": ""}
    given = {"system_description": SYSTEM, "monitoring_access_role": ROLE, "monitoring_access_token_ids": "no", **empty}
    roles_used = [
        {"role": "pgops.runbook.monitoring_access"},
        {"role": "pgops.runbook.monitoring_access", "monitoring_access_state": "absent"},
    ]
    play = {"hosts": "databases", "gather_facts": False, "vars": given, "roles": roles_used}
    play["module_defaults"] = {"group/pgops.runbook.postgresql": shop.login()}
    done = ansible_runner.play([play], {"shop": {}})
    assert done.rc == 0, done.stdout
    gave, took = [task.result for task in done.find(action="pg_monitoring_access")]
    assert {gap["reason"] for gap in gave["not_granted"] if "(id)" in gap["what"]} == {"token_ids is false"}
    assert (gave["changed"], took["changed"]) == (True, True)
    assert access(shop, ROLE) == before
