"""The way through a table by the times of its rows, where they lie in that order: what lives is not read, and nothing else changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import apply, batch_size, counting, leaves, report, statements, walk
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.parts import Times, TooLarge
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.progress import Progress
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.quiet import Quiet
from tests.integration.cleaning import UTC, Cleaner, numbers, rule
from tests.integration.cleanup_scene import before_batch, leaping, noted

pytestmark = pytest.mark.any_driver

RULE = rule("t", "at")
ARCHIVE = {"action": "archive", "archive": {"table": "kept", "create": True}}
ROWS, EXPIRED = 4000, 2000
MOST = 300
PAST = "at < now()"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take few rows for many, so that small tables are walked through in many batches."""
    monkeypatch.setattr(walk, "FIRST_ROWS", 100)
    monkeypatch.setattr(walk, "LEAST_ROWS", 10)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The batches that were committed: what each took its rows by, and how many went."""
    begun: list[str] = []
    seen: list[tuple[str, int]] = []

    def begins(name: str, kind: Callable[[tuple[Any, ...]], str]) -> None:
        real = getattr(statements, name)

        def noting(*given: Any, **more: Any) -> Any:
            begun.append(kind(given))
            return real(*given, **more)

        monkeypatch.setattr(statements, name, noting)

    begins("take_range", lambda given: "times" if isinstance(given[3], Times) else "pages")
    begins("pick", lambda _given: "pick")
    begins("pick_oldest", lambda _given: "oldest")
    note = Progress.note

    def committed(run: Progress, leaf: Any, batch: Any) -> None:
        seen.append((begun[-1], batch.done))
        note(run, leaf, batch)

    monkeypatch.setattr(Progress, "note", committed)
    return seen


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The rules whose tables were looked at again after their batches."""
    seen: list[str] = []
    real = apply.Apply._look

    def noting(self: apply.Apply, run: Any, *given: Any) -> int:
        seen.append(run.planned.target.name)
        return real(self, run, *given)

    monkeypatch.setattr(apply.Apply, "_look", noting)
    return seen


def fill(cleaner: Cleaner, at: str = "now() + (n - 2000.5) * interval '1 min'", kind: str = "timestamptz", table: str = "t") -> None:
    """Make a table with rows in the order of their time, the earlier half of which has expired."""
    cleaner.sql(f"CREATE TABLE {table} (id int, at {kind}, pad text DEFAULT repeat('x', 40))")
    cleaner.sql(f"INSERT INTO {table} (id, at) SELECT n, {at} FROM generate_series(1, {ROWS}) AS n")
    cleaner.sql(f"CREATE INDEX ON {table} (at)")
    cleaner.sql(f"VACUUM ANALYZE {table}")


def ways(batches: list[tuple[str, int]]) -> set[str]:
    return {way for way, _done in batches}


# Which way is taken, and in what steps.


@pytest.mark.parametrize(
    ("kind", "at", "column"),
    [
        ("timestamptz", "now() + (n - 2000.5) * interval '1 min'", "at"),
        ("timestamptz", "now() - (n - 2000.5) * interval '1 min'", "at"),
        ("timestamp", "(now() + (n - 2000.5) * interval '1 min') AT TIME ZONE 'UTC'", {"column": "at", **UTC}),
        ("date", "date '1990-01-01' + n * 7", {"column": "at", **UTC}),
        ("bigint", "(extract(epoch FROM now()) + (n - 2000.5) * 60)::bigint", {"column": "at", "unit": "s"}),
        ("int", "(extract(epoch FROM now()) + (n - 2000.5) * 60)::int", {"column": "at", "unit": "s"}),
        ("bigint", "((extract(epoch FROM now()) + (n - 2000.5) * 60) * 1000)::bigint", {"column": "at", "unit": "ms"}),
    ],
)
def test_rows_in_the_order_of_their_time_go_by_it(
    cleaner: Cleaner, batches: list[tuple[str, int]], kind: str, at: str, column: Any
) -> None:
    fill(cleaner, at, kind)
    planned = cleaner.run([rule("t", column)], check=True)
    living = cleaner.sql("SELECT count(*) FROM t")[0][0] - planned["removed"]
    result = cleaner.run([rule("t", column)], batch_rows=MOST)
    assert numbers(planned) == numbers(result)
    assert (result["removed"], result["remaining"], result["stopped"]) == (planned["removed"], 0, "done")
    assert 1000 < result["removed"] < 3000
    assert (cleaner.count("t"), result["rules"][0]["rows_left"]) == (living, living)
    assert ways(batches) == {"times"}
    sizes = [done for _way, done in batches]
    assert max(sizes) <= MOST
    assert len(sizes) < 20
    assert cleaner.run([rule("t", column)], check=True)["matched"] == 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE t SET at = now() + (id * 7919 % 4000 - 1999.5) * interval '1 min'; ANALYZE t",
        "DROP INDEX t_at_idx",
        "DROP INDEX t_at_idx; CREATE INDEX ON t (at) WHERE id > 0",
        "DELETE FROM pg_statistic WHERE starelid = 't'::regclass",
    ],
)
def test_no_other_rows_go_by_their_time(cleaner: Cleaner, batches: list[tuple[str, int]], change: str) -> None:
    fill(cleaner)
    for statement in change.split("; "):
        cleaner.sql(statement)
    assert cleaner.run([RULE], batch_rows=MOST)["removed"] == EXPIRED
    assert "times" not in ways(batches)
    assert cleaner.sql(f"SELECT count(*) FROM t WHERE {PAST}") == [(0,)]


