# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a database has to be back and how much may be lost, against what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration


@dataclass(frozen=True)
class Measure:
    """One of the two, in seconds. Without a target there is nothing to meet, and without a measurement nothing is met."""

    seconds: float | None
    target: float | None

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None where there is none."""
        if self.target is None:
            return None
        return self.seconds is not None and self.seconds <= self.target

    def as_result(self) -> Dict[str, Any]:
        """Return it as a result has it."""
        return {"seconds": None if self.seconds is None else round(self.seconds, 3), "target_seconds": self.target, "met": self.met}

    def missed(self, what: str) -> str | None:
        """Return a sentence where the target was missed; `what` is what was measured."""
        if self.target is None or self.met or self.seconds is None:
            return None
        return f"{what} is {readable(self.seconds)}, and the target is {format_duration(self.target)}"


def readable(seconds: float) -> str:
    """Return a duration that was measured with as many digits as a person reads."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    parts = ((whole // 86400, "d"), (whole % 86400 // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60, "s"))
    told = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(told[:2])
