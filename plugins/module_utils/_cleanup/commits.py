# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commits that do not wait for the disk one by one, but all together at the end.

A crash before that undoes whole batches, the last ones: rows that went are back where they were, and the next run takes them again.
Whoever reports what was done waits for the disk, and for synchronous standbys, before.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator


@contextmanager
def together(database: Any) -> Iterator[None]:
    """Let every commit in the block return at once, and wait at its end until all of them are safe. Raises DatabaseError."""
    own = database.value("SELECT pg_catalog.current_setting('synchronous_commit')")
    database.execute("SET synchronous_commit TO off")
    try:
        yield
    finally:
        if not database.closed:
            database.execute("SELECT pg_catalog.set_config('synchronous_commit', %s, false)", (own,))
            # A transaction with an id of its own, so that its commit is written, and with it whatever was written before.
            database.execute("SELECT pg_catalog.txid_current()")
