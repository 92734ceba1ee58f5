"""Client programs log in as the module does, and nobody on the host can read the password."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from ansible_collections.pgops.runbook.plugins.module_utils._client.child import PIPE, Child, run
from ansible_collections.pgops.runbook.plugins.module_utils._client.login import ClientLogin, client_login
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ProgramFailed
from tests.ground.cluster import PASSWORD_ROLE, Cluster
from tests.ground.databases import Database
from tests.integration.children import group, until

pytestmark = pytest.mark.any_driver

PASSWORD = "p:a\\s's wörd"
USER = "dumper"


@pytest.fixture(scope="module")
def dumper(cluster: Cluster) -> Iterator[str]:
    """A superuser who must give a password, with everything in it that a password file has to escape."""
    with cluster.connect() as connection:
        connection.execute(f"CREATE ROLE {PASSWORD_ROLE}")
        connection.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD {}").format(sql.Identifier(USER), sql.Literal(PASSWORD)))
        connection.execute(f"GRANT {PASSWORD_ROLE} TO {USER}")
    yield USER
    with cluster.connect() as connection:
        connection.execute(f"DROP ROLE {USER}, {PASSWORD_ROLE}")


@pytest.fixture
def options(database: Database, dumper: str) -> ConnectionOptions:
    return given(database, login_user=dumper, login_password=PASSWORD)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PG"):
            monkeypatch.delenv(name)


def given(database: Database, **other: object) -> ConnectionOptions:
    login = {key: text for key, text in database.login().items() if key != "login_password"}
    return ConnectionOptions.from_params({**login, **other})


def dumped(cluster: Cluster, login: ClientLogin, *more: str) -> str:
    command = [str(cluster.installation.program("pg_dump")), *login.arguments, *login.role, "--schema-only", *more]
    return run(command, environment=login.environment, secrets=login.secrets)


def asked(cluster: Cluster, login: ClientLogin, question: str) -> str:
    psql = str(cluster.installation.program("psql"))
    return run([psql, "-X", "-A", "-t", *login.arguments, "-c", question], environment=login.role_in_environment()).rstrip("\n")


# --- the password -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["option", "variable"])
def test_nobody_can_read_the_password_of_a_running_dump(
    database: Database, options: ConnectionOptions, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "variable":
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
        options = given(database, login_user=USER)
    database.query("CREATE TABLE held ()")
    waiting = "SELECT usename, application_name FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with database.connect() as holder, client_login(options, database.name, "pgops.runbook/pg_backup") as login:
        assert PASSWORD in login.secrets
        assert "wörd" not in repr(login)
        holder.execute("BEGIN; LOCK TABLE held")
        command = [str(database.cluster.installation.program("pg_dump")), *login.arguments]
        with Child(command, environment=login.environment, stdout=PIPE) as child:
            assert until(lambda: database.query(waiting)) == [(USER, "pgops.runbook/pg_backup")]
            seen = group(child.pid)
            assert seen
            for process in seen:
                for part in (PASSWORD, "wörd", "PGPASSWORD"):
                    assert part.encode() not in process.arguments + process.environment
            holder.execute("ROLLBACK")
            assert child.stdout is not None
            assert b"CREATE TABLE public.held" in child.stdout.read()
            child.check()


def test_the_password_file_is_its_owners_and_goes_with_the_block(database: Database, options: ConnectionOptions) -> None:
    with client_login(options, database.name, "test") as login:
        path = Path(login.arguments[1].partition("passfile='")[2].partition("'")[0])
        assert path.stat().st_mode & 0o777 == 0o600
        assert "wörd" in path.read_text(encoding="utf-8")
        assert not os.get_inheritable(int(path.name))
    assert not path.exists()


def test_without_files_in_memory_there_is_one_on_disk_that_goes(
    database: Database, options: ConnectionOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with client_login(options, database.name, "test") as login:
        assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.is_file()] == [0o600]
        assert asked(database.cluster, login, "SELECT current_user") == USER
    # A folder may be there, into which programs were copied that the server's account could not reach.
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_wrong_password_fails_at_once_without_asking(database: Database, dumper: str) -> None:
    options = given(database, login_user=dumper, login_password="wrong-word")
    with client_login(options, database.name, "test") as login, pytest.raises(ProgramFailed, match="authentication failed") as failed:
        dumped(database.cluster, login)
    assert "wrong-word" not in str(failed.value.as_result())
    with (
        client_login(given(database, login_user=dumper), database.name, "test") as login,
        pytest.raises(ProgramFailed, match="no password"),
    ):
        dumped(database.cluster, login)


# --- where the parent's own settings come from ------------------------------------------------------------------------


def service(folder: Path, database: Database, **more: str) -> Path:
    place = database.cluster.address(database.name, tcp=True)
    lines = {"host": place["host"], "port": place["port"], "user": USER, **more}
    path = folder / "services.conf"
    path.write_text("[shop]\n" + "".join(f"{key}={text}\n" for key, text in lines.items()), encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.mark.usefixtures("dumper")
def test_service_files_go_on_working(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICEFILE", str(service(tmp_path, database, password=PASSWORD)))
    with client_login(ConnectionOptions(connect_params={"service": "shop"}), database.name, "test") as login:
        assert asked(database.cluster, login, "SELECT current_user, current_database()") == f"{USER}|{database.name}"
    monkeypatch.setenv("PGSERVICE", "shop")
    monkeypatch.setenv("PGPASSWORD", "wrong: the service's wins")
    with client_login(ConnectionOptions(), database.name, "test") as login:
        assert asked(database.cluster, login, "SELECT current_user") == USER


@pytest.mark.usefixtures("dumper")
def test_a_given_password_wins_over_that_of_a_service_file(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICEFILE", str(service(tmp_path, database, password="wrong")))
    options = ConnectionOptions(login_password=PASSWORD, connect_params={"service": "shop"})
    with client_login(options, database.name, "test") as login:
        assert asked(database.cluster, login, "SELECT current_user") == USER


def test_password_files_of_the_account_go_on_working(
    database: Database, dumper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "passwords"
    path.write_text("*:*:*:*:" + PASSWORD.replace("\\", "\\\\").replace(":", "\\:") + "\n", encoding="utf-8")
    path.chmod(0o600)
    with monkeypatch.context() as patched:
        patched.setenv("PGPASSFILE", str(path))
        patched.setenv("PGSSLMODE", "")  # libpq would refuse this one
        with client_login(given(database, login_user=dumper), database.name, "test") as login:
            assert asked(database.cluster, login, "SELECT current_user") == USER


def test_settings_of_the_session_are_handed_on_unseen(database: Database) -> None:
    options = given(database, connect_params={"options": "-c my.secret=hunter2"})
    with client_login(options, database.name, "test") as login:
        assert "hunter2" not in str(login.arguments)
        assert asked(database.cluster, login, "SHOW my.secret") == "hunter2"


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a=b", "host=10.255.255.1 dbname=postgres", 'it\'s "odd" \\', "line\nend", "-d/x", "postgresql://x/y", "ünïçødé ✓"]
)
def test_a_database_is_reached_whatever_its_name(cluster: Cluster, name: str) -> None:
    with Database.create(cluster, name) as database, client_login(given(database, login_db=None), name, "test") as login:
        assert asked(cluster, login, "SELECT current_database()") == name
        assert "PostgreSQL database dump complete" in dumped(cluster, login)


@pytest.mark.parametrize("name", ["plain", "two words", "back\\slash", "quo\"te's"])
def test_programs_act_as_the_role(database: Database, name: str) -> None:
    database.query(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    try:
        with client_login(given(database, session_role=name), database.name, "test") as login:
            assert asked(database.cluster, login, "SELECT current_user") == name
            database.query("CREATE TABLE mine ()")
            with pytest.raises(ProgramFailed, match="permission denied"):
                dumped(database.cluster, login)
    finally:
        database.query(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_the_bytes_of_a_database_without_encoding_are_dumped_as_they_are(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "UTF8")
    name = "bytes_as_they_are"
    with cluster.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    with Database(cluster, name) as database:
        with database.connect(client_encoding="SQL_ASCII") as connection:
            connection.execute("CREATE TABLE odd AS SELECT convert_from('\\xff41', 'SQL_ASCII') AS c")
        with client_login(given(database), name, "test") as login:
            command = [str(cluster.installation.program("pg_dump")), *login.arguments]
            done = subprocess.run(command, env=login.environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\xffA\n" in done.stdout
