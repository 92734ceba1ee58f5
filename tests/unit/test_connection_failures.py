"""Each refusal is put down to its layer, by its words where they are known, else by trying; and no secret is in the message."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _connect_failure
from ansible_collections.pgops.runbook.plugins.module_utils._connect_failure import Opened, Place, diagnose, parse_attempts
from ansible_collections.pgops.runbook.plugins.module_utils._connect_kinds import CLIENT, LAYERS, SERVER
from ansible_collections.pgops.runbook.plugins.module_utils._connect_probe import Finding, probe
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ConnectError, InvalidValue

PARAMETERS = {"host": "db1", "port": "5432", "user": "pgops", "dbname": "tim", "password": "s3cr3t"}
AT = 'connection to server at "db1" (10.0.0.1), port 5432 failed: '
SOCKET = 'connection to server on socket "/run/pg/.s.PGSQL.5432" failed: '


class DriverError(Exception):
    """What a driver raises."""

    sqlstate: str | None = None


def _no_second_try(_parameters: dict[str, str]) -> Any:
    raise AssertionError("a known refusal is not tried again")


NEVER = Opened(_no_second_try, DriverError)

# Words of PostgreSQL 12 to 18, of libpq 11 to 18, of psycopg 3 and of PgBouncer.
REFUSALS = [
    ('could not translate host name "db1" to address: Name or service not known\n', "name", None),
    ("failed to resolve host 'db1': [Errno -3] Temporary failure in name resolution", "name", None),
    (AT + "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?\n", "port", None),
    ('could not connect to server: Connection refused\n\tIs the server running on host "db1" (10.0.0.1) and accepting\n', "port", None),
    (AT + "timeout expired\n", "port", None),
    ("connection timeout expired", "port", None),
    (AT + "No route to host\n", "port", None),
    (AT + "Network is unreachable\n", "port", None),
    (SOCKET + "No such file or directory\n\tIs the server running locally and accepting connections on that socket?\n", "port", None),
    (SOCKET + "Permission denied\n", "port", None),
    (AT + "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally\n", "port", None),
    (AT + "received invalid response to SSL negotiation: H\n", "port", None),
    (AT + "server does not support SSL, but SSL was required\n", "tls", None),
    (AT + "SSL error: certificate verify failed\n", "tls", None),
    (AT + 'server certificate for "localhost" does not match host name "db1"\n', "tls", None),
    (AT + 'root certificate file "/nowhere/ca.pem" does not exist\nEither provide the file or change sslmode\n', "tls", None),
    (AT + 'could not read certificate file "/nowhere/c.pem": No such file or directory\n', "tls", None),
    (AT + 'private key file "/k.pem" has group or world access; permissions should be u=rw (0600) or less\n', "tls", None),
    (AT + "SSL error: tlsv1 alert unknown ca\n", "tls", None),
    (AT + 'FATAL:  password authentication failed for user "pgops"\n', "authentication", "28P01"),
    (AT + "fe_sendauth: no password supplied\n", "authentication", "28P01"),
    (AT + 'FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "pgops", database "tim", SSL encryption\n', "authentication", "28000"),
    (
        AT + 'FATAL:  pg_hba.conf rejects connection for host "10.0.0.9", user "pgops", no encryption\n',
        "authentication",
        "28000",
    ),
    (SOCKET + 'FATAL:  Peer authentication failed for user "pgops"\n', "authentication", "28000"),
    (AT + 'FATAL:  certificate authentication failed for user "pgops"\n', "authentication", "28000"),
    (AT + "FATAL:  connection requires a valid client certificate\n", "authentication", "28000"),
    (AT + 'FATAL:  role "pgops" does not exist\n', "authentication", "28000"),
    (AT + 'FATAL:  role "pgops" is not permitted to log in\n', "authentication", "28000"),
    (AT + "SCRAM authentication requires libpq version 10 or above\n", "authentication", None),
    (AT + 'FATAL:  database "tim" does not exist\n', "database", "3D000"),
    (AT + 'FATAL:  database "tim" is not currently accepting connections\n', "database", "55000"),
    (AT + 'FATAL:  permission denied for database "tim"\nDETAIL:  User does not have CONNECT privilege.\n', "authorization", "42501"),
    (AT + "FATAL:  the database system is starting up\n", "starting_up", "57P03"),
    (AT + "FATAL:  the database system is not yet accepting connections\nDETAIL:  Consistent recovery state\n", "starting_up", "57P03"),
    (AT + "FATAL:  the database system is not accepting connections\nDETAIL:  Hot standby mode is disabled.\n", "starting_up", "57P03"),
    (AT + "FATAL:  the database system is in recovery mode\n", "starting_up", "57P03"),
    (AT + "FATAL:  the database system is shutting down\n", "shutting_down", "57P03"),
    (AT + "FATAL:  sorry, too many clients already\n", "too_many_connections", "53300"),
    (AT + 'FATAL:  too many connections for role "pgops"\n', "too_many_connections", "53300"),
    (AT + "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute\n", "too_many_connections", "53300"),
    (AT + "FATAL:  no more connections allowed (max_client_conn)\n", "too_many_connections", "53300"),
    (AT + "FATAL:  no such database: tim\n", "database", "3D000"),
    (AT + "FATAL:  unsupported startup parameter: options\n", "session", None),
    (AT + "session is read-only\n", "session", "25006"),
    (AT + "server is not in hot standby mode\n", "session", "25006"),
    ('could not make a writable connection to server "db1:5432"\n', "session", "25006"),
    ('definition of service "tim" not found\n', "service", None),
    ('service file "/nowhere/pg_service.conf" not found\n', "service", None),
]


@pytest.mark.parametrize("prefix", ["", "connection failed: "])
@pytest.mark.parametrize(("text", "layer", "sqlstate"), REFUSALS)
def test_known_words(text: str, layer: str, sqlstate: str | None, prefix: str) -> None:
    error = diagnose(DriverError(prefix + text), PARAMETERS, {"s3cr3t"}, NEVER)
    assert isinstance(error, ConnectError)
    assert (error.layer, error.sqlstate) == (layer, sqlstate)
    assert error.message.startswith('cannot connect to database "tim" at db1:5432 as "pgops": ')
    assert error.message.endswith(f" (layer: {layer}).")
    assert error.hint
    assert "\n" not in error.message


def test_the_form_of_the_message() -> None:
    error = diagnose(DriverError(AT + 'FATAL:  password authentication failed for user "pgops"\n'), PARAMETERS, (), NEVER)
    assert (
        error.message == 'cannot connect to database "tim" at db1:5432 as "pgops": password authentication failed (layer: authentication).'
    )
    assert error.as_result()["layer"] == "authentication"
    assert error.object_name == "pgops"


def test_every_kind_has_a_layer_that_is_ordered() -> None:
    assert {kind.layer for kind in (*SERVER, *CLIENT)} == set(LAYERS)
    assert all(re.compile(kind.pattern) and kind.hint.endswith(".") for kind in (*SERVER, *CLIENT))


@pytest.mark.parametrize(
    "text",
    [
        'connection to server at "db1" (10.0.0.1), port 5432 failed: Connection refused\n\tIs the server running?\n'
        'connection to server at "db2" (10.0.0.2), port 5433 failed: FATAL:  database "tim" does not exist\n',
        'connection failed: connection to server at "10.0.0.2", port 5433 failed: FATAL:  database "tim" does not exist\n'
        "Multiple connection attempts failed. All failures were:\n"
        "- host: 'db1', port: '5432', hostaddr: '10.0.0.1': connection failed: connection to server at \"10.0.0.1\", port 5432 failed: "
        "Connection refused\n\tIs the server running?\n"
        "- host: 'db2', port: '5433', hostaddr: '10.0.0.2': connection failed: connection to server at \"10.0.0.2\", port 5433 failed: "
        'FATAL:  database "tim" does not exist\n',
    ],
)
def test_of_several_hosts_the_one_that_came_furthest_counts_and_all_are_told(text: str) -> None:
    error = diagnose(DriverError(text), {**PARAMETERS, "host": "db1,db2", "port": "5432,5433"}, (), NEVER)
    assert isinstance(error, ConnectError)
    assert error.layer == "database"
    assert re.search(r"(db1|10\.0\.0\.1):5432: Connection refused; (db2|10\.0\.0\.2):5433: database", error.message)


def test_the_same_answer_with_and_without_encryption_is_told_once() -> None:
    assert len(parse_attempts((AT + "FATAL:  the database system is starting up\n") * 2)) == 1


def test_a_host_that_does_not_resolve_is_told_beside_the_others() -> None:
    text = 'could not translate host name "db1" to address: Name or service not known\n' + AT.replace("db1", "db2") + "Connection refused\n"
    assert [(each.where, each.kind and each.kind.layer) for each in parse_attempts(text)] == [("db1", "name"), ("db2:5432", "port")]


@pytest.mark.parametrize(
    "text", ['invalid dsn: invalid connection option "colour"\n', 'invalid sslmode value: "on"\n', 'invalid port number: "x"\n']
)
def test_a_wrong_parameter_is_no_refusal(text: str) -> None:
    error = diagnose(DriverError(text), PARAMETERS, (), NEVER)
    assert isinstance(error, InvalidValue)
    assert text.splitlines()[0] in error.message


@pytest.mark.parametrize(
    "text", [AT + "FATAL:  what s3cr3t is this", "s3cr3t: invalid dsn", AT + 'FATAL:  database "s3cr3t" does not exist']
)
def test_a_secret_is_never_shown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connect_failure, "probe", lambda *_arguments: Finding("port"))
    error = diagnose(DriverError(text), PARAMETERS, {"s3cr3t"}, NEVER)
    assert "s3cr3t" not in f"{error!r} {error.as_result()}"
    assert "********" in error.message


def test_a_password_does_not_change_the_layer() -> None:
    error = diagnose(DriverError(AT + "Connection refused"), PARAMETERS, {"refused"}, NEVER)
    assert isinstance(error, ConnectError)
    assert error.layer == "port"


def test_a_sqlstate_counts_where_the_words_are_not_known() -> None:
    told = DriverError(AT + "ВАЖНО:  база данных не существует")
    told.sqlstate = "3D000"
    error = diagnose(told, PARAMETERS, (), NEVER)
    assert isinstance(error, ConnectError)
    assert (error.layer, error.sqlstate) == ("database", "3D000")


@contextmanager
def answering(answer: bytes, tls: bytes = b"N") -> Iterator[int]:
    """A port that answers like a server: `tls` to the question for encryption, `answer` to the names of user and database."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            channel, _address = listener.accept()
            with channel:
                channel.recv(8)
                channel.sendall(tls)
                if tls == b"N":
                    channel.recv(1000)
                    channel.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