@pytest.mark.parametrize(
    "more",
    [
        {"where": [{"column": "id", "operator": ">", "value": 0}]},
        {"keep_latest": {"rows": 1, "per": ["pad"]}},
        {"action": "soft_delete", "mark": {"column": "deleted_at"}},
    ],
    ids=str,
)
def test_where_more_than_the_time_decides_it_is_not_taken(cleaner: Cleaner, batches: list[tuple[str, int]], more: dict[str, Any]) -> None:
    fill(cleaner)
    cleaner.sql("ALTER TABLE t ADD deleted_at timestamptz")
    result = cleaner.run([rule("t", "at", **more)], batch_rows=MOST)
    assert (result["removed"] + result["marked"], result["remaining"]) == (EXPIRED, 0)
    assert "times" not in ways(batches)


def test_the_living_rows_are_not_read(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch, looks: list[str]) -> None:
    if int(cleaner.sql("SHOW server_version_num")[0][0]) < 150000:
        pytest.skip("the counters that tell of a scan arrive some time later")
    monkeypatch.setattr(counting, "LARGE_IN_ORDER_BYTES", 8192)
    fill(cleaner)
    cleaner.settle()
    read = "SELECT seq_scan, idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 't'"
    before = cleaner.sql(read)[0]
    few = rule("t", "at", older_than="1500 min")
    planned = cleaner.run([few], check=True)
    result = cleaner.run([few], batch_rows=MOST)
    assert (numbers(planned), looks) == (numbers(result), [])
    assert (result["removed"], result["rules"][0]["rows_left"]) == (500, None)
    cleaner.settle()
    after = cleaner.sql(read)[0]
    assert after[0] == before[0]
    assert after[1] - before[1] < ROWS // 2


def test_null_and_infinite_times(cleaner: Cleaner, batches: list[tuple[str, int]]) -> None:
    fill(cleaner)
    cleaner.sql("UPDATE t SET at = NULL WHERE id IN (5, 3000)")
    cleaner.sql("UPDATE t SET at = '-infinity' WHERE id IN (6, 7)")
    cleaner.sql("UPDATE t SET at = '4000-01-01 BC' WHERE id = 8")
    cleaner.sql("UPDATE t SET at = 'infinity' WHERE id IN (9, 3500)")
    result = cleaner.run([RULE], batch_rows=MOST)
    assert (result["removed"], result["remaining"], ways(batches)) == (EXPIRED - 2, 0, {"times"})
    assert cleaner.column("SELECT id FROM t WHERE id <= 2000") == [5, 9]
    assert cleaner.count("t") == ROWS - EXPIRED + 2


@pytest.mark.parametrize("tied", [150, 1000, 2000])
def test_many_rows_with_one_time_are_no_larger_batch(cleaner: Cleaner, batches: list[tuple[str, int]], tied: int) -> None:
    fill(cleaner)
    cleaner.sql(f"UPDATE t SET at = (SELECT at FROM t WHERE id = 300) WHERE id >= 300 AND id < 300 + {min(tied, EXPIRED - 300)}")
    if tied == EXPIRED:
        cleaner.sql("UPDATE t SET at = (SELECT at FROM t WHERE id = 300) WHERE id < 300")
    result = cleaner.run([RULE], batch_rows=MOST)
    assert (result["removed"], result["remaining"], result["stopped"]) == (EXPIRED, 0, "done")
    assert max(done for _way, done in batches) <= MOST
    ranges = int(cleaner.sql("SHOW server_version_num")[0][0]) >= 140000
    assert ways(batches) == ({"times"} if tied < MOST else {"times", "pages" if ranges else "oldest"})


