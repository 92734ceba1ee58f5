# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions that an application keeps in Redis: forgets those of revoked tokens, and counts what is left of them."""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._cache.cache import Cache, Counts, open_cache
from ansible_collections.pgops.runbook.plugins.module_utils._cache.errors import CacheClientMissing, CacheError
from ansible_collections.pgops.runbook.plugins.module_utils._cache.options import (
    CacheConnection,
    CacheOptions,
    cache_options,
    read_connection,
)
from ansible_collections.pgops.runbook.plugins.module_utils._cache.template import PLACEHOLDERS, Template, templates

__all__ = [
    "PLACEHOLDERS",
    "Cache",
    "CacheClientMissing",
    "CacheConnection",
    "CacheError",
    "CacheOptions",
    "Counts",
    "Template",
    "cache_options",
    "open_cache",
    "read_connection",
    "templates",
]
