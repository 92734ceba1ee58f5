# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sessions of the whole server, read once for all checks that look at them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Dict

from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Unseen

# Applications whose statements are long by their nature; `*` stands for anything. This collection's own runs are among them.
EXPECTED_LONG = (
    "pg_dump",
    "pg_dumpall",
    "pg_restore",
    "pg_basebackup",
    "pg_repack",
    "pgBackRest*",
    "barman*",
    "vacuumdb",
    "reindexdb",
    "pgops.runbook/*",
)

# Of a session that the role may not see, only the process, the database, the user and the application's name are shown, to
# everybody: `hidden` are those that may be a client's. Without track_activities a session's state says "disabled": `dark`.
SESSIONS = Fact(
    "sessions",
    """
WITH session AS (
    SELECT pid, datname, usename, application_name, state, wait_event_type, pid = pg_backend_pid() AS own,
           backend_type = 'client backend' AS client,
           backend_type IS NULL AND usesysid IS NOT NULL AND datid IS NOT NULL AS hidden,
           extract(epoch FROM clock_timestamp() - CASE state WHEN 'active' THEN query_start ELSE state_change END)::float8 AS age
    FROM pg_stat_activity
)
SELECT json_build_object(
    'max_connections', current_setting('max_connections')::int,
    'reserved', current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true)::int, 0),
    'clients', (SELECT count(*) FROM session WHERE client),
    'hidden', (SELECT count(*) FROM session WHERE hidden),
    'dark', (SELECT count(*) FROM session WHERE client AND state = 'disabled'),
    'states', (SELECT coalesce(json_agg(row_to_json(s)), '[]') FROM (
        SELECT coalesce(state, 'starting') AS state, count(*) AS sessions, max(age) AS oldest
        FROM session WHERE client AND NOT own GROUP BY 1 ORDER BY 2 DESC, 1) s),
    'active', (SELECT coalesce(json_agg(row_to_json(s)), '[]') FROM (
        SELECT pid, datname, usename, application_name, wait_event_type, age
        FROM session WHERE client AND NOT own AND state = 'active' AND age IS NOT NULL ORDER BY age DESC) s))
""",
)


def sessions(look: Look) -> Dict[str, Any]:
    """Return the limits on connections, the client backends by state, and the active statements, longest first (ages in seconds)."""
    facts: Dict[str, Any] = look.fact(SESSIONS)
    return {**facts, "active": [session for session in facts["active"] if not expected_long(session["application_name"])]}


def expected_long(application_name: str | None) -> bool:
    """Return whether statements of this application are long by their nature."""
    return any(fnmatchcase(application_name or "", pattern) for pattern in EXPECTED_LONG)


def hidden_sessions(look: Look, message: str) -> Unseen:
    """Return the error that says of which sessions nothing is known, with the grant that would show them."""
    facts = look.seen(sessions)
    if facts["hidden"]:
        count = facts["hidden"]
        hint = f"As a superuser: GRANT pg_read_all_stats TO {quoted(look.role)};"
        return Unseen(f"{message}: the role {look.role} may not see what {count} of the sessions do", hint=hint)
    hint = "Set track_activities back to on, where it was switched off: for the server, the database or the role."
    return Unseen(f"{message}: {facts['dark']} of the sessions do not say what they do (track_activities is off)", hint=hint)
