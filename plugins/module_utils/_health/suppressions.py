# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings that an operator has set aside, with a reason and until a day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Dict, Iterable, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import STATUSES
from ansible_collections.pgops.runbook.plugins.module_utils._system import read_suppressions


@dataclass(frozen=True)
class Suppression:
    """One of them. It covers what is no worse than `severity`, through the day `until` in UTC."""

    finding: str
    reason: str
    until: date
    severity: str

    def covers(self, severity: str, today: date) -> bool:
        """Return whether a finding of this severity is set aside today."""
        return today <= self.until and STATUSES.index(severity) <= STATUSES.index(self.severity)


class Suppressions:
    """Those of the system and of the call, by the key of their finding; the call's go before the system's."""

    def __init__(self, entries: Iterable[Mapping[str, Any]] = ()) -> None:
        self._by_key: Dict[str, Suppression] = {
            entry["finding"]: Suppression(entry["finding"], entry["reason"], date.fromisoformat(entry["until"]), entry["severity"])
            for entry in entries
        }

    def of(self, key: str, severity: str, today: date) -> Suppression | None:
        """Return the suppression that covers the finding, if any."""
        found = self._by_key.get(key)
        return found if found and found.covers(severity, today) else None

    def expired(self, today: date) -> List[Suppression]:
        """Return those that no longer hold."""
        return [each for each in self._by_key.values() if today > each.until]


def read(system: Mapping[str, Any] | None, call: Any) -> Suppressions:
    """Return the suppressions of a normalised description and of a call. Raises DescriptionError with every fault of the call's."""
    found, faults = read_suppressions(call or [])
    if faults:
        raise DescriptionError([f"suppressions{fault}" for fault in faults])
    return Suppressions([*((system or {}).get("suppressions") or ()), *found])
