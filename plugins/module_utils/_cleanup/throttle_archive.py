# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many WAL segments wait for the archiver, by what every role may see: the archiver's last file and where the WAL is now.

The archiver takes segments in order, so that all complete ones behind its last one wait. Its last file may be none, or not a
segment: a timeline's history or a backup's label does not say which segments have been archived. Then the folder that says so is
read, by a role that may.
"""

from __future__ import annotations

import math
from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle_watch import Facts, Measured, Unseen, Watch, grant
from ansible_collections.pgops.runbook.plugins.module_utils._wal_position import segment_number, wal_bytes

# Before PostgreSQL 15, a look at the archiver makes the server read the statistics of the whole database from a file.
_STATISTICS_IN_MEMORY, _SELDOM = 150000, 5.0

_QUERY = """
SELECT 'archive_backlog' AS what, pg_catalog.json_build_object(
    'flushed', pg_catalog.pg_current_wal_flush_lsn(),
    'size', pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')),
    'archived', a.last_archived_wal, 'failed', a.last_failed_wal,
    'failing', coalesce(a.last_failed_time OPERATOR(pg_catalog.>) a.last_archived_time, a.last_failed_time IS NOT NULL),
    'listed', pg_catalog.has_function_privilege('pg_catalog.pg_ls_archive_statusdir()', 'EXECUTE')) AS facts
FROM pg_catalog.pg_stat_get_archiver() a
WHERE pg_catalog.current_setting('archive_mode') OPERATOR(pg_catalog.<>) 'off'
"""
_READY = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_ls_archive_statusdir() f WHERE f.name OPERATOR(pg_catalog.~~) '%.ready'"


class Archive(Watch):
    """The complete segments that wait for the archiver."""

    name = "archive_backlog"
    unit = "segments"

    def __init__(self, unseen: Unseen) -> None:
        super().__init__(unseen)
        self._asked = -math.inf
        self._found: Measured | None = None
        self._since: tuple[str | None, int] | None = None

    def query(self, database: Any, now: float) -> Any:
        """Ask for the archiver's last files; seldom where that is dear."""
        if database.server_version < _STATISTICS_IN_MEMORY and now - self._asked < _SELDOM:
            return None
        self._asked = now
        return database.sql.SQL(_QUERY)

    def measured(self, database: Any, facts: Facts, now: float) -> Measured | None:
        """Return how many wait, None without an archive; what was found last where nothing was asked this time."""
        if self._asked == now:
            self._found = self._waiting(database, facts[0]) if facts else None
        return self._found

    def _waiting(self, database: Any, seen: Mapping[str, Any]) -> Measured:
        size = int(seen["size"])
        current = wal_bytes(seen["flushed"]) // size
        failed = segment_number(seen["failed"], size) if seen["failing"] else None
        archived = segment_number(seen["archived"], size)
        if failed is not None:
            return Measured(max(0, current - failed), f"failed at {seen['failed']}")
        if archived is not None:
            return Measured(max(0, current - archived - 1), f"archived up to {seen['archived']}")
        if seen["listed"]:
            return Measured(database.value(_READY))
        reason = "the archiver's last file is not a WAL segment, and this role may not see which files wait; only what is added is counted"
        self.unseen.note(self.name, reason, grant(database, "pg_monitor"))
        return Measured(current - self._first(seen["archived"], current))

    def _first(self, archived: str | None, current: int) -> int:
        """Return where the WAL was when the archiver's last file was first seen to be this one."""
        if self._since is None or self._since[0] != archived:
            self._since = (archived, current)
        return self._since[1]
