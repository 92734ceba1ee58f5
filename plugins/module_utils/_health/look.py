# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks look through: the session, the system and the moment, with whatever has been read already."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, List, Mapping, Sequence, TypeVar, Union

from ansible_collections.pgops.runbook.plugins.module_utils._connection import Database
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError

Facts = TypeVar("Facts")
Parameters = Union[Sequence[Any], Mapping[str, Any], None]

CLOCK_SKEW = 300.0

# One clock for the whole run: the server's, and not that of a transaction.
_SERVER = """
SELECT extract(epoch FROM clock_timestamp())::float8 AS now,
       extract(epoch FROM pg_postmaster_start_time())::float8 AS started,
       current_setting('server_version') AS version,
       current_user::text AS role,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all_sessions
"""


class Look:
    """One look at a database. Everything is read in statements of their own, outside a transaction."""

    def __init__(self, database: Database, system: Mapping[str, Any] | None, *, exact_counts: bool = False) -> None:
        self.database = database
        self.sql = database.sql
        self.system: Mapping[str, Any] = system or {}
        self.exact_counts = exact_counts
        # Seconds by which clocks may differ; a system says its own.
        self.clock_skew: float = self.system.get("clock_skew_seconds", CLOCK_SKEW)
        # One entry a table, filled by the checks of sizes.
        self.tables: List[Dict[str, Any]] = []
        self._seen: Dict[Callable[[Look], Any], Any] = {}
        server = self.row(_SERVER)
        self.now = datetime.fromtimestamp(server["now"], timezone.utc)
        self.role: str = server["role"]
        self.server = {
            "database": database.name,
            "role": self.role,
            "version": server["version"],
            "version_number": database.server_version,
            "in_recovery": database.in_recovery,
            "time": self.now.isoformat(),
            "started": datetime.fromtimestamp(server["started"], timezone.utc).isoformat(),
            "sees_all_sessions": server["sees_all_sessions"],
            "driver": database.driver_name,
        }

    def rows(self, statement: Any, parameters: Parameters = None) -> list[dict[str, Any]]:
        """Return the rows of one statement. Raises DatabaseError."""
        return self.database.rows(statement, parameters or None)

    def row(self, statement: Any, parameters: Parameters = None) -> dict[str, Any]:
        """Return the only row of a statement that always has one. Raises DatabaseError."""
        return self.rows(statement, parameters)[0]

    def seen(self, read: Callable[[Look], Facts]) -> Facts:
        """Return what `read` reads, reading it once for all checks; a failure is raised again for each of them."""
        if read not in self._seen:
            try:
                self._seen[read] = read(self)
            except RunbookError as error:
                self._seen[read] = error
        facts: Facts = self._seen[read]
        if isinstance(facts, RunbookError):
            raise facts
        return facts

    def ago(self, seconds: float) -> datetime:
        """Return the moment `seconds` before now; a negative number lies ahead."""
        return self.now - timedelta(seconds=seconds)
