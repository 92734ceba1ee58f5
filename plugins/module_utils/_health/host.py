# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load and memory of the server's host."""

from __future__ import annotations

import os
from typing import Dict, Iterable, List

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._health import control_groups
from ansible_collections.pgops.runbook.plugins.module_utils._health.control_groups import PROCESSES
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading, Unseen
from ansible_collections.pgops.runbook.plugins.module_utils._health.same_host import HOST, same_host

_KILOBYTE = 1024


def _load(look: Look, limits: Limits) -> Iterable[Reading]:
    host = same_host(look)
    try:
        load = os.getloadavg()[2]
    except OSError as error:
        raise Unseen("this host does not say its load") from error
    count = os.cpu_count() or 1
    allowed = control_groups.cpus(host.process)
    bound = f"; the server may use {allowed:g} of them, and the load is that of the whole host" if allowed and allowed < count else ""
    return [Reading(f"load {load:.2f} over 15 min on {count} CPUs{bound}", round(100.0 * load / count, 1))]


def _memory(look: Look, limits: Limits) -> Iterable[Reading]:
    host = same_host(look)
    known = _meminfo()
    if not {"MemTotal", "MemAvailable"} <= set(known):
        raise Unseen("this host does not say how much memory is available")
    total, used = known["MemTotal"], known["MemTotal"] - known["MemAvailable"]
    percent = 100.0 * used / max(1, total)
    message = f"{format_size(used)} of {format_size(total)} in use without caches"
    group = control_groups.memory(host.process, total)
    if group is not None and group.percent >= percent:
        message = f"{format_size(group.used)} of the {format_size(group.limit)} that the server's control group may use, without caches"
        percent = group.percent
    return [Reading(message, round(percent, 1), metrics={"host.memory_bytes": float(used)})]


def _meminfo() -> Dict[str, int]:
    """Return /proc/meminfo in bytes."""
    try:
        fields = [line.replace(":", " ").split() for line in (PROCESSES / "meminfo").read_text(encoding="ascii").splitlines()]
    except OSError:
        return {}
    return {field[0]: int(field[1]) * _KILOBYTE for field in fields if len(field) == 3 and field[2] == "kB"}


_NEEDS = "to run on the server's own host"
CHECKS: List[Check] = [
    Check(
        id="host.load",
        title="Load of the host",
        tier="hourly",
        looks_at="The load average of 15 minutes as a share of the CPUs. It counts processes that wait for disks as well, and a backup "
        "may raise it for hours without any harm: what is too much is known here only, so that there are no thresholds unless somebody "
        "gives them.",
        action="Look which sessions are active (query.longest, lock.blocked) and what else runs on the host.",
        needs=_NEEDS,
        run=_load,
        facts=(HOST,),
        unit="percent",
    ),
    Check(
        id="host.memory_pct",
        title="Memory in use",
        tier="hourly",
        looks_at="What is not available of the host's memory, by the kernel's own estimate, which leaves caches out; or of what the "
        "server's control group may use, where that is fuller. Once it runs out, the kernel kills a process, and with it ends every "
        "session.",
        action="Look at work_mem times the sessions, shared_buffers and what else runs on the host; bound the application's pool.",
        needs=_NEEDS,
        run=_memory,
        facts=(HOST,),
        unit="percent",
        warning=90,
        critical=95,
    ),
]
