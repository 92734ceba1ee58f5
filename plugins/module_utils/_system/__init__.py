# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read from a system description: the normalised form that every engine, role and playbook works from."""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._system.checks import CHECKS, CheckFact
from ansible_collections.pgops.runbook.plugins.module_utils._system.load import load

__all__ = ["CHECKS", "CheckFact", "load"]
