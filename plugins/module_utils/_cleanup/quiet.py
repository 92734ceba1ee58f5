# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether anybody else has written anything for a while: if not, a table that was gone through needs no second look.

Every transaction that writes or locks a row takes the next of the server's numbers, at the latest with its first row. So when none was
open at first, and no more numbers were taken since than this session took itself, nobody else can have written a row, nor hold one.
"""

from __future__ import annotations

from typing import Any

_NUMBERS = """
SELECT pg_catalog.txid_snapshot_xmin(seen) AS open, pg_catalog.txid_snapshot_xmax(seen) AS next
FROM pg_catalog.txid_current_snapshot() AS seen
"""
# A number of one's own is the only way to see those of transactions that are still open.
_NUMBER = "SELECT pg_catalog.txid_current()"


class Quiet:
    """The time from when it is made on."""

    def __init__(self, database: Any) -> None:
        """Look which numbers are taken. Raises DatabaseError."""
        self._database = database
        found = database.row(_NUMBERS)
        self._next = int(found["next"])
        self._nobody_writes = int(found["open"]) == self._next

    def has_lasted(self, own: int) -> bool:
        """Return whether nobody else has written since, where this session has committed at least `own` changes. Raises DatabaseError.

        The answer is itself a change of this session.
        """
        return self._nobody_writes and int(self._database.value(_NUMBER)) - self._next <= own
