# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far one rule came."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.planned import PlannedRule
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.statements import Batch
from ansible_collections.pgops.runbook.plugins.module_utils._progress import ProgressView
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf

DONE, LOCKED, VETOED = "done", "locked", "vetoed"


@dataclass
class Progress:
    """How far one rule came. `stopped` is None while it has not ended; `left` are the planned rows that are still there.

    `done` are rows that went, or were marked. `counted` are the rows that a leaf (by oid) was seen to have after the rule, `dropped` are
    the leaves that went with a partition. `search_path` is where its triggers look for what they name without a schema.
    """

    planned: PlannedRule
    search_path: tuple[str, ...]
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    archived: int = 0
    batches: int = 0
    skipped_locked: int = 0
    left: int | None = None
    seconds: float = 0.0
    paused_seconds: float = 0.0
    stopped: str | None = None
    bytes_freed: int | None = None
    vacuumed: list[dict[str, Any]] = field(default_factory=list)
    partitions: list[str] = field(default_factory=list)
    dropped: set[int] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)
    done_by_leaf: dict[int, int] = field(default_factory=dict)
    counted: dict[int, int] = field(default_factory=dict)

    @property
    def remaining(self) -> int:
        """Return the rows that should have gone and are still there: counted where the rule came to its end, else by subtraction."""
        return max(0, self.planned.to_remove - self.done) if self.left is None else self.left

    def view(self, operation: str, now: float) -> ProgressView:
        """Return what a person who watches sees at the monotonic time `now`."""
        total = max(self.done, self.planned.to_remove)
        return ProgressView.after(operation, str(self.planned.target.relation.name), self.done, total, now - self.began)

    def note(self, leaf: Leaf, batch: Batch) -> None:
        """Note what a batch on one leaf did."""
        self.done += batch.done
        self.archived += batch.archived
        self.batches += bool(batch.done)
        self.done_by_leaf[leaf.oid] = self.done_by_leaf.get(leaf.oid, 0) + batch.done
