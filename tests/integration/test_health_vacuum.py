"""What VACUUM has left, by the rule by which autovacuum decides; and what is said where a crash has zeroed the counters."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _health
from ansible_collections.pgops.runbook.plugins.module_utils._connection import connect
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Limits, judge
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.replicating import earlier
from tests.integration.watching import create_role, drop_role, eventually, finding, look, options, run_script, statements_in, status_of

pytestmark = pytest.mark.any_driver

OVERDUE, INSERTS = "vac.dead_overdue", "vac.insert_overdue"
FEW = {OVERDUE: {"minimum": 100}, INSERTS: {"minimum": 100}, "table.dead_pct": {"minimum": 100}, "table.vacuum_age": {"minimum": 100}}
HOSTILE = 'Web App."Tok%ens.v2"'


def watch(database: Database, *checks: str, **more: Any) -> dict[str, Any]:
    """Return the result of these checks over all schemas; few rows are enough."""
    thresholds = {**FEW, **{check: {**FEW.get(check, {}), **limits} for check, limits in more.pop("thresholds", {}).items()}}
    return look(database, system=more.pop("system", None), checks=list(checks), thresholds=thresholds, **more)


def metric(database: Database, name: str, **more: Any) -> float | None:
    """Return one number."""
    found: float | None = watch(database, name.split("[", maxsplit=1)[0], **more)["metrics"].get(name)
    return found


def counted(database: Database, table: str, **counters: int) -> None:
    """Wait until the server's statistics say so of the table."""
    columns = ", ".join(f"pg_stat_get_{name}('{table}'::regclass)" for name in counters)
    eventually(lambda: database.query(f"SELECT {columns}") == [tuple(counters.values())])


# --- dead rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "since", "percent"),
    [
        ("", 12, 360.0),  # 50 + 0.2 * 1000
        ("WITH (autovacuum_vacuum_threshold = 100, autovacuum_vacuum_scale_factor = 0)", 12, 900.0),
        ("WITH (autovacuum_vacuum_scale_factor = 0.8, fillfactor = 70)", 12, 105.9),
        ("WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0)", 12, 90000.0),
        # Of no use to the rule of dead rows.
        ("WITH (autovacuum_analyze_threshold = 1, toast.autovacuum_vacuum_threshold = 1)", 12, 360.0),
        ("WITH (autovacuum_vacuum_max_threshold = 100)", 18, 900.0),
        ("WITH (autovacuum_vacuum_max_threshold = -1)", 18, 360.0),
    ],
)
def test_dead_rows_are_measured_by_autovacuums_own_rule(
    database: Database, installation: Installation, options: str, since: int, percent: float
) -> None:
    if installation.major < since:
        pytest.skip(f"a parameter of PostgreSQL {since}")
    run_script(
        database,
        f"""CREATE SCHEMA "Web App"; CREATE TABLE "Web App"."Tok%ens.v2" (id int) {options};
        INSERT INTO "Web App"."Tok%ens.v2" SELECT generate_series(1, 1000); ANALYZE "Web App"."Tok%ens.v2\"""",
    )
    run_script(database, 'DELETE FROM "Web App"."Tok%ens.v2" WHERE id <= 900')
    eventually(lambda: metric(database, f"{OVERDUE}[{HOSTILE}]") == percent)
    result = watch(database, OVERDUE)
    assert status_of(result, OVERDUE) == ("critical" if percent > 500 else "warning" if percent > 200 else "ok")
    # So few dead rows do no harm.
    assert look(database, system=None, checks=[OVERDUE])["metrics"][OVERDUE] is None
    if percent > 200:
        assert 'VACUUM (ANALYZE) "Web App"."Tok%ens.v2"' in finding(result, f"{OVERDUE}[{HOSTILE}]")["action"]


def test_toast_has_rows_and_parameters_of_its_own(database: Database) -> None:
    make = """CREATE TABLE {0} (id int, body text) {1}; ALTER TABLE {0} ALTER body SET STORAGE EXTERNAL;
        INSERT INTO {0} SELECT n, repeat('x', 4000) FROM generate_series(1, 400) AS n;"""
    options = "WITH (autovacuum_vacuum_threshold = 300, autovacuum_vacuum_scale_factor = 0"
    run_script(
        database,
        make.format("own", f"{options}, toast.autovacuum_vacuum_threshold = 100, toast.autovacuum_vacuum_scale_factor = 0)")
        + make.format("inherited", f"{options})"),
    )
    run_script(database, "VACUUM (ANALYZE)")
    run_script(database, "DELETE FROM own; DELETE FROM inherited")
    # Each row is three chunks.
    eventually(lambda: metric(database, f"{OVERDUE}[public.inherited (TOAST)]") == 400.0)
    result = watch(database, OVERDUE)
    assert result["metrics"][f"{OVERDUE}[public.own (TOAST)]"] == 1200.0
    assert result["metrics"][f"{OVERDUE}[public.own]"] == 133.3
    assert 'VACUUM (ANALYZE) "public"."own"' in finding(result, f"{OVERDUE}[public.own (TOAST)]")["action"]


