# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of a database: checks in groups, a registry of them, and one engine that runs them and reports."""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._health.engine import (
    CHECK_TIMEOUT,
    FAIL_ON,
    FAIL_ON_DEFAULT,
    HISTORY_KEEP,
    MAX_RUNTIME,
    Request,
    fails,
    run,
    session_options,
    writer_options,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Expected
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Limits
from ansible_collections.pgops.runbook.plugins.module_utils._health.registry import CHECKS, TIERS

__all__ = [
    "CHECKS",
    "CHECK_TIMEOUT",
    "FAIL_ON",
    "FAIL_ON_DEFAULT",
    "HISTORY_KEEP",
    "MAX_RUNTIME",
    "TIERS",
    "Expected",
    "Limits",
    "Request",
    "fails",
    "run",
    "session_options",
    "writer_options",
]
