# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a run may go on, and when it rests: the time it was given, a maintenance window, and whatever else suffers from it."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle import Throttle
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.window import closes_at, opens_next

MAX_RUNTIME, WINDOW, THROTTLED = "max_runtime", "window", "throttled"


class Pace:
    """Asked before every batch. `stopped` says why the run has to end, and is None while it may go on."""

    def __init__(self, database: Any, options: Options, started: float) -> None:
        """`started` is the monotonic time (seconds) from which max_runtime counts."""
        self.throttle = Throttle(options.throttle, lambda text: database.set_application_name(f"{options.application_name} pauses: {text}"))
        self.stopped: str | None = None
        self._ends: list[tuple[float, str]] = []
        if options.max_runtime is not None:
            self._ends.append((started + options.max_runtime, MAX_RUNTIME))
        self.warnings: list[str] = []
        if options.window is not None:
            closes = closes_at(database, options.window)
            if closes is None:
                self.warnings.append(f"the window is closed and opens next at {opens_next(database, options.window)}; nothing was changed")
            self._ends.append((time.monotonic() + (closes or 0.0), WINDOW))

    def over(self) -> bool:
        """Return whether the run has to end now."""
        if self.stopped is None:
            self.stopped = next((why for end, why in sorted(self._ends) if time.monotonic() >= end), None)
        return self.stopped is not None

    def ready(self, database: Any) -> bool:
        """Return whether another batch may begin; rests before where something suffers. Raises DatabaseError."""
        if self.over():
            return False
        if self.throttle.wait(database, self.over):
            return True
        if not self.over():
            self.stopped = THROTTLED
        return False

    def seconds_left(self) -> float | None:
        """Return how long the run may still take, None without a limit."""
        return max(0.0, min(end for end, _why in self._ends) - time.monotonic()) if self._ends else None
