"""What bounds a run: references without an index, windows, time, rows, the strain of others; and what is said of it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from psycopg.sql import SQL

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import preflight, report, vacuum, walk
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from tests.integration.cleaning import Cleaner, rule
from tests.integration.cleanup_scene import before_batch, leaping
from tests.integration.throttling import NOTHING

pytestmark = pytest.mark.any_driver

RULE = rule("t", "at")
MARKING = rule("m", "at", action="soft_delete", mark={"column": "gone_at"})
NOTING = """
CREATE TABLE seen (number int GENERATED ALWAYS AS IDENTITY, xid bigint, name text, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO public.seen (xid, name) VALUES (txid_current(), current_setting('application_name'));
  PERFORM pg_sleep({seconds}); RETURN OLD; END $$;
CREATE TRIGGER slow BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION slow();
"""


@pytest.fixture
def full(cleaner: Cleaner) -> Cleaner:
    """A hundred expired rows."""
    cleaner.sql("CREATE TABLE t (id int PRIMARY KEY, at timestamptz)")
    cleaner.sql("INSERT INTO t SELECT n, 'epoch' FROM generate_series(1, 100) AS n")
    return cleaner


def slow(cleaner: Cleaner, seconds: float) -> None:
    """Let every row take so long to go, and note in `seen` in which transaction it went and what the session was called."""
    cleaner.sql(SQL(NOTING.replace("{seconds}", str(seconds))))


def batches(cleaner: Cleaner) -> list[int]:
    """Return how many rows each transaction removed, in their order."""
    return [row[0] for row in cleaner.sql("SELECT count(*) FROM seen GROUP BY xid ORDER BY min(number)")]


@contextmanager
def snapshot(cleaner: Cleaner) -> Iterator[int]:
    """Hold a snapshot that keeps dead rows, and give the session's process."""
    with cleaner.database.connect(application_name="reader") as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1 FROM pg_class LIMIT 1")
        yield reader.info.backend_pid


# References without an index.

REFERRING = """
CREATE TABLE child (id int CONSTRAINT points_at REFERENCES t, "other Id" int);
INSERT INTO child SELECT NULL FROM generate_series(1, 40);
ANALYZE child;
"""
READING = '"points_at" of public.child (ON DELETE NO ACTION, not indexed) has no index on "id"'


@pytest.mark.parametrize("check", [True, False])
def test_a_reference_without_an_index_is_a_warning_while_it_costs_little(full: Cleaner, check: bool) -> None:
    full.sql(REFERRING)
    result = full.run([RULE], check=check)
    assert (result["removed"], len(result["warnings"])) == (100, 1)
    assert result["warnings"][0].startswith(
        f"rules[0].table: the foreign key {READING}: the server reads all of its about 40 rows for each"
    )
    assert result["warnings"][0].endswith('An index on public.child ("id"), made concurrently, ends that.')


@pytest.mark.parametrize("check", [True, False])
def test_a_reference_without_an_index_is_refused_where_it_costs_much(full: Cleaner, monkeypatch: pytest.MonkeyPatch, check: bool) -> None:
    full.sql(REFERRING)
    monkeypatch.setattr(preflight, "MOST_READING", 100 * 40 - 1)
    with pytest.raises(InvalidValue) as caught:
        full.run([RULE], check=check)
    error = caught.value
    assert error.message.startswith(f"rules[0].table: the foreign key {READING}: ")
    assert "about 40 rows for each row that goes, and 100 rows of public.t would go" in error.message
    assert 'index on public.child ("id")' in str(error.hint)
    assert "allow_unindexed_references" in str(error.hint)
    assert full.count("t") == 100
    result = full.run([RULE], check=check, allow_unindexed_references=True)
    assert (result["removed"], len(result["warnings"])) == (100, 1)
    monkeypatch.setattr(preflight, "MOST_READING", 100 * 40)
    full.sql("INSERT INTO t SELECT n, 'epoch' FROM generate_series(1, 100) AS n ON CONFLICT DO NOTHING")
    assert full.run([RULE], check=check)["removed"] == 100


def test_an_index_that_is_made_ends_it(full: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    full.sql(REFERRING)
    monkeypatch.setattr(preflight, "MOST_READING", 0)
    full.sql("CREATE INDEX ON child (id) WHERE id > 5")
    with pytest.raises(InvalidValue, match="points_at"):
        full.run([RULE])
    full.sql("CREATE INDEX ON child (id)")
    assert (full.run([RULE])["warnings"], full.count("t")) == ([], 0)


def test_a_table_that_was_never_counted_is_judged_by_its_size(full: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    """After pg_upgrade the server knows nothing of its tables, and all of them would look empty."""
    full.sql("CREATE TABLE child (id int CONSTRAINT points_at REFERENCES t, pad text)")
    full.sql("INSERT INTO child SELECT NULL, repeat('x', 70) FROM generate_series(1, 2000)")
    full.sql("SELECT pg_stat_reset()")
    (said,) = full.run([RULE], check=True)["warnings"]
    found = re.search(r"all of its about (\d+) rows", said)
    assert found
    assert 1000 < int(found[1]) < 4000
    monkeypatch.setattr(preflight, "MOST_READING", 1000)
    with pytest.raises(InvalidValue, match="points_at"):
        full.run([RULE])


def test_an_empty_table_that_refers_is_no_trouble(full: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "MOST_READING", 0)
    full.sql("CREATE TABLE child (id int CONSTRAINT points_at REFERENCES t)")
    assert (full.run([RULE])["warnings"], full.count("t")) == ([], 0)


# The order of rules.


def test_a_chain_of_references_is_gone_through_from_its_end(full: Cleaner) -> None:
    full.sql("CREATE TABLE u (id int PRIMARY KEY, t int REFERENCES t, at timestamptz); CREATE TABLE v (u int REFERENCES u, at timestamptz)")
    full.sql("INSERT INTO u SELECT n, n, 'epoch' FROM generate_series(1, 9) AS n; INSERT INTO v SELECT id, at FROM u")
    rules = [RULE, rule("u", "at"), rule("v", "at")]
    planned, result = full.run(rules, check=True), full.run(rules)
    assert [row["removed"] for row in planned["rules"]] == [row["removed"] for row in result["rules"]] == [100, 9, 9]
    assert result["stopped"] == "done"


CIRCLE = """
CREATE TABLE a (id int PRIMARY KEY, b int, at timestamptz);
CREATE TABLE b (id int PRIMARY KEY, a int CONSTRAINT b_a REFERENCES a, at timestamptz);
ALTER TABLE a ADD CONSTRAINT a_b FOREIGN KEY (b) REFERENCES b;
INSERT INTO b SELECT n, NULL, 'epoch' FROM generate_series(1, 4) AS n; INSERT INTO a SELECT n, n, 'epoch' FROM generate_series(1, 4) AS n;
"""


def test_a_circle_of_references_is_gone_round_as_written(cleaner: Cleaner) -> None:
    cleaner.sql(CIRCLE)
    rules = [rule("a", "at"), rule("b", "at")]
    with pytest.raises(InvalidValue, match=r'rules\[0\].table: 4 of the 4 rows of public.b .* "a_b" of public.a ') as caught:
        cleaner.run([rules[1], rules[0]])
    assert "by a rule of their own" in str(caught.value.hint)
    assert (cleaner.count("a"), cleaner.count("b")) == (4, 4)
    assert cleaner.run(rules)["removed"] == 8


# Windows, time and rows.


def test_outside_its_window_nothing_is_changed(full: Cleaner) -> None:
    ((later,),) = full.sql("SELECT to_char(now() AT TIME ZONE 'UTC' + interval '3 h', 'HH24:MI')")
    window = {"at": later, "lasts": "1 h", "time_zone": "UTC"}
    result = full.run([RULE], window=window)
    row = result["rules"][0]
    assert (result["changed"], result["stopped"], row["stopped"], full.count("t")) == (False, "window", "window", 100)
    assert (row["matched"], row["removed"], row["remaining"], row["rows_left"]) == (100, 0, 100, 100)
    assert re.fullmatch(
        rf"the window is closed and opens next at \d{{4}}-\d\d-\d\d {later} \(UTC\); nothing was changed", result["warnings"][0]
    )
    assert full.run([RULE], window=window, check=True)["removed"] == 100
    assert full.run([rule("t", "at", "50000 days")], window=window)["stopped"] == "done"


def test_the_window_closes_on_a_run(full: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    let_pass = leaping(monkeypatch)
    before_batch(monkeypatch, 3, lambda _session: let_pass(3600))
    ((clock, since),) = full.sql(
        "SELECT to_char(now() AT TIME ZONE 'Asia/Tokyo', 'HH24:MI'), extract(epoch FROM now() - date_trunc('minute', now()))::float8"
    )
    result = full.run([RULE], window={"at": clock, "lasts": f"{since + 3600:.3f} s", "time_zone": "Asia/Tokyo"}, batch_rows=5)
    assert (result["changed"], result["stopped"]) == (True, "window")
    assert 0 < result["removed"] < 100
    assert (result["removed"] % 5, result["remaining"]) == (0, full.count("t"))


def test_time_that_is_over_leaves_the_vacuum_and_says_so(full: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vacuum, "LEAST_ROWS", 10)
    let_pass = leaping(monkeypatch)
    before_batch(monkeypatch, 3, lambda _session: let_pass(3600))
    result = full.run([RULE], batch_rows=10, max_runtime="1 h")
    row = result["rules"][0]
    assert (row["stopped"], 20 <= row["removed"] < 100) == ("max_runtime", True)
    assert (row["vacuumed"][0]["table"], row["vacuumed"][0]["done"], row["vacuumed"][0]["analyzed"]) == ("public.t", False, False)
    assert result["warnings"] == ["public.t: the run had to end before its vacuum (max_runtime): autovacuum will do it"]


def test_marked_rows_count_against_max_rows(full: Cleaner) -> None:
    full.sql("CREATE TABLE m (at timestamptz, gone_at timestamptz); INSERT INTO m VALUES ('epoch'), ('epoch')")
    for rules, what in (([MARKING], "remove or mark 2 rows"), ([RULE, MARKING], "remove or mark 102 rows"), ([RULE], "remove 100 rows")):
        with pytest.raises(report.Refused, match=rf"would {what}, more than max_rows \(1\)"):
            full.run(rules, max_rows=1)
    assert full.run([RULE, MARKING], max_rows=102)["marked"] == 2


# The strain of others.


def test_strain_that_lasts_stops_the_run(full: Cleaner) -> None:
    limits = {**NOTHING, "oldest_transaction": "0 s", "max_pause": "0.4 s"}
    with snapshot(full) as pid:
        result = full.run([RULE], throttle=limits)
    row = result["rules"][0]
    assert (result["changed"], result["stopped"], row["stopped"], full.count("t")) == (False, "throttled", "throttled", 100)
    assert (row["remaining"], row["rows_left"], row["rows_per_second"]) == (100, 100, None)
    (reason,) = result["throttle"]["reasons"]
    assert (reason["what"], reason["limit"], reason["unit"], reason["who"]) == ("oldest_transaction", 0, "s", f"process {pid}")
    assert (reason["pauses"], reason["measured"] > 0, 0 < reason["seconds"] <= row["paused_seconds"]) == (1, True, True)
    assert 0.4 <= row["paused_seconds"] == result["throttle"]["paused_seconds"] <= row["seconds"]
    assert result["throttle"]["unknown"] == []
    again = full.run([RULE], throttle=limits)
    assert (again["removed"], again["throttle"]["reasons"]) == (100, [])


def test_strain_that_ends_is_waited_for_and_shown(full: Cleaner) -> None:
    slow(full, 0.01)
    given: dict[str, Any] = {}
    limits = {**NOTHING, "oldest_transaction": "0 s", "max_pause": "5 min"}
    work = threading.Thread(target=lambda: given.update(full.run([RULE], throttle=limits)))
    name, end = "", time.monotonic() + 60
    with snapshot(full) as pid:
        work.start()
        while "pauses" not in name and time.monotonic() < end:
            found = full.sql("SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s", [pid])
            name = next((row[0] for row in found if row[0].startswith("pgops.runbook")), "")
            time.sleep(0.02)
    work.join(60)
    assert re.fullmatch(r"pgops.runbook/pg_cleanup pauses: oldest_transaction \d+ (s|ms)", name)
    row = given["rules"][0]
    assert (given["removed"], given["stopped"], given["throttle"]["reasons"][0]["pauses"]) == (100, "done", 1)
    assert row["paused_seconds"] > 0
    # A hundred rows of a hundredth of a second each: no faster, however long the pause was.
    assert row["seconds"] - row["paused_seconds"] >= 1
    assert row["rows_per_second"] == pytest.approx(100 / (row["seconds"] - row["paused_seconds"]), abs=1)


# The time of a batch, and what a person sees.


@pytest.fixture
def picked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have rows looked up one batch after the other, from 40 rows at first down to one."""
    monkeypatch.setattr(walk, "_TID_RANGES", 10**9)
    monkeypatch.setattr(walk, "FIRST_ROWS", 40)
    monkeypatch.setattr(walk, "LEAST_ROWS", 1)


@pytest.mark.usefixtures("picked")
def test_batches_that_take_too_long_become_smaller(full: Cleaner) -> None:
    slow(full, 0.01)
    full.run([RULE], batch_time="50 ms")
    assert batches(full)[:3] == [40, 20, 10]
    assert all(rows < 10 for rows in batches(full)[3:])
    assert len(batches(full)) > 8


@pytest.mark.usefixtures("picked")
def test_batches_that_take_little_become_larger(full: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "FIRST_ROWS", 4)
    slow(full, 0)
    full.run([RULE], batch_time="10 s", batch_rows=30)
    assert batches(full) == [4, 8, 16, 30, 30, 12]


def test_ranges_of_pages_follow_the_time_too(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    if int(cleaner.sql("SHOW server_version_num")[0][0]) < 140000:
        pytest.skip("this server reads no range of pages without the rest")
    for name, number in (("FIRST_ROWS", 10), ("LEAST_ROWS", 1), ("_FIRST_PAGES", 4), ("_LEAST_PAGES", 1)):
        monkeypatch.setattr(walk, name, number)
    cleaner.sql("CREATE TABLE t (id int, at timestamptz, pad text)")
    cleaner.sql("INSERT INTO t SELECT n, 'epoch', repeat('x', 1500) FROM generate_series(1, 100) AS n")
    slow(cleaner, 0.01)
    cleaner.run([RULE], batch_time="50 ms")
    assert batches(cleaner)[:3] == [20, 10, 5]
    assert max(batches(cleaner)[3:]) <= 10


def test_a_person_sees_speed_and_time_left(full: Cleaner) -> None:
    slow(full, 0.02)
    ((began,),) = full.sql("SELECT clock_timestamp()")
    result = full.run([RULE], batch_rows=10)
    names = full.sql("SELECT name, extract(epoch FROM min(at) - %s)::float8 FROM seen GROUP BY name", [began])
    timed = [(re.fullmatch(r"pgops.runbook/pg_cleanup public.t (\d0)% ([\d.]+)/s (\d):(\d\d) left", name), took) for name, took in names]
    assert len([one for one, _took in timed if one]) > 3
    for one, took in timed:
        if one:
            # A percent is a row.
            done, speed, left = int(one[1]), float(one[2]), 60 * int(one[3]) + int(one[4])
            assert done / took - 1 <= speed <= 50
            assert left == pytest.approx((100 - done) / speed, abs=1 + (100 - done) / speed**2)
    row = result["rules"][0]
    assert row["rows_per_second"] <= 50
    assert row["rows_per_second"] == pytest.approx(100 / row["seconds"], abs=1)
