"""What a description becomes: every section there, tables with schemas, times with zones, durations with their seconds."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _health
from ansible_collections.pgops.runbook.plugins.module_utils._system import CHECKS, load
from tests.tools.system_form import DOCUMENT, document

STORE: dict[str, Any] = {
    "name": "access",
    "tokens": {"table": "tokens", "id": "jti", "expires_at": "expires_at"},
    "revoke": {"how": "denylist", "table": "denied", "id": "jti"},
}


def test_the_smallest_description_has_every_section() -> None:
    assert load({"name": "x"}) == {
        "name": "x",
        "title": None,
        "database": None,
        "schemas": ["public"],
        "time_zone": None,
        "clock_skew": "5 min",
        "clock_skew_seconds": 300.0,
        "token_stores": [],
        "revocation": {"journal": "pgops_runbook", "audit": None},
        "clients": None,
        "registrations": [],
        "codes": [],
        "login_flows": [],
        "caches": [],
        "retention": {"hourly": [], "daily": [], "weekly": [], "monthly": [], "emergency": []},
        "maintenance": {"vacuum": [], "analyze": [], "reindex": [], "rewrite": [], "partitions": [], "indexes": [], "windows": []},
        "reports": [],
        "thresholds": {},
        "suppressions": [],
        "targets": {"availability_pct": None, "p95": None, "p95_seconds": None, "cache_hit_pct": None},
        "sessions": {
            "query_over": None,
            "query_over_seconds": None,
            "idle_in_transaction_over": None,
            "idle_in_transaction_over_seconds": None,
            "idle_over": None,
            "idle_over_seconds": None,
        },
        "access_log": None,
        "contacts": [],
        "backup": {},
        "recovery": {},
        "security": {
            "rls": [],
            "rls_required": [],
            "application_roles": [],
            "write_roles": [],
            "hba": [],
            "tls_required": False,
            "audit": None,
            "touched": [],
            "encrypted": [],
            "secrets": [],
        },
        "migrations": None,
        "extensions": [],
        "settings": {},
        "pool": None,
        "notifications": [],
        "schema": {"tables": {}, "views": [], "functions": []},
    }


def test_a_rule_in_its_normal_form() -> None:
    system = load({"name": "x", "time_zone": "UTC", "retention": {"daily": [{"table": "s", "column": "at", "older_than": "15 min"}]}})
    assert system["retention"]["daily"] == [
        {
            "name": "public.s",
            "table": "public.s",
            "column": {"column": "at", "time_zone": "UTC", "unit": None},
            "older_than": "15 min",
            "older_than_seconds": 900.0,
            "where": [],
            "keep_latest": None,
            "action": "delete",
            "archive": None,
            "mark": None,
            "protects": None,
        }
    ]


def test_a_store_in_its_normal_form() -> None:
    (store,) = load({"name": "x", "token_stores": [STORE]})["token_stores"]
    time = {"time_zone": None, "unit": None}
    assert store == {
        "name": "access",
        "tokens": {
            "table": "public.tokens",
            "id": "jti",
            "issued_at": None,
            "renewed_at": None,
            "expires_at": {"column": "expires_at", **time},
            "expires_in": None,
            "lifetime": None,
            "lifetime_seconds": None,
            "claims": None,
            "subject": None,
            "client": None,
            "tenant": None,
            "tenant_through": None,
            "provider": None,
            "provider_through": None,
            "type": None,
            "scope": None,
            "address": None,
            "renewed_from": None,
            "family": None,
            "token": None,
            "secrets": [],
            "where": {},
        },
        "revoke": {
            "how": "denylist",
            "table": "public.denied",
            "id": "jti",
            "references": None,
            "revoked_at": None,
            "expires_at": None,
            "reason": None,
        },
        "allowlist": None,
        "not_before": [],
        "dependents": [],
    }


@pytest.mark.parametrize(("written", "seconds"), [({"expires_in": "expires_in"}, None), ({"lifetime": "24 h"}, 86400.0)])
def test_an_expiry_may_count_from_the_time_of_issue(written: dict[str, str], seconds: float | None) -> None:
    tokens = {"table": "tokens", "id": "jti", "issued_at": "issued_at", **written}
    (store,) = load({"name": "x", "token_stores": [{**STORE, "tokens": tokens}]})["token_stores"]
    assert {key: store["tokens"][key] for key in written} == written
    assert store["tokens"]["lifetime_seconds"] == seconds


def test_the_rows_of_a_store_may_be_those_with_some_values_only() -> None:
    tokens = {**STORE["tokens"], "where": {"kind": "access", "version": 2, "offline": False, "note": ""}}
    (store,) = load({"name": "x", "token_stores": [{**STORE, "tokens": tokens}]})["token_stores"]
    assert store["tokens"]["where"] == {"kind": "access", "version": 2, "offline": False, "note": ""}


def test_limits_before_which_nothing_is_accepted() -> None:
    limits = [
        {"table": "realm", "column": {"column": "not_before", "unit": "s"}, "by": "all"},
        {"table": "users", "column": "valid_from", "by": "subject", "id": "id"},
    ]
    tokens = {**STORE["tokens"], "issued_at": "issued_at", "subject": "user_id"}
    store = {"name": "access", "tokens": tokens, "revoke": {"how": "not_before"}, "not_before": limits}
    (read,) = load({"name": "x", "token_stores": [store]})["token_stores"]
    assert read["revoke"] == {"how": "not_before"}
    assert read["not_before"] == [
        {"table": "public.realm", "column": {"column": "not_before", "time_zone": None, "unit": "s"}, "by": "all", "id": None},
        {"table": "public.users", "column": {"column": "valid_from", "time_zone": None, "unit": None}, "by": "subject", "id": "id"},
    ]


def test_every_way_to_treat_a_dependent_row() -> None:
    row = {"table": "codes", "column": "jti", "references": "jti"}
    written = [
        {**row, "on_revoke": "delete", "when": ["provider", "address"]},
        {**row, "on_revoke": "timestamp", "mark": "used_at"},
        {**row, "on_revoke": "flag", "flag": "active", "revoked_when": False},
        {**row, "on_revoke": "clear", "where": {"offline": True, "kind": "code"}},
    ]
    (store,) = load({"name": "x", "token_stores": [{**STORE, "dependents": written}]})["token_stores"]
    used_at = {"column": "used_at", "time_zone": None, "unit": None}
    assert [(one["on_revoke"], one["mark"], one["flag"], one["revoked_when"]) for one in store["dependents"]] == [
        ("delete", None, None, True),
        ("timestamp", used_at, None, True),
        ("flag", None, "active", False),
        ("clear", None, None, True),
    ]
    assert [one["where"] for one in store["dependents"]] == [{}, {}, {}, {"offline": True, "kind": "code"}]


def test_a_token_may_say_when_it_was_last_renewed() -> None:
    tokens = {**STORE["tokens"], "issued_at": "issued_at", "renewed_at": {"column": "used_on", "unit": "ms"}}
    (store,) = load({"name": "x", "token_stores": [{**STORE, "tokens": tokens}]})["token_stores"]
    assert store["tokens"]["renewed_at"] == {"column": "used_on", "time_zone": None, "unit": "ms"}


def test_what_a_report_reads_beside_the_stores() -> None:
    system = load(
        {
            "name": "x",
            "time_zone": "UTC",
            "clients": {"table": "clients", "id": "id", "name": "name", "created_at": "at", "secrets": ["secret"]},
            "registrations": [{"table": "users", "created_at": "at", "provider": "provider"}],
            "codes": [{"table": "codes", "id": "code", "created_at": "at", "used_at": "used_at", "subject": "user_id"}],
        }
    )
    at = {"column": "at", "time_zone": "UTC", "unit": None}
    assert system["clients"] == {"table": "public.clients", "id": "id", "name": "name", "created_at": at, "secrets": ["secret"]}
    assert system["registrations"] == [{"table": "public.users", "created_at": at, "provider": "provider"}]
    assert system["codes"] == [
        {
            "table": "public.codes",
            "id": "code",
            "created_at": at,
            "expires_at": None,
            "used_at": {**at, "column": "used_at"},
            "subject": "user_id",
            "client": None,
        }
    ]


def test_the_audit_table_may_be_anywhere_and_is_not_declared() -> None:
    tables = {"t": {"columns": {"id": "uuid"}}}
    for audit in ("ops.revocations", "revocations"):
        system = load({"name": "x", "revocation": {"audit": audit}, "schema": {"tables": tables}})
        assert system["revocation"] == {"journal": "pgops_runbook", "audit": audit if "." in audit else f"public.{audit}"}


def test_the_tables_of_a_deny_list_are_protected_without_being_told() -> None:
    rules = [{"table": name, "column": "expires_at", "older_than": 0} for name in ("denied", "tokens", "other")]
    system = load({"name": "x", "token_stores": [STORE], "retention": {"daily": rules}})
    assert [rule["protects"] for rule in system["retention"]["daily"]] == ["access", "access", None]
    assert [rule["older_than"] for rule in system["retention"]["daily"]] == ["0 s", "0 s", "0 s"]


def test_only_a_deny_list_is_protected() -> None:
    store = {**STORE, "revoke": {"how": "timestamp", "column": "revoked_at"}}
    rules = [{"table": "tokens", "column": "expires_at", "older_than": "7 days"}]
    assert load({"name": "x", "token_stores": [store], "retention": {"daily": rules}})["retention"]["daily"][0]["protects"] is None


def test_a_column_may_have_its_own_zone() -> None:
    flow = {"table": "s", "id": "id", "created_at": {"column": "at", "time_zone": "Europe/Tallinn"}, "timeout": 600}
    (read,) = load({"name": "x", "time_zone": "UTC", "login_flows": [flow]})["login_flows"]
    assert read["created_at"] == {"column": "at", "time_zone": "Europe/Tallinn", "unit": None}
    assert (read["timeout"], read["timeout_seconds"]) == ("600 s", 600.0)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("uuid", ("uuid", True, None)),
        ("uuid not null", ("uuid", False, None)),
        ("uuid NOT NULL DEFAULT gen_random_uuid()", ("uuid", False, "gen_random_uuid()")),
        ("text default 'not null' not null", ("text", False, "'not null'")),
        ("varchar(255) null", ("varchar(255)", True, None)),
        ("numeric(10, 2) default 0", ("numeric(10, 2)", True, "0")),
        ("timestamp(3) without time zone not null", ("timestamp(3) without time zone", False, None)),
        ("timestamp with time zone default now()", ("timestamp with time zone", True, "now()")),
        ("double precision", ("double precision", True, None)),
        ("character varying(20)[] default '{}'", ("character varying(20)[]", True, "'{}'")),
        ("app.mood not null", ("app.mood", False, None)),
        ('"Mood" not null', ('"Mood"', False, None)),
    ],
)
def test_a_column_in_one_line(written: str, expected: tuple[str, bool, str | None]) -> None:
    column = load({"name": "x", "schema": {"tables": {"t": {"columns": {"c": written}}}}})["schema"]["tables"]["public.t"]["columns"]["c"]
    assert (column["type"], column["nullable"], column["default"]) == expected


def test_a_threshold_is_a_plain_number_of_its_check_s_unit() -> None:
    written = {
        "query.longest": {"warning": "5 min"},
        "size.database": {"warning": "5 GB", "action": "Archive"},
        "conn.active": {"critical": 80},
    }
    assert load({"name": "x", "thresholds": written})["thresholds"] == {
        "query.longest": {"warning": 300.0, "critical": None, "minimum": None, "action": None},
        "size.database": {"warning": 5 * 1024**3, "critical": None, "minimum": None, "action": "Archive"},
        "conn.active": {"warning": None, "critical": 80, "minimum": None, "action": None},
    }


def test_recovery_targets_without_an_environment_are_those_of_production() -> None:
    flat = load({"name": "x", "recovery": {"rto": "1 h", "rpo": "15 min"}})["recovery"]
    assert flat == load({"name": "x", "recovery": {"production": {"rto": "1 h", "rpo": "15 min"}}})["recovery"]
    assert flat["production"]["rpo_seconds"] == 900.0


def test_a_database_may_differ_by_environment() -> None:
    written = {"name": "tmi", "environments": {"production": "tmi_production", "development": {"user": "postgres"}}}
    assert load({"name": "x", "database": written})["database"] == {
        "name": "tmi",
        "user": None,
        "port": 5432,
        "least_version": None,
        "environments": {"production": {"name": "tmi_production", "user": None}, "development": {"name": None, "user": "postgres"}},
    }


def test_a_migration_tool_may_keep_its_table_in_a_schema_of_its_own() -> None:
    migrations = {"tool": "supabase", "table": "supabase_migrations.schema_migrations"}
    tables = {"t": {"columns": {"id": "uuid"}}}
    system = load({"name": "x", "migrations": migrations, "schema": {"tables": tables}})
    assert system["migrations"] == {**migrations, "folder": None, "versions": []}


def test_a_rewrite_without_a_window_has_none() -> None:
    (read,) = load({"name": "x", "maintenance": {"rewrite": ["t"]}})["maintenance"]["rewrite"]
    assert read == {"table": "public.t", "schedule": "monthly", "bloat_pct": 30, "window": None}


def test_yaml_s_own_readings_of_switches_and_times_are_understood() -> None:
    # YAML 1.1 reads on as true and an unquoted 18:00 as 1080.
    system = load(
        {
            "name": "x",
            "settings": {"log_duration": True, "jit": False, "max_connections": 200},
            "reports": [{"name": "r", "schedule": "daily", "at": 1080}],
        }
    )
    assert system["settings"] == {"log_duration": "on", "jit": "off", "max_connections": "200"}
    assert system["reports"][0]["at"] == "18:00"


def test_names_stay_as_they_are() -> None:
    tables = {'"My.App".User': {"columns": {"Id": "uuid"}}, '"My.App"."say ""hi"""': {"columns": {"Ï d": "uuid"}, "primary_key": ["Ï d"]}}
    read = load({"name": "x", "schemas": ["My.App"], "schema": {"tables": tables}})["schema"]["tables"]
    assert list(read) == list(tables)
    assert list(read['"My.App".User']["columns"]) == ["Id"]


def test_loading_leaves_what_was_given_alone() -> None:
    given = {"name": "x", "time_zone": "UTC", "token_stores": [STORE], "recovery": {"rto": "1 h", "rpo": "1 h"}}
    before = copy.deepcopy(given)
    load(given)
    assert given == before


def test_the_normal_form_is_plain_json() -> None:
    system = load({"name": "x", "time_zone": "UTC", "token_stores": [STORE]})
    assert json.loads(json.dumps(system)) == system


def test_every_health_check_is_known_with_its_unit() -> None:
    assert {check.id: (check.tier, check.unit, check.worse) for check in _health.CHECKS.values() if check.unit} == {
        check.id: (CHECKS[check.id].tier, CHECKS[check.id].unit, CHECKS[check.id].worse) for check in _health.CHECKS.values() if check.unit
    }
    assert {check.id for check in _health.CHECKS.values()} <= set(CHECKS)


def test_the_document_tells_the_form_as_it_is() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert document(text) == text, "run: python -m tests.tools.system_form"
