# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read from a system description: the normalised form that every engine, role and playbook works from."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._system.checks import CHECKS, CheckFact
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults
from ansible_collections.pgops.runbook.plugins.module_utils._system.load import load
from ansible_collections.pgops.runbook.plugins.module_utils._system.suppressions import SUPPRESSIONS

__all__ = ["CHECKS", "CheckFact", "load", "read_suppressions"]


def read_suppressions(raw: Any) -> Tuple[List[Dict[str, Any]], List[str]]:
    """Return a list of suppressions in normalised form, and the faults found in it, each with its path."""
    faults = Faults()
    read = SUPPRESSIONS.read(raw, "", faults)
    return [entry for entry in read or () if entry], faults.found
