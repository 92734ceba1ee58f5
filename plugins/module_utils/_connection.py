# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One session on one database: how it is opened, what is set on it, and how statements run on it."""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils import _connect_failure, _connect_limits, _driver
from ansible_collections.pgops.runbook.plugins.module_utils._arguments import (
    SSL_MODES,
    TARGET_SESSION_ATTRIBUTES,
    is_connection_string,
    secret_values,
)
from ansible_collections.pgops.runbook.plugins.module_utils._connect_failure import Place
from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration, parse_duration
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ConnectError, DatabaseError, InvalidValue

DEFAULT_CONNECT_TIMEOUT = "10"  # seconds; behind the option, the service file and PGCONNECT_TIMEOUT
IDLE_IN_TRANSACTION_TIMEOUT = "15min"  # a run that hangs between two statements may not hold its locks for longer
CLIENT_CHECK_INTERVAL = "2s"  # how soon a server notices that the process whose statement it runs is gone
LONGEST_TIMEOUT = 2147483647  # milliseconds, the limit of the server's settings

# A session that cannot have these is still correct; without any of the others it is not.
OPTIONAL_SETTINGS = frozenset({"application_name", "client_connection_check_interval", "idle_in_transaction_session_timeout", "jit"})


@dataclass(frozen=True)
class ConnectionOptions:
    """How to reach a database. None means not given: libpq's environment, service file and defaults apply."""

    login_host: str | None = None
    login_port: str | None = None
    login_user: str | None = None
    login_password: str | None = field(default=None, repr=False)
    login_db: str | None = None
    login_unix_socket: str | None = None
    ssl_mode: str | None = None
    ca_cert: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None
    connect_timeout: str | None = None
    target_session_attrs: str | None = None
    connect_params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    session_role: str | None = None
    lock_timeout: str = "5 s"
    statement_timeout: str = "15 min"

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> ConnectionOptions:
        """Return the options among a module's `params`; None and "" are left out. Raises InvalidValue."""
        given: dict[str, Any] = {each.name: str(params[each.name]) for each in fields(cls) if params.get(each.name) not in (None, "")}
        inside = params.get("connect_params") or {}
        given["connect_params"] = {str(key): str(value) for key, value in inside.items() if value not in (None, "")}
        options = cls(**given)
        options.parameters()
        options.milliseconds()
        return options

    def parameters(self) -> dict[str, str]:
        """Return libpq's connection parameters; `connect_params` win over the options. Raises InvalidValue."""
        host = self.login_host
        if self.login_unix_socket:
            if host not in (None, "localhost"):
                raise InvalidValue(f"login_host is {host}, login_unix_socket {self.login_unix_socket}: give one", object_name="login_host")
            host = self.login_unix_socket
        found = {
            "host": host,
            "port": _ports(self.login_port),
            "user": self.login_user,
            "password": self.login_password,
            "dbname": self.login_db,
            "sslmode": _one_of("ssl_mode", self.ssl_mode, SSL_MODES),
            "sslrootcert": _expanded(self.ca_cert),
            "sslcert": self.ssl_cert,
            "sslkey": self.ssl_key,
            "connect_timeout": _seconds("connect_timeout", self.connect_timeout),
            "target_session_attrs": _one_of("target_session_attrs", self.target_session_attrs, TARGET_SESSION_ATTRIBUTES),
            **self.connect_params,
            # Results are decoded as UTF-8 whatever the database's own encoding is.
            "client_encoding": "utf8",
        }
        for option, name in (("login_db", "dbname"), ("login_host", "host")):
            if is_connection_string(found[name]):
                # Not shown: it may hold a password.
                raise InvalidValue(f"{option} holds a connection string: give its parts by login_* and connect_params", object_name=option)
        return {name: str(value) for name, value in found.items() if value is not None}

    def milliseconds(self) -> dict[str, int]:
        """Return `lock_timeout` and `statement_timeout` in milliseconds. Raises InvalidValue."""
        return {name: _milliseconds(name, getattr(self, name)) for name in ("lock_timeout", "statement_timeout")}

    def secrets(self) -> set[str]:
        """Return the values that may never be shown."""
        return secret_values(vars(self), os.environ)

    def to(self, database: str) -> ConnectionOptions:
        """Return the same login to `database`."""
        # One that is named there would win.
        others = {key: value for key, value in self.connect_params.items() if key != "dbname"}
        return replace(self, login_db=database, connect_params=others)

    def within(self, seconds: float) -> ConnectionOptions:
        """Return the same login, whose statements may take so many `seconds`, as far as a server can count them."""
        return replace(self, statement_timeout=str(max(1, math.floor(min(seconds, LONGEST_TIMEOUT / 1000)))))