def test_shares_and_every_offender(database: Database) -> None:
    tables = "".join(f"CREATE TABLE t{n} AS SELECT generate_series(1, {n}) AS i; ANALYZE t{n};" for n in range(101, 171))
    run_script(database, tables)
    run_script(database, "".join(f"DELETE FROM t{n} WHERE i > 20;" for n in range(101, 171)))
    eventually(lambda: metric(database, "table.dead_rows[public.t170]") == 150)
    limits = {"table.dead_rows": {"warning": 80}, "table.dead_pct": {"warning": 80}}
    checks = {check["id"]: check for check in watch(database, "table.dead_rows", "table.dead_pct", thresholds=limits)["checks"]}
    # All seventy, of which fifty are numbers and twenty findings.
    assert checks["table.dead_rows"]["findings_total"] == 70
    assert checks["table.dead_pct"]["findings_total"] == 70
    assert checks["table.dead_pct"]["value"] == 88.24


# --- new rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "vacuum", "before_18", "percent"),
    [
        ("", "VACUUM (ANALYZE)", 100.0, None),  # 1000 + 0.2 * 10000
        ("", "VACUUM (FREEZE, ANALYZE)", 100.0, 300.0),  # 1000 + 0.2 * 10000 * what is not frozen: nothing
        ("WITH (autovacuum_vacuum_insert_threshold = 500, autovacuum_vacuum_insert_scale_factor = 0)", "VACUUM (ANALYZE)", 600.0, 600.0),
        ("WITH (autovacuum_vacuum_insert_threshold = -1)", "VACUUM (ANALYZE)", None, None),
    ],
)
def test_new_rows_are_measured_by_autovacuums_own_rule(
    database: Database, installation: Installation, options: str, vacuum: str, before_18: float | None, percent: float | None
) -> None:
    if installation.major < 13:
        assert status_of(watch(database, INSERTS), INSERTS) == "skipped"
        run_script(database, "CREATE TABLE t (id int)")
        assert "PostgreSQL 13" in watch(database, INSERTS)["checks"][-1]["message"]
        return
    run_script(database, f"CREATE TABLE t (id int) {options}; INSERT INTO t SELECT generate_series(1, 10000)")
    counted(database, "t", tuples_inserted=10000)
    run_script(database, f"{vacuum} t")
    run_script(database, "INSERT INTO t SELECT generate_series(1, 3000)")
    counted(database, "t", ins_since_vacuum=3000)
    found = metric(database, f"{INSERTS}[public.t]")
    if installation.major >= 18 and percent is None and before_18:
        # A VACUUM that need not freeze may do so all the same.
        frozen = database.query("SELECT relallfrozen::float8 / relpages FROM pg_class WHERE relname = 't'")[0][0]
        percent = round(100 * 3000 / (1000 + 2000 * (1 - frozen)), 1)
    assert found == (percent if installation.major >= 18 else before_18)


# --- never, and switched off --------------------------------------------------------------------------------------------


def test_tables_that_nobody_has_looked_at(database: Database) -> None:
    run_script(database, 'CREATE TABLE "Big.one" AS SELECT generate_series(1, 20000); CREATE TABLE small AS SELECT generate_series(1, 20)')
    eventually(lambda: metric(database, 'vac.never[public."Big.one"]') == 20000)
    result = watch(database, "vac.never")
    (found,) = result["findings"]
    assert (found["severity"], found["value"], result["metrics"]["vac.never[public.small]"]) == ("warning", 20000, 20)
    run_script(database, "ANALYZE")
    eventually(lambda: not watch(database, "vac.never")["findings"])


@pytest.fixture(scope="module")
def awake(installation: Installation) -> Iterator[Cluster]:
    """A server whose autovacuum is on and asleep."""
    with Cluster(installation, settings={"autovacuum_naptime": "20 d"}) as own:
        yield own


