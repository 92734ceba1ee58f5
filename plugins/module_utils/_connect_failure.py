# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a refusal means: which layer failed, on which object, what to do. Never with a secret in it."""

from __future__ import annotations

import os
import pwd
import re
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._connect_kinds import (
    BY_STATE,
    CLIENT,
    LAYER_HINTS,
    LAYERS,
    PASSWORD_HINT,
    SERVER,
    Kind,
)
from ansible_collections.pgops.runbook.plugins.module_utils._connect_probe import probe
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ConnectError, DatabaseError, InvalidValue, RunbookError

HIDDEN = "********"
_INVALID = re.compile(
    r"invalid connection option|invalid (\w+ )?value|invalid port number|invalid integer|invalid dsn|bad value for|could not match \d+"
)
_ATTEMPT = re.compile(r"connection to server (at|on socket) \"([^\"]*)\"(?: \([^)]*\))?(?:, port (\d+))? failed: ")
_UNRESOLVED = re.compile(r"(?:could not translate host name|failed to resolve host) ['\"]([^'\"]+)['\"]")
_LISTED = re.compile(r"^- host: (\S+), port: (\S+), hostaddr: \S+: (?:connection failed: )?", re.MULTILINE)
# Nothing else of an error's context is shown: it quotes statements, which may hold values.
_FUNCTION = re.compile(r"function (\S+\([^)]*\)) line")
_STATEMENT_HINTS = {
    "55P03": "Another session holds the lock: try again later, or give a longer lock_timeout.",
    "57014": "Give a longer statement_timeout if the work is as large as that.",
    "42501": "Grant the privilege to the role, or connect as a role that has it.",
}


class Opened(NamedTuple):
    """How the driver connects, and the errors with which it refuses."""

    connect: Callable[[dict[str, str]], Any]
    refusal: type[Exception]


class Place(NamedTuple):
    """What was to be reached, as far as options and environment say it."""

    database: str
    address: str
    user: str
    hosts: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Place:
        """Return what libpq takes from its `parameters` and the environment."""
        service = parameters.get("service") or os.environ.get("PGSERVICE")
        user = _first(parameters, "user", "PGUSER") or ("" if service else _system_user())
        database = _first(parameters, "dbname", "PGDATABASE") or ("" if service else user)
        hosts = (_first(parameters, "host", "PGHOST") or _first(parameters, "hostaddr", "PGHOSTADDR")).split(",")
        ports = [int(port) if port.strip().isdecimal() else 5432 for port in (_first(parameters, "port", "PGPORT") or "5432").split(",")]
        pairs = tuple(zip(hosts, ports * len(hosts) if len(ports) == 1 else ports))
        if service and not hosts[0]:
            return cls(database, f'service "{service}"', user, ())
        return cls(database, ", ".join(_address(host, port) for host, port in pairs), user, tuple(pair for pair in pairs if pair[0]))

    def __str__(self) -> str:
        database = f'database "{self.database}"' if self.database else "the database"
        user = f' as "{self.user}"' if self.user else ""
        return f"{database} at {self.address}{user}"


class Attempt(NamedTuple):
    """What became of one host: where it was (empty if not said), what was answered, and the kind if the words are known."""

    where: str
    problem: str
    kind: Kind | None


def diagnose(error: Exception, parameters: Mapping[str, str], secrets: Iterable[str], opened: Opened) -> RunbookError:
    """Return the ConnectError of a driver's `error` on connecting with libpq's `parameters`, or InvalidValue for a wrong option.

    `opened` connects with other parameters; it is called only where the words of the error are not known.
    """
    text, sqlstate = str(error), getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    place = Place.of(parameters)
    if _INVALID.search(text):
        return InvalidValue(f"cannot connect to {place}: {without_secrets(_one_line(text), secrets)}", object_name="connect_params")
    attempts = parse_attempts(text)
    known = [attempt.kind for attempt in attempts if attempt.kind]
    layer, hint, code = _cause(place, known, sqlstate, parameters, opened)
    problem = without_secrets("; ".join(_told(attempt, len(attempts)) for attempt in attempts), secrets)
    problem = problem.replace(f' for user "{place.user}"', "") if place.user else problem
    return ConnectError(
        f"cannot connect to {place}: {problem} (layer: {layer}).",
        layer=layer,
        object_name=_object(layer, place),
        sqlstate=code,
        hint=hint,
    )


def _cause(
    place: Place, known: Sequence[Kind], sqlstate: str | None, parameters: Mapping[str, str], opened: Opened
) -> tuple[str, str | None, str | None]:
    """Return layer, hint and SQLSTATE: from the words that were known, else from the SQLSTATE, else from trying layer by layer."""
    if known:
        furthest = max(known, key=lambda kind: LAYERS.index(kind.layer))
        return furthest.layer, furthest.hint, sqlstate or furthest.sqlstate
    if sqlstate in BY_STATE:
        return (*BY_STATE[sqlstate], sqlstate)
    return _probed(place, parameters, opened)


