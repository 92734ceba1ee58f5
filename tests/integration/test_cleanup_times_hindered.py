"""The way through a table by the times of its rows where locks, triggers or the order of the rows are against it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import counting, leaves, parts, report, stride, walk
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.parts import Times, TooLarge
from tests.integration.cleaning import UTC, Cleaner, rule
from tests.integration.cleanup_scene import before_batch, noted
from tests.integration.test_cleanup_times import EXPIRED, MOST, PAST, ROWS, RULE, fill

pytestmark = pytest.mark.any_driver

AGAIN = "INSERT INTO t VALUES (OLD.*); RETURN NULL;"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take few rows for many, so that small tables are walked through in many batches."""
    monkeypatch.setattr(walk, "FIRST_ROWS", 100)
    monkeypatch.setattr(walk, "LEAST_ROWS", 10)


@pytest.mark.parametrize("look", ["guess_times", "next_times"])
def test_a_table_that_is_locked_while_a_boundary_is_looked_up(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch, look: str) -> None:
    fill(cleaner)
    if look == "next_times":
        monkeypatch.setattr(stride, "_SOMEWHAT_FEWER", 0.0)
    holders: list[threading.Timer] = []
    looks = 0
    with cleaner.database.connect() as holder:
        real = getattr(parts, look)

        def locked(*given: Any) -> Any:
            nonlocal looks
            looks += 1
            if looks == 3:
                holder.execute("BEGIN")
                holder.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
                holders.append(threading.Timer(0.5, lambda: holder.execute("COMMIT")))
                holders[0].start()
            return real(*given)

        monkeypatch.setattr(parts, look, locked)
        result = cleaner.run([RULE], batch_rows=MOST, login={"lock_timeout": "60 s"})
        holders[0].join()
    assert (result["removed"], result["remaining"], result["stopped"]) == (EXPIRED, 0, "done")


def test_a_table_that_stays_locked_ends_it(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cleaner)
    with cleaner.database.connect() as holder:
        holder.execute("BEGIN")
        began = 0.0

        def lock(_session: Any) -> None:
            nonlocal began
            holder.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()

        before_batch(monkeypatch, 2, lock)
        with pytest.raises(report.Interrupted) as caught:
            cleaner.run([RULE], batch_rows=MOST, login={"lock_timeout": "1 s"})
        assert 1 <= time.monotonic() - began < 5
        holder.execute("COMMIT")
    assert (caught.value.sqlstate, caught.value.result["removed"]) == ("55P03", ROWS - cleaner.count("t"))
    assert 0 < caught.value.result["removed"] < EXPIRED


@pytest.mark.parametrize("sampled", [0, 1])
def test_a_sample_that_saw_no_rows_gives_no_page_that_cannot_be(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch, sampled: int) -> None:
    monkeypatch.setattr(counting, "LARGE_IN_ORDER_BYTES", 8192)
    monkeypatch.setattr(counting, "about", lambda *_given: sampled)
    guesses = noted(monkeypatch, parts, "guess_times")
    fill(cleaner)
    result = cleaner.run([RULE], batch_rows=MOST)
    assert (result["removed"], result["remaining"], result["stopped"]) == (EXPIRED, 0, "done")
    assert sum(found is not None for _given, found in guesses) >= 2


