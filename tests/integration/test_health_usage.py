"""How tables are read and updated, by what the server has counted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.watching import create_role, drop_role, eventually, finding, look, run_script, status_of

pytestmark = pytest.mark.any_driver

HOT, SCANS = "table.hot_pct", "table.seq_scans"
FEW = {HOT: {"minimum": 100, "warning": 90}, SCANS: {"minimum": 100, "warning": 3}}
HOSTILE = 'Web App."Tok%ens.v2"'


def watch(database: Database, *checks: str, **more: Any) -> dict[str, Any]:
    """Return the result of these checks over all schemas, with thresholds as a system gives them."""
    more.setdefault("thresholds", FEW)
    return look(database, system=more.pop("system", None), checks=list(checks), **more)


def updated(database: Database, table: str, times: int) -> None:
    """Wait until the server's statistics know of so many updates."""
    eventually(lambda: database.query("SELECT pg_stat_get_tuples_updated(%s::regclass)", [table]) == [(times,)])


def test_hot_updates_and_what_is_in_their_way(database: Database, installation: Installation) -> None:
    run_script(
        database,
        """CREATE SCHEMA "Web App";
        CREATE TABLE "Web App"."Tok%ens.v2" (id int, seen int) WITH (fillfactor = 40); CREATE INDEX ON "Web App"."Tok%ens.v2" (seen);
        CREATE TABLE crowded (id int PRIMARY KEY, seen int);
        CREATE TABLE roomy (id int PRIMARY KEY, seen int) WITH (fillfactor = 40); CREATE TABLE rare (id int);
        INSERT INTO "Web App"."Tok%ens.v2" SELECT n, n FROM generate_series(1, 200) AS n; INSERT INTO rare VALUES (1);
        INSERT INTO crowded SELECT n, n FROM generate_series(1, 2000) AS n; INSERT INTO roomy SELECT n, n FROM generate_series(1, 200) AS n;
        UPDATE "Web App"."Tok%ens.v2" SET seen = seen + 1; UPDATE rare SET id = 2; UPDATE crowded SET seen = seen + 1;
        UPDATE roomy SET seen = seen + 1""",
    )
    for table, times in (('"Web App"."Tok%ens.v2"', 200), ("crowded", 2000), ("roomy", 200), ("rare", 1)):
        updated(database, table, times)
    result = watch(database, HOT)
    assert {found["object"] for found in result["findings"]} == {HOSTILE, "public.crowded"}
    indexed, crowded = finding(result, f"{HOT}[{HOSTILE}]"), finding(result, f"{HOT}[public.crowded]")
    assert (indexed["value"], indexed["severity"]) == (0.0, "warning")
    assert "index on a column" in indexed["action"]
    assert "fillfactor" not in indexed["action"]
    assert 'ALTER TABLE "public"."crowded" SET (fillfactor = 90)' in crowded["action"]
    # Which of the two it is, newer servers tell.
    assert ("index" in crowded["action"]) is (installation.major < 16)
    assert ("found no room" in crowded["message"]) is (installation.major >= 16)
    assert "of 2,000 updates since 20" in crowded["message"]
    assert result["metrics"][f"{HOT}[public.roomy]"] == 100.0
    assert f"{HOT}[public.rare]" not in result["metrics"]
    assert [row["table"] for row in result["details"]["hot"]] == ["public.crowded", HOSTILE, "public.roomy"]
    # Without thresholds it is only said, and on so few updates not even that; an operator's own advice goes first.
    assert "insufficient sample" in watch(database, HOT, thresholds={})["checks"][-1]["message"]
    assert watch(database, HOT, thresholds={HOT: {"minimum": 100}})["findings"] == []
    limits = {HOT: {"minimum": 100, "warning": 90, "action": "Ask Ann."}}
    assert {found["action"] for found in watch(database, HOT, thresholds=limits)["findings"]} == {"Ask Ann."}


def test_sequential_scans_of_big_tables(database: Database, cluster: Cluster, standby: Cluster) -> None:
    run_script(
        database,
        """CREATE SCHEMA "Web App"; CREATE TABLE "Web App"."Tok%ens.v2" AS SELECT generate_series(1, 500) AS id;
        CREATE TABLE small AS SELECT 1 AS id; ANALYZE""",
    )
    cluster.wait_for(standby)
    for _time in range(4):
        run_script(database, 'SELECT count(*) FROM "Web App"."Tok%ens.v2"; SELECT count(*) FROM small')
    run_script(database, 'SELECT id FROM "Web App"."Tok%ens.v2" LIMIT 1')
    key = f"{SCANS}[{HOSTILE}]"
    # ANALYZE is no scan.
    eventually(lambda: watch(database, SCANS)["metrics"].get(key) == 5)
    result = watch(database, SCANS)
    assert [found["key"] for found in result["findings"]] == [key]
    found = finding(result, key)
    assert "each of which read 400 of about 500 rows: a candidate" in found["message"]
    assert "5 sequential scans since 20" in found["message"]
    assert result["metrics"][f"table.rows_per_scan[{HOSTILE}]"] == 400.2
    assert watch(database, SCANS, thresholds={})["findings"] == []
    # A standby counts its own.
    elsewhere = watch(database, SCANS, HOT, cluster=standby)
    assert (elsewhere["metrics"][key], status_of(elsewhere, HOT)) == (0, "skipped")


def test_any_role_may_ask(database: Database) -> None:
    run_script(database, "CREATE TABLE t AS SELECT generate_series(1, 500) AS id; ANALYZE")
    login = create_role(database.cluster, "nobody at all")
    try:
        assert watch(database, HOT, SCANS, login=login)["unknown"] == []
    finally:
        drop_role(database.cluster, database, "nobody at all")


def test_lost_counters_are_unknown(installation: Installation) -> None:
    with Cluster(installation, settings={"autovacuum": "off"}) as own, Database.create(own, "shop") as database:
        run_script(database, "CREATE TABLE t AS SELECT generate_series(1, 500) AS id; ANALYZE; CHECKPOINT")
        own.crash()
        own.start()
        result = watch(database, HOT, SCANS)
        assert set(result["unknown"]) == {HOT, SCANS}
        assert len(result["findings"]) == 1
