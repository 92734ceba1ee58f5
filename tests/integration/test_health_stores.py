"""Health of two token stores in one table, told apart by the values of their rows: neither is blamed for the other's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ground.databases import Database
from tests.integration.watching import finding, look, run_script, status_of

# As Keycloak keeps its sessions: the offline one of a session goes by the same id.
TABLE = """
CREATE TABLE sessions (id text, offline text, renewed boolean, begun timestamptz, ended timestamptz, PRIMARY KEY (id, offline, renewed));
INSERT INTO sessions (id, offline, renewed, begun) SELECT 's' || n, '0', false, now() - interval '10 min' FROM generate_series(1, 40) AS n;
INSERT INTO sessions (id, offline, renewed, begun) SELECT 's' || n, '1%', false, now() - interval '10 min' FROM generate_series(1, 40) AS n;
"""
SYSTEM: dict[str, Any] = {
    "name": "sessions",
    "token_stores": [
        {
            "name": name,
            "tokens": {"table": "sessions", "id": "id", "issued_at": "begun", "where": {"offline": flag, "renewed": False}},
            "revoke": {"how": "timestamp", "column": "ended"},
        }
        for name, flag in (("online", "0"), ("offline", "1%"))
    ],
}


@pytest.fixture
def sessions(database: Database) -> Database:
    run_script(database, TABLE)
    return database


def test_an_id_in_both_stores_is_no_duplicate(sessions: Database) -> None:
    assert status_of(look(sessions, system=SYSTEM), "token.duplicate_ids") == "ok"
    run_script(sessions, "ALTER TABLE sessions DROP CONSTRAINT sessions_pkey")
    run_script(sessions, "INSERT INTO sessions SELECT * FROM sessions WHERE id = 's1' AND offline = '1%'")
    result = look(sessions, system=SYSTEM)
    assert "1 token id more than once, in 2 rows" in finding(result, "token.duplicate_ids[offline]")["message"]
    assert "token.duplicate_ids[online]" not in {one["key"] for one in result["findings"]}


def test_each_store_counts_its_own(sessions: Database) -> None:
    run_script(sessions, "UPDATE sessions SET ended = now() WHERE offline = '1%' AND id <= 's30'")
    run_script(
        sessions, "INSERT INTO sessions VALUES ('ahead', '1%', false, now() + interval '1 h'), ('other', '0', true, now() + interval '1 h')"
    )
    result = look(sessions, system=SYSTEM)
    assert (result["metrics"]["token.issued_last_hour[online]"], result["metrics"]["token.issued_last_hour[offline]"]) == (40, 40)
    assert result["metrics"]["token.revoked_last_hour[online]"] == 0
    assert result["metrics"]["token.revoked_last_hour[offline]"] > 20
    keys = {one["key"] for one in result["findings"]}
    assert {"token.revocation_rate[offline]", "token.future_issued[offline]"} <= keys
    assert not {"token.revocation_rate[online]", "token.future_issued[online]"} & keys
