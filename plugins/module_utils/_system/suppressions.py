# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of what an operator knows and does not want to be told of again for a while."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._system.checks import CHECKS
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, one_of
from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import Field, Group, Listing
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import TEXT, Choice, Kind


class FindingKey(Kind):
    """The key of a finding: the check, and the object in brackets where it is about one."""

    noun = "the key of a finding such as index.unused[public.orders_idx]"

    def read(self, value: Any, path: str, faults: Faults) -> str | None:
        check, bracket, rest = value.partition("[") if isinstance(value, str) else ("", "", "")
        if not check or (bracket and (len(rest) < 2 or not rest.endswith("]"))):
            self.refuse(value, path, faults)
            return None
        if check == "avail.connect":
            faults.add(path, "avail.connect cannot be suppressed: nothing would be seen and nobody told")
            return None
        if check not in CHECKS:
            faults.add(path, one_of(check, CHECKS, "the checks"))
            return None
        return str(value)


class Day(Kind):
    """A day as ISO 8601 writes it."""

    noun = "a day such as 2027-03-31"

    def read(self, value: Any, path: str, faults: Faults) -> str | None:
        try:
            # A moment is a date as well, and no day.
            day = isinstance(value, date) and not isinstance(value, datetime)
            return (value if day else date.fromisoformat(str(value))).isoformat()
        except ValueError:
            self.refuse(value, path, faults)
            return None


SUPPRESSION = Group(
    "a suppression",
    {
        "finding": Field(FindingKey(), "the finding, by its key", required=True),
        "reason": Field(TEXT, "why nobody is to be told", required=True),
        "until": Field(Day(), "the last day on which it holds, in UTC", required=True),
        "severity": Field(
            Choice("unknown", "warning", "critical"), "the worst that it covers: what gets worse is told again", default="warning"
        ),
    },
)
SUPPRESSIONS = Listing(SUPPRESSION, named="finding")
