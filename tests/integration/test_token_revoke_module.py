"""pg_token_revoke as an operator runs it, with each driver."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.ground import evidence
from tests.ground.databases import Database

pytestmark = pytest.mark.any_driver

Run = Callable[..., dict[str, Any]]
STORE = {
    "name": "app",
    "tokens": {
        "table": "app.tokens",
        "id": "id",
        "issued_at": "issued_at",
        "expires_at": "expires_at",
        "claims": "claims",
        "subject": "subject",
    },
    "revoke": {"how": "denylist", "table": "app.denied", "id": "id", "revoked_at": "denied_at", "expires_at": "expires_at"},
    "allowlist": {"table": "app.allowed", "id": "id"},
}
TABLES = """
CREATE SCHEMA app;
CREATE TABLE app.tokens (id uuid PRIMARY KEY, issued_at timestamptz, expires_at timestamptz, claims text, subject text);
CREATE TABLE app.denied (id uuid PRIMARY KEY, denied_at timestamptz, expires_at timestamptz);
CREATE TABLE app.allowed (id uuid PRIMARY KEY);
INSERT INTO app.tokens SELECT md5(n::text)::uuid, timestamptz '2026-01-15 10:00:00Z' + n * interval '1 min', now() + interval '1 day',
    CASE WHEN n % 3 = 0 THEN 'sub, admin' ELSE 'sub,nonadmin' END, 'user' || n % 10 FROM generate_series(0, 119) AS n;
