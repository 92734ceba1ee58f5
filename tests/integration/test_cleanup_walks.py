"""The ways through a table: whichever is taken, the same rows go, and nothing else; what is locked is passed over."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import statements, walk
from tests.integration.cleaning import Cleaner, rule

pytestmark = pytest.mark.any_driver

RULE = rule("t", "at")
TABLE = "CREATE TABLE t (id int, at timestamptz, pad text DEFAULT repeat('x', 40))"
ROWS = 3000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take few rows for many, so that small tables are walked through in many batches."""
    monkeypatch.setattr(walk, "FIRST_ROWS", 100)
    monkeypatch.setattr(walk, "LEAST_ROWS", 10)
    monkeypatch.setattr(walk, "_FIRST_PAGES", 2)
    monkeypatch.setattr(walk, "_LEAST_PAGES", 1)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that were run, by their name."""
    seen: list[str] = []
    for name in ("pick", "pick_oldest", "take_range"):
        real = getattr(statements, name)

        def noting(*given: Any, real: Any = real, name: str = name, **more: Any) -> Any:
            seen.append(name)
            return real(*given, **more)

        monkeypatch.setattr(statements, name, noting)
    return seen


def fill(cleaner: Cleaner, share: int) -> None:
    """Make a table of which one row in `share` has expired."""
    cleaner.sql(TABLE)
    cleaner.sql(
        "INSERT INTO t (id, at) SELECT n, now() + CASE WHEN n %% %s = 0 THEN -1 ELSE 1 END * (1 + n %% 7) * interval '1 h'"
        " FROM generate_series(1, %s) AS n",
        [share, ROWS],
    )


def test_half_of_a_table_goes_by_its_pages(cleaner: Cleaner, taken: list[str], ranges: bool) -> None:
    fill(cleaner, 2)
    cleaner.sql("CREATE INDEX ON t (at)")
    result = cleaner.run([RULE], batch_rows=200)
    assert (result["removed"], result["remaining"], result["stopped"]) == (ROWS // 2, 0, "done")
    assert cleaner.sql("SELECT count(*), min(id % 2) FROM t") == [(ROWS // 2, 1)]
    assert set(taken) == ({"take_range"} if ranges else {"pick_oldest"})
    assert len(taken) > 5


def test_few_of_many_rows_go_by_the_index(cleaner: Cleaner, taken: list[str]) -> None:
    fill(cleaner, 25)
    cleaner.sql("CREATE INDEX ON t (at)")
    result = cleaner.run([RULE], batch_rows=20)
    assert (result["removed"], result["stopped"]) == (ROWS // 25, "done")
    assert (set(taken), len(taken)) == ({"pick_oldest"}, 7)


@pytest.mark.parametrize(
    "index", ["CREATE INDEX ON t USING brin (at)", "CREATE INDEX ON t (at) WHERE id > 0", "CREATE INDEX ON t (id, at)"]
)
def test_an_index_that_gives_no_order_is_not_walked(cleaner: Cleaner, taken: list[str], index: str) -> None:
    fill(cleaner, 25)
    cleaner.sql(index)
    assert cleaner.run([RULE], batch_rows=20)["removed"] == ROWS // 25
    assert "pick_oldest" not in taken


def test_little_goes_in_one_statement(cleaner: Cleaner, taken: list[str]) -> None:
    fill(cleaner, 100)
    result = cleaner.run([RULE])
    assert (result["removed"], result["rules"][0]["batches"], taken) == (ROWS // 100, 1, ["pick"])


def test_a_batch_of_equal_times_larger_than_a_batch_goes_by_the_index(cleaner: Cleaner, taken: list[str]) -> None:
    cleaner.sql(TABLE)
    cleaner.sql(
        "INSERT INTO t SELECT n, CASE WHEN n <= 120 THEN timestamptz '2020-01-01' ELSE 'infinity' END FROM generate_series(1, 4000) AS n"
    )
    cleaner.sql("CREATE INDEX ON t (at)")
    assert cleaner.run([RULE], batch_rows=50)["removed"] == 120
    assert set(taken) == {"pick_oldest"}


@pytest.mark.parametrize("share", [2, 25])
def test_locked_rows_are_passed_over_whichever_way(cleaner: Cleaner, share: int) -> None:
    fill(cleaner, share)
    cleaner.sql("CREATE INDEX ON t (at)")
    with cleaner.database.connect() as holder:
        holder.execute("BEGIN")
        held = holder.execute("SELECT id FROM t WHERE at < now() ORDER BY at LIMIT 9 FOR UPDATE").fetchall()
        began = time.monotonic()
        result = cleaner.run([RULE], batch_rows=60, login={"lock_timeout": "60 s"})
        assert time.monotonic() - began < 30
    row = result["rules"][0]
    assert (row["removed"], row["remaining"], row["skipped_locked"], row["stopped"]) == (ROWS // share - 9, 9, 9, "locked")
    assert cleaner.column("SELECT id FROM t WHERE at < now()") == sorted(one[0] for one in held)
    assert cleaner.run([RULE])["removed"] == 9


@pytest.mark.parametrize("share", [2, 25])
def test_rows_that_a_trigger_keeps_do_not_keep_the_walk_going(cleaner: Cleaner, share: int) -> None:
    fill(cleaner, share)
    cleaner.sql("CREATE INDEX ON t (at)")
    cleaner.sql(
        "CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id % 3 = 0 THEN RETURN NULL; END IF; RETURN OLD; END $$"
    )
    cleaner.sql("CREATE TRIGGER veto BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION veto()")
    expired = [n for n in range(1, ROWS + 1) if n % share == 0]
    result = cleaner.run([RULE], batch_rows=60)
    kept = [n for n in expired if n % 3 == 0]
    assert (result["removed"], result["remaining"], result["stopped"]) == (len(expired) - len(kept), len(kept), "vetoed")
    assert cleaner.column("SELECT id FROM t WHERE at < now()") == kept


def test_a_row_that_is_extended_while_its_range_waits_stays(cleaner: Cleaner) -> None:
    fill(cleaner, 2)
    with cleaner.database.connect() as other:
        other.execute("BEGIN")
        other.execute("UPDATE t SET at = now() + interval '1 day' WHERE id = 2")
        result = cleaner.run([RULE])
        other.execute("COMMIT")
    assert result["rules"][0]["skipped_locked"] == 1
    again = cleaner.run([RULE])
    assert (again["matched"], again["removed"]) == (0, 0)
    assert cleaner.sql("SELECT count(*) FROM t WHERE id = 2") == [(1,)]


def test_every_partition_is_walked_by_its_own_pages(cleaner: Cleaner, taken: list[str], ranges: bool) -> None:
    cleaner.sql("CREATE TABLE t (id int, at timestamptz) PARTITION BY LIST ((id % 3))")
    for part in range(3):
        cleaner.sql(f"CREATE TABLE t{part} PARTITION OF t FOR VALUES IN ({part})")
    cleaner.sql(
        "INSERT INTO t SELECT n, now() + CASE WHEN n % 2 = 0 THEN -1 ELSE 1 END * interval '1 h' FROM generate_series(1, 3000) AS n"
    )
    result = cleaner.run([RULE], batch_rows=100)
    assert (result["removed"], cleaner.count("t")) == (1500, 1500)
    assert cleaner.sql("SELECT count(*) FROM t WHERE at < now()") == [(0,)]
    assert set(taken) == ({"take_range"} if ranges else {"pick"})


def test_the_batch_grows_and_shrinks_towards_its_time() -> None:
    size = walk.BatchSize(0.2, first=100, least=10, most=1000)
    sizes = []
    for seconds in (0.01, 0.01, 0.4, 0.4, 0.2, 2.0, 2.0, 2.0, 2.0, 0.001):
        size.took(seconds)
        sizes.append(size.now)
    assert sizes == [200, 400, 200, 100, 100, 50, 25, 12, 10, 20]


@pytest.fixture
def ranges(cleaner: Cleaner) -> bool:
    """Whether the server reads a range of pages without the rest."""
    return int(cleaner.sql("SHOW server_version_num")[0][0]) >= 140000
