"""Rows that go with the tokens: what happens to them, when, and that codes go even if no token is left."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ground.databases import Database
from tests.integration.hindering import with_changes
from tests.integration.revoking import Trial

TABLES = """
CREATE TABLE users (id int PRIMARY KEY, tenant text, provider text);
CREATE TABLE tokens (id int PRIMARY KEY, user_id int, client text, tenant text, ip inet, code int, revoked boolean, at timestamptz,
    expires_at timestamptz);
CREATE TABLE codes (code text PRIMARY KEY, token_id int, user_id int, client text, tenant text, ip inet, used_at timestamptz, used boolean,
    open boolean DEFAULT true, kind text DEFAULT 'login');
CREATE TABLE allowed (id int PRIMARY KEY, expires_at timestamptz);
INSERT INTO users SELECT n, 'tenant' || n % 2, CASE n % 3 WHEN 0 THEN 'google' END FROM generate_series(1, 8) n;
INSERT INTO tokens SELECT n, 1 + n % 6, 'client' || n % 3, 'tenant' || (1 + n % 6) % 2, ('10.0.' || n % 3 || '.' || n)::inet, n,
    CASE n % 5 WHEN 0 THEN true WHEN 1 THEN NULL ELSE false END, '2026-01-15', CASE WHEN n % 7 = 0 THEN now() - interval '1 h' END
FROM generate_series(1, 24) n;
INSERT INTO codes SELECT 'c' || n, CASE WHEN n <= 24 THEN n END, 1 + n % 8, 'client' || n % 4, 'tenant' || n % 2,
    ('10.0.' || n % 3 || '.' || n)::inet, CASE WHEN n % 4 = 0 THEN timestamptz '2026-01-01' END,
    CASE n % 3 WHEN 0 THEN true WHEN 1 THEN NULL ELSE false END, n % 5 > 0,
    CASE WHEN n % 9 = 0 THEN 'reset' ELSE 'login' END
FROM generate_series(1, 40) n;
INSERT INTO allowed SELECT n, now() FROM generate_series(1, 30) n;
"""
STORE: dict[str, Any] = {
    "name": "app",
    "tokens": {
        "table": "tokens",
        "id": "id",
        "subject": "user_id",
        "client": "client",
        "tenant": "tenant",
        "address": "ip",
        "issued_at": "at",
        "provider_through": {"column": "user_id", "table": "users", "id": "id", "provider": "provider"},
        "expires_at": "expires_at",
    },
    "revoke": {"how": "flag", "column": "revoked"},
}
ACTS: dict[str, tuple[dict[str, Any], str]] = {
    "delete": ({"on_revoke": "delete"}, "true"),
    "timestamp": ({"on_revoke": "timestamp", "mark": "used_at"}, "used_at IS NULL"),
    "flag": ({"on_revoke": "flag", "flag": "used"}, "used IS NOT TRUE"),
    "flag off": ({"on_revoke": "flag", "flag": "open", "revoked_when": False}, "open"),
    "clear": ({"on_revoke": "clear"}, "{column} IS NOT NULL"),
}
# Criterion, what it selects among the tokens, and a dependent entry that counts for it.
FOUND = "SELECT * FROM tokens WHERE "
WHEN: dict[str, tuple[dict[str, Any], str, dict[str, Any], str]] = {
    "id": ({"ids": ["3", "7", "99"]}, "id IN (3, 7)", {"column": "token_id", "references": "id"}, "token_id IN (3, 7)"),
    "subject": ({"subjects": ["2", "8"]}, "user_id = 2", {"column": "user_id", "references": "user_id"}, "user_id IN (2, 8)"),
    "client": ({"clients": ["client1", "client3"]}, "client = 'client1'", {"column": "client", "references": "client"},
               "client IN ('client1', 'client3')"),
    "tenant": ({"tenants": ["tenant1"]}, "tenant = 'tenant1'", {"column": "tenant", "references": "tenant"}, "tenant = 'tenant1'"),
    "provider": ({"providers": ["google"]}, "user_id IN (3, 6)", {"column": "user_id", "references": "user_id"}, "user_id IN (3, 6)"),
    "address": ({"addresses": ["10.0.1.0/24"]}, "ip << '10.0.1.0/24'", {"column": "ip", "references": "ip"}, "ip << '10.0.1.0/24'"),
    "all": ({"all": True}, "true", {"column": "user_id", "references": "user_id"}, "true"),
}  # fmt: skip


@pytest.fixture
def trial(database: Database) -> Trial:
    made = Trial(database)
    made.sql(TABLES)
    return made


def dependents(*entries: dict[str, Any]) -> dict[str, Any]:
    return with_changes(STORE, dependents=[{"table": "codes", **entry} for entry in entries])


def gone(trial: Trial) -> set[str]:
    """Return the codes that could become a token no more, by what only this file's revocations do to them."""
    return {row[0] for row in trial.sql("SELECT code FROM codes WHERE used_at IS NOT NULL AND used_at > '2026-01-02'")}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("word", [*WHEN, "always"])
def test_what_happens_to_which_rows(trial: Trial, word: str, act: str) -> None:
    written, still = ACTS[act]
    if word == "always":
        select, tokens, entry, rows = {"issued_to": "2026-01-16T00:00:00Z", "clients": ["client2"]}, "client = 'client2'", {}, ""
        entry, rows = {"column": "token_id", "references": "id"}, "token_id IN (SELECT id FROM tokens WHERE client = 'client2')"
    else:
        select, tokens, entry, rows = WHEN[word]
        entry = {**entry, "when": [word]}
    expected = trial.value(f"SELECT count(*) FROM codes WHERE {still.replace('{column}', entry['column'])} AND {rows}")
    pending = f"SELECT count(*) FROM tokens WHERE revoked IS NOT TRUE AND (expires_at > now() OR expires_at IS NULL) AND {tokens}"
    result = trial.there_and_back(select, dependents({**entry, **written}))
    assert (result["dependents"], result["revoked"]) == (expected, trial.value(pending))
    assert expected > 0


