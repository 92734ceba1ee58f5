"""What retention rules name belongs to what a system declares to exist."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ground.databases import Database
from tests.integration.watching import finding, look, run_script, status_of

RULE = {"table": "app.mail", "column": "sent_at", "older_than": "30 days"}
SYSTEM: dict[str, Any] = {
    "name": "mail",
    "schemas": ["app"],
    "retention": {
        "daily": [
            {
                **RULE,
                "name": "old ones",
                "where": [{"column": "state", "operator": "in", "value": ["sent", "failed"]}],
                "keep_latest": {"rows": 3, "per": ["sender"]},
                "action": "archive",
                "archive": {"table": "app.archive"},
            }
        ],
        "weekly": [
            {**RULE, "name": "hide", "action": "soft_delete", "mark": {"column": "hidden_at"}},
            {**RULE, "name": "purge", "action": "purge", "mark": {"column": "flag", "value": True}},
            {**RULE, "name": "elsewhere", "action": "archive", "archive": {"table": "app.later", "create": True}},
        ],
    },
}
TABLES = """
CREATE SCHEMA app;
CREATE TABLE app.mail (sender text, state text, sent_at timestamptz, hidden_at timestamptz, flag boolean);
CREATE TABLE app.archive (LIKE app.mail);
"""


@pytest.fixture
def mail(database: Database) -> Database:
    run_script(database, TABLES)
    return database


def test_all_that_the_rules_name_is_there_and_an_archive_that_is_made_need_not_be(mail: Database) -> None:
    result = look(mail, None, system=SYSTEM, checks=["schema.present"])
    assert (status_of(result, "schema.present"), result["findings"]) == ("ok", [])


@pytest.mark.parametrize("column", ["sent_at", "state", "sender", "hidden_at", "flag"])
def test_a_column_that_a_rule_names_is_missed(mail: Database, column: str) -> None:
    run_script(mail, f"ALTER TABLE app.mail DROP {column}")
    result = look(mail, None, system=SYSTEM, checks=["schema.present"])
    assert finding(result, f"schema.present[app.mail.{column}]")["severity"] == "critical"


def test_an_archive_that_no_rule_makes_is_missed(mail: Database) -> None:
    run_script(mail, "DROP TABLE app.archive")
    result = look(mail, None, system=SYSTEM, checks=["schema.present"])
    assert [each["key"] for each in result["findings"]] == ["schema.present[app.archive]"]


def test_tables_that_may_be_missing_are_not_missed(mail: Database) -> None:
    columns = {"sender": "text", "state": "text", "sent_at": "timestamptz", "hidden_at": "timestamptz", "flag": "boolean"}
    tables = {name: {"columns": columns, "optional": True} for name in ("app.mail", "app.archive")}
    run_script(mail, "DROP TABLE app.archive, app.mail")
    result = look(mail, None, system={**SYSTEM, "schema": {"tables": tables}}, checks=["schema.present"])
    assert (status_of(result, "schema.present"), result["findings"]) == ("ok", [])
