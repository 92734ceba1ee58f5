# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention: what has expired leaves, in bounded batches, and a revoked token stays revoked."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import report
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.apply import Progress, apply_plan
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.options import Options, read_options
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.plan import Plan, make_plan
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._lock import release_lock, take_lock

__all__ = ["OPERATION", "Options", "clean_up", "read_options"]

OPERATION = "pg_cleanup"


def clean_up(database: Any, options: Options, *, check_mode: bool) -> dict[str, Any]:
    """Remove what the rules of `options` cover and return the result; in check mode only say what would go.

    Raises Busy while another run is at work on the database (not in check mode, which reads only), MissingObject,
    InvalidValue, DatabaseError and Refused before the first change, Interrupted (a DatabaseError) after it.
    """
    started = time.monotonic()
    if check_mode:
        return report.preview(_plan(database, options))
    take_lock(database, OPERATION)
    try:
        return _apply(database, _plan(database, options), options, started)
    finally:
        release_lock(database, OPERATION)


def _plan(database: Any, options: Options) -> Plan:
    plan = make_plan(database, options)
    if options.max_rows is not None and plan.to_remove > options.max_rows:
        result = report.preview(plan, report.MAX_ROWS)
        message = f"the rules would remove {plan.to_remove} rows, more than max_rows ({options.max_rows}); nothing was changed."
        raise report.Refused(message, result=result, hint="Look at the counts of each rule, then raise max_rows if they are right.")
    return plan


def _apply(database: Any, plan: Plan, options: Options, started: float) -> dict[str, Any]:
    progress: list[Progress] = []
    try:
        apply_plan(database, plan, options, progress, started)
        return report.outcome(database, plan, progress)
    except DatabaseError as error:
        if not progress:
            raise
        raise report.broken_off(plan, progress, error) from error
