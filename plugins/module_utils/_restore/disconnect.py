# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sessions on a database sent away while it is renamed, however fast they come back.

A rename first locks the database, so that whoever wants to connect has to wait, and then waits five seconds for those that are there. A
second session has to end them in that time: whatever were ended before the lock might be back when it is taken. And nothing of that
outlives this process, as a database that takes no connections would.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

from ansible_collections.pgops.runbook.plugins.module_utils._client.child import PIPE, Child, input_of
from ansible_collections.pgops.runbook.plugins.module_utils._client.login import client_login
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client
from ansible_collections.pgops.runbook.plugins.module_utils._restore.sessions import Sessions

# psql repeats a statement where the servers that are supported have nothing that would.
_AGAIN_AND_AGAIN = rb"""
SELECT count(pg_catalog.pg_terminate_backend(a.pid)) FROM pg_catalog.pg_stat_activity a
WHERE a.datname = :'target' AND a.pid <> pg_catalog.pg_backend_pid() AND a.usesysid IS NOT NULL \watch 0.05
"""


@contextmanager
def sending_away(sessions: Sessions, client: Client, maintenance: str, target: str) -> Iterator[None]:
    """End the sessions on database `target`, again and again while the block runs, over a session on `maintenance`."""
    with client_login(sessions.of(maintenance), maintenance, sessions.application_name) as login:
        command = [client.program("psql"), *login.arguments, "--no-psqlrc", "--quiet", f"--set=target={target}", "--file=-"]
        with Child(command, environment=login.role_in_environment(), secrets=login.secrets, stdin=PIPE) as child:
            orders = input_of(child)
            orders.write(_AGAIN_AND_AGAIN)
            orders.close()
            yield
