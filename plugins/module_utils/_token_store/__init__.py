# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Token stores as a database has them: which tokens there are, which of them are accepted, and which a selection means."""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._token_store.acceptance import TOKEN, Acceptance
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.criteria import condition
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.selection import Selection, read_selection
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.store import TokenStore, resolve_stores

__all__ = ["TOKEN", "Acceptance", "Selection", "TokenStore", "condition", "read_selection", "resolve_stores"]
