# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan: every rule with its numbers, in the order in which they are applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

from ansible_collections.pgops.runbook.plugins.module_utils import _instant
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import predicate, references


@dataclass(frozen=True)
class PlannedRule:
    """One rule with its numbers. `removable` and `rows_before` are rows by leaf oid.

    `foreign_keys` refer to its table, `triggers` fire when rows go, `warnings` say what may hurt.
    Rows that go `at_once` refer to each other; `along` if the removal of one would take others along that are to be archived. Where it
    is `estimated`, its numbers are near the true ones, and nothing is protected; the leaves (oids) that are `unsure` have about as many
    rows.
    """

    target: predicate.Target
    matched: int
    removable: Mapping[int, int]
    rows_before: Mapping[int, int]
    foreign_keys: tuple[references.ForeignKey, ...] = ()
    triggers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    estimated: bool = False
    at_once: bool = False
    along: bool = False
    unsure: frozenset[int] = frozenset()

    @property
    def to_remove(self) -> int:
        """Return how many rows will go, or be marked."""
        return sum(self.removable.values())

    @property
    def acts(self) -> bool:
        """Return whether there is anything to do: a partition without rows can go as well."""
        return self.to_remove > 0 or any(due.free for due in self.target.due)

    @property
    def undisturbed(self) -> bool:
        """Return whether its rows go for certain, and nothing else with them: no trigger, cascade or archive has anything to say."""
        alone = not self.triggers and all(key.holds for key in self.foreign_keys)
        return alone and self.target.removes and self.target.archive is None

    def undisturbed_by(self, facts: references.Facts) -> bool:
        """Return whether no trigger, rewrite rule or cascade that was made since has anything to say either."""
        relation, event = self.target.relation, self.target.event
        made = facts.triggers_on(relation, event) or facts.rewrite_rules(relation, event)
        return not made and all(way.last.holds for way in facts.ways(relation))

    @property
    def protected(self) -> int:
        """Return how many of the rows that matched stay."""
        return self.matched - self.to_remove


@dataclass(frozen=True)
class Plan:
    """All rules, in the order in which they are applied, as of one instant of the server's clock."""

    as_of: _instant.Instant
    rules: tuple[PlannedRule, ...]

    @property
    def to_remove(self) -> int:
        """Return how many rows will go, or be marked, in all."""
        return sum(rule.to_remove for rule in self.rules)
