# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server whose databases are backed up: which it is, and which databases are meant."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import from_iso
from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import is_restoring
from ansible_collections.pgops.runbook.plugins.module_utils._backup.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, MissingObject

_PRISTINE = "template0"  # as initdb made it, the same on every server
_INVALID = -2  # of datconnlimit: what a DROP DATABASE that was interrupted leaves

_SERVER = """
SELECT pg_catalog.current_setting('server_version') AS version,
       pg_catalog.current_setting('server_version_num')::int AS version_num,
       pg_catalog.to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') || '+00:00' AS now,
       pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT') AS reads_passwords,
       (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = session_user) AS superuser
"""
# On a standby nothing else says the timeline without the rights of a superuser; what it says may be late, so that it counts as another.
_IDENTITY = """
SELECT s.system_identifier::text AS system_identifier,
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN c.timeline_id
            ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int END AS timeline
FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c
"""
_DATABASES = """
SELECT datname AS name, oid::bigint AS oid, datallowconn AS connectable, datconnlimit AS connections
FROM pg_catalog.pg_database ORDER BY datname
"""


@dataclass(frozen=True)
class Server:
    """What a run asks once. `now` was the server's clock then; `system_identifier` and `timeline` are None where the role may not see
    them. A clone has the same `system_identifier` as its origin, and another timeline as soon as it is written to.

    `databases` are those that there are, by name. `reads_passwords` is about the role that the session acts as, `superuser` about the
    login itself.
    """

    version: str
    version_num: int
    system_identifier: str | None
    now: datetime
    reads_passwords: bool
    superuser: bool = False
    timeline: int | None = None
    databases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    looked: float = field(default_factory=time.monotonic)

    @property
    def clock(self) -> datetime:
        """The server's clock now."""
        return self.now + timedelta(seconds=time.monotonic() - self.looked)

    def oid(self, database: str) -> int | None:
        """Return which database has that name, None where none has."""
        return self.databases[database]["oid"] if database in self.databases else None


def look_at(database: Any) -> Server:
    """Return which server `database` is on. Raises DatabaseError."""
    found = database.row(_SERVER) or {}
    # Debian adds its own version behind the server's.
    version = str(found["version"]).partition(" ")[0]
    known = _identity(database)
    return Server(
        version,
        found["version_num"],
        known["system_identifier"],
        from_iso(found["now"]),
        found["reads_passwords"],
        found["superuser"],
        known["timeline"],
        {row["name"]: row for row in database.rows(_DATABASES)},
    )


def chosen_databases(server: Server, options: Options, own: str) -> Tuple[List[str], List[str]]:
    """Return the databases that are meant, `own` where none is named, and what to say about those that a backup of all leaves out.

    Raises MissingObject.
    """
    there = server.databases
    if options.every_database:
        meant = {name: _why_not(row) for name, row in there.items() if not is_restoring(name) and name != _PRISTINE}
        said = [f"database {name!r} is not in the backup: {why}" for name, why in meant.items() if why]
        return [name for name, why in meant.items() if not why], said
    named = list(options.databases) or [own]
    lacking = [name for name in named if name not in there]
    if lacking:
        raise MissingObject(
            f"there is no database {lacking[0]!r} on this server", object_name=lacking[0], hint=f"There are: {', '.join(sorted(there))}."
        )
    return named, []


def _why_not(row: Any) -> str | None:
    if row["connections"] == _INVALID:
        return "it is invalid, because dropping it was interrupted; DROP DATABASE ends that"
    return None if row["connectable"] else "it takes no connections (datallowconn)"


def _identity(database: Any) -> Dict[str, Any]:
    unknown: Dict[str, Any] = {"system_identifier": None, "timeline": None}
    try:
        return database.row(_IDENTITY) or unknown
    except DatabaseError as error:
        if error.sqlstate != "42501":
            raise
        return unknown
