# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One store as a pass sees it."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.pgops.runbook.plugins.module_utils._revocation.matched import Matched
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.stage import Stage
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import TOKENS
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import Acceptance, TokenStore


@dataclass
class Look:
    """One store as a pass sees it: the selected tokens and the targets set aside."""

    store: TokenStore
    acceptance: Acceptance
    found: Matched
    stages: list[Stage]
    # Tokens that are to be revoked and that another store takes along.
    elsewhere: int = 0

    @property
    def tokens(self) -> Stage:
        """Return the stage of the store's own tokens."""
        return next(stage for stage in self.stages if stage.target.kind == TOKENS)

    @property
    def rows(self) -> int:
        """Return how many rows are to be changed, or cannot be and are still accepted."""
        return sum(stage.rows for stage in self.stages)
