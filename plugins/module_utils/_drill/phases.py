# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long each phase of a drill took, and how long it was until the database could be used."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List


class Phases:
    """The seconds of each phase. Phases may overlap; one that is entered twice has its seconds added up."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._phases: Dict[str, Dict[str, float]] = {}
        self._at_work: List[str] = []
        self.usable: float | None = None

    @property
    def passed(self) -> float:
        """The seconds since the drill began."""
        return self._clock() - self._began

    @property
    def current(self) -> str | None:
        """The phase that was entered last and still goes on, else the last that ended: where an error belongs."""
        return self._at_work[-1] if self._at_work else next(reversed(list(self._phases)), None)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of the block, however it ends."""
        began = self.passed
        self._phases.setdefault(name, {"began": began, "seconds": 0.0})
        self._at_work.append(name)
        try:
            yield
            self._at_work.remove(name)
        finally:
            self._phases[name]["seconds"] += self.passed - began

    def add(self, name: str, began: float, seconds: float) -> None:
        """Add a phase that something else has measured, `began` seconds after the drill began."""
        known = self._phases.setdefault(name, {"began": began, "seconds": 0.0})
        known["seconds"] += seconds

    def mark_usable(self) -> None:
        """Say that from now on an application could work with the database."""
        self.usable = self.passed

    def as_result(self) -> List[Dict[str, Any]]:
        """Return the phases in the order in which they began."""
        found = [{"name": name, **{key: round(value, 3) for key, value in times.items()}} for name, times in self._phases.items()]
        return sorted(found, key=lambda phase: phase["began"])