def test_rows_that_do_not_lie_as_it_seems_are_no_larger_batch(
    cleaner: Cleaner, batches: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaves, "_IN_ORDER", 0.0)
    fill(cleaner, "now() + (n * 7919 % 4000 - 1999.5) * interval '1 min'")
    tried = noted(monkeypatch, TooLarge, "__init__")
    result = cleaner.run([RULE], batch_rows=MOST)
    assert (result["removed"], result["remaining"], result["stopped"]) == (EXPIRED, 0, "done")
    assert cleaner.sql(f"SELECT count(*) FROM t WHERE {PAST}") == [(0,)]
    assert [given[1] for given, _nothing in tried] == ["public.t"]
    assert (max(done for _way, done in batches), sum(done for _way, done in batches)) == (MOST, EXPIRED)


def test_a_batch_of_a_guessed_size_that_takes_too_long_is_counted_first(
    cleaner: Cleaner, batches: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_size, "_SHORTEST", 0.05)
    fill(cleaner)
    cleaner.sql("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.002); RETURN OLD; END'")
    cleaner.sql("CREATE TRIGGER slow BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION slow()")
    result = cleaner.run([rule("t", "at", older_than="1750 min")], batch_time="5 ms")
    assert (result["removed"], result["remaining"], result["stopped"]) == (250, 0, "done")
    assert cleaner.column("SELECT min(id) FROM t") == [251]
    assert (batches[0], ways(batches)) == (("times", 100), {"times"})


def test_the_commit_of_a_guessed_batch_may_take_longer(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "_SHORTEST", 0.5)
    fill(cleaner)
    cleaner.sql("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.8); RETURN NULL; END'")
    cleaner.sql(
        "CREATE CONSTRAINT TRIGGER slow AFTER DELETE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.id = 10)"
        " EXECUTE FUNCTION slow()"
    )
    result = cleaner.run([RULE], batch_rows=MOST, batch_time="5 ms")
    assert (result["removed"], result["stopped"]) == (EXPIRED, "done")


def test_who_cancels_it_ends_it(cleaner: Cleaner) -> None:
    fill(cleaner)
    cleaner.sql(
        "CREATE FUNCTION hinder() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF OLD.id = 500 THEN PERFORM pg_cancel_backend(pg_backend_pid()); END IF; RETURN OLD; END'"
    )
    cleaner.sql("CREATE TRIGGER hinder BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION hinder()")
    with pytest.raises(report.Interrupted) as caught:
        cleaner.run([RULE], batch_rows=MOST)
    assert (caught.value.sqlstate, caught.value.result["removed"]) == ("57014", ROWS - cleaner.count("t"))
    assert 0 < caught.value.result["removed"] < 500


def test_each_partition_goes_the_way_that_suits_it(cleaner: Cleaner, batches: list[tuple[str, int]]) -> None:
    cleaner.sql("CREATE TABLE t (id int, at timestamptz) PARTITION BY LIST ((id % 2))")
    for part in range(2):
        cleaner.sql(f"CREATE TABLE t{part} PARTITION OF t FOR VALUES IN ({part})")
    cleaner.sql(f"INSERT INTO t SELECT n, now() + (n - 2000.5) * interval '1 min' FROM generate_series(1, {ROWS}) AS n")
    cleaner.sql("CREATE INDEX ON t (at)")
    cleaner.sql("UPDATE t1 SET at = now() + (id * 7919 % 4000 - 1999.5) * interval '1 min'")
    cleaner.sql("ANALYZE")
    planned = cleaner.run([RULE], check=True)
    result = cleaner.run([RULE], batch_rows=MOST)
    assert numbers(planned) == numbers(result)
    assert (result["remaining"], cleaner.sql(f"SELECT count(*) FROM t WHERE {PAST}")) == (0, [(0,)])
    assert "times" in ways(batches)
    assert len(ways(batches)) == 2


# What others do meanwhile.


def test_rows_that_others_hold_are_passed_over(cleaner: Cleaner, batches: list[tuple[str, int]], looks: list[str]) -> None:
    fill(cleaner)
    with cleaner.database.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT FROM t WHERE id IN (50, 800, 801, 2000) FOR UPDATE")
        began = time.monotonic()
        result = cleaner.run([RULE], batch_rows=MOST, login={"lock_timeout": "60 s"})
        assert time.monotonic() - began < 30
    row = result["rules"][0]
    assert (row["removed"], row["remaining"], row["skipped_locked"], row["stopped"]) == (EXPIRED - 4, 4, 4, "locked")
    assert cleaner.column(f"SELECT id FROM t WHERE {PAST}") == [50, 800, 801, 2000]
    assert ways(batches) == {"times", "pick"}
    assert looks
    assert cleaner.run([RULE])["removed"] == 4


