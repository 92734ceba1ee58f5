"""Every health check on a real server: green where all is well, and not green in the situation that it is for."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.children import until
from tests.integration.leaving import ended
from tests.integration.watching import NOW, SYSTEM, ago, ahead, eventually, finding, look, run_script, status_of, stock


@pytest.fixture
def shop(database: Database) -> Database:
    """The small system with nothing wrong in it."""
    stock(database)
    return database


@pytest.mark.parametrize("hidden", ["psycopg", "psycopg2"])
def test_nothing_is_wrong(shop: Database, hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, hidden, None)
    result = look(shop)
    assert result["findings"] == []
    assert (result["status"], result["exit_code"], result["unknown"]) == ("ok", 0, [])
    assert result["server"]["driver"] == ({"psycopg", "psycopg2"} - {hidden}).pop()
    skipped = {check["id"] for check in result["checks"] if check["status"] == "skipped"}
    assert skipped == {"size.growth", "cache.hit_pct"}
    assert result["metrics"]["token.issued_last_hour[wall]"] == 60
    assert result["metrics"]["token.issued_last_hour[epoch]"] == 60
    assert result["metrics"]["token.revoked_last_hour[wall]"] == 0


REVOKE = f"""
INSERT INTO vault.denied SELECT id, {ago("10 min")}, expires_at FROM vault.tokens
WHERE id NOT IN (SELECT id FROM vault.denied) ORDER BY issued_at DESC LIMIT """
NOTHING_ISSUED = f"DELETE FROM vault.tokens WHERE issued_at > {ago('1 h')};"
ONE_REVOKED = f"INSERT INTO vault.denied SELECT md5('x')::uuid, {NOW}, {NOW}"

# What is done, to which check, the key of the finding, its severity, and words of its message.
SITUATIONS = [
    ("DROP TABLE vault.logins", "schema.present[vault.logins]", "critical", "does not exist"),
    ("DROP VIEW vault.overview", "schema.present[vault.overview]", "critical", "does not exist"),
    ("ALTER TABLE vault.denied DROP expires_at", "schema.present[vault.denied.expires_at]", "critical", "expires_at does not exist"),
    ('DROP SCHEMA "Web App" CASCADE', "schema.present[Web App]", "critical", "schema does not exist"),
    ("DROP SCHEMA bare", "schema.present[bare]", "critical", "schema does not exist"),
    ("DROP VIEW vault.overview; CREATE SEQUENCE vault.overview", "schema.present[vault.overview]", "critical", "sequence"),
    (REVOKE + "25", "token.revocation_rate[wall]", "warning", "25 revoked and 60 issued"),
    (REVOKE + "40", "token.revocation_rate[wall]", "critical", "66.67 %"),
    (
        'UPDATE "Web App"."Tok%ens.v2" SET "Revoked At" = now() - interval \'59 min\''
        ' WHERE iat > (SELECT max(iat) FROM "Web App"."Tok%ens.v2") - 1480000',
        "token.revocation_rate[epoch]",
        "warning",
        "30 revoked",
    ),
    (NOTHING_ISSUED + ONE_REVOKED, "token.revocation_rate[wall]", "warning", "1 revoked and 0 issued"),
    (
        f"INSERT INTO vault.denied SELECT md5('a')::uuid, {NOW}, {ahead('1 h')};"
        f"INSERT INTO vault.denied SELECT md5('b')::uuid, {NOW}, NULL;"
        # Past its expiry, but not by more than clocks may differ.
        f"INSERT INTO vault.denied SELECT md5('c')::uuid, {NOW}, {ago('2 min')};"
        f"INSERT INTO vault.denied SELECT md5('d')::uuid, {NOW}, {ago('10 min')}",
        "token.orphaned_deny[wall]",
        "warning",
        "4 deny rows without metadata: 3 of tokens still alive, which must stay, and 1 already expired",
    ),
    (
        f"INSERT INTO vault.tokens SELECT md5('f')::uuid, {ahead('6 min')}, NULL",
        "token.future_issued[wall]",
        "warning",
        "1 token dated ahead",
    ),
    (
        'INSERT INTO "Web App"."Tok%ens.v2" SELECT \'x\', (extract(epoch FROM now()) + 360) * 1000, 1',
        "token.future_issued[epoch]",
        "warning",
        "1 token dated ahead",
    ),
    (
        'INSERT INTO "Web App"."Tok%ens.v2" SELECT * FROM "Web App"."Tok%ens.v2" LIMIT 2',
        "token.duplicate_ids[epoch]",
        "warning",
        "2 token ids more than once, in 4 rows",
    ),
    (
        "ALTER TABLE vault.tokens DROP CONSTRAINT tokens_pkey; INSERT INTO vault.tokens SELECT * FROM vault.tokens LIMIT 1",
        "token.duplicate_ids[wall]",
        "warning",
        "1 token id more",
    ),
    (
        f"INSERT INTO vault.logins SELECT 'old', {ago('61 min')}",
        "login.stuck[vault.logins]",
        "warning",
        "1 login pending for more than 1 h",
    ),
    (
        f"INSERT INTO vault.logins SELECT n, {NOW} FROM generate_series(1, 100) AS n",
        "login.pending[vault.logins]",
        "warning",
        "101 logins pending",
    ),
]


@pytest.mark.parametrize(("script", "key", "severity", "words"), SITUATIONS, ids=[f"{each[1]} {each[2]}" for each in SITUATIONS])
def test_a_situation_is_found(shop: Database, script: str, key: str, severity: str, words: str) -> None:
    run_script(shop, script)
    result = look(shop)
    found = finding(result, key)
    assert found["severity"] == severity
    assert words in found["message"]
    assert found["action"]
    assert result["status"] in ("warning", "critical")
    assert key in result["summary"]


def test_an_hour_in_which_nothing_happened_is_skipped(shop: Database) -> None:
    run_script(shop, f"{NOTHING_ISSUED} DELETE FROM vault.denied")
    result = look(shop, "hourly", system={**SYSTEM, "token_stores": SYSTEM["token_stores"][:1]})
    check = next(check for check in result["checks"] if check["id"] == "token.revocation_rate")
    assert (check["status"], check["value"]) == ("skipped", None)
    assert "nothing issued and nothing revoked in the last hour" in check["message"]


def test_a_unique_index_says_nothing_about_children(shop: Database) -> None:
    run_script(
        shop,
        "CREATE TABLE vault.heirs () INHERITS (vault.tokens);"
        f"INSERT INTO vault.heirs SELECT md5('x')::uuid, {NOW}, NULL FROM generate_series(1, 3)",
    )
    assert "1 token id more than once, in 3 rows" in finding(look(shop), "token.duplicate_ids[wall]")["message"]


@pytest.mark.parametrize(("index", "proof"), [("ON vault.tokens", True), ("ON ONLY vault.tokens", False), ("ON vault.tokens_part", False)])
def test_a_unique_index_on_the_partitioned_parent_is_proof(shop: Database, index: str, proof: bool) -> None:
    run_script(
        shop,
        "DROP TABLE vault.tokens; CREATE TABLE vault.tokens (id uuid, issued_at timestamp, expires_at timestamp) PARTITION BY HASH (id);"
        "CREATE TABLE vault.tokens_part PARTITION OF vault.tokens FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
        f"CREATE UNIQUE INDEX {index} (id)",
    )
    result = look(shop, checks=["token.duplicate_ids"])
    message = next(check["message"] for check in result["checks"] if check["id"] == "token.duplicate_ids")
    assert ("wall: the unique index" in message) is proof


@pytest.mark.parametrize(("deny", "token"), [("text", "uuid"), ("uuid", "varchar(60)"), ("uuid", "char(40)")])
def test_ids_are_compared_as_what_they_mean(shop: Database, deny: str, token: str) -> None:
    written = "upper(replace(id::text, '-', ''))" if deny == "text" else "id::text"
    run_script(
        shop,
        f"ALTER TABLE vault.denied ALTER id TYPE {deny} USING {written}::{deny};"
        f"ALTER TABLE vault.tokens ALTER id TYPE {token} USING id::text::{token};",
    )
    assert status_of(look(shop), "token.orphaned_deny") == "ok"
    run_script(shop, f"INSERT INTO vault.denied SELECT md5('a')::uuid::text::{deny}, {NOW}, {ahead('1 h')}")
    assert "1 deny row without metadata" in finding(look(shop), "token.orphaned_deny[wall]")["message"]


def test_ids_that_cannot_be_compared_are_unknown_with_their_types(shop: Database) -> None:
    run_script(shop, "ALTER TABLE vault.denied ALTER id TYPE bigint USING 1")
    found = finding(look(shop), "token.orphaned_deny[wall]")
    assert found["severity"] == "unknown"
    assert "vault.denied.id is of type bigint and vault.tokens.id is of type uuid" in found["message"]
    assert "operator" not in found["message"]


def test_an_integer_too_large_for_a_time_is_no_error(shop: Database) -> None:
    run_script(shop, 'INSERT INTO "Web App"."Tok%ens.v2" SELECT \'far\', 9223372036854775807, 1')
    assert "1 token dated ahead" in finding(look(shop), "token.future_issued[epoch]")["message"]
    flow = {"table": "vault.logins", "id": "state", "created_at": {"column": "created_at", "unit": "ms"}, "timeout": "15 min"}
    run_script(shop, "ALTER TABLE vault.logins ALTER created_at TYPE bigint USING -9223372036854775808")
    system = {**SYSTEM, "login_flows": [flow], "retention": {}, "schema": {}}
    found = finding(look(shop, system=system), "login.stuck[vault.logins]")
    assert found["severity"] == "warning"


def test_a_date_is_over_when_its_day_has_ended(shop: Database) -> None:
    run_script(shop, "ALTER TABLE vault.logins ALTER created_at TYPE date")
    run_script(shop, f"UPDATE vault.logins SET created_at = ({NOW})::date")
    assert status_of(look(shop), "login.stuck") == "ok"
    run_script(shop, f"UPDATE vault.logins SET created_at = ({NOW} - interval '25 h')::date")
    assert status_of(look(shop), "login.stuck") == "warning"


def test_a_date_says_nothing_about_the_last_hour(shop: Database) -> None:
    run_script(shop, "ALTER TABLE vault.denied ALTER denied_at TYPE date")
    result = look(shop, system={**SYSTEM, "token_stores": SYSTEM["token_stores"][:1]})
    check = next(check for check in result["checks"] if check["id"] == "token.revocation_rate")
    assert (check["status"], "is a date" in check["message"]) == ("skipped", True)


def test_just_within_is_no_finding(shop: Database) -> None:
    run_script(
        shop,
        f"""INSERT INTO vault.tokens SELECT md5('f')::uuid, {ahead("4 min")}, NULL;
        INSERT INTO vault.logins SELECT 'old', {ago("59 min")};
        INSERT INTO vault.logins SELECT n, {NOW} FROM generate_series(1, 98) AS n;
        {REVOKE} 19""",
    )
    assert look(shop)["findings"] == []


def test_few_revocations_are_judged_where_the_minimum_says_so(shop: Database) -> None:
    run_script(shop, REVOKE + "19")
    assert status_of(look(shop), "token.revocation_rate") == "ok"
    thresholds = {"token.revocation_rate": {"minimum": 10, "critical": 30}}
    found = finding(look(shop, thresholds=thresholds), "token.revocation_rate[wall]")
    assert (found["severity"], found["value"], found["threshold"], found["threshold_source"]) == ("critical", 31.67, 30, "call")


def test_a_flow_is_stuck_after_its_own_timeout_where_that_is_longer(shop: Database) -> None:
    run_script(shop, f"INSERT INTO vault.logins SELECT 'old', {ago('61 min')}")
    patient = {**SYSTEM, "login_flows": [{**SYSTEM["login_flows"][0], "timeout": "2 h"}]}
    assert status_of(look(shop, system=patient), "login.stuck") == "ok"
    run_script(shop, f"INSERT INTO vault.logins SELECT 'older', {ago('121 min')}")
    assert status_of(look(shop, system=patient), "login.stuck") == "warning"


def test_the_action_and_threshold_of_the_system_are_used(shop: Database) -> None:
    run_script(shop, f"INSERT INTO vault.logins SELECT n, {NOW} FROM generate_series(1, 10) AS n")
    own = {**SYSTEM, "thresholds": {"login.pending": {"warning": 5, "critical": 10, "action": "Call the provider."}}}
    found = finding(look(shop, system=own), "login.pending[vault.logins]")
    assert (found["severity"], found["warning"], found["critical"]) == ("critical", 5, 10)
    assert (found["threshold"], found["threshold_source"], found["action"]) == (10, "system", "Call the provider.")
    found = finding(look(shop, system=own, thresholds={"login.pending": {"critical": None}}), "login.pending[vault.logins]")
    assert (found["severity"], found["critical"]) == ("warning", None)


@pytest.mark.parametrize(
    ("check", "limits"),
    [
        ("conn.active", {"warning": 1, "critical": 2}),
        ("conn.used_pct", {"warning": 1, "critical": 2}),
        ("size.database", {"warning": "1 kB", "critical": "1 MB"}),
        ("cache.hit_pct", {"warning": 100.5, "critical": 100.4, "minimum": 1}),
    ],
)
def test_a_number_beyond_its_threshold_is_found(shop: Database, check: str, limits: dict[str, Any]) -> None:
    with shop.connect(), shop.connect(), shop.connect():
        assert finding(look(shop, thresholds={check: limits}), check)["severity"] == "critical"
        lenient = {"warning": "50%" if check.endswith("pct") else "50 TB" if check.startswith("size") else 5000, "critical": None}
        within = {**lenient, **({"warning": 0, "minimum": 1} if check == "cache.hit_pct" else {})}
        assert status_of(look(shop, thresholds={check: within}), check) == "ok"


def test_connections_are_counted_over_all_databases(shop: Database, cluster: Cluster) -> None:
    ended(cluster)
    before = look(shop, "hourly")["metrics"]["conn.active"]
    with cluster.connect("template1"), cluster.connect("postgres"):
        ended(cluster)
        assert look(shop, "hourly")["metrics"]["conn.active"] == before + 2


def test_a_small_sample_of_the_cache_is_skipped(shop: Database) -> None:
    result = look(shop, thresholds={"cache.hit_pct": {"minimum": 10**9}})
    assert status_of(result, "cache.hit_pct") == "skipped"
    assert "insufficient sample" in next(check["message"] for check in result["checks"] if check["id"] == "cache.hit_pct")


def test_dead_rows(shop: Database) -> None:
    run_script(shop, "ALTER TABLE vault.flagged SET (autovacuum_enabled = off)")
    with shop.connect() as writer:
        writer.execute("UPDATE vault.flagged SET revoked = true")
    # Nothing else may run: a scan prunes pages, and dead rows with them.
    only: dict[str, Any] = {"checks": ["table.dead_rows"], "thresholds": {"table.dead_rows": {"warning": 100, "critical": 1000}}}
    eventually(lambda: bool(look(shop, **only)["metrics"]["table.dead_rows[vault.flagged]"] == 120))
    found = finding(look(shop, **only), "table.dead_rows[vault.flagged]")
    assert (found["severity"], found["value"]) == ("warning", 120)
    assert "50 %" in found["message"]
    assert status_of(look(shop), "table.dead_rows") == "ok"


def test_dead_rows_of_every_schema_where_no_system_is_given(shop: Database) -> None:
    names = [name for name in look(shop, system=None)["metrics"] if name.startswith("table.dead_rows")]
    assert 'table.dead_rows[Web App."Tok%ens.v2"]' in names
    assert not [name for name in names if "pg_catalog" in name]


# --- statements ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def running(shop: Database) -> Iterator[Callable[..., None]]:
    """A function `(statement, **connection parameters)` that leaves a statement running; it ends with the test."""
    import threading

    sessions = []

    def start(statement: str, **parameters: Any) -> None:
        session = shop.connect(**parameters)
        thread = threading.Thread(target=_ignoring_cancel, args=(session, statement), daemon=True)
        thread.start()
        sessions.append((session, thread))
        with shop.connect() as watcher:
            state = "SELECT state FROM pg_stat_activity WHERE pid = %s"
            until(lambda: watcher.execute(state, [session.info.backend_pid]).fetchone() == ("active",))

    yield start
    for session, thread in sessions:
        session.cancel()
        thread.join(60)
        session.close()


def _ignoring_cancel(session: Any, statement: str) -> None:
    import psycopg

    try:
        session.execute(statement)
    except psycopg.errors.QueryCanceled:
        session.rollback()


SHORT = {"query.longest": {"warning": "100 ms", "critical": "1 h"}}


def test_a_long_statement_is_found_and_not_shown(shop: Database, running: Callable[..., None]) -> None:
    running("SELECT pg_sleep(600), 'token-that-nobody-may-see'", application_name="slow app")
    with shop.connect() as pause:
        pause.execute("SELECT pg_sleep(0.15)")
    result = look(shop, "hourly", thresholds=SHORT)
    found = finding(result, "query.longest")
    assert found["severity"] == "warning"
    assert found["value"] > 0.1
    assert "slow app" in found["message"]
    assert "token-that-nobody-may-see" not in str(result)
    assert status_of(look(shop, "hourly"), "query.longest") == "ok"


@pytest.mark.parametrize("name", ["pg_dump", "pgBackRest [backup]", "pgops.runbook/pg_cleanup/17"])
def test_statements_that_are_long_by_nature_do_not_count(shop: Database, running: Callable[..., None], name: str) -> None:
    running("SELECT pg_sleep(600)", application_name=name)
    with shop.connect() as pause:
        pause.execute("SELECT pg_sleep(0.15)")
    assert status_of(look(shop, "hourly", thresholds=SHORT), "query.longest") == "ok"


def test_an_application_whose_name_only_looks_like_a_dump_counts(shop: Database, running: Callable[..., None]) -> None:
    running("SELECT pg_sleep(600)", application_name="pgXdump")
    with shop.connect() as pause:
        pause.execute("SELECT pg_sleep(0.15)")
    assert status_of(look(shop, "hourly", thresholds=SHORT), "query.longest") == "warning"


def test_the_last_statement_of_an_idle_session_does_not_count(shop: Database) -> None:
    with shop.connect() as idle, shop.connect() as pause:
        idle.execute("BEGIN; SELECT 1")
        pause.execute("SELECT pg_sleep(0.15)")
        result = look(shop, "hourly", thresholds=SHORT)
    assert status_of(result, "query.longest") == "ok"
    assert result["metrics"]["conn.states[idle in transaction]"] == 1


def test_a_session_that_does_not_tell_its_state_is_not_ok(shop: Database) -> None:
    with shop.connect(options="-c track_activities=off"):
        result = look(shop, "hourly")
    assert finding(result, "query.longest")["severity"] == "unknown"
    assert "track_activities" in finding(result, "conn.states")["action"]
    # Their number is known all the same.
    assert status_of(result, "conn.used_pct") == "ok"


# --- zones --------------------------------------------------------------------------------------------------------------

TRAFFIC = """
TRUNCATE vault.tokens, vault.denied;
INSERT INTO vault.tokens SELECT md5(n::text)::uuid, (now() - n * interval '1 min' - interval '{lag} min') AT TIME ZONE '{zone}', NULL
FROM generate_series(0, 600) AS n;
"""
AHEAD = "token.zone_ahead[vault.tokens.issued_at]"


UTC_SHOP = {**SYSTEM, "time_zone": "UTC", "login_flows": [], "retention": {}}


@pytest.mark.parametrize(
    ("zone", "words"), [("Europe/Tallinn", "as Europe/Tallinn"), ("Asia/Kolkata", "5.5 h ahead"), ("Asia/Kolkata", "UTC+05:30")]
)
def test_a_clock_of_another_zone_is_found(shop: Database, zone: str, words: str) -> None:
    run_script(shop, TRAFFIC.format(lag=2, zone=zone))
    found = finding(look(shop, system=UTC_SHOP), AHEAD)
    assert found["severity"] == "warning"
    assert "declared zone UTC" in found["message"]
    assert words in found["message"]


def test_a_clock_that_no_half_hour_explains_is_not_judged(shop: Database) -> None:
    run_script(shop, TRAFFIC.format(lag=2, zone="Asia/Kathmandu"))
    result = look(shop, system=UTC_SHOP)
    assert finding(result, AHEAD)["severity"] == "unknown"
    assert status_of(result, "token.future_issued") == "warning"


def test_a_clock_of_the_declared_zone_is_right(shop: Database) -> None:
    run_script(shop, TRAFFIC.format(lag=2, zone="UTC"))
    assert status_of(look(shop, system=UTC_SHOP), "token.zone_ahead") == "ok"


def zone_message(result: dict[str, Any]) -> str:
    """Return what the check of the zones says."""
    return str(next(check["message"] for check in result["checks"] if check["id"] == "token.zone_ahead"))


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        ("America/New_York", r"(4|5) h behind .* a zone at UTC-0(4|5):00"),
        ("America/St_Johns", r"(2|3).5 h behind .* a zone at UTC-0(2|3):30"),
    ],
)
def test_a_clock_that_may_be_behind_is_unknown(shop: Database, zone: str, words: str) -> None:
    run_script(shop, TRAFFIC.format(lag=2, zone=zone))
    found = finding(look(shop, system=UTC_SHOP), AHEAD)
    assert found["severity"] == "unknown"
    assert re.search(words, found["message"])
    # A service that was idle for just so long looks the same.
    assert "nothing was written" in found["message"]
    assert "a row that was just written" in found["action"]


@pytest.mark.parametrize("lag", [12, 45, 3000])
def test_an_idle_service_is_not_said_to_agree(shop: Database, lag: int) -> None:
    run_script(shop, TRAFFIC.format(lag=lag, zone="UTC"))
    result = look(shop, system=UTC_SHOP)
    assert status_of(result, "token.zone_ahead") == "skipped"
    assert "no row of the last 10 min" in zone_message(result)


def test_an_empty_table_is_not_said_to_agree(shop: Database) -> None:
    run_script(shop, "TRUNCATE vault.tokens, vault.denied")
    result = look(shop, system=UTC_SHOP)
    assert status_of(result, "token.zone_ahead") == "skipped"
    assert "no row of the last 10 min" in zone_message(result)


def test_rows_ahead_on_an_idle_store_name_no_zone(shop: Database) -> None:
    run_script(
        shop,
        "TRUNCATE vault.tokens, vault.denied;"
        "INSERT INTO vault.tokens SELECT md5(n::text)::uuid, now() AT TIME ZONE 'UTC' + interval '89 min', NULL"
        " FROM generate_series(1, 3) AS n",
    )
    result = look(shop, system=UTC_SHOP)
    found = finding(result, AHEAD)
    assert found["severity"] == "unknown"
    assert "would fit" not in found["message"]
    assert status_of(result, "token.future_issued") == "warning"


def test_a_few_tokens_dated_ahead_are_not_a_zone(shop: Database) -> None:
    run_script(
        shop, f"INSERT INTO vault.tokens SELECT md5(n::text)::uuid, {NOW} + n * interval '58 min', NULL FROM generate_series(1, 5) AS n"
    )
    result = look(shop)
    assert status_of(result, "token.zone_ahead") == "ok"
    assert finding(result, "token.future_issued[wall]")["value"] == 5


# --- sizes --------------------------------------------------------------------------------------------------------------


def table(result: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what a result says of one table."""
    return next(each for each in result["tables"] if each["table"] == name)


