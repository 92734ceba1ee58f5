"""Every wrong description is refused with the path of the key, the value, and what is allowed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError
from ansible_collections.pgops.runbook.plugins.module_utils._system import load

Change = Callable[[dict[str, Any]], Any]

RIGHT: dict[str, Any] = {
    "name": "login",
    "schemas": ["login"],
    "time_zone": "UTC",
    "token_stores": [
        {
            "name": "access",
            "tokens": {"table": "login.tokens", "id": "jti", "issued_at": "issued_at", "expires_at": "expires_at"},
            "revoke": {"how": "denylist", "table": "login.denied", "id": "jti", "expires_at": "expires_at"},
        },
        {
            "name": "refresh",
            "tokens": {"table": "login.refresh", "id": "id", "expires_at": {"column": "exp", "unit": "s"}, "subject": "user_id"},
            "revoke": {"how": "flag", "column": "revoked"},
        },
    ],
    "retention": {
        "daily": [
            {"table": "login.denied", "column": "expires_at", "older_than": "0 s"},
            {"table": "login.refresh", "column": {"column": "exp", "unit": "s"}, "older_than": "7 days"},
        ]
    },
    "maintenance": {
        "vacuum": ["login.tokens"],
        "rewrite": [{"table": "login.tokens", "window": "night"}],
        "windows": [{"name": "night", "schedule": "daily", "at": "03:00"}],
    },
    "thresholds": {"size.database": {"warning": "5 GB", "critical": "10 GB"}, "cache.hit_pct": {"warning": 90, "critical": 80}},
    "backup": {"full": {"keep": "30 days"}, "mine": {"kind": "schemas", "schemas": ["login"]}},
    "recovery": {"staging": {"rto": "2 h", "rpo": "4 h"}},
    "security": {"application_roles": [{"name": "app", "grants": [{"to": "tables", "privileges": ["select"]}]}]},
    "schema": {
        "tables": {
            "login.tokens": {
                "columns": {
                    "jti": "uuid not null",
                    "issued_at": "timestamp not null",
                    "expires_at": {"type": "timestamp", "nullable": False},
                    "claims": "text",
                },
                "primary_key": ["jti"],
                "indexes": [{"name": "tokens_expires", "columns": ["expires_at desc"]}],
            },
            "login.denied": {"columns": {"jti": "uuid not null", "expires_at": "timestamptz not null"}},
            "login.refresh": {
                "columns": {"id": "bigint not null", "exp": "bigint", "user_id": "text", "revoked": "boolean not null default false"},
                "primary_key": ["id"],
                "foreign_keys": [{"columns": ["user_id"], "references": {"table": "login.tokens", "columns": ["claims"]}}],
            },
        }
    },
}


def to(*path: Any, value: Any) -> Change:
    """Return a change that puts `value` at a path."""

    def change(description: dict[str, Any]) -> None:
        place: Any = description
        for key in path[:-1]:
            place = place[key]
        if value is DELETED:
            del place[path[-1]]
        else:
            place[path[-1]] = value

    return change


DELETED = object()
COLUMNS = ("schema", "tables", "login.tokens", "columns")
STORE, RULE = ("token_stores", 0), ("retention", "daily", 0)
TOP = "name, title, database, schemas, time_zone, clock_skew, token_stores, revocation, clients, registrations, codes, login_flows, "
TOP += "caches, retention, maintenance, reports, thresholds, suppressions, targets, sessions, access_log, contacts, backup, recovery, "
TOP += "security, migrations, extensions, settings, pool, notifications, schema"
UNITS = "ms, s, sec, second, seconds, min, minute, minutes, h, hour, hours, d, day, days, week, weeks"
DECLARED = "the tables of schema.tables: login.tokens, login.denied, login.refresh"

FAULTS: dict[str, tuple[Change, str]] = {
    "a table of migrations that is declared otherwise": (
        to("migrations", value={"tool": "flyway", "table": "login.flyway"}),
        f"migrations.table: 'login.flyway' is not one of {DECLARED}",
    ),
    "an environment that there is not": (
        to("database", value={"name": "login", "environments": {"prod": "login_production"}}),
        "database.environments.prod: 'prod' is not one of development, staging, production",
    ),
    "a word that is not allowed": (
        to(*STORE, "revoke", "how", value="denlyist"),
        "token_stores[0].revoke.how: 'denlyist' is not one of denylist, timestamp, flag, delete, not_before",
    ),
    "a form without its choice": (
        to(*STORE, "revoke", "how", value=DELETED),
        "token_stores[0].revoke.how: is missing: how a token is revoked, one of denylist, timestamp, flag, delete, not_before",
    ),
    "an unknown key at the top": (to("token_store", value=[]), f"token_store: unknown key, did you mean token_stores? (allowed: {TOP})"),
    "an unknown key like no other": (to("zzz", value=1), f"zzz: unknown key (allowed: {TOP})"),
    "an unknown key that is no word": (to(3.5, value=1), f"[3.5]: unknown key (allowed: {TOP})"),
    "an unknown key inside": (
        to(*RULE, "older", value="1 h"),
        "retention.daily[0].older: unknown key, did you mean older_than? (allowed: name, table, column, older_than, where, "
        "keep_latest, action, archive, mark, protects)",
    ),
    "a missing name": (to("name", value=DELETED), "name: is missing: the name of the system"),
    "a name that is none": (to("name", value="my system"), "name: 'my system' is not a name of letters, digits, _ and -"),
    "a missing key": (
        to(*STORE, "tokens", "id", value=DELETED),
        "token_stores[0].tokens.id: is missing: the column that identifies a token",
    ),
    "an empty key that is needed": (
        to(*STORE, "tokens", "id", value=None),
        "token_stores[0].tokens.id: is missing: the column that identifies a token",
    ),
    "a text for a list": (to("schemas", value="login"), "schemas: 'login' is not a list, each item a schema name"),
    "a list for a mapping": (
        to("retention", value=[]),
        "retention: [] is not retention: write a mapping with hourly, daily, weekly, monthly, emergency",
    ),
    "a number for a mapping": (
        to(*STORE, "tokens", "expires_at", value=5),
        "token_stores[0].tokens.expires_at: 5 is not a time column: write a mapping with column, time_zone, unit",
    ),
    "an empty item": (to("schemas", value=["login", None]), "schemas[1]: is empty: write a schema name"),
    "an empty list": (to("schemas", value=[]), "schemas: [] is empty: at least one is needed"),
    "a text for a boolean": (
        to("schema", "tables", "login.denied", "row_level_security", value="yes"),
        "schema.tables[login.denied].row_level_security: 'yes' is not true or false",
    ),
    "a duration without a known unit": (
        to(*RULE, "older_than", value="3 fortnights"),
        f"retention.daily[0].older_than: '3 fortnights' is not a duration: write a number and a unit ({UNITS}), such "
        "as 30 days, 15 min or 200 ms",
    ),
    "a duration that is a boolean": (
        to("clock_skew", value=True),
        f"clock_skew: True is not a duration: write a number and a unit ({UNITS}), such as 30 days, 15 min or 200 ms",
    ),
    "seconds that differ from their duration": (
        to(*RULE, "older_than_seconds", value=5),
        "retention.daily[0].older_than_seconds: 5 differs from older_than: leave it out, it is worked out from older_than",
    ),
    "a size without a known unit": (
        to("thresholds", "size.database", "warning", value="5 gigs"),
        "thresholds[size.database].warning: '5 gigs' is not a size: write a number and a unit (B, kB, KB, MB, GB, "
        "TB), such as 5 GB or 512 MB",
    ),
    "a table of three parts": (
        to(*RULE, "table", value="a.b.c"),
        "retention.daily[0].table: 'a.b.c' has 3 parts: write table or schema.table",
    ),
    "a table that is a number": (to(*RULE, "table", value=7), "retention.daily[0].table: 7 is not a table name such as schema.table"),
    "a table in another schema": (
        to(*RULE, "table", value="denied"),
        "retention.daily[0].table: 'public.denied' is in schema public, which is not one of schemas: login",
    ),
    "a table that is not declared": (
        to(*RULE, "table", value="login.denid"),
        f"retention.daily[0].table: 'login.denid' is not one of {DECLARED}",
    ),
    "a table to vacuum that is not declared": (
        to("maintenance", "vacuum", value=["login.token"]),
        f"maintenance.vacuum[0].table: 'login.token' is not one of {DECLARED}",
    ),
    "a store's table that is not declared": (
        to(*STORE, "revoke", "table", value="login.deny"),
        f"token_stores[0].revoke.table: 'login.deny' is not one of {DECLARED}",
    ),
    "a column that the table lacks": (
        to(*STORE, "tokens", "id", value="jwt"),
        "token_stores[0].tokens.id: 'jwt' is not one of the columns of login.tokens: jti, issued_at, expires_at, claims",
    ),
    "a time that the table lacks": (
        to(*RULE, "column", value="until"),
        "retention.daily[0].column: 'until' is not one of the columns of login.denied: jti, expires_at",
    ),
    "a flag that the table lacks": (
        to("token_stores", 1, "revoke", "column", value="gone"),
        "token_stores[1].revoke.column: 'gone' is not one of the columns of login.refresh: id, exp, user_id, revoked",
    ),
    "a column that is not a time": (
        to(*STORE, "tokens", "issued_at", value="claims"),
        "token_stores[0].tokens.issued_at: login.tokens.claims is text, which is not a time: timestamptz, timestamp, "
        "date, or an integer with a unit",
    ),
    "an integer without a unit": (
        to("retention", "daily", 1, "column", value="exp"),
        "retention.daily[1].column: unit is missing: login.refresh.exp is bigint; write {column: exp, unit: s} or ms",
    ),
    "an integer with a zone": (
        to("retention", "daily", 1, "column", "time_zone", value="UTC"),
        "retention.daily[1].column: time_zone 'UTC' is not allowed: login.refresh.exp is bigint, which counts from 1970 in UTC",
    ),
    "a wall clock with a unit": (
        to(*STORE, "tokens", "issued_at", value={"column": "issued_at", "unit": "s"}),
        "token_stores[0].tokens.issued_at: unit 's' is not allowed: login.tokens.issued_at is timestamp, only an integer has a unit",
    ),
    "an instant with a zone": (
        to(*RULE, "column", value={"column": "expires_at", "time_zone": "Europe/Tallinn"}),
        "retention.daily[0].column: time_zone 'Europe/Tallinn' is not allowed: login.denied.expires_at is "
        "timestamptz, which needs neither time_zone nor unit",
    ),
    "a zone that is spelled wrong": (
        to("time_zone", value="not a zone"),
        "time_zone: 'not a zone' is not a time zone: write a name such as UTC or Europe/Tallinn",
    ),
    "a zone that does not exist": (
        to("time_zone", value="Europe/Talinn"),
        "time_zone: 'Europe/Talinn' is not a known time zone; did you mean Europe/Tallinn?",
    ),
    "two stores of one name": (
        to("token_stores", 1, "name", value="access"),
        "token_stores[1].name: 'access' is already the name of token_stores[0]: names must differ",
    ),
    "two rules of one name": (
        to("retention", "daily", 1, "name", value="login.denied"),
        "retention.daily[1].name: 'login.denied' is already the name of retention.daily[0]: names must differ",
    ),
    "a rule that protects no store": (
        to(*RULE, "protects", value="acces"),
        "retention.daily[0].protects: 'acces' is not one of the token stores: access, refresh",
    ),
    "a rule that protects another store": (
        to(*RULE, "protects", value="refresh"),
        "retention.daily[0].protects: 'refresh' has neither its tokens nor its deny list in login.denied: leave it out",
    ),
    "a dependent row without its mark": (
        to(
            "token_stores",
            1,
            "dependents",
            value=[{"table": "login.refresh", "column": "user_id", "references": "id", "on_revoke": "timestamp"}],
        ),
        "token_stores[1].dependents[0].mark: is missing: for `timestamp`: the column that is set where it is NULL",
    ),
    "a dependent row of a column that the tokens lack": (
        to("token_stores", 1, "dependents", value=[{"table": "login.denied", "column": "jti", "references": "jti", "on_revoke": "delete"}]),
        "token_stores[1].dependents[0].references: 'jti' is not one of the columns of login.refresh: id, exp, user_id, revoked",
    ),
    "an unknown check": (
        to("thresholds", value={"cache.hits": {"warning": 1}}),
        "thresholds[cache.hits]: 'cache.hits' is not one of the checks: ",
    ),
    "a threshold of a check that has none": (
        to("thresholds", "schema.present", value={"warning": 1}),
        "thresholds[schema.present].warning: unknown key (allowed: action)",
    ),
    "thresholds in the wrong order, above": (
        to("thresholds", "size.database", "critical", value="1 GB"),
        "thresholds[size.database].critical: 1073741824 comes before the warning at 5368709120: it must be at or above it",
    ),
    "thresholds in the wrong order, below": (
        to("thresholds", "cache.hit_pct", "critical", value=95),
        "thresholds[cache.hit_pct].critical: 95 comes before the warning at 90: it must be at or below it",
    ),
    "a window that does not exist": (
        to("maintenance", "rewrite", 0, "window", value="noon"),
        "maintenance.rewrite[0].window: 'noon' is not one of the maintenance windows: night",
    ),
    "a time of day": (
        to("maintenance", "windows", 0, "at", value="3 am"),
        "maintenance.windows[0].at: '3 am' is not a time of day such as \"18:00\"",
    ),
    "a backup without a kind": (
        to("backup", "hers", value={"keep": "7 days"}),
        "backup.hers.kind: is missing: what it holds; the backup's name where that is a kind",
    ),
    "a backup that names nothing": (
        to("backup", "mine", "schemas", value=DELETED),
        "backup.mine.schemas: is missing: a backup of kind schemas names them",
    ),
    "a backup of another schema": (
        to("backup", "mine", "schemas", value=["logon"]),
        "backup.mine.schemas[0]: 'logon' is not one of schemas: login",
    ),
    "a dump as a tar": (
        to("backup", "full", "format", value="tar"),
        "backup.full.format: 'tar' is for a physical backup: a dump is custom, directory or plain",
    ),
    "a dump without an end": (
        to("backup", "full", "schedule", value="continuous"),
        "backup.full.schedule: 'continuous' is for kind wal: write hourly, and every where an hour is not often enough",
    ),
    "generations that keep nothing": (
        to("backup", "full", "generations", value={"weekly": 0}),
        "backup.full.generations: keeps nothing: say how many, such as weekly: 4",
    ),
    "an unknown environment": (
        to("recovery", value={"prod": {"rto": "1 h", "rpo": "1 h"}}),
        "recovery.prod: 'prod' is not one of development, staging, production",
    ),
    "a recovery target that is missing": (
        to("recovery", value={"rto": "1 h"}),
        "recovery.rpo: is missing: how much time's worth of data may be lost",
    ),
    "an unknown privilege": (
        to("security", "application_roles", 0, "grants", 0, "privileges", value=["read"]),
        "security.application_roles[0].grants[0].privileges[0]: 'read' is not one of select, insert, update, delete, ",
    ),
    "a password that is not proved": (
        to("security", "hba", value=[{"type": "host", "address": "10.0.0.0/8", "method": "md5"}]),
        "security.hba[0].method: 'md5' is not one of peer, scram-sha-256, cert, reject",
    ),
    "a column that is no type": (
        to(*COLUMNS, "claims", value="not null"),
        "schema.tables[login.tokens].columns.claims: 'not null' is not a column such as uuid not null",
    ),
    "a column with a word too many": (
        to(*COLUMNS, "claims", value="text nt null"),
        "schema.tables[login.tokens].columns.claims: 'text nt null' is not a column such as uuid not null",
    ),
    "a key of another column": (
        to("schema", "tables", "login.tokens", "primary_key", value=["id"]),
        "schema.tables[login.tokens].primary_key[0]: 'id' is not one of the columns: jti, issued_at, expires_at, claims",
    ),
    "an index of another column": (
        to("schema", "tables", "login.tokens", "indexes", 0, "columns", value=["expires desc"]),
        "schema.tables[login.tokens].indexes[0].columns[0]: 'expires' is not one of the columns: jti, issued_at, expires_at, claims",
    ),
    "an index to create of another column": (
        to("maintenance", "indexes", value=[{"table": "login.tokens", "name": "i", "columns": ["sub"]}]),
        "maintenance.indexes[0].columns[0]: 'sub' is not one of the columns of login.tokens: jti, issued_at, expires_at, claims",
    ),
    "an index whose predicate changes": (
        to("maintenance", "indexes", value=[{"table": "login.tokens", "name": "i", "columns": ["jti"], "where": "expires_at > NOW()"}]),
        "maintenance.indexes[0].where: 'NOW' is not allowed in the predicate of an index: its value changes with time",
    ),
    "a foreign key to nowhere": (
        to("schema", "tables", "login.refresh", "foreign_keys", 0, "references", "columns", value=["token"]),
        "schema.tables[login.refresh].foreign_keys[0].references.columns[0]: 'token' is not one of the columns of login.tokens: "
        "jti, issued_at, expires_at, claims",
    ),
    "a partitioned table whose key does not fit": (
        to("schema", "tables", "login.tokens", "partition_by", value={"how": "range", "columns": ["issued_at"]}),
        "schema.tables[login.tokens].primary_key: ['jti'] lacks issued_at: the key of a partitioned table holds the columns that divide it",
    ),
    "one table under two names": (
        to("schema", "tables", value={"login.a": {"columns": {"x": "int"}}, '"login".a': {"columns": {"x": "int"}}}),
        'schema.tables["\\"login\\".a"]: \'login.a\' is named twice',
    ),
}


def faults(description: Any) -> list[str]:
    with pytest.raises(DescriptionError) as caught:
        load(description)
    return caught.value.errors


def test_the_right_one_is_right() -> None:
    assert load(RIGHT)["name"] == "login"


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_names_key_value_and_what_is_allowed(name: str) -> None:
    change, expected = FAULTS[name]
    description = copy.deepcopy(RIGHT)
    change(description)
    found = faults(description)
    # A list of checks or privileges is too long to repeat here: its beginning will do.
    match = [fault for fault in found if (fault.startswith(expected) if expected.endswith((": ", ", ")) else fault == expected)]
    assert len(match) == 1, "\n".join(found)


def test_every_fault_is_told_at_once() -> None:
    description = copy.deepcopy(RIGHT)
    for name in (
        "a word that is not allowed",
        "a duration without a known unit",
        "a column that the table lacks",
        "an unknown key at the top",
    ):
        FAULTS[name][0](description)
    assert [fault.partition(":")[0] for fault in faults(description)] == [
        "token_store",
        "token_stores[0].revoke.how",
        "retention.daily[0].older_than",
        "token_stores[0].tokens.id",
    ]


def test_a_wall_clock_without_a_zone_is_refused_wherever_it_is_named() -> None:
    description = copy.deepcopy(RIGHT)
    del description["time_zone"]
    found = faults(description)
    advice = "which does not say whose wall clock that is; write {column: issued_at, time_zone: UTC} or whichever zone it is in"
    assert found[0] == f"token_stores[0].tokens.issued_at: time_zone is missing: login.tokens.issued_at is timestamp, {advice}"
    assert [fault.partition(":")[0] for fault in found] == ["token_stores[0].tokens.issued_at", "token_stores[0].tokens.expires_at"]


@pytest.mark.parametrize(
    "sql_type", ["timestamp", "timestamp(3)", "timestamp without time zone", "TIMESTAMP (0) WITHOUT TIME ZONE", "date"]
)
def test_every_spelling_of_a_wall_clock_needs_a_zone(sql_type: str) -> None:
    description = copy.deepcopy(RIGHT)
    description["schema"]["tables"]["login.denied"]["columns"]["expires_at"] = sql_type
    assert load(description)["retention"]["daily"][0]["column"]["time_zone"] == "UTC"
    del description["time_zone"]
    assert any(f"login.denied.expires_at is {sql_type}" in fault for fault in faults(description))


@pytest.mark.parametrize("value", [None, [], "tim", 3, True])
def test_a_description_is_a_mapping(value: Any) -> None:
    assert faults(value) == [f"{value!r} is not a system description: write a mapping with at least a name"]


def test_the_message_names_the_origin_and_counts_the_rest() -> None:
    with pytest.raises(DescriptionError) as caught:
        load({"nme": "x"}, origin="/etc/systems/x.yml")
    assert caught.value.message.startswith("/etc/systems/x.yml: nme: unknown key, did you mean name?")
    assert caught.value.message.endswith("(and 1 more)")
    assert caught.value.as_result()["errors"] == caught.value.errors