def test_a_row_that_is_free_again_goes_in_the_end(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cleaner)
    with cleaner.database.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT FROM t WHERE id = 50 FOR UPDATE")
        before_batch(monkeypatch, 6, lambda _session: holder.execute("ROLLBACK"))
        result = cleaner.run([RULE], batch_rows=MOST)
    assert (result["removed"], result["remaining"], result["stopped"]) == (EXPIRED, 0, "done")


@pytest.mark.parametrize(
    ("written", "more"),
    [
        ("INSERT INTO t VALUES (-1, now() - interval '1 year')", 1),
        ("UPDATE t SET at = now() - interval '1 year' WHERE id = 1990", 0),
        ("UPDATE t SET at = now() - interval '1 year' WHERE id = 3990", 1),
        ("UPDATE t SET at = now() + interval '1 year' WHERE id = 1990", -1),
    ],
)
def test_what_is_written_behind_it_is_found(
    cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch, looks: list[str], written: str, more: int
) -> None:
    fill(cleaner)
    before_batch(monkeypatch, 4, lambda _session: cleaner.sql(written))
    result = cleaner.run([RULE], batch_rows=MOST)
    assert (result["removed"], result["remaining"], result["stopped"]) == (EXPIRED + more, 0, "done")
    assert cleaner.sql(f"SELECT count(*) FROM t WHERE {PAST}") == [(0,)]
    assert result["rules"][0]["rows_left"] == cleaner.count("t")
    assert looks


def test_a_second_look_is_taken_only_where_others_wrote(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch, looks: list[str]) -> None:
    for table in ("t", "u", "v", "w"):
        fill(cleaner, table=table)
    assert (cleaner.run([RULE], batch_rows=MOST)["remaining"], looks) == (0, [])
    with monkeypatch.context() as patches:
        before_batch(patches, 3, lambda _session: cleaner.sql("CREATE TABLE elsewhere ()"))
        assert (cleaner.run([rule("u", "at")], batch_rows=MOST)["removed"], looks) == (EXPIRED, ["public.u"])
    with cleaner.database.connect() as other:
        other.execute("BEGIN")
        other.execute("CREATE TABLE open ()")
        assert (cleaner.run([rule("v", "at")], batch_rows=MOST)["removed"], looks) == (EXPIRED, ["public.u", "public.v"])
    cleaner.sql("CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'")
    cleaner.sql("CREATE TRIGGER pass BEFORE DELETE ON w FOR EACH ROW EXECUTE FUNCTION pass()")
    assert (cleaner.run([rule("w", "at")], batch_rows=MOST)["removed"], looks) == (EXPIRED, ["public.u", "public.v", "public.w"])


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_quiet_is_when_nobody_else_writes(cleaner: Cleaner, end: str) -> None:
    cleaner.sql("CREATE TABLE t (id int)")
    with cleaner.open() as session, cleaner.database.connect() as other:
        assert Quiet(session).has_lasted(0)
        quiet = Quiet(session)
        session.execute("INSERT INTO public.t VALUES (1)")
        assert quiet.has_lasted(1)
        assert not quiet.has_lasted(1)
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM t")
        assert Quiet(session).has_lasted(0)
        quiet = Quiet(session)
        other.execute("SELECT FROM t FOR UPDATE")
        assert not quiet.has_lasted(0)
        quiet = Quiet(session)
        assert not quiet.has_lasted(0)
        other.execute(end)
        assert not quiet.has_lasted(1)
        assert Quiet(session).has_lasted(0)


def test_a_row_that_others_took_before_the_last_batch_is_counted(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cleaner, "now() + (1 + n * 7919 % 4000 - 101.5) * interval '1 min'")
    with cleaner.database.connect() as holder:
        holder.execute("BEGIN")
        take = f"SELECT FROM t WHERE {PAST} ORDER BY at DESC LIMIT 1 FOR UPDATE"
        before_batch(monkeypatch, 1, lambda _session: holder.execute(take))
        result = cleaner.run([RULE], batch_rows=MOST)
    assert (result["removed"], result["remaining"], result["stopped"]) == (100, 1, "locked")


