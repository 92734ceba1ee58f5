"""What a hostile review of the checks has found: greens that were none, alarms about nothing, and one lock that stopped the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._health import engine
from ansible_collections.pgops.runbook.plugins.module_utils._health.history import file_store
from ansible_collections.pgops.runbook.plugins.module_utils._wal_position import wal_bytes
from ansible_collections.pgops.runbook.plugins.plugin_utils import _report_nagios, _report_page, _routing
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.remembering import Reading, Runs, bad, in_file, resolved, unseen
from tests.integration.replicating import caught_up, flushed, looked, receiving, standby_of, write
from tests.integration.watching import create_role, eventually, finding, look, run_script, status_of

pytestmark = pytest.mark.any_driver


@pytest.fixture(scope="module")
def server(installation: Installation) -> Iterator[Cluster]:
    """A server with the roles that run checks, on which transactions may be prepared."""
    with Cluster(installation, settings={"autovacuum": "off", "wal_level": "logical", "max_prepared_transactions": 5}) as made:
        create_role(made, "plain")
        yield made


@pytest.fixture
def made(server: Cluster) -> Iterator[Database]:
    """An empty database of the server."""
    with Database.create(server, "reviewed") as database:
        yield database


# --- greens that were none ----------------------------------------------------------------------------------------------


def test_a_slot_of_the_primary_before_is_seen_once_its_standby_is_promoted(installation: Installation) -> None:
    if installation.major < 17:
        pytest.skip("slots are synchronised from PostgreSQL 17 on")
    with Cluster(installation, settings={"wal_level": "logical"}) as primary:
        database = Database(primary, "postgres")
        database.query("SELECT pg_create_physical_replication_slot('standby', true)")
        database.query("SELECT pg_create_logical_replication_slot('reader', 'pgoutput', false, false, true)")
        with standby_of(primary, hot_standby_feedback="on", primary_slot_name="standby") as standby:
            standby.restart({"primary_conninfo": f"{standby.settings['primary_conninfo']} dbname=postgres"})
            caught_up(primary)
            there = Database(standby, "postgres")

            def synchronised() -> bool:
                write(primary)
                database.query("SELECT pg_log_standby_snapshot()")
                # No further than the standby has come, or it refuses.
                position = flushed(primary)
                caught_up(primary)
                database.query("SELECT pg_replication_slot_advance('reader', %s)", [position])
                there.query("SELECT pg_sync_replication_slots()")
                return there.query("SELECT synced AND NOT temporary FROM pg_replication_slots") == [(True,)]

            eventually(synchronised)
            at_once = {"slot.inactive": {"warning": "1 ms"}}
            assert looked(standby, "slot.inactive", thresholds=at_once)["findings"] == []
            there.query("SELECT pg_promote()")
            assert there.query("SELECT synced, active FROM pg_replication_slots") == [(True, False)]
            assert finding(looked(standby, "slot.inactive", thresholds=at_once), "slot.inactive[reader]")["severity"] == "warning"


@pytest.fixture
def forgetful(server: Cluster) -> Iterator[Database]:
    """A database whose server forgets what ALTER SYSTEM has set."""
    yield Database(server, "postgres")
    run_script(Database(server, "postgres"), "ALTER SYSTEM RESET ALL")
    reload(Database(server, "postgres"))


def reload(database: Database) -> None:
    database.query("SELECT pg_reload_conf()")
    # A file is read by the postmaster, then by each session.
    assert database.query("SELECT pg_sleep(0.2)")


def drift(database: Database, path: str, user: str | None = None) -> dict[str, Any]:
    """Look for settings that have changed since the run before, and keep this run."""
    result = look(
        database, None, system=None, checks=["cfg.drift"], login={"login_user": user} if user else {}, history=file_store.read(path, None)
    )
    file_store.append(path, result["snapshot"], 86400.0)
    return result


def test_who_may_not_see_every_setting_does_not_say_that_none_has_changed(forgetful: Database, tmp_path: Path) -> None:
    path = str(tmp_path / "history" / "file")
    for _run in range(2):
        result = drift(forgetful, path, "plain")
        assert status_of(result, "cfg.drift") == "unknown"
        assert "GRANT pg_read_all_settings" in finding(result, "cfg.drift")["action"]
    # What it sees it tells of all the same.
    run_script(forgetful, "ALTER SYSTEM SET log_min_duration_statement = '77s'")
    reload(forgetful)
    result = drift(forgetful, path, "plain")
    assert finding(result, "cfg.drift[log_min_duration_statement]")["severity"] == "warning"
    assert finding(result, "cfg.drift[settings not seen]")["severity"] == "unknown"


def test_a_setting_that_only_some_may_see_has_not_changed_because_another_role_looks(forgetful: Database, tmp_path: Path) -> None:
    path = str(tmp_path / "history" / "file")
    run_script(forgetful, "ALTER SYSTEM SET log_filename = 'one.log'")
    reload(forgetful)
    drift(forgetful, path, "plain")
    assert drift(forgetful, path)["findings"] == []
    assert [each["key"] for each in drift(forgetful, path, "plain")["findings"]] == ["cfg.drift"]
    run_script(forgetful, "ALTER SYSTEM SET log_filename = 'two.log'")
    reload(forgetful)
    # What has changed while nobody who may see it looked is told by the next who may.
    drift(forgetful, path, "plain")
    found = finding(drift(forgetful, path), "cfg.drift[log_filename]")
    assert "from 'one.log' to 'two.log'" in found["message"]


def test_what_stands_beside_something_hidden_is_not_resolved(database: Database, tmp_path: Path) -> None:
    check = "conn.used_pct"
    runs = Runs(database, in_file(tmp_path))
    runs({check: bad("one", "two")})
    now = runs({check: [*bad("one"), unseen("sessions not seen")]})
    assert resolved(now) == []
    assert resolved(runs({check: [Reading("all is well")]})) == [f"{check}[one]", f"{check}[two]", f"{check}[sessions not seen]"]


@pytest.fixture
def rules(server: Cluster) -> Iterator[Path]:
    """The file of access rules, which is as it was again after the test."""
    path = server.folder / "data" / "pg_hba.conf"
    before = path.read_text(encoding="utf-8")
    yield path
    path.write_text(before, encoding="utf-8")


def test_a_rule_of_the_loopback_address_with_a_mask_of_all_is_open_to_everybody(server: Cluster, rules: Path) -> None:
    lines = ["local all all peer", "host all here 127.0.0.1/8 trust", "host all six ::1/128 trust"]
    lines += ["host all bob 127.0.0.1/0 trust", "host all all 10.0.0.1/0 scram-sha-256", "host all eve ::1/0 trust"]
    rules.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = {each["object"].split(" ", 3)[2]: each["severity"] for each in looked(server, "security.hba")["findings"]}
    assert found == {"here": "warning", "six": "warning", "bob": "critical", "all": "warning", "eve": "critical"}


def test_an_error_in_an_access_rule_shows_no_part_of_a_password(server: Cluster, rules: Path) -> None:
    with rules.open("a", encoding="utf-8") as file:
        file.write("host all eve 10.0.0.0/8 radius radiusservers=127.0.0.1 radiussecrets=one hidden\n")
        file.write("host all eve 10.0.0.0/8 radius radiusservers=127.0.0.1 radiussecrets=one hid=den\n")
        file.write("host all eve nowhere/x md5\n")
    result = looked(server, "cfg.file_errors")
    said = [each["message"] for each in result["findings"]]
    assert len(said) == 3
    assert "authentication option" in said[0]
    assert "nowhere" in said[2]
    assert "hid" not in str(result)


def test_the_statement_for_a_procedure_can_be_run(made: Database) -> None:
    if made.cluster.installation.major >= 14:
        run_script(made, "CREATE PROCEDURE public.p() LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC SELECT 1; END")
    else:
        run_script(made, "CREATE PROCEDURE public.p() LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'")
    action = finding(look(made, None, system=None, checks=["security.definer_path"]), "security.definer_path[public.p()]")["action"]
    run_script(made, action.partition(": ")[2].replace("<its schemas>", "public"))
    assert look(made, None, system=None, checks=["security.definer_path"])["findings"] == []


# --- alarms about nothing -----------------------------------------------------------------------------------------------


def test_a_program_that_keeps_wal_is_not_late_because_it_flushes_whole_files(server: Cluster) -> None:
    with receiving(server, "keeper") as cursor:
        for _turn in range(10):
            write(server)
            sleep(0.6)
            cursor.send_feedback(write_lsn=wal_bytes(flushed(server)), force=True)
        database = Database(server, "postgres")
        eventually(lambda: database.query("SELECT flush_lag > interval '5 s' FROM pg_stat_replication") == [(True,)])
        write(server)
        result = looked(server, "repl.lag_time", thresholds={"repl.lag_time": {"warning": "5 s"}})
    assert result["findings"] == []
    assert result["metrics"]["repl.lag_time[keeper]"] < 5


def test_a_database_whose_drop_was_interrupted_uses_up_no_ids(made: Database) -> None:
    # As old as can be seen: two thousand million ids.
    old = """UPDATE pg_database SET datconnlimit = %s, datfrozenxid = ((txid_current() + 2294967296) & 4294967295)::text::xid
             WHERE datname = %s RETURNING age(datfrozenxid) > 1900000000"""
    young = """UPDATE pg_database d SET datconnlimit = -1, datfrozenxid = o.datfrozenxid FROM pg_database o
               WHERE o.datname = 'postgres' AND d.datname = %s RETURNING true"""
    beside = Database(made.cluster, "postgres")
    try:
        assert beside.query(old, [-1, made.name]) == [(True,)]
        assert finding(looked(made.cluster, "xid.age_pct"), "xid.age_pct")["severity"] == "critical"
        assert beside.query(old, [-2, made.name]) == [(True,)]
        assert looked(made.cluster, "xid.age_pct")["findings"] == []
    finally:
        assert beside.query(young, [made.name]) == [(True,)]


# --- one lock that stopped the rest -------------------------------------------------------------------------------------


def test_many_partitions_that_are_locked_do_not_hold_up_the_run(made: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LOCK_TIMEOUT", "1 s")
    run_script(
        made,
        "CREATE TABLE many (id int) PARTITION BY RANGE (id); CREATE TABLE other (id int PRIMARY KEY, body text);"
        "DO $$ BEGIN FOR i IN 1..60 LOOP"
        " EXECUTE format('CREATE TABLE many_%s PARTITION OF many FOR VALUES FROM (%s) TO (%s)', i, i, i + 1); END LOOP; END $$; ANALYZE",
    )
    system = {"name": "s", "schemas": ["public"], "schema": {"tables": {"public.many": {"columns": {}}, "public.other": {"columns": {}}}}}
    with made.connect() as session:
        session.execute("BEGIN; LOCK TABLE many IN ACCESS EXCLUSIVE MODE")
        began = monotonic()
        result = look(made, None, system=system, checks=["size.rows"])
        assert monotonic() - began < 30, "it has waited for each of 60 partitions"
        assert result["round_trips"] < 10
        sizes = {table["table"]: table["bytes"] for table in result["tables"]}
        assert (sizes["public.many"], sizes["public.other"]) == (None, 16384)
        # An index alone may be locked as well.
        session.execute("ROLLBACK; BEGIN; REINDEX INDEX other_pkey")
        result = look(made, None, system=system, checks=["size.rows"])
        assert {table["table"]: table["bytes"] for table in result["tables"]} == {"public.many": 0, "public.other": None}


@pytest.mark.parametrize("damage", [{"after": [[]]}, {"kept": {"server": {"name": 5}}}, {"counters": {"x_total": [0, 1, []]}}])
def test_a_damaged_history_takes_no_finding_with_it(database: Database, tmp_path: Path, damage: dict[str, Any]) -> None:
    runs = Runs(database, in_file(tmp_path))
    record = runs({"conn.used_pct": bad("one")})["snapshot"]
    if "kept" in damage:
        damage = {"kept": dict.fromkeys(record["servers"], damage["kept"]["server"])}
    Path(runs.store["file"]).write_text(json.dumps({**record, **damage}) + "\n", encoding="utf-8")
    assert [each["key"] for each in runs({"conn.used_pct": bad("one")})["findings"]] == ["conn.used_pct[one]"]


def test_a_locked_partition_of_one_default_partition_hides_no_other(made: Database) -> None:
    run_script(
        made,
        "CREATE TABLE a (id int, k int) PARTITION BY RANGE (id); CREATE TABLE a_default PARTITION OF a DEFAULT PARTITION BY RANGE (k);"
        "CREATE TABLE a_low PARTITION OF a_default FOR VALUES FROM (0) TO (10); CREATE TABLE b (id int) PARTITION BY RANGE (id);"
        "CREATE TABLE b_default PARTITION OF b DEFAULT; INSERT INTO b VALUES (1); INSERT INTO a VALUES (1, 1); ANALYZE",
    )
    with made.connect() as session:
        session.execute("BEGIN; LOCK TABLE a_low IN ACCESS EXCLUSIVE MODE")
        result = look(made, None, system=None, checks=["partition.default_rows"])
    assert finding(result, "partition.default_rows[public.b_default]")["value"] == 1
    assert finding(result, "partition.default_rows[public.a_default]")["severity"] == "unknown"


def test_what_a_prepared_transaction_has_locked_hides_nothing_else(made: Database) -> None:
    run_script(
        made,
        "CREATE TABLE locked (id int); CREATE TABLE filled (id serial); INSERT INTO filled SELECT FROM generate_series(1, 20000);"
        "CREATE SEQUENCE counted MAXVALUE 10; SELECT setval('counted', 10)",
    )
    with made.connect() as session:
        session.execute("BEGIN; LOCK TABLE locked; ALTER SEQUENCE filled_id_seq MAXVALUE 1000000; PREPARE TRANSACTION 'left'")
    try:
        eventually(lambda: made.query("SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'filled'") == [(20000,)])
        result = look(made, None, system=None, checks=["vac.never", "seq.exhaustion"])
        assert finding(result, "vac.never[public.filled]")["severity"] == "warning"
        assert finding(result, "seq.exhaustion[public.counted]")["severity"] == "critical"
        assert finding(result, "seq.exhaustion[public.filled_id_seq]")["severity"] == "unknown"
    finally:
        run_script(made, "ROLLBACK PREPARED 'left'")


# --- names that would break a line --------------------------------------------------------------------------------------


def test_a_name_with_a_line_end_breaks_no_line(made: Database) -> None:
    name = "a\nb\x1b[31m\u202e|c"
    with made.connect() as session:
        session.execute(f'CREATE TABLE "{name}" (id int) WITH (autovacuum_enabled = off)'.encode())
    result = look(made, None, system=None, checks=["vac.disabled"])
    # What a suppression and a history know it by stays as it is.
    key = f"vac.disabled[public.{name}]"
    assert finding(result, key)["object"] == f"public.{name}"
    assert f'ALTER TABLE "public"."{name}"' in finding(result, key)["action"]
    one = _routing.line(key)
    texts = [result["summary"], *(check["message"] for check in result["checks"]), one, _report_nagios.line(result, host="db")["line"]]
    page = _report_page.page(result, host="db", form="markdown")
    texts += [row[part] for row in page["findings"] for part in ("key", "object", "message")]
    for text in texts:
        assert not {"\n", "\x1b", "\u202e"} & set(text), text
    assert "vac.disabled[public.a b [31m |c]" in result["summary"]
