"""Room that is not needed: estimated from what may be read, said to be an estimate, and never invented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._health import bloat_estimate
from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.watching import create_role, drop_role, eventually, finding, look, run_script, statements_in, status_of

pytestmark = pytest.mark.any_driver

# 40,000 rows of about 110 bytes: 4.9 MB.
ROW = "n AS id, n::bigint * 7 AS big, n % 2 = 0 AS even, md5(n::text) AS word, repeat('x', 20 + n % 20) AS text"
HALLS = f"""
CREATE SCHEMA hall;
CREATE TABLE hall.full_up AS SELECT {ROW} FROM generate_series(1, 40000) AS n;
CREATE TABLE hall.empty_inside AS SELECT {ROW} FROM generate_series(1, 40000) AS n;
CREATE INDEX full_up_id ON hall.full_up (big, id);
CREATE INDEX empty_inside_id ON hall.empty_inside (id);
DELETE FROM hall.empty_inside WHERE id % 10 <> 0;
CREATE TABLE hall.half WITH (fillfactor = 50) AS SELECT {ROW} FROM generate_series(1, 40000) AS n;
CREATE TABLE hall.named AS SELECT n AS id, ('n' || n)::name AS label, repeat('x', 60) AS text FROM generate_series(1, 40000) AS n;
CREATE INDEX named_label ON hall.named (label, text);
DELETE FROM hall.named WHERE id % 10 <> 0;
CREATE INDEX named_expression ON hall.named (lower(text || id));
CREATE TABLE hall.small AS SELECT n AS id FROM generate_series(1, 2000) AS n;
DELETE FROM hall.small;
CREATE TABLE hall.plain_types AS SELECT n AS a, n::bigint AS b, n::smallint AS c, n::float8 AS d, n % 7 = 0 AS e
  FROM generate_series(1, 30000) AS n;
CREATE TABLE hall.nullable AS SELECT n AS a, CASE WHEN n % 2 = 0 THEN repeat('y', 100) END AS b, NULL::text AS c, NULL::int AS d
  FROM generate_series(1, 40000) AS n;
