# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of a time column: what its wall clock or its number means."""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import Field, Group
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import COLUMN, Choice, Zone

TIME = Group(
    "a time column",
    {
        "column": Field(COLUMN, "the column", required=True),
        "time_zone": Field(Zone(), "the zone of a `timestamp` or `date` column; the system's time_zone where it is left out"),
        "unit": Field(Choice("s", "ms"), "for an integer column: seconds or milliseconds since 1970"),
    },
    short="column",
)
