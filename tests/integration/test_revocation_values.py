"""The values that tokens are selected by: compared as the column's type compares them, refused where they are none of that type."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from tests.ground.databases import Database
from tests.integration.revoking import Trial
from tests.integration.spending import spending

STORE: dict[str, Any] = {
    "name": "app",
    "tokens": {"table": "tokens", "id": "id"},
    "revoke": {"how": "timestamp", "column": "revoked_at"},
}
DENIED: dict[str, Any] = {**STORE, "revoke": {"how": "denylist", "table": "denied", "id": "id"}}


@pytest.fixture
def trial(database: Database) -> Trial:
    return Trial(database)


def with_tokens(**tokens: Any) -> dict[str, Any]:
    return {**STORE, "tokens": {**STORE["tokens"], **tokens}}


# --- ids that nobody knows --------------------------------------------------------------------------------------------------


def require_citext(trial: Trial) -> None:
    """Make texts without case known to the database; a server without contrib has none."""
    if not trial.sql("SELECT name FROM pg_available_extensions WHERE name = 'citext'"):
        pytest.skip("this server has no extension citext")
    trial.sql("CREATE EXTENSION citext")


@pytest.mark.parametrize("kind", ["text", "varchar(40)", "bigint", "uuid", "citext", "bytea", 'text COLLATE "C"'])
def test_ids_that_neither_a_store_nor_its_deny_list_knows(trial: Trial, kind: str) -> None:
    if kind == "citext":
        require_citext(trial)
    trial.sql(f"CREATE TABLE tokens (id {kind}, revoked_at timestamptz)")
    trial.sql(f"CREATE TABLE denied (id {kind})")
    ids = {
        "bigint": ["1", "2", "3"],
        "uuid": [f"{n}BCDEF00-0000-0000-0000-000000000000" for n in "123"],
        "citext": ["A1", "a2", "a3"],
        "bytea": ["\\xA1", "\\xa2", "\\xa3"],
    }.get(kind, ["a1", "a2", "a3"])
    trial.sql(f"INSERT INTO tokens VALUES (lower(%s)::text::{kind})", [ids[0]])
    trial.sql(f"INSERT INTO denied VALUES (lower(%s)::text::{kind})", [ids[1]])
    assert trial.run({"ids": ids}, DENIED, check=True)["not_found"] == 1
    assert trial.run({"ids": ids[:2]}, DENIED, check=True)["not_found"] == 0


def test_text_ids_that_are_no_uuid_are_looked_for_in_a_deny_list_of_uuids(trial: Trial) -> None:
    known = "abcdef00-0000-0000-0000-00000000000"
    trial.sql("CREATE TABLE tokens (id text, revoked_at timestamptz)")
    trial.sql("CREATE TABLE denied (id uuid)")
    trial.sql("INSERT INTO tokens VALUES (%s)", [f"{known}1"])
    trial.sql("INSERT INTO denied VALUES (%s)", [f"{known}2"])
    assert trial.run({"ids": [f"{known}1", f"{known}2".upper(), "mistyped"]}, DENIED, check=True)["not_found"] == 1


def test_many_ids_are_looked_for_in_one_go(trial: Trial) -> None:
    trial.sql("CREATE TABLE tokens (id text, revoked_at timestamptz)")
    trial.sql("CREATE TABLE denied (id text)")
    trial.sql("INSERT INTO tokens SELECT 't' || n FROM generate_series(1, 200000) AS n")
    trial.sql("INSERT INTO denied SELECT 't' || n FROM generate_series(1, 1000) AS n")
    with spending(trial.database.cluster) as spent:
        result = trial.run({"ids": [f"t{n * 7}" for n in range(30_000)]}, DENIED, check=True)
    # Without an index: every id against every row is 6 billion comparisons.
    assert spent.seconds < 20
    assert (result["not_found"], result["selected"]) == (30_000 - 200_000 // 7, 200_000 // 7)


# --- types of others --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [0, 200], ids=["few", "many"])
@pytest.mark.parametrize("criterion", ["subjects", "ids", "tenants"])
def test_what_the_column_compares_without_case_is_selected_without_case(trial: Trial, criterion: str, others: int) -> None:
    require_citext(trial)
    trial.sql("CREATE DOMAIN address AS citext")
    trial.sql("CREATE TABLE tokens (id citext, revoked_at timestamptz, usr address, app citext)")
    trial.sql("CREATE TABLE apps (id citext, tenant citext)")
    trial.sql("INSERT INTO apps VALUES ('App', 'Mine')")
    trial.sql("INSERT INTO tokens VALUES ('Abc', NULL, 'User@x.com', 'aPP'), ('other', NULL, 'other@x.com', 'other')")
    value = {"subjects": "uSER@x.com", "ids": "aBC", "tenants": "mINE"}[criterion]
    through = {"column": "app", "table": "apps", "id": "id", "tenant": "tenant"}
    store = with_tokens(subject="usr", tenant_through=through)
    result = trial.there_and_back({criterion: [value, *(f"x{n}" for n in range(others))]}, store)
    assert result["revoked"] == 1


def test_the_first_token_of_a_family_is_found_by_its_id_without_case_too(trial: Trial) -> None:
    require_citext(trial)
    trial.sql("CREATE TABLE tokens (id citext, revoked_at timestamptz, family citext)")
    trial.sql("INSERT INTO tokens VALUES ('Abc', NULL, NULL), ('second', NULL, 'aBC'), ('other', NULL, NULL)")
    assert trial.there_and_back({"families": ["abC"]}, with_tokens(family="family"))["revoked"] == 2


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("kind", "access", "nope"),
        ("bytea", "\\x7431", "\\xzz"),
        ("boolean", "true", "perhaps"),
        ("timestamptz", "2026-01-01T00:00:00Z", "someday"),
        ("uuid_domain", "00000000-0000-0000-0000-000000000001", "mistyped"),
        ("smallint", "7", "70000"),
        ("inet", "10.0.0.1", "10.0.0.0.1"),
    ],
)
def test_a_value_that_is_none_of_the_columns_type_is_refused_by_the_criterions_name(trial: Trial, kind: str, good: str, bad: str) -> None:
    trial.sql("CREATE TYPE kind AS ENUM ('access', 'refresh')")
    trial.sql("CREATE DOMAIN uuid_domain AS uuid")
    trial.sql(f'CREATE TABLE tokens (id int, revoked_at timestamptz, "ki%nd" {kind})')
    trial.sql("INSERT INTO tokens VALUES (1, NULL, %s), (2, NULL, NULL)", [good])
    store = with_tokens(type="ki%nd")
    with pytest.raises(InvalidValue, match=r"select\.types: .*tokens\.ki%nd is of type"):
        trial.run({"types": [good, bad]}, store)
    assert trial.there_and_back({"types": [good]}, store)["revoked"] == 1


# --- lives ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "ends"),
    [(2**63 - 1, "infinity"), (10**13, "infinity"), (3_000_000_001, "infinity"), (-1, None), (-(2**63), None), (None, "infinity")],
)
def test_a_life_beyond_all_measure_is_for_ever_and_a_negative_one_is_over(trial: Trial, seconds: int | None, ends: str | None) -> None:
    trial.sql("CREATE TABLE tokens (id text PRIMARY KEY, issued_at timestamptz, life bigint)")
    trial.sql("CREATE TABLE denied (id text PRIMARY KEY, until timestamptz)")
    trial.sql("INSERT INTO tokens VALUES ('a', now() - interval '1 hour', %s)", [seconds])
    tokens = {**STORE["tokens"], "issued_at": "issued_at", "expires_in": "life"}
    result = trial.revoke({"all": True}, {**DENIED, "tokens": tokens, "revoke": {**DENIED["revoke"], "expires_at": "until"}})
    assert result["revoked"] == (1 if ends else 0)
    assert trial.sql("SELECT until::text FROM denied") == ([(ends,)] if ends else [])


def test_a_lifetime_longer_than_a_timestamp_can_tell_is_for_ever(trial: Trial) -> None:
    trial.sql("CREATE TABLE tokens (id text PRIMARY KEY, issued_at timestamptz, revoked_at timestamptz)")
    trial.sql("INSERT INTO tokens VALUES ('a', now())")
    assert trial.revoke({"all": True}, with_tokens(issued_at="issued_at", lifetime="200000000 days"))["revoked"] == 1


# --- limits -----------------------------------------------------------------------------------------------------------------


def limited(trial: Trial, limit: Any) -> dict[str, Any]:
    trial.sql("CREATE TABLE tokens (id int, revoked_at timestamptz, issued_at timestamptz)")
    trial.sql("CREATE TABLE limits (not_before timestamptz)")
    trial.sql("INSERT INTO limits VALUES (NULL)")
    trial.sql("INSERT INTO tokens VALUES (1, NULL, now() - interval '1 hour')")
    return {**with_tokens(issued_at="issued_at"), "not_before": limit}


LIMIT = [{"table": "limits", "column": "not_before", "by": "all"}]


def test_a_limit_is_not_raised_to_the_future(trial: Trial) -> None:
    """Every login until then would be refused."""
    store = limited(trial, LIMIT)
    before = trial.everything()
    for check in (True, False):
        with pytest.raises(InvalidValue, match=r"select\.issued_to: .* in the future"):
            trial.run({"issued_to": "2099-01-01T00:00:00Z"}, store, check=check)
    assert trial.everything() == before


def test_a_limit_is_raised_to_a_moment_that_another_clock_calls_now(trial: Trial) -> None:
    store = limited(trial, LIMIT)
    soon = trial.value("SELECT to_char((now() + interval '2 minutes') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
    assert trial.run({"issued_to": soon}, store)["revoked"] == 1


def test_a_window_may_end_in_the_future_where_no_limit_is_raised(trial: Trial) -> None:
    store = limited(trial, [])
    assert trial.run({"issued_to": "2099-01-01T00:00:00Z"}, store)["revoked"] == 1
