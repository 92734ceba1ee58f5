# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process of this host may use: the limits of its control groups, which a container or a systemd unit sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, Tuple

ROOT = Path("/sys/fs/cgroup")
PROCESSES = Path("/proc")


@dataclass(frozen=True)
class Memory:
    """What a control group and all below it use of what they may, in bytes; `used` without what is a mere cache of files."""

    used: int
    limit: int

    @property
    def percent(self) -> float:
        """The share that is used."""
        return 100.0 * self.used / max(1, self.limit)


def memory(process: int, total: int, root: Path = ROOT, processes: Path = PROCESSES) -> Memory | None:
    """Return the fullest of the groups that limit `process` to less than `total`, None where none does."""
    found = []
    for folder, unified in _folders(process, "memory", root, processes):
        limit = _number(folder, "memory.max" if unified else "memory.limit_in_bytes")
        current = _number(folder, "memory.current" if unified else "memory.usage_in_bytes")
        if limit is None or current is None or limit >= total:
            continue
        kinds, prefix = _pairs(folder, "memory.stat"), "" if unified else "total_"
        cached = sum(kinds.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))
        found.append(Memory(max(0, current - cached), limit))
    return max(found, key=lambda each: each.percent, default=None)


def cpus(process: int, root: Path = ROOT, processes: Path = PROCESSES) -> float | None:
    """Return how many CPUs `process` may use at most, None where no group says."""
    found = []
    for folder, unified in _folders(process, "cpu", root, processes):
        if unified:
            quota, _blank, period = (_text(folder, "cpu.max") or "").partition(" ")
        else:
            quota, period = (_text(folder, f"cpu.cfs_{part}_us") or "" for part in ("quota", "period"))
        if quota.isdecimal() and period.isdecimal() and int(period):
            found.append(int(quota) / int(period))
    return min(found, default=None)


def _folders(process: int, controller: str, root: Path, processes: Path) -> Iterator[Tuple[Path, bool]]:
    """Yield the folder of each group of the process from its own up, and whether it is of the unified hierarchy (version 2)."""
    for line in (_text(processes / str(process), "cgroup") or "").splitlines():
        controllers, _colon, path = line.partition(":")[2].partition(":")
        unified = not controllers
        if not unified and controller not in controllers.split(","):
            continue
        top = root if unified else root / controllers
        if not top.is_dir():
            top = root / controller
        # A container has only its own part, mounted where the whole would be.
        own = top / path.lstrip("/")
        folder = own if ".." not in own.parts and own.is_dir() else top
        yield folder, unified
        while folder != top:
            folder = folder.parent
            yield folder, unified


def _text(folder: Path, name: str) -> str | None:
    try:
        return (folder / name).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def _number(folder: Path, name: str) -> int | None:
    text = _text(folder, name) or ""
    return int(text) if text.isdecimal() else None


def _pairs(folder: Path, name: str) -> Dict[str, int]:
    pairs = (line.partition(" ") for line in (_text(folder, name) or "").splitlines())
    return {key: int(value) for key, _blank, value in pairs if value.isdecimal()}
