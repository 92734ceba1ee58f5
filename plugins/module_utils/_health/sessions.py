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

# Whoever has this in its application_name is long on purpose.
OPT_OUT = "pgops:long"
# Applications that are long by their nature; `*` stands for anything. This collection's own runs are among them.
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
    f"*{OPT_OUT}*",
)
LEFT_OUT = (
    f"Sessions whose application_name is {', '.join(EXPECTED_LONG)} do not count: an application that is long on purpose opts out by "
    f"{OPT_OUT} in its own, as in SET application_name = 'nightly report {OPT_OUT}'."
)

# Of a session that the role may not see, only the process, the database, the user and the application's name are shown, to
# everybody: `hidden` are those that may be a client's. Without track_activities a session's state says "disabled": `dark`.
SESSIONS = Fact(
    "sessions",
    """
WITH session AS MATERIALIZED (
    SELECT pid, datname, usename, application_name, state, wait_event_type, pid = pg_backend_pid() AS own,
           CASE WHEN backend_type IS NOT NULL THEN coalesce(host(client_addr), 'local') END AS address,
           backend_type = 'client backend' AS client,
           backend_type IS NULL AND usesysid IS NOT NULL AND datid IS NOT NULL AS hidden,
           extract(epoch FROM clock_timestamp() - CASE state WHEN 'active' THEN query_start ELSE state_change END)::float8 AS age,
           extract(epoch FROM clock_timestamp() - xact_start)::float8 AS in_transaction
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
    'busy', (SELECT coalesce(json_agg(row_to_json(s)), '[]') FROM (
        SELECT pid, datname, usename, application_name, state, wait_event_type, age, in_transaction
        FROM session WHERE client AND NOT own AND state <> 'idle' AND coalesce(age, in_transaction) IS NOT NULL ORDER BY age DESC) s),
    'who', (SELECT coalesce(json_agg(row_to_json(s)), '[]') FROM (
        SELECT application_name AS application, usename AS user, datname AS database, address, count(*) AS sessions,
            count(*) FILTER (WHERE state = 'idle') AS idle, max(age) FILTER (WHERE state = 'idle') AS longest_idle
        FROM session WHERE (client OR hidden) AND NOT own GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 1, 2, 3, 4) s))
""",
)


def sessions(look: Look) -> Dict[str, Any]:
    """Return the limits on connections, the client backends by state and by who they are, and those that do something, longest first.

    Ages are seconds. Of `busy` and `active` those are left out that are long by their nature.
    """
    facts: Dict[str, Any] = look.fact(SESSIONS)
    busy = [session for session in facts["busy"] if not expected_long(session["application_name"])]
    return {**facts, "busy": busy, "active": [each for each in busy if each["state"] == "active" and each["age"] is not None]}


def expected_long(application_name: str | None) -> bool:
    """Return whether this application is long by its nature, or says that it is on purpose."""
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
