# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which columns of a system's tables the checks read: the one list of them, by which access is granted."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Set

from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import denied_column

Columns = Dict[RelationName, Set[str]]

# Of pg_statistic: how wide values are and how often NULL, from which bloat is estimated. The other columns hold values of rows.
STATISTIC_COLUMNS = ("starelid", "staattnum", "stainherit", "stanullfrac", "stawidth")
# How rows lie in the order of a column. The numbers are frequencies and correlations; the values that they belong to stay closed.
ORDER_COLUMNS = ("starelid", "staattnum", "stainherit", *(f"sta{what}{slot}" for what in ("kind", "numbers") for slot in range(1, 6)))


def columns_read(system: Mapping[str, Any]) -> Columns:
    """Return the columns that the checks of stores, logins, zones and accesses read, by relation."""
    found = token_ids(system)
    for store in system.get("token_stores") or ():
        tokens, revoke = store["tokens"], store["revoke"]
        _add(found, tokens["table"], tokens.get("issued_at"), *(tokens.get("where") or ()))
        if revoke["how"] == "denylist":
            _add(found, revoke["table"], revoke.get("revoked_at"), revoke.get("expires_at"))
        elif revoke["how"] == "timestamp" and tokens.get("issued_at"):
            _add(found, tokens["table"], revoke["column"])
    for flow in system.get("login_flows") or ():
        _add(found, flow["table"], flow["created_at"])
    log = system.get("access_log")
    if log:
        _add(found, log["table"], log["at"], log["user"], log.get("kind") if log.get("cross_user") else None)
    return found


def token_ids(system: Mapping[str, Any]) -> Columns:
    """Return those of `columns_read` that identify a token."""
    found: Columns = {}
    for store in system.get("token_stores") or ():
        tokens, revoke = store["tokens"], store["revoke"]
        _add(found, tokens["table"], tokens["id"])
        if revoke["how"] == "denylist":
            _add(found, tokens["table"], denied_column(store))
            _add(found, revoke["table"], revoke["id"])
    return found


def secret_columns(system: Mapping[str, Any]) -> Columns:
    """Return the columns of which the system says that their content never leaves the database, or that clients present it."""
    found: Columns = {}
    security, clients = system.get("security") or {}, system.get("clients")
    for store in system.get("token_stores") or ():
        _add(found, store["tokens"]["table"], store["tokens"].get("token"), *(store["tokens"].get("secrets") or ()))
    for code in system.get("codes") or ():
        _add(found, code["table"], code["id"])
    if clients:
        _add(found, clients["table"], *(clients.get("secrets") or ()))
    for listed in (*(security.get("secrets") or ()), *(security.get("encrypted") or ())):
        _add(found, listed["table"], *listed["columns"])
    return found


def _add(found: Columns, table: str, *columns: Any) -> None:
    names = found.setdefault(parse_relation(table), set())
    names.update(column["column"] if isinstance(column, Mapping) else column for column in columns if column)
