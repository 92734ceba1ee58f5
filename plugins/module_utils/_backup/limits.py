# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a run's time."""

from __future__ import annotations

import math
import time

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError

_SLACK = 5.0


class OutOfTime(RunbookError):
    """The run's `max_runtime` is over; what was not finished has been taken back."""


class Deadline:
    """When the run has to end; without `seconds`, never."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float:
        """How many seconds are left, infinity where there is no end."""
        return self._end - time.monotonic()

    @property
    def statement_seconds(self) -> float:
        """How long a statement may take: beyond the end by a little, so that it is the run that says why it ends."""
        return self.left + _SLACK

    def check(self) -> None:
        """Raise OutOfTime when the time is over."""
        if self.left <= 0:
            raise OutOfTime(
                f"max_runtime ({format_duration(self._seconds or 0)}) is over; what was not finished has been taken back",
                object_name="max_runtime",
                hint="Give it more time, or begin earlier.",
            )
