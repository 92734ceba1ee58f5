# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All checks. A new group is a new file and one line here; documentation and tests follow from this list."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._health import (
    activity,
    availability,
    connections,
    logins,
    schema,
    sizes,
    tables,
    tokens,
    zones,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.limits import known
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check

# In the order in which they run: what others build on first, what costs most last.
CHECKS: Dict[str, Check] = {
    check.id: check
    for group in (availability, schema, connections, activity, tokens, logins, sizes, tables, zones)
    for check in group.CHECKS
}  # fmt: skip
# A tier includes those before it.
TIERS = ("hourly", "daily", "weekly", "monthly")
# A run without this one could not say that it saw nothing.
ALWAYS = "avail.connect"


def select(names: Iterable[str], tier: str | None) -> List[Check]:
    """Return the checks that `names` (ids or groups; none means all) and `tier` (None means hourly, or all where names are given) choose.

    Raises InvalidValue for a name that is neither, and where nothing is chosen.
    """
    wanted = [known(name, [*CHECKS, *sorted({check.group for check in CHECKS.values()})], "checks") for name in names]
    reach = TIERS if wanted and tier is None else TIERS[: TIERS.index(tier or TIERS[0]) + 1]
    chosen = [
        check for check in CHECKS.values() if check.tier in reach and (not wanted or check.id in wanted or check.group in wanted)
    ]  # fmt: skip
    if not chosen:
        raise InvalidValue(f"checks: none of {', '.join(wanted)} is in the tier {tier}", object_name="checks")
    return chosen if CHECKS[ALWAYS] in chosen else [CHECKS[ALWAYS], *chosen]


def as_fact(check: Check) -> Dict[str, Any]:
    """Return what a result says of every check, whatever it found."""
    return {"id": check.id, "title": check.title, "group": check.group, "tier": check.tier, "unit": check.unit, "needs": check.needs}
