"""Row-level security, accesses, roles and what is open: found where it is wrong, green where it is right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._health.exposure import _judge_rule
from tests.ground.cluster import PASSWORD
from tests.ground.databases import Database
from tests.integration.watching import ZONE, create_role, drop_role, finding, look, run_script, status_of

pytestmark = pytest.mark.any_driver
SYSTEM: dict[str, Any] = {
    "name": "farm",
    "schemas": ["farm"],
    "time_zone": ZONE,
    "access_log": {
        "table": "farm.reads",
        "at": "at",
        "user": "who",
        "kind": "kind",
        "cross_user": "cross user",
        "window": "1 h",
        "review": "24 h",
    },
    "security": {"rls": ["farm.animals", 'farm."Odd""Name"']},
}
TABLES = """
CREATE SCHEMA farm;
CREATE TABLE farm.animals (id int);
ALTER TABLE farm.animals ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON farm.animals USING (true);
CREATE TABLE farm."Odd""Name" (id int);
ALTER TABLE farm."Odd""Name" ENABLE ROW LEVEL SECURITY;
CREATE TABLE farm.notes (id int);
CREATE TABLE farm.reads (at timestamp, who text, kind text);
"""


@pytest.fixture
def farm(database: Database) -> Iterator[Database]:
    run_script(database, TABLES)
    yield database
    run_script(database, "DROP SCHEMA farm CASCADE")


def watch(database: Database, *checks: str, **params: Any) -> dict[str, Any]:
    return look(database, "monthly", checks=list(checks), **{"system": SYSTEM, **params})


# --- row-level security --------------------------------------------------------------------------------------------------


def test_tables_with_their_policies_are_well(farm: Database) -> None:
    assert status_of(watch(farm, "security.rls"), "security.rls") == "ok"


@pytest.mark.parametrize(
    ("script", "system", "key", "words"),
    [
        ('ALTER TABLE farm."Odd""Name" DISABLE ROW LEVEL SECURITY', {}, 'farm."Odd""Name"', "the system asks for it"),
        ("ALTER TABLE farm.animals DISABLE ROW LEVEL SECURITY", {}, "farm.animals", "its 1 policy do nothing"),
        # Nobody declared it; that it has policies says that somebody meant it.
        ("CREATE POLICY p ON farm.notes USING (true)", {}, "farm.notes", "do nothing"),
        ("", {"security": {"rls_required": ["farm"]}}, "farm.notes", "the system asks for it"),
        ("ALTER TABLE farm.animals OWNER TO farm_app", {"database": {"name": "farm", "user": "farm_app"}}, "farm.animals", "as its owner"),
    ],
)
def test_a_table_without_its_protection_is_critical(farm: Database, script: str, system: dict[str, Any], key: str, words: str) -> None:
    create_role(farm.cluster, "farm_app")
    try:
        if script:
            run_script(farm, script)
        found = finding(watch(farm, "security.rls", system={**SYSTEM, **system}), f"security.rls[{key}]")
        assert found["severity"] == "critical"
        assert words in found["message"]
        assert "ROW LEVEL SECURITY;" in found["action"]
    finally:
        run_script(farm, "ALTER TABLE farm.animals OWNER TO postgres")
        drop_role(farm.cluster, farm, "farm_app")


def test_without_a_system_nothing_is_asked_of_tables(farm: Database) -> None:
    assert status_of(watch(farm, "security.rls", system=None), "security.rls") == "skipped"
    assert status_of(watch(farm, "security.cross_user_access", system=None), "security.cross_user_access") == "skipped"
    assert status_of(watch(farm, "security.access_rate", system=None), "security.access_rate") == "skipped"


# --- accesses ------------------------------------------------------------------------------------------------------------


def reads(database: Database, who: str, count: int, age: str, kind: str = "own") -> None:
    database.query(
        "INSERT INTO farm.reads SELECT (now() - %s::interval) AT TIME ZONE %s, %s, %s FROM generate_series(1, %s) RETURNING 1",
        (age, ZONE, who, kind, count),
    )


def test_accesses_across_users_count_for_a_day(farm: Database) -> None:
    reads(farm, "ann", 2, "25 h", "cross user")
    reads(farm, "ann", 5, "1 min")
    assert status_of(watch(farm, "security.cross_user_access"), "security.cross_user_access") == "ok"
    reads(farm, "ann", 2, "23 h", "cross user")
    reads(farm, "bob", 1, "1 min", "cross user")
    found = finding(watch(farm, "security.cross_user_access"), "security.cross_user_access[farm.reads]")
    assert (found["severity"], found["value"]) == ("warning", 3)
    assert "by 2 users" in found["message"]


def test_a_user_who_reads_very_much_is_named(farm: Database) -> None:
    limits = {"security.access_rate": {"critical": 10}}
    reads(farm, "ann", 10, "1 min")
    reads(farm, "bob", 11, "61 min")
    result = watch(farm, "security.access_rate", thresholds=limits)
    assert (status_of(result, "security.access_rate"), result["findings"]) == ("ok", [])
    reads(farm, "ann", 1, "59 min")
    reads(farm, "cyd", 30, "1 min")
    result = watch(farm, "security.access_rate", thresholds=limits)
    assert [(found["key"], found["value"]) for found in result["findings"]] == [
        ("security.access_rate[user cyd]", 30),
        ("security.access_rate[user ann]", 11),
    ]


def test_a_log_that_the_role_may_not_read_is_unknown(farm: Database) -> None:
    login = create_role(farm.cluster, "farm_reader")
    try:
        result = watch(farm, "security.access_rate", "security.cross_user_access", login=login)
        assert set(result["unknown"]) == {"security.access_rate", "security.cross_user_access"}
        for found in result["findings"]:
            run_script(farm, found["action"].partition(": ")[2])
        assert watch(farm, "security.access_rate", "security.cross_user_access", login=login)["unknown"] == []
    finally:
        drop_role(farm.cluster, farm, "farm_reader")


# --- roles ---------------------------------------------------------------------------------------------------------------


def test_md5_is_seen_by_a_superuser_only(database: Database) -> None:
    login = create_role(database.cluster, "old_hash", "pg_monitor")
    # initdb of PostgreSQL 12 and 13 has given it one of md5.
    run_script(database, f"ALTER ROLE {database.cluster.superuser} PASSWORD '{PASSWORD}'")
    try:
        assert status_of(watch(database, "security.md5"), "security.md5") == "ok"
        run_script(database, "ALTER ROLE old_hash PASSWORD 'md5" + "a" * 32 + "'")
        found = finding(watch(database, "security.md5"), "security.md5[old_hash]")
        assert found["severity"] == "warning"
        assert "a" * 32 not in str(found)
        result = watch(database, "security.md5", "security.superusers", login=login)
        assert result["unknown"] == ["security.md5"]
        assert "do not grant pg_authid" in finding(result, "security.md5")["action"]
    finally:
        drop_role(database.cluster, database, "old_hash")


def test_superusers_are_counted(database: Database) -> None:
    before = watch(database, "security.superusers")["metrics"]["security.superusers"]
    create_role(database.cluster, "one_more")
    try:
        run_script(database, "ALTER ROLE one_more SUPERUSER")
        result = watch(database, "security.superusers", thresholds={"security.superusers": {"warning": before}})
        assert finding(result, "security.superusers")["value"] == before + 1
        run_script(database, "ALTER ROLE one_more NOLOGIN")
        assert watch(database, "security.superusers")["metrics"]["security.superusers"] == before
    finally:
        drop_role(database.cluster, database, "one_more")


@pytest.mark.parametrize(
    ("until", "needed", "severity"),
    [
        ("now() + interval '31 days'", False, None),
        ("now() + interval '29 days'", False, "warning"),
        ("now() + interval '6 days'", False, "critical"),
        ("now() - interval '1 day'", True, "critical"),
        # How somebody was switched off.
        ("now() - interval '1 day'", False, None),
        ("'infinity'", False, None),
    ],
)
def test_passwords_that_expire(database: Database, until: str, needed: bool, severity: str | None) -> None:
    create_role(database.cluster, "passing")
    moment = database.query(f"SELECT ({until})::text")[0][0]
    try:
        run_script(database, f"ALTER ROLE passing VALID UNTIL '{moment}'")
        system = {"name": "farm", "database": {"name": "farm", "user": "passing" if needed else "other"}}
        found = watch(database, "security.password_expiry", system=system)["findings"]
        assert [(each["key"], each["severity"]) for each in found] == (
            [("security.password_expiry[passing]", severity)] if severity else []
        )
    finally:
        drop_role(database.cluster, database, "passing")


# --- what is open --------------------------------------------------------------------------------------------------------


def test_a_schema_in_which_everybody_may_create(database: Database) -> None:
    run_script(database, 'REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE SCHEMA "My Schema"')
    assert status_of(watch(database, "security.public_create"), "security.public_create") == "ok"
    run_script(database, 'GRANT CREATE ON SCHEMA "My Schema" TO PUBLIC')
    found = finding(watch(database, "security.public_create"), "security.public_create[My Schema]")
    run_script(database, found["action"].partition(": ")[2])
    assert status_of(watch(database, "security.public_create"), "security.public_create") == "ok"


def test_a_definer_without_a_search_path(database: Database) -> None:
    run_script(database, "CREATE FUNCTION who(text) RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT $1'")
    found = finding(watch(database, "security.definer_path"), "security.definer_path[public.who(text)]")
    assert "a superuser" in found["message"]
    run_script(database, "ALTER FUNCTION who(text) SET search_path = pg_catalog")
    assert status_of(watch(database, "security.definer_path"), "security.definer_path") == "ok"


def test_the_rules_of_the_tests_own_server_are_too_open(database: Database) -> None:
    # Everybody is trusted on the host itself.
    result = watch(database, "security.hba")
    assert result["status"] in ("warning", "critical")
    assert any("without a password" in found["message"] for found in result["findings"])


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ({"type": "local", "method": "peer"}, "ok"),
        ({"type": "local", "method": "trust"}, "warning"),
        ({"type": "host", "address": "127.0.0.1", "method": "trust"}, "warning"),
        ({"type": "host", "address": "::1", "method": "scram-sha-256"}, "ok"),
        ({"type": "host", "address": "10.0.0.0", "method": "trust"}, "critical"),
        ({"type": "hostnossl", "address": "10.0.0.0", "method": "password"}, "critical"),
        ({"type": "hostssl", "address": "10.0.0.0", "method": "password"}, "ok"),
        ({"type": "host", "address": "10.0.0.0", "method": "md5"}, "warning"),
        ({"type": "host", "address": "0.0.0.0", "method": "scram-sha-256"}, "warning"),
        ({"type": "host", "address": "0.0.0.0", "user": ["app"], "method": "scram-sha-256"}, "ok"),
        ({"type": "host", "address": "all", "method": "reject"}, "ok"),
        ({"type": "host", "address": ".example.com", "method": "trust"}, "critical"),
    ],
)
def test_a_rule_is_judged(rule: dict[str, Any], status: str) -> None:
    assert _judge_rule({"line": 1, "database": ["all"], "user": ["all"], "address": None, "netmask": None, **rule})[0] == status


def test_sessions_on_the_host_itself_need_no_tls(database: Database) -> None:
    with database.connect():
        result = watch(database, "security.ssl_off")
    assert (result["metrics"]["security.ssl_off"], status_of(result, "security.ssl_off")) == (0, "ok")
    login = create_role(database.cluster, "half_blind")
    try:
        with database.connect():
            assert watch(database, "security.ssl_off", login=login)["unknown"] == ["security.ssl_off"]
    finally:
        drop_role(database.cluster, database, "half_blind")
