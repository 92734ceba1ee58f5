# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long each phase of a backup or a restore took."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Dict, Iterator


class Phases:
    """The `seconds` of each phase; one that is entered twice has them added up."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the seconds of the block, however it ends."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(name, time.monotonic() - began)

    def add(self, name: str, seconds: float) -> None:
        """Count `seconds` of a phase that something else has measured."""
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 3)
