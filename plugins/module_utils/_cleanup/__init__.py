# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention: what has expired leaves, in bounded batches, and a revoked token stays revoked."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import report
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.apply import OPERATION, Apply
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.options import Options, read_options
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.pace import Pace
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.plan import Count, exactly, make_plan, nearly
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.planned import Plan
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._lock import release_lock, take_lock
from ansible_collections.pgops.runbook.plugins.module_utils._progress import Watch, unwatched

__all__ = ["OPERATION", "Options", "clean_up", "read_options"]


def clean_up(database: Any, options: Options, *, check_mode: bool, watch: Watch = unwatched) -> dict[str, Any]:
    """Do what the rules of `options` say and return the result; in check mode only say what would be done.

    `watch` is called with a view of how far the run is, several times a second at the most. Raises Busy while another run is at work on
    the database (not in check mode, which reads only), MissingObject, InvalidValue, DatabaseError and Refused before the first
    change, Interrupted (a DatabaseError) after it.
    """
    started = time.monotonic()
    if check_mode:
        return report.preview(_plan(database, options, exactly))
    take_lock(database, OPERATION)
    try:
        pace = Pace(database, options, started)
        plan = _plan(database, options, nearly if options.max_rows is None else exactly)
        return _apply(database, plan, options, pace, watch)
    finally:
        release_lock(database, OPERATION)


def _plan(database: Any, options: Options, count: Count) -> Plan:
    plan = make_plan(database, options, count)
    if options.max_rows is not None and plan.to_remove > options.max_rows:
        result = report.preview(plan, report.MAX_ROWS)
        marks = any(rule.to_remove and not rule.target.removes for rule in plan.rules)
        what = "remove or mark" if marks else "remove"
        message = f"the rules would {what} {plan.to_remove} rows, more than max_rows ({options.max_rows}); nothing was changed."
        raise report.Refused(message, result=result, hint="Look at the counts of each rule, then raise max_rows if they are right.")
    return plan


def _apply(database: Any, plan: Plan, options: Options, pace: Pace, watch: Watch) -> dict[str, Any]:
    work = Apply(database, plan, options, pace, watch)
    try:
        work.run()
        return report.outcome(database, plan, work.progress, pace.throttle, work.warnings)
    except DatabaseError as error:
        if not work.progress:
            raise
        raise report.broken_off(database, plan, work.progress, error, pace.throttle) from error
