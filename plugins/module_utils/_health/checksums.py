# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged pages that the server itself has come across."""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading, skipped
from ansible_collections.pgops.runbook.plugins.module_utils._health.replicas import WAL, setting
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted, moment

# The row without a name counts for what all databases share. What is counted is said by the server in the zone of the session.
FAILURES = Fact(
    "checksum_failures",
    """
SELECT coalesce(json_agg(json_build_object('database', datname, 'failures', checksum_failures,
    'last', (checksum_last_failure AT TIME ZONE 'UTC')::text) ORDER BY datname NULLS FIRST), '[]')
FROM pg_stat_database
""",
)
SHARED = "shared objects"
# No grant would show what the server does not count.
_OFF = (
    "data checksums are off: the server does not notice a damaged page when it reads one; to switch them on, stop it cleanly and run "
    "pg_checksums --enable on its data directory, standbys too"
)


def _failures(look: Look, limits: Limits) -> Iterable[Reading]:
    if setting(look, "data_checksums") == "off":
        return skipped(_OFF)
    found = look.fact(FAILURES)
    readings = [_damaged(row) for row in found if row["failures"]]
    return readings or [Reading(f"no damaged page was read in {counted(len([row for row in found if row['database']]), 'database')}", 0.0)]


def _damaged(row: Mapping[str, Any]) -> Reading:
    last = f", last {moment(row['last'] + '+00')}" if row["last"] else ""
    return Reading(f"{counted(row['failures'], 'damaged page')} read{last}", float(row["failures"]), row["database"] or SHARED)


CHECKS: List[Check] = [
    Check(
        id="data.checksum_failures",
        title="No damaged pages",
        tier="hourly",
        looks_at="How many pages of each database, and of what all share, the server has read with a wrong checksum since its statistics "
        "were reset. Pages that nobody reads do not count: see integrity.amcheck and pg_checksums --check. "
        "Skipped where data checksums are off.",
        action="Do not restart and do not VACUUM FULL. Save a copy of the files, find the relation in the server's log, restore it from "
        "a backup or a standby, and look for failing memory and disks.",
        needs="nothing; data checksums that are on",
        run=_failures,
        facts=(WAL, FAILURES),
        unit="count",
        critical=0,
    ),
]
