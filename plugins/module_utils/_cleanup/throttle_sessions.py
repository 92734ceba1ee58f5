# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sessions of a database suffer, or make others suffer: transactions that stay open, and waits for locks."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle_watch import Facts, Measured, Unseen, Watch, grant

BLOCKED_AFTER = 1.0  # seconds: the server looks for deadlocks after as long, and a shorter wait is nobody's trouble
_WAIT_START = 140000  # from this version on the server says since when a lock is waited for

# The functions below the views, which cost half as much to plan.
# Every role sees who holds a snapshot, and not since when. A vacuum does not stand in the way of another one.
_TRANSACTIONS = """
SELECT 'oldest_transaction' AS what, pg_catalog.json_build_object(
    'age', pg_catalog.max(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) a.xact_start)),
    'who', (pg_catalog.array_agg(a.pid ORDER BY a.xact_start))[1]::text,
    'hidden', pg_catalog.count(*) FILTER (WHERE a.state IS NULL AND a.xact_start IS NULL),
    'untracked', pg_catalog.count(*) FILTER (WHERE a.state OPERATOR(pg_catalog.=) 'disabled')) AS facts
FROM pg_catalog.pg_stat_get_activity(NULL) a
WHERE a.datid OPERATOR(pg_catalog.=) {here} AND a.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
    AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
    AND a.pid OPERATOR(pg_catalog.<>) ALL (SELECT v.pid FROM pg_catalog.pg_stat_get_progress_info('VACUUM') v)
UNION ALL
SELECT 'oldest_transaction', pg_catalog.json_build_object(
    'age', pg_catalog.max(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) p.prepared)),
    'who', (pg_catalog.array_agg(p.gid ORDER BY p.prepared))[1], 'prepared', true)
FROM pg_catalog.pg_prepared_xact() p
WHERE p.dbid OPERATOR(pg_catalog.=) {here}
"""
# The locks are read only where somebody waits for one, or where this role may not see whether anybody does.
_WAITING = """
SELECT 'blocked_sessions' AS what, pg_catalog.json_build_object(
    'pid', l.pid, 'transaction', l.virtualtransaction, 'kind', l.locktype, 'seconds', {seconds}) AS facts
FROM pg_catalog.pg_lock_status() l
WHERE NOT l.granted AND l.locktype OPERATOR(pg_catalog.<>) 'advisory'
    AND l.pid OPERATOR(pg_catalog.=) ANY (
        SELECT a.pid FROM pg_catalog.pg_stat_get_activity(NULL) a
        WHERE a.datid OPERATOR(pg_catalog.=) {here} AND a.usesysid IS NOT NULL)
    AND EXISTS (
        SELECT FROM pg_catalog.pg_stat_get_activity(NULL) a
        WHERE a.datid OPERATOR(pg_catalog.=) {here} AND (a.wait_event_type OPERATOR(pg_catalog.=) 'Lock' OR a.state IS NULL))
"""
_HERE = "(SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())"
_WAITED = "pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) l.waitstart)"


class OldestTransaction(Watch):
    """The age in seconds of the oldest transaction of others that has written or holds a snapshot in this database.

    Vacuum removes no row that such a transaction may still see, so that all that is removed stays where it is.
    """

    name = "oldest_transaction"
    unit = "s"

    def query(self, database: Any, now: float) -> Any:
        """Ask for the oldest one of the sessions and the oldest prepared one."""
        return database.sql.SQL(_TRANSACTIONS).format(here=database.sql.SQL(_HERE))

    def measured(self, database: Any, facts: Facts, now: float) -> Measured | None:
        """Return the age of the older one; 0 without any."""
        oldest = Measured(0.0)
        for each in facts:
            if each.get("hidden"):
                reason = "this role may not see since when the transactions of other roles are open"
                self.unseen.note(self.name, reason, grant(database, "pg_read_all_stats"))
            if each.get("untracked"):
                reason = "sessions with track_activities off do not show since when their transactions are open"
                self.unseen.note(self.name, reason, "Leave track_activities on.")
            if each["age"] is not None and each["age"] > oldest.value:
                oldest = Measured(each["age"], f"{'prepared transaction' if each.get('prepared') else 'process'} {each['who']}")
        return oldest


class BlockedSessions(Watch):
    """How many sessions of this database have waited for a lock for a second.

    Advisory locks do not count: who waits for one is queued by its own application.
    """

    name = "blocked_sessions"
    unit = "sessions"

    def __init__(self, unseen: Unseen) -> None:
        super().__init__(unseen)
        self._since: dict[tuple[Any, ...], float] = {}

    def query(self, database: Any, now: float) -> Any:
        """Ask for everyone who waits."""
        sql = database.sql
        seconds = sql.SQL(_WAITED if database.server_version >= _WAIT_START else "NULL")
        return sql.SQL(_WAITING).format(seconds=seconds, here=sql.SQL(_HERE))

    def measured(self, database: Any, facts: Facts, now: float) -> Measured | None:
        """Count those who have waited long enough: as the server says, or since they were first seen in the same wait."""
        waits = {(each["pid"], each["transaction"], each["kind"]): each["seconds"] for each in facts}
        self._since = {key: self._since.get(key, now) for key in waits}
        blocked = [key[0] for key, seconds in waits.items() if max(seconds or 0.0, now - self._since[key]) >= BLOCKED_AFTER]
        return Measured(len(blocked), f"process {min(blocked)}" if blocked else None)