def test_autovacuum_switched_off(awake: Cluster) -> None:
    with Database.create(awake, "off") as database:
        run_script(
            database,
            """CREATE TABLE calm (id int, body text) WITH (autovacuum_enabled = true, toast.autovacuum_enabled = yes);
            CREATE TABLE a (id int, body text) WITH (autovacuum_enabled = OFF);
            CREATE TABLE "B.2" (id int, body text) WITH (toast.autovacuum_enabled = 0);
            CREATE TABLE c (id int) WITH (autovacuum_enabled = fa);
            CREATE MATERIALIZED VIEW m WITH (autovacuum_enabled = n) AS SELECT 1""",
        )
        result = watch(database, "vac.disabled")
        assert {(found["object"], found["severity"]) for found in result["findings"]} == {
            (name, "warning") for name in ("public.a", 'public."B.2" (TOAST)', "public.c", "public.m")
        }
        for found in result["findings"]:
            for statement in statements_in(found["action"]):
                run_script(database, statement)
        assert status_of(watch(database, "vac.disabled"), "vac.disabled") == "ok"


def test_autovacuum_switched_off_for_the_server(database: Database) -> None:
    (found,) = watch(database, "vac.disabled")["findings"]
    assert (found["severity"], found["object"]) == ("critical", "")
    assert "against wraparound" in found["message"]
    assert "ALTER SYSTEM SET autovacuum = on" in found["action"]


LOADED = "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 20000)"
DAYS = 86400.0


def late_at(database: Database, check: str, kept: dict[str, Any] | None, **limits: float) -> tuple[Any, Any]:
    """Return what a check reads of the table, the run before having kept this, and what it keeps."""
    known = _health.CHECKS[check]
    history = earlier(kept={check: kept} if kept is not None else {})
    with connect(options(database), application_name="pgops.runbook/pg_health", read_only=True) as session:
        seen = Look(session, None, history=history)
        bounds = Limits(**{"warning": 200, "critical": 500, "minimum": 100, **limits})
        (reading,) = [each for each in known.run(seen, bounds) if each.object_name == "public.t"]
    status = reading.status or judge(known, bounds, reading.amount)[0]
    return (status, reading.message), seen.kept[check]


@pytest.mark.parametrize("check", [OVERDUE, INSERTS, "vac.never"])
def test_what_has_just_come_is_not_critical(awake: Cluster, check: str) -> None:
    if check == INSERTS and awake.installation.major < 13:
        pytest.skip("there is no such rule before PostgreSQL 13")
    with Database.create(awake, "fresh") as database:
        run_script(database, LOADED)
        counted(database, "t", tuples_inserted=20000)
        if check == OVERDUE:
            run_script(database, "VACUUM ANALYZE t")
            run_script(database, "DELETE FROM t; ALTER TABLE t SET (autovacuum_vacuum_scale_factor = 0)")
            counted(database, "t", dead_tuples=20000)
        (status, message), kept = late_at(database, check, None)
        assert (status, "autovacuum may be on its way (autovacuum_naptime is 20 d" in message) == ("warning", True)
        (name,) = kept
        assert name == "public.t"
        # It sleeps for 20 days here: after twice that it should have come.
        now = kept[name]
        later = {"public.t": now + 1 - 41 * DAYS}
        (status, message), again = late_at(database, check, later)
        first = "warning" if check == OVERDUE else "critical"
        # It was vacuumed meanwhile, where rows are dead here.
        assert (status, "on its way" in message) == (first, check == OVERDUE)
        assert (again == later) is (check != OVERDUE)
        assert late_at(database, check, {"public.t": now - 39 * DAYS})[0][0] == "warning"
        assert late_at(database, check, {"public.t": "?"})[0][0] == "warning"
        assert late_at(database, check, later, warning=1e9, critical=2e9) == (("ok", message.partition("; autovacuum may")[0]), {})
        # Where it never comes there is nothing to wait for.
        run_script(database, "ALTER TABLE t SET (autovacuum_enabled = off)")
        (status, message), _kept = late_at(database, check, None)
        assert (status, "on its way" in message) == ("critical", False)


# --- ages ---------------------------------------------------------------------------------------------------------------


