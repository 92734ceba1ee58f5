# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The system's checks on a database that has just been restored: those that are about what it holds, none about how it is used."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils import _health
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect

# Whether indexes are used or rows are dead says nothing of a copy that nobody works with.
DEFAULT_CHECKS = (
    "schema.present",
    "index.invalid",
    "constraint.not_valid",
    "seq.exhaustion",
    "partition.default_rows",
    "security.rls",
    "token.orphaned_deny",
    "token.duplicate_ids",
    "token.zone_ahead",
    "integrity.amcheck",
)
# Nobody waits for a lock or a page of a scratch database.
CHECK_TIMEOUT, MAX_RUNTIME = "5 min", "15 min"
CRITICAL, UNKNOWN = "critical", "unknown"


def request(checks: Sequence[str] | None, system: Mapping[str, Any] | None) -> _health.Request | None:
    """Return what is to be looked at: `checks` (ids or groups), the default ones where it is None. None where it is empty.

    Raises InvalidValue for a check that does not exist, DescriptionError for a wrong description.
    """
    wanted = list(DEFAULT_CHECKS if checks is None else checks)
    if not wanted:
        return None
    return _health.Request.from_params({"checks": wanted, "system": system, "max_runtime": MAX_RUNTIME})


def run_checks(login: ConnectionOptions, request: _health.Request, application_name: str) -> List[Dict[str, Any]]:
    """Return what each check says of the restored database."""
    options = _health.session_options(login, CHECK_TIMEOUT)
    result = _health.run(lambda: connect(options, application_name=application_name, read_only=True), request)
    return [{key: check[key] for key in ("id", "title", "status", "message")} for check in result["checks"]]


def failed(checks: Sequence[Mapping[str, Any]]) -> List[str]:
    """Return a sentence for each check that fails the drill."""
    return [f"check {check['id']}: {check['message']}" for check in checks if check["status"] == CRITICAL]


def unseen(checks: Sequence[Mapping[str, Any]]) -> List[str]:
    """Return a sentence for each check that could not see what it looks at."""
    return [f"check {check['id']} is unknown: {check['message']}" for check in checks if check["status"] == UNKNOWN]
