# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks that a threshold may be written for: one row a check, and the only list of their ids."""

from __future__ import annotations

from typing import NamedTuple

# The tiers in order: a run of one tier does the checks of those before it too.
TIERS = ("hourly", "daily", "weekly", "monthly")


class CheckFact(NamedTuple):
    """What a threshold of one check means.

    `tier` is the schedule that runs it first; `unit` is seconds, bytes, percent, count, or None where the check
    only informs or has nothing to compare; `worse` is the direction in which a value gets worse, above or below.
    """

    tier: str
    unit: str | None = None
    worse: str = "above"


CHECKS = {
    "avail.connect": CheckFact("hourly"),
    "avail.recovering": CheckFact("hourly"),
    "schema.present": CheckFact("hourly"),
    "conn.used_pct": CheckFact("hourly", "percent"),
    "conn.active": CheckFact("hourly", "count"),
    "conn.states": CheckFact("hourly"),
    "conn.idle_in_transaction": CheckFact("hourly", "seconds"),
    "conn.idle": CheckFact("hourly", "seconds"),
    "conn.slots_left": CheckFact("hourly", "count", "below"),
    "lock.blocked": CheckFact("hourly", "count"),
    "query.longest": CheckFact("hourly", "seconds"),
    "token.revocation_rate": CheckFact("hourly", "percent"),
    "login.stuck": CheckFact("hourly", "count"),
    "login.pending": CheckFact("hourly", "count"),
    "login.failed": CheckFact("hourly", "count"),
    "repl.lag": CheckFact("hourly", "seconds"),
    "size.rows": CheckFact("daily"),
    "size.database": CheckFact("daily", "bytes"),
    "size.growth": CheckFact("daily", "percent"),
    "cache.hit_pct": CheckFact("daily", "percent", "below"),
    "table.dead_rows": CheckFact("daily", "count"),
    "table.dead_pct": CheckFact("daily", "percent"),
    "table.hot_pct": CheckFact("daily", "percent", "below"),
    "table.seq_scans": CheckFact("daily", "count"),
    "table.vacuum_age": CheckFact("daily", "seconds"),
    "token.orphaned_deny": CheckFact("daily", "count"),
    "token.future_issued": CheckFact("daily", "count"),
    "token.duplicate_ids": CheckFact("daily", "count"),
    "token.zone_ahead": CheckFact("daily", "count"),
    "security.rls": CheckFact("daily", "count"),
    "security.cross_user_access": CheckFact("daily", "count"),
    "security.access_rate": CheckFact("hourly", "count"),
    "stat.slow": CheckFact("daily", "seconds"),
    "migration.state": CheckFact("daily"),
    "backup.age": CheckFact("daily", "seconds"),
    "index.unused": CheckFact("weekly", "count"),
    "index.invalid": CheckFact("weekly", "count"),
    "index.correlation": CheckFact("weekly"),
    "table.bloat_pct": CheckFact("weekly", "percent"),
    "partition.ahead": CheckFact("weekly", "count", "below"),
}
