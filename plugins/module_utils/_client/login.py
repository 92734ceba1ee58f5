# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a client program logs in as the module does, with nothing secret in its arguments or its environment."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, FrozenSet, Iterator, List, Optional

from ansible_collections.pgops.runbook.plugins.module_utils import _connect_limits, _driver
from ansible_collections.pgops.runbook.plugins.module_utils._arguments import READABLE_PARAMETERS
from ansible_collections.pgops.runbook.plugins.module_utils._connection import DEFAULT_CONNECT_TIMEOUT, ConnectionOptions
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

# Of connect_params, besides what may be shown: a password goes into a file, the server's settings into PGOPTIONS, sslkey is a path.
_HANDED_ON = READABLE_PARAMETERS | {"password", "options", "sslkey"}
# A dump keeps the database's own encoding: in UTF-8, one in SQL_ASCII might not be readable at all.
_LEFT_OUT = {"client_encoding", "password", "options", "dbname"}
_LIBPQ = 120000  # what client programs come with at least: it knows every parameter that notices a dead network


@dataclass(frozen=True)
class ClientLogin:
    """What a client program is started with, valid inside the block of `client_login`.

    `arguments` come after the program's name, `role` too where the program knows `--role` (pg_dump, pg_dumpall, pg_restore); `environment`
    replaces the whole environment; `secrets` are the texts that its messages must not show.
    """

    environment: Dict[str, str] = field(repr=False)
    arguments: List[str]
    role: List[str]
    secrets: FrozenSet[str] = field(repr=False)

    def role_in_environment(self) -> Dict[str, str]:
        """Return an environment that makes a program without `--role`, psql that is, act as the role."""
        if not self.role:
            return self.environment
        name = self.role[1].replace("\\", "\\\\").replace(" ", "\\ ")
        return {**self.environment, "PGOPTIONS": f"{self.environment.get('PGOPTIONS', '')} -c role={name}".strip()}


@contextmanager
def client_login(options: ConnectionOptions, database: str, name: str) -> Iterator[ClientLogin]:
    """Log client programs in to `database` with `options`, as an application that is called `name`. Raises InvalidValue.

    libpq's environment and service files work as they do for the module's own session. The password, PGPASSWORD's too, stands in a
    password file that lives in memory and goes with this process, however it ends.
    """
    _require_presentable(options)
    parameters = options.parameters()
    environment = _environment()
    password = parameters.get("password") or environment.pop("PGPASSWORD", None)
    environment.pop("PGPASSWORD", None)
    if parameters.get("options"):
        environment["PGOPTIONS"] = parameters["options"]
    shown = {key: text for key, text in parameters.items() if key not in _LEFT_OUT}
    shown = {**_connect_limits.with_keepalives(shown, _LIBPQ, environment), "dbname": database, "application_name": name}
    with ExitStack() as stack:
        if password:
            shown["passfile"] = stack.enter_context(_password_file(password))
            if parameters.get("password"):
                # Else the password of a service file would win over the one that was given.
                shown["password"] = ""
        arguments = ["--dbname", _driver.conninfo(shown), "--no-password"]
        role = ["--role", options.session_role] if options.session_role else []
        yield ClientLogin(environment, arguments, role, frozenset({*options.secrets(), *([password] if password else [])}))


def _require_presentable(options: ConnectionOptions) -> None:
    hidden = sorted(set(options.connect_params) - _HANDED_ON)
    if hidden:
        raise InvalidValue(
            f"connect_params: {', '.join(hidden)} cannot be given to pg_dump and pg_restore without everybody on the host seeing it.",
            object_name="connect_params",
            hint="Say it in a service file (PGSERVICEFILE), readable by its owner alone, and give connect_params only `service`.",
        )


def _environment() -> Dict[str, str]:
    """Return this process' environment for libpq's programs, which say everything in English."""
    kept = {name: text for name, text in os.environ.items() if text or not name.startswith("PG")}
    for name in ("PGCLIENTENCODING", "LANGUAGE"):
        kept.pop(name, None)
    kept.setdefault("PGCONNECT_TIMEOUT", DEFAULT_CONNECT_TIMEOUT)
    return {**kept, "LC_ALL": "C"}


@contextmanager
def _password_file(password: str) -> Iterator[str]:
    """Hold a password file with one line that fits every server; yield the path at which the processes of this account find it."""
    if "\n" in password or "\0" in password:
        message = "login_password: a password with a line end cannot be given to pg_dump and pg_restore"
        raise InvalidValue(message, object_name="login_password")
    line = "*:*:*:*:" + password.replace("\\", "\\\\").replace(":", "\\:") + "\n"
    place = _in_memory()
    if place is None:
        place, path = tempfile.mkstemp(prefix="pgops-")
    else:
        path = f"/proc/{os.getpid()}/fd/{place}"
    try:
        os.fchmod(place, 0o600)
        os.write(place, line.encode("utf-8", "surrogateescape"))
        yield path
    finally:
        os.close(place)
        if not path.startswith("/proc/"):
            Path(path).unlink()


def _in_memory() -> Optional[int]:
    """Return a file without a name, so that a killed run leaves none behind; None where the system has no such thing."""
    try:
        place = os.memfd_create("pgops")
    except (AttributeError, OSError):
        return None
    if os.access(f"/proc/{os.getpid()}/fd/{place}", os.R_OK):
        return place
    os.close(place)
    return None