def test_a_trigger_that_keeps_rows(cleaner: Cleaner, batches: list[tuple[str, int]]) -> None:
    fill(cleaner)
    cleaner.sql(
        "CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id % 5 = 0 THEN RETURN NULL; END IF; RETURN OLD; END $$"
    )
    cleaner.sql("CREATE TRIGGER veto BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION veto()")
    result = cleaner.run([RULE], batch_rows=MOST)
    kept = EXPIRED // 5
    assert (result["removed"], result["remaining"], result["stopped"]) == (EXPIRED - kept, kept, "vetoed")
    assert cleaner.column(f"SELECT id FROM t WHERE {PAST}") == list(range(5, EXPIRED + 1, 5))
    assert batches[0][0] == "times"


def test_a_table_that_others_have_taken_the_name_of(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cleaner)
    before_batch(monkeypatch, 3, lambda _session: cleaner.sql("ALTER TABLE t RENAME TO old; CREATE TABLE t (LIKE old INCLUDING ALL)"))
    with pytest.raises(report.Interrupted, match="is that of another table since the run began"):
        cleaner.run([RULE], batch_rows=MOST)


# Runs that end early.


def test_archived_rows_are_in_one_place(cleaner: Cleaner, batches: list[tuple[str, int]]) -> None:
    fill(cleaner)
    result = cleaner.run([rule("t", "at", **ARCHIVE)], batch_rows=MOST)
    assert (result["removed"], result["archived"], result["remaining"]) == (EXPIRED, EXPIRED, 0)
    assert (ways(batches), cleaner.column("SELECT id FROM kept")) == ({"times"}, list(range(1, EXPIRED + 1)))
    assert cleaner.column("SELECT id FROM t") == list(range(EXPIRED + 1, ROWS + 1))


def test_max_rows_is_held_before_anything_goes(cleaner: Cleaner) -> None:
    fill(cleaner)
    with pytest.raises(report.Refused, match=f"would remove {EXPIRED} rows"):
        cleaner.run([RULE], max_rows=EXPIRED - 1)
    assert cleaner.count("t") == ROWS
    assert cleaner.run([RULE], max_rows=EXPIRED)["removed"] == EXPIRED


def test_a_run_whose_time_is_over_is_gone_on_with(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cleaner)
    with monkeypatch.context() as patches:
        let_pass = leaping(patches)
        before_batch(patches, 3, lambda _session: let_pass(3600))
        result = cleaner.run([RULE], batch_rows=MOST, max_runtime="1 h")
    assert (result["stopped"], result["removed"] + result["remaining"]) == ("max_runtime", EXPIRED)
    assert 0 < result["removed"] < EXPIRED
    assert cleaner.sql(f"SELECT count(*) FROM t WHERE {PAST}") == [(result["remaining"],)]
    again = cleaner.run([RULE], batch_rows=MOST)
    assert (again["removed"], again["stopped"], cleaner.count("t")) == (result["remaining"], "done", ROWS - EXPIRED)


@pytest.mark.parametrize("more", [{}, ARCHIVE], ids=["delete", "archive"])
def test_a_run_that_is_killed_between_two_batches(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]) -> None:
    fill(cleaner)
    with monkeypatch.context() as patches:
        before_batch(patches, 4, lambda session: session.execute("SELECT pg_terminate_backend(pg_backend_pid())"))
        with pytest.raises(report.Interrupted) as caught:
            cleaner.run([rule("t", "at", **more)], batch_rows=MOST)
    gone = ROWS - cleaner.count("t")
    assert 0 < caught.value.result["removed"] == gone < EXPIRED
    again = cleaner.run([rule("t", "at", **more)], batch_rows=MOST)
    assert (again["removed"], again["remaining"], again["stopped"]) == (EXPIRED - gone, 0, "done")
    if more:
        assert cleaner.column("SELECT id FROM kept") == list(range(1, EXPIRED + 1))


# What is said of the rows that stay.


def test_the_rows_that_stay_are_counted_in_all_rules_of_a_table_or_in_none(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "LARGE_IN_ORDER_BYTES", 8192)
    fill(cleaner)
    fill(cleaner, table="scattered", at="now() + (n * 7919 % 4000 - 1999.5) * interval '1 min'")
    cleaner.sql("ALTER TABLE t ADD seen timestamptz DEFAULT 'epoch'")
    rules = [
        rule("t", "at"),
        rule("t", "seen", name="seen", where=[{"column": "id", "operator": "=", "value": 4000}]),
        rule("scattered", "at"),
    ]
    planned = cleaner.run(rules, check=True)
    result = cleaner.run(rules, batch_rows=MOST)
    assert numbers(planned) == numbers(result)
    assert [row["rows_left"] for row in result["rules"]] == [None, None, cleaner.count("scattered")]
    assert [row["removed"] for row in result["rules"]] == [EXPIRED, 1, EXPIRED]
