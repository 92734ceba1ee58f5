"""What becomes of the rows: deleted, moved, marked, purged, or dropped with their partitions; check mode says the same before."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import partition_marks, read_options, walk
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.plan import make_plan
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, DescriptionError, InvalidValue
from tests.integration.cleaning import STORE, TABLES, Cleaner, numbers, rule

pytestmark = pytest.mark.any_driver

ARCHIVE = {"action": "archive", "archive": {"table": "kept", "create": True}}
MARK = {"action": "soft_delete", "mark": {"column": "deleted_at"}}
TABLE = "CREATE TABLE t (id int PRIMARY KEY, owner int, state text, at timestamptz, deleted_at timestamptz)"
ROWS = (
    "INSERT INTO t SELECT n, n % 5, CASE n % 3 WHEN 0 THEN 'sent' WHEN 1 THEN 'failed' END, now() - (n - 50.5) * interval '1 h'"
    " FROM generate_series(1, 100) AS n"
)


@pytest.fixture
def table(cleaner: Cleaner) -> Cleaner:
    """A hundred rows, the last fifty of them expired."""
    cleaner.sql(TABLE)
    cleaner.sql(ROWS)
    return cleaner


def both(cleaner: Cleaner, rules: list[dict[str, Any]], **parameters: Any) -> dict[str, Any]:
    """Preview, run, and run again; return the run's result."""
    planned, result = cleaner.run(rules, check=True, **parameters), cleaner.run(rules, **parameters)
    assert numbers(planned) == numbers(result)
    keys = ("removed", "archived", "marked")
    assert [planned[key] for key in keys] == [result[key] for key in keys]
    again = cleaner.run(rules, **parameters)
    assert (again["changed"], again["stopped"], [again[key] for key in keys]) == (False, "done", [0, 0, 0])
    return result


@pytest.mark.every_driver
@pytest.mark.parametrize("batch_rows", [7, 1000])
def test_rows_move_to_an_archive_that_is_made(table: Cleaner, batch_rows: int) -> None:
    before = table.sql("SELECT t FROM t WHERE at < now() ORDER BY id")
    result = both(table, [rule("t", "at", **ARCHIVE)], batch_rows=batch_rows)
    assert (result["removed"], result["archived"], result["marked"], result["rules"][0]["action"]) == (50, 50, 0, "archive")
    assert table.sql("SELECT kept FROM kept ORDER BY id") == before
    assert table.count("t") == 50


def test_every_row_is_in_one_place_whichever_way_they_move(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "FIRST_ROWS", 100)
    monkeypatch.setattr(walk, "LEAST_ROWS", 10)
    monkeypatch.setattr(walk, "_FIRST_PAGES", 1)
    for share in (2, 50):
        cleaner.sql("DROP TABLE IF EXISTS t, kept")
        cleaner.sql("CREATE TABLE t (id int, at timestamptz)")
        expired = f"CASE WHEN n % {share} = 0 THEN 'epoch' ELSE 'infinity' END::timestamptz"
        cleaner.sql(f"INSERT INTO t SELECT n, {expired} FROM generate_series(1, 9000) AS n")
        cleaner.sql("CREATE INDEX ON t (at)")
        assert cleaner.run([rule("t", "at", **ARCHIVE)], batch_rows=50)["archived"] == 9000 // share
        together = "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM (SELECT id FROM t UNION ALL SELECT id FROM kept) AS x"
        assert cleaner.sql(together) == [(9000, 9000, 1, 9000)]


def test_an_archive_that_lets_no_row_in_keeps_the_rows_where_they_are(table: Cleaner) -> None:
    table.sql("CREATE TABLE kept (LIKE t)")
    table.sql(
        "CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id > 90 THEN RETURN NULL; END IF; RETURN NEW; END $$"
    )
    table.sql("CREATE TRIGGER veto BEFORE INSERT ON kept FOR EACH ROW EXECUTE FUNCTION veto()")
    with pytest.raises(DatabaseError, match="took 40 of 50 rows"):
        table.run([rule("t", "at", **ARCHIVE)])
    assert (table.count("t"), table.count("kept")) == (100, 0)
    assert "veto" in table.run([rule("t", "at", **ARCHIVE)], check=True)["warnings"][0]


