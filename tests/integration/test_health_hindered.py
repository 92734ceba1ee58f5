"""Locks, timeouts, faults, a crash, a standby, a connection that breaks: one check may suffer, the others answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.errors import ProgramMissing
from tests.ground.servers import Installation
from tests.integration.leaving import ended
from tests.integration.watching import SYSTEM, ZONE, eventually, finding, look, run_script, status_of, stock


@pytest.fixture
def shop(database: Database) -> Database:
    """The small system with nothing wrong in it."""
    stock(database)
    return database


def check_that(run: Any) -> Check:
    """Return a check of a test's own."""
    return Check(id="test.own", title="own", tier="hourly", looks_at="", action="", needs="", run=run)


# --- locks --------------------------------------------------------------------------------------------------------------


def assert_only_tokens_suffer(result: dict[str, Any]) -> None:
    """Every finding is about the store `wall`, whose tables are locked; the others have been read."""
    assert result["findings"]
    assert {found["severity"] for found in result["findings"]} == {"unknown"}
    assert {found["object"] for found in result["findings"]} <= {"wall", "vault.tokens.issued_at", "vault.tokens"}
    assert {found["sqlstate"] for found in result["findings"]} == {"55P03"}
    assert result["metrics"]["token.issued_last_hour[epoch]"] == 60
    assert result["metrics"]["login.pending[vault.logins]"] == 1


