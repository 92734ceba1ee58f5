# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_restore and psql say, read while they run: how far they are, and whether what went wrong matters.

Their messages quote rows and whole statements. Of an error only its first line is kept, and of a COPY that failed no value.
"""

from __future__ import annotations

import re
import time
from typing import Callable, Dict, List, Optional

# Programs from 17 on set it in every session, servers before 17 do not know it, and pg_restore goes on.
TIMEOUT_SETTING = "transaction_timeout"
TIMEOUT_CLIENT, TIMEOUT_SERVER = 17, 170000

_ERROR = re.compile(r"^(?:pg_restore|psql)(?::[^ ]*)?: (?:error|fatal): |^(?:psql:[^ ]*: )?(?:ERROR|FATAL|PANIC):  ")
_IGNORED = re.compile(r"errors ignored on restore: (\d+)$")
_BEGINS_DATA = re.compile(r"^pg_restore: (?:processing data for table |launching item \d+ (?:TABLE DATA|BLOBS?|LARGE OBJECT))")
_ENDS_DATA = re.compile(r"^pg_restore: finished item \d+ (?:TABLE DATA|BLOBS?|LARGE OBJECT)")
_SERIAL_DATA = re.compile(r"^pg_restore: processing data for table ")
_QUOTED_VALUE = re.compile(r': "[^"]*"?$')
_MOST_ERRORS = 20


class Words:
    """Reads the lines of one program; give `line` to it, which may be called by another thread, as `counted` is for every table."""

    def __init__(self, parallel: bool = False, counted: Optional[Callable[[int], None]] = None) -> None:
        self.errors: List[str] = []
        self.tables = 0
        self.ignored: int | None = None
        self.unknown_timeouts = 0
        self._parallel = parallel
        self._counted = counted
        self._started = time.monotonic()
        self._data: List[float] = []
        self._pending = False

    def line(self, text: str) -> None:
        """Take in one line."""
        now = time.monotonic()
        if _BEGINS_DATA.match(text):
            self._data = [self._data[0] if self._data else now, now]
            self._pending = True
            if not self._parallel and _SERIAL_DATA.match(text):
                self._count()
        elif _ENDS_DATA.match(text):
            self._data = [self._data[0] if self._data else now, now]
            self._count()
        elif self._pending:
            self._data[1] = now
            self._pending = False
        ignored = _IGNORED.search(text)
        if ignored:
            self.ignored = int(ignored.group(1))
        elif _ERROR.match(text):
            self._error(text)

    def _count(self) -> None:
        self.tables += 1
        if self._counted is not None:
            self._counted(self.tables)

    def _error(self, text: str) -> None:
        if f'"{TIMEOUT_SETTING}"' in text and "could not execute query" in text:
            self.unknown_timeouts += 1
        elif len(self.errors) < _MOST_ERRORS:
            self.errors.append(_QUOTED_VALUE.sub("", text) if "COPY" in text or "invalid input" in text else text)

    def said(self) -> str:
        """Return the errors, without what they quote."""
        return "\n".join(self.errors)

    def phases(self) -> Dict[str, float]:
        """Return how long the program took before the first rows, with them, and after the last ones."""
        now = time.monotonic()
        first, last = self._data or (now, now)
        return {"pre_data": first - self._started, "data": last - first, "post_data": now - last}
