# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How full the server's disks are, and when they will be."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple, Union

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.forecast import DAY
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import (
    SKIPPED,
    Check,
    Limits,
    Reading,
    Unseen,
    unknown,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.same_host import HOST, same_host

TABLESPACES = Fact(
    "tablespaces",
    """
SELECT coalesce(json_agg(json_build_object('name', spcname, 'place', place) ORDER BY spcname), '[]')
FROM (SELECT spcname, pg_tablespace_location(oid) AS place FROM pg_tablespace OFFSET 0) AS t WHERE place <> ''
""",
)


@dataclass(frozen=True)
class Disk:
    """One file system: `name` is that of the first thing on it, `holds` all of them. Shares are percent; inodes None where it has none."""

    name: str
    holds: Tuple[str, ...]
    free: int
    size: int
    free_pct: float
    inodes_pct: float | None


Found = Union[Disk, Tuple[str, Unseen]]


def _disks(look: Look) -> List[Found]:
    """Return every file system of the server once, and what could not be seen by its name. Raises Unseen."""
    host = same_host(look)
    if host.data is None:
        hint = f"As a superuser: GRANT pg_read_all_settings TO {quoted(look.role)};"
        raise Unseen(f"the role {look.role} may not see where the data directory is", hint=hint)
    places = [("data", Path(host.data)), ("wal", Path(host.data) / "pg_wal")]
    # One in place, for tests of the server, lies below the data directory.
    places += [(f"tablespace {each['name']}", Path(host.data) / each["place"]) for each in look.fact(TABLESPACES)]
    by_device: Dict[int, List[Tuple[str, Path]]] = {}
    found: List[Found] = []
    for name, path in places:
        try:
            by_device.setdefault(path.stat().st_dev, []).append((name, path))
        except OSError as error:  # noqa: PERF203  (one disk must not hide the others)
            hint = "Run the check as the server's account or as root."
            found.append((name, Unseen(f"{path} cannot be seen: {error.strerror}", hint=hint)))
    return [*(_disk(same) for same in by_device.values()), *found]


def _disk(same: List[Tuple[str, Path]]) -> Disk:
    (name, path), holds = same[0], tuple(each for each, _path in same)
    seen = os.statvfs(path)
    # As df does: what is set aside for root is neither free nor used.
    used, free = seen.f_blocks - seen.f_bfree, seen.f_bavail
    inodes = 100.0 * seen.f_favail / seen.f_files if seen.f_files else None
    return Disk(name, holds, free * seen.f_frsize, seen.f_blocks * seen.f_frsize, 100.0 * free / max(1, used + free), inodes)


def _free(look: Look, limits: Limits) -> Iterable[Reading]:
    readings: List[Reading] = []
    for each in look.seen(_disks):
        if not isinstance(each, Disk):
            readings.append(unknown(each[1], each[0]))
            continue
        message = f"{format_size(each.free)} of {format_size(each.size)} free{_holding(each)}"
        metrics: Dict[str, Any] = {f"disk.free_bytes[{each.name}]": float(each.free)}
        readings.append(Reading(message, round(each.free_pct, 2), each.name, metrics=metrics))
        if each.inodes_pct is not None:
            message = f"{each.inodes_pct:.1f} % of the inodes free{_holding(each)}"
            action = "Look which folder of this file system has the many small files, and remove those that nobody needs."
            readings.append(Reading(message, round(each.inodes_pct, 2), f"{each.name} inodes", action=action))
    return readings


def _days_left(look: Look, limits: Limits) -> Iterable[Reading]:
    return [_runs_out(look, each) if isinstance(each, Disk) else unknown(each[1], each[0]) for each in look.seen(_disks)]


def _runs_out(look: Look, disk: Disk) -> Reading:
    found = look.history.forecast(f"disk.free_bytes[{disk.name}]", float(disk.free), 0.0)
    if found is None:
        return Reading(look.history.absence, object_name=disk.name, status=SKIPPED)
    first = datetime.fromtimestamp(found.since, timezone.utc).strftime("%Y-%m-%d")
    since = f"in {found.points} points since {first}{_holding(disk)}"
    if found.days_left is None:
        return Reading(f"{format_size(disk.free)} free, and not getting less {since}", object_name=disk.name)
    message = f"full in {found.days_left:.0f} days: {format_size(disk.free)} free, {format_size(-found.per_day)} less a day {since}"
    return Reading(message, round(found.days_left * DAY), disk.name)


def _holding(disk: Disk) -> str:
    return f" (also {', '.join(disk.holds[1:])})" if len(disk.holds) > 1 else ""


_NEEDS = "pg_read_all_settings, and to run on the server's own host, where pg_wal is read as the server's account or root"
CHECKS: List[Check] = [
    Check(
        id="disk.free_pct",
        title="Free space of the server's disks",
        tier="daily",
        looks_at="The file systems of the data directory, the WAL and the tablespaces, each once: free space as df has it, and free "
        "inodes. Only where it is proven that this program runs on the server's own host.",
        action="Find what grows (size.growth, wal.dir_size, slot.retained, the server's log), and make room or the disk larger before it "
        "is full: a server without room for WAL stops. Never remove files from the data directory by hand.",
        needs=_NEEDS,
        run=_free,
        facts=(HOST, TABLESPACES),
        unit="percent",
        worse="below",
        warning=20,
        critical=10,
    ),
    Check(
        id="disk.days_left",
        title="Days until a disk is full",
        tier="daily",
        looks_at="When each file system has no free space left if that goes on as in the last 30 days of the history: the median of all "
        "slopes, which neither a single import nor a clean-up changes.",
        action="Find what grows (size.growth), clean up, or make the disk larger in time.",
        needs=f"{_NEEDS}; a history",
        run=_days_left,
        facts=(HOST, TABLESPACES),
        unit="seconds",
        worse="below",
        warning=30 * DAY,
        critical=7 * DAY,
    ),
]
