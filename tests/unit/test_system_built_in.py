"""The built-in systems: each says what holds for all of them, and five what their runbooks say, with the runbooks' own numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._system import load
from tests.ground.systems import BUILT_IN, READY
from tests.runner.tree import ROOT

FOLDER = ROOT / "roles" / "system" / "files" / "systems"
NAMES = (*BUILT_IN, *READY)
MINUTE, HOUR, DAY, GIGABYTE = 60.0, 3600.0, 86400.0, 1024**3


def written(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / f"{name}.yml").read_text(encoding="utf-8")))


SYSTEMS = {name: load(written(name)) for name in NAMES}
TIM, OAUTH2, TMI, SHOWTRACK, AZTH = (SYSTEMS[name] for name in ("tim", "oauth2_server", "tmi", "showtrack", "azth"))
each = pytest.mark.parametrize("name", NAMES)


def ages(system: dict[str, Any], schedule: str) -> dict[str, float]:
    return {rule["table"]: rule["older_than_seconds"] for rule in system["retention"][schedule]}


def values(system: dict[str, Any], check: str) -> tuple[Any, Any]:
    return system["thresholds"][check]["warning"], system["thresholds"][check]["critical"]


def mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping inside a value."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from mappings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from mappings(inner)


def test_there_are_five_and_six_ready_ones() -> None:
    assert (len(BUILT_IN), len(READY)) == (5, 6)
    assert sorted(path.stem for path in FOLDER.glob("*.yml")) == sorted(NAMES)


@each
def test_a_system_is_named_like_its_file(name: str) -> None:
    assert SYSTEMS[name]["name"] == name


@each
def test_loading_again_gives_the_same(name: str) -> None:
    assert load(SYSTEMS[name]) == SYSTEMS[name]


@each
def test_every_table_that_is_named_is_declared(name: str) -> None:
    system = SYSTEMS[name]
    named = {one["table"] for one in mappings(system) if isinstance(one.get("table"), str) and one["table"] != "*"}
    # The tool's own table, in a schema of its own.
    assert named - {"supabase_migrations.schema_migrations"} <= set(system["schema"]["tables"])
    assert {parse_relation(table).schema for table in system["schema"]["tables"]} == set(system["schemas"])


@each
def test_every_declared_wall_clock_that_is_used_has_a_zone(name: str) -> None:
    system = SYSTEMS[name]
    wall_clocks = {
        column
        for table in system["schema"]["tables"].values()
        for column, facts in table["columns"].items()
        if facts["type"].partition("(")[0] == "timestamp"
    }
    assert bool(wall_clocks) == (name in ("tim", "oauth2_server", "doorkeeper", "ory_hydra"))
    assert system["time_zone"] == ("UTC" if wall_clocks else None)


@each
def test_every_threshold_says_what_to_do(name: str) -> None:
    assert all(limits["action"] for limits in SYSTEMS[name]["thresholds"].values())


@each
def test_deny_rows_are_always_protected(name: str) -> None:
    system = SYSTEMS[name]
    for store in system["token_stores"]:
        if store["revoke"]["how"] == "denylist":
            rules = [
                rule
                for rules in system["retention"].values()
                for rule in rules
                if rule["table"] in (store["revoke"]["table"], store["tokens"]["table"])
            ]
            assert rules
            assert {rule["protects"] for rule in rules} == {store["name"]}


def test_tim_cleans_up_daily() -> None:
    assert ages(TIM, "daily") == {
        "custom.denylist": 0.0,
        "tara.denylist": 0.0,
        "custom.allowlist": 0.0,
        "tara.allowlist": 0.0,
        "tara.oauth_state": 15 * MINUTE,
    }
    assert TIM["clock_skew_seconds"] == 5 * MINUTE


def test_tim_keeps_metadata_for_30_and_90_days() -> None:
    assert ages(TIM, "weekly") == {"custom.jwt_metadata": 30 * DAY, "tara.jwt_metadata": 90 * DAY}


def test_tim_keeps_metadata_for_7_days_in_an_emergency() -> None:
    expected = {**ages(TIM, "daily"), "custom.jwt_metadata": 7 * DAY, "tara.jwt_metadata": 7 * DAY}
    assert ages(TIM, "emergency") == expected


def test_tim_maintains_its_tables() -> None:
    by_schedule = {one["table"] for one in TIM["maintenance"]["vacuum"] if one["schedule"] == "weekly"}
    assert by_schedule == set(TIM["schema"]["tables"])
    monthly = {"custom.jwt_metadata", "custom.denylist", "tara.jwt_metadata", "tara.denylist"}
    assert {one["table"] for one in TIM["maintenance"]["reindex"]} == monthly
    assert {one["table"] for one in TIM["maintenance"]["rewrite"]} == monthly
    assert {one["name"]: one["columns"] for one in TIM["maintenance"]["indexes"]} == {
        "idx_custom_jwt_metadata_issued": ["issued_at"],
        "idx_tara_jwt_metadata_issued": ["issued_at"],
    }


@each
def test_nothing_is_locked_to_be_rewritten_where_no_window_is_stated(name: str) -> None:
    assert [one["window"] for one in SYSTEMS[name]["maintenance"]["rewrite"]] == [None] * {"tim": 4, "oauth2_server": 1}.get(name, 0)


def test_tim_s_tables_may_have_more_columns() -> None:
    tables = TIM["schema"]["tables"]
    assert {name for name, table in tables.items() if table["partial"]} == set(tables)
    assert set(tables["tara.oauth_state"]["columns"]) == {"state", "created_at"}


def test_tim_s_alarms() -> None:
    assert values(TIM, "token.revocation_rate") == (None, 10)
    assert values(TIM, "login.stuck") == (0, None)
    assert values(TIM, "login.pending") == (100, None)
    assert values(TIM, "query.longest") == (30.0, None)
    assert TIM["login_flows"][0]["timeout_seconds"] == 15 * MINUTE


def test_tim_s_backups() -> None:
    assert {name: one["kind"] for name, one in TIM["backup"].items()} == {
        "full": "full",
        "compressed": "full",
        "custom_schema": "schemas",
        "tara_schema": "schemas",
        "data_only": "data_only",
    }


def test_the_oauth2_server_cleans_up_daily() -> None:
    assert ages(OAUTH2, "daily") == {"public.tokens": 7 * DAY, "public.authorization_codes": HOUR, "public.user_sessions": 24 * HOUR}


def test_what_leaves_the_tokens_of_the_oauth2_server_is_archived() -> None:
    (rule,) = [rule for rule in OAUTH2["retention"]["daily"] if rule["table"] == "public.tokens"]
    assert (rule["action"], rule["archive"]) == ("archive", {"table": "public.tokens_archive", "create": True})
    archive, tokens = (OAUTH2["schema"]["tables"][f"public.{name}"] for name in ("tokens_archive", "tokens"))
    assert archive["optional"], "a new database is right without it"
    assert {name: column["type"] for name, column in archive["columns"].items()} == {
        name: column["type"] for name, column in tokens["columns"].items()
    }
    secret = {one["table"]: one["columns"] for one in OAUTH2["security"]["secrets"]}
    assert secret["public.tokens_archive"] == secret["public.tokens"]


def test_the_oauth2_server_revokes_codes_with_their_tokens() -> None:
    tokens = OAUTH2["token_stores"][0]
    assert tokens["revoke"] == {"how": "timestamp", "column": {"column": "revoked_at", "time_zone": "UTC", "unit": None}}
    assert [(one["column"], one["mark"]["column"], one["when"]) for one in tokens["dependents"]] == [
        ("user_id", "used_at", ["subject", "provider", "all"]),
        ("client_id", "used_at", ["client", "all"]),
    ]
    assert tokens["tokens"]["secrets"] == ["access_token", "refresh_token"]


def test_the_oauth2_server_s_reports_know_where_to_look() -> None:
    at = {"column": "created_at", "time_zone": "UTC", "unit": None}
    assert OAUTH2["clients"] == {
        "table": "public.clients",
        "id": "client_id",
        "name": "client_name",
        "created_at": at,
        "secrets": ["client_secret"],
    }
    assert OAUTH2["registrations"] == [{"table": "public.users", "created_at": at, "provider": "provider"}]
    assert [(one["table"], one["id"], one["used_at"]["column"]) for one in OAUTH2["codes"]] == [
        ("public.authorization_codes", "code", "used_at")
    ]


def test_users_come_from_a_provider() -> None:
    ways = {store["name"]: store["tokens"]["provider_through"] for system in (OAUTH2, TMI) for store in system["token_stores"]}
    users = {"column": "user_id", "table": "public.users", "id": "user_id", "provider": "provider"}
    assert ways == {"tokens": users, "sessions": users, "refresh_tokens": {**users, "table": "public.user_providers"}}


def test_the_oauth2_server_s_numbers() -> None:
    pool = OAUTH2["pool"]
    assert (pool["most"], pool["least"], pool["acquire_timeout_seconds"]) == (20, 5, 30.0)
    assert OAUTH2["settings"] == {"log_min_duration_statement": "1000", "log_statement": "mod"}
    assert values(OAUTH2, "stat.slow") == (1.0, None)
    assert OAUTH2["backup"]["compressed_sql"]["keep_seconds"] == 30 * DAY
    assert OAUTH2["backup"]["critical_tables"]["tables"] == ["public.clients", "public.tokens"]
    assert (OAUTH2["migrations"]["tool"], OAUTH2["migrations"]["table"]) == ("flyway", "public.flyway_schema_history")


def test_the_oauth2_server_may_have_an_audit_log() -> None:
    table = OAUTH2["schema"]["tables"]["public.audit_log"]
    assert (table["optional"], table["partial"], table["primary_key"]) == (True, True, None)
    assert list(table["columns"]) == ["table_name", "operation", "user_name", "timestamp", "data"]
    assert all(column["nullable"] for column in table["columns"].values())


def test_tmi_s_recovery_targets_by_environment() -> None:
    assert {name: (one["rto_seconds"], one["rpo_seconds"]) for name, one in TMI["recovery"].items()} == {
        "development": (4 * HOUR, 24 * HOUR),
        "staging": (2 * HOUR, 4 * HOUR),
        "production": (30 * MINUTE, 15 * MINUTE),
    }


def test_tmi_s_numbers() -> None:
    assert values(TMI, "stat.slow") == (0.1, None)
    assert values(TMI, "query.longest") == (5 * MINUTE, None)
    assert (TMI["pool"]["most"], TMI["pool"]["most_idle"], TMI["pool"]["lifetime_seconds"]) == (25, 5, 5 * MINUTE)
    assert len(TMI["migrations"]["versions"]) == 8
    assert TMI["settings"] == {"archive_mode": "on"}


def test_tmi_keeps_every_backup_for_7_days() -> None:
    assert {name: (one["kind"], one["schedule"], one["at"], one["keep_seconds"]) for name, one in TMI["backup"].items()} == {
        "full": ("full", "on_demand", None, 7 * DAY),
        "compressed": ("full", "daily", "02:00", 7 * DAY),
        "schema_only": ("schema_only", "on_demand", None, 7 * DAY),
        "physical": ("physical", "daily", None, 7 * DAY),
        "wal": ("wal", "continuous", None, 7 * DAY),
    }
    assert (TMI["backup"]["compressed"]["format"], TMI["backup"]["physical"]["format"]) == ("custom", "tar")


def test_tmi_s_servers_in_production() -> None:
    database, (cache,) = TMI["database"], TMI["caches"]
    assert (database["name"], database["least_version"]) == ("tmi", 12)
    assert {name: (one["name"], one["user"]) for name, one in database["environments"].items()} == {
        "development": ("tmi", "postgres"),
        "production": ("tmi_production", "tmi_app"),
    }
    assert (cache["least_version"], cache["host"], cache["port"], cache["database"]) == (6, None, 6379, 0)
    assert (cache["password_required"], cache["keys"]) == (True, [])


def test_tmi_removes_nothing_by_itself() -> None:
    assert [rules for rules in TMI["retention"].values() if rules] == []


def test_tmi_s_tables_have_what_the_guide_names_and_more() -> None:
    tables = {name: table for name, table in TMI["schema"]["tables"].items() if name != "public.schema_migrations"}
    assert {name: set(table["columns"]) - {"id", "created_at", "modified_at"} for name, table in tables.items()} == {
        "public.users": {"email", "last_login"},
        "public.user_providers": {"user_id", "provider", "provider_user_id"},
        "public.refresh_tokens": {"user_id", "token", "expires_at"},
        "public.threat_models": {"owner_email"},
        "public.threat_model_access": {"threat_model_id", "user_email", "role"},
        "public.threats": {"threat_model_id", "severity", "likelihood", "risk_level"},
        "public.diagrams": {"threat_model_id", "type"},
    }
    assert all(table["partial"] and {"id", "created_at", "modified_at"} <= set(table["columns"]) for table in tables.values())


def test_tmi_s_indexes_and_unique_columns() -> None:
    indexes = {index["name"] for table in TMI["schema"]["tables"].values() for index in table["indexes"]}
    assert {
        "idx_user_providers_user_id",
        "idx_threat_models_owner_email",
        "idx_threat_model_access_threat_model_id",
        "idx_threats_threat_model_id",
        "idx_diagrams_threat_model_id",
        "idx_users_email",
        "idx_users_last_login",
        "idx_user_providers_provider_lookup",
        "idx_threats_threat_model_id_created_at",
        "idx_diagrams_threat_model_id_type",
    } == indexes
    assert TMI["schema"]["tables"]["public.user_providers"]["unique"] == [["user_id", "provider"]]
    assert TMI["schema"]["tables"]["public.threat_model_access"]["unique"] == [["threat_model_id", "user_email"]]


def test_showtrack_s_alarms() -> None:
    assert values(SHOWTRACK, "cache.hit_pct") == (90, 80)
    assert values(SHOWTRACK, "conn.active") == (50, 80)
    assert values(SHOWTRACK, "query.longest") == (5 * MINUTE, 10 * MINUTE)
    assert values(SHOWTRACK, "table.dead_rows") == (10_000, 50_000)
    assert values(SHOWTRACK, "size.database") == (5 * GIGABYTE, 10 * GIGABYTE)
    assert values(SHOWTRACK, "table.hot_pct") == (90, None)
    assert values(SHOWTRACK, "security.access_rate") == (None, 1000)


def test_showtrack_s_promises() -> None:
    assert (SHOWTRACK["recovery"]["production"]["rto_seconds"], SHOWTRACK["recovery"]["production"]["rpo_seconds"]) == (HOUR, 15 * MINUTE)
    targets = SHOWTRACK["targets"]
    assert (targets["availability_pct"], targets["p95_seconds"], targets["cache_hit_pct"]) == (99.9, 0.2, 95)


def test_showtrack_declares_only_what_its_runbook_names() -> None:
    tables = SHOWTRACK["schema"]["tables"]
    assert {name: set(table["columns"]) for name, table in tables.items()} == {
        "public.animals": {"id", "user_id", "species", "created_at"},
        "public.journal_entries": {"id"},
        "public.user_profiles": {"id"},
        "public.feed_brands": {"id"},
        "public.spar_runs": {"id"},
        "public.data_access_audit": {"user_id", "resource_type", "access_type", "timestamp"},
    }
    assert all(table["partial"] and table["row_level_security"] for table in tables.values())
    assert {one["table"] for one in SHOWTRACK["security"]["rls"]} == set(tables)
    assert [one["policies"] for one in SHOWTRACK["security"]["rls"]] == [[]] * 6
    assert SHOWTRACK["security"]["rls_required"] == ["public"]


def test_showtrack_s_migrations() -> None:
    migrations = SHOWTRACK["migrations"]
    assert (migrations["tool"], migrations["table"]) == ("supabase", "supabase_migrations.schema_migrations")
    assert migrations["folder"] == "supabase/migrations"


def test_showtrack_s_backups() -> None:
    taken = {
        name: (one["schedule"], one["weekday"], one["at"], one["keep_seconds"], one["location"])
        for name, one in SHOWTRACK["backup"].items()
    }
    assert taken["full"] == ("daily", None, "02:00", 30 * DAY, "local")
    assert taken["incremental"] == ("daily", None, None, 7 * DAY, "local")
    assert SHOWTRACK["backup"]["incremental"]["every_seconds"] == 6 * HOUR
    assert taken["snapshot"] == ("weekly", "sunday", None, 90 * DAY, "external")


def test_showtrack_s_clock() -> None:
    assert {one["name"]: (one["schedule"], one["weekday"], one["at"]) for one in SHOWTRACK["maintenance"]["windows"]} == {
        "weekly": ("weekly", "sunday", "03:00"),
        "monthly": ("monthly", "sunday", "03:00"),
    }
    assert {one["name"]: (one["at"], one["slow_statements"]) for one in SHOWTRACK["reports"]} == {
        "morning": ("09:00", 0),
        "hourly": (None, 0),
        "end of day": ("18:00", 10),
    }


def test_showtrack_s_emergencies() -> None:
    limits = SHOWTRACK["sessions"]
    assert (limits["query_over_seconds"], limits["idle_in_transaction_over_seconds"], limits["idle_over_seconds"]) == (
        1800.0,
        600.0,
        1800.0,
    )
    assert SHOWTRACK["security"]["write_roles"] == ["authenticated"]
    assert SHOWTRACK["notifications"] == [{"name": "PostgREST", "channel": "pgrst", "payload": "reload schema"}]
    assert {one["name"]: one["call_for"] for one in SHOWTRACK["contacts"]}["Database administrator"] == ["database down", "data corruption"]


def test_showtrack_s_indexes_to_create() -> None:
    assert {one["name"]: (one["table"], one["columns"]) for one in SHOWTRACK["maintenance"]["indexes"]} == {
        "idx_animals_user_species": ("public.animals", ["user_id", "species"]),
        "idx_animals_created_at": ("public.animals", ["created_at desc"]),
    }
    assert {one["table"] for one in SHOWTRACK["maintenance"]["reindex"]} == {"public.animals", "public.journal_entries"}


def test_azth_s_cache() -> None:
    (cache,) = AZTH["caches"]
    assert cache["keys"] == ["session:{id}", "user_sessions:{user_id}"]
    assert (cache["max_memory_bytes"], cache["eviction"], cache["password_required"]) == (512 * 1024**2, "allkeys-lru", True)
    assert [(one["after_seconds"], one["changes"]) for one in cache["save"]] == [(900.0, 1), (300.0, 10), (60.0, 10_000)]
    assert cache["disabled_commands"] == ["FLUSHDB", "FLUSHALL"]


def test_azth_ends_sessions_and_their_codes() -> None:
    (store,) = AZTH["token_stores"]
    assert store["revoke"] == {"how": "delete"}
    assert store["tokens"]["tenant_through"] == {"column": "user_id", "table": "public.users", "id": "id", "tenant": "tenant_id"}
    assert [(one["table"], one["mark"]["column"], one["when"]) for one in store["dependents"]] == [
        ("public.otp_codes", "used_at", ["subject", "tenant", "all"])
    ]


def test_azth_removes_only_what_has_ended() -> None:
    assert ages(AZTH, "daily") == {"public.sessions": 0.0, "public.otp_codes": 0.0, "public.user_roles": 0.0}
    assert [schedule for schedule, rules in AZTH["retention"].items() if rules] == ["daily"]


def test_azth_s_backups() -> None:
    assert {name: (one["kind"], one["schedule"], one["keep_seconds"]) for name, one in AZTH["backup"].items()} == {
        "full": ("full", "daily", 30 * DAY),
        "schema_only": ("schema_only", "daily", 30 * DAY),
        "physical": ("physical", "weekly", None),
        "wal": ("wal", "continuous", None),
    }
    assert (AZTH["settings"]["archive_mode"], AZTH["settings"]["wal_level"]) == ("on", "replica")


def test_azth_s_audit_trail_is_divided_by_month() -> None:
    (partitions,) = AZTH["maintenance"]["partitions"]
    assert (partitions["table"], partitions["column"], partitions["every"]) == ("public.audit_logs", "created_at", "month")
    table = AZTH["schema"]["tables"]["public.audit_logs"]
    assert (table["primary_key"], table["partition_by"]) == (["id", "created_at"], {"how": "range", "columns": ["created_at"]})
    assert table["columns"]["created_at"]["nullable"] is False


def test_azth_s_indexes_to_create_have_predicates_that_stay() -> None:
    indexes = {one["name"]: one for one in AZTH["maintenance"]["indexes"]}
    assert set(indexes) == {"idx_users_tenant_status_created", "idx_users_active", "idx_sessions_user_active"}
    assert (indexes["idx_sessions_user_active"]["include"], indexes["idx_sessions_user_active"]["where"]) == (
        ["token_hash", "last_activity"],
        None,
    )


def test_azth_s_access() -> None:
    security = AZTH["security"]
    assert [one["method"] for one in security["hba"]] == ["peer", "scram-sha-256", "scram-sha-256", "scram-sha-256"]
    assert [one["name"] for one in security["application_roles"]] == ["app_user", "app_admin", "app_readonly"]
    assert {one["table"] for one in security["rls"]} == {"public.users", "public.roles", "public.sessions", "public.notifications"}
    assert {name for name, table in AZTH["schema"]["tables"].items() if table["row_level_security"]} == {
        one["table"] for one in security["rls"]
    }


def test_azth_s_settings() -> None:
    settings = AZTH["settings"]
    assert (settings["shared_buffers"], settings["max_connections"], settings["log_duration"]) == ("256MB", "200", "on")
    assert (settings["log_min_duration_statement"], settings["random_page_cost"]) == ("1000", "1.1")
    pool = AZTH["pool"]
    assert (pool["most"], pool["most_idle"], pool["lifetime_seconds"], pool["idle_time_seconds"]) == (100, 10, 300.0, 60.0)
    assert AZTH["sessions"]["query_over_seconds"] == HOUR
