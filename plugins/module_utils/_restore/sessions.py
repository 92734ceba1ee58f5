# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sessions of a restore: one on a database that stays as it is, and further ones on those that come and go."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._connection import LONGEST_TIMEOUT, ConnectionOptions, Database, connect

MAINTENANCE = ("postgres", "template1")
_NO_EVENT_TRIGGERS = "-c event_triggers=off"


@dataclass(frozen=True)
class Sessions:
    """How databases of one server are reached.

    `quiet` keeps event triggers from firing, those of a login among them: they would write into a database that is being compared.
    """

    login: ConnectionOptions
    application_name: str
    quiet: bool = False

    def of(self, database: str) -> ConnectionOptions:
        """Return the options of a login to `database`."""
        parameters = {key: text for key, text in self.login.connect_params.items() if key != "dbname"}
        if self.quiet:
            said = parameters.get("options") or os.environ.get("PGOPTIONS") or ""
            parameters["options"] = " ".join(part for part in (said, _NO_EVENT_TRIGGERS) if part)
        return replace(self.login, login_db=database, connect_params=parameters)

    def open(self, database: str, *, read_only: bool = False, seconds: float | None = None) -> Database:
        """Return a session on `database`, whose statements may take `seconds` where those are given; see `connect`."""
        login = self.of(database)
        if seconds is not None:
            login = replace(login, statement_timeout=str(max(1, math.floor(min(seconds, LONGEST_TIMEOUT / 1000)))))
        return connect(login, application_name=self.application_name, read_only=read_only)

    def knowing(self, database: Any) -> Sessions:
        """Return them as fits the server and role of the session `database`: only a superuser of 17 or newer can silence triggers."""
        capable = database.value(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name = 'event_triggers') AND"
            " (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = session_user)"
        )
        return replace(self, quiet=bool(capable))


def maintenance_database(login: ConnectionOptions, *coming_and_going: str) -> str:
    """Return the database to be connected to while others are made and renamed: the login's, `postgres` or `template1`."""
    named = login.connect_params.get("dbname") or login.login_db
    return next(name for name in (named, *MAINTENANCE, "") if name is not None and name not in coming_and_going)
