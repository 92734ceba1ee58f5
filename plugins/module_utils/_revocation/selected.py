# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A selection in words: for results, the journal and the audit, none of which may hold a secret."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._revocation.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.store import COLUMNS, THROUGH

_KEYS = {"ids": "id", **COLUMNS, **THROUGH}


def in_words(options: Options) -> dict[str, Any]:
    """Return the criteria of `options`; values of a column that a store counts among its secrets only as their number."""
    shown = options.selection.as_result()
    for criterion, key in _KEYS.items():
        if criterion in shown and any(_is_secret(store, key) for store in options.stores):
            shown[criterion] = f"{len(options.selection.lists[criterion])} values"
    return shown


def _is_secret(store: dict[str, Any], key: str) -> bool:
    return store["tokens"].get(key) in store["tokens"]["secrets"]