def test_what_is_marked_is_purged_later(table: Cleaner) -> None:
    result = both(table, [rule("t", "at", **MARK)])
    assert (result["marked"], result["removed"], result["remaining"], result["rules"][0]["rows_left"]) == (50, 0, 0, 100)
    assert table.sql("SELECT count(*), min(id), bool_and(deleted_at = %s) FROM t WHERE deleted_at IS NOT NULL", [result["as_of"]]) == [
        (50, 51, True)
    ]
    purge = rule("t", "deleted_at", "1 day", action="purge")
    assert table.run([purge])["matched"] == 0
    table.sql("UPDATE t SET deleted_at = deleted_at - interval '2 days' WHERE id > 80")
    assert both(table, [purge])["removed"] == 20
    assert table.count("t") == 80


def test_a_flag_marks_and_is_purged_by_another_time(table: Cleaner) -> None:
    flag = {"mark": {"column": "state", "value": "deleted"}}
    assert both(table, [rule("t", "at", "10 h", action="soft_delete", **flag)])["marked"] == 40
    assert both(table, [rule("t", "at", "20 h", action="purge", **flag)])["removed"] == 30


def test_only_rows_that_fulfil_the_conditions_go(table: Cleaner) -> None:
    where = [{"column": "state", "operator": "in", "value": ["sent", "failed"]}, {"column": "owner", "operator": "!=", "value": 3}]
    wanted = table.column("SELECT id FROM t WHERE at < now() AND (state = 'sent' OR state = 'failed') AND owner <> 3")
    rest = table.column("SELECT id FROM t")
    assert both(table, [rule("t", "at", where=where)])["removed"] == len(wanted) == 28
    assert table.column("SELECT id FROM t") == [one for one in rest if one not in wanted]


def test_the_latest_of_each_key_stay(table: Cleaner) -> None:
    table.sql("DELETE FROM t WHERE at >= now()")
    result = both(table, [rule("t", "at", keep_latest={"rows": 3, "per": ["owner"]})])
    assert (result["matched"], result["removed"]) == (35, 35)
    assert table.column("SELECT id FROM t") == list(range(51, 66))


def test_several_rules_on_one_table_take_each_row_once(table: Cleaner) -> None:
    rules = [
        rule("t", "at", "30 h", name="old", **MARK),
        rule("t", "at", "40 h", name="older", **ARCHIVE),
        rule(
            "t",
            "at",
            "10 h",
            name="few",
            keep_latest={"rows": 4, "per": ["owner"]},
            where=[{"column": "state", "operator": "=", "value": "sent"}],
        ),
        rule("t", "at", "20 h", name="rest", **MARK),
    ]
    result = both(table, rules)
    # What leaves goes before what is only marked in its place, in the order in which it is written.
    assert [(row["name"], row["matched"]) for row in result["rules"]] == [("old", 6), ("older", 10), ("few", 10), ("rest", 7)]
    assert table.count("kept") == 10


