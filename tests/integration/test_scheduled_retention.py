"""Each schedule's rules are applied by the runbook of that schedule, and by no other."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ground.databases import Database
from tests.ground.runner import AnsibleRunner, PlaybookResult
from tests.integration.scheduling import block, in_turn, summaries
from tests.integration.watching import run_script

pytestmark = pytest.mark.any_driver

SYSTEM: dict[str, Any] = {
    "name": "ledger",
    "schemas": ["app"],
    "retention": {
        "hourly": [{"table": "app.codes", "column": "made_at", "older_than": "1 h"}],
        "monthly": [{"table": "app.audit", "column": "at", "older_than": "730 days", "action": "drop_partitions"}],
    },
}
TABLES = """
CREATE SCHEMA app;
CREATE TABLE app.codes (id int PRIMARY KEY, made_at timestamptz NOT NULL);
INSERT INTO app.codes SELECT n, now() - n * interval '25 min' FROM generate_series(1, 5) AS n;
CREATE TABLE app.audit (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE app.audit_2020 PARTITION OF app.audit FOR VALUES FROM ('2020-01-01Z') TO ('2021-01-01Z');
CREATE TABLE app.audit_2021 PARTITION OF app.audit FOR VALUES FROM ('2021-01-01Z') TO ('2022-01-01Z');
CREATE TABLE app.audit_now PARTITION OF app.audit FOR VALUES FROM ('2022-01-01Z') TO (MAXVALUE);
INSERT INTO app.audit SELECT n, '2020-03-01Z'::timestamptz + n * interval '1 year' FROM generate_series(0, 1) AS n;
INSERT INTO app.audit VALUES (2, now());
ANALYZE;
"""


@pytest.fixture
def ledger(database: Database) -> Database:
    run_script(database, TABLES)
    return database


def there(ledger: Database) -> tuple[list[int], list[str]]:
    """Return the codes and the partitions that are left."""
    codes = [number for (number,) in ledger.query("SELECT id FROM app.codes ORDER BY id")]
    parts = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'app.audit'::regclass ORDER BY 1"
    return codes, [name for (name,) in ledger.query(parts)]


def removed(done: PlaybookResult) -> list[dict[str, int]]:
    """Return what each runbook removed, by rule."""
    runs = done.find(host="ledger", action="pg_cleanup")
    return [{rule["name"]: rule["removed"] for rule in run.result["rules"]} for run in runs]


def test_the_hour_and_the_month_apply_their_own_rules(ledger: Database, ansible_runner: AnsibleRunner) -> None:
    host = {"ledger": {"pgops_system": SYSTEM, "pgops_connection": ledger.login(), "pgops_fail_on": "never"}}
    whole = there(ledger)
    foretold = ansible_runner.play(in_turn("hourly", "monthly"), host, check=True)
    assert there(ledger) == whole

    done = ansible_runner.play(in_turn("hourly", "monthly", "hourly", "monthly"), host)
    assert done.rc == 0, done.stdout
    assert removed(foretold) == [{"app.codes": 3}, {"app.audit": 2}]
    assert removed(done) == [{"app.codes": 3}, {"app.audit": 2}, {"app.codes": 0}, {"app.audit": 0}]
    assert done.changed == 2
    assert there(ledger) == ([1, 2], ["app.audit_now"])
    hourly, monthly, *_again = (block(text, "ledger") for text in summaries(done))
    assert "removed: 3 rows = app.codes 3" in hourly
    assert "partitions dropped: app.audit_2020, app.audit_2021" in monthly
