# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All checks. A new group is a new file and one line here; documentation and tests follow from this list."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._health import (
    accesses,
    activity,
    availability,
    backups,
    bloat,
    caches,
    checksums,
    connections,
    disks,
    exposure,
    host,
    indexes,
    integrity,
    locks,
    logins,
    partitions,
    passwords,
    policies,
    rates,
    replication,
    schema,
    sequences,
    settings,
    sizes,
    slots,
    statements,
    tables,
    tokens,
    transactions,
    usage,
    vacuum,
    versions,
    wal,
    wraparound,
    zones,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.limits import known
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Reading, skipped
from ansible_collections.pgops.runbook.plugins.module_utils._system import CHECKS as KNOWN

# In the order in which they run: what others build on first, what costs most last.
_GROUPS = (
    *(availability, schema, connections, activity, locks, transactions, wraparound, slots, replication, wal, checksums, host),
    *(tokens, logins, accesses, policies, caches),
    *(settings, versions, sizes, disks, rates, backups),
    *(tables, vacuum, usage, sequences, partitions, statements, zones),
    *(passwords, exposure, indexes, bloat, integrity),
)
CHECKS: Dict[str, Check] = {check.id: check for group in _GROUPS for check in group.CHECKS}
# A tier includes those before it.
TIERS = ("hourly", "daily", "weekly", "monthly")
# A run without this one could not say that it saw nothing.
ALWAYS = "avail.connect"


def not_looked_at() -> List[Reading]:
    """Return the readings of a check that a system declares and that does not exist."""
    return skipped("declared in the system, and no check of this version looks at it")


def stand_ins(ids: Iterable[str]) -> List[Check]:
    """Return for each id that a system may declare and no check has one that says so, in the order of the declaration."""
    return [
        Check(
            id=check_id,
            title="Declared, and not looked at",
            tier=KNOWN[check_id].tier,
            looks_at="Nothing.",
            action="Look at it by other means.",
            needs="nothing",
            run=lambda look, limits: not_looked_at(),
            unit=KNOWN[check_id].unit,
            worse=KNOWN[check_id].worse,
            exists=False,
        )
        for check_id in ids
        if check_id not in CHECKS
    ]


def select(names: Iterable[str], tier: str | None, others: Sequence[Check] = ()) -> List[Check]:
    """Return the checks that `names` (ids or groups; none means all) and `tier` (None means hourly, or all where names are given) choose.

    `others` are chosen from as well; empty names and an empty tier count as not given.
    Raises InvalidValue for a name that is neither, and where nothing is chosen.
    """
    every = [*CHECKS.values(), *others]
    allowed = [*(check.id for check in every), *sorted({check.group for check in every})]
    wanted = [known(name, allowed, "checks") for name in names if name.strip()]
    reach = TIERS if wanted and not tier else TIERS[: TIERS.index(tier or TIERS[0]) + 1]
    chosen = [check for check in every if check.tier in reach and (not wanted or check.id in wanted or check.group in wanted)]
    if not chosen:
        raise InvalidValue(f"checks: none of {', '.join(wanted)} is in the tier {tier}", object_name="checks")
    return chosen if CHECKS[ALWAYS] in chosen else [CHECKS[ALWAYS], *chosen]


def as_fact(check: Check) -> Dict[str, Any]:
    """Return what a result says of every check, whatever it found."""
    return {"id": check.id, "title": check.title, "group": check.group, "tier": check.tier, "unit": check.unit, "needs": check.needs}
