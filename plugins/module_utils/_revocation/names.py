# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of a revocation's record, which what is taken back later must find as they were written."""

from __future__ import annotations

# What was done to a row.
DENIED, EXTENDED, REVOKED_AT, FLAGGED, DELETED, CLEARED, LIMITED, CACHED = (
    "denied",
    "extended",
    "revoked_at",
    "flagged",
    "deleted",
    "cleared",
    "limited",
    "cached",
)
# The alias of a row of a table that is not the store's own.
ROW = "row_"
STAGE = "stage_"  # the alias of the rows set aside for a pass