def parse_attempts(text: str) -> list[Attempt]:
    """Return what a driver's `text` says of each host that it tried; the same answer of the same host only once."""
    _head, several, listed = text.partition("All failures were:")
    text = _LISTED.sub(r'connection to server at "\1", port \2 failed: ', listed).replace("'", "") if several else text
    pieces = _ATTEMPT.split(_UNRESOLVED.sub(r'connection to server at "\1" failed: \g<0>', text))
    if len(pieces) == 1:
        return [_attempt("", "", text)]
    found = []
    for form, place, port, answer in zip(pieces[1::4], pieces[2::4], pieces[3::4], pieces[4::4]):
        if answer.strip():
            found.append(_attempt(form, f"{place}:{port}" if port else place, answer))
    return list(dict.fromkeys(found)) or [_attempt("", "", text)]


def _attempt(form: str, where: str, answer: str) -> Attempt:
    fatal = re.search(r"(?:FATAL|ERROR):\s+(.*)", answer)
    problem = fatal.group(1) if fatal else _one_line(answer)
    subject = problem if fatal else f"{form} {where} {problem}"
    kinds = SERVER if fatal else CLIENT
    return Attempt(where, problem, next((kind for kind in kinds if re.search(kind.pattern, subject)), None))


def _one_line(text: str) -> str:
    lines = [line.strip() for line in re.sub(r"^connection failed: ", "", text.strip()).splitlines()]
    return lines[0] if lines else "the driver gave no reason"


def _told(attempt: Attempt, count: int) -> str:
    return f"{attempt.where}: {attempt.problem}" if count > 1 and attempt.where else attempt.problem


def _probed(place: Place, parameters: Mapping[str, str], opened: Opened) -> tuple[str, str | None, str | None]:
    """Return layer, hint and SQLSTATE where no word of the error was known."""
    for host, port in place.hosts:
        finding = probe(host, port, {**parameters, "user": place.user, "dbname": place.database})
        if finding.sqlstate:
            layer, hint = BY_STATE.get(finding.sqlstate, ("unknown", None))
            return layer, hint, finding.sqlstate
        if finding.layer:
            return finding.layer, LAYER_HINTS.get(finding.layer), None
        return _behind_the_password(place, parameters, opened)
    return "unknown", None, None


def _behind_the_password(place: Place, parameters: Mapping[str, str], opened: Opened) -> tuple[str, str | None, str | None]:
    """Tell a wrong password from a missing or closed database: the same user either comes into another one or does not."""
    for other in ("postgres", "template1"):
        try:
            connection = opened.connect({**parameters, "dbname": other})
        except opened.refusal:
            continue
        try:
            cursor = connection.cursor()
            cursor.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", (place.database,))
            found = cursor.fetchone()
        finally:
            connection.close()
        state = "3D000" if found is None else "42501"
        return (*BY_STATE[state], state)
    return "authentication", PASSWORD_HINT, None


def require_writable(place: Place, in_recovery: bool, read_only: bool) -> None:
    """Raise ConnectError of layer `session` where the session could not write."""
    if in_recovery:
        raise ConnectError(
            f"cannot write to {place}: the server is a read-only standby (layer: session).",
            layer="session",
            object_name=place.address,
            sqlstate="25006",
            hint="Run against the primary: name its host, or list all hosts in login_host with target_session_attrs=read-write.",
        )
    if read_only:
        raise ConnectError(
            f"cannot write to {place}: sessions there are read-only (default_transaction_read_only is on) (layer: session).",
            layer="session",
            object_name=place.address,
            sqlstate="25006",
            hint="It is set for the server, the database or the role: reset it there, or connect as a role that may write.",
        )


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with every one of `secrets` hidden."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def database_error(error: Any) -> DatabaseError:
    """Return the DatabaseError of a driver's `error`.

    The server's DETAIL is left out: it quotes the values of a row, which may be tokens.
    """
    diagnostics = getattr(error, "diag", None)
    sqlstate = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    message = getattr(diagnostics, "message_primary", None) or _one_line(str(error) or type(error).__name__)
    named = [getattr(diagnostics, part, None) for part in ("schema_name", "table_name")]
    hint = _STATEMENT_HINTS.get(sqlstate or "") or getattr(diagnostics, "message_hint", None)
    function = _FUNCTION.search(getattr(diagnostics, "context", None) or "")
    return DatabaseError(
        message,
        object_name=".".join(part for part in named if part) or None,
        sqlstate=sqlstate,
        hint=hint,
        context_function=function.group(1) if function else None,
    )


def _object(layer: str, place: Place) -> str:
    if layer in ("database", "authorization"):
        return place.database
    return place.user if layer == "authentication" and place.user else place.address


def _first(parameters: Mapping[str, str], name: str, variable: str) -> str:
    return parameters.get(name) or os.environ.get(variable) or ""


def _system_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def _address(host: str, port: int) -> str:
    if not host or host.startswith(("/", "@")):
        return f"socket {host}/.s.PGSQL.{port}" if host else f"the local socket, port {port}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