def refusal(sqlstate: str) -> bytes:
    body = b"S\xd0\x92\0VFATAL\0C" + sqlstate.encode() + b"\0M\xd0\xb1\xd0\xb0\0\0"
    return b"E" + struct.pack("!i", len(body) + 4) + body


@pytest.mark.parametrize(
    ("sqlstate", "layer"),
    [("3D000", "database"), ("28000", "authentication"), ("57P03", "starting_up"), ("53300", "too_many_connections"), ("XX000", "unknown")],
)
def test_a_refusal_in_another_language_is_known_by_its_sqlstate(sqlstate: str, layer: str) -> None:
    with answering(refusal(sqlstate)) as port:
        parameters = {**PARAMETERS, "host": "127.0.0.1", "port": str(port)}
        error = diagnose(DriverError(AT + "ВАЖНО:  нет"), parameters, (), NEVER)
    assert isinstance(error, ConnectError)
    assert (error.layer, error.sqlstate) == (layer, sqlstate)
    assert "нет" in error.message


def test_the_probe_names_the_layer() -> None:
    with answering(b"") as port:
        assert probe("127.0.0.1", port, {"sslmode": "require"}) == Finding("tls")
    with answering(b"", tls=b"H") as port:
        assert probe("127.0.0.1", port, {"sslmode": "require"}) == Finding("port")
    with answering(b"HTTP/1.1 400 Bad Request\r\n") as port:
        assert probe("127.0.0.1", port, PARAMETERS) == Finding("port")
    with answering(b"R" + struct.pack("!ii", 8, 3)) as port:
        assert probe("127.0.0.1", port, PARAMETERS) == Finding(None)
    assert probe("127.0.0.1", 1, PARAMETERS) == Finding("port")
    assert probe("/nowhere", 5432, PARAMETERS) == Finding("port")
    assert probe("nohost.invalid", 5432, PARAMETERS) == Finding("name")


@pytest.mark.parametrize(
    ("parameters", "environment", "expected"),
    [
        ({"host": "db1", "dbname": "tim", "user": "a"}, {}, 'database "tim" at db1:5432 as "a"'),
        ({"user": "a"}, {"PGHOST": "db9", "PGPORT": "6432"}, 'database "a" at db9:6432 as "a"'),
        ({"host": "::1", "user": "a"}, {}, 'database "a" at [::1]:5432 as "a"'),
        ({"host": "/run/pg", "user": "a"}, {}, 'database "a" at socket /run/pg/.s.PGSQL.5432 as "a"'),
        ({"host": "db1,db2", "port": "1,2", "user": "a"}, {}, 'database "a" at db1:1, db2:2 as "a"'),
        ({"service": "tim"}, {}, 'the database at service "tim"'),
        ({"user": "a"}, {}, 'database "a" at the local socket, port 5432 as "a"'),
    ],
)
def test_the_place_is_named_in_words(
    parameters: dict[str, str], environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    assert str(Place.of(parameters)) == expected
