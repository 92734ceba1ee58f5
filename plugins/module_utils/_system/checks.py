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
    "avail.role_expected": CheckFact("hourly"),
    "schema.present": CheckFact("hourly"),
    "conn.used_pct": CheckFact("hourly", "percent"),
    "conn.active": CheckFact("hourly", "count"),
    "conn.slots_left": CheckFact("hourly", "count", "below"),
    "conn.states": CheckFact("hourly"),
    "conn.clients": CheckFact("hourly"),
    "conn.idle": CheckFact("hourly", "seconds"),
    "conn.idle_in_transaction": CheckFact("hourly", "seconds"),
    "query.longest": CheckFact("hourly", "seconds"),
    "transaction.longest": CheckFact("hourly", "seconds"),
    "lock.blocked": CheckFact("hourly", "count"),
    "lock.wait": CheckFact("hourly", "seconds"),
    "twophase.age": CheckFact("hourly", "seconds"),
    "xmin.horizon": CheckFact("hourly", "count"),
    "xid.age_pct": CheckFact("hourly", "percent"),
    "mxid.age_pct": CheckFact("hourly", "percent"),
    "slot.inactive": CheckFact("hourly", "seconds"),
    "slot.retained": CheckFact("hourly", "bytes"),
    "slot.wal_status": CheckFact("hourly"),
    "slot.invalidated": CheckFact("hourly"),
    "repl.standbys": CheckFact("hourly", "count", "below"),
    "repl.lag_bytes": CheckFact("hourly", "bytes"),
    "repl.lag_time": CheckFact("hourly", "seconds"),
    "repl.receiver_down": CheckFact("hourly"),
    "wal.archive_failing": CheckFact("hourly", "seconds"),
    "wal.archive_stuck": CheckFact("hourly", "seconds"),
    "wal.dir_size": CheckFact("hourly", "percent"),
    "data.checksum_failures": CheckFact("hourly", "count"),
    "host.load": CheckFact("hourly", "percent"),
    "host.memory_pct": CheckFact("hourly", "percent"),
    "token.revocation_rate": CheckFact("hourly", "percent"),
    "login.stuck": CheckFact("hourly", "count"),
    "login.pending": CheckFact("hourly", "count"),
    "login.failed": CheckFact("hourly", "count"),
    "security.access_rate": CheckFact("hourly", "count"),
    "redis.reachable": CheckFact("hourly"),
    "redis.memory": CheckFact("hourly", "percent"),
    "size.rows": CheckFact("daily"),
    "size.database": CheckFact("daily", "bytes"),
    "size.growth": CheckFact("daily", "percent"),
    "disk.free_pct": CheckFact("daily", "percent", "below"),
    "disk.days_left": CheckFact("daily", "seconds", "below"),
    "cache.hit_pct": CheckFact("daily", "percent", "below"),
    "db.transaction_rate": CheckFact("daily", "count"),
    "db.rollback_pct": CheckFact("daily", "percent"),
    "db.deadlocks": CheckFact("daily", "count"),
    "db.temp_bytes": CheckFact("daily", "bytes"),
    "table.dead_rows": CheckFact("daily", "count"),
    "table.dead_pct": CheckFact("daily", "percent"),
    "table.hot_pct": CheckFact("daily", "percent", "below"),
    "table.seq_scans": CheckFact("daily", "count"),
    "table.vacuum_age": CheckFact("daily", "seconds"),
    "vac.dead_overdue": CheckFact("daily", "percent"),
    "vac.insert_overdue": CheckFact("daily", "percent"),
    "vac.never": CheckFact("daily", "count"),
    "vac.disabled": CheckFact("daily"),
    "seq.exhaustion": CheckFact("daily", "percent"),
    "partition.coverage": CheckFact("daily", "seconds", "below"),
    "partition.default_rows": CheckFact("daily", "count"),
    "index.invalid": CheckFact("daily", "count"),
    "token.orphaned_deny": CheckFact("daily", "count"),
    "token.future_issued": CheckFact("daily", "count"),
    "token.duplicate_ids": CheckFact("daily", "count"),
    "token.zone_ahead": CheckFact("daily", "count"),
    "security.rls": CheckFact("daily", "count"),
    "security.cross_user_access": CheckFact("daily", "count"),
    "redis.policy": CheckFact("daily"),
    "redis.evictions": CheckFact("daily", "count"),
    "redis.password": CheckFact("daily"),
    "redis.commands": CheckFact("daily", "count"),
    "redis.persistence": CheckFact("daily"),
    "stat.slow": CheckFact("daily", "seconds"),
    "stat.evictions": CheckFact("daily", "count"),
    "cfg.pending_restart": CheckFact("daily", "count"),
    "cfg.unsafe": CheckFact("daily"),
    "cfg.file_errors": CheckFact("daily", "count"),
    "cfg.drift": CheckFact("daily", "count"),
    "migration.state": CheckFact("daily"),
    "backup.age": CheckFact("daily", "seconds"),
    "backup.verify_age": CheckFact("daily", "seconds"),
    "bloat.table": CheckFact("weekly", "percent"),
    "bloat.index": CheckFact("weekly", "percent"),
    "index.duplicate": CheckFact("weekly", "bytes"),
    "index.unused": CheckFact("weekly", "bytes"),
    "index.correlation": CheckFact("weekly"),
    "fk.unindexed": CheckFact("weekly", "count"),
    "constraint.not_valid": CheckFact("weekly", "count"),
    "ver.minor": CheckFact("weekly", "count"),
    "ver.eol": CheckFact("weekly", "seconds", "below"),
    "ver.collation": CheckFact("weekly", "count"),
    "ver.ext_outdated": CheckFact("weekly", "count"),
    "security.superusers": CheckFact("monthly", "count"),
    "security.md5": CheckFact("monthly", "count"),
    "security.password_expiry": CheckFact("monthly", "seconds", "below"),
    "security.public_create": CheckFact("monthly", "count"),
    "security.hba": CheckFact("monthly", "count"),
    "security.ssl_off": CheckFact("monthly", "count"),
    "security.definer_path": CheckFact("monthly", "count"),
    "integrity.amcheck": CheckFact("monthly", "count"),
}
