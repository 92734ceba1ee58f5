# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks look through: the session, the system and the moment, with whatever has been read already."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, List, Mapping, Sequence, TypeVar, Union

from ansible_collections.pgops.runbook.plugins.module_utils._connection import Database
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Catalog, Fact, Facts
from ansible_collections.pgops.runbook.plugins.module_utils._health.history import History

Seen = TypeVar("Seen")
Parameters = Union[Sequence[Any], Mapping[str, Any], None]

CLOCK_SKEW = 300.0

# One clock for the whole run: the server's, and not that of a transaction. What the server brought along has an oid below 16384
# (FirstNormalObjectId): by it the index is used, where pg_class holds a hundred thousand relations.
_SERVER = """
SELECT extract(epoch FROM clock_timestamp())::float8 AS now,
       extract(epoch FROM pg_postmaster_start_time())::float8 AS started,
       current_setting('server_version') AS version,
       current_user::text AS role,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all_sessions,
       (SELECT json_object_agg(relname, has_table_privilege(oid, 'SELECT'))
        FROM pg_class WHERE oid < 16384 AND relnamespace = 'pg_catalog'::regnamespace AND relkind = 'v') AS views,
       (SELECT coalesce(json_object_agg(oid::regprocedure, has_function_privilege(oid, 'EXECUTE')), '{}')
        FROM pg_proc WHERE oid < 16384 AND pronamespace = 'pg_catalog'::regnamespace AND proacl IS NOT NULL) AS functions
"""


@dataclass(frozen=True)
class Expected:
    """What the operator says about this very server, which no description of the system can know.

    `role` is primary or standby; `standbys` are application names of standbys that stream from it; `backups` the folder that
    holds its backups; `caches` how to reach the caches of the system.
    """

    role: str | None = None
    standbys: Sequence[str] = ()
    backups: str | None = None
    caches: Mapping[str, Any] = field(default_factory=dict, repr=False)
    exact_counts: bool = False


class Look:
    """One look at a database. Everything is read in statements of their own, outside a transaction."""

    def __init__(
        self,
        database: Database,
        system: Mapping[str, Any] | None,
        expected: Expected = Expected(),
        history: History = History(),  # noqa: B008
    ) -> None:
        self.database = database
        self.sql = database.sql
        self.system: Mapping[str, Any] = system or {}
        self.expected = expected
        self.history = history
        # Seconds by which clocks may differ; a system says its own.
        self.clock_skew: float = self.system.get("clock_skew_seconds", CLOCK_SKEW)
        # One entry a table, filled by the checks of sizes.
        self.tables: List[Dict[str, Any]] = []
        # Lists for a report by name, each row a mapping; what checks keep for the next run.
        self.details: Dict[str, List[Dict[str, Any]]] = {}
        self.kept: Dict[str, Any] = {}
        self._seen: Dict[Callable[[Look], Any], Any] = {}
        server = self.row(_SERVER)
        self.now = datetime.fromtimestamp(server["now"], timezone.utc)
        self.role: str = server["role"]
        self.facts = Facts(database, Catalog(self.role, server["views"], server["functions"]))
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

    def fact(self, fact: Fact) -> Any:
        """Return the server's answer. Raises MissingObject where this version has no such view, DatabaseError where it refuses."""
        return self.facts.answer(fact)

    def seen(self, read: Callable[[Look], Seen]) -> Seen:
        """Return what `read` reads, reading it once for all checks; a failure is raised again for each of them."""
        if read not in self._seen:
            try:
                self._seen[read] = read(self)
            except RunbookError as error:
                self._seen[read] = error
        facts: Seen = self._seen[read]
        if isinstance(facts, RunbookError):
            raise facts
        return facts

    def ago(self, seconds: float) -> datetime:
        """Return the moment `seconds` before now; a negative number lies ahead."""
        return self.now - timedelta(seconds=seconds)
