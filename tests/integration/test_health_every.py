"""All checks together: each answers or says why not, whoever asks and wherever, and none takes another with it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _health
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.set_aside import SET_ASIDE
from tests.integration.watching import SYSTEM, create_role, drop_role, eventually, look, run_script, stock

CHECKS = list(_health.CHECKS)
# The server does not understand the statement, or finds nothing by a name in it: a fault of the check.
OWN_FAULTS = ("42601", "42703", "42P01", "42883", "42804", "22P02", "0A000")


@pytest.fixture
def shop(database: Database) -> Database:
    """The small system with nothing wrong in it."""
    stock(database)
    return database


def everything(database: Database, **params: Any) -> dict[str, Any]:
    return look(database, "monthly", checks=[], **params)


def statuses(result: dict[str, Any]) -> dict[str, str]:
    return {check["id"]: check["status"] for check in result["checks"]}


# What a run itself reads would be the sample that the next one judges; and others use the machine meanwhile.
NO_SAMPLE = {"cache.hit_pct": {"minimum": 10**12}, **SET_ASIDE["health_thresholds"]}


def assert_answers(result: dict[str, Any], asked: list[str]) -> None:
    """Check that every check of `asked` has answered, or said why not in words that help."""
    assert [check["id"] for check in result["checks"]] == asked
    for found in (*result["findings"], *result["checks"]):
        assert "the check itself failed" not in found["message"], found
        assert "the check said nothing" not in found["message"], found
        assert found["message"]
        assert found.get("sqlstate") not in OWN_FAULTS, found
    for found in result["findings"]:
        assert found["action"], found
        # What cannot be seen has no number.
        assert (found["severity"], found["value"]) == (found["severity"], None if found["severity"] == "unknown" else found["value"])


@pytest.mark.parametrize("system", ["shop", None])
@pytest.mark.parametrize("member_of", [None, (), ("pg_monitor",)], ids=["superuser", "plain", "pg_monitor"])
def test_every_check_answers_or_says_why_not(shop: Database, system: Any, member_of: tuple[str, ...] | None) -> None:
    if member_of is None:
        assert_answers(everything(shop, system=system), CHECKS)
        return
    login = create_role(shop.cluster, "any body", *member_of)
    try:
        with shop.connect():
            result = everything(shop, system=system, login=login)
        assert_answers(result, CHECKS)
        refused = [found for found in result["findings"] if found["sqlstate"] == "42501"]
        # A refusal is expected and says which grant would change it; an error of the server says less.
        assert refused == []
        if not member_of:
            assert {"conn.states", "query.longest", "transaction.longest", "conn.idle_in_transaction"} <= set(result["unknown"])
    finally:
        drop_role(shop.cluster, shop, "any body")


@pytest.fixture
def on_standby(shop: Database, standby: Cluster) -> Database:
    """The small system, once it has reached the standby."""
    there = [(1,)]
    eventually(lambda: _rows(standby, shop.name) == there)
    return shop


def _rows(standby: Cluster, name: str) -> list[tuple[Any, ...]]:
    with standby.connect() as connection:
        names = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchall()
    if not names:
        return []
    with standby.connect(name) as connection:
        return connection.execute("SELECT 1 FROM pg_views WHERE viewname = 'overview'").fetchall()


@pytest.mark.any_driver
def test_every_check_answers_on_a_standby(on_standby: Database, standby: Cluster) -> None:
    result = everything(on_standby, cluster=standby)
    assert result["server"]["in_recovery"] is True
    assert_answers(result, CHECKS)


@pytest.mark.any_driver
def test_the_hourly_look_at_a_server_takes_three_statements(shop: Database) -> None:
    assert look(shop, "hourly", checks=[], system=None)["round_trips"] <= 3
    # With a system one more for its catalogue, and one for each question to its tables.
    empty = {**SYSTEM, "token_stores": [], "login_flows": []}
    assert look(shop, "hourly", checks=[], system=empty)["round_trips"] <= 3


def needs_changes_of_the_catalogue(database: Database) -> None:
    if database.cluster.installation.major < 13:
        pytest.skip("a session can change the views of the catalogue from PostgreSQL 13 on")


@pytest.mark.any_driver
@pytest.mark.parametrize("view", ["pg_stat_database", "pg_replication_slots", "pg_stat_activity", "pg_settings", "pg_prepared_xacts"])
def test_a_view_that_is_missing_takes_only_its_own_checks(shop: Database, view: str) -> None:
    needs_changes_of_the_catalogue(shop)
    before = statuses(everything(shop, thresholds=NO_SAMPLE))
    run_script(shop, f"SET allow_system_table_mods = on; ALTER VIEW pg_catalog.{view} RENAME TO gone")
    try:
        result = everything(shop, thresholds=NO_SAMPLE)
    finally:
        run_script(shop, f"SET allow_system_table_mods = on; ALTER VIEW pg_catalog.gone RENAME TO {view}")
    after = statuses(result)
    changed = {check: after[check] for check in before if after[check] != before[check]}
    assert set(changed.values()) == {"unknown"}, changed
    # Those of standbys among them, where another test has given the server one.
    assert 1 <= len(changed) <= 20, changed
    told = [found["message"] for found in result["findings"] if found["check"] in changed]
    assert all(view in message or "does not exist" in message for message in told), told


@pytest.mark.any_driver
def test_a_column_that_is_missing_takes_only_its_own_checks(shop: Database) -> None:
    needs_changes_of_the_catalogue(shop)
    before = statuses(everything(shop, thresholds=NO_SAMPLE))
    rename = "SET allow_system_table_mods = on; ALTER VIEW pg_catalog.pg_stat_database RENAME COLUMN {} TO {}"
    run_script(shop, rename.format("deadlocks", "renamed"))
    try:
        after = statuses(everything(shop, thresholds=NO_SAMPLE))
    finally:
        run_script(shop, rename.format("renamed", "deadlocks"))
    changed = {check for check in before if after[check] != before[check]}
    assert changed <= {check for check in CHECKS if check.startswith("db.")}


@pytest.mark.any_driver
def test_what_a_result_holds_is_bounded(shop: Database) -> None:
    script = "".join(
        f"CREATE TABLE vault.t{n} (id int); CREATE INDEX ON vault.t{n} (id); CREATE INDEX ON vault.t{n} (id);" for n in range(300)
    )
    run_script(shop, script)
    result = everything(shop)
    for check in result["checks"]:
        assert len([found for found in result["findings"] if found["check"] == check["id"]]) <= 20
        assert len(check["message"]) < 4000
    assert all(len(rows) <= 50 for rows in result["details"].values())
    assert len(str(result)) < 400_000
