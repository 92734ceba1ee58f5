# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Revocation: what is selected is no longer accepted, it is proven, and it can be taken back."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._lock import release_lock, take_lock
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.options import REINSTATED, Options, read_options
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.revoke import revoke
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.undo import reinstate

__all__ = ["OPERATION", "Options", "read_options", "run"]

OPERATION = "pg_token_revoke"


def run(database: Any, options: Options, *, check_mode: bool) -> dict[str, Any]:
    """Revoke or reinstate as `options` say and return the result; in check mode only say what would happen.

    Raises Busy while another run is at work on the database (not in check mode, which reads only); MissingObject, InvalidValue,
    DatabaseError and Refused before the first change; Interrupted and Unproven after it.
    """
    act = reinstate if options.state == REINSTATED else revoke
    if check_mode:
        return act(database, options, check_mode=True)
    take_lock(database, OPERATION)
    try:
        return act(database, options, check_mode=False)
    finally:
        release_lock(database, OPERATION)
