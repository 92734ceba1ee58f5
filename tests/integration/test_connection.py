"""A session on a real server: what is set on it, what comes back over it, and that it ends when its process does."""

from __future__ import annotations

import decimal
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _connection
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ConnectError, DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from tests.ground import runner
from tests.ground.cluster import Cluster
from tests.ground.databases import Database

Connect = Callable[..., _connection.Database]

# An expression, and what every driver must make of it: only what JSON has, and exactly this.
VALUES: list[tuple[str, Any]] = [
    ("NULL", None),
    ("true", True),
    ("7::smallint", 7),
    ("9223372036854775807::bigint", 9223372036854775807),
    ("26::oid", 26),
    ("1.5::real", 1.5),
    ("0.1::double precision + 0.2", 0.30000000000000004),
    ("'NaN'::double precision", "NaN"),
    ("'-Infinity'::double precision", "-Infinity"),
    ("12.50::numeric(10,2)", 12.5),
    ("3.00::numeric", 3),
    ("sum(x) FROM generate_series(1, 3) AS x", 6),
    ("'NaN'::numeric", "NaN"),
    ("'ünï\"c''ode'::text", "ünï\"c'ode"),
    ("'ab'::char(4)", "ab  "),
    ("'x'::\"char\"", "x"),
    ("'\\xdeadbeef00'::bytea", "\\xdeadbeef00"),
    ("date '2026-03-29'", "2026-03-29"),
    ("date 'infinity'", "infinity"),
    ("timestamp '2026-03-29 03:30:00.5'", "2026-03-29 03:30:00.5"),
    ("timestamptz '2026-03-29 03:30:00+03'", "2026-03-29 00:30:00+00"),
    ("timestamptz '-infinity'", "-infinity"),
    ("timestamptz '0044-03-15 12:00:00+00 BC'", "0044-03-15 12:00:00+00 BC"),
    ("timestamp '12000-01-01'", "12000-01-01 00:00:00"),
    ("time '24:00:00'", "24:00:00"),
    ("timetz '04:05:06+02'", "04:05:06+02"),
    ("interval '1 year 2 months 3 days 04:05:06.7'", "1 year 2 mons 3 days 04:05:06.7"),
    ("interval '-1 day'", "-1 days"),
    ("inet '10.0.0.0/8'", "10.0.0.0/8"),
    ("cidr '2001:db8::/32'", "2001:db8::/32"),
    ("macaddr '08:00:2b:01:02:03'", "08:00:2b:01:02:03"),
    ("uuid 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ('json \'{"a": [1, 2.5, null], "b": "é"}\'', {"a": [1, 2.5, None], "b": "é"}),
    ("jsonb '\"text\"'", "text"),
    ("jsonb 'null'", None),
    ("'{1,NULL,3}'::int[]", [1, None, 3]),
    ("'{{1,2},{3,4}}'::bigint[]", [[1, 2], [3, 4]]),
    ("'[0:1]={1,2}'::int[]", [1, 2]),
    ("ARRAY[1.50, 'NaN', 2]::numeric[]", [1.5, "NaN", 2]),
    ("ARRAY['a', 'b,c', 'd\"e', '\\', '', NULL, 'NULL']", ["a", "b,c", 'd"e', "\\", "", None, "NULL"]),
    ("ARRAY[true, false]", [True, False]),
    ("ARRAY[uuid 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11']", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("ARRAY[timestamptz 'infinity', timestamptz '2026-01-01 00:00+00']", ["infinity", "2026-01-01 00:00:00+00"]),
    ("ARRAY[inet '::1']", ["::1"]),
    ("ARRAY[interval '1 hour']", ["01:00:00"]),
    ('ARRAY[jsonb \'{"k": "a,b"}\']', [{"k": "a,b"}]),
    ("ARRAY['\\x00ff'::bytea]", ["\\x00ff"]),
    ("ARRAY[box '(1,1),(0,0)', box '(2,2),(1,1)']", ["(1,1),(0,0)", "(2,2),(1,1)"]),
    ("ARRAY[]::text[]", []),
    ("int4range(1, 5)", "[1,5)"),
    ("ARRAY[int4range(1, 5), 'empty']", ["[1,5)", "empty"]),
    ("tstzrange('2026-01-01 00:00+00', NULL)", '["2026-01-01 00:00:00+00",)'),
    ("12.34::money", "$12.34"),
    ("B'101'", "101"),
    ("'1011'::bit varying(9)", "1011"),
    ("point '(1,2)'", "(1,2)"),
    ("'a & b'::tsquery", "'a' & 'b'"),
    ("'16/B374D848'::pg_lsn", "16/B374D848"),
    ("'pg_class'::regclass", "pg_class"),
    ("xml '<a>b</a>'", "<a>b</a>"),
    ("ROW(1, 'a b', NULL)", '(1,"a b",)'),
    ("'pg_catalog'::name", "pg_catalog"),
    ("'17'::xid", "17"),
]

ODD_NAMES = [
    "Capital",
    "two words",
    'quo"te',
    "apo'strophe",
    "per%cent %s %(x)s",
    "ünïçødé ✓",
    "select",
    "dot.ted",
    "back\\slash",
    "{brace}",
]


@pytest.fixture(autouse=True)
def _one_driver(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if driver == "psycopg":
        monkeypatch.setitem(sys.modules, "psycopg2", None)


@pytest.fixture
def opened(database: Database) -> Connect:
    def open_session(
        read_only: bool = False, search_path: tuple[str, ...] = (), login: dict[str, Any] | None = None, **options: Any
    ) -> _connection.Database:
        given = ConnectionOptions.from_params({**(login or database.login()), **options})
        return connect(given, application_name="pgops.runbook/test", read_only=read_only, search_path=search_path)

    return open_session


def setting(session: _connection.Database, name: str) -> str:
    return str(session.value("SELECT current_setting(%s)", [name]))


# --- what is set ------------------------------------------------------------------------------------------------------


def test_the_session_is_what_the_engine_relies_on(opened: Connect, database: Database, driver: str) -> None:
    with opened(search_path=("custom", 'Odd "one"'), lock_timeout="250 ms", statement_timeout="1 h") as session:
        assert session.driver_name == driver
        assert session.server_version // 10000 == database.cluster.installation.major
        assert (session.name, session.user, session.in_recovery) == (database.name, "postgres", False)
        assert session.backend_pid == session.value("SELECT pg_backend_pid()")
        assert session.settings_refused == {}
        expected = {
            "application_name": "pgops.runbook/test",
            "search_path": '"pg_catalog", "custom", "Odd ""one""", "pg_temp"',
            "lock_timeout": "250ms",
            "statement_timeout": "1h",
            "idle_in_transaction_session_timeout": "15min",
            "TimeZone": "UTC",
            "DateStyle": "ISO, YMD",
            "row_security": "off",
            "jit": "off",
            "default_transaction_read_only": "off",
        }
        if session.server_version >= 140000:
            expected["client_connection_check_interval"] = "2s"
        assert {name: setting(session, name) for name in expected} == expected
        assert session.value("SELECT current_schemas(true)")[0] == "pg_catalog"


def test_a_session_takes_two_round_trips(opened: Connect) -> None:
    with opened() as session:
        assert session.round_trips == 2


def test_settings_of_the_database_do_not_reach_the_session(opened: Connect, database: Database) -> None:
    database.query(f'ALTER DATABASE "{database.name}" SET DateStyle = "SQL, DMY"')
    database.query(f'ALTER DATABASE "{database.name}" SET bytea_output = "escape"')
    database.query(f'ALTER DATABASE "{database.name}" SET IntervalStyle = "sql_standard"')
    with opened() as session:
        found = session.row("SELECT date '2026-12-31' AS day, '\\xff'::bytea AS bytes, interval '1 day' AS span")
    assert found == {"day": "2026-12-31", "bytes": "\\xff", "span": "1 day"}


def test_reading_only_refuses_to_write(opened: Connect, database: Database) -> None:
    with opened(read_only=True) as session:
        with pytest.raises(DatabaseError) as caught:
            session.execute("CREATE TABLE public.written ()")
        assert caught.value.sqlstate == "25006"
    assert database.query("SELECT to_regclass('public.written')") == [(None,)]


def test_a_hidden_row_is_an_error_and_never_a_zero(opened: Connect, database: Database) -> None:
    database.query("CREATE TABLE guarded AS SELECT 1 AS id")
    database.query("ALTER TABLE guarded ENABLE ROW LEVEL SECURITY")
    database.query("DO $$ BEGIN CREATE ROLE guarded_reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    database.query("GRANT SELECT ON guarded TO guarded_reader")
    with opened(session_role="guarded_reader") as session:
        assert session.user == "guarded_reader"
        with pytest.raises(DatabaseError) as caught:
            session.value("SELECT count(*) FROM public.guarded")
    assert caught.value.sqlstate == "42501"


def test_a_role_that_may_not_be_taken_is_named(opened: Connect) -> None:
    with pytest.raises(ConnectError) as caught:
        opened(session_role="no such role")
    assert caught.value.layer == "authorization"
    assert 'cannot act as role "no such role"' in caught.value.message


def test_an_optional_setting_that_is_refused_costs_nothing_else(opened: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connection, "IDLE_IN_TRANSACTION_TIMEOUT", "no time at all")
    with opened(lock_timeout="7 s") as session:
        assert list(session.settings_refused) == ["idle_in_transaction_session_timeout"]
        assert "no time at all" in session.settings_refused["idle_in_transaction_session_timeout"]
        assert (setting(session, "lock_timeout"), setting(session, "row_security")) == ("7s", "off")


def test_a_role_that_is_read_only_is_told_before_anything_runs(opened: Connect, database: Database) -> None:
    database.query(f'ALTER DATABASE "{database.name}" SET default_transaction_read_only = on')
    with pytest.raises(ConnectError, match="read-only") as caught:
        opened()
    assert (caught.value.layer, caught.value.sqlstate) == ("session", "25006")
    with opened(read_only=True) as session:
        assert session.value("SELECT 1") == 1


def test_a_standby_is_read_but_not_written(opened: Connect, cluster: Cluster, standby: Cluster, database: Database) -> None:
    cluster.wait_for(standby)
    login = standby.login(database.name)
    with opened(read_only=True, login=login) as session:
        assert session.in_recovery is True
    with pytest.raises(ConnectError, match="the server is a read-only standby") as caught:
        opened(login=login)
    assert caught.value.layer == "session"
    assert caught.value.object_name == f"127.0.0.1:{standby.port}"
    assert "target_session_attrs=read-write" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("wanted", "in_recovery"), [("read-write", False), ("primary", False), ("standby", True), ("prefer-standby", True), ("read-only", True)]
)
def test_of_several_hosts_the_wanted_one_is_found(
    opened: Connect, cluster: Cluster, standby: Cluster, database: Database, wanted: str, in_recovery: bool
) -> None:
    cluster.wait_for(standby)
    first, second = (cluster, standby) if in_recovery else (standby, cluster)
    login = {**database.login(), "login_host": "127.0.0.1,127.0.0.1", "login_port": f"{first.port},{second.port}"}
    with opened(read_only=True, login=login, target_session_attrs=wanted) as session:
        assert session.in_recovery is in_recovery


def test_prefer_standby_is_content_with_a_primary(opened: Connect) -> None:
    with opened(target_session_attrs="prefer-standby") as session:
        assert session.in_recovery is False


def test_no_host_is_what_is_wanted(opened: Connect) -> None:
    with pytest.raises(ConnectError) as caught:
        opened(target_session_attrs="standby")
    assert caught.value.layer == "session"
    assert "target_session_attrs" in str(caught.value.hint)


def test_the_first_host_may_be_down(opened: Connect, database: Database) -> None:
    login = {**database.login(), "login_host": "127.0.0.1,127.0.0.1", "login_port": f"1,{database.cluster.port}"}
    with opened(login=login) as session:
        assert session.name == database.name


def test_environment_reaches_libpq_and_an_empty_variable_does_not(
    opened: Connect, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = database.login()
    with monkeypatch.context() as environment:
        for name in ("PGSSLMODE", "PGPORT", "PGOPTIONS", "PGSERVICE", "PGTARGETSESSIONATTRS", "PGCONNECT_TIMEOUT", "PGHOSTADDR"):
            environment.setenv(name, "")
        environment.setenv("PGHOST", str(database.cluster.socket_dir))
        environment.setenv("PGUSER", login["login_user"])
        environment.setenv("PGDATABASE", database.name)
        with opened(login={"login_port": login["login_port"], "login_host": "", "login_db": None}) as session:
            assert session.name == database.name


def test_a_service_file_reaches_libpq(opened: Connect, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    services = tmp_path / "services.conf"
    services.write_text(f"[here]\nhost=127.0.0.1\nport={database.cluster.port}\nuser=postgres\ndbname={database.name}\n", encoding="ascii")
    with monkeypatch.context() as environment:
        environment.setenv("PGSERVICEFILE", str(services))
        with opened(login={"connect_params": {"service": "here", "password": ""}}) as session:
            assert session.name == database.name
        with pytest.raises(ConnectError) as caught:
            opened(login={"connect_params": {"service": "nowhere"}})
    assert caught.value.layer == "service"
    assert 'service "nowhere"' in caught.value.message


# --- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expression", "expected"), VALUES)
def test_values_are_json_safe_and_the_same_with_every_driver(opened: Connect, expression: str, expected: Any) -> None:
    with opened() as session:
        try:
            found = session.value(f"SELECT {expression}")
        except DatabaseError as error:
            if error.sqlstate == "0A000":
                pytest.skip(f"this server does not have it: {error.message}")
            raise
    assert (type(found), found) == (type(expected), expected)
    assert json.loads(json.dumps(found)) == expected


def test_rows_and_counts(opened: Connect) -> None:
    with opened() as session:
        assert session.rows("SELECT x AS n, 'a' || x AS t FROM generate_series(1, 2) AS x") == [{"n": 1, "t": "a1"}, {"n": 2, "t": "a2"}]
        assert session.rows("CREATE TEMPORARY TABLE kept (id int)") == []
        assert session.execute("INSERT INTO pg_temp.kept SELECT generate_series(1, 5)") == 5
        assert session.rows("DELETE FROM pg_temp.kept WHERE id > %s RETURNING id", [4]) == [{"id": 5}]
        assert session.row("SELECT 1 AS a WHERE false") is None
        assert session.value("SELECT 1 AS a WHERE false") is None
        with pytest.raises(DatabaseError, match="2 rows came back"):
            session.row("SELECT generate_series(1, 2)")


def test_parameters_are_bound_alike(opened: Connect) -> None:
    moment = datetime(2026, 3, 29, 3, 30, tzinfo=timezone(timedelta(hours=3)))
    identifier = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    with opened() as session:
        assert session.value("SELECT %s::timestamptz", [moment]) == "2026-03-29 00:30:00+00"
        assert session.value("SELECT %(a)s::int + %(b)s::int", {"a": 1, "b": 2}) == 3
        assert session.value("SELECT uuid %s = ANY(%s)", [identifier, [identifier]]) is True
        assert session.value("SELECT 2 = ANY(%s)", [[1, 2]]) is True
        assert session.value("SELECT 2::bigint = ANY(%s)", [(1, 2)]) is True
        assert session.value("SELECT 'x' = ANY(%s)", [[]]) is False
        assert session.value("SELECT %s::text[]", [["a,b", None, 'q"', "\\"]]) == ["a,b", None, 'q"', "\\"]
        assert session.value("SELECT %s::interval", [timedelta(minutes=90)]) == "01:30:00"
        assert session.value("SELECT %s::numeric", [decimal.Decimal("1.25")]) == 1.25
        assert session.value("SELECT %s::text || '100%%'", ["'; DROP"]) == "'; DROP100%"
        assert session.value("SELECT '100%'") == "100%"
        assert session.value("SELECT %s IS NULL", [None]) is True


@pytest.mark.parametrize("name", ODD_NAMES)
def test_identifiers_of_any_spelling_work(opened: Connect, database: Database, name: str) -> None:
    relation = parse_relation(".".join('"' + part.replace('"', '""') + '"' for part in (name, name)))
    with opened() as session:
        sql = session.sql
        table, column = relation.identifier(sql), sql.Identifier(name)
        session.execute(sql.SQL("CREATE SCHEMA {}").format(column))
        session.execute(sql.SQL("CREATE TABLE {} ({} text)").format(table, column))
        insert = sql.SQL("INSERT INTO {} ({}) VALUES (%s), ({})").format(table, column, sql.Literal("50%"))
        assert session.execute(insert, [name]) == 2
        assert session.rows(sql.SQL("SELECT {} FROM {} WHERE {} = %s").format(column, table, column), [name]) == [{name: name}]
        assert session.rows(sql.SQL("SELECT {} FROM {} WHERE {} = '50%'").format(column, table, column)) == [{name: "50%"}]
    with opened(search_path=(name,)) as session:
        assert session.value("SELECT current_schemas(true)") == ["pg_catalog", name]


@pytest.mark.parametrize("name", ["Capital", "two words", 'quo"te', "apo'strophe", "ünïçødé ✓", "back\\slash"])
def test_databases_and_roles_of_any_spelling_work(opened: Connect, cluster: Cluster, name: str) -> None:
    with Database.create(cluster, f"{name} database") as odd, cluster.connect() as superuser:
        role = '"' + name.replace('"', '""') + '"'
        superuser.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'it''s \\ odd'".encode())
        try:
            login = {**odd.login(), "login_user": name, "login_password": "it's \\ odd"}
            with opened(login=login) as session:
                assert (session.name, session.user) == (odd.name, name)
        finally:
            superuser.execute(f"DROP ROLE {role}".encode())


def test_text_that_is_not_utf8_is_a_database_error(opened: Connect, cluster: Cluster) -> None:
    with cluster.connect() as superuser:
        superuser.execute("CREATE DATABASE bytes_only ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    try:
        with opened(login=cluster.login("bytes_only")) as session:
            with pytest.raises(DatabaseError, match="invalid byte sequence"):
                session.value("SELECT convert_from('\\xff41'::bytea, 'SQL_ASCII')")
            assert session.value("SELECT 1") == 1
    finally:
        cluster.drop_database("bytes_only")


# --- statements that fail, transactions -------------------------------------------------------------------------------


def test_a_failed_statement_leaves_the_session_usable(opened: Connect) -> None:
    with opened() as session:
        with pytest.raises(DatabaseError) as caught:
            session.rows("SELECT * FROM public.missing")
        assert (caught.value.sqlstate, session.value("SELECT 1")) == ("42P01", 1)


def test_an_error_does_not_quote_the_row(opened: Connect) -> None:
    with opened() as session:
        session.execute("CREATE TABLE public.tokens (token text PRIMARY KEY)")
        session.execute("INSERT INTO public.tokens VALUES ('s3cr3t')")
        with pytest.raises(DatabaseError) as caught:
            session.execute("INSERT INTO public.tokens VALUES (%s)", ["s3cr3t"])
    assert (caught.value.sqlstate, caught.value.object_name) == ("23505", "public.tokens")
    assert "s3cr3t" not in f"{caught.value!r} {caught.value.as_result()}"


def test_a_transaction_commits_or_undoes_everything(opened: Connect, database: Database) -> None:
    with opened() as session:
        session.execute("CREATE TABLE public.numbers (n int)")
        with session.transaction():
            session.execute("INSERT INTO public.numbers VALUES (1)")
        for failing in (lambda: int("stop"), lambda: session.execute("SELECT 1 / 0")):
            with pytest.raises((ValueError, DatabaseError)):
                _inserted_then(session, failing)
        assert session.rows("SELECT n FROM public.numbers") == [{"n": 1}]
    assert database.query("SELECT n FROM numbers") == [(1,)]


def _inserted_then(session: _connection.Database, failing: Callable[[], int]) -> None:
    with session.transaction():
        session.execute("INSERT INTO public.numbers VALUES (2)")
        failing()


def test_a_transaction_whose_statement_failed_unseen_does_not_pass_for_committed(opened: Connect) -> None:
    with opened() as session:
        with pytest.raises(DatabaseError, match="was rolled back") as caught, session.transaction(), pytest.raises(DatabaseError):
            session.execute("SELECT 1 / 0")
        assert caught.value.sqlstate == "25P02"
        assert session.value("SELECT 1") == 1


def test_transactions_read_only_and_of_one_snapshot(opened: Connect, database: Database) -> None:
    database.query("CREATE TABLE seen (n int)")
    with opened() as session:
        with session.transaction(read_only=True, snapshot=True):
            assert setting(session, "transaction_read_only") == "on"
            assert session.value("SELECT count(*) FROM public.seen") == 0
            database.query("INSERT INTO seen VALUES (1)")
            assert session.value("SELECT count(*) FROM public.seen") == 0
            with pytest.raises(DatabaseError, match="do not nest"), session.transaction():
                session.execute("SELECT 1")
        assert session.value("SELECT count(*) FROM public.seen") == 1


def test_a_lock_that_is_not_had_in_time_names_the_option(opened: Connect, database: Database) -> None:
    database.query("CREATE TABLE held ()")
    with database.connect() as holder, opened(lock_timeout="100 ms") as session:
        holder.execute("BEGIN; LOCK TABLE held")
        with pytest.raises(DatabaseError) as caught:
            session.rows("SELECT * FROM public.held")
        holder.execute("ROLLBACK")
    assert caught.value.sqlstate == "55P03"
    assert "lock_timeout" in str(caught.value.hint)


def test_a_statement_that_takes_too_long_is_cancelled(opened: Connect) -> None:
    with opened(statement_timeout="100 ms") as session, pytest.raises(DatabaseError) as caught:
        session.value("SELECT pg_sleep(10)")
    assert caught.value.sqlstate == "57014"
    assert "statement_timeout" in str(caught.value.hint)


def test_a_lost_server_session_is_a_database_error(opened: Connect, database: Database) -> None:
    with opened() as session:
        with pytest.raises(DatabaseError), session.transaction():
            session.value("SELECT pg_terminate_backend(pg_backend_pid())")
        assert session.closed


def test_the_application_name_is_cut_between_letters(opened: Connect) -> None:
    with opened() as session:
        session.set_application_name("pgops.runbook/pg_cleanup " + "ä" * 40)
        assert setting(session, "application_name").encode().startswith(b"pgops.runbook/pg_cleanup ")
        session.set_application_name("custom.denylist 3/7")
        assert setting(session, "application_name") == "custom.denylist 3/7"


# --- a process that is gone -------------------------------------------------------------------------------------------

SLEEPER = """
import json, sys
given = json.loads(sys.argv[1])
if given["driver"] == "psycopg":
    sys.modules["psycopg2"] = None
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
with connect(ConnectionOptions.from_params(given["login"]), application_name="killed", read_only=False) as session:
    session.execute("SELECT pg_sleep(120)")
"""


def test_the_statement_of_a_killed_process_does_not_run_on(database: Database, driver: str) -> None:
    if database.cluster.installation.major < 14:
        pytest.skip("client_connection_check_interval came with PostgreSQL 14")
    given = json.dumps({"login": database.login(), "driver": driver})
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, given], env={"PYTHONPATH": str(runner.collections_path()), "PATH": "/usr/bin"}
    )
    running = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'killed' AND datname = current_database() AND query LIKE '%pg_sleep%'"
    )
    try:
        assert _until(lambda: bool(database.query(running)), 20)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert _until(lambda: not database.query(running), 15)


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False
