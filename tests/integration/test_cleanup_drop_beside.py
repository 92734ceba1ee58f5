"""A rule that drops partitions beside other rules about the same table: each row is counted once, and none goes unarchived."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.cleaning import Cleaner, numbers, rule
from tests.integration.partitioning import MONTHS, tables

pytestmark = pytest.mark.any_driver

DROP = rule("app.t", "at", action="drop_partitions")
ARCHIVE = rule("app.t", "at", action="archive", archive={"table": "app.old", "create": True})


@pytest.fixture
def app(cleaner: Cleaner) -> Cleaner:
    cleaner.sql(MONTHS)
    return cleaner


def both(app: Cleaner, *rules: dict[str, Any]) -> dict[str, Any]:
    """Preview the rules, carry them out, and require that both say the same."""
    named = [{**one, "name": f"rule {number}"} for number, one in enumerate(rules)]
    planned, result = (app.run(named, check=check) for check in (True, False))
    assert numbers(planned) == numbers(result)
    assert [row["partitions"] for row in planned["rules"]] == [row["partitions"] for row in result["rules"]]
    return result


@pytest.mark.parametrize("part", ["app.t", "app.t01"])
def test_what_is_archived_before_is_not_dropped_with_its_partition(app: Cleaner, part: str) -> None:
    result = both(app, {**ARCHIVE, "table": part}, DROP)
    archived = 40 if part == "app.t" else 10
    assert [row["removed"] for row in result["rules"]] == [archived, 40 - archived]
    assert [row["rows_left"] for row in result["rules"]] == [0, None]
    assert (app.count("app.old"), tables(app)) == (archived, ["old", "t"])


@pytest.mark.parametrize("part", ["app.t", "app.t01"])
@pytest.mark.parametrize("keep", [{}, {"keep_latest": {"rows": 1, "per": ["id"]}}])
def test_what_is_dropped_before_is_nothing_to_the_next_rule(app: Cleaner, part: str, keep: dict[str, Any]) -> None:
    app.sql("CREATE TABLE app.other PARTITION OF app.t DEFAULT; INSERT INTO app.t VALUES (50, NULL)")
    result = both(app, DROP, rule(part, "at", **keep), rule("app.t", "at", **keep))
    assert [row["removed"] for row in result["rules"]] == [40, 0, 0]
    assert [row["rows_left"] for row in result["rules"]] == [None, 0 if part == "app.t01" else 1, 1]


def test_a_partition_is_dropped_by_the_first_of_two_rules(app: Cleaner) -> None:
    result = both(app, DROP, DROP)
    assert [len(row["partitions"]) for row in result["rules"]] == [4, 0]
    assert tables(app) == ["t"]


def test_a_row_of_the_latest_that_a_partition_held_is_still_told_apart(app: Cleaner) -> None:
    latest = rule("app.t01", "at", keep_latest={"rows": 1, "per": ["id"]})
    result = both(app, latest, DROP, rule("app.t", "at"), DROP)
    assert [row["removed"] for row in result["rules"]] == [0, 40, 0, 0]


def test_a_partition_stays_while_it_has_a_row_that_could_not_be_archived(app: Cleaner) -> None:
    with app.database.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT FROM app.t WHERE id = 0 FOR UPDATE")
        result = app.run([{**ARCHIVE, "name": "archive"}, {**DROP, "name": "drop"}], login={"lock_timeout": "200 ms"})
        assert [row["removed"] for row in result["rules"]] == [39, 0]
        assert app.count("app.old") + app.count("app.t") == 40
    assert app.count("app.t01") == 1