def test_the_age_of_the_last_vacuum(database: Database) -> None:
    run_script(database, "CREATE TABLE t AS SELECT generate_series(1, 200) AS id; CREATE TABLE u AS SELECT generate_series(1, 200) AS id")
    counted(database, "u", live_tuples=200)
    run_script(database, "ANALYZE t")
    eventually(lambda: "public.t: last analyzed" in str(watch(database, "table.vacuum_age")["checks"][-1]["message"]))
    result = watch(database, "table.vacuum_age", thresholds={"table.vacuum_age": {"minimum": 100, "critical": "0.5 s"}})
    assert result["metrics"]["table.vacuum_age[public.t]"] < 60
    # Nobody has looked at it since the counters began, which they did with the server.
    assert finding(result, "table.vacuum_age[public.u]")["severity"] == "critical"
    assert "neither vacuumed nor analyzed since" in finding(result, "table.vacuum_age[public.u]")["message"]
    rows = {row["table"]: row for row in result["details"]["vacuums"]}
    assert datetime.fromisoformat(rows["public.t"]["analyzed_at"]) <= datetime.fromisoformat(result["time"])
    assert rows["public.u"]["vacuumed_at"] is None


# --- what is not known --------------------------------------------------------------------------------------------------

OF_COUNTERS = ["table.dead_rows", "table.dead_pct", OVERDUE, INSERTS, "vac.never", "table.vacuum_age"]


def test_counters_zeroed_by_a_crash_are_unknown_and_never_zero(installation: Installation) -> None:
    with Cluster(installation, settings={"autovacuum": "off"}) as own, Database.create(own, "shop") as database:
        run_script(
            database,
            """CREATE SCHEMA "Web App"; CREATE TABLE "Web App"."Tok%ens.v2" AS SELECT generate_series(1, 1000) AS id; ANALYZE;
            CREATE TABLE loaded AS SELECT generate_series(1, 20000) AS id; CREATE TABLE empty (id int);
            DELETE FROM "Web App"."Tok%ens.v2" WHERE id < 900; CHECKPOINT""",
        )
        checks = [check for check in OF_COUNTERS if check != INSERTS or installation.major >= 13]
        before = database.query("SELECT stats_reset FROM pg_stat_bgwriter")
        with own.connect() as victim:
            own.kill_session(victim.info.backend_pid)
        assert database.query("SELECT stats_reset FROM pg_stat_bgwriter") != before
        result = watch(database, *checks)
        assert set(result["unknown"]) == set(checks)
        # Said once; and of what is not known there is no number.
        (found,) = result["findings"]
        assert "2 tables were lost" in found["message"]
        assert "loaded" in found["message"]
        assert HOSTILE in found["message"]
        assert "empty" not in found["message"]
        assert not [name for name in result["metrics"] if "loaded" in name or "Tok" in name]
        for check in checks:
            assert [each["check"] for each in watch(database, check)["findings"]] == [check]
        for statement in statements_in(found["action"]):
            run_script(database, statement)
        eventually(lambda: not watch(database, *checks, thresholds={OVERDUE: {"warning": None, "critical": None}})["findings"])
        # ANALYZE counts dead rows, too.
        assert metric(database, f"table.dead_rows[{HOSTILE}]") == 899
        run_script(database, "ALTER SYSTEM SET track_counts = off")
        run_script(database, "SELECT pg_reload_conf()")
        eventually(lambda: len(watch(database, *checks)["unknown"]) == len(checks))
        assert ["track_counts" in each["message"] for each in watch(database, *checks)["findings"]] == [True]
        assert finding(watch(database, "vac.disabled"), "vac.disabled")["severity"] == "critical"


def test_a_table_that_is_locked_while_it_is_measured_hides_no_other(database: Database) -> None:
    run_script(database, "CREATE TABLE a (id int); CREATE TABLE b (id int)")
    with database.connect() as holder:
        holder.execute("BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE")
        assert watch(database, "vac.never")["findings"] == []


def test_a_standby_is_skipped(database: Database, cluster: Cluster, standby: Cluster) -> None:
    run_script(database, "CREATE TABLE t AS SELECT generate_series(1, 20000)")
    cluster.wait_for(standby)
    result = watch(database, *OF_COUNTERS, "vac.disabled", cluster=standby)
    for check in [*OF_COUNTERS, "vac.disabled"]:
        assert status_of(result, check) == "skipped"
        assert "ask the primary" in next(each["message"] for each in result["checks"] if each["id"] == check)


def test_any_role_may_ask_and_one_statement_answers_all(database: Database) -> None:
    run_script(database, "CREATE TABLE t AS SELECT generate_series(1, 20000) AS id; ANALYZE")
    login = create_role(database.cluster, "nobody at all")
    try:
        one, all_of_them = (watch(database, *checks, login=login) for checks in (["vac.never"], OF_COUNTERS))
        assert (all_of_them["unknown"], all_of_them["round_trips"]) == ([], one["round_trips"])
    finally:
        drop_role(database.cluster, database, "nobody at all")