class Database:
    """A session in autocommit. Statements are text or the driver's compositions; parameters are `%s` or `%(name)s`.

    Values come back JSON-safe (see `_driver`). A server's refusal is raised as DatabaseError with its SQLSTATE, after
    which the session can be used again. `settings_refused` holds the optional settings that the server would not take, by name
    with what it said: for whoever looks into an odd session, because the engine is right without them.
    """

    def __init__(self, driver: _driver.Driver, connection: Any, statement_seconds: float) -> None:
        self._driver = driver
        self._connection = connection
        self._statement_seconds = statement_seconds
        self._in_transaction = False
        self.sql = driver.sql
        self.driver_name = driver.name
        self.server_version = int(getattr(connection, "info", connection).server_version)
        self.round_trips = 0
        self.settings_refused: dict[str, str] = {}
        self.in_recovery = False
        self.name = ""
        self.user = ""
        self.backend_pid = 0

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session; more than once does no harm."""
        self._connection.close()

    @property
    def closed(self) -> bool:
        """Whether the session has ended, by `close` or because the server was lost."""
        return bool(self._connection.closed)

    @property
    def in_transaction(self) -> bool:
        """Whether a block of `transaction` is running."""
        return self._in_transaction

    def rows(self, statement: Any, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return every row of `statement` as a dictionary. Raises DatabaseError."""
        with self._run(statement, parameters) as cursor:
            return self._driver.rows(cursor)

    def row(self, statement: Any, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Return the only row of `statement`, or None without one. Raises DatabaseError, also for several rows."""
        found = self.rows(statement, parameters)
        if len(found) > 1:
            raise DatabaseError(f"{len(found)} rows came back where at most one was expected")
        return found[0] if found else None

    def value(self, statement: Any, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
        """Return the first column of the only row of `statement`, or None without a row. Raises DatabaseError."""
        found = self.row(statement, parameters)
        return next(iter(found.values())) if found else None

    def execute(self, statement: Any, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> int:
        """Run `statement` and return how many rows it touched (-1 where the server does not count). Raises DatabaseError."""
        with self._run(statement, parameters) as cursor:
            return int(cursor.rowcount)

    def copy_in(self, statement: Any, chunks: Iterable[bytes]) -> int:
        """Run a COPY ... FROM STDIN with the bytes of `chunks` and return how many rows came. Raises DatabaseError.

        What `chunks` raises ends the statement and passes through. Only the server's statement_timeout limits it.
        """
        with self._errors_of(statement, False) as (cursor, text):
            self._driver.copy_in(cursor, text, chunks)
            return int(cursor.rowcount)

    @contextmanager
    def transaction(self, read_only: bool = False, snapshot: bool = False) -> Iterator[None]:
        """Run the block in one transaction: committed at its end, rolled back by an error.

        `snapshot` makes all its statements see one state of the database (REPEATABLE READ). Transactions do not nest.
        """
        if self._in_transaction:
            raise DatabaseError("a transaction is open already: transactions do not nest")
        parts = ["BEGIN", *(["ISOLATION LEVEL REPEATABLE READ"] if snapshot else []), *(["READ ONLY"] if read_only else [])]
        self.execute(" ".join(parts))
        self._in_transaction = True
        try:
            yield
            with self._run("COMMIT", None) as cursor:
                if cursor.statusmessage == "ROLLBACK":
                    # A statement failed, its error was caught inside the block, and the server undid everything.
                    raise DatabaseError("the transaction was rolled back: a statement in it had failed", sqlstate="25P02")
        except Exception:
            if not self.closed:
                self.execute("ROLLBACK")
            raise
        except BaseException:
            # Interrupted while a statement may still run: only the end of the session stops it for certain.
            self.close()
            raise
        finally:
            self._in_transaction = False

    def text(self, statement: Any) -> str:
        """Return a composed statement as a person can read and run it."""
        return self._rendered(statement, False)

    def set_application_name(self, text: str) -> None:
        """Show `text` to a DBA as what this session does now, cut to the 63 bytes that a server keeps."""
        self.execute("SELECT pg_catalog.set_config('application_name', %s, false)", (_fitting(text),))

    @contextmanager
    def _run(self, statement: Any, parameters: Any) -> Iterator[Any]:
        with self._errors_of(statement, parameters is not None) as (cursor, text):
            self._driver.execute(cursor, text, self._adapted(parameters), self._statement_seconds + _connect_limits.ANSWER_SLACK)
            yield cursor

    @contextmanager
    def _errors_of(self, statement: Any, escaped: bool) -> Iterator[Tuple[Any, str]]:
        """Give the block a cursor and the text of `statement`, and raise what the driver raises in it as the errors of this collection."""
        text = self._rendered(statement, escaped)
        self.round_trips += 1
        try:
            with self._connection.cursor() as cursor:
                yield cursor, text
        except _connect_limits.Unanswered:
            self.close()
            raise self._unanswered() from None
        except self._driver.Error as error:
            raise _connect_failure.database_error(error) from None

    def _unanswered(self) -> DatabaseError:
        limit, slack = format_duration(self._statement_seconds), format_duration(_connect_limits.ANSWER_SLACK)
        return DatabaseError(
            f"the server did not answer within {limit} (statement_timeout) and {slack} more;"
            " whether the statement took effect is not known",
            object_name=self.name or None,
            hint=f"Look at process {self.backend_pid or '(unknown)'} of the server: is it stopped, does its disk or a standby hang?",
        )

    def _rendered(self, statement: Any, escaped: bool) -> str:
        """Return the text of `statement`, in which a `%` of an identifier is not a placeholder's."""
        if isinstance(statement, str):
            return statement
        if isinstance(statement, self.sql.Composed):
            return "".join(self._rendered(part, escaped) for part in statement)
        text: str = statement.as_string(self._connection)
        if escaped and not isinstance(statement, (self.sql.SQL, self.sql.Placeholder)):
            text = text.replace("%", "%%")
        return text

    def _adapted(self, parameters: Any) -> Any:
        if parameters is None:
            return None
        if isinstance(parameters, Mapping):
            return {name: self._driver.adapt(value) for name, value in parameters.items()}
        return [self._driver.adapt(value) for value in parameters]


def connect(options: ConnectionOptions, *, application_name: str, read_only: bool, search_path: Sequence[str] = ()) -> Database:
    """Open a session with everything set that the engine relies on.

    Raises DriverMissing, InvalidValue, and ConnectError, whose `layer` says what refused. With `read_only` false a
    server that takes no writes is an error of layer `session`, before anything has run.
    """
    driver = _driver.load()
    parameters = _connect_limits.with_keepalives(options.parameters(), driver.libpq_version, os.environ)
    with _environment():
        try:
            connection = driver.open(parameters)
        except driver.Error as error:
            again = _connect_failure.Opened(driver.open, driver.Error)
            raise _connect_failure.diagnose(error, parameters, options.secrets(), again) from None
    database = Database(driver, connection, options.milliseconds()["statement_timeout"] / 1000)
    try:
        _prepare(database, options, Place.of(parameters), application_name, read_only, search_path)
    except BaseException:
        database.close()
        raise
    return database


def _prepare(
    database: Database, options: ConnectionOptions, place: Place, application_name: str, read_only: bool, search_path: Sequence[str]
) -> None:
    if options.session_role:
        try:
            database.execute("SELECT pg_catalog.set_config('role', %s, false)", (options.session_role,))
        except DatabaseError as error:
            raise ConnectError(
                f'cannot act as role "{options.session_role}" in {place}: {error.message} (layer: authorization).',
                layer="authorization",
                object_name=options.session_role,
                sqlstate=error.sqlstate,
                hint="Grant that role to the login role, or leave session_role out.",
            ) from None
    try:
        facts = _facts(database)
        _set(database, _settings(database, options, application_name, read_only, search_path))
    except DatabaseError as error:
        raise ConnectError(
            f"cannot set up the session in {place}: {error.message} (layer: session).",
            layer="session",
            object_name=str(place),
            sqlstate=error.sqlstate,
            hint=error.hint,
        ) from None
    database.name, database.user, database.backend_pid = facts["name"], facts["login"], facts["pid"]
    database.in_recovery = facts["in_recovery"]
    if not read_only:
        _connect_failure.require_writable(place, facts["in_recovery"], facts["read_only"])


def _facts(database: Database) -> dict[str, Any]:
    return (
        database.row(
            "SELECT current_database() AS name, current_user AS login, pg_catalog.pg_backend_pid() AS pid,"
            " pg_catalog.pg_is_in_recovery() AS in_recovery, pg_catalog.current_setting('transaction_read_only') = 'on' AS read_only"
        )
        or {}
    )


def _settings(
    database: Database, options: ConnectionOptions, application_name: str, read_only: bool, search_path: Sequence[str]
) -> dict[str, str]:
    path = ", ".join('"' + schema.replace('"', '""') + '"' for schema in ("pg_catalog", *search_path, "pg_temp"))
    settings = {
        "application_name": _fitting(application_name),
        "search_path": path,
        **{name: f"{count}ms" for name, count in options.milliseconds().items()},
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT,
        # A policy must end in an error: with it, a hidden row would be counted as a row that is not there.
        "row_security": "off",
        "jit": "off",
        # Where a database or role has another default, a statement would not see what has been committed since the one before it.
        "default_transaction_isolation": "read committed",
        "TimeZone": "UTC",
        "DateStyle": "ISO, YMD",
        "IntervalStyle": "postgres",
        "bytea_output": "hex",
        "extra_float_digits": "1",
        "standard_conforming_strings": "on",
    }
    if database.server_version >= 140000:  # an older one would refuse it, which costs a round trip per setting
        settings["client_connection_check_interval"] = CLIENT_CHECK_INTERVAL
    if read_only:
        settings["default_transaction_read_only"] = "on"
    return settings


def _set(database: Database, settings: dict[str, str]) -> None:
    """Set everything in one round trip, or one by one where the server refuses any; an optional one may stay refused."""
    try:
        _set_all(database, settings)
    except DatabaseError:
        if database.closed:
            raise
        for name, text in settings.items():
            _set_one(database, name, text)


def _set_one(database: Database, name: str, text: str) -> None:
    try:
        _set_all(database, {name: text})
    except DatabaseError as error:
        if name not in OPTIONAL_SETTINGS or database.closed:
            raise
        database.settings_refused[name] = error.message


def _set_all(database: Database, settings: dict[str, str]) -> None:
    sql = database.sql
    calls = sql.SQL(", ").join(sql.SQL("pg_catalog.set_config(%s, %s, false)") for _name in settings)
    database.rows(sql.SQL("SELECT {}").format(calls), [part for pair in settings.items() for part in pair])


@contextmanager
def _environment() -> Iterator[None]:
    """Hide empty PG* variables from libpq for the block, and let it wait for a connection for a bounded time only.

    libpq takes PGSSLMODE='' for a value and refuses it. A variable, not a parameter, holds the time, so that a service
    file can say another one.
    """
    empty = {name: text for name, text in os.environ.items() if name.startswith("PG") and not text}
    for name in empty:
        del os.environ[name]
    bounded = "PGCONNECT_TIMEOUT" in os.environ
    os.environ.setdefault("PGCONNECT_TIMEOUT", DEFAULT_CONNECT_TIMEOUT)
    try:
        yield
    finally:
        if not bounded:
            del os.environ["PGCONNECT_TIMEOUT"]
        os.environ.update(empty)


def _expanded(path: str | None) -> str | None:
    # `system` is a word of libpq, not a path.
    return str(Path(path).expanduser()) if path else None


def _ports(text: str | None) -> str | None:
    if text is None:
        return None
    ports = [part.strip() for part in text.split(",")]
    if not all(port.isdecimal() and 0 < int(port) < 65536 for port in ports):
        raise InvalidValue(f"login_port: {text!r} is no port (1 to 65535) and no list of ports such as 5432,5433", object_name="login_port")
    return ",".join(ports)


def _one_of(option: str, text: str | None, allowed: Sequence[str]) -> str | None:
    if text is not None and text not in allowed:
        raise InvalidValue(f"{option}: {text!r} is not one of {', '.join(allowed)}", object_name=option)
    return text


def _seconds(option: str, text: str | None) -> str | None:
    return None if text is None else str(math.ceil(_duration(option, text)))


def _milliseconds(option: str, text: str) -> int:
    return math.ceil(_duration(option, text) * 1000)


def _duration(option: str, text: str) -> float:
    try:
        seconds = parse_duration(text)
    except InvalidValue as error:
        raise InvalidValue(f"{option}: {error.message}", object_name=option) from None
    if not 0 < seconds * 1000 <= LONGEST_TIMEOUT:
        raise InvalidValue(f"{option}: {text!r} is not between 1 ms and 24 days; there is no run without a limit", object_name=option)
    return seconds


def _fitting(text: str) -> str:
    return text.encode("utf-8")[:63].decode("utf-8", "ignore")
