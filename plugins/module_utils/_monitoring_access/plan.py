# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done, as statements that run and that a person can read, and what is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List


@dataclass(frozen=True)
class Step:
    """One statement. `what` is the privilege, `on` the object, both in the words of a person."""

    what: str
    on: str
    statement: Any

    def as_result(self, database: Any) -> Dict[str, Any]:
        """Return what a result says of it."""
        return {"what": self.what, "on": self.on, "statement": database.text(self.statement) + ";"}


@dataclass(frozen=True)
class Gap:
    """Something that a check would need and that is not done, and why. Without a `statement` there is none that would do it."""

    what: str
    on: str
    reason: str
    statement: Any = None

    def as_result(self, database: Any) -> Dict[str, Any]:
        """Return what a result says of it."""
        text = None if self.statement is None else database.text(self.statement) + ";"
        return {"what": self.what, "on": self.on, "statement": text, "reason": self.reason}


@dataclass
class Plan:
    """The statements in the order in which they run; `missing`: what the session may not do; `not_granted`: what is left to a person."""

    steps: List[Step] = field(default_factory=list)
    missing: List[Gap] = field(default_factory=list)
    not_granted: List[Gap] = field(default_factory=list)
