# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a revocation came, store by store; the numbers are those of its statements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class StoreProgress:
    """What is known and done in one store. Times are the server's, in ISO 8601; counts are rows, of a deny list ids."""

    name: str
    how: str
    selected: int = 0
    expired: int = 0
    pending: int = 0
    pending_tokens: int = 0
    elsewhere: int = 0
    accepted: int | None = None
    revoked: int = 0
    extended: int = 0
    late: int = 0
    remaining: int | None = None
    batches: int = 0
    dependents: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    claim_sets: list[dict[str, Any]] | None = None
    matched_claims: list[dict[str, Any]] | None = None
    sample: list[str] = field(default_factory=list)
    not_before: str | None = None
    first_effective_at: str | None = None
    effective_at: str | None = None
    verified_at: str | None = None

    def dependent(self, table: str, what: str) -> dict[str, int]:
        """Return the counts of one kind of dependent rows, to be added to."""
        return self.dependents.setdefault((table, what), {"pending": 0, "changed": 0})

    @property
    def changed(self) -> bool:
        """Return whether anything was changed for this store."""
        return bool(self.revoked or self.extended or any(one["changed"] for one in self.dependents.values()))


@dataclass
class Progress:
    """The whole run.

    `not_found` are given ids that no store knows. `held_back` is what the server said last when others held a part of the latest
    pass back.
    """

    stores: list[StoreProgress]
    passes: int = 0
    waited: list[Any] = field(default_factory=list)
    begun: bool = False
    held_back: str | None = None
    not_found: int | None = None

    @property
    def pending(self) -> int:
        """Return how many tokens (ids of a deny list) the first look found to revoke, each counted in its own store."""
        return sum(store.pending + store.elsewhere for store in self.stores)