@pytest.mark.parametrize("pages", [10**6, 2**31, 2**32, 2**40])
def test_a_page_that_no_table_has_is_no_guess(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    real = leaves.look_up_leaves
    monkeypatch.setattr(walk, "look_up_leaves", lambda *given: {oid: one._replace(pages=pages) for oid, one in real(*given).items()})
    fill(cleaner)
    result = cleaner.run([RULE], batch_rows=MOST)
    assert (result["removed"], result["remaining"], result["stopped"]) == (EXPIRED, 0, "done")


def test_guesses_that_keep_being_beyond_the_table_end(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "guess_times", lambda *_given: None)
    guesses = noted(monkeypatch, parts, "guess_times")
    fill(cleaner)
    result = cleaner.run([RULE], batch_rows=100)
    assert (result["removed"], result["remaining"], result["stopped"]) == (EXPIRED, 0, "done")
    assert 0 < len(guesses) <= 3


def test_a_trigger_that_was_made_after_the_plan_may_keep_rows(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cleaner)
    fill(cleaner, table="u")
    made = (
        "CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF OLD.id % 5 = 0 THEN RETURN NULL; END IF; RETURN OLD; END';"
        " CREATE TRIGGER veto BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION veto()"
    )
    before_batch(monkeypatch, 1, lambda _session: cleaner.sql(made))
    result = cleaner.run([rule("u", "at"), RULE], batch_rows=MOST)
    kept = EXPIRED // 5
    assert cleaner.sql(f"SELECT count(*) FROM t WHERE {PAST}") == [(kept,)]
    ends = {row["table"]: (row["removed"], row["remaining"], row["stopped"]) for row in result["rules"]}
    assert ends == {"public.u": (EXPIRED, 0, "done"), "public.t": (EXPIRED - kept, kept, "vetoed")}


def test_a_rewrite_rule_that_was_made_after_the_plan_may_keep_rows(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cleaner)
    fill(cleaner, table="u")
    made = "CREATE RULE keep AS ON DELETE TO t WHERE OLD.id % 5 = 0 DO INSTEAD NOTHING"
    before_batch(monkeypatch, 1, lambda _session: cleaner.sql(made))
    with pytest.raises(report.Interrupted) as caught:
        cleaner.run([rule("u", "at"), RULE], batch_rows=MOST)
    assert cleaner.sql(f"SELECT count(*) FROM t WHERE {PAST}") == [(EXPIRED // 5,)]
    assert caught.value.result["remaining"] == EXPIRED // 5


def test_a_range_around_a_held_row_is_taken_whole(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaves, "_IN_ORDER", 0.0)
    fill(cleaner, "now() + (n * 7919 % 4000 - 1999.5) * interval '1 min'")
    ranges, too_large = noted(monkeypatch, walk.Walk, "_range"), noted(monkeypatch, TooLarge, "__init__")
    with cleaner.database.connect() as holder:
        holder.execute("BEGIN")
        holder.execute(f"SELECT FROM t WHERE {PAST} ORDER BY at LIMIT 1 FOR UPDATE")
        result = cleaner.run([RULE], batch_rows=MOST)
    row = result["rules"][0]
    assert (row["removed"], row["remaining"], row["skipped_locked"], row["stopped"]) == (EXPIRED - 1, 1, 1, "locked")
    assert [given[1] for given, _nothing in too_large] == ["public.t"]
    assert sum(batch.done for _given, batch in ranges) == EXPIRED - 1
    assert max(batch.done for _given, batch in ranges) <= MOST


def test_a_row_that_cannot_go_keeps_no_later_one(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cleaner)
    cleaner.sql("ALTER TABLE t ADD PRIMARY KEY (id); CREATE TABLE child (parent int REFERENCES t ON DELETE CASCADE)")
    cleaner.sql("CREATE INDEX ON child (parent); INSERT INTO child VALUES (500)")
    ranges = noted(monkeypatch, walk.Walk, "_range")
    with cleaner.database.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT FROM child FOR UPDATE")
        with pytest.raises(report.Interrupted) as caught:
            cleaner.run([RULE], batch_rows=MOST, login={"lock_timeout": "2 s"})
        holder.execute("ROLLBACK")
    assert caught.value.sqlstate == "55P03"
    assert caught.value.result["removed"] == ROWS - cleaner.count("t")
    left = cleaner.column(f"SELECT id FROM t WHERE {PAST}")
    assert 500 in left
    assert max(left) < 700
    assert isinstance(ranges[-1][0][1], Times)
    assert cleaner.run([RULE])["remaining"] == 0


def test_a_row_that_cannot_go_at_first_goes_in_the_end(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cleaner)
    cleaner.sql("ALTER TABLE t ADD PRIMARY KEY (id); CREATE TABLE child (parent int REFERENCES t ON DELETE CASCADE)")
    cleaner.sql("CREATE INDEX ON child (parent); INSERT INTO child VALUES (500)")
    with cleaner.database.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT FROM child FOR UPDATE")
        real = walk.Walk.take_rest

        def freed(self: walk.Walk, *given: Any) -> Any:
            holder.execute("ROLLBACK")
            return real(self, *given)

        monkeypatch.setattr(walk.Walk, "take_rest", freed)
        result = cleaner.run([RULE], batch_rows=MOST, login={"lock_timeout": "2 s"})
    assert (result["removed"], result["remaining"], result["stopped"]) == (EXPIRED, 0, "done")


@pytest.mark.parametrize("tied", [150, 1000])
def test_a_trigger_that_writes_its_row_again_comes_to_an_end(cleaner: Cleaner, tied: int) -> None:
    fill(cleaner)
    cleaner.sql(f"UPDATE t SET at = (SELECT at FROM t WHERE id = 300) WHERE id >= 300 AND id < 300 + {tied}")
    cleaner.sql(f"CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {AGAIN} END'")
    cleaner.sql("CREATE TRIGGER again AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION again()")
    result = cleaner.run([RULE], batch_rows=MOST, max_runtime="5 min")
    assert (result["remaining"], result["stopped"], cleaner.count("t")) == (EXPIRED, "vetoed", ROWS)
    assert result["removed"] < 10 * EXPIRED


def test_many_rows_with_one_time_are_looked_up_once(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cleaner)
    cleaner.sql("UPDATE t SET at = (SELECT at FROM t WHERE id = 300) WHERE id >= 300 AND id < 2000")
    found = noted(monkeypatch, parts, "next_times")
    result = cleaner.run([RULE], batch_rows=100)
    assert (result["removed"], result["remaining"], result["stopped"]) == (EXPIRED, 0, "done")
    assert sum(here.first is not None and here.end == here.first for _given, here in found) <= 2


def test_a_batch_of_pages_that_hold_more_than_the_others_is_no_larger(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    if int(cleaner.sql("SHOW server_version_num")[0][0]) < 140000:
        pytest.skip("the server reads no range of pages without the rest")
    cleaner.sql("CREATE TABLE t (id int, at date)")
    cleaner.sql("INSERT INTO t SELECT n, date '2000-01-01' + n / 5000 FROM generate_series(1, 20000) AS n")
    cleaner.sql("INSERT INTO t SELECT n, current_date + n / 1000 FROM generate_series(20001, 60000) AS n")
    cleaner.sql("DELETE FROM t WHERE id > 20000 AND id % 100 > 0")
    cleaner.sql("CREATE INDEX ON t (at)")
    cleaner.sql("ANALYZE t")
    ranges = noted(monkeypatch, walk.Walk, "_range")
    with cleaner.database.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT FROM t WHERE id = 9000 FOR UPDATE")
        result = cleaner.run([rule("t", {"column": "at", **UTC})], batch_rows=1000)
    assert (result["removed"], result["remaining"], result["stopped"]) == (19999, 1, "locked")
    assert 200 < max(batch.done for _given, batch in ranges) <= 1000
    assert sum(batch.done for _given, batch in ranges) == 19999