def test_rows_are_estimated_and_said_to_be(shop: Database) -> None:
    run_script(shop, "INSERT INTO vault.people SELECT 1 FROM generate_series(1, 50)")
    result = look(shop)
    assert table(result, "vault.tokens")["rows_is_estimate"] is True
    assert table(result, "vault.tokens")["rows"] == 120
    # The partitions added up, as the last ANALYZE counted them.
    people = table(result, "vault.people")
    assert (people["rows"], people["rows_is_estimate"]) == (150, True)
    assert people["bytes"] >= 16384
    exact = look(shop, exact_counts=True)
    assert table(exact, "vault.people")["rows"] == 200
    assert all(each["rows_is_estimate"] is False for each in exact["tables"])


def test_a_table_never_counted_is_counted_if_it_is_small(shop: Database) -> None:
    run_script(shop, "CREATE TABLE vault.extra (id int); INSERT INTO vault.extra VALUES (1), (2); DROP TABLE vault.flagged;")
    run_script(shop, "CREATE TABLE vault.flagged (id int PRIMARY KEY, issued_at timestamptz, revoked boolean)")
    entry = table(look(shop), "vault.flagged")
    assert (entry["rows"], entry["rows_is_estimate"]) == (0, False)


def test_a_table_never_counted_is_unknown_if_it_is_large(shop: Database) -> None:
    run_script(shop, "DROP TABLE vault.flagged; CREATE TABLE vault.flagged (id int, issued_at timestamptz, revoked boolean, padding text)")
    run_script(shop, "ALTER TABLE vault.flagged SET (autovacuum_enabled = off)")
    run_script(
        shop, "INSERT INTO vault.flagged SELECT n, now() - interval '1 day', false, repeat('x', 900) FROM generate_series(1, 10000) AS n"
    )
    result = look(shop)
    found = finding(result, "size.rows[vault.flagged]")
    assert (found["severity"], found["value"], table(result, "vault.flagged")["rows"]) == ("unknown", None, None)
    assert "ANALYZE" in found["action"]
    run_script(shop, "ANALYZE vault.flagged")
    assert table(look(shop), "vault.flagged")["rows"] == 10000


def test_growth_needs_a_history(shop: Database) -> None:
    check = next(check for check in look(shop)["checks"] if check["id"] == "size.growth")
    assert (check["status"], check["message"]) == ("skipped", "no history is kept (see history_schema)")
