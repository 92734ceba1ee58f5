"""Rows that are themselves what keeps a token revoked: they stay as long as the token could be accepted."""

from __future__ import annotations

import pytest

from tests.integration.cleaning import TABLES, Cleaner, numbers, rule

pytestmark = pytest.mark.any_driver


@pytest.fixture
def app(cleaner: Cleaner) -> Cleaner:
    """Tables of tokens without any row."""
    cleaner.sql(TABLES)
    return cleaner


MARKS = {
    "timestamp": {"how": "timestamp", "column": "revoked_at"},
    "flag": {"how": "flag", "column": "revoked"},
    "flag of the valid": {"how": "flag", "column": "valid", "revoked_when": False},
}


@pytest.mark.parametrize("way", MARKS)
def test_a_tokens_row_that_says_revoked_stays_until_the_token_has_expired(app: Cleaner, way: str) -> None:
    """A validator that finds no row may take the token for one that nobody revoked."""
    app.sql("ALTER TABLE app.tokens ADD name text, ADD revoked_at timestamptz, ADD revoked bool NOT NULL DEFAULT false, ADD valid bool")
    lives = {"ended": "-1 h", "within the skew": "-2 min", "alive": "1 h", "endless": None}
    for name, life in lives.items():
        for revoked in (True, False):
            app.sql(
                "INSERT INTO app.tokens (name, issued_at, expires_at, revoked_at, revoked, valid)"
                " VALUES (%s, now() - interval '2 days', now() + %s::interval, CASE WHEN %s THEN now() END, %s, NOT %s)",
                [f"{name}{' revoked' if revoked else ''}", life, revoked, revoked, revoked],
            )
    tokens = {"table": "app.tokens", "id": "id", "issued_at": "issued_at", "expires_at": "expires_at"}
    store = {"name": "app", "tokens": tokens, "revoke": MARKS[way]}
    written = rule("app.tokens", "issued_at", "1 day")
    planned, result = (app.run([written], token_stores=[store], check=check) for check in (True, False))
    assert numbers(planned) == numbers(result)
    assert (result["matched"], result["protected"], result["removed"]) == (8, 3, 5)
    assert app.column("SELECT name FROM app.tokens") == ["alive revoked", "endless revoked", "within the skew revoked"]


@pytest.mark.parametrize(("lifetime", "left"), [({}, 1), ({"lifetime": "1 h"}, 0), ({"lifetime": "3 days"}, 1)])
def test_a_revoked_token_of_which_no_row_says_when_it_ends(app: Cleaner, lifetime: dict[str, str], left: int) -> None:
    app.sql("INSERT INTO app.tokens (issued_at) VALUES (now() - interval '2 days')")
    store = {
        "name": "app",
        "tokens": {"table": "app.tokens", "id": "id", "issued_at": "issued_at", **lifetime},
        "revoke": {"how": "timestamp", "column": "issued_at"},
    }
    app.run([rule("app.tokens", "issued_at", "1 day")], token_stores=[store])
    assert app.count("app.tokens") == left


@pytest.mark.parametrize(("kind", "none"), [("bigint", "0"), ("bigint", "NULL"), ("timestamptz", "NULL")])
def test_a_row_that_holds_a_limit_stays(app: Cleaner, kind: str, none: str) -> None:
    app.sql(f"CREATE TABLE app.users (id text, gone_at timestamptz DEFAULT 'epoch', not_before {kind})")
    value = "now()" if kind == "timestamptz" else "extract(epoch FROM now())::bigint"
    app.sql(f"INSERT INTO app.users VALUES ('limited', DEFAULT, {value}), ('free', DEFAULT, {none})")
    app.sql("ALTER TABLE app.tokens ADD subject text")
    column = {"column": "not_before", "unit": "s"} if kind == "bigint" else {"column": "not_before"}
    store = {
        "name": "app",
        "tokens": {"table": "app.tokens", "id": "id", "issued_at": "issued_at", "subject": "subject"},
        "revoke": {"how": "not_before"},
        "not_before": [{"table": "app.users", "column": column, "by": "subject", "id": "id"}],
    }
    result = app.run([rule("app.users", "gone_at")], token_stores=[store])
    assert (result["matched"], result["protected"], result["removed"]) == (2, 1, 1)
    assert app.column("SELECT id FROM app.users") == ["limited"]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("counted", ["lifetime", "expires_in"])
def test_a_deny_row_stays_while_its_token_lives_by_the_time_since_its_issue(app: Cleaner, counted: str, own: bool) -> None:
    """The deny row's own expiry may be shorter than the token's life."""
    app.sql("ALTER TABLE app.tokens ADD life int DEFAULT 86400; ALTER TABLE app.denied ADD name text")
    ages = {"alive": "23 h", "within the skew": "24 h 2 min", "ended": "25 h"}
    for number, (name, age) in enumerate(ages.items()):
        app.sql("INSERT INTO app.tokens VALUES (md5(%s)::uuid, now() - %s::interval)", [str(number), age])
        app.sql("INSERT INTO app.denied VALUES (md5(%s)::uuid, 'epoch', 'epoch', %s)", [str(number), name])
    store = {
        "name": "app",
        "tokens": {
            "table": "app.tokens",
            "id": "id",
            "issued_at": "issued_at",
            counted: "life" if counted == "expires_in" else "1 day",
        },
        "revoke": {"how": "denylist", "table": "app.denied", "id": "id", **({"expires_at": "expires_at"} if own else {})},
    }
    written = [rule("app.tokens", "issued_at"), rule("app.denied", "denied_at")]
    planned, result = (app.run(written, token_stores=[store], check=check) for check in (True, False))
    assert numbers(planned) == numbers(result)
    assert [row["removed"] for row in result["rules"]] == [1, 1]
    assert app.column("SELECT name FROM app.denied") == ["alive", "within the skew"]


def test_a_deny_row_stays_where_a_second_store_has_its_token_and_knows_of_no_end(app: Cleaner) -> None:
    """When the deny row expires is known to the other store only."""
    app.sql("CREATE TABLE app.others (id uuid); INSERT INTO app.others SELECT md5('1')::uuid")
    app.sql("INSERT INTO app.denied SELECT md5(n::text)::uuid, 'epoch', 'epoch' FROM generate_series(1, 2) AS n")
    denied = {"how": "denylist", "table": "app.denied", "id": "id"}
    stores = [
        {"name": "app", "tokens": {"table": "app.tokens", "id": "id"}, "revoke": {**denied, "expires_at": "expires_at"}},
        {"name": "others", "tokens": {"table": "app.others", "id": "id"}, "revoke": denied},
    ]
    assert app.run([rule("app.denied", "denied_at")], token_stores=stores)["removed"] == 1
    assert app.sql("SELECT count(*) FROM app.denied WHERE id = md5('1')::uuid") == [(1,)]
