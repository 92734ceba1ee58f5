"""Real refusals: each layer of a connection, made to fail, says that it is the one."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _driver
from ansible_collections.pgops.runbook.plugins.module_utils._connect_failure import Opened, diagnose
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ConnectError, InvalidValue
from tests.ground.cluster import Cluster
from tests.ground.servers import Installation
from tests.integration.children import children, until

pytestmark = pytest.mark.usefixtures("_one_driver")

Refused = Callable[..., ConnectError]
WRONG = "not-the-password"


@pytest.fixture(autouse=True)
def _no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PG") and not name.startswith("PGOPS")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def guarded(installation: Installation) -> Iterator[Cluster]:
    """A server of its own that asks for passwords, takes few sessions, and has a role and a database for each refusal."""
    with Cluster(installation, settings={"max_connections": 6, "superuser_reserved_connections": 1}, auth="scram-sha-256") as server:
        with server.connect() as superuser:
            for statement in (
                "CREATE ROLE one_session LOGIN PASSWORD 'ground' CONNECTION LIMIT 1",
                "CREATE ROLE plain LOGIN PASSWORD 'ground'",
                "CREATE ROLE no_login PASSWORD 'ground'",
                "CREATE DATABASE private",
                "REVOKE CONNECT ON DATABASE private FROM PUBLIC",
                "CREATE DATABASE closed ALLOW_CONNECTIONS false",
            ):
                superuser.execute(statement.encode())
        hba = server.data / "pg_hba.conf"
        lines = hba.read_text(encoding="utf-8")
        hba.write_text(f"host all rejected all reject\nlocal all rejected peer\n{lines}", encoding="utf-8")
        with server.connect() as superuser:
            superuser.execute("CREATE ROLE rejected LOGIN; SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def refused(guarded: Cluster) -> Refused:
    def try_it(login: dict[str, Any] | None = None, **options: Any) -> ConnectError:
        params = {**(login or guarded.login()), "connect_timeout": "60 s", **options}
        with pytest.raises(ConnectError) as caught:
            connect(ConnectionOptions.from_params(params), application_name="pgops.runbook/test", read_only=False).close()
        # The socket's folder has the ground's name, which is its password too.
        shown = f"{caught.value!r} {caught.value.as_result()}".replace(str(guarded.socket_dir), "")
        assert "ground" not in shown
        assert WRONG not in shown
        return caught.value

    return try_it


@pytest.mark.parametrize(
    ("options", "layer", "sqlstate", "words"),
    [
        ({"login_host": "nohost.invalid"}, "name", None, "nohost.invalid"),
        ({"login_port": 1}, "port", None, "Connection refused"),
        ({"login_host": "/nowhere"}, "port", None, "No such file or directory"),
        ({"login_password": WRONG}, "authentication", "28P01", "password authentication failed"),
        ({"login_password": "", "connect_params": {"password": WRONG}}, "authentication", "28P01", "password authentication failed"),
        ({"login_password": None, "connect_params": {"passfile": "/nowhere"}}, "authentication", "28P01", "no password supplied"),
        ({"login_user": "nobody here"}, "authentication", "28P01", "password authentication failed"),
        ({"login_user": "no_login"}, "authentication", "28000", "not permitted to log in"),
        ({"login_user": "rejected"}, "authentication", "28000", "pg_hba.conf rejects"),
        ({"login_db": "missing one"}, "database", "3D000", 'database "missing one" does not exist'),
        ({"login_db": "closed"}, "database", "55000", "not currently accepting connections"),
        ({"login_db": "private", "login_user": "plain"}, "authorization", "42501", "permission denied for database"),
        ({"session_role": "missing role"}, "authorization", "22023", 'cannot act as role "missing role"'),
        ({"connect_params": {"service": "nowhere", "host": None}}, "service", None, 'service "nowhere"'),
        ({"connect_params": {"options": "-c no_such_setting=1"}}, "session", None, "no_such_setting"),
    ],
)
def test_the_layer_is_named(refused: Refused, options: dict[str, Any], layer: str, sqlstate: str | None, words: str) -> None:
    error = refused(**options)
    assert (error.layer, error.sqlstate) == (layer, sqlstate)
    assert words in error.message
    assert error.message.endswith(f"(layer: {layer}).")
    assert error.hint


def test_the_message_names_database_host_and_user(refused: Refused, guarded: Cluster) -> None:
    place = f'database "postgres" at 127.0.0.1:{guarded.port} as "postgres"'
    assert refused(login_password=WRONG).message == f"cannot connect to {place}: password authentication failed (layer: authentication)."


def test_the_socket_of_another_port_is_missing(refused: Refused, guarded: Cluster) -> None:
    error = refused(guarded.login(tcp=False), login_port=1)
    assert error.layer == "port"
    assert f"socket {guarded.socket_dir}/.s.PGSQL.1" in error.message


def test_the_wrong_system_user_is_authentication(refused: Refused, guarded: Cluster) -> None:
    error = refused(guarded.login(tcp=False), login_user="rejected")
    assert (error.layer, error.sqlstate) == ("authentication", "28000")


def test_a_port_that_never_answers_times_out(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "600")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        error = refused(login_port=silent.getsockname()[1], connect_timeout="2 s")
    assert error.layer == "port"
    assert time.monotonic() - started < 60


def test_a_port_of_another_service_is_no_server(refused: Refused) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            channel, _address = listener.accept()
            with channel:
                channel.recv(8)
                channel.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        error = refused(login_port=listener.getsockname()[1])
    assert error.layer == "port"


def _until_sessions(server: Cluster, count: int) -> None:
    """Wait until no more than `count` are left: who has closed one, or was refused, goes on while its place is still taken."""
    clients = (b"127.0.0.1(", b"[local]")
    until(lambda: sum(any(mark in one.arguments for mark in clients) for one in children(server.pid)) <= count)


def test_a_role_has_no_session_left(refused: Refused, guarded: Cluster) -> None:
    _until_sessions(guarded, 0)
    with guarded.connect(user="one_session"):
        error = refused(login_user="one_session")
    assert (error.layer, error.sqlstate) == ("too_many_connections", "53300")
    assert "max_connections" in str(error.hint)


def test_the_server_has_no_session_left(refused: Refused, guarded: Cluster) -> None:
    _until_sessions(guarded, 0)
    with ExitStack() as sessions:
        for _number in range(5):
            sessions.enter_context(guarded.connect(user="plain"))
        reserved = refused(login_user="plain")
        _until_sessions(guarded, 5)
        sessions.enter_context(guarded.connect())
        full = refused()
    _until_sessions(guarded, 0)  # the next test needs a place
    assert (reserved.layer, full.layer) == ("too_many_connections", "too_many_connections")
    assert full.sqlstate == "53300"


def test_words_that_nobody_knows_are_tried_out(guarded: Cluster) -> None:
    driver = _driver.load()
    unknown = driver.Error('connection to server at "127.0.0.1", port 1 failed: ВАЖНО:  неизвестно что')

    def layer(**options: Any) -> tuple[str, str | None]:
        parameters = ConnectionOptions.from_params({**guarded.login(), **options}).parameters()
        error = diagnose(unknown, parameters, {"ground"}, Opened(driver.open, driver.Error))
        assert isinstance(error, ConnectError)
        assert "неизвестно что" in error.message
        return error.layer, error.sqlstate

    assert layer(login_host="nohost.invalid") == ("name", None)
    assert layer(login_port=1) == ("port", None)
    assert layer(ssl_mode="require") == ("tls", None)
    assert layer(login_user="rejected") == ("authentication", "28000")
    assert layer(login_password=WRONG) == ("authentication", None)
    assert layer(login_db="missing one") == ("database", "3D000")
    assert layer(login_db="private", login_user="plain") == ("authorization", "42501")


@pytest.mark.parametrize("inside", [{"colour": "red"}, {"sslmode": "on"}, {"connect_timeout": "soon"}])
def test_a_wrong_parameter_is_no_refusal(guarded: Cluster, inside: dict[str, str]) -> None:
    options = ConnectionOptions.from_params({**guarded.login(), "connect_params": {**inside, "password": WRONG}})
    with pytest.raises(InvalidValue) as caught:
        connect(options, application_name="pgops.runbook/test", read_only=True)
    assert WRONG not in f"{caught.value!r} {caught.value.as_result()}"


# --- servers that are not up --------------------------------------------------------------------------------------------


@pytest.fixture
def alone(installation: Installation) -> Iterator[Cluster]:
    """A server that a test may stop and start."""
    with Cluster(installation) as server:
        yield server


def _seen(server: Cluster, layer: str) -> ConnectError:
    """Return the first refusal of `layer`, whatever else happens before."""

    def refusal() -> ConnectError | None:
        try:
            connect(ConnectionOptions.from_params(server.login()), application_name="t", read_only=True).close()
        except ConnectError as error:
            return error if error.layer == layer else None
        return None

    return until(refusal)


def test_a_server_that_has_not_recovered_yet_is_starting_up(alone: Cluster) -> None:
    alone.stop()
    if alone.installation.major < 12:
        pytest.skip("standby.signal came with PostgreSQL 12")
    (alone.data / "standby.signal").touch()
    # It asks its archive for a file first, and the archive takes its time.
    alone.settings["restore_command"] = "sleep 1; false"
    starting = threading.Thread(target=alone.start, daemon=True)
    starting.start()
    error = _seen(alone, "starting_up")
    starting.join()
    assert error.sqlstate == "57P03"
    assert "Wait until it has started" in str(error.hint)


def test_a_standby_that_takes_no_sessions_is_starting_up(alone: Cluster) -> None:
    alone.stop()
    (alone.data / "standby.signal").touch()
    alone.settings["hot_standby"] = "off"
    alone.start()
    error = _seen(alone, "starting_up")
    assert error.sqlstate == "57P03"


def test_a_server_that_shuts_down_says_so(alone: Cluster) -> None:
    with alone.connect():
        assert alone.pid is not None
        # The smart way: it waits for the session that is open and takes no other.
        os.kill(alone.pid, 15)
        error = _seen(alone, "shutting_down")
    assert error.sqlstate == "57P03"


def test_a_server_that_is_down_is_a_port(alone: Cluster, tmp_path: Path) -> None:
    alone.stop()
    error = _seen(alone, "port")
    assert "Check that the server runs" in str(error.hint)
    assert not list(tmp_path.iterdir())
