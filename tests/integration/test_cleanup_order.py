"""The order in which rules are applied where foreign keys link their tables."""

from __future__ import annotations

import pytest
from psycopg.sql import SQL

from tests.integration.cleaning import Cleaner, numbers, rule

pytestmark = pytest.mark.any_driver

PARENT = rule("parent", "at")
TABLES = """
CREATE TABLE parent (id int PRIMARY KEY, up int, at timestamptz DEFAULT 'epoch', gone timestamptz);
CREATE TABLE child (id int PRIMARY KEY, up int REFERENCES parent ON DELETE {action}, at timestamptz DEFAULT 'epoch');
INSERT INTO parent SELECT n FROM generate_series(1, 10) AS n;
INSERT INTO child SELECT n, n FROM generate_series(1, 10) AS n;
"""


@pytest.mark.parametrize("action", ["CASCADE", "NO ACTION"])
def test_rows_are_archived_before_those_that_would_take_them_along(cleaner: Cleaner, action: str) -> None:
    cleaner.sql(SQL(TABLES.replace("{action}", action)))
    child = rule("child", "at", action="archive", archive={"table": "old", "create": True})
    planned, result = (cleaner.run([PARENT, child], check=check) for check in (True, False))
    assert numbers(planned) == numbers(result)
    assert [row["removed"] for row in result["rules"]] == [10, 10]
    assert (cleaner.count("parent"), cleaner.count("child"), cleaner.count("old")) == (0, 0, 10)


def test_what_goes_is_not_marked_before_where_keys_go_round_in_a_circle(cleaner: Cleaner) -> None:
    cleaner.sql(SQL(TABLES.replace("{action}", "CASCADE")))
    cleaner.sql("ALTER TABLE parent ADD FOREIGN KEY (up) REFERENCES child ON DELETE CASCADE")
    marks = rule("parent", "at", name="marks", action="soft_delete", mark={"column": "gone"})
    planned, result = (cleaner.run([marks, PARENT, rule("child", "at")], check=check) for check in (True, False))
    assert (result["marked"], result["removed"]) == (0, 10)
    assert planned["marked"] == 0
