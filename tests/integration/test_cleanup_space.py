"""What a run gives back, and what it says of that: vacuum, bytes, whole partitions, archives with triggers."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.sql import SQL

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import dropping, partitions, vacuum
from tests.integration.cleaning import STORE, TABLES, Cleaner, rule
from tests.integration.partitioning import MONTHS, open_transaction, tables

pytestmark = pytest.mark.any_driver

RULE = rule("t", "at")
DROP = rule("app.t", "at", "30 days", action="drop_partitions")
EMPTY = MONTHS.split("INSERT INTO", maxsplit=1)[0]


def fill(cleaner: Cleaner, rows: int, expired: int) -> None:
    """Make a table with so many rows, of which the last ones have expired."""
    cleaner.sql("CREATE TABLE t (id int PRIMARY KEY, at timestamptz, pad text DEFAULT repeat('x', 40))")
    age = "CASE WHEN n > %s THEN 'epoch' ELSE 'infinity' END::timestamptz"
    cleaner.sql(SQL(f"INSERT INTO t SELECT n, {age} FROM generate_series(1, %s) AS n"), [rows - expired, rows])


def size(cleaner: Cleaner, table: str = "t") -> int:
    return int(cleaner.sql("SELECT pg_total_relation_size(%s::regclass)", [table])[0][0])


# Vacuum.


@pytest.mark.parametrize(
    ("rows", "expired", "options", "done"),
    [
        (20_000, 10_000, {}, [True]),
        (50_001, 10_000, {}, []),
        (10_000, 9_999, {}, []),
        (10_000, 9_999, {"vacuum": "always"}, [True]),
        (20_000, 10_000, {"vacuum": "never"}, []),
        (20_000, 10_000, {"vacuum": "auto", "vacuum_truncate": True}, [True]),
    ],
    ids=["enough", "a smaller share", "fewer rows", "always", "never", "auto"],
)
def test_a_table_that_lost_enough_is_vacuumed(cleaner: Cleaner, rows: int, expired: int, options: dict[str, Any], done: list[bool]) -> None:
    fill(cleaner, rows, expired)
    before = size(cleaner)
    result = cleaner.run([RULE], **options)
    row = result["rules"][0]
    assert (row["removed"], result["warnings"]) == (expired, [])
    assert [each["done"] for each in row["vacuumed"]] == [each["analyzed"] for each in row["vacuumed"]] == done
    assert [each["why"] for each in row["vacuumed"]] == [None] * len(done)
    freed = before - size(cleaner)
    # The last rows are the expired ones, so that half of the pages are empty at the end of the file.
    assert (freed > before / 4) is bool(options.get("vacuum_truncate"))
    assert row["bytes_freed"] == result["bytes_freed"] == max(0, freed)


def test_marked_rows_count_for_the_vacuum_and_several_rules_share_one(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vacuum, "LEAST_ROWS", 10)
    fill(cleaner, 100, 20)
    cleaner.sql("ALTER TABLE t ADD gone_at timestamptz")
    marking = rule("t", "at", action="soft_delete", mark={"column": "gone_at"}, where=[{"column": "id", "operator": "<=", "value": 90}])
    removing = rule("t", "at", name="rest", where=[{"column": "id", "operator": ">", "value": 90}])
    result = cleaner.run([marking, removing])
    first, second = result["rules"]
    assert (first["marked"], second["removed"]) == (10, 10)
    # What leaves the table goes first, and has the vacuum of both.
    assert ([each["table"] for each in second["vacuumed"]], first["vacuumed"]) == (["public.t"], [])
    assert second["vacuumed"][0]["done"] is True


def test_dead_rows_that_have_to_stay_are_a_warning(cleaner: Cleaner) -> None:
    fill(cleaner, 20_000, 10_000)
    with cleaner.database.connect(application_name="reader") as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1 FROM pg_class LIMIT 1")
        result = cleaner.run([RULE])
        said = f"public.t: 10000 dead rows had to stay, because they may still be seen by session reader (pid {reader.info.backend_pid})"
    assert result["warnings"] == [said]
    assert (result["stopped"], result["rules"][0]["vacuumed"][0]["dead_rows"]) == ("done", 10_000)


def test_a_role_that_may_not_vacuum_leaves_it_and_says_so(cleaner: Cleaner) -> None:
    fill(cleaner, 20_000, 10_000)
    cleaner.sql("CREATE ROLE janitor LOGIN; GRANT SELECT, UPDATE, DELETE ON t TO janitor")
    try:
        result = cleaner.run([RULE], login={"login_user": "janitor"})
    finally:
        cleaner.sql("DROP OWNED BY janitor; DROP ROLE janitor")
    (said,) = result["warnings"]
    assert said.startswith("public.t: the role janitor is neither its owner nor that of the database")
    assert (result["removed"], result["rules"][0]["vacuumed"][0]["done"]) == (10_000, False)


# Whole partitions.


def test_dropped_partitions_give_all_their_bytes_back(cleaner: Cleaner) -> None:
    cleaner.sql(SQL(MONTHS))
    cleaner.sql("CREATE INDEX ON app.t (id)")
    expected = sum(size(cleaner, f"app.t0{month}") for month in range(1, 5))
    planned, result = cleaner.run([DROP], check=True), cleaner.run([DROP])
    assert (planned["bytes_freed"], planned["rules"][0]["bytes_freed"]) == (None, None)
    assert result["bytes_freed"] == result["rules"][0]["bytes_freed"] == expected > 0
    assert (result["rules"][0]["batches"], result["rules"][0]["rows_left"], result["rules"][0]["vacuumed"]) == (4, None, [])


def test_partitions_without_rows_go_as_well(cleaner: Cleaner) -> None:
    cleaner.sql(SQL(EMPTY))
    planned = cleaner.run([DROP], check=True)
    result = cleaner.run([DROP])
    for one in (planned, result):
        assert (one["changed"], one["removed"], one["rules"][0]["partitions"]) == (True, 0, [f"app.t0{month}" for month in range(1, 5)])
    assert (result["stopped"], tables(cleaner)) == ("done", ["t"])
    again = cleaner.run([DROP])
    assert (again["changed"], again["stopped"], again["rules"][0]["partitions"]) == (False, "done", [])


@pytest.mark.parametrize("script", [EMPTY, MONTHS], ids=["empty", "with rows"])
def test_a_partition_that_is_locked_is_left_and_named(cleaner: Cleaner, script: str) -> None:
    cleaner.sql(SQL(script))
    held = 10 if script is MONTHS else 0
    with open_transaction(cleaner, "LOCK TABLE app.t02 IN ACCESS SHARE MODE") as holder:
        result = cleaner.run([DROP], login={"lock_timeout": "100 ms"})
        pid = holder.info.backend_pid
    row = result["rules"][0]
    assert (row["stopped"], row["remaining"], row["skipped_locked"], row["removed"]) == ("locked", held, held, 3 * held)
    assert (result["warnings"][0]).startswith(f"rules[0]: partition app.t02 was not dropped: locked by pid {pid} (holder, ")
    assert tables(cleaner) == ["t", "t02"]
    assert cleaner.run([DROP])["rules"][0]["partitions"] == ["app.t02"]


def test_a_partition_whose_rows_are_needed_by_now_is_kept(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaner.sql(TABLES.split("CREATE TABLE app.denied", maxsplit=1)[0])
    cleaner.sql("CREATE TABLE app.denied (id uuid, denied_at timestamptz, expires_at timestamptz) PARTITION BY RANGE (denied_at)")
    cleaner.sql("CREATE TABLE app.d2020 PARTITION OF app.denied FOR VALUES FROM ('2020-01-01Z') TO ('2021-01-01Z')")
    cleaner.sql("INSERT INTO app.denied VALUES (md5('a')::uuid, '2020-05-01Z', '2020-05-01Z')")
    drop = partitions.drop

    def meanwhile(*given: Any, **more: Any) -> Any:
        cleaner.sql("INSERT INTO app.denied VALUES (md5('b')::uuid, '2020-06-01Z', 'infinity')")
        return drop(*given, **more)

    monkeypatch.setattr(dropping.partitions, "drop", meanwhile)
    result = cleaner.run([rule("app.denied", "denied_at", "30 days", action="drop_partitions")], token_stores=[STORE])
    row = result["rules"][0]
    assert (result["changed"], result["stopped"], row["remaining"], row["skipped_locked"]) == (False, "vetoed", 1, 0)
    assert result["warnings"] == ["rules[0]: partition app.d2020 was not dropped: it holds rows that are protected"]
    assert cleaner.count("app.denied") == 2


def test_no_trigger_fires_for_a_dropped_partition_and_none_is_listed(cleaner: Cleaner) -> None:
    cleaner.sql(SQL(MONTHS))
    cleaner.sql("CREATE FUNCTION app.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$")
    cleaner.sql("CREATE TRIGGER no AFTER DELETE ON app.t FOR EACH ROW EXECUTE FUNCTION app.no()")
    result = cleaner.run([DROP])
    assert (result["removed"], result["rules"][0]["triggers"]) == (40, [])


# Archives.


def test_triggers_of_an_archive_are_a_warning_where_something_arrives(cleaner: Cleaner) -> None:
    fill(cleaner, 10, 5)
    cleaner.sql("CREATE TABLE kept (LIKE t)")
    cleaner.sql("CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$")
    cleaner.sql("CREATE TRIGGER arrive BEFORE INSERT ON kept FOR EACH ROW EXECUTE FUNCTION pass()")
    cleaner.sql("CREATE TRIGGER leave BEFORE DELETE ON kept FOR EACH ROW EXECUTE FUNCTION pass()")
    archiving = rule("t", "at", action="archive", archive={"table": "kept"})
    said = "rules[0].archive: triggers fire when rows arrive in public.kept: arrive"
    assert cleaner.run([archiving], check=True)["warnings"] == cleaner.run([archiving])["warnings"] == [said]
    assert cleaner.run([archiving])["warnings"] == []