@pytest.mark.parametrize("word", [word for word in WHEN if word != "id"])
def test_what_counts_for_other_criteria_only_is_left_alone(trial: Trial, word: str) -> None:
    entry = {**WHEN[word][2], "when": [word], "on_revoke": "delete"}
    assert trial.there_and_back({"ids": ["1", "2", "3"]}, dependents(entry))["dependents"] == 0


def test_codes_of_a_user_go_even_if_no_token_of_the_user_is_left(trial: Trial) -> None:
    trial.sql("DELETE FROM tokens")
    entry = {"column": "user_id", "references": "user_id", "on_revoke": "timestamp", "mark": "used_at"}
    assert trial.there_and_back({"subjects": ["2"]}, dependents({**entry, "when": ["subject"]}))["dependents"] == 5
    assert trial.there_and_back({"subjects": ["2"]}, dependents(entry))["dependents"] == 0


def test_entries_of_one_table_that_count_are_joined_by_and(trial: Trial) -> None:
    entry = {"on_revoke": "timestamp", "mark": "used_at"}
    both = dependents(
        {**entry, "column": "user_id", "references": "user_id", "when": ["subject", "all"]},
        {**entry, "column": "client", "references": "client", "when": ["client", "all"]},
    )
    open_codes = "SELECT count(*) FROM codes WHERE used_at IS NULL AND "
    for select, rows in (
        ({"subjects": ["2"], "clients": ["client1"]}, "user_id = 2 AND client = 'client1'"),
        ({"subjects": ["2"]}, "user_id = 2"),
        ({"clients": ["client1"]}, "client = 'client1'"),
        ({"all": True}, "true"),
        ({"subjects": ["2"], "addresses": ["10.0.0.0/16"]}, "user_id = 2"),
        ({"addresses": ["10.0.0.0/16"]}, "false"),
    ):
        assert trial.there_and_back(select, both)["dependents"] == trial.value(open_codes + rows), select


def test_rows_that_two_entries_reach_are_counted_once(trial: Trial) -> None:
    entry = {"on_revoke": "delete"}
    two = dependents({**entry, "column": "token_id", "references": "id"}, {**entry, "column": "user_id", "references": "user_id"})
    result = trial.there_and_back({"subjects": ["2"]}, two)
    expected = "SELECT count(*) FROM codes WHERE user_id = 2 OR token_id IN (SELECT id FROM tokens WHERE user_id = 2)"
    assert result["dependents"] == trial.value(expected)
    three = dependents(
        {"column": "token_id", "references": "id", "on_revoke": "timestamp", "mark": "used_at"},
        {"column": "user_id", "references": "user_id", "on_revoke": "timestamp", "mark": "used_at", "when": ["subject"]},
        {"column": "client", "references": "client", "on_revoke": "timestamp", "mark": "used_at", "when": ["client"]},
    )
    result = trial.there_and_back({"subjects": ["2"], "clients": ["client1"]}, three)
    expected = (
        "SELECT count(*) FROM codes WHERE used_at IS NULL AND (user_id = 2 AND client = 'client1'"
        " OR token_id IN (SELECT id FROM tokens WHERE user_id = 2 AND client = 'client1'))"
    )
    assert result["dependents"] == trial.value(expected)


def test_only_the_rows_of_where_go(trial: Trial) -> None:
    entry = {"column": "user_id", "references": "user_id", "on_revoke": "delete", "when": ["subject"], "where": {"kind": "reset"}}
    expected = trial.value("SELECT count(*) FROM codes WHERE user_id IN (2, 3) AND kind = 'reset'")
    assert trial.there_and_back({"subjects": ["2", "3"]}, dependents(entry))["dependents"] == expected > 0


@pytest.mark.parametrize("how", ["flag", "delete", "denylist"])
def test_an_allow_list(trial: Trial, how: str) -> None:
    trial.sql("CREATE TABLE denied (id int PRIMARY KEY)")
    revoke = {"flag": STORE["revoke"], "delete": {"how": "delete"}, "denylist": {"how": "denylist", "table": "denied", "id": "id"}}[how]
    store = {**STORE, "revoke": revoke, "allowlist": {"table": "allowed", "id": "id", "expires_at": "expires_at"}}
    assert trial.there_and_back({"subjects": ["2"]}, store)["dependents"] == 4
    assert trial.there_and_back({"all": True}, store)["dependents"] == 24


def test_ids_of_other_types_meet(trial: Trial) -> None:
    trial.sql('CREATE TABLE keys (token text, at bigint); CREATE TABLE names (name text COLLATE "C")')
    trial.sql("ALTER TABLE tokens ALTER id TYPE uuid USING md5(id::text)::uuid")
    trial.sql("INSERT INTO keys SELECT upper(id::text) FROM tokens")
    entry = {"table": "keys", "column": "token", "references": "id", "on_revoke": "timestamp", "mark": {"column": "at", "unit": "s"}}
    assert trial.there_and_back({"subjects": ["2"]}, with_changes(STORE, dependents=[entry]))["dependents"] == 4
    trial.sql("INSERT INTO names SELECT DISTINCT client FROM tokens")
    entry = {"table": "names", "column": "name", "references": "client", "on_revoke": "delete"}
    assert trial.there_and_back({"clients": ["client1"]}, with_changes(STORE, dependents=[entry]))["dependents"] == 1
