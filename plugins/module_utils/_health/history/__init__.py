# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What earlier runs have found: kept by schema or file, read as snapshots and series."""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._health.history.forecast import Forecast
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.model import EMPTY, OFF, THERE, History, Snapshot

__all__ = ["EMPTY", "OFF", "THERE", "Forecast", "History", "Snapshot"]
