# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Later."""

from __future__ import annotations

from typing import List

from ansible_collections.pgops.runbook.plugins.module_utils._content.query import Query

QUERIES: List[Query] = []
OF_RELATIONS: List[Query] = []
OF_SCHEMAS: List[Query] = []
OF_DATABASE: List[Query] = []
