"""What a role may not see is unknown with the statement that would show it, and that statement does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.watching import (
    SYSTEM,
    create_role,
    drop_role,
    eventually,
    finding,
    look,
    run_script,
    statements_in,
    status_of,
    stock,
)

PLAIN, MONITOR = 'plain "role" ä', "shop_monitor"
SEES_SESSIONS = {"conn.states", "query.longest"}
READS_TABLES = {"token.revocation_rate", "token.orphaned_deny", "token.future_issued", "token.duplicate_ids", "token.zone_ahead"}
READS_TABLES |= {"login.stuck", "login.pending"}


@pytest.fixture
def shop(database: Database) -> Iterator[Database]:
    """The small system with nothing wrong in it, and two roles: one with nothing, one with pg_monitor."""
    stock(database)
    create_role(database.cluster, PLAIN)
    create_role(database.cluster, MONITOR, "pg_monitor")
    yield database
    for name in (PLAIN, MONITOR):
        drop_role(database.cluster, database, name)


def test_a_role_with_nothing_sees_nothing_and_says_so(shop: Database) -> None:
    with shop.connect():
        result = look(shop, login={"login_user": PLAIN})
    assert set(result["unknown"]) == SEES_SESSIONS | READS_TABLES
    assert result["status"] == "unknown"
    assert result["exit_code"] == 3
    assert {found["severity"] for found in result["findings"]} == {"unknown"}
    assert all(found["value"] is None for found in result["findings"])
    # Of what is unknown there is no number, least of all 0.
    assert {
        name: number
        for name, number in result["metrics"].items()
        if name.split("[")[0] in SEES_SESSIONS | READS_TABLES and number is not None
    } == {}
    # The catalogue is open to everybody.
    assert status_of(result, "schema.present") == "ok"
    assert status_of(result, "size.rows") == "ok"


def test_the_statements_that_findings_name_are_enough_and_no_more(shop: Database) -> None:
    login = {"login_user": PLAIN}
    with shop.connect() as other:
        for _round in range(5):
            result = look(shop, login=login)
            missing = [statement for found in result["findings"] for statement in statements_in(found["action"])]
            if not missing:
                break
            for statement in missing:
                other.execute(statement)  # type: ignore[call-overload]
        assert (result["findings"], result["unknown"]) == ([], [])
        assert result["metrics"]["token.issued_last_hour[epoch]"] == 60
        # By column: what a check does not read stays closed.
        rows = other.execute("SELECT has_column_privilege(%s, 'vault.denied', 'denied_at', 'SELECT')", [PLAIN]).fetchall()
        assert rows == [(True,)]
        rows = other.execute(
            "SELECT has_table_privilege(%s, 'vault.tokens', 'SELECT'), has_column_privilege(%s, 'vault.logins', 'state', 'SELECT')",
            [PLAIN] * 2,
        )
        assert rows.fetchall() == [(False, False)]


def test_a_monitoring_role_sees_sessions_and_no_tables(shop: Database) -> None:
    with shop.connect():
        result = look(shop, login={"login_user": MONITOR})
    assert set(result["unknown"]) == READS_TABLES
    assert result["metrics"]["conn.active"] >= 2
    assert result["server"]["sees_all_sessions"] is True


def test_the_role_that_a_session_acts_as_is_the_one_that_counts(shop: Database) -> None:
    result = look(shop, login={"session_role": PLAIN})
    assert result["server"]["role"] == PLAIN
    assert set(result["unknown"]) >= READS_TABLES


def test_an_own_statement_that_runs_too_long_is_found_although_others_are_hidden(shop: Database) -> None:
    limits = {"query.longest": {"warning": "1 ms", "critical": "1 h"}}
    with shop.connect(), shop.connect(user=PLAIN) as own:
        import threading

        import psycopg

        def sleep() -> None:
            with pytest.raises(psycopg.errors.QueryCanceled):
                own.execute("SELECT pg_sleep(600)")

        thread = threading.Thread(target=sleep)
        thread.start()
        active = "SELECT state FROM pg_stat_activity WHERE pid = %s AND clock_timestamp() > query_start + interval '10 ms'"
        eventually(lambda: shop.query(active, [own.info.backend_pid]) == [("active",)])
        result = look(shop, "hourly", thresholds=limits, login={"login_user": PLAIN})
        own.cancel()
        thread.join(60)
    assert finding(result, "query.longest")["severity"] == "warning"
    assert finding(result, "query.longest[sessions not seen]")["severity"] == "unknown"


@pytest.mark.parametrize(("warning", "status"), [(50, "ok"), (0, "warning"), (2, "unknown")])
def test_a_count_between_bounds_is_judged_only_where_both_agree(shop: Database, cluster: Cluster, warning: int, status: str) -> None:
    with cluster.connect() as watcher:
        own = watcher.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [PLAIN]).fetchone()
        assert own == (0,)
        with shop.connect(), shop.connect():
            result = look(shop, "hourly", thresholds={"conn.active": {"warning": warning}}, login={"login_user": PLAIN})
    assert status_of(result, "conn.active") == status
    if status == "unknown":
        assert "GRANT pg_read_all_stats" in finding(result, "conn.active")["action"]


def test_row_level_security_never_makes_a_zero(shop: Database) -> None:
    script = """
        GRANT USAGE ON SCHEMA vault TO shop_monitor; GRANT SELECT ON ALL TABLES IN SCHEMA vault TO shop_monitor;
        ALTER TABLE vault.logins ENABLE ROW LEVEL SECURITY;
        CREATE POLICY nothing ON vault.logins USING (false)"""
    run_script(shop, script)
    login = {"login_user": MONITOR}
    result = look(shop, login=login)
    for key in ("login.stuck[vault.logins]", "login.pending[vault.logins]"):
        assert finding(result, key)["severity"] == "unknown"
        assert "BYPASSRLS" in finding(result, key)["action"]
    assert "token.future_issued" not in {found["check"] for found in result["findings"] if found["object"] == "wall"}
    # A superuser is not held back by the policy.
    assert look(shop)["findings"] == []
    (statement,) = statements_in(finding(result, "login.stuck[vault.logins]")["action"])
    run_script(shop, statement)
    assert status_of(look(shop, login=login), "login.pending") == "ok"


def test_tables_that_do_not_exist_are_named_and_the_checks_on_them_unknown(shop: Database) -> None:
    run_script(shop, "DROP TABLE vault.denied, vault.logins")
    result = look(shop)
    assert {found["key"] for found in result["findings"] if found["severity"] == "critical"} == {
        "schema.present[vault.denied]",
        "schema.present[vault.logins]",
    }
    unknown = {found["key"] for found in result["findings"] if found["severity"] == "unknown"}
    assert unknown >= {
        "token.revocation_rate[wall]",
        "token.orphaned_deny[wall]",
        "login.stuck[vault.logins]",
        "login.pending[vault.logins]",
    }
    # What does not need them is looked at all the same.
    assert result["metrics"]["token.revocation_rate[epoch]"] == 0
    assert status_of(result, "token.future_issued") == "ok"


@pytest.mark.parametrize(
    ("script", "system", "words"),
    [
        ("ALTER TABLE vault.flagged ALTER issued_at TYPE text", {}, "of type text, which is not a time"),
        ("SELECT 1", {"time_zone": None}, "does not say its time zone"),
    ],
)
def test_a_column_that_cannot_be_compared_is_unknown(shop: Database, script: str, system: dict[str, object], words: str) -> None:
    run_script(shop, script)
    description = {**SYSTEM, **system, "schema": {}} if system else SYSTEM
    if system:
        stores = [
            {
                **SYSTEM["token_stores"][2],
                "tokens": {"table": "vault.tokens", "id": "id", "issued_at": "issued_at"},
                "revoke": {"how": "delete"},
            }
        ]
        description = {**description, "token_stores": stores, "login_flows": [], "retention": {}}
    result = look(shop, system=description)
    found = finding(result, "token.future_issued[flag]")
    assert found["severity"] == "unknown"
    assert words in found["message"]
