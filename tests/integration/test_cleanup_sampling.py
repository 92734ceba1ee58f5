"""Large tables of which much goes are not counted before: what the result says is counted by the run itself."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import counting, plan, report, sampling, space
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from tests.integration.cleaning import STORE, TABLES, Cleaner, numbers, rule
from tests.integration.cleanup_scene import before_batch, leaping

pytestmark = pytest.mark.any_driver

RULE = rule("t", "at")
ROWS = 20_000


@pytest.fixture
def large(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> Cleaner:
    """A table that counts as a large one, half of it expired."""
    if int(cleaner.sql("SHOW server_version_num")[0][0]) < 140000:
        pytest.skip("without ranges of pages nothing is estimated")
    monkeypatch.setattr(sampling, "_SAMPLED", 20)
    monkeypatch.setattr(sampling, "_LARGE", 50)
    cleaner.sql("CREATE TABLE t (id int, at timestamptz)")
    cleaner.sql(
        f"INSERT INTO t SELECT n, CASE WHEN n % 2 = 0 THEN 'epoch' ELSE 'infinity' END::timestamptz FROM generate_series(1, {ROWS}) AS n"
    )
    return cleaner


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was sampled, None where it was counted."""
    seen: list[Any] = []
    real = plan.sampling.sample

    def noting(*given: Any) -> Any:
        seen.append(real(*given))
        return seen[-1]

    monkeypatch.setattr(plan.sampling, "sample", noting)
    return seen


def test_the_numbers_of_a_run_are_those_of_its_check_mode(large: Cleaner, samples: list[Any]) -> None:
    planned = large.run([RULE], check=True)
    assert samples == []
    result = large.run([RULE])
    assert samples[0] is not None
    assert 0.5 < samples[0].going / (ROWS / 2) < 2
    assert numbers(planned) == numbers(result)
    assert (result["removed"], result["rules"][0]["rows_left"]) == (ROWS // 2, ROWS // 2)
    again = large.run([RULE])
    assert (again["matched"], again["changed"], samples[1]) == (0, False, None)


def test_a_run_that_stops_counts_what_is_left(large: Cleaner, samples: list[Any]) -> None:
    result = large.run([RULE], throttle={"blocked_sessions": 0, "max_pause": "0 s"})
    assert (result["removed"], result["stopped"]) == (ROWS // 2, "done")
    large.sql("UPDATE t SET at = 'epoch' WHERE id % 4 = 1")
    with large.database.connect() as holder, large.database.connect() as other:
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE t IN ACCESS SHARE MODE")
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1")
        result = large.run([RULE], throttle={"oldest_transaction": "0 s", "max_pause": "0 s"})
    assert (result["matched"], result["removed"], result["remaining"], result["stopped"]) == (ROWS // 4, 0, ROWS // 4, "throttled")
    assert result["rules"][0]["rows_left"] == ROWS // 2


def test_a_run_whose_time_is_over_counts_what_is_left(large: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    let_pass = leaping(monkeypatch)
    before_batch(monkeypatch, 1, lambda _session: let_pass(3600))
    result = large.run([RULE], max_runtime="1 h", batch_rows=2000)
    row = result["rules"][0]
    assert (result["stopped"], row["removed"] + row["remaining"], row["matched"]) == ("max_runtime", ROWS // 2, ROWS // 2)
    assert 0 < row["removed"] < ROWS // 2
    assert large.sql("SELECT count(*) FROM t WHERE at < now()") == [(row["remaining"],)]


def test_a_bound_on_rows_is_held_against_a_count(large: Cleaner, samples: list[Any]) -> None:
    with pytest.raises(report.Refused, match=f"would remove {ROWS // 2} rows"):
        large.run([RULE], max_rows=ROWS // 2 - 1)
    assert large.run([RULE], max_rows=ROWS // 2)["removed"] == ROWS // 2
    assert samples == []


def test_what_others_refer_to_or_need_is_counted(large: Cleaner, samples: list[Any]) -> None:
    large.sql("ALTER TABLE t ADD PRIMARY KEY (id)")
    large.sql("CREATE TABLE child (id int REFERENCES t)")
    large.sql("INSERT INTO child VALUES (2)")
    with pytest.raises(InvalidValue, match=f"1 of the {ROWS // 2} rows"):
        large.run([RULE])
    large.sql("DROP TABLE child")
    assert samples == []
    large.sql(TABLES)
    large.sql("INSERT INTO app.tokens SELECT md5(n::text)::uuid, 'epoch', 'epoch' FROM generate_series(1, 20000) AS n")
    assert large.run([rule("app.tokens")], token_stores=[STORE])["removed"] == ROWS
    assert samples == [None]


def test_a_table_of_gigabytes_is_not_read_for_the_rows_that_stay(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    if int(cleaner.sql("SHOW server_version_num")[0][0]) < 150000:
        pytest.skip("the counters that tell of a scan arrive some time later")
    monkeypatch.setattr(counting, "LARGE_BYTES", 8192)
    cleaner.sql("CREATE TABLE t (id int, at timestamptz)")
    cleaner.sql(
        "INSERT INTO t SELECT n, CASE WHEN n % 100 = 0 THEN 'epoch' ELSE 'infinity' END::timestamptz FROM generate_series(1, 20000) AS n"
    )
    cleaner.sql("CREATE INDEX at ON t (at)")
    cleaner.sql("VACUUM ANALYZE t")
    cleaner.settle()
    before = cleaner.sql("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 't'")
    planned, result = cleaner.run([RULE], check=True), cleaner.run([RULE])
    assert numbers(planned) == numbers(result)
    assert (result["matched"], result["removed"], result["rules"][0]["rows_left"], result["stopped"]) == (200, 200, None, "done")
    cleaner.settle()
    assert cleaner.sql("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 't'") == before
    assert cleaner.run([RULE])["changed"] is False


def test_a_table_that_is_locked_after_the_last_batch_is_cleaned_all_the_same(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaner.sql("CREATE TABLE t (id int, at timestamptz)")
    cleaner.sql("INSERT INTO t VALUES (1, 'epoch')")
    with cleaner.database.connect() as holder:
        real = space.give_back

        def locked(*given: Any) -> Any:
            holder.execute("BEGIN")
            holder.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            try:
                return real(*given)
            finally:
                holder.execute("ROLLBACK")

        monkeypatch.setattr(space, "give_back", locked)
        result = cleaner.run([RULE], login={"lock_timeout": "100 ms"})
    assert (result["removed"], result["stopped"], result["bytes_freed"]) == (1, "done", None)
