# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which rules are applied, so that none stands in the way of another."""

from __future__ import annotations

from typing import Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import Target
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.references import Facts, tables_of


def in_order(targets: Sequence[Target], facts: Facts) -> list[Target]:
    """Return the targets as they are applied; as written where nothing asks for another order.

    Deny rows go first, since token rows may go only after them; rows that refer to others before those, which they might keep from going,
    or which would take them along before they are archived; what leaves a table before what is only marked in it, so that the one
    rule does not change what the other looks at. Where foreign keys go round in a circle, the first one as written is taken.
    """
    waiting: list[Target] = list(targets)
    placed: list[Target] = []
    while waiting:
        free = (one for one in waiting if not any(_precedes(other, one, facts) for other in waiting if other is not one))
        chosen = next(free, None) or min(waiting, key=lambda one: (not one.forgets, not one.removes))
        waiting.remove(chosen)
        placed.append(chosen)
    return placed


def _precedes(former: Target, latter: Target, facts: Facts) -> bool:
    if bool(former.forgets) != bool(latter.forgets):
        return bool(former.forgets)
    if former.relation.related(latter.relation):
        return former.removes and not latter.removes
    return former.removes and latter.removes and _refers(former, latter, facts)


def _refers(one: Target, other: Target, facts: Facts) -> bool:
    """True if rows of `one` may keep those of `other` from going, or go along with them."""
    tables = {*tables_of(one.relation), *one.relation.ancestors}
    return any((way.last.holds or way.last.action == "c") and way.target in tables for way in facts.ways(other.relation))
