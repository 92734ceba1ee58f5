"""A deny list that repeats another column of the token than its id, as where a foreign key leads to a row and the token goes by a text."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import MissingObject
from tests.ground.databases import Database
from tests.ground.load import fill
from tests.ground.schema import create_system
from tests.ground.systems import description_of
from tests.integration.cleaning import Cleaner, numbers, rule
from tests.integration.watching import finding, look, status_of

pytestmark = pytest.mark.any_driver

STORE: dict[str, Any] = {
    "name": "refresh",
    "tokens": {"table": "outstanding", "id": "jti", "issued_at": "created_at", "expires_at": "expires_at"},
    "revoke": {"how": "denylist", "table": "blacklisted", "id": "token_id", "references": "id", "revoked_at": "blacklisted_at"},
}
# Each jti is the number of the next row: what compares the deny rows with it looks at the wrong token.
TABLES = """
CREATE TABLE outstanding (id bigint PRIMARY KEY, jti bigint UNIQUE NOT NULL, created_at timestamptz, expires_at timestamptz NOT NULL);
CREATE TABLE blacklisted (id bigint PRIMARY KEY, token_id bigint UNIQUE NOT NULL, blacklisted_at timestamptz NOT NULL);
INSERT INTO outstanding VALUES
  (1, 2, now() - interval '40 days', now() - interval '10 days'),
  (2, 3, now() - interval '40 days', now() + interval '10 days'),
  (3, 4, now() - interval '40 days', now() - interval '10 days');
INSERT INTO blacklisted VALUES (11, 1, now() - interval '20 days'), (12, 2, now() - interval '20 days');
"""
DENIED_LONG_AGO = rule("blacklisted", "blacklisted_at")


@pytest.fixture
def blacklist(cleaner: Cleaner) -> Cleaner:
    with cleaner.database.connect() as connection:
        connection.execute(TABLES)  # type: ignore[call-overload]
    return cleaner


def test_a_deny_row_stays_while_the_token_that_it_leads_to_is_alive(blacklist: Cleaner) -> None:
    planned = blacklist.run([DENIED_LONG_AGO], token_stores=[STORE], check=True)
    result = blacklist.run([DENIED_LONG_AGO], token_stores=[STORE])
    assert numbers(planned) == numbers(result)
    assert blacklist.column("SELECT token_id FROM blacklisted") == [2]


def test_a_token_row_stays_while_a_deny_row_leads_to_it(blacklist: Cleaner) -> None:
    blacklist.run([rule("outstanding", "created_at")], token_stores=[STORE])
    assert blacklist.column("SELECT id FROM outstanding") == [1, 2]


def test_a_column_that_the_tokens_lack_is_an_error(blacklist: Cleaner) -> None:
    store = {**STORE, "revoke": {**STORE["revoke"], "references": "number"}}
    with pytest.raises(MissingObject, match="number"):
        blacklist.run([DENIED_LONG_AGO], token_stores=[store])


def test_an_orphan_is_a_deny_row_that_leads_nowhere(blacklist: Cleaner) -> None:
    system = {"name": "jwt", "token_stores": [STORE]}
    assert status_of(look(blacklist.database, system=system), "token.orphaned_deny") == "ok"
    blacklist.sql("DELETE FROM outstanding WHERE id = 2")
    assert finding(look(blacklist.database, system=system), "token.orphaned_deny[refresh]")["value"] == 1


def test_a_filled_deny_list_leads_to_tokens(database: Database) -> None:
    tables = {
        "outstanding": {
            "columns": {
                "id": "bigint not null",
                "jti": "varchar(255) not null",
                "created_at": "timestamptz",
                "expires_at": "timestamptz not null",
            },
            "primary_key": ["id"],
            "unique": [["jti"]],
        },
        "blacklisted": {
            "columns": {"id": "bigserial not null", "token_id": "bigint not null", "blacklisted_at": "timestamptz not null"},
            "primary_key": ["id"],
            "unique": [["token_id"]],
            "foreign_keys": [{"columns": ["token_id"], "references": {"table": "outstanding", "columns": ["id"]}}],
        },
    }
    description = description_of({"name": "jwt", "token_stores": [STORE], "schema": {"tables": tables}})
    with database.connect() as connection:
        create_system(connection, description)
        filled = fill(connection, description, 500, seed=1)
    ((denied,),) = database.query("SELECT count(*) FROM blacklisted b JOIN outstanding o ON o.id = b.token_id")
    assert denied == filled.facts["revoked"]["refresh"] > 0