@pytest.mark.parametrize("tier", ["hourly", "daily"])
def test_an_exclusive_lock_stops_only_what_needs_the_table(shop: Database, tier: str) -> None:
    with shop.connect() as holder:
        holder.execute("BEGIN; LOCK TABLE vault.tokens IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        result = look(shop, tier, check_timeout="5 min")
        seconds = time.monotonic() - began
    assert_only_tokens_suffer(result)
    # Each statement that needs the table waits a tenth of a second.
    assert seconds < 60
    if tier == "daily":
        sizes = {each["table"]: each["bytes"] for each in result["tables"]}
        assert sizes.pop("vault.tokens") is None
        assert all(size is not None for size in sizes.values())


def test_an_exclusive_lock_that_is_only_queued_stops_no_more(shop: Database) -> None:
    def alter(session: psycopg.Connection[Any]) -> None:
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute("ALTER TABLE vault.tokens ADD waits int")

    with shop.connect() as reader, shop.connect() as waiter:
        reader.execute("BEGIN; SELECT count(*) FROM vault.tokens")
        thread = threading.Thread(target=alter, args=(waiter,))
        thread.start()
        with shop.connect() as watcher:
            eventually(lambda: watcher.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() != (0,))
        result = look(shop)
        waiter.cancel()
        thread.join(60)
    assert_only_tokens_suffer(result)


# --- time and faults ----------------------------------------------------------------------------------------------------


def test_a_check_that_takes_too_long_is_unknown_and_the_others_answer(shop: Database) -> None:
    run_script(
        shop,
        """DROP TABLE vault.flagged;
        CREATE VIEW vault.flagged AS SELECT 1 AS id, clock_timestamp() AS issued_at, false AS revoked FROM pg_sleep(600)""",
    )
    began = time.monotonic()
    result = look(shop, check_timeout="5 s")
    assert time.monotonic() - began < 120
    assert {found["key"] for found in result["findings"]} == {"token.future_issued[flag]", "token.duplicate_ids[flag]"}
    assert {(found["severity"], found["sqlstate"]) for found in result["findings"]} == {("unknown", "57014")}
    assert "check_timeout" in result["findings"][0]["action"]
    assert result["metrics"]["token.future_issued[wall]"] == 0


def test_a_fault_of_a_check_is_reported_and_the_others_answer(shop: Database) -> None:
    def broken(look: Any, limits: Limits) -> Iterable[Reading]:
        return {}["no such key"]  # type: ignore[no-any-return, index]

    result = look(shop, extra=[check_that(broken)])
    found = finding(result, "test.own")
    assert found["severity"] == "unknown"
    assert "KeyError" in found["message"]
    assert len(result["findings"]) == 1
    assert status_of(result, "token.orphaned_deny") == "ok"


def test_a_session_is_read_only(shop: Database) -> None:
    def write(look: Any, limits: Limits) -> Iterable[Reading]:
        return look.rows("CREATE TABLE vault.written (id int)")  # type: ignore[no-any-return]

    assert finding(look(shop, extra=[check_that(write)]), "test.own")["sqlstate"] == "25006"
    assert shop.query("SELECT to_regclass('vault.written')") == [(None,)]


def test_a_connection_that_breaks_is_critical(shop: Database) -> None:
    def end(look: Any, limits: Limits) -> Iterable[Reading]:
        return look.rows("SELECT pg_terminate_backend(pg_backend_pid())")  # type: ignore[no-any-return]

    result = look(shop, "hourly", extra=[check_that(end)])
    found = finding(result, "avail.connect")
    assert (found["severity"], found["layer"]) == ("critical", "session")
    assert "lost while the checks ran: FATAL: terminating connection due to administrator command" in found["message"]
    assert result["status"] == "critical"
    assert {check["status"] for check in result["checks"] if check["id"].startswith("token")} == {"unknown"}


def test_what_one_look_sees_is_not_kept_for_the_next(shop: Database) -> None:
    def count_twice(look: Any, limits: Limits) -> Iterable[Reading]:
        statement = "SELECT count(*) AS sessions FROM pg_stat_activity WHERE backend_type = 'client backend'"
        ended(shop.cluster)
        before = look.row(statement)["sessions"]
        with shop.connect():
            return [
                Reading(
                    "counted",
                    float(look.row(statement)["sessions"] - before),
                    metrics={"test.more": 1.0 * look.row(statement)["sessions"] - before},
                )
            ]

    assert look(shop, extra=[check_that(count_twice)])["metrics"]["test.more"] == 1


# --- servers ------------------------------------------------------------------------------------------------------------


def test_on_a_standby(shop: Database, cluster: Cluster, standby: Cluster) -> None:
    cluster.wait_for(standby)
    result = look(shop, cluster=standby)
    assert result["findings"] == []
    assert result["server"]["in_recovery"] is True
    assert result["metrics"]["avail.in_recovery"] == 1
    assert status_of(result, "avail.recovering") == "ok"
    # Rows are known there too, where n_live_tup is 0.
    assert {each["table"]: each["rows"] for each in result["tables"]}["vault.tokens"] == 120
    assert status_of(result, "table.dead_rows") == "skipped"
    assert result["metrics"]["token.issued_last_hour[wall]"] == 60


def test_a_server_that_takes_no_connections_yet_is_a_warning(installation: Installation) -> None:
    with Cluster(installation) as own:
        try:
            replica = own.standby()
        except ProgramMissing as reason:
            pytest.skip(str(reason))
        replica.stop()
        # It recovers for ever, and never lets anybody in.
        replica.settings["hot_standby"] = "off"
        replica.start()
        shop = Database(replica, "postgres")
        result = look(shop, system=None)
    assert result["status"] == "warning"
    assert finding(result, "avail.recovering")["layer"] == "starting_up"
    assert status_of(result, "avail.connect") == "skipped"


def test_counters_lost_by_a_crash_are_unknown(installation: Installation) -> None:
    with Cluster(installation, settings={"autovacuum": "off"}) as own:
        own.create_database("shop")
        shop = Database(own, "shop")
        stock(shop)
        run_script(shop, "UPDATE vault.flagged SET revoked = false; CHECKPOINT")
        own.crash()
        own.start()
        result = look(shop)
        found = finding(result, "table.dead_rows")
        assert (found["severity"], found["value"]) == ("unknown", None)
        assert "vault.flagged" in found["message"]
        # What VACUUM or ANALYZE counted is in the catalogue and has survived.
        assert {each["table"]: each["rows"] for each in result["tables"]}["vault.flagged"] == 120
        run_script(shop, "ANALYZE")
        eventually(lambda: look(shop)["findings"] == [])
        run_script(shop, "ALTER SYSTEM SET track_counts = off")
        own.restart()
        assert "track_counts" in finding(look(shop), "table.dead_rows")["message"]


def test_lost_counters_hide_no_table_that_is_known(installation: Installation) -> None:
    many = "".join(f"CREATE TABLE vault.lost{n} AS SELECT g FROM generate_series(1, 100) AS g; ANALYZE vault.lost{n};" for n in range(60))
    with Cluster(installation, settings={"autovacuum": "off"}) as own:
        own.create_database("shop")
        shop = Database(own, "shop")
        run_script(shop, f"CREATE SCHEMA vault; {many} CHECKPOINT")
        own.crash()
        own.start()
        run_script(shop, "CREATE TABLE vault.big AS SELECT g FROM generate_series(1, 3000) AS g; ANALYZE vault.big")
        run_script(shop, "DELETE FROM vault.big WHERE g < 2900")
        limits = {"table.dead_rows": {"critical": 1000}}
        system = {"name": "shop", "schemas": ["vault"]}
        only: dict[str, Any] = {"system": system, "checks": ["table.dead_rows"], "thresholds": limits}
        eventually(lambda: look(shop, **only)["metrics"].get("table.dead_rows[vault.big]") == 2899)
        result = look(shop, **only)
        assert finding(result, "table.dead_rows[vault.big]")["severity"] == "critical"
        assert "60 tables were lost" in finding(result, "table.dead_rows")["message"]


def test_what_is_sent_is_what_is_counted(installation: Installation) -> None:
    settings = {"log_statement": "all", "log_line_prefix": "%a|"}
    with Cluster(installation, settings=settings) as own:
        own.create_database("shop")
        shop = Database(own, "shop")
        stock(shop)
        without = {**SYSTEM, "token_stores": [], "login_flows": [], "retention": {}}
        for tier, most, system in (("hourly", 3, without), ("hourly", 10, SYSTEM), ("daily", 40, SYSTEM)):
            before = len(own.log.read_text(encoding="utf-8"))
            result = look(shop, tier, system=system)
            sent = own.log.read_text(encoding="utf-8")[before:].count("pgops.runbook/pg_health|LOG:  statement:")
            assert result["round_trips"] == sent
            assert 0 < sent <= most
            assert result["timing_ms"] >= sum(check["timing_ms"] for check in result["checks"]) - 1


def test_the_comparison_uses_the_index(shop: Database) -> None:
    from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
    from ansible_collections.pgops.runbook.plugins.module_utils._relation import look_up

    plans: list[str] = []

    def explain(look: Any, limits: Limits) -> Iterable[Reading]:
        from ansible_collections.pgops.runbook.plugins.module_utils._health.times import Moments

        name = RelationName("vault", "tokens")
        moments = Moments(look)
        time = {"column": "issued_at", "time_zone": ZONE, "unit": None}
        constant = moments.constant(look_up(look.database, [name])[name], time, look.ago(60))
        statement = look.sql.SQL("EXPLAIN SELECT count(*) FROM vault.tokens WHERE issued_at > {}").format(constant)
        plans.extend(row["QUERY PLAN"] for row in look.rows(statement, moments.parameters))
        return [Reading("explained")]

    run_script(
        shop,
        "INSERT INTO vault.tokens SELECT md5(n::text)::uuid, timestamp '2001-01-01', NULL FROM generate_series(1, 20000) AS n; ANALYZE",
    )
    result = look(shop, "hourly", extra=[check_that(explain)])
    assert status_of(result, "test.own") == "ok"
    assert "Index" in " ".join(plans)
    # The moment is one constant by the time that the plan is made: no function of the session's zone is left in it.
    assert "timezone" not in " ".join(plans)
