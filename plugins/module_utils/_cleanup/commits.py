# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commits that do not wait for the disk one by one, but all together at the end.

A crash before that undoes whole batches, the last ones: rows that went are back where they were, and the next run takes them again.
Whoever reports what was done waits for the disk, and for synchronous standbys, before.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import Any, Iterator

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError

# A message in the WAL is what can be written without a right on any table. A transaction that writes nothing before its commit, even
# one with an id, does not wait for anything. Whoever decodes the WAL sees it under this name if he asks for messages.
_MESSAGE = "SELECT pg_catalog.pg_logical_emit_message(true, 'pgops.runbook', '')"
_SETTING = """
SELECT pg_catalog.current_setting('synchronous_commit') AS own,
    (SELECT pg_catalog.bool_and(pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) FROM pg_catalog.pg_proc AS p
     WHERE p.proname OPERATOR(pg_catalog.=) 'pg_logical_emit_message'
       AND p.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace) AS may_wait
"""


@contextmanager
def together(database: Any) -> Iterator[None]:
    """Let every commit in the block return at once, and wait at its end until all of them are safe. Raises DatabaseError.

    After an error in the block they are safe as well, unless the session was lost. A role that may not write the message at the end
    waits with each commit.
    """
    found = database.row(_SETTING)
    if not found["may_wait"]:
        yield
        return
    own = found["own"]
    database.execute("SET synchronous_commit TO off")
    try:
        yield
    except BaseException:
        if not database.closed:
            with suppress(DatabaseError):
                _wait(database, own)
        raise
    _wait(database, own)


def _wait(database: Any, synchronous_commit: str) -> None:
    database.execute("SELECT pg_catalog.set_config('synchronous_commit', %s, false)", (synchronous_commit,))
    database.execute(_MESSAGE)
