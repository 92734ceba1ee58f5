# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that is asked to end takes back what it has begun."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from types import FrameType
from typing import Iterator

_ASKED = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def taking_back() -> Iterator[None]:
    """Let the signals that ask a process to end be an exit of the block, with all that its parts do at their ends."""
    before = {number: signal.signal(number, _leave) for number in _ASKED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
