"""Rows that the application touches between the look and the change: they move, and only they may be changed at their new place."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _revocation
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.cached import Cached
from tests.ground.databases import Database

TABLES = """
CREATE TABLE tokens (id int, user_id text, client_id text, revoked_at timestamptz, used_at timestamptz);
CREATE INDEX ON tokens (id);
CREATE TABLE codes (code int PRIMARY KEY, user_id text, client_id text, used_at timestamptz, seen_at timestamptz);
CREATE INDEX ON codes (user_id);
INSERT INTO tokens VALUES (1, 'bob', 'web'), (1, 'ann', 'web'), (2, 'ann', 'phone');
INSERT INTO codes VALUES (2, 'ann', 'phone'), (1, 'ann', 'web'), (3, 'bob', 'web');
"""
CODE = {"table": "codes", "on_revoke": "timestamp", "mark": "used_at"}
STORE = {
    "name": "app",
    "tokens": {"table": "tokens", "id": "id", "subject": "user_id", "client": "client_id"},
    "revoke": {"how": "timestamp", "column": "revoked_at"},
    "dependents": [
        {**CODE, "column": "user_id", "references": "user_id", "when": ["subject"]},
        {**CODE, "column": "client_id", "references": "client_id", "when": ["client"]},
    ],
}


@pytest.mark.parametrize("touch", ["UPDATE codes SET seen_at = now()", "UPDATE tokens SET used_at = now()"])
def test_a_row_that_moved_takes_no_other_with_the_same_key_along(database: Database, monkeypatch: pytest.MonkeyPatch, touch: str) -> None:
    with database.connect() as connection:
        connection.execute(TABLES)
    options = _revocation.read_options({"token_stores": [STORE], "select": {"subjects": ["ann"], "clients": ["web"]}, "reason": "stolen"})
    touches = [touch]

    def between_look_and_change(_self: Cached, _looks: Any) -> None:
        if touches:
            database.query(touches.pop())

    monkeypatch.setattr(Cached, "remember", between_look_and_change)
    login = ConnectionOptions.from_params(database.login(tcp=False))
    with connect(login, application_name="test", read_only=False) as session:
        result = _revocation.run(session, options, check_mode=False)
    assert not touches
    assert result["remaining"] == 0
    assert database.query("SELECT id, user_id FROM tokens WHERE revoked_at IS NOT NULL") == [(1, "ann")]
    assert database.query("SELECT code FROM codes WHERE used_at IS NOT NULL") == [(1,)]
