# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: can it be reached, and as what does it serve. What a refused connection means stands here too."""

from __future__ import annotations

from typing import Iterable, List

from ansible_collections.pgops.runbook.plugins.module_utils._errors import ConnectError, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import CRITICAL, SKIPPED, WARNING, Check, Limits, Reading, skipped

_BY_LAYER = {
    "name": "Correct login_host, or the name service of the host that runs the module.",
    "port": "Look whether the server runs, listens on that address and port, and is let through by the firewall.",
    "tls": "Compare ssl_mode and the certificates with what the server offers and asks for.",
    "authentication": "Correct the user or password, or the server's pg_hba.conf.",
    "authorization": "Grant the role CONNECT on the database, LOGIN, or membership in the session role.",
    "database": "Correct login_db, or restore the database.",
    "shutting_down": "Find out who stops the server, and start it again.",
    "too_many_connections": "End idle sessions, or connect with a role that may use the reserved connections; then bound the "
    "application's pool.",
    "session": "Read the error: the session was opened but could not be prepared.",
    "service": "Correct the service in connect_params or the service file.",
}


def refused(error: ConnectError) -> dict[str, Reading]:
    """Return what a refused connection means, by the id of the check that says it."""
    if error.layer == "starting_up":
        message = f"the server is starting up or recovering and takes no connections yet: {error.message}"
        waiting = Reading(message, status=WARNING, error=error)
        return {
            "avail.connect": Reading("the server answers, but is not ready: see avail.recovering", status=SKIPPED),
            "avail.recovering": waiting,
        }
    return {"avail.connect": Reading(error.message, status=CRITICAL, action=error.hint or _BY_LAYER.get(error.layer), error=error)}


def lost(what: str, reason: RunbookError | None) -> Reading:
    """Return what it means that a connection that was there ended; `reason` is the error by which it showed."""
    said = f"{what}: {reason.message}" if reason else what
    error = ConnectError(said, layer="session", sqlstate=reason.sqlstate if reason else None)
    return Reading(said, status=CRITICAL, error=error)


def _connect(look: Look, limits: Limits) -> Iterable[Reading]:
    return [Reading(f"connected to {look.server['database']} as {look.role}, PostgreSQL {look.server['version']}")]


def _recovering(look: Look, limits: Limits) -> Iterable[Reading]:
    message = "a standby that serves read-only sessions" if look.database.in_recovery else "not recovering"
    return [Reading(message, metrics={"avail.in_recovery": float(look.database.in_recovery)})]


def _role_expected(look: Look, limits: Limits) -> Iterable[Reading]:
    role, expected = "standby" if look.database.in_recovery else "primary", look.expected.role
    if expected is None:
        return skipped(f"it is a {role}; nobody said what it should be (expected_role)")
    if role == expected:
        return [Reading(f"it is a {role}, as it should be")]
    return [Reading(f"it is a {role} and should be a {expected}", status=CRITICAL, action=_BY_ROLE[role])]


_BY_ROLE = {
    "primary": "Look whether another server is a primary as well, and if so stop writing to one of them at once. After a failover that was "
    "meant, correct expected_role.",
    "standby": "Look which server is the primary now and whether applications write to it. After a failover that was meant, correct "
    "expected_role.",
}

CHECKS: List[Check] = [
    Check(
        id="avail.connect",
        title="The database takes connections",
        tier="hourly",
        looks_at="Opens one session. A refusal is critical and names the layer that refused.",
        action="Read the server's log, and look whether the server runs.",
        needs="CONNECT on the database",
        decides={"critical": "refused or lost"},
        run=_connect,
    ),
    Check(
        id="avail.recovering",
        title="The server is not starting up or recovering",
        tier="hourly",
        looks_at="SQLSTATE 57P03 on connecting, which is not a server that is down. A standby that serves sessions is ok.",
        action="Wait for the recovery to end and follow it in the server's log; do not restart the server, which starts it over.",
        needs="nothing",
        decides={"warning": "starting up"},
        run=_recovering,
    ),
    Check(
        id="avail.role_expected",
        title="The server has the role that it should have",
        tier="hourly",
        looks_at="Whether the server is in recovery, against expected_role of the call: primary or standby.",
        action="Look which server is the primary now. After a failover that was meant, correct expected_role.",
        needs="nothing",
        decides={"critical": "the other role"},
        run=_role_expected,
    ),
]
