# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a refusal means: which layer failed, on which object, what to do. Never with a secret in it."""

from __future__ import annotations

import os
import re
from typing import Any, Mapping, NamedTuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import ConnectError, DatabaseError

HIDDEN = "********"
_FATAL = re.compile(r"(?:FATAL|ERROR):\s+(.*)")
_HINTS = {
    "55P03": "Another session holds the lock: try again later, or give a longer lock_timeout.",
    "57014": "Give a longer statement_timeout if the work is as large as that.",
    "42501": "Grant the privilege to the role, or connect as a role that has it.",
}


class Place(NamedTuple):
    """What was to be reached, in words for a message."""

    database: str
    address: str
    user: str

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Place:
        """Return what libpq would take from its `parameters` and the environment."""
        get = lambda name, variable: parameters.get(name) or os.environ.get(variable) or ""  # noqa: E731
        hosts = (get("host", "PGHOST") or get("hostaddr", "PGHOSTADDR")).split(",")
        ports = (get("port", "PGPORT") or "5432").split(",")
        ports = ports * len(hosts) if len(ports) == 1 else ports
        address = ", ".join(f"{host or 'the local socket'}:{port}" for host, port in zip(hosts, ports))
        user = get("user", "PGUSER")
        return cls(get("dbname", "PGDATABASE") or user, address, user)

    def __str__(self) -> str:
        database = f'database "{self.database}"' if self.database else "the default database"
        user = f' as "{self.user}"' if self.user else ""
        return f"{database} at {self.address}{user}"


def diagnose(error: Exception, parameters: Mapping[str, str], secrets: set[str]) -> ConnectError:
    """Return the ConnectError of a driver's `error` on connecting."""
    place = Place.of(parameters)
    text = without_secrets(str(error), secrets)
    fatal = _FATAL.search(text)
    problem = fatal.group(1) if fatal else text.strip().splitlines()[0]
    layer = _layer(text)
    return ConnectError(f"cannot connect to {place}: {problem} (layer: {layer}).", layer=layer, object_name=str(place), sqlstate=getattr(error, "sqlstate", None))


def _layer(text: str) -> str:
    for pattern, layer in (
        ("translate host name|resolve host", "name"),
        ("[Cc]onnection refused|timeout expired|No such file|unreachable|timed out", "port"),
        ("SSL|certificate", "tls"),
        ("authentication|pg_hba|no password|role .* does not exist", "authentication"),
        ("permission denied for database", "authorization"),
        ("database .* does not exist", "database"),
        ("starting up|recovery", "starting_up"),
        ("shutting down", "shutting_down"),
        ("too many|remaining connection slots", "too_many_connections"),
        ("definition of service", "service"),
    ):
        if re.search(pattern, text):
            return layer
    return "unknown"


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
            f"cannot write to {place}: sessions there are read-only by default_transaction_read_only (layer: session).",
            layer="session",
            object_name=place.address,
            sqlstate="25006",
            hint="It is set for the server, the database or the role: reset it there, or connect as a role that may write.",
        )


def without_secrets(text: str, secrets: set[str]) -> str:
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
    lines = str(error).strip().splitlines()
    message = getattr(diagnostics, "message_primary", None) or (lines[0] if lines else type(error).__name__)
    named = [getattr(diagnostics, part, None) for part in ("schema_name", "table_name")]
    hint = _HINTS.get(sqlstate or "") or getattr(diagnostics, "message_hint", None)
    return DatabaseError(message, object_name=".".join(part for part in named if part) or None, sqlstate=sqlstate, hint=hint)
