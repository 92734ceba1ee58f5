"""What a rehearsal says, and what a result may say at all: guards, ids that nobody knows, values that are secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
from psycopg.sql import SQL

from ansible_collections.pgops.runbook.plugins.module_utils import _revocation
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from tests.ground.databases import Database

TABLES = """
CREATE TABLE tokens (id text PRIMARY KEY, expires_at timestamptz NOT NULL DEFAULT now() + interval '1 day');
CREATE TABLE denied (id text PRIMARY KEY, expires_at timestamptz NOT NULL);
CREATE TABLE sessions (id uuid PRIMARY KEY, revoked_at timestamptz);
INSERT INTO tokens (id) SELECT 'secret-' || n FROM generate_series(1, 10) AS n;
INSERT INTO denied VALUES ('secret-gone', now() + interval '1 day');
INSERT INTO sessions (id) SELECT md5(n::text)::uuid FROM generate_series(1, 10) AS n;
"""
DENIED: dict[str, Any] = {
    "name": "denied",
    "tokens": {"table": "tokens", "id": "id", "expires_at": "expires_at", "secrets": ["id"]},
    "revoke": {"how": "denylist", "table": "denied", "id": "id", "expires_at": "expires_at"},
}
STAMPED: dict[str, Any] = {
    "name": "stamped",
    "tokens": {"table": "sessions", "id": "id"},
    "revoke": {"how": "timestamp", "column": "revoked_at"},
}


@pytest.fixture
def filled(database: Database) -> Database:
    with database.connect() as connection:
        connection.execute(TABLES)
    return database


def run(database: Database, *, check: bool, stores: list[dict[str, Any]] | None = None, **given: Any) -> dict[str, Any]:
    options = _revocation.read_options({"token_stores": stores or [DENIED], "reason": "stolen", **given})
    with connect(ConnectionOptions.from_params(database.login(tcp=False)), application_name="test", read_only=check) as session:
        return _revocation.run(session, options, check_mode=check)


@pytest.mark.parametrize("guard", [{"max_tokens": 9}, {"max_share": 99}, {"atomic": True, "batch_rows": 9}])
@pytest.mark.parametrize("check", [True, False])
def test_a_guard_refuses_the_rehearsal_as_it_would_the_run(filled: Database, guard: dict[str, Any], check: bool) -> None:
    with pytest.raises(RunbookError, match=r"atomic|max_") as refused:
        run(filled, check=check, select={"all": True}, **guard)
    result = refused.value.as_result()
    assert (result["pending"], result["revoked"], result["changed"]) == (10, 0, False)
    assert filled.query("SELECT count(*) FROM denied") == [(1,)]


def test_a_rehearsal_tells_the_share_and_invents_no_id(filled: Database) -> None:
    result = run(filled, check=True, select={"ids": ["secret-1"]})
    assert result["revocation_id"] is None
    assert (result["stores"][0]["accepted_before"], result["stores"][0]["share_pct"]) == (10, 10.0)
    assert run(filled, check=True, select={"all": True}, revocation_id="mine")["revocation_id"] == "mine"


def test_ids_that_nobody_knows_are_counted_one_by_one(filled: Database) -> None:
    (known,) = filled.query("SELECT id::text FROM sessions ORDER BY id LIMIT 1")[0]
    other = "00000000-0000-0000-0000-000000000000"
    filled.query(SQL("INSERT INTO tokens (id) VALUES ({})").format(known))
    # One id is in both stores: that makes up for none that is in neither.
    both = run(filled, check=True, stores=[DENIED, STAMPED], select={"ids": [known, other]})
    assert both["not_found"] == 1
    assert run(filled, check=True, select={"ids": ["secret-1", "secret-gone", "nobody's"]})["not_found"] == 1
    assert any("1 of the given ids" in warning for warning in both["warnings"])


def test_secret_ids_stand_in_no_result_and_in_no_record(filled: Database) -> None:
    result = run(filled, check=False, select={"ids": ["secret-1", "secret-2"]}, revocation={"audit": "revocation_audit"})
    assert result["revoked"] == 2
    assert "secret-" not in json.dumps(result)
    assert all(one.startswith("sha256:") for one in result["stores"][0]["sample"])
    recorded = filled.query("SELECT selection::text FROM pgops_runbook.revocations UNION ALL SELECT selection::text FROM revocation_audit")
    assert [selection for (selection,) in recorded] == ['{"ids": "2 values"}'] * 2