INSERT INTO app.allowed SELECT id FROM app.tokens;
"""
HOUR = {"issued_from": "2026-01-15T10:00:00Z", "issued_to": "2026-01-15T11:00:00Z"}
WHY = {"reason": "a test"}


@pytest.fixture
def app(database: Database) -> Database:
    database.query(TABLES)
    return database


@pytest.fixture
def revoke(run_module: Run, app: Database) -> Run:
    """A function `(select, check=…, **options)` that runs the module on `app` and returns its JSON."""

    def run(select: Any, *, check: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {"token_stores": [STORE], "select": select, **WHY, **options}
        return run_module("pg_token_revoke", arguments, connection=app.login(), check=check)

    return run


def denied(app: Database) -> int:
    ((count,),) = app.query("SELECT count(*) FROM app.denied")
    return int(count)


@pytest.mark.every_driver
def test_check_mode_then_for_real_then_again_then_undone(revoke: Run, app: Database) -> None:
    before = evidence.fingerprint(app)
    content = app.query("SELECT * FROM app.allowed ORDER BY 1")
    planned = revoke(HOUR, check=True)
    assert evidence.fingerprint(app) == before
    result = revoke(HOUR)
    again = revoke(HOUR)
    assert [one["failed"] for one in (planned, result, again)] == [False] * 3, (planned, result, again)
    assert [one["changed"] for one in (planned, result, again)] == [True, True, False]
    assert [one["revoked"] for one in (planned, result, again)] == [60, 60, 0]
    assert result["remaining"] == 0
    assert denied(app) == 60
    assert app.query("SELECT count(*) FROM app.allowed") == [(60,)]
    undone = revoke(None, state="reinstated", revocation_id=result["revocation_id"])
    assert (undone["failed"], undone["changed"]) == (False, True), undone
    assert denied(app) == 0
    assert app.query("SELECT * FROM app.allowed ORDER BY 1") == content


@pytest.mark.parametrize(
    ("select", "options", "count"),
    [
        ({"claims": "admin"}, {}, 40),
        ({"claims": ["sub"]}, {}, 120),
        ({"claim_pattern": "*admin*"}, {"max_tokens": 120}, 120),
        ({"subjects": "user1, user2\nuser3\n"}, {}, 36),
        ({"subjects": ["user1"], **HOUR}, {}, 6),
        ({"all": True}, {}, 120),
    ],
)
def test_a_selection_counts_what_it_means(revoke: Run, app: Database, select: dict[str, Any], options: dict[str, Any], count: int) -> None:
    planned = revoke(select, check=True, **options)
    assert planned["failed"] is False, planned
    assert planned["revoked"] == count
    assert denied(app) == 0


def test_what_a_survey_sends_empty_counts_as_not_given(revoke: Run) -> None:
    names = ("ids", "claims", "clients", "tenants", "providers", "types", "scopes", "addresses", "families")
    empty = {**dict.fromkeys(names, ""), "issued_from": "", "issued_to": "", "claim_pattern": "", "all": False}
    texts = dict.fromkeys(("requested_by", "revocation_id", "stores", "max_wait", "clock_skew"), "")
    planned = revoke({**empty, "subjects": "user1"}, check=True, **texts)
    assert (planned["failed"], planned["revoked"]) == (False, 12), planned
    nothing = revoke(empty, check=True)
    assert nothing["failed"] is True
    assert "selects nothing in particular" in nothing["msg"]


@pytest.mark.parametrize(
    ("select", "options", "said"),
    [
        ({}, {}, "select: selects nothing in particular"),
        ({"subjects": "user1"}, {"reason": ""}, "reason: is missing"),
        ({"subjects": ["user1", ""]}, {}, "select.subjects[1]: is empty"),
        ({"issued_from": "2026-01-15 10:00"}, {}, "is not a time with its zone"),
        ({"claim_pattern": "admin*"}, {}, "max_tokens: is missing"),
        ({"all": True, "subjects": "user1"}, {}, "select.all: cannot stand beside subjects"),
        ({"subjcts": "user1"}, {}, "Unsupported parameters"),
        ({"subjects": "user1"}, {"stores": "ap"}, "stores[0]: 'ap' is not one of"),
        ({"subjects": "user1"}, {"state": "reinstated", "revocation_id": "x"}, "select: is not for state reinstated"),
        (None, {"state": "reinstated"}, "revocation_id: is missing"),
        ({"subjects": "user1"}, {"cache_connection": {"port": "66000"}}, "cache_connection.port: '66000' is not a whole number"),
        ({"subjects": "user1"}, {"introspection": {"client_id": "x"}}, "introspection.url: the address of the endpoint is required"),
    ],
)
def test_bad_input_is_named_before_anything_is_connected_to(run_module: Run, select: Any, options: dict[str, Any], said: str) -> None:
    arguments = {"token_stores": [STORE], "select": select, **WHY, **options}
    result = run_module("pg_token_revoke", arguments, connection={"login_host": "127.0.0.1", "login_port": "1"})
    assert result["failed"] is True
    assert said in result["msg"]
    assert "layer" not in result


def test_thousands_of_ids_do_not_flood_the_result(revoke: Run, app: Database) -> None:
    known = [str(row[0]) for row in app.query("SELECT id FROM app.tokens ORDER BY issued_at")]
    strangers = [str(uuid.uuid5(uuid.NAMESPACE_OID, str(n))) for n in range(5000 - len(known))]
    refused = revoke({"ids": [*strangers, *known]}, max_tokens=10)
    assert refused["failed"] is True
    planned, done = (revoke({"ids": [*strangers, *known]}, check=check) for check in (True, False))
    for result in (planned, done):
        assert (result["failed"], result["revoked"], result["not_found"]) == (False, 120, 4880), result
        assert len(result["stores"][0]["sample"]) == 10
    for result in (refused, planned, done):
        assert len(json.dumps(result)) < 10_000
        assert result["invocation"]["module_args"]["select"]["ids"] == "5000 values"


def test_the_ids_of_a_sample_are_readable_and_secrets_are_not(revoke: Run, app: Database) -> None:
    ((known,),) = app.query("SELECT id::text FROM app.tokens ORDER BY issued_at LIMIT 1")
    result = revoke({"ids": known}, check=True, cache_connection={"host": "nowhere", "password": "hush-hush"})
    assert result["failed"] is False, result
    assert result["stores"][0]["sample"] == [known]
    text = json.dumps(result)
    assert "hush-hush" not in text
    assert "nowhere" in text


def test_more_tokens_than_allowed_fail_with_the_counts(revoke: Run, app: Database) -> None:
    before = evidence.fingerprint(app)
    for limits in ({"max_tokens": 59}, {"max_share": 49.9}):
        result = revoke(HOUR, **limits)
        assert (result["failed"], result["changed"]) == (True, False), result
        assert next(iter(limits)) in result["msg"]
        assert [store["pending"] for store in result["stores"]] == [60]
    assert evidence.fingerprint(app) == before
    assert revoke(HOUR, max_tokens=60, max_share=50)["revoked"] == 60
