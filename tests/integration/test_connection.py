"""A session on a real server: what is set on it, what comes back over it, and that it ends when its process does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _connect_limits, _connection
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ConnectError, DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from tests.ground import runner
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.children import until

pytestmark = pytest.mark.usefixtures("_one_driver")

Connect = Callable[..., _connection.Database]

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


@pytest.mark.parametrize(
    ("constant", "name"),
    [
        ("IDLE_IN_TRANSACTION_TIMEOUT", "idle_in_transaction_session_timeout"),
        ("CLIENT_CHECK_INTERVAL", "client_connection_check_interval"),  # a fork or a pooler may not have what its version has
    ],
)
def test_an_optional_setting_that_is_refused_costs_nothing_else(
    opened: Connect, monkeypatch: pytest.MonkeyPatch, constant: str, name: str
) -> None:
    monkeypatch.setattr(_connection, constant, "no time at all")
    with opened(lock_timeout="7 s") as session:
        if name == "client_connection_check_interval" and session.server_version < 140000:
            pytest.skip(f"{name} came with PostgreSQL 14")
        assert list(session.settings_refused) == [name]
        assert "no time at all" in session.settings_refused[name]
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


# --- names ------------------------------------------------------------------------------------------------------------


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
        superuser.execute("CREATE DATABASE bytes_only ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
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


def test_an_error_names_the_innermost_function_and_nothing_else_of_its_context(opened: Connect) -> None:
    with opened() as session:
        session.execute(
            "CREATE FUNCTION public.nearer(t text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT 1 / 0 WHERE t = t); END $$"
        )
        session.execute("CREATE FUNCTION public.further() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN public.nearer('s3cr3t'); END $$")
        with pytest.raises(DatabaseError, match="division by zero") as caught:
            session.value("SELECT public.further()")
        with pytest.raises(DatabaseError) as plain:
            session.value("SELECT 1 / 0")
    assert (caught.value.context_function, plain.value.context_function) == ("public.nearer(text)", None)
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
    with opened(statement_timeout="1 s") as session, pytest.raises(DatabaseError) as caught:
        session.value("SELECT pg_sleep(600)")
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


# --- a server that says nothing any more ------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", ["SELECT 1", "BEGIN"])
def test_a_server_process_that_is_stopped_does_not_hold_a_run_for_ever(
    opened: Connect, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.setattr(_connect_limits, "ANSWER_SLACK", 2.0)
    with opened(statement_timeout="1 s") as session:
        os.kill(session.backend_pid, signal.SIGSTOP)
        started = time.monotonic()
        try:
            with pytest.raises(DatabaseError, match=r"did not answer within 1 s \(statement_timeout\) and 2 s more") as caught:
                session.execute(statement)
        finally:
            os.kill(session.backend_pid, signal.SIGCONT)
        assert 3 <= time.monotonic() - started < 60
        assert f"process {session.backend_pid} " in str(caught.value.hint)
        assert session.closed


def test_a_transaction_whose_server_process_is_stopped_ends_too(opened: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connect_limits, "ANSWER_SLACK", 1.0)
    with opened(statement_timeout="1 s") as session:
        try:
            with pytest.raises(DatabaseError, match="whether the statement took effect is not known"), session.transaction():
                os.kill(session.backend_pid, signal.SIGSTOP)
        finally:
            os.kill(session.backend_pid, signal.SIGCONT)
        assert session.closed


def test_the_limit_is_each_statements_own_and_leaves_other_connections_alone(opened: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connect_limits, "ANSWER_SLACK", 1.0)
    # Together they last for longer than the limit and what is allowed beyond it.
    with opened(statement_timeout="3 s") as session:
        for _turn in range(3):
            session.value("SELECT pg_sleep(1.5)")
        with opened(statement_timeout="1 min") as other:
            assert other.value("SELECT pg_sleep(4.5)") == ""
            # More than a socket holds, both ways.
            assert other.value("SELECT repeat(%s, 2)", ["x" * 5_000_000]) == "x" * 10_000_000


def test_a_dead_network_is_noticed(opened: Connect, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with opened() as session:
        assert _kept_alive(session) == (1, 30, 10, 3, 60000)
    with opened(connect_params={"keepalives_idle": "7", "tcp_user_timeout": "5000"}) as session:
        assert _kept_alive(session) == (1, 7, 10, 3, 5000)
    services = tmp_path / "services.conf"
    services.write_text(f"[here]\nhost=127.0.0.1\nport={database.cluster.port}\nkeepalives_idle=8\n", encoding="ascii")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    rest = {"login_user": database.login()["login_user"], "login_db": database.name}
    with opened(login={**rest, "connect_params": {"service": "here"}}) as session:
        assert _kept_alive(session)[:2] == (1, 8)


def _kept_alive(session: _connection.Database) -> tuple[int, ...]:
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    with socket.socket(fileno=os.dup(session._connection.fileno())) as channel:
        on = channel.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        return (on, *(channel.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names))


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
        until(lambda: database.query(running))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert until(lambda: not database.query(running))