"""
SYSTEM: dict[str, Any] = {"name": "hall", "schemas": ["hall", "Odd %s"]}
LOW = {"warning": 30, "critical": 60, "minimum": 1 << 20}


def bloat(database: Database, *, minimum: int = 1 << 20, **params: Any) -> dict[str, Any]:
    """Look at the two checks with a minimum that small tables reach."""
    limits = {"bloat.table": {**LOW, "minimum": minimum}, "bloat.index": {**LOW, "minimum": minimum}}
    return look(database, None, **{"system": SYSTEM, "checks": ["bloat"], "thresholds": limits, **params})


def keys(result: dict[str, Any]) -> set[str]:
    """Return the keys of the findings."""
    return {found["key"] for found in result["findings"]}


def message(result: dict[str, Any], check: str) -> str:
    """Return what a check says."""
    return str(next(each["message"] for each in result["checks"] if each["id"] == check))


@pytest.fixture(scope="module")
def hall(cluster: Cluster) -> Iterator[Database]:
    """Tables full and empty, looked at by every test of this file and changed by none."""
    with Database.create(cluster, "hall") as made:
        run_script(made, HALLS)
        run_script(made, "VACUUM ANALYZE")
        yield made


def test_a_bloated_table_is_found_and_full_ones_are_not(hall: Database) -> None:
    result = bloat(hall)
    assert keys(result) == {"bloat.table[hall.empty_inside]"}
    found = finding(result, "bloat.table[hall.empty_inside]")
    # Four of nearly five megabytes; critical takes five times the minimum.
    assert (found["severity"], 85 < found["value"] < 92) == ("warning", True)
    assert "an estimate" in found["message"]
    assert 'VACUUM (FULL, ANALYZE) "hall"."empty_inside";' in found["action"]
    found = finding(bloat(hall, minimum=1 << 19), "bloat.table[hall.empty_inside]")
    assert (found["severity"], found["threshold"]) == ("critical", 60)
    assert status_of(bloat(hall, minimum=1 << 30), "bloat.table") == "ok"


def test_every_relation_that_could_waste_enough_is_looked_at(hall: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    # Five tables are larger than a megabyte, and others than the bloated one.
    monkeypatch.setattr(bloat_estimate, "LARGEST", 1)
    result = bloat(hall)
    assert keys(result) == {"bloat.table[hall.empty_inside]"}
    assert "bloat.table[hall.plain_types]" in result["metrics"]
    # Where nothing could waste enough, the numbers of the largest are there.
    assert "the 1 largest of 6 tables" in message(bloat(hall, minimum=1 << 30), "bloat.table")
    monkeypatch.setattr(bloat_estimate, "MOST", 1)
    result = bloat(hall)
    found = finding(result, "bloat.table[tables not seen]")
    assert (found["severity"], found["message"]) == ("unknown", "5 tables of 1.0 MB or more not looked at: there are too many")
    assert status_of(result, "bloat.table") == "unknown"
    assert finding(result, "bloat.index[indexes not seen]")["severity"] == "unknown"
    assert status_of(bloat(hall, minimum=1 << 30), "bloat.table") == "ok"


def test_the_estimates_of_full_tables_are_near_the_truth(hall: Database) -> None:
    metrics = bloat(hall)["metrics"]
    for table in ("full_up", "half", "plain_types", "nullable"):
        assert metrics[f"bloat.table[hall.{table}]"] < 8, table
    assert metrics["bloat.index[hall.full_up_id]"] < 5
    assert 4_000_000 < metrics["bloat.table_bytes"] < 5_500_000


def test_an_index_of_deleted_rows_is_found(hall: Database) -> None:
    with Database.create(hall.cluster, "hall_index") as made:
        run_script(
            made,
            """CREATE SCHEMA "Odd %s";
            CREATE TABLE "Odd %s"."T.""1" AS SELECT n AS id, n / 1000 AS same FROM generate_series(1, 300000) AS n;
            CREATE INDEX "I %s;--" ON "Odd %s"."T.""1" (id); CREATE UNIQUE INDEX sure ON "Odd %s"."T.""1" (id);
            CREATE INDEX partial ON "Odd %s"."T.""1" (id) WHERE id > 0;
            CREATE INDEX tricky ON "Odd %s"."T.""1" (same);
            DELETE FROM "Odd %s"."T.""1" WHERE id % 10 <> 0""",
        )
        run_script(made, "VACUUM ANALYZE")
        result = bloat(made)
        assert {"bloat.index[Odd %s.I %s;--]", "bloat.index[Odd %s.sure]", "bloat.index[Odd %s.partial]"} <= keys(result)
        found = finding(result, "bloat.index[Odd %s.I %s;--]")
        assert 'REINDEX INDEX CONCURRENTLY "Odd %s"."I %s;--";' in found["action"]
        told = {row["object"]: row for row in result["details"]["bloat"]}
        assert told["Odd %s.sure"]["reliable"]
        assert (told["Odd %s.partial"]["reliable"], told["Odd %s.partial"]["is_estimate"]) == (False, True)
        # Equal keys are stored once since 13, unless an index holds only different ones.
        assert told["Odd %s.I %s;--"]["reliable"] is (hall.cluster.installation.major < 13)
        assert 'Odd %s."T.""1"' in told
        run_script(made, 'REINDEX INDEX "Odd %s"."I %s;--"')
        assert "bloat.index[Odd %s.I %s;--]" not in keys(bloat(made))


def test_what_cannot_be_estimated_is_said_and_not_ok_by_itself(hall: Database) -> None:
    result = bloat(hall)
    assert "hall.named: its column label is of the type name" in message(result, "bloat.table")
    assert "hall.named_label: its column label is of the type name" in message(result, "bloat.index")
    assert "hall.named_expression: an index on an expression" in message(result, "bloat.index")
    with Database.create(hall.cluster, "hall_named") as made:
        run_script(made, "CREATE TABLE named AS SELECT n::text::name AS label FROM generate_series(1, 30000) AS n; ANALYZE")
        assert status_of(bloat(made, system=None), "bloat.table") == "skipped"
        assert status_of(bloat(made, system={"name": "none", "schemas": ["empty"]}), "bloat.table") == "skipped"


def test_rows_that_nobody_analysed_are_unknown(hall: Database) -> None:
    with Database.create(hall.cluster, "hall_new") as made:
        rows = f"AS SELECT {ROW} FROM generate_series(1, 30000) AS n"
        run_script(made, f"CREATE TABLE never {rows}; CREATE TABLE added {rows}; CREATE INDEX on_never ON never (word)")
        run_script(made, "ANALYZE added; ALTER TABLE added ADD late int; CREATE INDEX on_late ON added (word, late)")
        counter = "SELECT pg_stat_get_live_tuples('never'::regclass) >= 30000"
        eventually(lambda: made.query(counter) == [(True,)])
        result = bloat(made, system=None, minimum=1 << 18)
        assert {found["key"]: found["severity"] for found in result["findings"]} == {
            "bloat.table[public.never]": "unknown",
            "bloat.table[public.added]": "unknown",
            "bloat.index[public.on_never]": "unknown",
            "bloat.index[public.on_late]": "unknown",
        }
        for found in result["findings"]:
            assert found["action"].startswith("As the owner: ANALYZE")
            for statement in statements_in(found["action"]):
                run_script(made, statement)
        assert keys(bloat(made, system=None, minimum=1 << 18)) == set()


# --- privileges ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def monitor(hall: Database) -> Iterator[dict[str, str]]:
    """A role of pg_monitor without access to statistics, as most tools recommend it."""
    yield create_role(hall.cluster, 'bloat "%s" watch', "pg_monitor")
    drop_role(hall.cluster, hall, 'bloat "%s" watch')


def test_without_statistics_it_is_unknown_and_the_grant_opens_it_and_no_values(hall: Database, monitor: dict[str, str]) -> None:
    result = bloat(hall, login=monitor)
    assert {found["key"]: found["severity"] for found in result["findings"]} == {"bloat.table": "unknown", "bloat.index": "unknown"}
    assert not [name for name in result["metrics"] if name.startswith("bloat") and result["metrics"][name] is not None]
    action = finding(result, "bloat.table")["action"]
    assert finding(result, "bloat.index")["action"] == action
    (grant,) = statements_in(action)
    run_script(hall, grant)
    assert keys(bloat(hall, login=monitor)) == {"bloat.table[hall.empty_inside]"}
    with hall.connect(user=monitor["login_user"]) as session:
        for secret in ("SELECT stavalues1 FROM pg_statistic", "SELECT * FROM pg_statistic", "SELECT * FROM hall.full_up"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(secret)  # type: ignore[call-overload]
        assert session.execute("SELECT count(*) FROM pg_stats WHERE schemaname = 'hall'").fetchone() == (0,)


def test_a_lock_on_a_table_hides_none(hall: Database) -> None:
    with hall.connect() as holder:
        holder.execute("BEGIN; LOCK TABLE hall.empty_inside IN ACCESS EXCLUSIVE MODE")
        assert keys(bloat(hall)) == {"bloat.table[hall.empty_inside]"}


def test_on_a_standby(hall: Database, standby: Cluster) -> None:
    hall.cluster.wait_for(standby)
    assert keys(bloat(hall, cluster=standby)) == {"bloat.table[hall.empty_inside]"}


# --- measuring ----------------------------------------------------------------------------------------------------------


def test_the_worst_are_measured_where_the_role_may(installation: servers.Installation) -> None:
    with Cluster(servers.with_features(installation.major), settings={"autovacuum": "off"}) as own:
        own.create_database("hall")
        made = Database(own, "hall")
        run_script(made, HALLS + 'CREATE SCHEMA "Ext %s"; CREATE EXTENSION pgstattuple SCHEMA "Ext %s"')
        run_script(made, "VACUUM ANALYZE")
        login = create_role(own, "watch", "pg_monitor")
        (grant,) = statements_in(finding(bloat(made, login=login), "bloat.table")["action"])
        run_script(made, grant)
        assert {row["object"]: row["is_estimate"] for row in bloat(made, login=login)["details"]["bloat"]}["hall.empty_inside"]
        run_script(made, 'GRANT USAGE ON SCHEMA "Ext %s" TO watch')
        told = {row["object"]: row for row in bloat(made, login=login)["details"]["bloat"]}
        assert (told["hall.empty_inside"]["is_estimate"], told["hall.empty_inside"]["reliable"]) == (False, True)
        assert 80 < told["hall.empty_inside"]["bloat_pct"] < 92
        run_script(made, 'REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA "Ext %s" FROM pg_stat_scan_tables')
        result = bloat(made, login=login)
        assert {row["object"]: row["is_estimate"] for row in result["details"]["bloat"]}["hall.empty_inside"]
        # Statistics that are wrong are put right by what is measured.
        run_script(made, "UPDATE pg_statistic SET stawidth = 1 WHERE starelid = 'hall.full_up'::regclass")
        assert "bloat.table[hall.full_up]" in keys(bloat(made, login=login))
        assert "bloat.table[hall.full_up]" not in keys(bloat(made))
        # A lock on one leaves it at the estimate.
        with made.connect() as holder:
            holder.execute("BEGIN; LOCK TABLE hall.full_up IN ACCESS EXCLUSIVE MODE")
            assert {"bloat.table[hall.full_up]", "bloat.table[hall.empty_inside]"} <= keys(bloat(made))
