# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the backup of one database is, shown to a DBA by the name of the session, and to a watcher."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._backup.limits import Deadline
from ansible_collections.pgops.runbook.plugins.module_utils._backup.places import folder_size
from ansible_collections.pgops.runbook.plugins.module_utils._progress import ProgressView, Watch, named

OPERATION = "pg_backup"
_SECONDS_BETWEEN = 1.0


class Progress:
    """Shows how much of the `expected` bytes stands in `partial`, once a second at the most, and keeps the session alive by that.

    Called often. Raises OutOfTime when the run's time is over, DatabaseError when the session is gone.
    """

    def __init__(self, name: str, application_name: str, partial: Path, expected: int, deadline: Deadline, watch: Watch) -> None:
        self._name = name
        self._application_name = application_name
        self._partial = partial
        self._expected = max(1, expected)
        self._deadline = deadline
        self._watch = watch
        self._began = time.monotonic()
        self._next = 0.0
        self._session: Any = None

    def attend(self, session: Any) -> None:
        """Show it as the name of `session` from now on, of none where that is None."""
        self._session = session
        self._next = 0.0

    def __call__(self) -> None:
        self._deadline.check()
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _SECONDS_BETWEEN
        view = self.view(now)
        self._watch(view)
        if self._session is not None:
            self._session.set_application_name(named(self._application_name, view))

    def view(self, now: float) -> ProgressView:
        """Return how far it is; the total is an estimate, so that more than nearly all is never said."""
        done = folder_size(self._partial)
        return ProgressView.after(OPERATION, self._name, min(done, self._expected - 1), self._expected, now - self._began)
