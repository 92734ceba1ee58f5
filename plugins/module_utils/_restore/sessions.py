# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sessions of a restore: one on a database that stays as it is, and further ones on those that come and go."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, Database, connect

MAINTENANCE = ("postgres", "template1")
# What keeps event triggers from firing: since 17 a setting of their own; before, all but those that are enabled as ALWAYS.
_EVENT_TRIGGERS = 170000
_NO_EVENT_TRIGGERS = "-c event_triggers=off"
_NO_TRIGGERS = "-c session_replication_role=replica"


@dataclass(frozen=True)
class Sessions:
    """How databases of one server are reached.

    `quiet` keeps event triggers from firing, where the server has a setting for that alone: one of a login would write into a database that
    is being compared.
    """

    login: ConnectionOptions
    application_name: str
    quiet: bool = False

    def of(self, database: str) -> ConnectionOptions:
        """Return the options of a login to `database`."""
        login = self.login.to(database)
        return with_options(login, _NO_EVENT_TRIGGERS) if self.quiet else login

    def open(self, database: str, *, read_only: bool = False, seconds: float | None = None) -> Database:
        """Return a session on `database`, whose statements may take `seconds` where those are given; see `connect`."""
        login = self.of(database)
        if seconds is not None:
            login = login.within(seconds)
        return connect(login, application_name=self.application_name, read_only=read_only)

    def knowing(self, superuser: bool, server_version: int) -> Sessions:
        """Return them as fits the server and the role: only a superuser can silence event triggers."""
        return replace(self, quiet=superuser and server_version >= _EVENT_TRIGGERS)


def for_loading(login: ConnectionOptions, server_version: int) -> ConnectionOptions:
    """Return a superuser's login under which restored event triggers do not fire while the rest is being restored."""
    return with_options(login, _NO_EVENT_TRIGGERS if server_version >= _EVENT_TRIGGERS else _NO_TRIGGERS)


def with_options(login: ConnectionOptions, words: str) -> ConnectionOptions:
    """Return `login` with further settings for the server, behind those that are given already."""
    given = login.connect_params.get("options") or os.environ.get("PGOPTIONS") or ""
    return replace(login, connect_params={**login.connect_params, "options": " ".join(filter(None, (given, words)))})


def maintenance_database(login: ConnectionOptions, *coming_and_going: str) -> str:
    """Return the database to be connected to while others are made and renamed: the login's, `postgres` or `template1`."""
    named = login.connect_params.get("dbname") or login.login_db
    return next(name for name in (named, *MAINTENANCE, "") if name is not None and name not in coming_and_going)