def test_partitions_go_whole(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE t (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at)")
    for month in range(1, 5):
        cleaner.sql(f"CREATE TABLE t{month} PARTITION OF t FOR VALUES FROM ('2020-0{month}-01') TO ('2020-0{month + 1}-01')")
    cleaner.sql("CREATE TABLE now PARTITION OF t FOR VALUES FROM ('2020-05-01') TO (MAXVALUE)")
    cleaner.sql("INSERT INTO t SELECT n, timestamptz '2020-01-05' + n * interval '1 month' FROM generate_series(0, 3) AS n")
    cleaner.sql("INSERT INTO t SELECT n, now() FROM generate_series(1, 6) AS n")
    planned = cleaner.run([rule("t", "at", "30 days", action="drop_partitions")], check=True)
    result = both(cleaner, [rule("t", "at", "30 days", action="drop_partitions")])
    assert planned["rules"][0]["partitions"] == result["rules"][0]["partitions"] == [f"public.t{month}" for month in range(1, 5)]
    assert (result["removed"], cleaner.count("t"), result["rules"][0]["bytes_freed"] >= 4 * 8192) == (4, 6, True)
    assert cleaner.sql("SELECT count(*) FROM pg_class WHERE relname ~ '^t[1-4]$'") == [(0,)]


def test_a_partition_that_a_killed_run_marked_and_that_is_to_stay_by_now_loses_its_mark(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY RANGE (at)")
    for year in (2020, 2021):
        cleaner.sql(f"CREATE TABLE t{year} PARTITION OF t FOR VALUES FROM ('{year}-01-01') TO ('{year + 1}-01-01')")
    written = rule("t", "at", "1 day", action="drop_partitions")
    with cleaner.open() as session:
        target = make_plan(session, read_options({"rules": [written]})).rules[0].target
        partition_marks.put(session, target.due[1].partition)
    days = cleaner.sql("SELECT (now()::date - date '2021-06-01')")[0][0]
    result = cleaner.run([{**written, "older_than": f"{days} days"}])
    assert (result["rules"][0]["partitions"], result["stopped"]) == (["public.t2020"], "done")
    assert cleaner.sql("SELECT obj_description('t2021'::regclass)") == [(None,)]


def test_a_partition_with_a_deny_row_that_is_needed_stays(cleaner: Cleaner) -> None:
    cleaner.sql(TABLES.split("CREATE TABLE app.denied", maxsplit=1)[0])
    cleaner.sql("CREATE TABLE app.denied (id uuid, denied_at timestamptz, expires_at timestamptz) PARTITION BY RANGE (denied_at)")
    for year in (2020, 2021):
        cleaner.sql(f"CREATE TABLE app.d{year} PARTITION OF app.denied FOR VALUES FROM ('{year}-01-01') TO ('{year + 1}-01-01')")
    cleaner.sql("INSERT INTO app.denied SELECT md5(d::text)::uuid, d, d FROM (VALUES (timestamptz '2020-03-01'), ('2021-03-01')) AS v(d)")
    cleaner.sql("INSERT INTO app.denied VALUES (md5('')::uuid, '2021-04-01', 'infinity')")
    result = both(cleaner, [rule("app.denied", "denied_at", "30 days", action="drop_partitions")], token_stores=[STORE])
    assert (result["matched"], result["protected"], result["removed"]) == (3, 2, 1)
    assert (result["rules"][0]["partitions"], cleaner.count("app.denied")) == (["app.d2020"], 2)


def test_marking_a_column_of_a_store_is_refused(cleaner: Cleaner) -> None:
    cleaner.sql(TABLES)
    cleaner.sql("ALTER TABLE app.tokens ADD revoked_at timestamptz, ADD PRIMARY KEY (id)")
    cleaner.sql("CREATE TABLE app.child () INHERITS (app.tokens)")
    store = {**STORE, "revoke": {"how": "timestamp", "column": "revoked_at"}}
    for table, refusal in (("app.tokens", DescriptionError), ("app.child", InvalidValue)):
        written = rule(table, "issued_at", action="soft_delete", mark={"column": "revoked_at"})
        with pytest.raises(refusal, match="revoked_at"):
            cleaner.run([written], token_stores=[store])


def test_an_archive_that_is_related_to_another_table_of_the_run_is_refused(cleaner: Cleaner) -> None:
    cleaner.sql(TABLES)
    cleaner.sql("CREATE TABLE app.more (LIKE app.denied); CREATE TABLE app.child () INHERITS (app.denied)")
    written = rule("app.more", "denied_at", action="archive", archive={"table": "app.child"})
    with pytest.raises(InvalidValue, match=r"rules\[0\].archive.table: app.child .* app.denied"):
        cleaner.run([written], token_stores=[STORE])
    with pytest.raises(InvalidValue, match=r"rules\[0\].archive.table: app.child .* app.denied"):
        cleaner.run([written, rule("app.denied", "denied_at")])
